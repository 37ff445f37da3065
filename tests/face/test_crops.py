"""Cropping of faces."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.errors import FaceTooSmallError, MediaError
from mcdm_core.face.crops import crop_face, grown


def test_the_face_fills_its_part_of_the_crop() -> None:
    image = torch.zeros(3, 400, 300)
    image[:, 100:220, 90:210] = 1
    crop, transform = crop_face(image, (90, 100, 210, 220), 100)
    assert transform.side == 200 and crop.shape == (3, 100, 100)
    assert crop[0, 50].gt(0.5).sum().item() == pytest.approx(60, abs=1)
    assert (transform.left, transform.top) == (50, 60)


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ((5, 5, 5, 50), MediaError),
        ((500, 0, 600, 90), MediaError),
        ((0, 0, 9, 9), FaceTooSmallError),
        ((1, 2), MediaError),
    ],
)
def test_unusable_boxes_are_named(box: tuple[float, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        crop_face(torch.rand(3, 100, 100), box, 64)


def test_a_grown_crop_is_concentric() -> None:
    _, transform = crop_face(torch.rand(3, 150, 120), (30, 40, 90, 100), 64)
    outer = grown(transform, 1.5)
    assert outer.left + outer.side / 2 == transform.left + transform.side / 2
    assert outer.side == pytest.approx(1.5 * transform.side, abs=1)
