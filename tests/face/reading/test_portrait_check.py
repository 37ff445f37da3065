"""The portrait check: each finding on a portrait that has the fault, none on one that has not."""

import pytest
import torch
import torch.nn.functional as functional

from mcdm_core.face.landmarks import INNER_LIP_PAIRS, LID_PAIRS
from mcdm_core.face.reading.face_network import FaceReading
from mcdm_core.face.reading.portrait_check import check_face


@pytest.fixture(scope="module")
def good() -> tuple[torch.Tensor, FaceReading]:
    """A drawn face in even light with closed lips and open eyes, and what is to be read in it."""
    torch.manual_seed(0)
    points = torch.full((68, 2), 0.5)
    for first, x, side in ((20, 0.36, -1), (28, 0.64, 1)):
        turn = torch.arange(8) * torch.pi / 4
        eye = torch.stack([x + side * 0.05 * turn.cos(), 0.42 - 0.02 * turn.sin()], 1)
        points[first : first + 8] = eye
    turn = torch.arange(12) * torch.pi / 6
    points[:12] = torch.stack([0.5 - 0.12 * turn.cos(), 0.7 - 0.03 * turn.sin()], 1)
    turn = torch.arange(8) * torch.pi / 4
    points[12:20] = torch.stack([0.5 - 0.1 * turn.cos(), 0.7 - 0.001 * turn.sin()], 1)
    places = {49: (0.5, 0.6), 48: (0.5, 0.55), 50: (0.45, 0.6), 51: (0.55, 0.6), 52: (0.35, 0.55), 53: (0.65, 0.55)}
    places |= {54: (0.5, 0.85), 55: (0.42, 0.83), 58: (0.58, 0.83), 60: (0.8, 0.5), 57: (0.2, 0.5)}
    for index, place in places.items():
        points[index] = torch.tensor(place)
    crop = torch.full((3, 256, 256), 0.6)
    crop[:, 98:118, 80:104], crop[:, 98:118, 152:176] = 0.1, 0.1
    crop[:, 178:181, 104:152] = 0.2
    crop = (crop + 0.01 * torch.randn(3, 256, 256)).clamp(0, 1)
    reading = FaceReading(points[None], torch.zeros(1, 6), torch.zeros(1, 16), torch.ones(1), torch.zeros(1, 3))
    return crop, reading


def kinds(crop, reading, width: float = 200.0, others=()) -> list[str]:
    return [finding.kind for finding in check_face(crop, reading, width, others)]


def test_a_good_portrait_has_no_finding(good) -> None:
    assert kinds(*good) == []


@pytest.mark.parametrize(("index", "angle", "kind"), [(0, -0.7, "turned"), (1, 0.5, "nodded"), (2, 0.5, "tilted")])
def test_pose(good, index: int, angle: float, kind: str) -> None:
    pose = torch.zeros(1, 6)
    pose[0, index] = angle
    assert kinds(good[0], good[1]._replace(pose=pose)) == [kind]


def test_open_mouth_and_shut_eyes(good) -> None:
    points = good[1].landmarks.clone()
    for upper, lower in INNER_LIP_PAIRS:
        points[0, upper, 1] -= 0.015
        points[0, lower, 1] += 0.015
    assert kinds(good[0], good[1]._replace(landmarks=points)) == ["open mouth"]
    points = good[1].landmarks.clone()
    for upper, lower in (pair for eye in LID_PAIRS for pair in eye):
        points[0, upper, 1] = points[0, lower, 1] = 0.42
    assert kinds(good[0], good[1]._replace(landmarks=points)) == ["shut eyes"]


def test_covers(good) -> None:
    crop, reading = good
    assert kinds(crop, reading._replace(covered=torch.tensor([[0.9, 0.0, 0.0]]))) == ["covered mouth"]
    assert kinds(crop, reading._replace(covered=torch.tensor([[0.0, 0.0, 0.9]]))) == ["covered eye"]
    assert kinds(crop, reading._replace(covered=None)) == []


def test_size_and_company(good) -> None:
    assert kinds(*good, width=40.0) == ["small"]
    assert kinds(*good, others=(150.0, 30.0)) == ["several faces"]
    assert kinds(*good, others=(30.0,)) == []


def test_dark_and_blurred(good) -> None:
    crop, reading = good
    assert kinds(0.3 * crop, reading) == ["dark"]
    blurred = functional.interpolate(functional.avg_pool2d(crop[None], 16), size=256, mode="bicubic")[0].clamp(0, 1)
    assert "blurred" in kinds(blurred, reading)


def test_beard(good) -> None:
    crop, reading = good
    torch.manual_seed(1)
    bearded = crop.clone()
    bearded[:, 150:230, 80:176] = 0.25 + 0.12 * torch.randn(1, 80, 96)
    bearded[:, 178:181, 104:152] = 0.2
    assert kinds(bearded.clamp(0, 1), reading) == ["beard"]


def test_findings_read_as_sentences(good) -> None:
    pose = torch.zeros(1, 6)
    pose[0, 0] = 0.7
    (finding,) = check_face(good[0], good[1]._replace(pose=pose), 200.0)
    assert "40 degrees" in str(finding) and finding.advice in str(finding) and finding.value == pytest.approx(0.7)
