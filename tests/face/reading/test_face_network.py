"""The face network: soft-argmax, crops, canonical framing, label-true augmentation, boxes."""

import math

import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.face.landmarks import mirror_landmarks
from mcdm_core.face.reading.face_network import FaceBox, FaceNetwork, crop_square
from mcdm_core.face.reading.heat_maps import soft_argmax
from mcdm_core.training.face.augmentation import move_faces, move_points, random_affine
from mcdm_core.training.face.train import ReadingLoss


def test_soft_argmax_finds_the_cell() -> None:
    heat = torch.zeros(1, 1, 8, 8)
    heat[0, 0, 2, 5] = 50.0
    assert torch.allclose(soft_argmax(heat)[0, 0], torch.tensor([5.5 / 8, 2.5 / 8]), atol=1e-5)


def test_reading_shapes_and_size() -> None:
    network = FaceNetwork(TINY).eval()
    reading = network(torch.rand(2, 3, 160, 160))
    assert reading.landmarks.shape == (2, 68, 2) and reading.pose.shape == (2, 6)
    assert reading.values.shape == (2, 16) and reading.confidence.shape == (2,)
    assert reading.landmarks.min() >= 0 and reading.landmarks.max() <= 1
    assert sum(p.numel() for p in network.parameters()) < 2.0e6


@pytest.mark.parametrize("side", [40.0, 64.0, 200.0])
def test_crop_square_samples_the_right_place(side: float) -> None:
    ys, xs = torch.meshgrid(torch.arange(300.0), torch.arange(400.0), indexing="ij")
    picture = torch.stack([xs + 0.5, ys + 0.5, xs * 0])
    crop = crop_square(picture, (180.0, 150.0, side), 64)
    assert crop.shape == (3, 64, 64)
    left = 180.0 - side / 2 + side * 0.5 / 64
    assert float(crop[0, 30, 0]) == pytest.approx(left, abs=0.6 + side / 64 * 0.2)
    assert float(crop[0].mean()) == pytest.approx(180.0, abs=0.5)
    assert float(crop[1].mean()) == pytest.approx(150.0, abs=0.5)


def test_canonical_square_follows_shift_and_scale() -> None:
    network = FaceNetwork(TINY)
    shape = torch.rand(1, 68, 2) * 0.5 + 0.25
    network.set_template(shape)
    assert network.canonical_square(shape[0]) == pytest.approx((0.5, 0.5, 1.0), abs=1e-4)
    x, y, side = network.canonical_square(shape[0] * 200 + torch.tensor([30.0, 50.0]))
    assert (x, y, side) == pytest.approx((130.0, 150.0, 200.0), abs=0.05)


def test_augmentation_keeps_labels_on_the_picture() -> None:
    torch.manual_seed(1)
    ys, xs = torch.meshgrid(*[(torch.arange(128) + 0.5) / 128] * 2, indexing="ij")
    dot = torch.exp(-((xs - 0.6) ** 2 + (ys - 0.45) ** 2) / (2 * 0.02**2))
    pictures = dot.expand(4, 3, 128, 128).clone()
    landmarks = torch.tensor([0.6, 0.45]).expand(4, 68, 2)
    pose = torch.zeros(4, 6)
    pose[:, 3:5] = torch.tensor([0.1, -0.05])
    matrix, turned = random_affine(4, shift=0.08)
    moved, points, new_pose = move_faces(pictures, landmarks, pose, matrix, turned)
    weight = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
    found = torch.stack([(weight * xs).sum((1, 2)), (weight * ys).sum((1, 2))], -1)
    assert (found - points[:, 0]).abs().max() < 0.01
    assert torch.allclose(new_pose[:, 3:5] + 0.5, points[:, 0], atol=1e-5)


def test_roll_and_scale_of_the_pose_follow_the_picture() -> None:
    matrix, turned = random_affine(5)
    segment = torch.tensor([[0.5, 0.4], [0.5, 0.6]]).expand(5, 2, 2)
    moved = move_points(segment, matrix)
    down = moved[:, 1] - moved[:, 0]
    roll = torch.atan2(-down[:, 0], down[:, 1])  # positive when the top of the head tips to the picture's right
    pose = move_faces(torch.zeros(5, 3, 8, 8), segment, torch.zeros(5, 6), matrix, turned)[2]
    assert torch.allclose(pose[:, 2], roll, atol=1e-4)
    assert torch.allclose(pose[:, 5], (down.norm(dim=-1) / 0.2).log(), atol=1e-4)


def test_mirrored_twice_is_the_same() -> None:
    points = torch.rand(3, 68, 2)
    assert torch.allclose(mirror_landmarks(mirror_landmarks(points)), points, atol=1e-6)


def test_losses_reach_every_parameter_but_the_boxes() -> None:
    network = FaceNetwork(TINY)
    labels = torch.rand(2, 68, 2), torch.zeros(2, 6), torch.zeros(2, 16), torch.tensor([1.0, 0.0]), torch.ones(2)
    ReadingLoss()(network.forward_raw(torch.rand(2, 3, 128, 128)), *labels)["loss"].backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without and all(name.startswith("boxes.") for name in without)


def test_detect_places_boxes_of_the_box_net_in_the_picture() -> None:
    class OneFace(torch.nn.Module):
        """Answers at the brightest cell, as if a face of 32 px were there."""

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            bright = torch.nn.functional.avg_pool2d(picture.mean(1, keepdim=True), 8)
            logit = (bright - 0.5) * 40
            return torch.cat([logit, torch.zeros_like(logit).expand(-1, 3, -1, -1)], 1)

    network = FaceNetwork(TINY).eval()
    network.boxes = OneFace()
    picture = torch.full((3, 600, 900), -1.0)
    picture[:, 200:300, 400:500] = 1.0
    boxes = network.detect(picture, refine=False)
    assert boxes, "the bright square must be found"
    inside = [box for box in boxes if 390 < (box.left + box.right) / 2 < 510 and 190 < (box.top + box.bottom) / 2 < 310]
    assert inside
    assert network.detect(torch.full((3, 100, 120), -1.0), refine=False) == []


def test_box_is_four_numbers_and_knows_its_square() -> None:
    box = FaceBox(10.0, 20.0, 70.0, 80.0, 0.9)
    assert len(box) == 4 and tuple(box) == (10.0, 20.0, 70.0, 80.0)
    assert box.square == pytest.approx((40.0, 50.0, 100.0))
    assert math.isclose(box[2], 70.0)


def test_smoothing_keeps_a_constant_and_its_length() -> None:
    import numpy as np

    from mcdm_core.data.real.video import fit_audio, smooth_in_time

    series = np.full((5, 68, 2), 0.3, np.float32)
    assert np.allclose(smooth_in_time(series, (0.1, 0.2, 0.4, 0.2, 0.1)), series)
    assert len(fit_audio(np.ones(10, np.int16), 5, 25)) == 3200


def test_still_clip_moves_landmarks_with_the_picture() -> None:
    import numpy as np

    from mcdm_core.data.real.stills import still_clip

    ys, xs = np.meshgrid(np.arange(220) + 0.5, np.arange(220) + 0.5, indexing="ij")
    dot = 255 * np.exp(-((xs - 130) ** 2 + (ys - 90) ** 2) / (2 * 4.0**2))
    picture = np.repeat(dot[..., None], 3, 2).astype(np.uint8)
    square = (110.0, 105.0, 160.0)
    points = np.full((68, 2), [(130 - 30) / 160, (90 - 25) / 160], np.float32)
    clip = still_clip(
        picture, square, points, np.zeros(6, np.float32), np.zeros(16, np.float32), 6, np.random.default_rng(0)
    )
    grid = (np.arange(128) + 0.5) / 128
    for frame, landmarks in zip(clip["frames"].astype(np.float64)[..., 0], clip["landmarks"], strict=True):
        found = [(frame.sum(0) * grid).sum() / frame.sum(), (frame.sum(1) * grid).sum() / frame.sum()]
        assert np.abs(np.array(found) - landmarks[0]).max() < 0.01
    assert len(clip["audio"]) == 6 * 640
