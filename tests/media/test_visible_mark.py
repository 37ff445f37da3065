"""The visible mark: in its corner, legible on any picture, nothing else changed."""

from __future__ import annotations

import pytest
import torch

from mcdm_core.media.transparency.visible_mark import VisibleMark


@pytest.mark.parametrize("size", [(180, 160), (1080, 1920), (40, 30)])
@pytest.mark.parametrize("ground", [0, 128, 255])
def test_it_is_legible_in_its_corner_alone(size: tuple[int, int], ground: int) -> None:
    frames = torch.full((2, 3, *size), ground, dtype=torch.uint8)
    marked = VisibleMark("AI-generated", *size)(frames)
    assert (frames == ground).all() and marked.dtype == torch.uint8 and torch.equal(marked[0], marked[1])
    changed = (marked != frames).any(1)[0]
    rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
    assert rows.min() > size[0] / 2 and columns.max() < size[1] and rows.max() < size[0]
    assert columns.min() > size[1] / 2 or size[1] < 200
    corner = marked[0, 0, rows.min() :, columns.min() :].int()
    assert corner.max() - corner.min() > (120 if size[1] > 50 else 40), "letters are told from edge and ground"
    assert 0 < changed.float().mean() < (0.35 if size[1] < 50 else 0.1)


def test_a_long_text_stays_within_the_picture_and_floats_are_marked_alike() -> None:
    mark = VisibleMark("made by a machine, with the consent of whom it shows", 90, 120)
    frames = torch.full((1, 3, 90, 120), 0.5)
    marked = mark(frames)
    columns = (marked != frames).any(1)[0].any(0).nonzero()[:, 0]
    assert 0 <= columns.min() < 30 and columns.max() < 120
    same = mark((frames * 255).round().byte()).float() / 255
    assert (same - marked).abs().max() < 0.01
