"""Synthetic clips: text, voices and visemes without the head model; rendered clips where anny and espeak-ng exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcdm_core.face.landmarks import MIRROR

pytest.importorskip("scipy", reason="the synthetic data need scipy")

from mcdm_core.data.synthetic.people import head_asset, visemes  # noqa: E402
from mcdm_core.data.synthetic.speech import flite, speech, text, voice_variants


def test_ten_languages_whose_splits_share_no_phrase() -> None:
    assert set(text.languages()) == {"de", "pl", "ru", "fr", "hr", "zh", "ar", "en", "th", "es"}
    for language in text.languages():
        groups = [{p for k in text.PHRASE_KINDS for p in text.phrases(language, s, k)} for s in text.SPLITS]
        assert all(len(g) >= 2 * len(text.PHRASE_KINDS) for g in groups)
        assert len(set.union(*groups)) == sum(map(len, groups))
        assert len(groups[0]) >= 40


def test_sentences_are_many_and_every_language_is_heard() -> None:
    rng = np.random.default_rng(0)
    drawn = [text.random_language(rng) for _ in range(2000)]
    assert set(drawn) == set(text.languages())
    assert 0.3 < drawn.count("en") / len(drawn) < 0.4
    for language in text.languages():
        assert len({text.random_sentence(language, "train", rng) for _ in range(200)}) > 150


def test_commands_are_for_training_alone() -> None:
    rng = np.random.default_rng(0)
    verbs, colours = {"bin", "lay", "place", "set"}, {"blue", "green", "red", "white"}

    def commands(split: str) -> int:
        words = (text.random_sentence("en", split, rng).split() for _ in range(300))
        return sum(w[0] in verbs and w[1] in colours and len(w) == 6 for w in words)

    assert commands("train") > 50
    assert commands("val") == commands("test") == 0


def test_every_split_has_its_own_voices() -> None:
    for male in (True, False):
        groups = [set(speech.variants(split, male)) for split in text.SPLITS]
        assert all(groups)
        assert len(set.union(*groups)) == sum(map(len, groups))


def test_only_training_voices_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = {split: [bool(speech.random_voice(split, True, rng).recipe) for _ in range(60)] for split in text.SPLITS}
    assert 10 < sum(drawn["train"]) < 50
    assert not any(drawn["val"] + drawn["test"])


def test_drawn_variants_are_men_or_women_and_repeatable() -> None:
    def pitch(male: bool, seed: int) -> float:
        return float(voice_variants.random_variant(male, np.random.default_rng(seed)).split("pitch ")[1].split()[0])

    assert max(pitch(True, seed) for seed in range(40)) < min(pitch(False, seed) for seed in range(40))
    same = [voice_variants.random_variant(True, np.random.default_rng(3)) for _ in range(2)]
    assert same[0] == same[1] and same[0].count("\nformant ") == 9


def test_a_drawn_voice_speaks_like_no_other_and_the_same_again() -> None:
    if not speech.available():
        pytest.skip("espeak-ng is not installed")
    recipes = [voice_variants.random_variant(True, np.random.default_rng(seed)) for seed in (0, 1)]
    voices = [speech.Voice("drawn", 160, 50, 50, 1.0, 0.0, 0.0, 0.0, 0.5, recipe=recipe) for recipe in recipes]
    first, other, again = (speech.speak("Guten Abend.", "de", voice)[0] for voice in (*voices, voices[0]))
    np.testing.assert_array_equal(first, again)
    length = min(len(first), len(other))
    assert np.abs(first[:length] - other[:length]).mean() > 0.1 * np.abs(first).mean()
    _, marks = speech.speak("Guten Abend.", "de", voices[1])
    assert [p.symbol for p in marks if p.symbol]


def test_linked_data_hold_the_installed_voices_and_room_for_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_variants, "default_cache", lambda: tmp_path / "cache" / "head.npz")
    installed = tmp_path / "espeak-ng-data"
    (installed / "voices" / "!v").mkdir(parents=True)
    (installed / "voices" / "!v" / "Annie").write_text("language variant")
    (installed / "de_dict").write_text("words")
    for _ in range(2):
        root = voice_variants.linked_data(installed)
    name = voice_variants.write_variant(root, "language variant")
    data = root / "espeak-ng-data"
    assert (data / "de_dict").read_text() == "words"
    assert {p.name for p in (data / "voices" / "!v").iterdir()} == {"Annie", name}
    assert [p.name for p in (installed / "voices" / "!v").iterdir()] == ["Annie"]


def test_every_split_has_its_own_flite_voices() -> None:
    groups = [{v for male in (True, False) for v in flite.voices(split, male)} for split in text.SPLITS]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_flite_reports_the_sounds_it_speaks() -> None:
    if not flite.available():
        pytest.skip("flite is not installed")
    voice = speech.Voice("slt", 160, 50, 50, 1.0, 0.0, 0.0, 0.0, 0.5, engine="flite")
    audio, phonemes = speech.speak("Mama buys a big map.", "en-us", voice)
    assert sum(visemes.visemes_of(p.symbol) == ["PP"] for p in phonemes) >= 5
    assert all(a.end <= b.start + 1e-6 for a, b in zip(phonemes, phonemes[1:], strict=False))
    assert phonemes[-1].end <= len(audio) / speech.SAMPLE_RATE + 0.05
    assert all(p.symbol == "" or visemes.visemes_of(p.symbol) != ["sil"] for p in phonemes)
    again, _ = speech.speak("Mama buys a big map.", "en-us", voice)
    np.testing.assert_array_equal(audio, again)


def test_without_flite_espeak_speaks_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flite, "available", lambda: False)
    rng = np.random.default_rng(0)
    assert {speech.random_voice("train", True, rng, "en").engine for _ in range(20)} == {"espeak-ng"}


def test_sound_keeps_its_timing_when_it_is_coloured() -> None:
    click = np.zeros(16000, np.float32)
    click[8000] = 1.0
    voice = speech.Voice("f2", 160, 50, 50, 1.0, 0.0, 0.0, 1e-4, 0.5, equalizer=(6, -6, 3, 0, -8, 4), cutoff=3500.0)
    coloured = speech.colour(click, voice, np.random.default_rng(0))
    assert abs(int(np.abs(coloured.astype(int)).argmax()) - 8000) <= 1


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
    from mcdm_core.data.synthetic.people.landmark_points import landmark_vertices

    vertices = landmark_vertices(asset)
    points = asset.template[vertices]
    assert len(set(vertices.tolist())) == 68
    np.testing.assert_allclose(points[list(MIRROR)], points * [-1, 1, 1], atol=1e-4)


def test_lips_meet_at_rest_and_bilabials_close_them(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.graphics.rig import Rig, RigParts
    from mcdm_core.data.synthetic.labels import lip_geometry
    from mcdm_core.data.synthetic.people.identity import random_identity

    parts, matrix = RigParts(asset), visemes.viseme_matrix(asset)
    for seed in range(3):
        rig = Rig(parts, random_identity(asset, np.random.default_rng(seed)))
        gaps = {
            name: lip_geometry(rig.unposed(matrix[visemes.VISEMES.index(name)])[rig.landmark_ids])[0]
            for name in ("sil", "PP", "aa")
        }
        assert gaps["PP"] < 0 and gaps["sil"] < 0.03 and gaps["aa"] > 0.18


def test_identities_stay_plausible(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.people.identity import _MOST_SPREAD, _share_left, random_identity

    names = ["nose-a-incr", "nose-b-incr", "chin-c-incr"]
    draws = np.array([1.7, -1.7, 0.1])
    bounded = draws * _share_left(names, draws)
    assert np.sqrt((bounded[:2] ** 2).mean()) <= _MOST_SPREAD + 1e-6 and bounded[2] == draws[2]
    people = [random_identity(asset, np.random.default_rng(seed)) for seed in range(12)]
    assert all(p.goatee == 0 for p in people if not p.male)
    face = (asset.vertex_part == head_asset.SKIN) & (asset.template[:, 1] < -0.10)
    spread = np.stack([(p.vertices[face] - p.centre) / p.scale for p in people]).std(axis=0)
    assert 0.001 < spread.mean() < 0.01  # eyes and chin are 0.118 apart


def test_blinks_shut_the_eyes_and_are_recorded(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.labels import facial_values
    from mcdm_core.data.synthetic.motion import random_motion

    blinking, silence = 0, np.zeros(48000, np.float32)
    for seed in range(10):
        motion = random_motion(asset, [], silence, 75, 25, np.random.default_rng(seed))
        values = facial_values(asset, motion.actions, np.zeros((75, 2)), np.zeros(2))
        np.testing.assert_allclose(values[:, 6], motion.actions[:, asset.action("eyeBlinkLeft")])
        blinking += bool((values[:, 6:8].min(axis=1) > 0.9).any())
        assert motion.expression_weights.shape == (75, 8) and motion.expression_weights.min() >= 0
    assert blinking >= 7


def test_bilabials_close_the_lips_in_running_speech(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.motion import random_motion

    phonemes = [speech.Phoneme(s, 0.12 * i, 0.12 * (i + 1)) for i, s in enumerate("apamaba")]
    audio = np.sin(np.arange(16000) * 0.05).astype(np.float32) * 0.3
    motion = random_motion(asset, phonemes, audio, 25, 25, np.random.default_rng(0))
    jaw = motion.lips[:, asset.action("jawOpen")]
    closed = motion.closure > 0.8
    assert closed.sum() >= 3
    assert jaw[closed].max() < 0.15 < jaw[motion.closure < 0.1].max()


def test_pauses_are_where_nothing_is_said() -> None:
    from mcdm_core.data.synthetic.motion import pauses_between

    said = [("a", -0.2, 0.3), ("", 0.3, 0.6), ("t", 0.6, 0.65), ("", 0.65, 0.7), ("a", 0.7, 1.0), ("o", 1.4, 2.0)]
    pauses = pauses_between([speech.Phoneme(*p) for p in said], 3.0)
    assert [(round(a, 3), round(min(b, 3.0), 3)) for a, b in pauses] == [(0.3, 0.6), (1.0, 1.4), (2.0, 3.0)]
    assert pauses_between([speech.Phoneme("a", -0.1, 2.0)], 2.0) == []


def test_blinks_come_with_pauses() -> None:
    from mcdm_core.data.synthetic.people.eyes import blink_times

    rng = np.random.default_rng(0)
    pauses = [(0.8, 1.1), (2.0, 2.3)]
    near, all_of_them = 0, 0
    for _ in range(200):
        times = blink_times(pauses, 3.0, False, rng)
        assert (np.diff(times) > 0.5).all()
        near += sum(any(a <= t <= b for a, b in pauses) for t in times)
        all_of_them += len(times)
    assert near > 0.75 * all_of_them and near > 300
    spread = np.concatenate([blink_times(pauses, 3.0, True, rng) for _ in range(200)])
    assert sum(any(a <= t <= b for a, b in pauses) for t in spread) < 0.35 * len(spread)


def test_eyes_stay_on_the_camera_while_the_head_turns(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.labels import facial_values
    from mcdm_core.data.synthetic.people.eyes import add_gaze

    head = np.zeros((400, 6))
    head[:, 0], head[:, 1] = np.linspace(-0.3, 0.3, 400), np.linspace(0.1, -0.1, 400)
    for seed in range(5):
        actions = np.zeros((400, 52), np.float32)
        add_gaze(asset, actions, 200.0, head, [], False, np.random.default_rng(seed))
        gaze = facial_values(asset, actions, np.zeros((400, 2)), np.zeros(2))[:, 12:14]
        assert np.corrcoef(gaze[:, 0], -head[:, 0])[0, 1] > 0.99
        assert np.corrcoef(gaze[:, 1], -head[:, 1])[0, 1] > 0.99


def test_moods_are_heard_and_mostly_last() -> None:
    from mcdm_core.data.synthetic.speech import moods

    rng = np.random.default_rng(0)
    voice = speech.Voice("f2", 160, 50, 50, 1.0, 0.0, 0.0, 0.0, 0.5)
    happy, sad, calm = (moods.voice_in_mood(voice, moods.Mood(n, 1.0, 0.0)) for n in ("happy", "sad", "neutral"))
    assert calm == voice
    assert happy.pitch > voice.pitch > sad.pitch and happy.words_per_minute > 160 > sad.words_per_minute
    sound = rng.normal(0, 0.1, 16000).astype(np.float32)
    loud = {n: moods.sound_in_mood(sound, moods.Mood(n, 1.0, 0.0)) for n in ("neutral", "angry", "sad")}
    np.testing.assert_array_equal(loud["neutral"], sound)
    assert loud["angry"].std() > sound.std() > loud["sad"].std()
    mood, kept = moods.next_mood(None, 0.0, rng), 0
    for number in range(300):
        after = moods.next_mood(mood, number + 1.0, rng)
        kept += after.name == mood.name
        mood = after
    assert 0.7 < kept / 300 < 0.92 and mood.start == 300.0


def test_expressions_are_the_moods_and_swell_with_the_voice(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.motion import random_motion
    from mcdm_core.data.synthetic.people.expressions import EXPRESSIONS
    from mcdm_core.data.synthetic.speech.moods import Mood

    time = np.arange(48000) / 16000
    audio = (np.sin(time * 800) * 0.3 * (time < 1.5)).astype(np.float32)
    moods = [Mood("happy", 0.8, -1.0), Mood("sad", 0.6, 2.2)]
    for seed in range(4):
        weights = random_motion(asset, [], audio, 75, 25, np.random.default_rng(seed), moods).expression_weights
        happy, sad = weights[:, EXPRESSIONS.index("happy")], weights[:, EXPRESSIONS.index("sad")]
        assert happy[20] > 0.7 > happy[45] > 0.5 and sad[70] > 0.3
        assert happy[20] > happy[70] + 0.3 and sad[70] > sad[20]


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
    assert sample["frames"].shape == (6, 128, 128, 3) and sample["audio"].shape == (6 * 640,)
    assert sample["pairs"].shape == (1, 4, 128, 128, 3)
    lips = sample["landmarks"][:, :20]
    assert (lips > 0.1).all() and (lips < 0.95).all()


def test_spoken_clips_have_lips_that_follow_their_sound(maker, asset: head_asset.HeadAsset, tmp_path: Path) -> None:
    from mcdm_core.data.synthetic.render import render_speech
    from mcdm_core.training.motion_clips import iterate_clips

    audio, values, _ = maker.speak(0, "train", 3)
    assert audio.shape == (6 * 640,) and audio.dtype == np.int16 and values.shape == (6, 16)
    assert (audio != maker.speak(0, "train", 4)[0]).any()
    (path,) = render_speech(tmp_path, 3, seed=1, workers=1)
    clips = list(iterate_clips(tmp_path))
    assert len(clips) == 3 and clips[0]["audio"].shape == (48000,) and clips[0]["values"].shape == (75, 16)
    before = path.stat().st_mtime_ns
    assert render_speech(tmp_path, 3, seed=1, workers=1) == [path] and path.stat().st_mtime_ns == before
    # Open lips are loud, and the same number gives the same clip.
    loud = np.concatenate([np.abs(c["audio"].astype(float)).reshape(75, 640).mean(1) for c in clips])
    assert np.corrcoef(loud, np.concatenate([c["values"][:, 0] for c in clips]))[0, 1] > 0.2
    path.unlink()
    render_speech(tmp_path, 3, seed=1, workers=1)
    np.testing.assert_array_equal(next(iterate_clips(tmp_path))["audio"], clips[0]["audio"])


def test_codec_pairs_swap_lips_and_expression(maker) -> None:
    clip = maker.make(2, "train", 5)
    values = clip.pair_values[0]
    expression = [6, 7, 8, 10, 11, 12, 13]
    np.testing.assert_allclose(values[0][expression], values[1][expression], atol=1e-5)
    np.testing.assert_allclose(values[2][expression], values[3][expression], atol=1e-5)
    protrusion = values[:, 2]
    np.testing.assert_allclose(protrusion[[0, 1]], protrusion[[2, 3]], atol=1e-5)


def test_pose_of_a_turn_moves_the_nose(asset: head_asset.HeadAsset) -> None:
    from mcdm_core.data.synthetic.graphics.rig import Rig, RigParts
    from mcdm_core.data.synthetic.graphics.scene import random_camera
    from mcdm_core.data.synthetic.people.identity import random_identity

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
