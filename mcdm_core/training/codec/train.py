"""Training of the motion codec with the landmark guider (paper 3.3, B.2): losses in ``losses.py``, and what is
fitted in closed form afterwards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...checkpoint import component_state
from ...config import TINY, MCDMConfig, to_json
from ...face.landmarks import BLINK_VALUES, NUM_VALUES, VALUE_NAMES
from ...models.motion_codec import DISPLACEMENT_SCALE, MotionCodec
from ...models.motion_tokens import EXPRESSIONS
from ..loop import LoopSettings, Tracker, save_state, train
from ..ridge import ridge_solution
from ..workers import Workers
from .data import CodecFrames, encode_rows, load_codec_frames
from .losses import READING_PART, TOKEN_NOISE, CodecObjective, shape_error
from .shared import share_norms
from .validation import validate_codec

logger = logging.getLogger(__name__)

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
    counted[BLINK_VALUES] = 2.0
    for index, name in enumerate(EXPRESSIONS):
        wanted = torch.zeros(NUM_VALUES)
        for key, strength in PROTOTYPES.get(name, {}).items():
            wanted[VALUE_NAMES.index(key)] = 0.8 * strength
        distance = ((values - wanted.to(values)) * counted.to(values)).square().sum(-1)
        nearest = distance.topk(min(top, len(values)), largest=False).indices
        codec.expression_bank[index] = expression[nearest].mean(0)


@torch.no_grad()
def fit_direct_path(
    codec: MotionCodec, data: CodecFrames, raw: Tensor, couples: int = 12_000, seed: int = 0, shapes: bool = False
) -> None:
    """Add to the decoder's linear path what it still misses, by ridge regression over couples of a clip's frames.

    Args:
        raw: tokens ``[n, nq, dm]`` of all rows of ``data``.
        shapes: of the shapes of lips and eyes alone, wherever they are, from all tokens but the head's, with four times
            the ridge. Photographs and one filmed man say little of how heads move; fitted to them the places of
            strangers' lips got worse.
    """
    generator = torch.Generator(raw.device).manual_seed(seed)
    objective = CodecObjective(codec, data, seed=seed)
    chosen = torch.randint(len(data.spans), (couples,), generator=generator, device=raw.device)
    target, still = objective.draw(chosen), objective.draw(chosen)
    change = raw[target] - raw[still]
    parts = zip(target.split(2048), still.split(2048), strict=True)
    decoded = [codec.decoder(raw[t], raw[s], data.landmarks[s])[0] for t, s in parts]
    missed = data.landmarks[target] - torch.cat(decoded)
    if shapes:
        missed = shape_error(missed)
        change[:, : codec.config.motion_codec.head_tokens] = 0
    # The noise the tokens have in training is a ridge penalty: a prior's tokens are not exact either.
    ridge = (8 if shapes else 2) * TOKEN_NOISE**2 * couples
    codec.decoder.direct.weight += ridge_solution(change.flatten(1), missed.flatten(1) / DISPLACEMENT_SCALE, ridge).T


def _all_rows(data: CodecFrames) -> Tensor:
    return torch.arange(len(data.landmarks), device=data.landmarks.device)


def finish_codec(codec: MotionCodec, data: CodecFrames) -> None:
    """After training: the decoder's linear path, token statistics and the bank of named expressions."""
    codec.eval()
    raw = encode_rows(codec, data, _all_rows(data))
    fit_direct_path(codec, data, raw)
    codec.set_statistics(raw)
    fill_expression_bank(codec, data.values, codec.normalize(raw))


def train_codec(
    folders: Sequence[Path],
    output: Path,
    minutes: float | None,
    validation: Sequence[Path] = (),
    config: MCDMConfig = TINY,
    limit: int | None = None,
    seed: int = 0,
    resume: bool = True,
    start_from: Path | None = None,
    refine: Path | None = None,
    device: torch.device | str = "cpu",
    couples: int = 24,
    quadruples: int = 5,
    learning_rate: float = 1.5e-3,
    validate_every: int = 400,
    steps: int | None = None,
    eight_bit: bool = False,
    log_every: int = 50,
    workers: Workers | None = None,
    tracker: Tracker | None = None,
) -> dict[str, float]:
    """Train, fill the buffers and write ``output`` (keys prefixed ``motion_codec.``). Returns the validation.

    ``start_from`` is a codec's plain state, such as the ``..._training`` file of an earlier run, to begin with.
    ``refine`` is a file of a codec (keys prefixed ``motion_codec.``) that a prior and a painter know. Training begins
    with it. What its tokens mean in clips stays, and so do head tokens, statistics and named expressions. ``device`` is
    where the data lie and the training runs; ``couples`` and ``quadruples`` are the batch, of all ``workers``. It ends
    after ``minutes`` or ``steps``, whichever are given. ``tracker``, ``eight_bit``: see :class:`..loop.LoopSettings`.

    Raises:
        MCDMError: if the processes cannot share the couples.
    """
    workers = workers or Workers()
    torch.manual_seed(seed)
    codec = MotionCodec(config)
    if start_from is not None:
        codec.load_state_dict(load_file(str(start_from)))
    if refine is not None:
        codec.load_state_dict(component_state(refine, "motion_codec"))
        codec.guider.requires_grad_(False)
    codec.to(device)
    share_norms(codec, workers)
    data = load_codec_frames(folders, limit=limit, device=device)
    held = load_codec_frames(validation, limit=40, device=device) if validation else None
    logger.info("codec: %d frames, %d pairs", len(data.landmarks), len(data.pairs))
    raw_output = output.with_name(output.stem + "_training.safetensors")
    settings = LoopSettings(
        raw_output,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        validate_every=validate_every,
        save_every=max(1, validate_every // 2),
        resume=resume,
        log_every=log_every,
        ema_decay=0.995,
        eight_bit=eight_bit,
        workers=workers,
        tracker=tracker,
        metadata={"mcdm_config": to_json(config)},
    )
    check = None if held is None else (lambda module, step: validate_codec(module, held))
    earlier = None if refine is None else encode_rows(codec.eval(), data, _all_rows(data))
    begin = 0.0 if refine is None else READING_PART
    objective = CodecObjective(
        codec,
        data,
        couples,
        quadruples,
        seed,
        progress=lambda: max(begin, settings.progress),
        earlier=earlier,
        workers=workers,
    )
    settings.draws = (objective.generator,)
    train(codec.train(), objective, settings, check)
    if not workers.first:
        return {}
    if refine is None:
        finish_codec(codec, data)
    else:
        fit_direct_path(codec.eval(), data, encode_rows(codec, data, _all_rows(data)), shapes=True)
    state = {f"motion_codec.{k}": v for k, v in codec.state_dict().items()}
    save_state(output, state, {"mcdm_config": to_json(config)})
    return validate_codec(codec, held) if held is not None else {}
