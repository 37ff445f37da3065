"""``train all`` from shards to a bundle that speaks; what each stage reads of several folders."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.__main__ import main
from mcdm_core.cli.train import stages
from mcdm_core.data import folders
from mcdm_core.data.real.labelling import BY_FACE_NETWORK
from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.errors import MediaError, WeightsError


def _write(folder: Path, clips: list[dict], source: str, **more: str) -> None:
    with ShardWriter(folder / "part-00000.safetensors") as writer:
        for index, tensors in enumerate(clips):
            info = dict.fromkeys(INFO_FIELDS, "")
            writer.add(tensors, {**info, "source": source, "fps": 25, "seed": 0, "index": index, **more})


def _blank(frames: int = 2) -> dict:
    return {
        "frames": np.zeros((frames, 8, 8, 3), np.uint8),
        "landmarks": np.zeros((frames, 68, 2), np.float32),
        "pose": np.zeros((frames, 6), np.float32),
        "values": np.zeros((frames, 16), np.float32),
        "audio": np.zeros(frames * 640, np.int16),
    }


def test_stills_are_kept_from_the_stages_that_need_speech(tmp_path: Path) -> None:
    for name, source in (("synthetic", "synthetic"), ("real", "real video"), ("stills", "still")):
        _write(tmp_path / name / "train", [_blank()], source)
    _write(tmp_path / "synthetic" / "val", [_blank()], "synthetic")
    named = [tmp_path / name for name in ("synthetic", "real", "stills")]
    arguments = Namespace(data=named, output=tmp_path / "run", refine=None)
    assert [f.parent.name for f in stages._folders(arguments, "train")] == ["synthetic", "real", "stills"]
    assert [f.parent.name for f in stages._folders(arguments, "train", speech=True)] == ["synthetic", "real"]
    assert [f.parent.name for f in stages._folders(arguments, "val")] == ["synthetic"]
    every = stages._folders(arguments, "train")
    assert folders.truly_labelled(every) == every
    _write(tmp_path / "guessed" / "train", [_blank()], "real video", labels=BY_FACE_NETWORK)
    guessed = Namespace(data=[tmp_path / "synthetic", tmp_path / "guessed"])
    assert [f.parent.name for f in folders.truly_labelled(stages._folders(guessed, "train"))] == ["synthetic"]
    folders.check_for_training(arguments.data)
    with pytest.raises(MediaError, match="empty"):
        folders.check_for_training([*arguments.data, tmp_path / "empty"])
    with pytest.raises(MediaError, match="val"):
        folders.check_for_training(arguments.data[1:])
    with pytest.raises(MediaError, match="label-speech"):
        folders.check_for_training(arguments.data, [tmp_path / "empty"])
    with pytest.raises(WeightsError, match="train vae"):
        stages._needed(arguments, "vae", "vae")


def _speaking_clips(count: int, seed: int) -> list[dict]:
    """Clips of the sample portrait under a slow camera, with noise for sound and loose labels of a moving mouth."""
    from mcdm_core.checkpoint import load_face_network
    from mcdm_core.data.real.stills import read_still, still_clip
    from mcdm_core.data.real.video import face_square, label_frames
    from mcdm_core.pipeline import preset_weights
    from mcdm_core.samples import default_portrait

    network, picture = load_face_network(preset_weights("tiny")), read_still(default_portrait())
    square = face_square(network, picture[None])
    labels = label_frames(network, picture[None], square)
    still = labels["landmarks"][0], labels["pose"][0], labels["values"][0]
    random, clips = np.random.default_rng(seed), []
    for _ in range(count):
        clip = still_clip(picture, square, *still, 40, random)
        opening = np.abs(np.sin(np.arange(40) * random.uniform(0.3, 0.9))).astype(np.float32)
        clip["values"] = clip["values"].copy()
        clip["values"][:, 0] = opening
        clip["landmarks"] = clip["landmarks"].copy()
        clip["landmarks"][:, 16:20, 1] += 0.03 * opening[:, None]
        loud = np.repeat(opening, 640)
        clip["audio"] = (random.normal(0, 3000, len(loud)) * loud).clip(-32000, 32000).astype(np.int16)
        for name, source in (("pairs", "frames"), ("pair_landmarks", "landmarks"), ("pair_values", "values")):
            clip[name] = clip[source][[0, 7, 14, 21]][None]
        clips.append(clip)
    return clips


@pytest.mark.slow
def test_all_stages_from_shards_to_a_speaking_model(tmp_path: Path, capsys) -> None:
    pytest.importorskip("scipy", reason="the training data need scipy")
    for folder, count, source in (
        ("synthetic/train", 4, "synthetic"),
        ("synthetic/val", 2, "synthetic"),
        ("real/train", 2, "real video"),
        ("stills/train", 2, "still"),
    ):
        _write(tmp_path / folder, _speaking_clips(count, len(folder)), source)
    folders = [str(tmp_path / name) for name in ("synthetic", "real", "stills")]
    run = tmp_path / "run"
    arguments = ["train", "all", "--data", *folders, "--output", str(run), "--minutes", "0.02", "--speech-clips", "0"]
    threads = torch.get_num_threads()
    try:
        assert main([*arguments, "--threads", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    weights = run / "mcdm_tiny.safetensors"
    assert weights.is_file() and (run / "audio_pretrained.safetensors").is_file()
    assert "stage decoder" in (run / "train.log").read_text()
    video = tmp_path / "a.mp4"
    generate = ["generate", "--weights", str(weights), "--output", str(video), "--box", "40", "40", "200", "200"]
    assert main([*generate, "--steps", "1"]) == 0
    assert video.stat().st_size > 1000
