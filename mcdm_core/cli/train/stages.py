"""``train``: the training stages, each resumable, on shards of ``render-data`` and ``label-data``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import lora, stock
from .options import DEFAULT_MINUTES, PAINTERS, REFINING, add_options

if TYPE_CHECKING:
    from ...training.parts.stage import PartRecipe, PartRun

_ON_GPU: dict[str, dict[str, Any]] = {
    "vae": {"batch_size": 512, "learning_rate": 2.5e-3, "every": 4, "critic_weight": 0.02},
    "face": {"batch_size": 384, "learning_rate": 4e-3, "every": 4},
    "boxes": {"batch_size": 128},
    "reader": {"batch": 384, "eyes": 256, "learning_rate": 4e-3},
    "codec": {"couples": 256, "quadruples": 48, "learning_rate": 2e-3, "validate_every": 2000},
    "audio": {"batch": 256, "validate_every": 2000},
    "prior": {"batch": 128, "weight_decay": 1e-2, "validate_every": 2000},
    "unet1": {"clips": 64, "learning_rate": 8e-4},
    "unet3": {"clips": 32, "learning_rate": 8e-4},
    "decoder": {"clips": 32, "learning_rate": 1e-3},
    "sight": {"clips": 32, "learning_rate": 1e-3},
}
"""What stages do otherwise on a GPU, which has room for larger batches."""
_SPEECH_SEED = 777


def add_parser(commands: Any) -> None:
    """Add this command to the main parser."""
    parser = commands.add_parser(
        "train",
        help="train a stage of a preset, or all of tiny",
        description="Train in the paper's order: autoencoder, face network and its second reading, motion codec, audio "
        "encoder, present-clip prior (stage 2), UNet stages 1 and 3, decoder of painted parts and its sight of further "
        "pictures; then bundle all into one file. A stopped stage goes on where it was.",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the stages; returns the exit status (130 after Ctrl-C; the stage's weights so far are kept).

    Raises:
        MediaError: if a data folder has no training shards; WeightsError: if an earlier stage is missing.
        MCDMError: if a stage cannot go on from a model.
    """
    import torch

    from ...data.folders import check_for_training
    from ...errors import MCDMError
    from ...training.loop import log_to_file

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.refine and (options.preset != "tiny" or options.stage not in REFINING):
        raise MCDMError(f"--refine is of preset tiny and its stages {', '.join(REFINING)}; others begin anew.")
    if options.shares and len(options.shares) != len(options.data):
        raise MCDMError(
            f"--shares has {len(options.shares)} numbers, --data {len(options.data)} folders: one for each."
        )
    if options.shares and options.stage not in (*PAINTERS, "all"):
        raise MCDMError(f"--shares is heeded by {', '.join(PAINTERS)} alone; leave it out for {options.stage}.")
    if options.preset != "tiny":
        return stock.run(options)
    stock.refuse_for_tiny(options)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True  # training batches keep their sizes
    if options.stage != "bundle":
        check_for_training(options.data, options.speech, tars=options.stage in PAINTERS)
    options.output.mkdir(parents=True, exist_ok=True)
    log_to_file(options.output / "train.log")
    if options.stage == "lora":
        return lora.run(options)
    stages = [*DEFAULT_MINUTES, "bundle"] if options.stage == "all" else [options.stage]
    for number, stage in enumerate(stages, start=1):
        minutes = DEFAULT_MINUTES.get(stage, 0.0) if options.minutes is None else options.minutes
        length = f", {minutes:g} min of training" if minutes else ""
        logging.getLogger("mcdm_core").info("stage %s, %d of %d%s", stage, number, len(stages), length)
        try:
            _STAGES[stage](options, minutes)
        except KeyboardInterrupt:
            print(f"interrupted; the same command goes on with stage {stage} where it was", file=sys.stderr)
            return 130
    return 0


def _folders(options: argparse.Namespace, split: str, speech: bool = False, tars: bool = False) -> list[Path]:
    """Folders of a split that hold shards, or ``tars``; ``speech`` leaves out those made of stills."""
    from ...data.folders import holding_clips

    return holding_clips([folder / split for folder in options.data], speech=speech, tars=tars)


def _labelled(options: argparse.Namespace) -> list[Path]:
    """Folders of training shards beside the rendered ones: real people, labelled by a face network."""
    return [folder for folder in _folders(options, "train") if folder.parent != options.data[0]]


def _on_gpu(options: argparse.Namespace) -> bool:
    """Whether the stage trains on a GPU."""
    return str(options.device).startswith("cuda")


def _sizes(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Where a stage trains, and the batches it draws there."""
    return {"device": options.device, **(_ON_GPU[name] if _on_gpu(options) else {})}


def _needed(options: argparse.Namespace, name: str, stage: str) -> Path:
    """Weights of an earlier stage, or the model that is refined where there are none.

    Raises:
        WeightsError: if they are not there.
    """
    from ...errors import WeightsError

    path = options.output / f"{name}.safetensors"
    if not path.is_file():
        if options.refine is not None:
            return options.refine
        raise WeightsError(f"{path} is missing; run `train {stage}` first, with the same --output.")
    return path


def _vae(options: argparse.Namespace, minutes: float) -> None:
    from ...training.vae.train import train_vae

    train_vae(
        options.data[0],
        options.output / "vae.safetensors",
        minutes=minutes,
        stills=options.portraits,
        videos=options.videos,
        extra_shards=_labelled(options),
        pictures=options.output / "pictures",
        **_sizes(options, "vae"),
    )


def _face(options: argparse.Namespace, minutes: float) -> None:
    from safetensors.torch import load_file

    from ...config import TINY
    from ...face.reading.face_network import FaceNetwork
    from ...training.face.boxes import gather_faces, train_face_boxes
    from ...training.face.train import load_frames, train_face_network

    # Labels of real frames come from an earlier network: their pose and values are not to be learnt from.
    real = None
    for folder in _labelled(options):
        frames = load_frames(folder, every=10, reading_weight=0.0, device=options.device)
        if real is None:
            real = frames
        elif frames is not None:
            real.extend(frames)
    # The box stage reads whole pictures with the landmarks already trained; it needs a quarter of the time.
    output = options.output / "face_network.safetensors"
    landmarks = options.output / "face_landmarks.safetensors"
    train_face_network(
        options.data[0],
        landmarks,
        minutes=0.75 * minutes,
        real=real,
        pictures=options.output / "pictures",
        **_sizes(options, "face"),
    )
    network = FaceNetwork(TINY)
    network.load_state_dict(load_file(str(landmarks)))
    faces = gather_faces(
        network,
        options.data[0],
        options.portraits,
        options.videos,
        device=options.device,
        labelled=_labelled(options),
    )
    train_face_boxes(network, faces, [], output, TINY, minutes=0.25 * minutes, **_sizes(options, "boxes"))


def _reader(options: argparse.Namespace, minutes: float) -> None:
    from ...data.folders import truly_labelled
    from ...training.face.reader_train import train_part_reader

    train_part_reader(
        truly_labelled(_folders(options, "train")),
        options.output / "part_reader.safetensors",
        minutes=minutes,
        held={folder.parent.name: folder for folder in truly_labelled(_folders(options, "val"))},
        **_sizes(options, "reader"),
    )


def _codec(options: argparse.Namespace, minutes: float) -> None:
    from ...training.codec.train import train_codec

    output = options.output / "motion_codec.safetensors"
    train_codec(
        _folders(options, "train"),
        output,
        minutes,
        _folders(options, "val", True),
        refine=options.refine,
        **_sizes(options, "codec"),
    )


def _audio(options: argparse.Namespace, minutes: float) -> None:
    from ...checkpoint import component_state, save_checkpoint
    from ...config import TINY
    from ...errors import PackageError
    from ...training.audio.train import pretrain_audio, spoken_clips

    # Recordings have no pictures: only this stage can read them.
    train = [*_folders(options, "train", True), *(folder / "train" for folder in options.speech)]
    val = [*_folders(options, "val", True), *(folder / "val" for folder in options.speech)]
    groups = [spoken_clips(folder, TINY) for folder in train]
    held = {folder.parent.name: clips for folder in val if (clips := spoken_clips(folder, TINY))}
    if options.speech_clips > 0:
        try:
            from ...data.synthetic.render import render_speech

            folder = options.output / "speech"
            render_speech(folder, options.speech_clips, _SPEECH_SEED, asset_path=options.asset)
            groups.append(spoken_clips(folder, TINY))
        except (ImportError, PackageError) as error:
            logging.getLogger(__name__).warning("No further speech is made, the shards' own has to do: %s", error)
    output = options.output / "audio_pretrained.safetensors"
    pretrain_audio(groups, output, minutes, held, refine=options.refine, **_sizes(options, "audio"))
    if options.refine is not None:
        # Its tokens are those that the model's prior knows: `bundle` takes it without a new prior.
        states = {"audio_encoder": component_state(output, "audio_encoder")}
        save_checkpoint(options.output / "audio_encoder.safetensors", states, TINY)


def _prior(options: argparse.Namespace, minutes: float) -> None:
    from ...config import TINY
    from ...training.prior.train import load_codec, load_motion_clips, train_prior

    codec = load_codec(_needed(options, "motion_codec", "codec"), TINY).to(options.device)
    held = {f.parent.name: load_motion_clips(f, codec, TINY, 32) for f in _folders(options, "val", True)}
    groups = [load_motion_clips(folder, codec, TINY) for folder in _folders(options, "train", True)]
    audio = options.output / "audio_pretrained.safetensors"
    output = options.output / "present_clip_prior.safetensors"
    train_prior(
        groups, codec, output, minutes, held, audio_from=audio if audio.is_file() else None, **_sizes(options, "prior")
    )


def _unet1(options: argparse.Namespace, minutes: float) -> None:
    from ...training.parts.train import PARTS_STAGE_1, train_parts

    train_parts(*_painting(options, minutes, "unet1", PARTS_STAGE_1, "unet_stage1", options.refine))


def _unet3(options: argparse.Namespace, minutes: float) -> None:
    from ...training.parts.train import PARTS_STAGE_3, PARTS_STAGE_3_REFINED, train_parts

    begins = PARTS_STAGE_3 if options.refine is None else PARTS_STAGE_3_REFINED
    train_parts(*_painting(options, minutes, "unet3", begins, "unet", _needed(options, "unet_stage1", "unet1")))


def _decoder(options: argparse.Namespace, minutes: float) -> None:
    from ...training.parts.decoder import PART_DECODER, PART_DECODER_REFINED, train_part_decoder

    unet = _needed(options, "unet", "unet3")
    begins = PART_DECODER if options.refine is None else PART_DECODER_REFINED
    train_part_decoder(*_painting(options, minutes, "decoder", begins, "part_decoder", unet))


def _sight(options: argparse.Namespace, minutes: float) -> None:
    from ...training.sight.train import SIGHT, train_sight

    unet = _needed(options, "unet", "unet3")
    recipe, run = _painting(options, minutes, "sight", SIGHT, "part_decoder_sight", unet)
    train_sight(recipe, dataclasses.replace(run, refine=_needed(options, "part_decoder", "decoder")))


def _painting(
    options: argparse.Namespace,
    minutes: float,
    name: str,
    recipe: PartRecipe,
    output: str,
    start_from: Path | None = None,
) -> tuple[PartRecipe, PartRun]:
    """Recipe and run of a stage of what paints parts, which reads tars as well."""
    from ...training.parts.stage import PartRun

    run = PartRun(
        _folders(options, "train", tars=True),
        _folders(options, "val", True, tars=True),
        _needed(options, "vae", "vae"),
        _needed(options, "motion_codec", "codec"),
        options.output / f"{output}.safetensors",
        start_from=start_from,
        refine=options.refine,
        perceptual=options.perceptual,
        minutes=minutes,
        device=options.device,
        pictures=options.output / "pictures",
    )
    recipe = dataclasses.replace(recipe, shares=tuple(options.shares))
    return dataclasses.replace(recipe, **_ON_GPU[name]) if _on_gpu(options) else recipe, run


def _bundle(options: argparse.Namespace, minutes: float) -> None:
    from ...checkpoint import bundle

    print(bundle(options.output, options.output / "mcdm_tiny.safetensors", rest=options.refine))


_STAGES: dict[str, Callable[[argparse.Namespace, float], None]] = {
    "vae": _vae,
    "face": _face,
    "reader": _reader,
    "codec": _codec,
    "audio": _audio,
    "prior": _prior,
    "unet1": _unet1,
    "unet3": _unet3,
    "decoder": _decoder,
    "sight": _sight,
    "bundle": _bundle,
}
