"""One person in many clips: who it is stays, what is said and seen around it changes, and nobody else is mixed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcdm_core.__main__ import main
from mcdm_core.data.shards import ClipDataset
from mcdm_core.data.synthetic.people import head_asset
from mcdm_core.data.synthetic.person import PersonNumber
from mcdm_core.errors import MCDMError

ANNA = PersonNumber(5, "train", 2)


@pytest.fixture(scope="module")
def makers(maker, asset: head_asset.HeadAsset) -> dict[str, object]:
    """Makers of two people's clips; ``maker`` is asked for what it skips without."""
    from mcdm_core.data.synthetic.clip import ClipMaker

    people = {"anna": ANNA, "ben": PersonNumber.parse("6")}
    return {name: ClipMaker(asset, frames=6, pairs=1, person=number) for name, number in people.items()}


def test_a_person_has_a_name_or_a_number() -> None:
    assert PersonNumber.parse("synthetic-5-train-2") == ANNA and str(ANNA) == "synthetic-5-train-2"
    assert PersonNumber.parse("7") == PersonNumber(7, "test", 0)
    for wrong in ("anna", "synthetic-5-other-2", "-1", "1.5", "", "synthetic-5-train-2-", "\u0667"):
        with pytest.raises(MCDMError, match="expected a number from 0 on"):
            PersonNumber.parse(wrong)


def test_clips_without_a_person_are_drawn_as_ever(maker, asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.clip import FPS, random_speech
    from mcdm_core.data.synthetic.graphics.rig import Rig
    from mcdm_core.data.synthetic.graphics.scene import random_camera
    from mcdm_core.data.synthetic.motion import random_motion
    from mcdm_core.data.synthetic.people.identity import random_identity

    clip, rng = maker.make(3, "val", 1), np.random.default_rng([3, 1, 1])
    identity = random_identity(asset, rng)
    speech = random_speech("val", identity, 6, rng)
    motion = random_motion(asset, speech.phonemes, speech.audio, 6, FPS, rng, speech.moods)
    camera = random_camera(rng, identity.centre, identity.scale)
    rig = Rig(maker.parts, identity)
    assert clip.info["sentence"] == speech.sentence and clip.info["identity"] == "synthetic-3-val-1"
    np.testing.assert_array_equal(clip.actions, motion.actions.astype(np.float16))
    np.testing.assert_array_equal(clip.pose, np.stack([rig.pose(head, camera) for head in motion.head]))


def test_a_person_is_the_same_in_all_clips_and_says_other_things(makers) -> None:
    anna = makers["anna"]
    clips = [anna.make(0, split, index) for split, index in (("train", 0), ("train", 1), ("val", 0))]
    again = anna.make(0, "train", 0)
    np.testing.assert_array_equal(clips[0].frames, again.frames)
    for name in ("identity", "language", "voice", "engine"):
        assert len({str(clip.info[name]) for clip in clips}) == 1, name
    assert clips[0].info["identity"] == str(ANNA)
    assert len({clip.info["sentence"] for clip in clips}) == 3
    assert clips[2].info["split"] == "val"
    # Light, camera and background differ, so do the frames; and each clip moves in its own way.
    means = [clip.frames.astype(int) for clip in clips]
    assert min(np.abs(means[a] - means[b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))) > 5
    assert not np.allclose(clips[0].pose, clips[1].pose, atol=0.01)


def test_what_is_drawn_is_the_same_head_and_skin(makers, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcdm_core.data.synthetic import clip as module

    rigs = []

    class NotedRig(module.Rig):
        def __init__(self, parts, identity) -> None:
            rigs.append(identity)
            super().__init__(parts, identity)

    monkeypatch.setattr(module, "Rig", NotedRig)
    for seed, split in ((0, "train"), (1, "test")):
        makers["anna"].make(seed, split, 4)
    makers["ben"].make(0, "train", 4)
    first, second, other = rigs
    assert first is second
    np.testing.assert_array_equal(first.vertices, second.vertices)
    assert np.abs(first.vertices - other.vertices).max() > 0.001 and not np.array_equal(first.skin, other.skin)


def test_the_person_is_that_of_the_clip_of_the_name(maker, makers, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcdm_core.data.synthetic import clip as module

    drawn, draw = [], module.random_identity

    def noted(*arguments):
        drawn.append(draw(*arguments))
        return drawn[-1]

    monkeypatch.setattr(module, "random_identity", noted)
    clip, person = maker.make(ANNA.seed, ANNA.split, ANNA.clip), makers["anna"].person
    np.testing.assert_array_equal(drawn[0].vertices, person.identity.vertices)
    assert clip.info["identity"] == str(person.number)
    assert (clip.info["language"], clip.info["voice"]) == (person.language, person.voice.variant)


def test_a_manner_of_moving_is_kept(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.motion import Manner, random_motion
    from mcdm_core.data.synthetic.speech.speech import Phoneme

    phonemes = [Phoneme("a", 0.2 * i, 0.2 * i + 0.18) for i in range(15)]
    audio = np.sin(np.arange(48000) / 20).astype(np.float32)

    def moved(articulation: float, liveliness: float) -> tuple[float, float]:
        manner = Manner(articulation, liveliness, False, 0.0)
        motion = random_motion(asset, phonemes, audio, 75, 25, np.random.default_rng(4), manner=manner)
        assert motion.manner == manner
        return float(motion.lips.max()), float(np.abs(np.diff(motion.head[:, 0])).mean())

    (little, still), (much, lively) = moved(0.4, 0.3), moved(0.8, 1.5)
    assert much > 1.5 * little and lively > 3 * still
    drawn = {random_motion(asset, [], audio, 25, 25, np.random.default_rng(seed)).manner for seed in range(3)}
    assert len(drawn) == 3


def test_render_data_renders_one_person(maker, makers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    from mcdm_core.data.synthetic import render

    monkeypatch.setattr(render, "CLIPS_PER_SHARD", 1)
    monkeypatch.setitem(render._MAKERS, "None, synthetic-5-train-2", makers["anna"])
    command = ["render-data", str(tmp_path), "--clips", "2", "--val-clips", "1", "--test-clips", "0", "--workers", "1"]
    assert main([*command, "--person", str(ANNA)]) == 0
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*"))
    assert names == [
        "train/train-s0-synthetic-5-train-2-00000.safetensors",
        "train/train-s0-synthetic-5-train-2-00001.safetensors",
        "val/val-s0-synthetic-5-train-2-00000.safetensors",
    ]
    clips = [ClipDataset(tmp_path / split).info(0) for split in ("train", "val")]
    assert {info["identity"] for info in clips} == {str(ANNA)}
    capsys.readouterr()
    # Another person's clips do not go where these are, nor these where others are.
    assert main([*command, "--person", "6"]) == 1
    assert "has clips of others than synthetic-6-test-0" in capsys.readouterr().err
    monkeypatch.setitem(render._MAKERS, "None", maker)
    render.render(tmp_path / "all", clips=1, workers=1)
    with pytest.raises(MCDMError, match="has clips of others"):
        render.render(tmp_path / "all", clips=1, workers=1, person=ANNA)


def test_render_data_says_which_person_it_cannot_render(tmp_path: Path, capsys) -> None:
    assert main(["render-data", str(tmp_path), "--person", "anna"]) == 1
    assert "'anna' is no synthetic person: expected a number from 0 on" in capsys.readouterr().err
    assert main(["render-data", str(tmp_path), "--person", "1", "--speech-only"]) == 1
    assert "--person goes not with --speech-only" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
