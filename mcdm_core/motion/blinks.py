"""How often a face blinks, told in expression tokens.

A choice of ours beside the paper. When somebody blinks can hardly be heard, and no single clip knows when the last
blink was. A prior that is left alone blinks at every pause, or not at all. So the moments are drawn for the whole
video, one in every window of some seconds. Between them lids that the prior would close are held open. Both change the
expression tokens, along the direction in which closed lids differ from open ones. Everything after (landmarks,
denoiser, the next clip's context) sees lids that close, and brows that stay.

The moments depend on the seed and the time alone, so a resumed video blinks as the whole one.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..face.landmarks import BLINK_VALUES, LIP_VALUES, lid_opening
from ..models.motion_codec import MotionCodec
from ..models.motion_tokens import MotionTokens

BLINK_RATE = 17.0
"""Blinks a minute (people 12 to 25): one in every window of so long, at a random moment of it."""
CLOSING, CLOSED, OPENING = 0.08, 0.05, 0.17
"""Seconds of a blink's parts."""
NARROWED = 0.2
"""How far lids may close at any time: people look down and narrow their eyes."""
_AMOUNTS = tuple(round(0.02 * step, 2) for step in range(5, 76))
_NEARLY = 0.3
"""How far lids have to go is read where so much of the portrait's opening is left."""


@dataclass(frozen=True)
class LidAxis:
    """How expression tokens tell of the lids.

    Attributes:
        reading: ``[ne, dm]``, with ``offset`` the linear reading of the blink values from normalised tokens; the open
            lids of most people read about 0, closed ones 1.
        closing: ``[ne, dm]``, the change of the tokens that adds 1 to the reading.
    """

    reading: Tensor
    offset: float
    closing: Tensor

    @classmethod
    def of(cls, codec: MotionCodec, closing: Tensor) -> LidAxis:
        """The codec's own reading, and a fitted direction ``[ne, dm]`` (zeros: the shortest one)."""
        values = slice(BLINK_VALUES.start - len(LIP_VALUES), BLINK_VALUES.stop - len(LIP_VALUES))
        first = codec.config.motion_codec.head_tokens + codec.config.motion_codec.lip_tokens
        mean, deviation = codec.token_mean[first:], codec.token_std[first:]
        weight = codec.expression_reading.weight[values].mean(0).view_as(mean)
        reading = weight * deviation
        offset = float(codec.expression_reading.bias[values].mean() + (weight * mean).sum())
        closing = closing if bool(closing.any()) else reading
        return cls(reading, offset, closing / (reading * closing).sum())

    def read(self, expression: Tensor) -> Tensor:
        """How closed the lids are: ``[..., ne, dm]`` to ``[...]``."""
        return (expression * self.reading.to(expression)).sum((-2, -1)) + self.offset

    def reach(self, codec: MotionCodec, still: MotionTokens, landmarks: Tensor) -> float:
        """How much the reading of a portrait rises until its lids meet.

        The reading is one number for all people; how far lids have to go is not.

        Args:
            codec: of the tokens; still: the portrait's, streams ``[1, n, dm]``; landmarks: ``[1, 68, 2]``.
        """
        amounts = torch.tensor(_AMOUNTS)
        faces = still.map(lambda stream: stream.expand(len(amounts), -1, -1)[None])
        faces = dataclasses.replace(faces, expression=self.move(faces.expression[0], amounts.to(landmarks))[None])
        moved = codec.decode(faces, still, landmarks).landmarks[0]
        left = (lid_opening(moved) / lid_opening(landmarks).clamp_min(1e-6)).cpu()
        low = (left <= _NEARLY).nonzero()
        # Lids fall evenly until they touch; then only the points' sideways distance is left.
        return float(amounts[low[0, 0]]) / (1 - _NEARLY) if len(low) else float(amounts[left.argmin()])

    def move(self, expression: Tensor, amount: Tensor) -> Tensor:
        """Expression tokens ``[f, ne, dm]`` with ``amount [f]`` added to what is read of the lids."""
        return expression + amount[:, None, None] * self.closing.to(expression)


def blink_starts(seed: int, begin: float, end: float, rate: float = BLINK_RATE) -> list[float]:
    """Seconds at which a drawn blink begins, those between ``begin`` and ``end``; ``rate`` a minute, 0 for none.

    >>> len(blink_starts(seed=0, begin=0.0, end=60.0, rate=18))
    18
    >>> blink_starts(seed=0, begin=0.0, end=60.0, rate=0)
    []
    """
    if rate <= 0:
        return []
    found, length = [], 60 / rate
    for window in range(max(0, int(begin // length) - 1), int(end // length) + 1):
        generator = torch.Generator().manual_seed((seed * 9_176_213 + window * 104_729 + 17) % (2**63 - 1))
        start = (window + 0.2 + 0.7 * float(torch.rand((), generator=generator))) * length
        if begin <= start < end:
            found.append(start)
    return found


def blink_curve(since: Tensor) -> Tensor:
    """How closed the lids are ``since`` seconds after a blink began, in [0, 1].

    >>> blink_curve(torch.tensor([0.0, CLOSING, 5.0]))
    tensor([0., 1., 0.])
    """
    falling = (since / CLOSING).clamp(0, 1)
    rising = 1 - ((since - CLOSING - CLOSED) / OPENING).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(torch.minimum(falling, rising) * math.pi)


def keep_blinks(
    expression: Tensor,
    axis: LidAxis,
    still: Tensor,
    reach: float,
    seed: int,
    first_frame: int,
    fps: float,
    rate: float = BLINK_RATE,
) -> Tensor:
    """Expression tokens that blink as often as people do.

    Args:
        expression: ``[f, ne, dm]``, normalised, as predicted; still: ``[ne, dm]``, the portrait's.
        reach: of the portrait (:meth:`LidAxis.reach`).
        seed, first_frame: of the video, and this clip's first frame in it; rate: blinks a minute.

    Returns:
        ``[f, ne, dm]``. Where the lids are left as they are the tokens are the same numbers.
    """
    rest = axis.read(still.to(expression))  # fetched from a GPU it would make the host wait in every clip
    closed = (axis.read(expression) - rest) / reach
    time = (torch.arange(first_frame, first_frame + len(expression)) + 0.5) / fps
    wanted = torch.zeros(len(expression))
    for start in blink_starts(seed, float(time[0]) - CLOSING - CLOSED - OPENING, float(time[-1]), rate):
        wanted = torch.maximum(wanted, blink_curve(time - start))
    kept = closed.clamp_max(NARROWED).maximum(wanted.to(closed))
    return axis.move(expression, (kept - closed) * reach)
