"""What every part of a weight file reaches on clips it was not trained on: the model card's tables.

    python -m mcdm_core.evaluation.report --shards DIR [--weights FILE] [--limit N]

``DIR`` holds shards of ``render-data`` or ``label-data`` (their ``val`` or ``test`` folder). Prints JSON: the
autoencoder in dB, what the audio encoder predicts, and what the motion codec keeps. The present-clip prior's motion is
held against the true one, the denoiser against the warped reference alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from ..model import MCDMModel
from ..models.audio_encoder import with_value_head
from ..pipeline import MCDMPipeline
from ..training.audio.train import validate_audio
from ..training.codec.data import load_codec_frames
from ..training.codec.validation import validate_codec
from ..training.parts.rows import FrameRows
from ..training.parts.validation import validate_parts
from ..training.prior.train import load_motion_clips
from ..training.prior.validation import validate_prior
from ..training.vae.train import psnr
from .held_clips import HeldClip, held_clips
from .whole_crop import validate_denoiser


@torch.no_grad()
def part_scores(model: MCDMModel, folder: Path, limit: int = 32, stage: int = 3) -> dict[str, dict[str, float]]:
    """Scores by part: ``vae``, ``audio_encoder``, ``motion_codec``, ``present_clip_prior``, ``unet``.

    Args:
        folder: of shards with sound; limit: clips read (the denoiser is tried on six).
        stage: the UNet's training stage.
    """
    config, codec = model.config, model.motion_codec
    clips = load_motion_clips(folder, codec, config, limit)
    held = held_clips(folder, 2 * config.clip_frames, limit)
    every = max(1, sum(len(clip.landmarks) for clip in held) // 200)
    pictures = torch.cat([clip.pictures(slice(None, None, every)) for clip in held])
    decibels = torch.cat([psnr(model.vae(part).clamp(-1, 1), part) for part in pictures.split(32)])
    return {
        "vae": {"psnr": float(decibels.mean())},
        "audio_encoder": validate_audio(with_value_head(model.audio_encoder), clips),
        "motion_codec": validate_codec(codec, load_codec_frames([folder], limit=limit)),
        "present_clip_prior": validate_prior(model, codec, clips),
        "unet": _painting_scores(model, folder, held, limit, stage),
    }


def _painting_scores(model: MCDMModel, folder: Path, held: list[HeldClip], limit: int, stage: int) -> dict[str, float]:
    """The denoiser's scores: on parts of faces, or on the whole crop."""
    config, codec = model.config, model.motion_codec
    if config.parts.size:
        rows = FrameRows([folder], codec, config.image_size, minimum=2 * config.clip_frames, limit=limit)
        return validate_parts(model, model.vae, rows, config, bypass_temporal=stage == 1, decoder=model.part_decoder)
    return validate_denoiser(model, held, stage=stage)


def main() -> None:
    """Print the scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards that were not trained on")
    parser.add_argument("--weights", type=Path, help="weight file (default: the shipped one)")
    parser.add_argument("--limit", type=int, default=32, help="clips to read (default: 32)")
    arguments = parser.parse_args()
    weights = arguments.weights
    pipe = MCDMPipeline.from_file(weights) if weights else MCDMPipeline.from_preset("tiny")
    scores = part_scores(pipe.model, arguments.shards, arguments.limit, pipe.stage)
    print(json.dumps({part: {k: round(v, 4) for k, v in s.items()} for part, s in scores.items()}, indent=2))


if __name__ == "__main__":
    main()
