"""Edits of a motion: pure functions that return a new :class:`~.motion.Motion`.

All work on the normalised tokens, so an edited motion must be decoded again (:func:`decode_motion`) before its
landmarks and values are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FrameRateError, MCDMError
from ..models.motion_codec import MotionCodec
from ..models.motion_tokens import STREAMS, MotionTokens
from .motion import Motion


def _check_streams(streams: Sequence[str]) -> None:
    for name in streams:
        if name not in STREAMS:
            raise MCDMError(f"unknown motion stream {name!r}: choose from {', '.join(STREAMS)}")


def _change(motion: Motion, streams: Sequence[str], function) -> Motion:
    _check_streams(streams)
    changed = {s: function(getattr(motion.tokens, s)) if s in streams else getattr(motion.tokens, s) for s in STREAMS}
    return motion.with_tokens(MotionTokens(**changed))


def scale_motion(
    motion: Motion, rest: MotionTokens, head: float = 1.0, lip: float = 1.0, expression: float = 1.0
) -> Motion:
    """Scale each stream's distance from a state of rest.

    Args:
        rest: tokens of one frame, streams ``[n, dm]`` (usually the reference's); 0 gives rest, 1 leaves the motion.

    >>> tokens = MotionTokens(*torch.arange(4.0).expand(3, -1).view(3, 4, 1, 1))
    >>> motion = Motion(tokens, None, None, fps=25.0)
    >>> rest = MotionTokens(*torch.zeros(3, 1, 1))
    >>> scale_motion(motion, rest, head=0.5).tokens.head.flatten()
    tensor([0.0000, 0.5000, 1.0000, 1.5000])
    """
    factors = {"head": head, "lip": lip, "expression": expression}
    tokens = {}
    for stream, factor in factors.items():
        moving, still = getattr(motion.tokens, stream), getattr(rest, stream)
        tokens[stream] = moving if factor == 1.0 else still + factor * (moving - still.to(moving))
    return motion.with_tokens(MotionTokens(**tokens))


def smooth_motion(motion: Motion, seconds: float, streams: Sequence[str] = ("head", "expression")) -> Motion:
    """Smooth over time with a Gaussian of standard deviation ``seconds``; 0 changes nothing.

    The lips are left alone unless named: smoothing them costs closures.

    >>> tokens = MotionTokens(*torch.arange(4.0).expand(3, -1).view(3, 4, 1, 1))
    >>> motion = Motion(tokens, None, None, fps=25.0)
    >>> smooth_motion(motion, seconds=1.0).tokens.head.std() < motion.tokens.head.std()
    tensor(True)
    """
    if seconds < 0:
        raise MCDMError(f"the smoothing time must not be negative, got {seconds} s")
    sigma = seconds * motion.fps
    if sigma < 1e-3:
        return _change(motion, streams, lambda t: t)
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def smooth(tokens: Tensor) -> Tensor:
        series = tokens.flatten(1).T[:, None].float()
        padded = F.pad(series, (radius, radius), mode="replicate")
        result = F.conv1d(padded, kernel.to(series.device)[None, None])
        return result[:, 0].T.reshape(tokens.shape).to(tokens.dtype)

    return _change(motion, streams, smooth)


def hold_motion(motion: Motion, frame: int = 0, streams: Sequence[str] = ("head",)) -> Motion:
    """Freeze streams at the state of ``frame`` (negative counts from the end).

    >>> tokens = MotionTokens(*torch.arange(4.0).expand(3, -1).view(3, 4, 1, 1))
    >>> motion = Motion(tokens, None, None, fps=25.0)
    >>> hold_motion(motion, frame=-1).tokens.head.flatten()
    tensor([3., 3., 3., 3.])
    """
    if not -len(motion) <= frame < len(motion):
        raise MCDMError(f"frame {frame} is outside a motion of {len(motion)} frames")
    return _change(motion, streams, lambda t: t[frame][None].expand_as(t).clone())


def swap_streams(motion: Motion, other: Motion, streams: Sequence[str]) -> Motion:
    """Take streams from another motion of the same frame rate.

    A shorter ``other`` is played forwards and backwards until it is long enough, which never jumps.

    Raises:
        FrameRateError: if the rates differ; MCDMError: for an unknown stream or other token sizes.

    >>> tokens = MotionTokens(*torch.arange(4.0).expand(3, -1).view(3, 4, 1, 1))
    >>> motion = Motion(tokens, None, None, fps=25.0)
    >>> swap_streams(motion, motion[:2], ["lip"]).tokens.lip.flatten()
    tensor([0., 1., 0., 1.])
    """
    _check_streams(streams)
    if motion.fps != other.fps:
        raise FrameRateError(f"the motions have {motion.fps} and {other.fps} frames a second: resample one of them")
    rows = _there_and_back(len(motion), len(other))
    tokens = {}
    for stream in STREAMS:
        own, foreign = getattr(motion.tokens, stream), getattr(other.tokens, stream)
        if own.shape[1:] != foreign.shape[1:]:
            raise MCDMError(
                f"{stream} tokens have sizes {tuple(own.shape[1:])} and {tuple(foreign.shape[1:])}: "
                "both motions must come from the same model"
            )
        tokens[stream] = foreign[rows].to(own) if stream in streams else own
    return motion.with_tokens(MotionTokens(**tokens))


def _there_and_back(wanted: int, length: int) -> Tensor:
    """Frame numbers ``[wanted]`` that run 0, 1, ... length - 1, ... 1, 0, 1, ..."""
    if length == 1:
        return torch.zeros(wanted, dtype=torch.long)
    position = torch.arange(wanted) % (2 * length - 2)
    return torch.where(position < length, position, 2 * length - 2 - position)


def resample_motion(motion: Motion, fps: float) -> Motion:
    """Linear interpolation to another frame rate; the duration stays (to half a frame).

    >>> tokens = MotionTokens(*torch.arange(4.0).expand(3, -1).view(3, 4, 1, 1))
    >>> motion = Motion(tokens, None, None, fps=25.0)
    >>> len(resample_motion(motion, fps=50.0))
    8
    """
    if not fps > 0:
        raise FrameRateError(f"the frame rate must be positive, got {fps}")
    if fps == motion.fps:
        return motion
    number = max(1, round(len(motion) * fps / motion.fps))
    position = ((torch.arange(number) + 0.5) * motion.fps / fps - 0.5).clamp(0, len(motion) - 1)
    low = position.floor().long()
    high = (low + 1).clamp_max(len(motion) - 1)

    def interpolate(tensor: Tensor) -> Tensor:
        weight = (position - low).to(tensor).view(-1, *[1] * (tensor.dim() - 1))
        return torch.lerp(tensor[low], tensor[high], weight)

    landmarks, values = (None if t is None else interpolate(t) for t in (motion.landmarks, motion.values))
    return Motion(motion.tokens.map(interpolate), landmarks, values, fps)


def set_expression(motion: Motion, codec: MotionCodec, name: str, strength: float = 1.0, mix: float = 0.5) -> Motion:
    """Shift the expression towards a named one.

    Args:
        codec: whose expression bank is used; name: see ``motion_codec.EXPRESSIONS``.
        strength: 0 leaves the motion, 1 is the expression at full strength; above 1 exaggerates.
        mix: share of the motion's own changes (blinks, brows) kept at full strength, in [0, 1].

    Raises:
        MCDMError: for an unknown name.
    """
    own = motion.tokens.expression
    target = codec.named_expression(name).to(own)
    mean = own.mean(0, keepdim=True)
    # The mean moves to the target; what happens around the mean is kept in part, so that the face still lives.
    kept = 1 - strength * (1 - mix) if strength < 1 else mix
    expression = mean + strength * (target - mean) + (own - mean) * kept
    return motion.with_tokens(MotionTokens(motion.tokens.head, motion.tokens.lip, expression))


@torch.no_grad()
def decode_motion(
    motion: Motion, codec: MotionCodec, reference_tokens: MotionTokens, reference_landmarks: Tensor
) -> Motion:
    """Fill landmarks and values for a reference.

    Args:
        reference_tokens: streams ``[n, dm]``, normalised; reference_landmarks: ``[68, 2]``.
    """
    decoded = codec.decode(
        motion.tokens.map(lambda t: t[None]), reference_tokens.map(lambda t: t[None]), reference_landmarks[None]
    )
    return Motion(motion.tokens, decoded.landmarks[0], decoded.values[0], motion.fps)
