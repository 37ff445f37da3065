"""More people out of few: heads at other places that move more or less, faces and lips with another rest."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ...models.motion_codec import MotionCodec
from ...motion.blinks import LidAxis
from ..clip_sampler import ClipBank, MotionClip

_TURN, _ZOOM, _SHIFT = 0.12, 0.12, 0.05
"""Radians, logarithm of the size and widths of the crop by which a head is placed elsewhere, at most."""
_CALM, _LIVELY = 0.45, 1.6
"""Factors of a head's movement."""
_EXPRESSION_SHARE, _LIP_SHARE = 0.7, 0.35
"""How much of the difference between two clips' means is laid over a third one, at most."""
_NARROW = 0.36
"""How far lids are narrowed for good, at most, as tired people's are; in half of the samples."""

_FLANK, _BLINK = 0.1, 0.35
"""How closed lids are in a blink's flanks, and at least once in it."""


def placed_elsewhere(points: Tensor, random: np.random.Generator) -> Tensor:
    """Landmarks ``[t, 68, 2]`` of a clip turned in the picture, larger or smaller, shifted, and moving more or less."""
    rest = points.mean(0, keepdim=True)
    moved = rest + float(np.exp(random.uniform(np.log(_CALM), np.log(_LIVELY)))) * (points - rest)
    turn, size = random.uniform(-_TURN, _TURN), float(np.exp(random.uniform(-_ZOOM, _ZOOM)))
    matrix = size * torch.tensor([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]).float()
    centre = rest.mean(1, keepdim=True)
    shift = torch.from_numpy(random.uniform(-_SHIFT, _SHIFT, 2)).float()
    return (moved - centre) @ matrix + centre + shift


@torch.no_grad()
def elsewhere(clip: MotionClip, codec: MotionCodec, random: np.random.Generator) -> MotionClip:
    """The clip with its head :func:`placed_elsewhere`.

    Only the landmarks know of it: head tokens are read from them, so they are exact. All else stays.
    """
    moved = placed_elsewhere(clip.landmarks, random)
    device = codec.token_mean.device
    head = codec.encode_head(moved[None].to(device))[0].cpu()
    tokens = torch.cat([head, clip.tokens[:, head.shape[1] :]], dim=1)
    return dataclasses.replace(clip, landmarks=moved, tokens=tokens)


def opened_lids(bank: ClipBank, axis: LidAxis) -> Tensor:
    """The bank's tokens ``[n, nq, dm]`` with every blink bridged (:func:`bridged_blinks`)."""
    number = len(axis.reading)
    parts = [torch.cat([own[:, :-number], bridged_blinks(own[:, -number:], axis)], 1) for own in bank.each_tokens()]
    return torch.cat(parts)


def bridged_blinks(expression: Tensor, axis: LidAxis) -> Tensor:
    """Expression tokens ``[t, ne, dm]`` of a clip with every blink bridged: straight from the frame before it to the
    one after.

    When somebody blinks cannot be heard, or hardly. A prior that is shown blinks learns their likelihood. The outcome
    is lids that hang at every pause, and an expression further from the truth than a face held still.
    """
    own, length = expression.clone(), len(expression)
    read = axis.read(own)
    # Most people's lids are open most of the time; tired ones' are narrow all the time.
    rest = read.quantile(0.3).clamp(0, 0.9)
    for first, last in blink_spans((read - rest) / (1 - rest)):
        before, after = own[max(0, first - 1)].clone(), own[min(length - 1, last)].clone()
        # At a clip's ends there is only one side.
        before, after = (after if first == 0 else before), (before if last == length else after)
        share = torch.linspace(0, 1, last - first + 2, device=own.device)[1:-1, None, None]
        own[first:last] = torch.lerp(before, after, share)
    return own


def blink_spans(closed: Tensor) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of the blinks in ``closed [f]``, flanks and a frame beside them included."""
    spans, first = [], None
    over = [*(closed > _FLANK).tolist(), False]
    for frame, state in enumerate(over):
        if state and first is None:
            first = frame
        elif not state and first is not None:
            if float(closed[first:frame].max()) > _BLINK:
                spans.append((max(0, first - 1), min(len(closed), frame + 1)))
            first = None
    return spans


class OtherFaces:
    """Constant differences between people's lip and expression tokens, to be added to a clip's.

    Args:
        means: of clips' tokens ``[n, nq, dm]``; head_tokens, lip_tokens: of a frame; closing: ``[ne, dm]``, what adds 1
            to how closed the lids are.
    """

    def __init__(self, means: Tensor, head_tokens: int, lip_tokens: int, closing: Tensor) -> None:
        self.means = means
        share = torch.zeros(self.means.shape[1], 1, device=means.device)
        share[head_tokens : head_tokens + lip_tokens] = _LIP_SHARE
        share[head_tokens + lip_tokens :] = _EXPRESSION_SHARE
        self.share = share
        self.closing = torch.zeros_like(self.means[0])
        self.closing[head_tokens + lip_tokens :] = closing.detach().to(means.device)

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """``[number, 1, nq, dm]``; another person's for about two thirds of the samples."""
        device = generator.device
        pairs = torch.randint(len(self.means), (2, number), generator=generator, device=device)
        amount = (1.5 * torch.rand(number, 1, 1, generator=generator, device=device) - 0.5).clamp_min(0)
        narrow = (2 * torch.rand(number, 1, 1, generator=generator, device=device) - 1).clamp_min(0) * _NARROW
        pairs, amount, narrow = (drawn.to(self.means.device) for drawn in (pairs, amount, narrow))
        return ((self.means[pairs[0]] - self.means[pairs[1]]) * self.share * amount + narrow * self.closing)[:, None]
