"""Contours of lips and lids drawn for the UNet."""

import torch

from mcdm_core.face.part_shapes import CONTOURS, SHAPE_TOKENS, VERTICES
from mcdm_core.models.inputs.shape_maps import MAP_CHANNELS, contour_distance, draw_shapes


def circle(x: float, y: float, radius: float, count: int = VERTICES) -> torch.Tensor:
    angle = torch.arange(count) * (2 * torch.pi / count)
    return torch.stack([x + radius * torch.cos(angle), y + radius * torch.sin(angle)], -1)


def test_the_distance_to_a_circle_is_its_radius_less() -> None:
    distance = contour_distance(circle(0.5, 0.4, 0.3, 200)[None], 32)[0]
    cells = (torch.arange(32) + 0.5) / 32
    true = ((cells[None] - 0.5) ** 2 + (cells[:, None] - 0.4) ** 2).sqrt() - 0.3
    assert (distance - true).abs().max() < 2e-3


def test_repeated_vertices_and_closed_lips_are_no_trouble() -> None:
    contour = circle(0.5, 0.5, 0.2, 8)
    doubled = torch.cat([contour, contour[-1:].expand(4, 2)])
    assert torch.allclose(contour_distance(contour[None], 24), contour_distance(doubled[None], 24))
    line = torch.tensor([[0.3, 0.5], [0.7, 0.5], [0.5, 0.5]])[None]
    distance = contour_distance(line, 24)
    assert (distance >= 0).all() and distance.isfinite().all() and distance.min() < 0.03


def test_maps_follow_each_contour_alone_and_nothing_else() -> None:
    tokens = torch.zeros(1, SHAPE_TOKENS, 64)
    contours = torch.stack([circle(0.3 + 0.1 * i, 0.5, 0.2) for i in range(SHAPE_TOKENS * CONTOURS)])
    tokens[0, :, :48] = contours.view(SHAPE_TOKENS, -1)
    maps = draw_shapes(tokens, 12)
    assert maps.shape == (1, MAP_CHANNELS, 12, 12) and maps.abs().max() <= 1
    wider = tokens.clone()
    wider[0, 1, 24:48] = circle(0.6, 0.5, 0.3).flatten()
    change = (draw_shapes(wider, 12) - maps).abs().amax((0, 2, 3)).view(SHAPE_TOKENS, CONTOURS, -1)
    assert change[1, 1].min() > 0.05 and change[0].max() == 0 and change[1, 0].max() == 0
    unused = tokens.clone()
    unused[..., 48:] = 7
    assert torch.equal(draw_shapes(unused, 12), maps)
