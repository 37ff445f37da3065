"""Shards keep what was written, refuse what does not fit, and give windows with exactly their sound."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from mcdm_core.data.shards import SAMPLE_RATE, ClipDataset, ShardWriter, read_rows
from mcdm_core.errors import MediaError


def _clip(frames: int, fps: int = 25, size: int = 8) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    generator = torch.Generator().manual_seed(frames)
    tensors = {
        "frames": torch.randint(0, 256, (frames, size, size, 3), generator=generator, dtype=torch.uint8),
        "landmarks": torch.rand(frames, 68, 2, generator=generator),
        "pose": torch.rand(frames, 6, generator=generator),
        "values": torch.rand(frames, 16, generator=generator),
        "audio": torch.arange(round(frames / fps * SAMPLE_RATE)).to(torch.int16),
    }
    info = {
        "source": "made up",
        "identity": f"person {frames}",
        "language": "en",
        "voice": "none",
        "sentence": "\u00e9",
        "fps": fps,
        "split": "train",
        "licence": "none",
        "seed": 0,
        "index": frames,
    }
    return tensors, info


def test_round_trip_in_order(tmp_path: Path) -> None:
    first, second = _clip(5), _clip(7)
    with ShardWriter(tmp_path / "a.safetensors") as writer:
        writer.add(*first)
        writer.add({**second[0], "actions": torch.zeros(7, 52, dtype=torch.float16)}, second[1])
    data = ClipDataset(tmp_path)
    assert len(data) == 2
    assert data.info(0) == first[1] and data.info(1) == second[1]
    assert data.num_frames(1) == 7
    for name, value in first[0].items():
        torch.testing.assert_close(data[0][name], value)
    assert "actions" in data.names(1) and "actions" not in data.names(0)
    with pytest.raises(MediaError):
        data.read(0, "actions")


def test_window_reads_frames_and_their_samples(tmp_path: Path) -> None:
    tensors, info = _clip(10)
    with ShardWriter(tmp_path / "a.safetensors") as writer:
        writer.add(tensors, info)
    window = ClipDataset([tmp_path / "a.safetensors"]).window(0, 3, 4)
    torch.testing.assert_close(window["frames"], tensors["frames"][3:7])
    assert window["audio"].tolist() == list(range(3 * 640, 7 * 640))


def test_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a.safetensors") as writer:
        writer.add(*_clip(2))
        raise RuntimeError("stopped")
    assert not list(tmp_path.iterdir())


def test_refuses_sound_of_another_length(tmp_path: Path) -> None:
    tensors, info = _clip(5)
    tensors["audio"] = tensors["audio"][:-1]
    with pytest.raises(MediaError, match="samples at 16 kHz"):
        ShardWriter(tmp_path / "a.safetensors").add(tensors, info)


def test_refuses_a_clip_without_labels(tmp_path: Path) -> None:
    tensors, info = _clip(5)
    del tensors["pose"]
    with pytest.raises(MediaError, match="pose"):
        ShardWriter(tmp_path / "a.safetensors").add(tensors, info)


def test_empty_folder_and_broken_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No shards"):
        ClipDataset(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(MediaError, match="bad.safetensors"):
        ClipDataset(tmp_path)


def test_dataset_travels_to_a_worker_process(tmp_path: Path) -> None:
    tensors, info = _clip(4)
    with ShardWriter(tmp_path / "a.safetensors") as writer:
        writer.add(tensors, info)
    data = ClipDataset(tmp_path)
    data[0]
    copy = pickle.loads(pickle.dumps(data))
    torch.testing.assert_close(copy[0]["frames"], tensors["frames"])


def test_trainers_read_some_tensors_of_every_clip(tmp_path: Path) -> None:
    written = [_clip(frames) for frames in (4, 5, 6)]
    for name, clips in (("a", written[:2]), ("b", written[2:])):
        with ShardWriter(tmp_path / f"{name}.safetensors") as writer:
            for tensors, info in clips:
                writer.add(tensors, info)
    data = ClipDataset(tmp_path)
    assert data.place(1) == (tmp_path / "a.safetensors", 1) and data.place(2) == (tmp_path / "b.safetensors", 0)
    found = list(data.clips(("landmarks", "pairs"), limit=2))
    assert [info["index"] for info, _ in found] == [4, 5] and all(set(clip) == {"landmarks"} for _, clip in found)
    torch.testing.assert_close(found[1][1]["landmarks"], written[1][0]["landmarks"])
    seen = {"a.safetensors"}
    rows = read_rows(tmp_path, ("frames", "pose"), every=4, seen=seen)
    assert rows is not None and seen == {"a.safetensors", "b.safetensors"}
    torch.testing.assert_close(rows["pose"], written[2][0]["pose"][[0, 4]])
    assert read_rows(tmp_path, ("pose",), seen=seen) is None and read_rows(tmp_path / "none", ("pose",)) is None
    whole = read_rows(tmp_path, ("pose",), every=4)
    assert whole is not None and len(whole["pose"]) == 1 + 2 + 2
    assert not list(ClipDataset(tmp_path / "none", required=False).clips())
