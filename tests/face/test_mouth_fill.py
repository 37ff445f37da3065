"""Teeth kept rigid between the lips of a warped picture."""

import torch

from mcdm_core.face.landmarks import RIGID
from mcdm_core.face.mouth_fill import between_lips, fill_mouth


def face(top: float, bottom: float) -> torch.Tensor:
    """Landmarks [1, 68, 2] whose inner lip edges lie at ``top`` and ``bottom`` between x = 0.4 and 0.6."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(1, 68, 2, generator=generator) * 0.6 + 0.2
    middle = (top + bottom) / 2
    points[0, 12], points[0, 16] = torch.tensor([0.4, middle]), torch.tensor([0.6, middle])
    for upper, lower, x in ((13, 19, 0.45), (14, 18, 0.5), (15, 17, 0.55)):
        points[0, upper], points[0, lower] = torch.tensor([x, top]), torch.tensor([x, bottom])
    points[0, 20], points[0, 24] = torch.tensor([0.3, 0.4]), torch.tensor([0.4, 0.4])
    points[0, 28], points[0, 32] = torch.tensor([0.7, 0.4]), torch.tensor([0.6, 0.4])
    return points


def grid(size: int = 64) -> torch.Tensor:
    steps = (torch.arange(size) + 0.5) / size
    ys, xs = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([xs, ys], -1)[None]


def test_between_the_lips_is_inside_their_edges_only() -> None:
    inside = between_lips(grid(), face(0.6, 0.7), 0.002)[0]
    at = [float(inside[int(y * 64), int(x * 64)]) for x, y in ((0.5, 0.65), (0.5, 0.55), (0.5, 0.75), (0.3, 0.65))]
    assert at[0] > 0.99 and max(at[1:]) < 0.01


def test_teeth_do_not_stretch_and_the_rest_is_dark() -> None:
    """The upper half of a wider mouth shows the reference's bright mouth at its own height, the lower half is dark."""
    reference, target = face(0.6, 0.66), face(0.6, 0.78)
    target[0, list(RIGID)] = reference[0, list(RIGID)]
    image = torch.zeros(1, 3, 128, 128)
    image[:, :, 77:85] = 1.0
    warped = torch.full((1, 3, 128, 128), 0.5)
    result = fill_mouth(warped, image, target, reference)
    column = result[0, :, :, 64]
    assert (column[:, 80] > 0.9).all() and (column[:, 92] < -0.3).all()
    assert torch.equal(column[:, 20], warped[0, :, 20, 64])


def test_a_closed_portrait_is_left_alone() -> None:
    warped = torch.rand(1, 3, 32, 32)
    assert fill_mouth(warped, warped, face(0.6, 0.7), face(0.63, 0.632)) is warped
