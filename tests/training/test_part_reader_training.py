"""Training of the second reading: labels that stay on the picture, covers, what is drawn, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcdm_core.data.shards import INFO_FIELDS, ShardWriter
from mcdm_core.errors import MediaError
from mcdm_core.face.reading.part_reader import PartNetwork, PartReader
from mcdm_core.training.face.reader_augmentation import (
    block_artefacts,
    cover,
    covered_points,
    move_windows,
    plain_homography,
    random_homography,
)
from mcdm_core.training.face.reader_data import (
    MARGIN,
    MOUTH_CORNERS,
    MOUTH_GAPS,
    PartWindows,
    load_parts,
    mirrored_mouths,
)
from mcdm_core.training.face.reader_train import PartLoss, augmented, measure, train_part_reader


def dots(count: int, size: int = 144) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows with one bright dot each, and where it is: ``[n, 1, 2]``."""
    place = torch.rand(count, 1, 2) * 0.2 + 0.4
    steps = (torch.arange(size) + 0.5) / size
    x, y = place[:, 0, 0, None, None], place[:, 0, 1, None, None]
    light = torch.exp(-((steps[None, None] - x) ** 2 + (steps[None, :, None] - y) ** 2) / (2 * 0.015**2))
    return (light[:, None] * 2 - 1).expand(-1, 3, -1, -1).contiguous(), place


def centre_of_light(pictures: torch.Tensor) -> torch.Tensor:
    light = (pictures.mean(1) + 1).pow(2)
    steps = (torch.arange(pictures.shape[-1]) + 0.5) / pictures.shape[-1]
    total = light.sum((1, 2))
    return torch.stack([(light.sum(1) * steps).sum(1) / total, (light.sum(2) * steps).sum(1) / total], -1)


def test_points_follow_perspective_turn_and_scale() -> None:
    torch.manual_seed(0)
    windows, place = dots(24)
    moved, points = move_windows(windows, place, random_homography(24, 1 / MARGIN), 96)
    inside = ((points[:, 0] > 0.1) & (points[:, 0] < 0.9)).all(1)
    assert inside.sum() > 12
    assert (centre_of_light(moved)[inside] - points[inside, 0]).abs().max() < 0.01
    assert points.std() > place.std(), "the ranges move the dot"


def test_mirrored_mouths_carry_their_corners_along() -> None:
    windows, place = dots(32)
    points = place.expand(-1, 20, -1).clone()
    points[:, 6] += 0.1
    flipped, moved = mirrored_mouths(windows, points)
    changed = (flipped != windows).any(3).any(2).any(1)
    assert 4 < int(changed.sum()) < 28
    assert torch.allclose(centre_of_light(flipped), moved[:, 3], atol=0.01)
    assert torch.allclose(moved[changed, 0, 0], 1 - points[changed, 6, 0])


def test_covers_are_where_they_say() -> None:
    torch.manual_seed(1)
    windows = torch.rand(64, 3, 96, 96) * 2 - 1
    covered, area = cover(windows, share=1.0)
    assert torch.equal((covered != windows).any(1) & (area > 0), area > 0)
    hidden = covered_points(area, torch.full((64, 1, 2), 0.5))
    assert 0.05 < float((hidden > 0.5).float().mean()) < 0.7
    untouched, none = cover(windows, share=0.0)
    assert torch.equal(untouched, windows) and none.max() == 0


def test_block_artefacts_are_coarse_but_true_on_average() -> None:
    torch.manual_seed(2)
    pictures = torch.nn.functional.interpolate(torch.rand(4, 3, 12, 12), size=96, mode="bicubic") - 0.5
    assert torch.equal(block_artefacts(pictures, share=0.0), pictures)
    squashed = block_artefacts(pictures, share=1.0)
    difference = (squashed - pictures).abs().mean()
    assert 0.001 < float(difference) < 0.1


def test_rare_openings_are_drawn_more_often_than_they_occur() -> None:
    torch.manual_seed(0)
    points = torch.full((400, 20, 2), 0.5)
    for upper, lower in MOUTH_GAPS:
        points[:20, upper, 1] -= 0.05
        points[:20, lower, 1] += 0.05
    windows = PartWindows(torch.zeros(400, 3, 4, 4, dtype=torch.uint8), points, torch.full((400,), 0.5), MOUTH_GAPS)
    share = float((windows.draw(4000) < 20).float().mean())
    assert 0.12 < share < 0.3, "a twentieth of the faces is open"


def test_loss_is_least_at_the_truth_sees_wide_gaps_and_reaches_every_weight() -> None:
    torch.manual_seed(0)
    loss, scale, hidden = PartLoss(MOUTH_GAPS, MOUTH_CORNERS), torch.full((4,), 0.5), torch.zeros(4, 20)
    true = torch.rand(4, 20, 2)
    sure = torch.full((4,), -20.0)
    assert float(loss(true, sure, true, scale, hidden)["loss"]) < 1e-5
    network = PartNetwork(20, (8, 8, 8, 8))
    loss(*network(torch.rand(4, 3, 96, 96)), true, scale, hidden)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    narrower = true.clone()
    for upper, lower in MOUTH_GAPS:
        narrower[:, [upper, lower]] = true[:, [upper, lower]].lerp(true[:, [lower, upper]], 0.1)
    aside = loss(true + 0.02, sure, true, scale, hidden)
    assert float(loss(narrower, sure, true, scale, hidden)["gaps"]) > 0.01 > float(aside["gaps"])


def test_augmented_windows_have_the_read_size() -> None:
    windows, place = dots(6)
    x, points, scale, hidden = augmented(windows, place, torch.full((6,), 0.37), 96)
    assert x.shape == (6, 3, 96, 96) and points.shape == (6, 1, 2) and hidden.shape == (6, 1)
    assert torch.isfinite(x).all() and 0.3 < float(scale.mean()) < 0.9
    plain = move_windows(windows, place, plain_homography(6, 1 / MARGIN), 96)
    assert torch.allclose(centre_of_light(plain[0]), plain[1][:, 0], atol=0.01)


def write_faces(folder: Path, count: int, seed: int) -> None:
    """Shards of drawn faces: eyes and lips as dark strokes that open and close."""
    from cv2 import circle, fillPoly

    from mcdm_core.face.landmarks import BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT

    random = np.random.default_rng(seed)
    frames, landmarks = [], []
    for _ in range(count):
        points = np.full((68, 2), 0.5, np.float32)
        opening, shift = random.uniform(0, 0.06), random.uniform(-0.03, 0.03, 2)
        turn = np.linspace(0, 2 * np.pi, 13)[:12]
        points[:12] = np.stack([0.5 - 0.12 * np.cos(turn), 0.7 - (0.03 + opening) * np.sin(turn)], 1)
        turn = np.linspace(0, 2 * np.pi, 9)[:8]
        points[12:20] = np.stack([0.5 - 0.09 * np.cos(turn), 0.7 - opening * np.sin(turn)], 1)
        for first, brow, x, side in ((20, BROW_PICTURE_LEFT, 0.36, -1), (28, BROW_PICTURE_RIGHT, 0.64, 1)):
            points[first : first + 8] = np.stack([x + side * 0.05 * np.cos(turn), 0.42 - 0.02 * np.sin(turn)], 1)
            points[brow] = np.stack([x + side * np.linspace(0.07, -0.07, 5), np.full(5, 0.34)], 1)
        points += shift.astype(np.float32)
        picture = np.full((128, 128, 3), 200, np.uint8)
        fillPoly(picture, [(points[:12] * 128).astype(np.int32)], (180, 60, 60))
        fillPoly(picture, [(points[12:20] * 128).astype(np.int32)], (20, 10, 10))
        for first in (20, 28):
            fillPoly(picture, [(points[first : first + 8] * 128).astype(np.int32)], (40, 40, 40))
        for index in range(36, 46):
            circle(picture, tuple(int(v * 128) for v in points[index]), 2, (60, 40, 20), -1)
        frames.append(picture)
        landmarks.append(points)
    with ShardWriter(folder / "part-00000.safetensors") as writer:
        tensors = {
            "frames": np.stack(frames),
            "landmarks": np.stack(landmarks),
            "audio": np.zeros(count * 640, np.int16),
            "pose": np.zeros((count, 6), np.float32),
            "values": np.zeros((count, 16), np.float32),
        }
        info = {**dict.fromkeys(INFO_FIELDS, ""), "source": "drawn", "fps": 25, "seed": 0, "index": 0}
        writer.add(tensors, info)


def test_it_learns_drawn_faces_and_goes_on_where_it_was(tmp_path: Path) -> None:
    write_faces(tmp_path / "train", 40, 0)
    write_faces(tmp_path / "val", 10, 1)
    output = tmp_path / "part_reader.safetensors"
    settings = dict(
        held={"drawn": tmp_path / "val"},
        every=[1],
        batch=12,
        eyes=8,
        channels=(8, 8, 16, 16),
        bfloat16=False,
        learning_rate=1e-2,
    )
    torch.manual_seed(0)
    before = measure(PartReader((8, 8, 16, 16)).eval().lips, load_parts(tmp_path / "val", 1)[0], 96)["pixels"]
    first = train_part_reader([tmp_path / "train"], output, steps=150, **settings)
    assert first.validation["drawn_lip_pixels"] < 0.7 * before
    state = load_file(str(output))
    PartReader((8, 8, 16, 16)).load_state_dict(state)
    assert train_part_reader([tmp_path / "train"], output, steps=152, **settings).steps == 152
    with pytest.raises(MediaError, match="no shards"):
        train_part_reader([tmp_path / "nothing"], output, steps=1)
