"""Losses of the motion codec (paper B.2).

The paper's three:

- Self-reconstruction of frames of a clip from another frame of it as reference.
- Cross-reconstruction inside the exact synthetic pairs (:func:`swap_inside`). Lip or expression tokens are swapped, and
  the result compared with the frame that really has that combination.
- Consistency: tokens of what did not change stay the same.

Ours:

- The values must also be decoded when the reference is another person's, which keeps the person out of the tokens.
- The values are read linearly off the tokens, through noise. That shares the tokens' variance out among all of them
  (alone at first: :data:`READING_PART`).
- Tokens are steady, the same under two augmentations of a picture. What differs is no motion, and a prior could not
  predict it.
- A good part of their variance is motion (:func:`missing_motion`).

Noise on the tokens makes their space smooth. Blinks are rare and short: they are drawn more often than they happen, and
the gap between the lids counts as the lips' does.

Tried and left out: asking for motion in several directions, whatever they are. Tokens' changes were to exceed a
participation ratio of 3 for lips, 6 for the face. The new directions were no motion: values and head then explained
0.13 of what moves in the expression tokens of held-out clips, 0.91 without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import MCDMConfig
from ...face.landmarks import (
    BLINK_VALUES,
    EYE_PICTURE_LEFT,
    EYE_PICTURE_RIGHT,
    LIDS,
    LIPS,
    VALUE_NAMES,
    constant,
    lid_opening,
    lip_opening,
    mirror_landmarks,
    mirror_values,
)
from ...media.pixels import to_unit
from ...models.motion_codec import MotionCodec
from ..workers import Workers
from .data import CLOSING, CodecFrames, augment

TOKEN_NOISE = 0.15
STEADINESS = 1.0
"""Weight of the distance of the lip and expression tokens under two augmentations."""
READING = 3.0
"""Weight of the values read linearly off the tokens (:func:`reading_loss`)."""
READING_NOISE = 0.8
"""Deviation of the noise the values are read through. It decides what the tokens spend their unit variance on. A value
told by little of it could not be read, so all values get alike much, not the lids nearly everything."""
READING_PART = 0.2
"""First part of the training with the reading alone: what the other losses ask for first, lids, is hard to leave."""
MOTION_SHARE = 0.5
"""Part of the lip and expression tokens' variance that must be motion of one person (:func:`missing_motion`)."""
HEAD_SHIFT, HEAD_SIZE, HEAD_TILT = 0.02, 0.03, 0.05
"""Deviations of a moving frame's head against the other frame's, in three couples of five: crop widths, parts, radians.
Heads of stills do not move, and those of a filmed man hardly."""
FAITH = 2.0
"""Weight of an earlier codec's tokens (:class:`CodecObjective`)."""
BLINK_SHARE = 0.3
"""Part of the frames drawn from those with closing lids, where a clip has any."""


_WEIGHTS = {"lip_opening": 4.0, "lip_width": 2.0, "blink_left": 3.0, "blink_right": 3.0}
VALUE_WEIGHTS = tuple(_WEIGHTS.get(name, 1.0) for name in VALUE_NAMES)
"""Weight of each facial value: the lip opening counts most, then blinks."""


def motion_loss(landmarks: Tensor, values: Tensor, true_landmarks: Tensor, true_values: Tensor) -> Tensor:
    """Distance of decoded and true facial motion: landmarks (lips and lids count more), gaps of both, values."""
    weight = torch.ones(landmarks.shape[-2], device=landmarks.device)
    weight[LIPS], weight[LIDS] = 3.0, 3.0
    points = ((landmarks - true_landmarks).abs().sum(-1) * weight).mean() * 10
    gap = (lip_opening(landmarks) - lip_opening(true_landmarks)).abs().mean() * 5
    lids = (lid_opening(landmarks) - lid_opening(true_landmarks)).abs().mean() * 10
    return points + gap + lids + shape_loss(landmarks, true_landmarks) + value_loss(values, true_values)


def shape_error(error: Tensor) -> Tensor:
    """Errors of landmarks ``[n, 68, 2]`` within the lips and within each eye, wherever these are; 0 elsewhere."""
    shapes = torch.zeros_like(error)
    for part in (LIPS, EYE_PICTURE_LEFT, EYE_PICTURE_RIGHT):
        shapes[:, part] = error[:, part] - error[:, part].mean(1, keepdim=True)
    return shapes


def shape_loss(landmarks: Tensor, true_landmarks: Tensor) -> Tensor:
    """Distance of the shapes of lips and eyes ``[n, 68, 2]`` (scalar, :func:`shape_error`).

    Where a head is costs more than how far it opens its mouth; without this the lips' range is the first to go.
    """
    shapes = shape_error(landmarks - true_landmarks).abs().sum(-1)
    return 20 * (shapes[:, LIPS].mean() + shapes[:, EYE_PICTURE_LEFT].mean() + shapes[:, EYE_PICTURE_RIGHT].mean())


def place_heads(landmarks: Tensor, generator: torch.Generator) -> Tensor:
    """Faces ``[n, 68, 2]`` shifted, sized and tilted in the picture, three of five; their crops show the same."""
    number, device = len(landmarks), landmarks.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(number, *shape, generator=generator, device=device)

    tilt, size = normal() * HEAD_TILT, 1 + normal() * HEAD_SIZE
    cosine, sine = tilt.cos() * size, tilt.sin() * size
    turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    centre = landmarks.mean(1, keepdim=True)
    placed = (landmarks - centre) @ turn.mT + centre + normal(1, 2) * HEAD_SHIFT
    some = torch.rand(number, generator=generator, device=device) < 0.6
    return torch.where(some[:, None, None], placed, landmarks)


def value_loss(values: Tensor, true_values: Tensor) -> Tensor:
    """Weighted smooth L1 of facial values ``[n, 16]``."""
    error = F.smooth_l1_loss(values, true_values, beta=0.1, reduction="none")
    return (error * constant(VALUE_WEIGHTS, values.device)).mean() * 2


def reading_loss(
    read: Tensor, values: Tensor, spread: Tensor, gain: Tensor | None = None, noise: float = 0.0
) -> Tensor:
    """Smooth L1 of values ``[n, 16]`` read off the tokens, each over its spread ``[16]`` (scalar).

    ``gain [16]`` is the squared length of each value's reading weights. With it the loss is what tokens with Gaussian
    noise of deviation ``noise`` would have on average (where errors are below a spread).

    Brows and smiles move by a tenth where lips and lids move by a whole. Without the division the tokens learn to tell
    of lids alone, and no named expression could be shown by them.
    """
    loss = F.smooth_l1_loss(read / spread, values / spread)
    return loss if gain is None else loss + 0.5 * noise**2 * (gain / spread.square()).mean()


def swap_inside(crossed: Tensor, config: MCDMConfig) -> tuple[Tensor, Tensor]:
    """Cross-reconstruction's swap and the consistency loss of exact quadruples (paper B.2).

    Args:
        crossed: raw tokens ``[q, lips, expressions, nq, dm]`` of the four frames that two mouths and two expressions
            make.

    Returns:
        The same frames told by tokens of the others, ``[q, lips, expressions, nq, dm]``. The lip tokens come from the
        frame with the same lips and the other expression. The expression tokens come from the one with the same
        expression and the other lips. Also (scalar) how far the tokens of what did not change are apart.
    """
    codec = config.motion_codec
    head, lip, expression = crossed.split([codec.head_tokens, codec.lip_tokens, codec.expression_tokens], dim=-2)
    swapped = torch.cat([head, lip.flip(2), expression.flip(1)], dim=-2)
    consistency = (lip - lip.flip(2)).square().mean() + (expression - expression.flip(1)).square().mean()
    return swapped, 0.3 * consistency


def missing_motion(crossed: Tensor, config: MCDMConfig) -> Tensor:
    """How much less than :data:`MOTION_SHARE` of the tokens' variance is motion, in exact quadruples (scalar).

    The tokens have unit variance over a batch. Without this they spend it on telling persons and kinds of pictures
    apart and hardly move with lips and expressions. That makes the consistency loss small and the tokens useless.

    Args:
        crossed: raw tokens ``[q, lips, expressions, nq, dm]``, see :func:`swap_inside`.
    """
    codec = config.motion_codec
    _, lip, expression = crossed.split([codec.head_tokens, codec.lip_tokens, codec.expression_tokens], dim=-2)
    # The variance of one person's tokens is half the mean squared difference of two independent draws.
    lips_move = (lip[:, 0] - lip[:, 1]).square().mean() / 2
    face_moves = (expression[:, :, 0] - expression[:, :, 1]).square().mean() / 2
    return (MOTION_SHARE - lips_move).relu() + (MOTION_SHARE - face_moves).relu()


class CodecObjective:
    """Losses of one random batch; called by the training loop with the step number.

    Rows are drawn and pictures augmented on the data's device, without waiting for it.

    Args:
        couples: pairs of frames of a clip a step; quadruples: exact quadruples a step.
        steadiness: weight of the tokens' distance under two augmentations of the same picture.
        progress: tells the fraction of the training that is over; without it all losses count from the start.
        earlier: raw tokens of all rows ``[n, nq, dm]`` by a codec that prior and painter were trained with. Tokens of
            clips stay near them, so that both go on understanding them; those of stills need not.
        workers: processes that share each batch. All draw all of it, which is cheap, and each encodes and decodes its
            share of the couples and quadruples.
    """

    def __init__(
        self,
        codec: MotionCodec,
        data: CodecFrames,
        couples: int = 24,
        quadruples: int = 5,
        seed: int = 0,
        steadiness: float = STEADINESS,
        progress: Callable[[], float] | None = None,
        earlier: Tensor | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.codec, self.data, self.couples, self.steadiness = codec, data, couples, steadiness
        self.progress, self.earlier = progress or (lambda: 1.0), earlier
        self.workers = workers or Workers()
        quadruples = min(quadruples, len(data.pairs))
        self.quadruples = quadruples - quadruples % self.workers.count
        self.device = data.landmarks.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        # This process's couples, and the rows of its quadruples among all.
        self.own_couples = torch.tensor(self.workers.share(couples), device=self.device)
        own = torch.tensor(self.workers.share(self.quadruples), dtype=torch.long, device=self.device)
        self.own_crossed = (4 * own[:, None] + torch.arange(4, device=self.device)).flatten()
        self.noise = 1.0
        self.spread = data.values.std(0).clamp_min(0.05)
        spans = torch.tensor(data.spans)
        closing = data.values[:, BLINK_VALUES].mean(1).cpu() > CLOSING
        blinks = [first + closing[first:last].nonzero()[:, 0] for first, last in data.spans]
        counts = torch.tensor([len(b) for b in blinks])
        self.first, self.length = spans[:, 0].to(self.device), (spans[:, 1] - spans[:, 0]).to(self.device)
        # One row more, never drawn, so that indices stay inside where there are no blinks at all.
        self.blinks = torch.cat([*blinks, torch.zeros(1, dtype=torch.long)]).to(self.device)
        self.first_blink, self.blink_count = (counts.cumsum(0) - counts).to(self.device), counts.to(self.device)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def _below(self, limits: Tensor) -> Tensor:
        """A random integer in [0, limit) for each of ``limits [n]``."""
        return (self._uniform(len(limits)) * limits).long().minimum(limits - 1)

    def draw(self, clips: Tensor, blink_share: float = 0.0) -> Tensor:
        """A row of each clip ``[n]``; part of them, where the clip has any, from its rows with closing lids."""
        rows = self.first[clips] + self._below(self.length[clips])
        counts = self.blink_count[clips]
        closing = self.blinks[self.first_blink[clips] + self._below(counts.clamp_min(1))]
        return torch.where((self._uniform(len(clips)) < blink_share) & (counts > 0), closing, rows)

    def _encode(self, rows: Tensor, groups: Tensor, twice: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens of this process's rows, augmented, and how unsteady those of its first couples are (told only if they
        are encoded ``twice``); landmarks of all rows, and which were mirrored.

        ``groups [n]``: rows of the same number are mirrored and moved together.
        """
        data, generator, count = self.data, self.generator, self.couples
        mirrored = self._uniform(self.couples + self.quadruples)[groups] < 0.5
        mouth, face = to_unit(data.mouth[rows]), to_unit(data.face[rows])
        mouth, face = (torch.where(mirrored[:, None, None, None], x.flip(-1), x) for x in (mouth, face))
        landmarks = data.landmarks[rows]
        landmarks = torch.where(mirrored[:, None, None], mirror_landmarks(landmarks), landmarks)
        # A face crop need not be centred: move all landmarks together.
        landmarks = landmarks + 0.02 * self._normal(self.couples + self.quadruples, 1, 2)[groups]
        landmarks = torch.cat([place_heads(landmarks[:count], generator), landmarks[count:]])
        again = slice(0, count if twice else 0)
        mouth, face = (augment(torch.cat([x, x[again]]), generator) for x in (mouth, face))
        own = self._own_rows()
        seen_again = torch.cat([own, len(rows) + self.own_couples]) if twice else own
        tokens = self.codec.encode_crops(
            mouth[seen_again], face[seen_again], torch.cat([landmarks, landmarks[again]])[seen_again]
        )
        tokens, second = tokens[: len(own)], tokens[len(own) :]
        seen = slice(self.codec.config.motion_codec.head_tokens, None)
        first = tokens[: len(second), seen]
        unsteady = (first - second[:, seen]).square().mean() if twice else tokens.new_zeros(())
        return tokens, unsteady, landmarks, mirrored

    def _own_rows(self) -> Tensor:
        """Where this process's rows lie among a batch's: moving frames, still ones, quadruples."""
        n = self.couples
        return torch.cat([self.own_couples, n + self.own_couples, 2 * n + self.own_crossed])

    def _faith(self, tokens: Tensor, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Squared distance of tokens to the earlier codec's, in clips it could read: not of stills, not mirrored."""
        assert self.earlier is not None
        apart = (tokens - self.earlier[rows]).square().mean((1, 2))
        counted = self.workers.gather((~mirrored & ~self.data.still[rows]).to(apart.dtype))
        return (self.workers.gather(apart) * counted).sum() / counted.sum().clamp_min(1)

    def _noisy(self, tokens: Tensor) -> Tensor:
        """Decoder's tokens of this process with noise that is drawn for all processes' couples and quadruples."""
        crossed = 4 * self.quadruples
        starts = (self.couples, self.couples + crossed, self.couples + 2 * crossed) if crossed else (self.couples,)
        parts = [self.own_couples, *(start + self.own_crossed for start in starts[:-1]), starts[-1] + self.own_couples]
        noise = self._normal(starts[-1] + self.couples, *tokens.shape[1:])
        return tokens + noise[torch.cat(parts)] * (TOKEN_NOISE * self.noise)

    def __call__(self, step: int) -> dict[str, Tensor]:
        data, codec, quadruples = self.data, self.codec, self.quadruples // self.workers.count
        # Noise from the start would drown tokens that say little yet, and they would never learn to say more.
        progress = self.progress()
        self.noise, reading_alone = min(1.0, progress / READING_PART), progress < READING_PART
        chosen = self._below(self.length.new_full((self.couples,), len(data.spans)))
        picked = data.pairs[self._below(self.length.new_full((self.quadruples,), len(data.pairs)))]
        rows = torch.cat([self.draw(chosen, BLINK_SHARE), self.draw(chosen), picked.flatten()])
        couple, quadruple = torch.arange(self.couples + self.quadruples, device=self.device).split(
            [self.couples, self.quadruples]
        )
        groups = torch.cat([couple, couple, quadruple.repeat_interleave(4)])
        twice = self.steadiness > 0 and not reading_alone
        tokens, unsteady, placed, mirrored = self._encode(rows, groups, twice)
        own, n = self._own_rows(), len(self.own_couples)
        # The clips are in random order: the one before is another person.
        others = placed[self.couples : 2 * self.couples].roll(1, 0)[self.own_couples]
        landmarks, rows, mirrored = placed[own], rows[own], mirrored[own]
        values = torch.where(mirrored[:, None], mirror_values(data.values[rows]), data.values[rows])
        read, gain = codec.read_values(tokens), codec.reading_gain()
        losses = {"reading": READING * reading_loss(read, values, self.spread, gain, READING_NOISE * self.noise)}
        if reading_alone:
            return {**losses, "loss": losses["reading"]}
        if self.earlier is not None:
            losses["faith"] = FAITH * self._faith(tokens, rows, mirrored)
        moving, still = tokens[:n], tokens[n : 2 * n]
        inputs = [(moving, still, landmarks[n : 2 * n], landmarks[:n], values[:n])]
        if quadruples:
            crossed = tokens[2 * n :].unflatten(0, (quadruples, 2, 2))
            crossed_landmarks = landmarks[2 * n :].unflatten(0, (quadruples, 2, 2))
            swapped, consistency = swap_inside(crossed, codec.config)
            losses["consistency"] = consistency
            losses["motion"] = 4 * missing_motion(self.workers.gather(crossed), codec.config)
            reference = crossed[:, :1, :1].expand_as(crossed).flatten(0, 2)
            reference_landmarks = crossed_landmarks[:, :1, :1].expand_as(crossed_landmarks).flatten(0, 2)
            flat_landmarks, flat_values = crossed_landmarks.flatten(0, 2), values[2 * n :]
            for version in (crossed.flatten(0, 2), swapped.flatten(0, 2)):
                inputs.append((version, reference, reference_landmarks, flat_landmarks, flat_values))
        # Another person's reference: only the values are known.
        stranger = self.workers.own(self.workers.gather(still).roll(1, 0))
        inputs.append((moving, stranger, others, landmarks[:n], values[:n]))
        sizes = [len(i[0]) for i in inputs]
        moved, seen = codec.decoder(
            self._noisy(torch.cat([i[0] for i in inputs])),
            self._noisy(torch.cat([i[1] for i in inputs])),
            torch.cat([i[2] for i in inputs]),
        )
        moved, seen = moved.split(sizes), seen.split(sizes)
        names = ["self", "self_pair", "cross"] if quadruples else ["self"]
        for k, name in enumerate(names):
            losses[name] = motion_loss(moved[k], seen[k], inputs[k][3], inputs[k][4])
        losses["person"] = value_loss(seen[-1], inputs[-1][4])
        losses["steadiness"] = self.steadiness * unsteady
        losses["loss"] = functools.reduce(torch.add, losses.values())
        return losses
