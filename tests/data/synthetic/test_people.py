"""Synthetic people: head, identities, lips, eyes, expressions."""

from __future__ import annotations

import numpy as np

from mcdm_core.data.synthetic.people import head_asset, visemes
from mcdm_core.data.synthetic.speech import speech
from mcdm_core.face.landmarks import MIRROR


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
