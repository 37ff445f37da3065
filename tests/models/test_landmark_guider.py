"""The landmark guider: maps at the right place, blind to lips, lids and brows."""

from __future__ import annotations

import torch

from mcdm_core.config import TINY
from mcdm_core.face.landmarks import LIDS, LIPS, RIGID
from mcdm_core.models.landmark_guider import MAP_SIZE, LandmarkGuider, draw_rigid_landmarks


def test_a_drawn_landmark_peaks_where_it_is() -> None:
    landmarks = torch.rand(1, 68, 2) * 0.8 + 0.1
    maps = draw_rigid_landmarks(landmarks)
    assert maps.shape == (1, len(RIGID), MAP_SIZE, MAP_SIZE)
    row, column = divmod(int(maps[0, 0].argmax()), MAP_SIZE)
    point = landmarks[0, RIGID[0]] * MAP_SIZE
    assert (column, row) == (int(point[0]), int(point[1]))


def test_the_centre_of_a_map_gives_the_position_back() -> None:
    landmarks = torch.full((1, 68, 2), 0.53)
    maps = draw_rigid_landmarks(landmarks)[0, 0]
    cells = torch.arange(MAP_SIZE) + 0.5
    assert torch.allclose((maps.sum(0) * cells).sum() / maps.sum() / MAP_SIZE, torch.tensor(0.53), atol=1e-3)


def test_head_tokens_ignore_lips_lids_and_brows_but_follow_the_head() -> None:
    guider = LandmarkGuider(TINY)
    landmarks = torch.rand(2, 3, 68, 2)
    tokens = guider(landmarks)
    codec = TINY.motion_codec
    assert tokens.shape == (2, 3, codec.head_tokens, codec.motion_dim)
    talking = landmarks.clone()
    talking[:, :, LIPS] += 0.1
    talking[:, :, LIDS] += 0.1
    talking[:, :, 36:46] += 0.1
    assert torch.equal(tokens, guider(talking))
    assert not torch.allclose(tokens, guider(landmarks + 0.1), atol=1e-3)
