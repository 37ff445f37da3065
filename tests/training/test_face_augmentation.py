"""Batches for the face network: flips, absence, covered parts, blur, and that no step waits for its device."""

import pytest
import torch

from mcdm_core.config import TINY
from mcdm_core.face.landmarks import mirror_landmarks, mirror_pose, mirror_values
from mcdm_core.face.reading.face_network import FaceNetwork
from mcdm_core.training.face.augmentation import disturb, hide, move_faces, random_absence, random_affine, reflect
from mcdm_core.training.face.train import BatchMaker, LabelledFrames, ReadingLoss, evaluate


def _frames(count: int = 5, device: str = "cpu", reading_weight: float = 1.0) -> LabelledFrames:
    frames = torch.randint(256, (count, 128, 128, 3), dtype=torch.uint8)
    labels = torch.rand(count, 68, 2), torch.randn(count, 6), torch.rand(count, 16)
    return LabelledFrames(frames, *labels, reading_weight=reading_weight).to(device)


def test_flipped_pictures_carry_flipped_labels() -> None:
    torch.manual_seed(0)
    source = _frames(3)
    frames, labels, weights = BatchMaker([(source, 30)]).drawn()
    landmarks, pose, values = labels.split((136, 6, 16), 1)
    flips = 0
    for k in range(30):
        straight = [i for i in range(3) if torch.equal(frames[k], source.frames[i])]
        flipped = [i for i in range(3) if torch.equal(frames[k], source.frames[i].flip(1))]
        assert len(straight) + len(flipped) == 1
        index = (straight + flipped)[0]
        truth = source.landmarks[index], source.pose[index], source.values[index]
        if flipped:
            truth = mirror_landmarks(truth[0]), mirror_pose(truth[1]), mirror_values(truth[2])
            flips += 1
        for drawn, expected in zip((landmarks[k].view(68, 2), pose[k], values[k]), truth, strict=True):
            assert torch.equal(drawn, expected)
    assert 5 < flips < 25 and weights.eq(1).all()


def test_sets_share_a_batch_and_added_frames_are_drawn() -> None:
    first, real = _frames(2), _frames(2, reading_weight=0.0)
    maker = BatchMaker([(first, 6), (real, 4)])
    assert float(maker.drawn()[2].sum()) == 6
    first.extend(_frames(50))
    maker.refresh()
    x, landmarks, pose, values, present, weight = maker()
    assert x.shape == (10, 3, 128, 128) and landmarks.shape == (10, 68, 2) and pose.shape == (10, 6)
    assert values.shape == (10, 16) and present.shape == weight.shape == (10,)


def test_reflection_is_that_of_grid_sample() -> None:
    picture = torch.rand(1, 1, 9, 9)
    grid = torch.rand(1, 40, 40, 2) * 8 - 4
    sample = torch.nn.functional.grid_sample
    expected = sample(picture, grid, padding_mode="reflection", align_corners=False)
    found = sample(picture, reflect(grid), padding_mode="border", align_corners=False)
    assert torch.allclose(found, expected, atol=1e-4)


def test_present_faces_are_where_they_would_be_without_absence() -> None:
    torch.manual_seed(2)
    present, beyond = random_absence(400)
    assert 0.05 < 1 - present.mean() < 0.2
    assert torch.equal(beyond[present == 1], torch.eye(2, 3).expand(int(present.sum()), 2, 3))
    assert (beyond[present == 0] - torch.eye(2, 3)).abs().amax((1, 2)).min() > 0.05
    pictures, landmarks, pose = torch.rand(6, 3, 32, 32), torch.rand(6, 68, 2), torch.zeros(6, 6)
    affine = random_affine(6)
    torch.manual_seed(3)
    plain = move_faces(pictures, landmarks, pose, *affine)
    torch.manual_seed(3)
    same = move_faces(pictures, landmarks, pose, *affine, torch.eye(2, 3).expand(6, 2, 3))
    assert torch.allclose(plain.pictures, same.pictures) and torch.equal(plain.landmarks, same.landmarks)


def test_covered_parts_are_rectangles_of_some_pictures() -> None:
    torch.manual_seed(0)
    x = torch.rand(60, 3, 128, 128)
    changed = (hide(x) != x).any(1)
    share = changed.any(2).any(1).float().mean()
    assert 0.4 < share < 0.8
    for area in changed[changed.any(2).any(1)]:
        rows, columns = area.any(1).sum(), area.any(0).sum()
        assert area.sum() > 0.98 * rows * columns and 10 <= max(rows, columns) <= 43


@pytest.mark.parametrize("count", [1, 2, 17])
def test_disturbed_pictures_keep_their_shape_and_range(count: int) -> None:
    x = disturb(torch.rand(count, 3, 128, 128) * 2 - 1)
    assert x.shape == (count, 3, 128, 128) and x.abs().max() <= 1.2 and not x.isnan().any()


def test_a_step_stays_on_its_device_and_never_waits_for_it() -> None:
    """On the meta device, which has no data: a value that is looked at, or a tensor of the CPU, is an error."""
    network = FaceNetwork(TINY).to("meta")
    x, *labels = BatchMaker([(_frames(6, "meta"), 7), (_frames(4, "meta", 0.0), 3)])()
    losses = ReadingLoss("meta")(network.forward_raw(x), *labels)
    losses["loss"].backward()
    assert losses["loss"].device.type == "meta" and x.is_contiguous(memory_format=torch.channels_last)
    assert {name for name, p in network.named_parameters() if p.grad is None} == {
        name for name, _ in network.named_parameters() if name.startswith("boxes.")
    }


def test_many_canonical_squares_are_those_of_each() -> None:
    network = FaceNetwork(TINY)
    network.set_template(torch.rand(3, 68, 2))
    points = torch.rand(4, 68, 2) * 100
    for square, landmarks in zip(network.canonical_squares(points), points, strict=True):
        assert square.tolist() == pytest.approx(network.canonical_square(landmarks))


def test_evaluation_measures_pixels() -> None:
    network = FaceNetwork(TINY).eval()
    held_out = _frames(3)
    pictures, *_ = held_out.batch(slice(None))
    with torch.no_grad():
        held_out.landmarks = network(pictures).landmarks + torch.tensor([0.0, 3 / 128])
    assert evaluate(network, held_out, 2)["pixels"] == pytest.approx(3.0, abs=1e-2)
