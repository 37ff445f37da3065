"""Parts of a face: they move with the head, and tell nothing of what lips and lids do."""

from __future__ import annotations

import math

import torch

from mcdm_core.face.compositing.parts import lay_parts, move_head
from mcdm_core.face.landmarks import LIDS, LIPS
from mcdm_core.face.outer_warp import outer_flow, outer_parts, spline_lookup
from mcdm_core.face.part_guide import PartViews, part_guide, part_tokens, part_views, region_variance
from mcdm_core.face.part_places import part_places
from mcdm_core.face.part_shapes import contour_change, part_shapes, shown_regions
from mcdm_core.face.parts import (
    EYES,
    MOUTH,
    apply,
    cell_centres,
    compose,
    cut,
    inverse,
    moved_squares,
    reference_squares,
    similarity,
    unknown_regions,
)

from ..motion_fixtures import face_landmarks

SIZE = 48


def face() -> torch.Tensor:
    """Landmarks ``[1, 68, 2]`` of a face seen from the front."""
    return torch.as_tensor(face_landmarks(), dtype=torch.float32).reshape(-1, 68, 2)[:1]


def turned(points: torch.Tensor, angle: float = 0.2, scale: float = 1.1, shift: float = 0.03) -> torch.Tensor:
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * (points - 0.5) @ turn.T + 0.5 + shift


def speaking(points: torch.Tensor, group: slice) -> torch.Tensor:
    """The same face with other lips or lids: what the eyes' corners do not take part in."""
    moved = points.clone()
    inner = list(range(group.start, group.stop))
    kept = {20, 24, 28, 32}
    for index in (i for i in inner if i not in kept):
        moved[:, index] += torch.tensor([0.01, 0.03]) * (1 + index % 3)
    return moved


def test_a_similarity_is_found_and_undone() -> None:
    points = torch.randn(3, 7, 2)
    found = similarity(points, turned(points))
    assert torch.allclose(apply(found, points), turned(points), atol=1e-5)
    identity = compose(found, inverse(found))
    assert torch.allclose(apply(identity, points), points, atol=1e-5)


def test_squares_hold_mouth_and_eyes_and_move_with_the_head() -> None:
    points = face()
    squares = reference_squares(points)
    seen = [apply(inverse(squares[:, part]), points)[0] for part in (MOUTH, EYES)]
    assert (seen[0][LIPS] > 0.1).all() and (seen[0][LIPS] < 0.9).all()
    assert (seen[1][LIDS] > 0.05).all() and (seen[1][LIDS] < 0.95).all()
    moved = moved_squares(squares, points, turned(points)[:, None])[0]
    again = apply(inverse(moved[0, MOUTH]), turned(points)[0])
    assert torch.allclose(again, seen[0], atol=1e-4)


def test_a_part_that_is_cut_and_laid_back_gives_the_picture_again() -> None:
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), size=(192, 192), mode="bicubic")
    squares = reference_squares(turned(face()))[0]
    parts = cut(picture.expand(2, -1, -1, -1), squares, 96)
    laid = lay_parts(torch.zeros_like(picture[0]), squares, parts, torch.ones(2, 1, 96, 96))
    shown = laid.abs().sum(0) > 0
    assert 0.2 < shown.float().mean() < 0.9
    inside = torch.nn.functional.max_pool2d(1 - shown.float()[None], 9, 1, 4)[0] == 0
    assert (laid - picture[0])[:, inside].abs().max() < 0.05


def test_regions_and_warp_do_not_know_lips_or_lids() -> None:
    points, portrait = face(), torch.rand(1, 3, 96, 96)
    squares = reference_squares(points)
    for group in (LIPS, LIDS):
        other = speaking(points, group)
        assert not torch.allclose(other, points)
        for frames in (points, other):
            moved = moved_squares(squares, points, frames[:, None])[0]
            assert torch.allclose(moved, squares, atol=1e-5)
        region = unknown_regions(points, squares, other, squares, SIZE)
        assert torch.equal(region, unknown_regions(points, squares, points, squares, SIZE))
        assert torch.equal(
            outer_parts(portrait, points, other, squares, SIZE), outer_parts(portrait, points, points, squares, SIZE)
        )


def test_the_guide_does_not_know_lips_or_lids_and_shows_the_portrait_s_own() -> None:
    points, portrait = wide_awake(face()), torch.rand(1, 3, 96, 96) * 2 - 1

    def encode(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 8)

    guides = []
    for frames in (points, speaking(points, LIPS), speaking(points, LIDS)):
        views = part_views(portrait, points, frames[:, None], SIZE)
        guides.append(part_guide(encode, views, encode(views.still)))
        inside = views.region > 0.999
        everywhere = inside.expand_as(views.composite)
        assert torch.equal(views.composite[everywhere], views.still[:, None][everywhere])
    # Of lips and lids it tells one thing: whether they are other than the portrait's.
    resting, lips, lids = guides
    for other in (lips, lids):
        assert torch.equal(resting[:, :, :6], other[:, :, :6]) and torch.equal(resting[:, :, 10:], other[:, :, 10:])
    assert resting[:, :, 6:10].max() == 0
    assert lips[MOUTH, :, 6:10].max() > 0.9 and lips[EYES, :, 6:10].max() == 0
    assert lids[EYES, :, 6:10].max() > 0.9 and lids[MOUTH, :, 6:10].max() == 0
    wider = points + 1.5 * (speaking(points, LIPS) - points)
    views = part_views(portrait, points, wider[:, None], SIZE)
    assert torch.equal(part_guide(encode, views, encode(views.still)), lips)
    variance = region_variance(lips, 3, 0.1, 0.7)[MOUTH]
    assert variance.min() >= 0.1 - 1e-6 and 0.6 < variance.max() <= 0.7 + 1e-6
    assert torch.allclose(region_variance(resting, 3, 0.1, 0.7), torch.tensor(0.1))


def test_both_eyes_are_painted_when_one_of_them_changes() -> None:
    points = face()
    for eye in (20, 28):
        wink = points.clone()
        wink[:, eye + 1 : eye + 4, 1] += 0.06
        views = part_views(torch.zeros(1, 3, 96, 96), points, wink[:, None], SIZE)
        change = contour_change(views.shapes, views.own_shapes, 8)
        assert change.shape == (2, 1, 1, 8, 8) and change[MOUTH].max() == 0
        assert change[EYES].min() == 1


def wide_awake(points: torch.Tensor) -> torch.Tensor:
    """The same face with open eyes of a face's proportions."""
    opened = points.clone()
    for first in (20, 28):
        across = opened[:, first + 4] - opened[:, first]
        for index, along in ((1, 0.25), (2, 0.5), (3, 0.75), (5, 0.75), (6, 0.5), (7, 0.25)):
            opened[:, first + index] = opened[:, first] + along * across
            opened[:, first + index, 1] += 0.02 if index > 4 else -0.02
    return opened


def lowered_lids(points: torch.Tensor, share: float) -> torch.Tensor:
    """The same face with its upper lids lowered by a share of the eyes' openings."""
    moved = points.clone()
    for first in (20, 28):
        for upper, lower in ((1, 7), (2, 6), (3, 5)):
            gap = points[:, first + lower] - points[:, first + upper]
            moved[:, first + upper] += share * gap
    return moved


def test_small_eyes_change_as_much_as_large_ones_when_they_shut() -> None:
    points = wide_awake(face())
    narrow = lowered_lids(points, 0.45)
    for open_eyes in (points, narrow):
        for share, least, most in ((0.1, 0.0, 0.05), (0.95, 0.9, 1.0)):
            views = part_views(torch.zeros(1, 3, 96, 96), open_eyes, lowered_lids(open_eyes, share)[:, None], SIZE)
            change = contour_change(views.shapes, views.own_shapes, 8)[EYES]
            assert least <= change.min() and change.max() <= most, (share, change.unique())


def test_eyes_at_rest_are_the_portrait_s_own_and_a_mouth_is_always_painted() -> None:
    points, portrait = wide_awake(face()), torch.rand(1, 3, 96, 96) * 2 - 1
    views = part_views(portrait, points, points[:, None], SIZE)
    painted = torch.zeros_like(views.outer)
    shown = views.shown(painted)
    assert torch.equal(shown[EYES], views.outer[EYES])
    assert torch.allclose(shown[MOUTH], views.outer[MOUTH] * (1 - views.region[MOUTH]), atol=1e-6)
    places = part_places(points[0], points, SIZE)
    assert places.shown[0, EYES].max() == 0 and torch.equal(places.shown[0, MOUTH], places.regions[0, MOUTH])
    shut = part_places(points[0], lowered_lids(points, 0.9), SIZE)
    assert torch.equal(shut.shown, shut.regions)
    # Half of a change is enough: what is painted shows whole before an eye is half shut.
    assert torch.equal(shown_regions(views.region, torch.full_like(views.region, 0.5)), views.region)


def test_the_mouth_s_region_follows_the_chin_and_holds_the_lips() -> None:
    points = face()
    squares = reference_squares(points)
    lips = (apply(inverse(squares[:, MOUTH]), points)[0, LIPS] * SIZE).long()
    region = unknown_regions(points, squares, points, squares, SIZE)[0, MOUTH, 0]
    assert (region[lips[:, 1], lips[:, 0]] > 0.95).all() and 0.05 < region.mean() < 0.6
    dropped = points.clone()
    dropped[:, 54] += torch.tensor([0.0, 0.06])
    lower = unknown_regions(points, squares, dropped, squares, SIZE)[0, MOUTH, 0]
    assert lower.sum() > region.sum() * 1.05
    rows = cell_centres(SIZE)[:, 1].view(SIZE, SIZE)
    assert (lower * rows).sum() / lower.sum() > (region * rows).sum() / region.sum()


def test_at_rest_nothing_moves_and_a_shift_shifts() -> None:
    points = face()
    queries = torch.rand(1, 30, 2)
    assert torch.allclose(spline_lookup(points, points, queries), queries, atol=1e-5)
    assert outer_flow(points, points, 12).abs().max() < 1e-5
    picture = torch.rand(3, 64, 64)
    still = part_places(points[0], points, SIZE)
    assert torch.allclose(move_head(picture, still.flow[0], 1.5), picture, atol=1e-4)
    flow = outer_flow(points, points + torch.tensor([0.05, 0.0]), 24)
    assert -0.055 < float(flow[0, 0, 10:14, 10:14].mean()) < -0.03


def test_tokens_say_what_differs_from_the_portrait() -> None:
    tokens, still = torch.randn(2, 3, 6, 32), torch.randn(2, 6, 32)
    shapes, own, nothing = torch.rand(2, 3, 2, 48), torch.rand(2, 2, 48), torch.zeros(1)
    given = part_tokens(tokens, still, PartViews(nothing, nothing, nothing, nothing, shapes, own))
    assert given.shape == (4, 3, 8, 64)
    assert torch.equal(given[0, :, :6], given[1, :, :6]) and torch.equal(given[2, :, :6, :32], tokens[1])
    assert torch.allclose(given[2, :, :6, 32:], tokens[1] - still[1])
    assert torch.equal(given[3, :, 6, :48], shapes[1, :, EYES]) and torch.equal(given[2, 1, 7, :48], own[1, MOUTH])


def test_shapes_are_lips_and_lids_in_their_squares() -> None:
    points = face()
    squares = reference_squares(points)
    shapes = part_shapes(points, squares).unflatten(-1, (2, 12, 2))
    assert shapes.shape == (1, 2, 2, 12, 2)
    back = apply(squares, shapes.flatten(2, 3))
    assert torch.allclose(back[0, MOUTH, :20], points[0, :20], atol=1e-5)
    assert torch.allclose(back[0, EYES, 12:20], points[0, 28:36], atol=1e-5)
    assert torch.equal(shapes[0, MOUTH, 1, 8:], shapes[0, MOUTH, 1, 7:8].expand(4, 2))
    # A head that moves as a whole leaves its shapes where they are.
    moved = points * 0.9 + 0.07
    followed = part_shapes(moved, moved_squares(squares, points, moved[:, None])[:, 0])
    assert torch.allclose(followed.unflatten(-1, (2, 12, 2)), shapes, atol=1e-4)
