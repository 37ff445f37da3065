"""Losses of the motion codec (paper B.2).

The paper's three: self-reconstruction of frames of a clip from another frame of it as reference; cross-reconstruction
inside the exact synthetic pairs (:func:`swap_inside`: lip or expression tokens swapped, compared with the frame that
really has that combination); consistency (tokens of what did not change stay the same). A fourth, ours: the values must
also be decoded when the reference is another person's, which keeps the person out of the tokens; a fifth reads the
values linearly off the tokens, to start training fast. Noise on the tokens makes their space smooth. Blinks are rare
and short: they are drawn more often than they happen, and the gap between the lids counts as the lips' does.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import MCDMConfig
from ..media.pixels import to_unit
from ..models.landmarks import (
    LIDS,
    LIPS,
    NUM_VALUES,
    VALUE_NAMES,
    lid_opening,
    lip_opening,
    mirror_landmarks,
    mirror_values,
)
from ..models.motion_codec import MotionCodec
from .codec_data import BLINKS, CLOSING, CodecFrames, augment

TOKEN_NOISE = 0.15
BLINK_SHARE = 0.3
"""Part of the frames drawn from those with closing lids, where a clip has any."""


def value_weights() -> Tensor:
    """Weight of each facial value ``[16]``: the lip opening counts most, then blinks."""
    weights = torch.ones(NUM_VALUES)
    weights[VALUE_NAMES.index("lip_opening")] = 4.0
    weights[VALUE_NAMES.index("lip_width")] = 2.0
    weights[list(BLINKS)] = 3.0
    return weights


def motion_loss(landmarks: Tensor, values: Tensor, true_landmarks: Tensor, true_values: Tensor) -> Tensor:
    """Distance of decoded and true facial motion: landmarks (lips and lids count more), gaps of both, values."""
    weight = torch.ones(landmarks.shape[-2], device=landmarks.device)
    weight[LIPS], weight[LIDS] = 3.0, 3.0
    points = ((landmarks - true_landmarks).abs().sum(-1) * weight).mean() * 10
    gap = (lip_opening(landmarks) - lip_opening(true_landmarks)).abs().mean() * 5
    lids = (lid_opening(landmarks) - lid_opening(true_landmarks)).abs().mean() * 10
    return points + gap + lids + value_loss(values, true_values)


def value_loss(values: Tensor, true_values: Tensor) -> Tensor:
    """Weighted smooth L1 of facial values ``[n, 16]``."""
    error = F.smooth_l1_loss(values, true_values, beta=0.1, reduction="none")
    return (error * value_weights().to(values)).mean() * 2


def swap_inside(quad: Tensor, config: MCDMConfig) -> tuple[Tensor, Tensor]:
    """Cross-reconstruction's swap and the consistency loss of exact quadruples (paper B.2).

    Args:
        quad: raw tokens ``[q, lips, expressions, nq, dm]`` of the four frames that two mouths and two expressions make.

    Returns:
        The same frames told by tokens of the others, ``[q, lips, expressions, nq, dm]``: the lip tokens come from the
        frame with the same lips and the other expression, the expression tokens from the one with the same expression
        and the other lips; and how far the tokens of what did not change are apart (scalar).
    """
    codec = config.motion_codec
    head, lip, expression = quad.split([codec.head_tokens, codec.lip_tokens, codec.expression_tokens], dim=-2)
    swapped = torch.cat([head, lip.flip(2), expression.flip(1)], dim=-2)
    consistency = (lip - lip.flip(2)).square().mean() + (expression - expression.flip(1)).square().mean()
    return swapped, 0.3 * consistency


class CodecObjective:
    """Losses of one random batch; called by the training loop with the step number."""

    def __init__(
        self, codec: MotionCodec, data: CodecFrames, couples: int = 24, quads: int = 5, seed: int = 0
    ) -> None:
        self.codec, self.data, self.couples, self.quads = codec, data, couples, quads
        self.generator = torch.Generator().manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.noise = TOKEN_NOISE
        closing = (data.values[:, list(BLINKS)].mean(1) > CLOSING).numpy()
        self.blinks = [first + np.flatnonzero(closing[first:last]) for first, last in data.spans]

    def _draw(self, clip: int) -> int:
        """A row of a clip, one with closing lids more often than they happen."""
        blinks = self.blinks[clip]
        if len(blinks) and self.random.random() < BLINK_SHARE:
            return int(self.random.choice(blinks))
        return int(self.random.integers(*self.data.spans[clip]))

    def _encode(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        data, generator = self.data, self.generator
        mouth, face = to_unit(data.mouth[rows]), to_unit(data.face[rows])
        landmarks, values = data.landmarks[rows], data.values[rows]
        if self.random.random() < 0.5:
            mouth, face = mouth.flip(-1), face.flip(-1)
            landmarks, values = mirror_landmarks(landmarks), mirror_values(values)
        # A face crop need not be centred: move all landmarks together.
        landmarks = landmarks + torch.randn(1, 1, 2, generator=generator) * 0.02
        tokens = self.codec.encode_crops(augment(mouth, generator), augment(face, generator), landmarks)
        return tokens, landmarks, values

    def _noisy(self, tokens: Tensor) -> Tensor:
        return tokens + torch.randn(tokens.shape, generator=self.generator) * self.noise

    def __call__(self, step: int) -> dict[str, Tensor]:
        data, codec = self.data, self.codec
        # Noise from the start would drown tokens that say little yet, and they would never learn to say more.
        self.noise = TOKEN_NOISE * min(1.0, step / 300)
        chosen = self.random.integers(len(data.spans), size=self.couples)
        targets = [self._draw(c) for c in chosen]
        references = [int(self.random.integers(*data.spans[c])) for c in chosen]
        quads = min(self.quads, len(data.pairs))
        picked = data.pairs[torch.from_numpy(self.random.integers(max(1, len(data.pairs)), size=quads))]
        rows = torch.cat([torch.tensor(targets + references), picked.flatten()])
        tokens, landmarks, values = self._encode(rows)
        n = self.couples
        moving, still = tokens[:n], tokens[n : 2 * n]
        inputs = [(moving, still, landmarks[n : 2 * n], landmarks[:n], values[:n])]
        losses: dict[str, Tensor] = {}
        if quads:
            quad = tokens[2 * n :].unflatten(0, (quads, 2, 2))
            quad_landmarks = landmarks[2 * n :].unflatten(0, (quads, 2, 2))
            swapped, consistency = swap_inside(quad, codec.config)
            losses["consistency"] = consistency
            reference = quad[:, :1, :1].expand_as(quad).flatten(0, 2)
            reference_landmarks = quad_landmarks[:, :1, :1].expand_as(quad_landmarks).flatten(0, 2)
            flat_landmarks, flat_values = quad_landmarks.flatten(0, 2), values[2 * n :]
            for version in (quad.flatten(0, 2), swapped.flatten(0, 2)):
                inputs.append((version, reference, reference_landmarks, flat_landmarks, flat_values))
        # Another person's reference: only the values are known.
        order = torch.from_numpy(self.random.permutation(n))
        inputs.append((moving, still[order], landmarks[n : 2 * n][order], landmarks[:n], values[:n]))
        sizes = [len(i[0]) for i in inputs]
        moved, seen = codec.decoder(
            self._noisy(torch.cat([i[0] for i in inputs])),
            self._noisy(torch.cat([i[1] for i in inputs])),
            torch.cat([i[2] for i in inputs]),
        )
        moved, seen = moved.split(sizes), seen.split(sizes)
        names = ["self", "self_pair", "cross"] if quads else ["self"]
        for k, name in enumerate(names):
            losses[name] = motion_loss(moved[k], seen[k], inputs[k][3], inputs[k][4])
        losses["reading"] = value_loss(codec.read_values(self._noisy(tokens)), values)
        losses["person"] = value_loss(seen[-1], inputs[-1][4])
        losses["loss"] = sum(losses.values())
        return losses
