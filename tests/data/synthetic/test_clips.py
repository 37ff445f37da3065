"""Synthetic clips: decided by their number, complete, and true to their sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcdm_core.data.shards import ClipDataset
from mcdm_core.data.synthetic.people import head_asset
from mcdm_core.data.synthetic.person import PersonNumber
from mcdm_core.data.synthetic.speech import speech


def test_clip_tells_its_expressions() -> None:
    from mcdm_core.data.synthetic.clip import expression_labels
    from mcdm_core.data.synthetic.people.expressions import EXPRESSIONS

    weights = np.zeros((4, len(EXPRESSIONS)), np.float32)
    assert expression_labels(weights) == {"expression": "neutral", "expression_strength": 0.0, "expressions": {}}
    weights[1:, EXPRESSIONS.index("sad")] = 0.8
    labels = expression_labels(weights)
    assert labels["expression"] == "sad" and labels["expression_strength"] == 0.6
    assert labels["expressions"] == {"sad": [0.0, 0.8, 0.8, 0.8]}


def test_clip_is_decided_by_seed_and_index(maker) -> None:
    # Another clip in between: nothing may be carried over.
    first, other, again = (maker.make(3, split, 0) for split in ("train", "val", "train"))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.audio, again.audio)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert first.info == again.info
    assert first.info["engine"] in ("espeak-ng", "flite")
    assert first.info["identity"] != other.info["identity"]
    assert np.abs(first.frames.astype(int) - other.frames.astype(int)).mean() > 5


def test_clip_fills_a_shard(maker, tmp_path: Path) -> None:
    from mcdm_core.data.shards import ClipDataset, ShardWriter
    from mcdm_core.data.synthetic.render import clip_tensors

    clip = maker.make(1, "test", 0)
    with ShardWriter(tmp_path / "a.safetensors") as writer:
        writer.add(clip_tensors(clip), clip.info)
    sample = ClipDataset(tmp_path)[0]
    assert sample["frames"].shape == (6, 192, 192, 3) and sample["audio"].shape == (6 * 640,)
    assert sample["pairs"].shape == (1, 4, 192, 192, 3)
    lips = sample["landmarks"][:, :20]
    assert (lips > 0.1).all() and (lips < 0.95).all()


def test_spoken_clips_have_lips_that_follow_their_sound(maker, asset: head_asset.HeadAsset, tmp_path: Path) -> None:
    from mcdm_core.data.synthetic.render import render_speech

    audio, values, _ = maker.speak(0, "train", 3)
    assert audio.shape == (6 * 640,) and audio.dtype == np.int16 and values.shape == (6, 16)
    assert (audio != maker.speak(0, "train", 4)[0]).any()
    (path,) = render_speech(tmp_path, 3, seed=1, workers=1)
    clips = list(ClipDataset(tmp_path))
    assert len(clips) == 3 and clips[0]["audio"].shape == (48000,) and clips[0]["values"].shape == (75, 16)
    before = path.stat().st_mtime_ns
    assert render_speech(tmp_path, 3, seed=1, workers=1) == [path] and path.stat().st_mtime_ns == before
    # Open lips are loud, and the same number gives the same clip.
    loud = np.concatenate([c["audio"].double().abs().reshape(75, 640).mean(1) for c in clips])
    assert np.corrcoef(loud, np.concatenate([c["values"][:, 0] for c in clips]))[0, 1] > 0.2
    path.unlink()
    render_speech(tmp_path, 3, seed=1, workers=1)
    np.testing.assert_array_equal(ClipDataset(tmp_path)[0]["audio"], clips[0]["audio"])


def test_codec_pairs_swap_lips_and_expression(maker) -> None:
    clip = maker.make(2, "train", 5)
    values = clip.pair_values[0]
    expression = [6, 7, 8, 10, 11, 12, 13]
    np.testing.assert_allclose(values[0][expression], values[1][expression], atol=1e-5)
    np.testing.assert_allclose(values[2][expression], values[3][expression], atol=1e-5)
    protrusion = values[:, 2]
    np.testing.assert_allclose(protrusion[[0, 1]], protrusion[[2, 3]], atol=1e-5)


def test_clips_go_on_with_another_sentence_where_a_voice_crashes(
    asset: head_asset.HeadAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcdm_core.data.synthetic import clip
    from mcdm_core.data.synthetic.people.identity import random_identity
    from mcdm_core.data.synthetic.speech.fresh_process import EngineStoppedError, speak_afresh

    def crash(text: str) -> None:
        import os

        os._exit(11)

    with pytest.raises(EngineStoppedError, match="a sentence"):
        speak_afresh(crash, ("a sentence",))
    said = []

    def sometimes(text: str, language: str, voice: speech.Voice) -> tuple[np.ndarray, list[speech.Phoneme]]:
        said.append(text)
        if len(said) == 1:
            raise EngineStoppedError("crash")
        return np.ones(48000, np.float32), [speech.Phoneme("a", 0.0, 3.0)]

    monkeypatch.setattr(clip, "speak", sometimes)
    identity = random_identity(asset, np.random.default_rng(0))
    made = clip.random_speech("train", identity, 75, np.random.default_rng(0))
    assert len(made.audio) == 48000 and (made.audio != 0).mean() > 0.5 and len(said) >= 2

    def always(*_: object) -> None:
        raise EngineStoppedError("crash")

    monkeypatch.setattr(clip, "speak", always)
    with pytest.raises(EngineStoppedError):
        clip.random_speech("train", identity, 75, np.random.default_rng(0))


def test_a_shard_that_fails_costs_itself_alone(maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mcdm_core.data.synthetic import render
    from mcdm_core.errors import MCDMError

    make, broken = maker.make, {1}

    def sometimes(seed: int, split: str, index: int):
        if index in broken:
            raise RuntimeError("no voice")
        return make(seed, split, index)

    monkeypatch.setattr(maker, "make", sometimes)
    monkeypatch.setattr(render, "CLIPS_PER_SHARD", 1)
    monkeypatch.setitem(render._MAKERS, "None", maker)
    with pytest.raises(MCDMError, match="1 of 3 shards could not be made .*no voice"):
        render.render(tmp_path, clips=3, workers=1)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert sorted(before) == [f"train-s0-{n:05d}.safetensors" for n in (0, 2)]
    broken.clear()
    assert all(path.is_file() for path in render.render(tmp_path, clips=3, workers=1))
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in before.items())


@pytest.mark.slow
@pytest.mark.usefixtures("maker", "ray_address")
def test_a_local_ray_renders_what_one_process_renders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mcdm_core.data.synthetic import render

    monkeypatch.setattr(render, "CLIPS_PER_SHARD", 1)
    one = render.render(tmp_path / "one", clips=2, seed=2, workers=1)
    ray = render.render(tmp_path / "ray", clips=2, seed=2, workers=2, engine="ray")
    assert [path.name for path in one] == [path.name for path in ray] and len(one) == 2
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in ray]


def test_a_plan_grows_with_the_length(maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcdm_core.data.synthetic import render

    monkeypatch.setitem(render._MAKERS, "None", maker)
    one, two = (render.plan_rendering(hours, sample=1) for hours in (1.0, 2.0))
    assert two.gigabytes == pytest.approx(2 * one.gigabytes) and min(one.hours, two.hours) > 0


def test_rendered_tars_are_a_set_as_curation_writes_it(maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="writes the index")
    from mcdm_core.data.synthetic import render
    from mcdm_core.data.tar_clips import TarClips
    from mcdm_core.data.tar_shards import index_tars
    from mcdm_core.data.wild.labels import write_curated_shards

    monkeypatch.setitem(render._MAKERS, "None", maker)
    (path,) = render.render(tmp_path / "train", clips=2, seed=3, workers=1, tars=True)
    clip, clips = maker.make(3, "train", 0), TarClips([path])
    assert path.name == "train-s3-00000.tar" and list(clips.frames) == [6, 6]
    np.testing.assert_array_equal(clips.sound(0), clip.audio)
    for name in ("landmarks", "pose", "values", "actions"):
        np.testing.assert_array_equal(clips.labels(0)[name], getattr(clip, name))
    pictures = clips.pictures(0, range(6))
    assert pictures.shape == clip.frames.shape and np.abs(pictures.astype(int) - clip.frames).mean() < 3
    first = path.read_bytes()
    assert len(first) < 2 * clip.frames.nbytes
    before = path.stat().st_mtime_ns
    render.render(tmp_path / "train", clips=2, seed=3, workers=1, tars=True)
    assert path.stat().st_mtime_ns == before, "a tar that is there is kept"
    path.unlink()
    render.render(tmp_path / "train", clips=2, seed=3, workers=1, tars=True)
    assert path.read_bytes() == first, "the same clips give the same bytes"
    assert index_tars(tmp_path) == 2
    rows = parquet.read_table(tmp_path / "index.parquet").to_pylist()
    assert rows[0]["shard"] == "train/train-s3-00000.tar" and rows[0]["language"] == clip.info["language"]
    assert write_curated_shards(tmp_path, tmp_path / "labelled", "train", size=96) == 2
    labelled = ClipDataset(tmp_path / "labelled")
    assert labelled.info(0)["source"] == "synthetic" and labelled.info(0)["identity"] == clip.info["identity"]
    assert "labels" not in labelled.info(0) and labelled.read(0, "frames").shape == (6, 96, 96, 3)


def test_a_planned_set_speaks_all_languages_alike(asset, maker, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="writes the index")
    from mcdm_core.__main__ import main
    from mcdm_core.data.synthetic import clip, render
    from mcdm_core.data.synthetic.speech import text

    even = clip.ClipMaker(asset, frames=6, pairs=1, balanced=True)
    monkeypatch.setitem(render._MAKERS, "None, balanced", even)
    monkeypatch.setitem(render._MAKERS, "None", maker)
    command = ["render-data", str(tmp_path), "--val-clips", "0", "--test-clips", "0", "--workers", "1", "--clips"]
    assert main([*command, "10", "--format", "tar"]) == 0
    table = parquet.read_table(tmp_path / "index.parquet").to_pylist()
    assert sorted(row["language"] for row in table) == sorted(text.languages())
    assert {row["shard"] for row in table} == {"train/train-s0-balanced-00000.tar"}
    # Whoever is asked for by name is who they were in that set, and seeds give elsewhere what they always gave.
    some = table[4]
    person = clip.ClipMaker(asset, frames=6, pairs=1, balanced=True, person=PersonNumber.parse(some["identity"]))
    assert person.person.language == some["language"] and person.person.voice.variant == some["voice"]
    assert main([*command, "1"]) == 0
    assert ClipDataset(tmp_path / "train").info(0)["language"] == maker.make(0, "train", 0).info["language"]


def test_other_programs_read_the_tars(maker, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="another reader")
    from mcdm_core.data.synthetic.render import clip_tensors
    from mcdm_core.data.tar_shards import TarWriter

    clip = maker.make(1, "test", 0)
    with TarWriter(tmp_path / "a.tar") as writer:
        writer.add(clip_tensors(clip), clip.info)
    (sample,) = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode()
    assert {"mp4", "flac", "npz", "json"} <= set(sample) and sample["json"]["frames"] == 6
    np.testing.assert_array_equal(sample["npz"]["landmarks"], clip.landmarks)
