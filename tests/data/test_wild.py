"""Curation of raw video: each check on material that has or lacks the fault, selection, shards and the whole."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core import checkpoint
from mcdm_core.checkpoint import load_weights, save_checkpoint
from mcdm_core.data.wild import curate
from mcdm_core.data.wild.manifest import Source, list_sources
from mcdm_core.data.wild.picture import average, measure_face, picture_fault
from mcdm_core.data.wild.selection import mark_duplicates, split_of
from mcdm_core.data.wild.settings import CurateSettings
from mcdm_core.data.wild.shards import shard_names, write_shard
from mcdm_core.data.wild.sound import (
    lag_and_strength,
    loudness_db,
    pooled_curve,
    sound_signature,
    speech_share,
    sync_curve,
    sync_fault,
    told_opening,
    voice_encoder_of,
)
from mcdm_core.data.wild.source import probe, read_frames, read_sound, split_shots
from mcdm_core.data.wild.track import FaceTrack, face_fault, smooth_squares
from mcdm_core.errors import MediaError
from mcdm_core.pipeline import preset_weights
from mcdm_core.published.clip_judges import JudgeFiles

SETTINGS = CurateSettings()


def write_video(path: Path, times: list[int], frame, audio: np.ndarray | None = None, late: int = 0) -> None:
    """A video with frames ``frame(k)`` at ``times`` (ms), and sound at 16 kHz that begins ``late`` samples late."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"crf": "1"}
        stream.codec_context.time_base = Fraction(1, 1000)
        track = None if audio is None else container.add_stream("aac", rate=16_000, layout="mono")
        for k, time in enumerate(times):
            picture = av.VideoFrame.from_ndarray(frame(k), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio is not None:
            for start in range(0, len(audio) - 1023, 1024):
                block = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = 16_000, start + late, Fraction(1, 16_000)
                container.mux(track.encode(block))
            container.mux(track.encode(None))


def grey(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


def test_a_variable_rate_is_evened_out(tmp_path: Path) -> None:
    """Levels tell the time: of a frame at t ms the level is t / 10."""
    times = [0, 30, 200, 240, 400, 900, 960]
    write_video(tmp_path / "v.mp4", times, lambda k: grey(times[k] // 10))
    facts = probe(tmp_path / "v.mp4")
    assert (facts.width, facts.height, facts.has_sound) == (64, 48, False)
    levels = [float(frame.mean()) for frame in read_frames(tmp_path / "v.mp4", facts, 25, end=0.96)]
    wanted = [max(t for t in times if t <= 20 + 40 * k) / 10 for k in range(24)]
    assert np.abs(np.array(levels) - wanted).max() < 2.0
    part = [float(frame.mean()) for frame in read_frames(tmp_path / "v.mp4", facts, 25, begin=0.4, end=0.8)]
    assert np.abs(np.array(part) - wanted[10:20]).max() < 2.0


def test_sound_that_begins_late_stays_late(tmp_path: Path) -> None:
    click = np.zeros(16_000, np.int16)
    click[8000:8100] = 20_000
    write_video(tmp_path / "v.mp4", list(range(0, 1000, 40)), lambda k: grey(90), click, late=4096)
    sound = read_sound(tmp_path / "v.mp4", probe(tmp_path / "v.mp4"))
    assert abs(int(sound.abs().argmax()) - (8050 + 4096)) < 200


def test_a_broken_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(MediaError, match="broken.mp4"):
        probe(tmp_path / "broken.mp4")


def test_pictures_that_change_size_are_shown_at_the_first_ones(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sizes.ts"
    with path.open("wb") as file:
        for width, height in ((64, 48), (128, 96)):
            piece = tmp_path / f"{width}.ts"
            with av.open(str(piece), "w") as container:
                stream = container.add_stream("libx264", rate=25)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for _ in range(20):
                    pixels = np.full((height, width, 3), width, np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode(None))
            file.write(piece.read_bytes())
    frames = list(read_frames(path, probe(path), 25))
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert {round(float(frame.mean()) / 64) for frame in frames} == {1, 2}, "frames of both sizes"


def test_shots_are_cut_into_equal_clips() -> None:
    assert split_shots([0, 10, 85], 25, 2.0) == [(0.0, 0.4), (0.4, 1.88), (1.88, 3.4)]


def test_cuts_are_found(tmp_path: Path) -> None:
    pytest.importorskip("scenedetect", reason="cuts need PySceneDetect")
    from mcdm_core.data.wild.source import find_shots

    random = np.random.default_rng(0)
    scenes = [random.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(3)]
    write_video(tmp_path / "v.mp4", list(range(0, 6000, 40)), lambda k: scenes[k // 50])
    assert find_shots(tmp_path / "v.mp4", probe(tmp_path / "v.mp4"), SETTINGS) == [(0, 2), (2, 4), (4, 5.96)]


def track_of(squares: np.ndarray, confidence: float = 1.0, several: int = 0, luma: float = 90.0) -> FaceTrack:
    return FaceTrack(squares.astype(np.float32), np.full(len(squares), confidence, np.float32), 10, several, luma)


def test_faults_of_a_face() -> None:
    steady = np.tile([320.0, 240.0, 200.0], (100, 1))
    assert face_fault(track_of(steady), 640, 480, SETTINGS)[0] == ""
    assert face_fault(track_of(steady, confidence=0.1), 640, 480, SETTINGS)[0] == "no face"
    assert face_fault(track_of(steady, confidence=0.1, luma=9.0), 640, 480, SETTINGS)[0] == "badly exposed"
    assert face_fault(track_of(steady, several=3), 640, 480, SETTINGS)[0] == "several faces"
    assert face_fault(track_of(steady * 0.5), 640, 480, SETTINGS)[0] == "too small"
    assert face_fault(track_of(steady + [290.0, 0, 0]), 640, 480, SETTINGS)[0] == "cut off"
    jump = steady.copy()
    jump[50:, 0] += 60
    assert face_fault(track_of(jump), 640, 480, SETTINGS)[0] == "jumping"


def test_the_square_is_fixed_for_a_steady_head_and_follows_a_walking_one() -> None:
    random = np.random.default_rng(0)
    steady = np.tile([320.0, 240.0, 200.0], (100, 1)) + random.normal(0, 3, (100, 3))
    assert np.ptp(smooth_squares(steady, 25, 0.15), axis=0).max() == 0
    walking = steady + np.linspace(0, 300, 100)[:, None] * [1, 0, 0]
    followed = smooth_squares(walking, 25, 0.15)
    assert np.ptp(followed[:, 2]) == 0 and np.abs(np.diff(followed[:, 0])).max() < 5
    half = 0.3 * walking[:, 2]
    assert (np.abs(walking[:, 0] - followed[:, 0]) + half < followed[:, 2] / 2).all()


def test_faults_of_a_picture() -> None:
    import cv2

    random = np.random.default_rng(0)
    noise = cv2.GaussianBlur(random.normal(0, 1, (200, 200)), (0, 0), 1.0) + cv2.GaussianBlur(
        random.normal(0, 40, (200, 200)), (0, 0), 12.0
    )
    face = np.repeat((120 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)[:, :, None], 3, 2)
    square = np.array([100, 100, 160], np.float32)

    def fault(picture: np.ndarray) -> str:
        return picture_fault(average([measure_face(picture, square)]), SETTINGS)

    assert fault(face) == ""
    assert fault(cv2.GaussianBlur(face, (0, 0), 4)) == "blurred"
    assert fault((face * 0.15).astype(np.uint8)) == "badly exposed"
    assert fault(np.clip(face.astype(int) + 120, 0, 255).astype(np.uint8)) == "badly exposed"
    blocks = face.reshape(25, 8, 25, 8, 3).mean((1, 3)).repeat(8, 0).repeat(8, 1) * 0.8 + face * 0.2
    assert measure_face(blocks.astype(np.uint8), square)["blockiness"] > 2.0 > measure_face(face, square)["blockiness"]


def test_a_clip_that_is_blurred_for_a_second_is_dropped() -> None:
    """Where the camera stays, the cut from sharp to blurred pictures may not be found."""
    sharp = {"sharpness": 2.0, "luma": 120.0, "clipped": 0.0, "blockiness": 1.0}
    blurred = sharp | {"sharpness": 1.3}
    assert picture_fault(average([sharp] * 30), SETTINGS) == ""
    assert picture_fault(average([*[sharp] * 20, *[blurred] * 6, *[sharp] * 4]), SETTINGS) == "blurred"
    shaken = [*[sharp] * 20, blurred, blurred, *[sharp] * 8]
    assert picture_fault(average(shaken), SETTINGS) == "", "a head that turns is blurred for less"


def speech_like(seconds: float, seed: int) -> torch.Tensor:
    """Noise whose loudness goes up and down like syllables do."""
    generator = torch.Generator().manual_seed(seed)
    count = round(seconds * 16_000)
    level = torch.randn(1, 1, round(seconds * 5) + 2, generator=generator)
    level = torch.nn.functional.interpolate(level, size=count, mode="linear")[0, 0]
    return torch.randn(count, generator=generator) * 0.1 * (1.5 * level).exp()


@pytest.mark.parametrize("frames", [-12, -5, 0, 5, 12])
def test_the_lag_of_the_lips_is_measured(frames: int) -> None:
    sound = speech_like(12.0, 0)
    from mcdm_core.media.audio import loudness

    opening = loudness(sound, 16_000, 25, 300).roll(frames) + torch.randn(300, generator=torch.manual_seed(1)) * 0.3
    curve = sync_curve(opening, sound, 25)
    lag, strength = lag_and_strength(curve, 25)
    assert lag == pytest.approx(frames / 25) and strength > 0.5
    assert sync_fault(curve, 12.0, SETTINGS) == ("out of step" if frames else "")
    wrong = lag_and_strength(sync_curve(opening, speech_like(12.0, 7), 25), 25)
    assert wrong[1] < strength - 0.2
    assert sync_fault(np.zeros(31), 12.0, SETTINGS) == "not the speaker"


@pytest.mark.skipif(not preset_weights("tiny").is_file(), reason="random weights know no lips")
@pytest.mark.parametrize("frames", [0, 5, -5])
def test_the_voice_tells_when_lips_open(frames: int, tmp_path: Path) -> None:
    from mcdm_core.media.audio import load_audio, to_mono_16k
    from mcdm_core.samples import default_voice

    voice = load_audio(default_voice())
    sound = to_mono_16k(voice.waveform, voice.sample_rate)[: 3 * 16_000]
    encoder = voice_encoder_of(load_weights(preset_weights("tiny")))
    assert encoder is not None
    opening = told_opening(encoder, sound, 25, 75)
    noise = torch.randn(75, generator=torch.manual_seed(2)) * 0.3 * opening.std()
    curve = sync_curve(opening.roll(frames) + noise, sound, 25, encoder)
    assert lag_and_strength(curve, 25)[0] == pytest.approx(frames / 25)
    # The loudness of real speech says it as well, if less surely: the two clocks must be the same.
    assert abs(lag_and_strength(sync_curve(opening.roll(frames), sound, 25), 25)[0] - frames / 25) < 0.1


def test_weights_without_an_audio_encoder_tell_no_lips(pipe, tmp_path: Path) -> None:
    states = {"face_network": pipe.model.states()["face_network"]}
    save_checkpoint(tmp_path / "face.safetensors", states, pipe.config)
    assert voice_encoder_of(load_weights(tmp_path / "face.safetensors")) is None


def test_the_weights_of_a_curation_are_read_once(pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {name: pipe.model.states()[name] for name in ("face_network", "audio_encoder")}
    save_checkpoint(tmp_path / "some.safetensors", states, pipe.config)
    read, load = [], checkpoint.load_checkpoint

    def counted(path: Path) -> checkpoint.Checkpoint:
        read.append(path)
        return load(path)

    monkeypatch.setattr(checkpoint, "load_checkpoint", counted)
    found = curate._networks(tmp_path / "some.safetensors", JudgeFiles())
    assert found.voice is not None and len(read) == 1


def test_a_short_clip_is_not_dropped_for_a_lag_that_it_hardly_tells() -> None:
    curve = np.full(31, 0.3)
    curve[22] = 0.4
    assert sync_fault(curve, 6.0, SETTINGS) == "" and sync_fault(curve, 30.0, SETTINGS) == "out of step"
    curve[22] = 0.9
    assert sync_fault(curve, 5.9, SETTINGS) == "" and sync_fault(curve, 6.0, SETTINGS) == "out of step"


def test_short_clips_tell_the_lag_together() -> None:
    from mcdm_core.media.audio import loudness

    sounds = [speech_like(2.0, seed) for seed in range(8)]
    curves = []
    for seed, sound in enumerate(sounds):
        noise = torch.randn(50, generator=torch.manual_seed(seed)) * 1.0
        curves.append(sync_curve(loudness(sound, 16_000, 25, 50).roll(4) + noise, sound, 25))
    assert lag_and_strength(pooled_curve(curves, [2.0] * 8), 25)[0] == pytest.approx(4 / 25)


def test_loudness_and_speech_shares() -> None:
    assert loudness_db(torch.full((1000,), 0.1)) == pytest.approx(-20, abs=0.01)
    assert loudness_db(torch.zeros(1000)) < -100
    assert speech_share([(0.5, 1.0), (3.5, 9.0)], 0.0, 4.0) == pytest.approx(0.25)


def record(key: str, source: str, sound: torch.Tensor, picture: int = 0, **more) -> dict:
    return {
        "key": key,
        "source": source,
        "begin": 0.0,
        "end": 2.0,
        "seconds": 2.0,
        "fault": "",
        "numbers": {"luma": 9.0},
        "identity": source,
        "sound_signature": sound_signature(sound).tobytes().hex(),
        "picture_signature": bytes([picture] * 32).hex(),
        **more,
    }


def test_copies_are_found_and_other_speech_of_the_same_person_is_none() -> None:
    sound = speech_like(4.0, 0)
    coded = sound + torch.randn(len(sound), generator=torch.manual_seed(3)) * 0.004
    records = [
        record("b-0", "b.mp4", coded),
        record("a-0", "a.mp4", sound),
        record("c-0", "c.mp4", speech_like(4.0, 1)),
        record("d-0", "d.mp4", sound, picture=255),
        record("e-0", "e.mp4", sound, fault="blurred"),
    ]
    mark_duplicates(records, SETTINGS)
    assert [r["fault"] for r in records] == ["duplicate", "", "", "", "blurred"] and records[0]["copy_of"] == "a-0"


def test_splits_are_by_person_and_of_their_shares() -> None:
    settings = dataclasses.replace(SETTINGS, val_share=0.2, test_share=0.1)
    splits = [split_of(f"person {n}", settings) for n in range(2000)]
    assert abs(splits.count("val") / 2000 - 0.2) < 0.03 and abs(splits.count("test") / 2000 - 0.1) < 0.03
    assert split_of("person 7", settings) == splits[7]


def test_shards_hold_every_clip_once_and_are_the_same_bytes_again(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, clips_per_shard=2)
    records = [record(f"v-{n:04d}", "v.mp4", speech_like(1.0, n), split="train") for n in range(5)]
    (tmp_path / "work" / "v").mkdir(parents=True)
    for number in range(5):
        for kind in ("mp4", "flac", "npz"):
            (tmp_path / "work" / "v" / f"v-{number:04d}.{kind}").write_bytes(f"{kind} {number}".encode())
    for folder in ("one", "two"):
        for name, clips in shard_names(records, settings).items():
            write_shard(tmp_path / folder / name, clips, tmp_path / "work")
    names = sorted(path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*.tar"))
    assert names == [f"train/train-{n:05d}.tar" for n in range(3)]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    with tarfile.open(tmp_path / "one" / names[1]) as tar:
        assert tar.getnames()[:4] == ["v-0002.mp4", "v-0002.flac", "v-0002.npz", "v-0002.json"]
        told = json.loads(tar.extractfile("v-0002.json").read())
    assert told["measured_luma"] == 9.0 and "sound_signature" not in told


def test_what_the_manifest_says_now_counts_for_what_was_made_before(tmp_path: Path) -> None:
    for package in ("scenedetect", "silero_vad", "pyarrow"):
        pytest.importorskip(package, reason="curation needs the extra 'wild'")
    from mcdm_core.data.wild.curate import curate
    from mcdm_core.data.wild.video import RESULT, video_key

    (tmp_path / "v.mp4").write_bytes(b"never decoded")
    key = video_key("v.mp4")
    place = tmp_path / "out" / "work" / SETTINGS.fingerprint() / key
    place.mkdir(parents=True)
    clip = record(f"{key}-0000", "v.mp4", speech_like(2.0, 0), language="xx", licence="", url="", digest="0")
    (place / RESULT).write_text(json.dumps({"bytes": 13, "clips": [clip]}))
    for kind in ("mp4", "flac", "npz"):
        (place / f"{key}-0000.{kind}").write_bytes(b"piece")

    def told(**known) -> list[dict]:
        weights = preset_weights("tiny")
        curate([Source(tmp_path / "v.mp4", "v.mp4", "anna", **known)], tmp_path / "out", weights)
        found = []
        for path in (tmp_path / "out").rglob("*.tar"):
            with tarfile.open(path) as tar:
                found += [json.loads(tar.extractfile(name).read()) for name in tar.getnames() if name.endswith("json")]
        return found

    # Languages of one length: the shard's members keep their sizes.
    for language in ("de", "fr"):
        assert [(clip["identity"], clip["language"]) for clip in told(consent=True, language=language)] == [
            ("anna", language)
        ]
    assert told(consent=False) == [] and not place.exists()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["clips"] == 0 and list(report["dropped"]) == ["no consent"]
    assert not list((tmp_path / "out" / "sheets").iterdir())


def test_two_programs_do_not_curate_into_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("scenedetect", reason="curation needs the extra 'wild'")
    from mcdm_core.data.wild.curate import LOCK, WORK, curate
    from mcdm_core.file_lock import FileLock

    (tmp_path / WORK).mkdir()
    first = FileLock(tmp_path / WORK / LOCK, "")
    with pytest.raises(MediaError, match="Another program"):
        curate([], tmp_path, preset_weights("tiny"))
    first.release()


def test_the_manifest_decides_who_agreed(tmp_path: Path) -> None:
    (tmp_path / "videos" / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mkv", "notes.txt"):
        (tmp_path / "videos" / name).touch()
    table = tmp_path / "m.csv"
    table.write_text("file,identity,language,consent\nsub/b.mkv,anna,de,yes\n")
    sources = list_sources(tmp_path / "videos", table)
    assert [(s.name, s.identity, s.language, s.consent) for s in sources] == [
        ("a.mp4", "a.mp4", "unknown", False),
        ("sub/b.mkv", "anna", "de", True),
    ]
    table.write_text("file,consent\nc.mp4,yes\n")
    with pytest.raises(MediaError, match="c.mp4"):
        list_sources(tmp_path / "videos", table)
    table.write_text("file,consent\na.mp4," + 140_000 * "y")
    with pytest.raises(MediaError, match="no CSV table"):
        list_sources(tmp_path / "videos", table)
    table.write_text("file,consent\na.mp4,perhaps\n")
    with pytest.raises(MediaError, match="perhaps"):
        list_sources(tmp_path / "videos", table)
