"""Labels of a teacher: the table of vertices, missing frames, and how they replace the face network's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.data.real import teacher as teacher_module
from mcdm_core.data.real.teacher import MESH_VERTICES, MeshTeacher, from_mesh
from mcdm_core.data.real.video import label_frames, labelled_by
from mcdm_core.errors import FaceNotFoundError, MediaError
from mcdm_core.face.reading import face_mesh
from mcdm_core.face.reading.face_network import FaceNetwork


def mesh_of(frames: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (frames, face_mesh.POINTS, 2))


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> MeshTeacher:
    monkeypatch.setitem(sys.modules, "mediapipe", sys.modules[__name__])
    return MeshTeacher()


def test_table_covers_all_but_the_neck_and_agrees_with_the_judges_pairs() -> None:
    assert sorted(MESH_VERTICES) == list(range(64))
    mesh = mesh_of(2)
    points = from_mesh(mesh)
    assert np.isnan(points[:, 64:]).all() and np.isfinite(points[:, :64]).all()
    np.testing.assert_allclose(points[:, 14], mesh[:, 13], rtol=1e-6)
    np.testing.assert_allclose(points[:, 27], mesh[:, [163, 144]].mean(1), rtol=1e-6)
    for ours, (outer, inner) in zip(((20, 24), (28, 32)), face_mesh.EYE_CORNERS, strict=True):
        assert (MESH_VERTICES[ours[0]], MESH_VERTICES[ours[1]]) in (((outer,), (inner,)), ((inner,), (outer,)))


def test_small_frames_are_doubled_and_read_one_by_one(teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(frames, follow: bool):
        frames = list(frames)
        asked.append(([frame.shape for frame in frames], follow))
        # Every point is where the picture is bright.
        spots = [np.argwhere(frame[..., 0] > 100).mean(0)[::-1] + 0.5 for frame in frames]
        return np.repeat(np.array(spots)[:, None], face_mesh.POINTS, 1)

    monkeypatch.setattr(teacher_module, "mesh_points", read)
    pictures = np.zeros((2, 100, 120, 3), np.uint8)
    pictures[:, 20:30, 80:100] = 255
    points = teacher(pictures)
    assert asked == [([(200, 240, 3)] * 2, False)] * 2, "plain and mirrored"
    np.testing.assert_allclose(points[:, :64], np.full((2, 64, 2), (90, 25)), atol=0.3)


def test_a_frame_without_a_face_takes_its_neighbours_points(teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = mesh_of(10)
    mesh[4] = np.nan
    monkeypatch.setattr(teacher_module, "mesh_points", lambda frames, follow: mesh if len(list(frames)) else None)
    frames = np.zeros((10, 500, 500, 3), np.uint8)
    points = teacher(frames)
    assert np.isfinite(points[:, :64]).all() and (points[4] == points[3])[:64].all()
    mesh[5:8] = np.nan
    with pytest.raises(FaceNotFoundError, match="4 of 10"):
        teacher(frames)


def test_without_mediapipe_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(MediaError, match=r"\[teach\]"):
        MeshTeacher()


def test_taught_points_replace_the_networks() -> None:
    torch.manual_seed(0)
    network = FaceNetwork(TINY).eval()
    frames = np.random.default_rng(1).integers(0, 255, (3, 120, 120, 3), dtype=np.uint8)
    square = (60.0, 50.0, 80.0)

    def taught(pictures: np.ndarray) -> np.ndarray:
        points = np.full((len(pictures), 68, 2), np.nan, np.float32)
        points[:, :20] = 60.0, 30.0
        return points

    own, labels = (label_frames(network, frames, square, 64, by) for by in (None, taught))
    assert labels["frames"].shape == (3, 64, 64, 3)
    np.testing.assert_allclose(labels["landmarks"][:, :20], np.full((3, 20, 2), (0.5, 0.25)), atol=1e-5)
    np.testing.assert_allclose(labels["landmarks"][:, 20:], own["landmarks"][:, 20:], atol=1e-6)
    assert labelled_by(None) != labelled_by(taught)
