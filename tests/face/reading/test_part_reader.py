"""The second reading: where windows lie, what is cut out, which points it replaces, and from which pixels."""

import dataclasses
import math

import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.face.landmarks import LIDS, LIPS, mirror_landmarks
from mcdm_core.face.parts import apply, cut, inverse
from mcdm_core.face.reading.face_network import FaceNetwork
from mcdm_core.face.reading.part_reader import EYE, MOUTH, OTHER_EYE, WINDOWS, PartReader, face_scale, upright_windows

WITH_PARTS = dataclasses.replace(
    TINY, face_network=dataclasses.replace(TINY.face_network, part_channels=(8, 8, 16, 16))
)
READ_AGAIN = sorted(index for window in WINDOWS for index in window.points)


def a_face() -> torch.Tensor:
    """Landmarks ``[1, 68, 2]`` with eyes, brows and mouth about where faces have them."""
    torch.manual_seed(3)
    points = torch.rand(68, 2) * 0.2 + 0.4
    points[LIPS] = torch.tensor([0.5, 0.72]) + (torch.rand(20, 2) - 0.5) * torch.tensor([0.24, 0.06])
    for first, brow, x in ((20, 36, 0.36), (28, 41, 0.64)):
        points[first : first + 8] = torch.tensor([x, 0.42]) + (torch.rand(8, 2) - 0.5) * 0.04
        points[first], points[first + 4] = torch.tensor([x - 0.05, 0.42]), torch.tensor([x + 0.05, 0.42])
        points[brow : brow + 5] = torch.tensor([x, 0.34]) + (torch.rand(5, 2) - 0.5) * 0.04
    points[28], points[32] = torch.tensor([0.69, 0.42]), torch.tensor([0.59, 0.42])
    return points[None]


@pytest.mark.parametrize("window", WINDOWS)
def test_points_come_out_of_a_window_where_they_went_in(window) -> None:
    face = a_face()
    windows = upright_windows(face, window)
    inside = apply(inverse(windows), face)
    assert torch.allclose(apply(windows, inside), face, atol=1e-5)
    own = inside[:, list(window.points)]
    assert own.min() > 0 and own.max() < 1, "the part lies inside its window"


@pytest.mark.parametrize("window", WINDOWS)
def test_a_turned_shifted_and_enlarged_face_looks_the_same_in_its_window(window) -> None:
    face, angle = a_face(), 0.4
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = 1.7 * face @ turn.T + torch.tensor([3.0, -1.0])
    plain = apply(inverse(upright_windows(face, window)), face)
    assert torch.allclose(apply(inverse(upright_windows(moved, window)), moved), plain, atol=1e-4)
    assert torch.allclose(face_scale(moved), 1.7 * face_scale(face), atol=1e-4)


def test_the_other_eye_is_the_eye_of_the_mirrored_face() -> None:
    face = a_face()
    seen = apply(inverse(upright_windows(face, OTHER_EYE)), face[:, list(OTHER_EYE.points)])
    mirrored = mirror_landmarks(face)
    expected = apply(inverse(upright_windows(mirrored, EYE)), mirrored[:, list(EYE.points)])
    assert torch.allclose(seen, expected, atol=1e-5)


def test_a_turned_head_does_not_shrink_the_mouths_window() -> None:
    face = a_face()
    narrow = (face - 0.5) * torch.tensor([0.5, 1.0]) + 0.5
    assert float(face_scale(narrow)) > 0.8 * float(face_scale(face))


def test_cut_windows_shows_the_place() -> None:
    ys, xs = torch.meshgrid(*[(torch.arange(200) + 0.5) / 200] * 2, indexing="ij")
    windows = upright_windows(a_face(), MOUTH)
    shown = cut(torch.stack([xs, ys, xs])[None], windows, 32)
    steps = (torch.arange(32) + 0.5) / 32
    places = apply(windows, torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 2))
    assert torch.allclose(shown[0, :2].flatten(1).T, places[0], atol=2e-3)


class Brightest(torch.nn.Module):
    """Stands for a part's network: all its points lie in the middle of the light."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points = points

    def forward(self, window: torch.Tensor):
        light = (window.mean(1) + 1).clamp_min(0).pow(4)
        steps = (torch.arange(window.shape[-1]) + 0.5) / window.shape[-1]
        total = light.sum((1, 2)).clamp_min(1e-6)
        x, y = (light.sum(1) * steps).sum(1) / total, (light.sum(2) * steps).sum(1) / total
        return torch.stack([x, y], -1)[:, None].expand(-1, self.points, -1), torch.zeros(len(window))


def test_reading_lands_in_the_picture_where_the_part_is_and_touches_nothing_else() -> None:
    reader = PartReader((8, 8, 8, 8)).eval()
    reader.lips, reader.eye = Brightest(20), Brightest(13)
    ys, xs = torch.meshgrid(*[(torch.arange(256) + 0.5) / 256] * 2, indexing="ij")
    spots = {(0.52, 0.71): LIPS, (0.37, 0.40): slice(20, 28), (0.62, 0.39): slice(28, 36)}
    light = sum(torch.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 0.012**2)) for x, y in spots)
    face = a_face()
    read = reader((light * 2 - 1).expand(1, 3, -1, -1), face)
    for place, points in spots.items():
        assert torch.allclose(read.landmarks[0, points], torch.tensor(place).expand(1, 2), atol=0.004)
    others = [index for index in range(68) if index not in READ_AGAIN]
    assert torch.equal(read.landmarks[:, others], face[:, others])
    assert read.covered.shape == (1, 3)


class SeesAFace(FaceNetwork):
    """Untrained, but its first reading is :func:`a_face`, wherever it looks."""

    def forward_raw(self, crop: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, raw = super().forward_raw(crop)
        return a_face().expand(len(crop), -1, -1).clone(), raw


@pytest.fixture
def both() -> tuple[FaceNetwork, FaceNetwork]:
    """The same network without and with the second reading."""
    torch.manual_seed(0)
    plain, network = SeesAFace(TINY).eval(), SeesAFace(WITH_PARTS).eval()
    plain.set_template(a_face())
    network.load_state_dict(plain.state_dict(), strict=False)
    return plain, network


@torch.no_grad()
def test_without_parts_nothing_is_there_and_with_them_only_lips_lids_and_brows_change(both) -> None:
    plain, network = both
    assert plain.parts is None and not any(key.startswith("parts.") for key in plain.state_dict())
    crop = torch.rand(2, 3, 128, 128) * 2 - 1
    before, after = plain(crop), network(crop)
    changed = (before.landmarks - after.landmarks).abs().amax((0, 2)) > 0
    assert changed.nonzero()[:, 0].tolist() == READ_AGAIN
    assert torch.equal(before.pose, after.pose) and before.covered is None and after.covered.shape == (2, 3)


@torch.no_grad()
def test_the_pictures_own_pixels_are_read_where_there_are_more(both) -> None:
    network = both[1]
    detail = torch.rand(1, 3, 256, 256) * 2 - 1
    crop = torch.nn.functional.interpolate(detail, size=(128, 128), mode="bilinear", antialias=True)
    coarse, fine = network(crop).landmarks, network(crop, detail).landmarks
    assert (coarse[:, LIPS] - fine[:, LIPS]).abs().max() > 1e-6
    assert (coarse[:, LIDS] - fine[:, LIDS]).abs().max() > 1e-6
    assert torch.equal(network(detail).landmarks, fine), "a finer crop is its own detail"


@torch.no_grad()
def test_refine_frames_as_before_and_reads_again_at_the_end(both) -> None:
    plain, network = both
    image = torch.rand(3, 300, 300) * 2 - 1
    square, landmarks, confidence = plain.refine(image, (150.0, 150.0, 200.0))
    again, moved, sure = network.refine(image, (150.0, 150.0, 200.0))
    assert again == pytest.approx(square) and sure == pytest.approx(confidence)
    assert ((moved - landmarks).abs().amax(1) > 0).nonzero()[:, 0].tolist() == READ_AGAIN
    assert torch.allclose(moved[:20].mean(0), landmarks[:20].mean(0), atol=40), "in pixels of the picture"


@torch.no_grad()
def test_who_asks_for_a_frame_alone_has_no_second_reading(both, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, network = both
    image = torch.rand(3, 300, 300) * 2 - 1
    monkeypatch.setattr(network.parts, "forward", lambda *_: pytest.fail("the landmarks are not asked for"))
    square, landmarks, confidence = network.refine(image, (150.0, 150.0, 200.0), twice=False)
    assert (square, confidence) == plain.refine(image, (150.0, 150.0, 200.0))[::2]
    assert torch.equal(landmarks, plain.refine(image, (150.0, 150.0, 200.0))[1])
    network.detect(image, threshold=0.0, twice=False)
