"""The gallery: what differs stays, what is there already does not come in again."""

from __future__ import annotations

import torch

from mcdm_core.models.inputs.gallery import Gallery


def greys(*values: float) -> torch.Tensor:
    """A video ``[1, n, 3, 8, 8]`` of even greys."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(-1, -1, 3, 8, 8)


def most_different(portraits: torch.Tensor, pictures: torch.Tensor, count: int) -> torch.Tensor:
    """The pictures that are kept; their contours tell which they were."""
    number = torch.arange(pictures.shape[1]).float().expand(len(pictures), -1)[..., None]
    kept = Gallery(pictures, number).most_different(portraits, count)
    for video, numbers in enumerate(kept.shapes[..., 0].long()):
        assert torch.equal(pictures[video, numbers], kept.pictures[video])
    return kept.pictures


def shown(pictures: torch.Tensor) -> list[float]:
    return [round(float(x), 2) for x in pictures[0, :, 0, 0, 0]]


def test_the_widest_mouth_of_long_ago_outlives_a_pause() -> None:
    portrait, gallery = torch.zeros(1, 3, 8, 8), most_different(torch.zeros(1, 3, 8, 8), greys(0.1, 0.9, 0.5), 3)
    for clip in range(50):
        pause = greys(*(0.01 * ((clip + k) % 5) for k in range(4)))
        gallery = most_different(portrait, torch.cat([gallery, pause], 1), 3)
    assert shown(gallery) == [0.9, 0.5, 0.1]


def test_each_part_keeps_its_own_and_bytes_stay_bytes() -> None:
    pictures = torch.cat([greys(0, 100, 200), greys(200, 0, 50)]).byte()
    kept = most_different(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), pictures, 1)
    assert kept.dtype == torch.uint8 and kept[:, 0, 0, 0, 0].tolist() == [200, 200]
    assert torch.equal(kept[1, 0], pictures[1, 0])


def test_few_pictures_are_all_kept_and_of_equal_ones_the_first() -> None:
    portrait = torch.zeros(1, 3, 8, 8)
    assert sorted(shown(most_different(portrait, greys(0.2, 0.4), 8))) == [0.2, 0.4]
    twins = greys(0.5, 0.5).clone()
    twins[:, 1, :, 0, 0] += 1e-9
    assert torch.equal(most_different(portrait, twins, 1)[:, 0], twins[:, 0])
