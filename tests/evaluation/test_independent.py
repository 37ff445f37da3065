"""The independent measurements' mathematics, with stand-ins for the outside models, and the videos they are made on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdm_core.correlation import correlation
from mcdm_core.errors import MediaError
from mcdm_core.evaluation.independent import measure_clip, measure_drift, summarise
from mcdm_core.evaluation.remake import remake
from mcdm_core.evaluation.torch_free.agreement import mean_or_nan, share_within
from mcdm_core.evaluation.torch_free.face_embedding import SIZE, distances, similarity
from mcdm_core.evaluation.torch_free.video_frames import video_frames
from mcdm_core.face.reading import face_mesh
from mcdm_core.face.reading.face_mesh import FaceOpenings, openings
from tests.media.plain_videos import grey_video


def read_grey(frames) -> FaceOpenings:
    levels = np.array([frame.mean() / 255 for frame in frames])
    return FaceOpenings(levels, levels)


def embed_grey(frames) -> np.ndarray:
    rows = [np.full(SIZE, frame.mean() / 255) for frame in frames]
    angle = np.zeros((len(rows), SIZE))
    for row, grey in zip(angle, rows, strict=True):
        row[0], row[1] = np.cos(grey[0]), np.sin(grey[0])
    return angle


def test_pearson_leaves_unknown_frames_out() -> None:
    a = np.random.default_rng(0).normal(size=40)
    assert correlation(a, 3 * a - 2) == pytest.approx(1) and correlation(a, -a[:30]) == pytest.approx(-1)
    hidden = np.where(np.arange(40) % 5 == 0, np.nan, a)
    assert correlation(hidden, a) == pytest.approx(1)
    assert correlation(np.ones(40), a) == 0 and correlation(a[:2], a[:2]) == 0


def test_a_frame_without_a_face_is_not_the_same_person() -> None:
    assert share_within(np.array([0.5, 0.7, np.nan, 0.1]), 0.6) == 0.5
    assert share_within(np.zeros(0), 0.6) == 0.0
    assert mean_or_nan([1.0, float("nan"), 3.0]) == 2.0 and np.isnan(mean_or_nan([float("nan")]))


def test_openings_are_gaps_over_the_distance_of_the_eyes() -> None:
    points = np.zeros((2, face_mesh.POINTS, 2))
    points[:, [33, 133]] = (0, 0)
    points[:, [263, 362]] = (50, 0)
    for index, (upper, lower) in enumerate(face_mesh.INNER_LIP_PAIRS):
        points[0, upper] = (20 + index, 60)
        points[0, lower] = (20 + index, 70)
    points[1] = np.nan
    read = openings(points)
    assert read.lips[0] == pytest.approx(0.2) and read.lids[0] == 0
    assert np.isnan(read.lips[1]) and read.found == 0.5
    turned = points @ np.array([[0.6, 0.8], [-0.8, 0.6]]) * 3 + 7
    assert openings(turned).lips[0] == pytest.approx(0.2)


def test_embeddings_are_compared_by_angle_and_distance() -> None:
    reference = np.eye(SIZE)[0]
    rows = np.stack([reference, np.eye(SIZE)[1], np.full(SIZE, np.nan)])
    assert np.allclose(distances(rows, reference)[:2], [0, 2**0.5]) and np.isnan(distances(rows, reference)[2])
    assert similarity(rows, reference) == pytest.approx(0.5)
    assert np.isnan(similarity(rows[2:], reference))


def test_a_clip_is_measured_against_its_own_and_a_wrong_voice(tmp_path) -> None:
    wave = [0.5 + 0.2 * float(np.sin(k)) for k in range(20)]
    grey_video(tmp_path / "real.mp4", wave)
    grey_video(tmp_path / "own.mp4", [0.9 * level for level in wave])
    grey_video(tmp_path / "wrong.mp4", wave[::-1])
    entry = {"name": "a", "real": "real.mp4", "own": "own.mp4", "wrong": "wrong.mp4", "truth": wave}
    report = measure_clip(entry, tmp_path, read_grey, embed_grey)
    assert report["lip_r"] > 0.98 and report["lip_r_truth"] > 0.98 and report["reader_r_truth"] > 0.98
    assert report["wrong_voice_r"] < 0.6 and report["face_found"] == 1 and report["same_person"] == 1
    assert report["lip_spread_generated"] < report["lip_spread_real"]
    assert report["likeness"] > 0.99 and report["distance"] > report["distance_to_person"] > 0.01
    grey_video(tmp_path / "other.mp4", [0.4 * level for level in wave])
    other = measure_clip({**entry, "own": "other.mp4"}, tmp_path, read_grey, embed_grey)
    assert other["likeness"] < report["likeness"] and other["distance_to_person"] > report["distance_to_person"]
    blind = measure_clip(entry, tmp_path, read_grey, lambda frames: np.full((len(list(frames)), SIZE), np.nan))
    assert np.isnan(blind["same_person"]) and np.isnan(blind["distance"])
    assert np.isnan(blind["likeness"]) and np.isnan(blind["distance_to_person"])
    means = summarise([report, {**report, "lip_r": 0.0}])
    assert means["clips"] == 2 and means["least_lip_r"] == 0
    assert means["lip_r"] == pytest.approx(report["lip_r"] / 2, abs=1e-3)


def test_drift_compares_first_and_last_clip_with_the_portrait(tmp_path) -> None:
    portrait = grey_video(tmp_path / "portrait.mp4", [0.2])
    steady = grey_video(tmp_path / "steady.mp4", [0.25] * 12)
    drifting = grey_video(tmp_path / "drifting.mp4", [0.2 + 0.05 * k for k in range(12)])
    still = measure_drift(steady, portrait, embed_grey, clip_frames=4)
    moved = measure_drift(drifting, portrait, embed_grey, clip_frames=4)
    assert still["change"] == pytest.approx(0, abs=1e-3) and still["first_to_last"] == pytest.approx(1, abs=1e-3)
    assert moved["change"] < -0.05 and moved["similarity_first"] > 0.99 > moved["first_to_last"]
    assert moved["distance_last"] > moved["distance_first"]


def test_frames_are_enlarged_and_broken_files_refused(tmp_path) -> None:
    path = grey_video(tmp_path / "small.mp4", [0.5] * 3)
    assert [frame.shape for frame in video_frames(path)] == [(48, 64, 3)] * 3
    assert next(video_frames(path, least_side=96)).shape == (96, 128, 3)
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 20)
    with pytest.raises(MediaError, match="broken.mp4"):
        next(video_frames(tmp_path / "broken.mp4"))


def test_remade_videos_follow_the_manifest(pipe, portrait, voice, tmp_path, monkeypatch) -> None:
    from mcdm_core.evaluation.own_voice import TalkingClip

    boxed = pipe.encode_reference
    monkeypatch.setattr(pipe, "encode_reference", lambda image: boxed(image, box=(40, 50, 120, 130)))
    frames = portrait[None].repeat(6, 1, 1, 1)
    clips = [
        TalkingClip(name, frames, voice[None, :length], 16_000, torch.linspace(0, 1, 6))
        for name, length in (("a", 3840), ("b", 2560))
    ]
    manifest = remake(pipe, clips, tmp_path, None)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    assert [entry["name"] for entry in manifest] == ["a", "b"] and len(manifest[0]["truth"]) == 6
    lengths = [len(list(video_frames(tmp_path / manifest[0][kind]))) for kind in ("real", "own", "wrong")]
    assert lengths == [6, 6, 4]


def test_the_measurements_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import mcdm_core.evaluation.independent as m; "
        "m.read_openings; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "ok", done.stderr
