"""Corrections of predicted motion for the portrait it starts from.

Choices of ours beside the paper, for a prior trained for minutes. Its head wanders off and its expression fades, clip
by clip. And where the motion codec does not see how far a portrait's lips are open, that opening would be added to
everything it says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..face.landmarks import inter_ocular_distance, lip_opening

_UPPER = ((1, 0.5), (2, 0.87), (3, 1.0), (4, 0.87), (5, 0.5), (13, 0.8), (14, 1.0), (15, 0.8))
_LOWER = ((7, 0.5), (8, 0.87), (9, 1.0), (10, 0.87), (11, 0.5), (17, 0.8), (18, 1.0), (19, 0.8))
"""Points of the upper and the lower lip and their part in opening the mouth; corners have none."""
UPPER_SHARE = 0.25
CLOSED_OPENING = 0.02
"""Lip opening (over the inter-ocular distance) up to which a portrait's mouth counts as closed."""


def return_tokens(tokens: Tensor, reference: Tensor, strength: float) -> Tensor:
    """Let head or expression tokens [f, n, dm] come back towards the portrait's [n, dm] along a clip.

    Nothing at the clip's beginning, ``strength`` (0 to 1) at its end. There is no seam, and the next clip goes on from
    where this one came back to. Nods stay, wandering does not.

    >>> return_tokens(torch.ones(4, 1, 1), torch.zeros(1, 1), 1.0).flatten()
    tensor([0.7500, 0.5000, 0.2500, 0.0000])
    """
    weight = torch.arange(1, len(tokens) + 1, device=tokens.device, dtype=tokens.dtype) / len(tokens) * strength
    return torch.lerp(tokens, reference.to(tokens).expand_as(tokens), weight[:, None, None])


def undo_resting_opening(landmarks: Tensor, reference_landmarks: Tensor, seen: float = 0.0) -> Tensor:
    """Take the unseen opening of the portrait's own lips off every frame, as far as the frame's lips are open.

    Args:
        landmarks: [f, 68, 2]; reference_landmarks: [68, 2].
        seen: the portrait's lip opening as the motion codec reads it, over the inter-ocular distance. What the codec
            sees it also closes. Taking that off as well would cost every small opening (correlation of predicted and
            true lip opening of people portrayed in mid-speech 0.70, against 0.80).
    """
    resting = (lip_opening(reference_landmarks[None])[0] - CLOSED_OPENING - max(0.0, seen)).clamp(min=0)
    present = lip_opening(landmarks)
    excess = torch.minimum(resting.to(present), 0.9 * present) * inter_ocular_distance(landmarks)
    # Upwards in the face: from the lower to the upper lip, or from chin to brows where the lips are closed.
    up = landmarks[:, 36:46].mean(1) - landmarks[:, 54]
    step = excess[:, None] * up / up.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    moved = landmarks.clone()
    for index, part in _UPPER:
        moved[:, index] -= UPPER_SHARE * part * step
    for index, part in _LOWER:
        moved[:, index] += (1 - UPPER_SHARE) * part * step
    return moved
