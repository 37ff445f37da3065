"""Training of the box net: the atlas, scenes with faces, targets, gathered faces."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.config import TINY
from mcdm_core.errors import MediaError
from mcdm_core.face.crops import FACE_FRACTION
from mcdm_core.face.reading.face_network import FaceNetwork, FaceReading
from mcdm_core.training.face.boxes import box_losses, gather_faces, refine_squares, train_face_boxes
from mcdm_core.training.face.scenes import (
    CANVAS,
    Atlas,
    KnownFaces,
    cell_targets,
    face_layers,
    gaussian_blur,
    pixel_places,
    scenes_with_faces,
    turned_places,
)


def _spot(x: float, y: float, size: int = 200, radius: float = 6.0) -> np.ndarray:
    ys, xs = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5, indexing="ij")
    dot = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * radius**2))
    return np.repeat(dot[..., None], 3, 2).astype(np.uint8)


def test_box_targets_mark_the_face_and_leave_out_faces_of_a_neighbouring_level() -> None:
    placed = torch.tensor([[[84.0, 44.0, 32.0], [30.0, 130.0, 60.0], [140.0, 140.0, 32.0]]])
    target = cell_targets(placed, torch.tensor([[True, True, False]]))[0]
    assert target[0, 17, 17] == 0, "the third face is not there"
    row, column = 5, 10
    assert target[0, row, column] == 1 and target[4, row, column] == 1
    assert target[1, row, column] * 32 == pytest.approx(0.0) and target[3, row, column] == pytest.approx(0.0)
    assert target[0, 16, 3] == -1 and target[0, 0, 0] == 0
    perfect = torch.cat([torch.where(target[:1] > 0, 20.0, -20.0), target[1:4]])[None]
    assert box_losses(perfect, target[None])["loss"] < 1e-3


@pytest.mark.parametrize("shrink", [0.7, 1.0, 1.7, 3.0, 7.0, 12.0])
def test_the_atlas_shows_the_same_place_from_every_distance(shrink: float) -> None:
    atlas = Atlas.of([np.zeros((150, 230, 3), np.uint8), _spot(120.0, 90.0, radius=8.0)])
    canvas = pixel_places("cpu", 80)
    places = (canvas - 40) * shrink + torch.tensor([120.0, 90.0])
    seen = atlas.look(torch.tensor([1]), places[None], torch.tensor([1 / shrink]))[0, 0]
    assert torch.allclose((seen[..., None] * canvas).sum((0, 1)) / seen.sum(), torch.tensor([40.0, 40.0]), atol=0.15)
    assert float(seen.sum()) * shrink**2 == pytest.approx(255 * 2 * math.pi * 8**2, rel=0.1)


def test_shrinking_averages_and_does_not_alias() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = Atlas.of([stripes]).look(torch.tensor([0]), pixel_places("cpu", 16)[None] * 8, torch.tensor([1 / 8]))
    assert (seen - 127.5).abs().max() < 2


def test_a_face_lies_where_it_is_said_to_lie_turned_or_flipped() -> None:
    torch.manual_seed(0)
    faces = KnownFaces(Atlas.of([_spot(110.0, 90.0)]), torch.tensor([[110.0, 90.0, 120.0]]))
    centre, width = torch.rand(12, 2) * 80 + 40, torch.linspace(20, 70, 12)
    layer, opacity = face_layers(faces, torch.zeros(12, dtype=torch.long), centre, width)
    weight = (layer * opacity)[:, 0]
    places = pixel_places("cpu")
    found = (weight[..., None] * places).sum((1, 2)) / weight.sum((1, 2))[:, None]
    assert (found - centre).norm(dim=1).max() < 1.0
    spread = ((places - centre[:, None, None]).square().sum(-1) * weight).sum((1, 2)) / weight.sum((1, 2))
    expected = 6.0 * width / (120.0 * FACE_FRACTION)
    assert ((spread / 2).sqrt() / expected - 1).abs().max() < 0.3


def test_turning_goes_about_the_centre_and_keeps_distances() -> None:
    centre, source = torch.tensor([[30.0, 40.0]]), torch.tensor([[7.0, 9.0]])
    places = turned_places(centre, source, torch.tensor([2.0]), torch.tensor([0.8]), torch.tensor([True]))
    offset = places[0, 50, 70] - source[0]
    assert float(offset.norm()) == pytest.approx(math.hypot(70.5 - 30, 50.5 - 40) / 2, abs=1e-4)


def test_blur_keeps_constants_and_does_nothing_at_zero() -> None:
    x = torch.rand(2, 3, CANVAS, CANVAS)
    assert torch.allclose(gaussian_blur(x, torch.zeros(2)), x, atol=1e-5)
    assert torch.allclose(gaussian_blur(torch.ones_like(x), torch.tensor([1.0, 4.0])), torch.ones_like(x), atol=1e-5)


@pytest.mark.parametrize("with_scenes", [False, True])
def test_scenes_hold_faces_that_do_not_cover_one_another(with_scenes: bool) -> None:
    torch.manual_seed(0)
    pictures = [_spot(100.0, 100.0), _spot(60.0, 60.0, 128)]
    faces = KnownFaces(Atlas.of(pictures), torch.tensor([[100.0, 100.0, 150.0], [64.0, 64.0, 128.0]]), real=1)
    scenes = Atlas.of([np.full((90, 300, 3), 40, np.uint8)]) if with_scenes else None
    canvas, placed, there = scenes_with_faces(faces, scenes, 40)
    assert canvas.shape == (40, 3, CANVAS, CANVAS) and canvas.min() >= 0 and canvas.max() <= 255
    assert not canvas.isnan().any() and 0.7 < there.any(1).float().mean() < 1.0
    for spots, present in zip(placed, there, strict=True):
        for a, b in ((0, 1), (0, 2), (1, 2)):
            if present[a] and present[b]:
                assert (spots[a, :2] - spots[b, :2]).norm() >= 0.9 * (spots[a, 2] + spots[b, 2]) - 1e-3


def test_many_squares_are_refined_as_one_is() -> None:
    torch.manual_seed(0)
    network = FaceNetwork(TINY).eval()
    network.set_template(torch.rand(4, 68, 2) * 0.5 + 0.25)
    network.template_scale.fill_(0.05)
    pictures = [cv2.resize(np.random.default_rng(k).integers(0, 255, (9, 9, 3), np.uint8), (200, 200)) for k in (0, 1)]
    start = torch.tensor([[100.0, 100.0, 140.0], [90.0, 110.0, 140.0]])
    squares, confidence = refine_squares(network, Atlas.of(pictures), start, steps=2, part=1)
    for k in (0, 1):
        image = torch.from_numpy(pictures[k]).permute(2, 0, 1) / 127.5 - 1
        square, _, sure = network.refine(image, tuple(start[k].tolist()), steps=2)
        assert squares[k].tolist() == pytest.approx(square, rel=0.03)
        assert float(confidence[k]) == pytest.approx(sure, abs=0.03)


def test_a_step_stays_on_its_device_and_never_waits_for_it() -> None:
    """On the meta device, which has no data: a value that is looked at, or a tensor of the CPU, is an error."""
    boxes = FaceNetwork(TINY).boxes.to("meta")
    atlas = Atlas(torch.empty(6, 3, 128, 192, dtype=torch.uint8, device="meta"), torch.empty(6, 2, device="meta"))
    faces = KnownFaces(atlas, torch.empty(6, 3, device="meta"), real=2)
    pictures, placed, there = scenes_with_faces(faces, atlas, 8)
    losses = box_losses(boxes(pictures), cell_targets(placed, there))
    losses["loss"].backward()
    assert losses["loss"].device.type == "meta" and all(p.grad is not None for p in boxes.parameters())


def test_box_training_changes_the_boxes_alone(tmp_path: Path) -> None:
    network = FaceNetwork(TINY)
    faces = KnownFaces(Atlas.of([_spot(90.0, 100.0)]), torch.tensor([[90.0, 100.0, 140.0]]))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    train_face_boxes(network, faces, [], tmp_path / "face.safetensors", TINY, steps=2, batch_size=2)
    after = load_file(str(tmp_path / "face.safetensors"))
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed and all(k.startswith("boxes.") for k in changed) and set(after) == set(before)


def test_faces_are_gathered_where_the_network_is_sure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = FaceNetwork(TINY)
    network.set_template(torch.rand(4, 68, 2) * 0.5 + 0.25)

    def reading(crops: torch.Tensor) -> FaceReading:
        """The face is where the crop is, and is one if the crop is bright."""
        bright = (crops.mean((1, 2, 3)) > -0.9).float()
        count = len(crops)
        points = network.template.expand(count, 68, 2) * 0.5 + 0.25
        network.template_scale.copy_((points[0, :64] - points[0, :64].mean(0)).square().sum(-1).mean().sqrt())
        centred = points + (0.5 - points[:, :64].mean(1, keepdim=True)) - 0.5 + network.template[:64].mean(0)
        return FaceReading(centred, torch.zeros(count, 6), torch.zeros(count, 16), bright)

    monkeypatch.setattr(network, "forward", reading)
    for k, picture in enumerate((_spot(90.0, 100.0, radius=40.0), np.zeros((100, 100, 3), np.uint8))):
        cv2.imwrite(str(tmp_path / f"{k}.jpg"), picture)
    faces = gather_faces(network, None, tmp_path)
    assert len(faces) == 1 and faces.real == 1
    assert faces.squares[0].tolist() == pytest.approx([100.0, 100.0, 160.0], rel=1e-3)
    cv2.imwrite(str(tmp_path / "0.jpg"), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(MediaError, match="no faces"):
        gather_faces(network, None, tmp_path)
