"""Training of the motion codec with the landmark guider (paper 3.3, B.2).

Three losses: self-reconstruction of frames of a clip from another frame of it as reference; cross-reconstruction inside
the exact synthetic pairs (lip or expression tokens swapped, compared with the frame that really has that combination);
consistency (tokens of what did not change stay the same). A fourth, ours: the values must also be decoded when the
reference is another person's, which keeps the person out of the tokens; a fifth reads the values linearly off the
tokens, to start training fast. Noise on the tokens makes their space smooth. Blinks are rare and short: they are
drawn more often than they happen, and the gap between the lids counts as the gap between the lips does.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..config import TINY, MCDMConfig, to_json
from ..evaluation.lip_sync import correlation, mean_correlation
from ..media.pixels import frames_to_unit, to_bytes, to_unit
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
from ..models.motion_codec import DISPLACEMENT_SCALE, EXPRESSIONS, MotionCodec, mouth_and_face_crops
from .loop import LoopSettings, log_to_file, save_state, train
from .motion_clips import iterate_clips

logger = logging.getLogger("mcdm_core.training.codec")

TOKEN_NOISE = 0.15
BLINKS = tuple(VALUE_NAMES.index(name) for name in ("blink_left", "blink_right"))
BLINK_SHARE = 0.3
"""Part of the frames drawn from those with closing lids, where a clip has any."""
CLOSING = 0.3
"""Mean of the two blink values from which lids count as closing."""
PROTOTYPES: dict[str, dict[str, float]] = {
    "happy": {"smile": 1.0, "squint": 0.3},
    "sad": {"frown": 1.0, "brow_raise": 0.3},
    "angry": {"brow_lower": 1.0, "frown": 0.4, "squint": 0.3},
    "surprised": {"eye_wide": 1.0, "brow_raise": 1.0},
    "fearful": {"eye_wide": 1.0, "frown": 0.5, "brow_raise": 0.5},
    "disgusted": {"nose_wrinkle": 1.0, "brow_lower": 0.4, "squint": 0.4},
    "contempt": {"smile": 0.4, "squint": 0.6, "brow_raise": 0.3},
}
"""Facial values of the named expressions; neutral is all zero. Blinks and gaze do not count."""


@dataclass
class CodecFrames:
    """Crops ``mouth [n, 3, 48, 48]`` and ``face [n, 3, 64, 64]`` in uint8, and their labels, in memory.

    ``spans`` are the (first, after last) rows of each clip; ``pairs [p, 4]`` are the rows of the exact quadruples in
    the order (lips a, expression a), (lips a, expression b), (lips b, expression a), (lips b, expression b).
    """

    mouth: Tensor
    face: Tensor
    landmarks: Tensor
    values: Tensor
    spans: list[tuple[int, int]]
    pairs: Tensor


def _crops(frames: np.ndarray, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    crops = mouth_and_face_crops(frames_to_unit(frames), landmarks)
    return tuple(to_bytes(c) for c in crops)


def load_codec_frames(folders: Sequence[Path], stride: int = 3, limit: int | None = None) -> CodecFrames:
    """Read shards and keep every ``stride``-th frame's crops and all pairs; ``limit`` clips a folder."""
    mouths, faces, points, values, spans, pairs = [], [], [], [], [], []
    rows = 0

    def add(frames: np.ndarray, landmarks: Tensor, value: Tensor) -> tuple[int, int]:
        nonlocal rows
        mouth, face = _crops(frames, landmarks)
        mouths.append(mouth), faces.append(face), points.append(landmarks), values.append(value)
        rows += len(frames)
        return rows - len(frames), rows

    for folder in folders:
        for number, clip in enumerate(iterate_clips(folder)):
            if limit is not None and number >= limit:
                break
            offset = number % stride
            landmarks = torch.from_numpy(clip["landmarks"][offset::stride]).float()
            value = torch.from_numpy(clip["values"][offset::stride]).float()
            spans.append(add(clip["frames"][offset::stride], landmarks, value))
            if "pairs" in clip:
                number_of_pairs = len(clip["pairs"])
                landmarks = torch.from_numpy(clip["pair_landmarks"]).float().flatten(0, 1)
                value = torch.from_numpy(clip["pair_values"]).float().flatten(0, 1)
                first, last = add(clip["pairs"].reshape(-1, *clip["pairs"].shape[2:]), landmarks, value)
                # Shards hold them with the lips changing first; here the lips are the outer index.
                pairs.append(torch.arange(first, last).view(number_of_pairs, 2, 2).transpose(1, 2).flatten(1))
    if not spans:
        raise FileNotFoundError(f"no clips in {', '.join(map(str, folders))}: make the data first")
    return CodecFrames(
        torch.cat(mouths), torch.cat(faces), torch.cat(points), torch.cat(values), spans,
        torch.cat(pairs) if pairs else torch.zeros(0, 4, dtype=torch.long),
    )  # fmt: skip


def augment(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, scale, tilt, recolour, blur and noise crops ``[n, 3, s, s]`` in [-1, 1], each on its own."""
    number, device = len(crops), crops.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(number, *shape, generator=generator, device=device) * (high - low) + low

    angle, scale, shift = uniform(-0.08, 0.08), uniform(0.93, 1.08), uniform(-0.07, 0.07, 2)
    theta = torch.zeros(number, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
    theta[:, 1, 0] = scale * angle.sin()
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(crops.shape), align_corners=False)
    x = F.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    gray = x.mean(1, keepdim=True)
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.2, gray, x)
    x = x * uniform(0.6, 1.3, 1, 1, 1) * uniform(0.85, 1.15, 3, 1, 1) + uniform(-0.25, 0.25, 1, 1, 1)
    blurred = F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear", align_corners=False)
    x = torch.lerp(x, blurred, uniform(-0.5, 1.0, 1, 1, 1))
    noise = torch.randn(x.shape, generator=generator, device=device)
    return (x + noise * uniform(0.0, 0.08, 1, 1, 1)).clamp(-1.2, 1.2)


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
            swapped, consistency = self._swap(quad)
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

    def _swap(self, quad: Tensor) -> tuple[Tensor, Tensor]:
        """Swap lip and expression tokens inside quadruples ``[q, lips, expressions, nq, dm]``; also the consistency."""
        config = self.codec.config.motion_codec
        head, lip, expression = quad.split([config.head_tokens, config.lip_tokens, config.expression_tokens], dim=-2)
        # lip tokens of the frame with the other expression, expression tokens of the frame with the other lips
        swapped = torch.cat([head, lip.flip(2), expression.flip(1)], dim=-2)
        consistency = (lip - lip.flip(2)).square().mean() + (expression - expression.flip(1)).square().mean()
        return swapped, 0.3 * consistency


@torch.no_grad()
def encode_rows(codec: MotionCodec, data: CodecFrames, rows: Tensor, chunk: int = 256) -> Tensor:
    """Raw tokens ``[n, nq, dm]`` of rows of the crops in memory, without augmentation."""
    parts = [
        codec.encode_crops(to_unit(data.mouth[r]), to_unit(data.face[r]), data.landmarks[r]) for r in rows.split(chunk)
    ]
    return torch.cat(parts)


@torch.no_grad()
def validate_codec(codec: MotionCodec, data: CodecFrames) -> dict[str, float]:
    """How much of the lips' and lids' opening and of the landmarks survives on held-out clips, and in swapped pairs.

    Correlations are taken inside each clip and averaged, those of the lids over clips with a blink; the reference is
    the clip's first kept frame. ``lid_range``: decoded over true deviation of the lids' gap.
    """
    rows = torch.arange(len(data.landmarks))
    raw = encode_rows(codec, data, rows)
    decoded = []
    for first, last in data.spans:
        still = raw[first : first + 1].expand(last - first, -1, -1)
        decoded.append(codec.decoder(raw[first:last], still, data.landmarks[first].expand(last - first, -1, -1)))
    points, values = [d[0] for d in decoded], [d[1] for d in decoded]
    true_points = [data.landmarks[first:last] for first, last in data.spans]
    true_values = [data.values[first:last] for first, last in data.spans]
    blinking = [k for k, v in enumerate(true_values) if (v[:, list(BLINKS)].mean(1) > CLOSING).any()]
    lids = [(lid_opening(points[k]), lid_opening(true_points[k])) for k in blinking]
    errors = [(p - t).norm(dim=-1).mean().item() * 128 for p, t in zip(points, true_points, strict=True)]
    result = {
        "lip_value_r": mean_correlation([v[:, 0] for v in values], [v[:, 0] for v in true_values]),
        "lip_landmark_r": mean_correlation(list(map(lip_opening, points)), list(map(lip_opening, true_points))),
        "lid_landmark_r": mean_correlation([m for m, _ in lids], [t for _, t in lids]),
        "lid_range": float(np.mean([float(m.std() / t.std().clamp_min(1e-4)) for m, t in lids])) if lids else 0.0,
        "blink_value_r": mean_correlation(
            [values[k][:, BLINKS[0]] for k in blinking], [true_values[k][:, BLINKS[0]] for k in blinking]
        ),
        "landmark_error_px": float(np.mean(errors)),
    }
    if len(data.pairs):
        quad = raw[data.pairs].unflatten(1, (2, 2))
        swapped, _ = CodecObjective(codec, data)._swap(quad)
        number = swapped[:, 0, 0].shape[0] * 4
        still = quad[:, :1, :1].expand_as(quad).flatten(0, 2)
        points = data.landmarks[data.pairs][:, :1].expand(-1, 4, -1, -1).flatten(0, 1)
        _, values = codec.decoder(swapped.flatten(0, 2), still, points)
        truth = data.values[data.pairs.flatten()]
        result["swapped_lip_value_r"] = correlation(values[:number, 0], truth[:, 0])
        result["swapped_value_error"] = (values - truth).abs().mean().item()
    return result


@torch.no_grad()
def fill_expression_bank(codec: MotionCodec, values: Tensor, tokens: Tensor, top: int = 40) -> None:
    """Average the normalised expression tokens of the frames nearest to each named expression.

    Args:
        values: ``[n, 16]`` of labelled frames; tokens: ``[n, nq, dm]`` normalised; top: frames averaged a name.
    """
    config = codec.config.motion_codec
    expression = tokens[:, -config.expression_tokens :]
    counted = torch.ones(NUM_VALUES)
    for name in ("lip_opening", "lip_width", "lip_protrusion", "lip_press", "gaze_x", "gaze_y"):
        counted[VALUE_NAMES.index(name)] = 0.1
    # A blink during an expression must not become part of it.
    for name in ("blink_left", "blink_right"):
        counted[VALUE_NAMES.index(name)] = 2.0
    for index, name in enumerate(EXPRESSIONS):
        wanted = torch.zeros(NUM_VALUES)
        for key, strength in PROTOTYPES.get(name, {}).items():
            wanted[VALUE_NAMES.index(key)] = 0.8 * strength
        distance = ((values - wanted) * counted).square().sum(-1)
        nearest = distance.topk(min(top, len(values)), largest=False).indices
        codec.expression_bank[index] = expression[nearest].mean(0)


@torch.no_grad()
def fit_direct_path(codec: MotionCodec, data: CodecFrames, raw: Tensor, couples: int = 12_000, seed: int = 0) -> None:
    """Add to the decoder's linear path what it still misses, by ridge regression over couples of a clip's frames.

    Args:
        raw: tokens ``[n, nq, dm]`` of all rows of ``data``.
    """
    random = np.random.default_rng(seed)
    chosen = random.integers(len(data.spans), size=couples)
    target = torch.tensor([int(random.integers(*data.spans[c])) for c in chosen])
    still = torch.tensor([int(random.integers(*data.spans[c])) for c in chosen])
    change = (raw[target] - raw[still]).flatten(1)
    parts = zip(target.split(512), still.split(512), strict=True)
    decoded = [codec.decoder(raw[t], raw[s], data.landmarks[s])[0] for t, s in parts]
    missed = (data.landmarks[target] - torch.cat(decoded)).flatten(1) / DISPLACEMENT_SCALE
    # The noise the tokens have in training is a ridge penalty: a prior's tokens are not exact either.
    ridge = 2 * TOKEN_NOISE**2 * couples * torch.eye(change.shape[1])
    codec.decoder.direct.weight += torch.linalg.solve(change.T @ change + ridge, change.T @ missed).T


def finish_codec(codec: MotionCodec, data: CodecFrames) -> None:
    """After training: the decoder's linear path, token statistics and the bank of named expressions."""
    codec.eval()
    raw = encode_rows(codec, data, torch.arange(len(data.landmarks)))
    fit_direct_path(codec, data, raw)
    codec.set_statistics(raw)
    fill_expression_bank(codec, data.values, codec.normalize(raw))


def train_codec(
    folders: Sequence[Path], output: Path, minutes: float, validation: Sequence[Path] = (),
    config: MCDMConfig = TINY, limit: int | None = None, seed: int = 0, resume: bool = True,
    start_from: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train, fill the buffers and write ``output`` (keys prefixed ``motion_codec.``). Returns the validation.

    ``start_from`` is a codec's plain state, such as the ``..._training`` file of an earlier run, to begin with.
    """
    torch.manual_seed(seed)
    codec = MotionCodec(config)
    if start_from is not None:
        codec.load_state_dict(load_file(str(start_from)))
    data = load_codec_frames(folders, limit=limit)
    held = load_codec_frames(validation, limit=40) if validation else None
    logger.info("codec: %d frames, %d pairs", len(data.landmarks), len(data.pairs))
    raw_output = output.with_name(output.stem + "_training.safetensors")
    settings = LoopSettings(
        raw_output, minutes=minutes, learning_rate=1.5e-3, validate_every=400, save_every=200, resume=resume,
        ema_decay=0.995, metadata={"mcdm_config": to_json(config)},
    )  # fmt: skip
    check = None if held is None else (lambda module, step: validate_codec(module, held))
    train(codec, CodecObjective(codec, data, seed=seed), settings, check)
    finish_codec(codec, data)
    state = {f"motion_codec.{k}": v for k, v in codec.state_dict().items()}
    save_state(output, state, {"mcdm_config": to_json(config)})
    return validate_codec(codec, held) if held is not None else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m mcdm_core.training.codec --data DIR --output FILE --minutes 10``."""
    parser = argparse.ArgumentParser(description="Train the motion codec.")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--validation", type=Path, nargs="*", default=[])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--limit", type=int, default=None, help="clips a folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-resume", action="store_true")
    parser.add_argument("--start-from", type=Path, help="plain state of an earlier run to begin with")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    log_to_file(options.output.with_suffix(".log"))
    result = train_codec(
        options.data, options.output, options.minutes, options.validation, limit=options.limit,
        resume=not options.no_resume, start_from=options.start_from,
    )  # fmt: skip
    logger.info("finished: %s", result)


if __name__ == "__main__":
    main()
