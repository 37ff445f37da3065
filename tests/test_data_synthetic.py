"""Synthetic clips: text, voices and visemes without the head model; rendered clips where anny and espeak-ng exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcdm_core.models.landmarks import MIRROR

pytest.importorskip("scipy", reason="the synthetic data need scipy")

from mcdm_core.data.synthetic import head_asset, speech, text, visemes  # noqa: E402


def test_ten_languages_with_disjoint_main_clauses() -> None:
    assert set(text.languages()) == {"de", "pl", "ru", "fr", "hr", "zh", "ar", "en", "th", "es"}
    for language in text.languages():
        groups = [set(text.main_clauses(language, split)) for split in text.SPLITS]
        assert all(groups)
        assert len(set.union(*groups)) == sum(map(len, groups))


def test_every_split_has_its_own_voices() -> None:
    for male in (True, False):
        groups = [set(speech.variants(split, male)) for split in text.SPLITS]
        assert all(groups)
        assert len(set.union(*groups)) == sum(map(len, groups))


def test_sentence_contains_a_clause_of_its_split() -> None:
    rng = np.random.default_rng(0)
    for language in text.languages():
        sentence = text.random_sentence(language, "val", rng)
        assert any(clause in sentence for clause in text.main_clauses(language, "val"))


@pytest.mark.parametrize(
    ("phoneme", "expected"),
    [
        ("m", ["PP"]),
        ("b", ["PP"]),
        ("f", ["FF"]),
        ("t\u0283", ["DD", "CH"]),
        ("a\u026a", ["aa", "I"]),
        ("", ["sil"]),
        ("\u0254\u0303", ["O"]),
        ("\u00e7", ["CH"]),
    ],
)
def test_visemes_of_phonemes(phoneme: str, expected: list[str]) -> None:
    assert visemes.visemes_of(phoneme) == expected


def test_phonemes_follow_each_other_inside_the_sound() -> None:
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    voice = speech.Voice("f2", 160, 50, 50, 1.06, 0.0, 0.0, 0.0, 0.5)
    audio, phonemes = speech.speak("Mama buys a big map.", "en-us", voice)
    assert audio.dtype == np.float32 and 0.5 < len(audio) / speech.SAMPLE_RATE < 5
    assert all(a.end <= b.start + 1e-6 for a, b in zip(phonemes, phonemes[1:], strict=False))
    assert phonemes[-1].end <= len(audio) / speech.SAMPLE_RATE + 0.01
    assert sum(visemes.visemes_of(p.symbol) == ["PP"] for p in phonemes) >= 5
    # Speech is louder inside the phonemes than in the pauses.
    coloured = speech.colour(audio, voice, np.random.default_rng(0))
    assert coloured.dtype == np.int16 and coloured.shape == audio.shape


@pytest.fixture(scope="module")
def asset() -> head_asset.HeadAsset:
    pytest.importorskip("numba", reason="the renderer needs numba")
    path = head_asset.default_cache()
    if not path.is_file():
        pytest.skip("the head model is not built yet: run a synthetic render once (needs anny)")
    return head_asset.load_head_asset(path)


@pytest.fixture(scope="module")
def maker(asset: head_asset.HeadAsset):
    if not speech.available():
        pytest.skip("espeak-ng's library is not installed")
    pytest.importorskip("pypinyin", reason="Chinese text needs pypinyin")
    from mcdm_core.data.synthetic.clip import ClipMaker

    return ClipMaker(asset, frames=6, pairs=1)


def test_landmark_vertices_are_distinct_and_symmetric(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.landmark_points import landmark_vertices

    vertices = landmark_vertices(asset)
    points = asset.template[vertices]
    assert len(set(vertices.tolist())) == 68
    np.testing.assert_allclose(points[list(MIRROR)], points * [-1, 1, 1], atol=1e-4)


def test_lips_meet_at_rest_and_bilabials_close_them(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.identity import random_identity
    from mcdm_core.data.synthetic.labels import lip_geometry
    from mcdm_core.data.synthetic.rig import Rig, RigParts

    parts, matrix = RigParts(asset), visemes.viseme_matrix(asset)
    for seed in range(3):
        rig = Rig(parts, random_identity(asset, np.random.default_rng(seed)))
        gaps = {
            name: lip_geometry(rig.unposed(matrix[visemes.VISEMES.index(name)])[rig.landmark_ids])[0]
            for name in ("sil", "PP", "aa")
        }
        assert gaps["PP"] < 0 and gaps["sil"] < 0.03 and gaps["aa"] > 0.18


def test_bilabials_close_the_lips_in_running_speech(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.motion import random_motion

    phonemes = [speech.Phoneme(s, 0.12 * i, 0.12 * (i + 1)) for i, s in enumerate("apamaba")]
    audio = np.sin(np.arange(16000) * 0.05).astype(np.float32) * 0.3
    motion = random_motion(asset, phonemes, audio, 25, 25, np.random.default_rng(0))
    jaw = motion.lips[:, asset.action("jawOpen")]
    closed = motion.closure > 0.8
    assert closed.sum() >= 3
    assert jaw[closed].max() < 0.15 < jaw[motion.closure < 0.1].max()


def test_clip_is_decided_by_seed_and_index(maker) -> None:
    # Another clip in between: nothing may be carried over.
    first, other, again = (maker.make(3, split, 0) for split in ("train", "val", "train"))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.audio, again.audio)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert first.info == again.info
    assert first.info["identity"] != other.info["identity"]
    assert np.abs(first.frames.astype(int) - other.frames.astype(int)).mean() > 5


def test_clip_fills_a_shard(maker, tmp_path: Path) -> None:
    from mcdm_core.data.shards import ClipDataset, ShardWriter
    from mcdm_core.data.synthetic.render import clip_tensors

    clip = maker.make(1, "test", 0)
    with ShardWriter(tmp_path / "a.safetensors") as writer:
        writer.add(clip_tensors(clip), clip.info)
    sample = ClipDataset(tmp_path)[0]
    assert sample["frames"].shape == (6, 128, 128, 3) and sample["audio"].shape == (6 * 640,)
    assert sample["pairs"].shape == (1, 4, 128, 128, 3)
    lips = sample["landmarks"][:, :20]
    assert (lips > 0.1).all() and (lips < 0.95).all()


def test_codec_pairs_swap_lips_and_expression(maker) -> None:
    clip = maker.make(2, "train", 5)
    values = clip.pair_values[0]
    expression = [6, 7, 8, 10, 11, 12, 13]
    np.testing.assert_allclose(values[0][expression], values[1][expression], atol=1e-5)
    np.testing.assert_allclose(values[2][expression], values[3][expression], atol=1e-5)
    protrusion = values[:, 2]
    np.testing.assert_allclose(protrusion[[0, 1]], protrusion[[2, 3]], atol=1e-5)


def test_pose_of_a_turn_moves_the_nose(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.identity import random_identity
    from mcdm_core.data.synthetic.rig import Rig, RigParts
    from mcdm_core.data.synthetic.scene import random_camera

    identity = random_identity(asset, np.random.default_rng(0))
    rig, still = Rig(RigParts(asset), identity), np.zeros(52, np.float32)
    camera = random_camera(np.random.default_rng(0), identity.centre, identity.scale)

    def nose(**angles: float) -> np.ndarray:
        head = np.array([angles.get(k, 0.0) for k in ("yaw", "pitch", "roll")] + [0.0, 0.0, 0.0])
        points = rig.landmarks(rig.posed(rig.unposed(still), head)[0], camera)
        return points[48] - points[[20, 28]].mean(axis=0)

    assert nose(yaw=0.3)[0] > nose()[0] + 0.02
    assert nose(pitch=0.3)[1] < nose()[1] - 0.01
    assert nose(roll=0.3)[0] < nose()[0] - 0.02
