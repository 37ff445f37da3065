"""The landmark groups partition the 68 points and the mirror is a symmetry."""

from __future__ import annotations

import math

import pytest
import torch

from mcdm_core.face import landmarks as lm


def test_groups_partition_the_landmarks() -> None:
    covered = [i for group in (lm.LIPS, lm.LIDS, lm.FACE, lm.NECK) for i in range(68)[group]]
    assert covered == list(range(lm.NUM_LANDMARKS))


def test_mirror_is_an_involution_inside_groups() -> None:
    assert [lm.MIRROR[i] for i in lm.MIRROR] == list(range(68))
    for group in (lm.LIPS, lm.LIDS, lm.FACE, lm.NECK):
        indices = set(range(68)[group])
        assert {lm.MIRROR[i] for i in indices} == indices


def test_rigid_is_closed_under_the_mirror_and_avoids_lips_and_lids() -> None:
    assert {lm.MIRROR[i] for i in lm.RIGID} == set(lm.RIGID)
    assert min(lm.RIGID) >= 46


def test_mirrors_twice_give_the_input() -> None:
    points, values, pose = torch.rand(3, 68, 2), torch.rand(3, 16), torch.rand(3, 6)
    torch.testing.assert_close(lm.mirror_landmarks(lm.mirror_landmarks(points)), points)
    torch.testing.assert_close(lm.mirror_values(lm.mirror_values(values)), values)
    torch.testing.assert_close(lm.mirror_pose(lm.mirror_pose(pose)), pose)


def test_lip_opening_is_the_gap_in_inter_ocular_distances() -> None:
    points = torch.zeros(68, 2)
    points[list(range(20, 28)), 0] = 0.3
    points[list(range(28, 36)), 0] = 0.7
    points[[17, 18, 19], 1] = 0.1
    torch.testing.assert_close(lm.lip_opening(points), torch.tensor(0.25))
    torch.testing.assert_close(lm.lip_opening(points * 3 + 1), torch.tensor(0.25))
    torch.testing.assert_close(lm.lip_opening(lm.mirror_landmarks(points)), torch.tensor(0.25))


def test_sixteen_values_and_six_pose_numbers() -> None:
    assert len(lm.VALUE_NAMES) == len(set(lm.VALUE_NAMES)) == 16
    assert sorted(lm.VALUE_MIRROR) == list(range(16))
    assert len(lm.POSE_NAMES) == len(lm.POSE_MIRROR_SIGN) == 6


def _crossed(tilt: float = 0.0) -> torch.Tensor:
    """A face with an opening of 0.1 at lips and lids, seen under a tilt; the crossed one has them upside down."""
    face = torch.zeros(68, 2)
    face[20:28, 0], face[28:36, 0] = 0.2, 0.8
    face[20, 0], face[24, 0], face[28, 0], face[32, 0] = 0.1, 0.3, 0.9, 0.7
    face[:20, 1] = 0.6
    for upper, lower in (*lm.INNER_LIP_PAIRS, *lm.LID_PAIRS[0], *lm.LID_PAIRS[1]):
        face[upper, 1] += 0.05
        face[lower, 1] -= 0.05
    face[1:6, 1] -= 0.1
    face[7:12, 1] += 0.1
    turn = torch.tensor([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    return (face - 0.5) @ turn.T + 0.5


@pytest.mark.parametrize("tilt", [0.0, 0.6, -1.0])
def test_lips_and_lids_that_crossed_meet_and_keep_their_thickness(tilt: float) -> None:
    crossed = _crossed(tilt)
    met = lm.meeting_landmarks(crossed)
    assert float(lm.lip_opening(crossed)) > 0.1 and float(lm.lid_opening(crossed)) > 0.1
    assert float(lm.lip_opening(met)) < 1e-5 and float(lm.lid_opening(met)) < 1e-5
    assert torch.allclose(lm.meeting_landmarks(met), met, atol=1e-6)
    for outer, inner in ((3, 14), (9, 18)):
        assert torch.allclose(met[outer] - met[inner], crossed[outer] - crossed[inner], atol=1e-6)
    assert torch.equal(met[36:], crossed[36:])


def test_open_lips_and_lids_are_left_as_they_are() -> None:
    upside_down = _crossed()
    face = upside_down.clone()
    for upper, lower in (*lm.INNER_LIP_PAIRS, *lm.LID_PAIRS[0], *lm.LID_PAIRS[1]):
        face[[upper, lower]] = upside_down[[lower, upper]]
    assert torch.equal(lm.meeting_landmarks(face), face)
