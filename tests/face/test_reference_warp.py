"""Thin-plate warp of the reference: exactness at landmarks, identity, borders, guide layout."""

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.face.landmarks import BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT, EYE_CORNERS, INNER_LIP_PAIRS, LID_PAIRS
from mcdm_core.face.reference_warp import (
    creases,
    draw_landmarks,
    guide_channels,
    part_edges,
    tps_flow,
    warp,
    warp_guide,
)


def _landmarks(seed: int = 0, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 68, 2, generator=generator) * 0.6 + 0.2


def test_same_landmarks_leave_the_picture_as_it_is() -> None:
    points, image = _face().expand(2, -1, -1), torch.rand(2, 3, 64, 64)
    flow = tps_flow(points, points)
    assert flow.abs().max() < 1e-4
    assert torch.allclose(warp(image, flow), image, atol=1e-2)


def test_flow_carries_a_target_landmark_to_the_reference() -> None:
    grid = torch.stack(torch.meshgrid(torch.linspace(0.2, 0.8, 8), torch.linspace(0.2, 0.8, 9), indexing="ij"), -1)
    target = grid.reshape(1, -1, 2)[:, :60]  # no face, so no point gives way
    reference = target + 0.02 * torch.sin(6 * target.flip(-1))
    flow = tps_flow(target, reference, size=128)
    at_points = torch.nn.functional.grid_sample(flow, target[:, None] * 2 - 1, align_corners=False)[:, :, 0].mT
    assert (at_points - (reference - target)).abs().max() < 0.005


def test_the_crop_s_border_may_move_and_the_frame_around_it_rests() -> None:
    points = _landmarks()
    flow = tps_flow(points + 0.03, points, 48, 1.5).abs()
    middle = flow[:, :, 20:28, 20:28].mean()
    assert flow[:, :, 0, 0].mean() < 0.1 * middle < 0.3 * middle < flow[:, :, 8, 8].mean()


def test_warp_moves_a_shifted_dot_back() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 10, 20] = 1.0
    flow = torch.zeros(1, 2, 32, 32)
    flow[:, 0] = 4 / 32  # the target at x shows the reference at x + 4
    assert warp(image, flow)[0, 0, 10, 16] > 0.99


def test_drawn_landmarks_peak_where_they_are_and_ignore_the_neck() -> None:
    points = torch.full((1, 68, 2), 0.25)
    points[:, 64:] = 0.75
    maps = draw_landmarks(points, 32)
    assert maps.shape == (1, 3, 32, 32)
    assert maps[0, :, 7:9, 7:9].amin() > 0.5 and maps[0, :, 20:, 20:].max() < 1e-6


def test_guide_has_latents_first_and_the_promised_channels() -> None:
    reference, points = torch.rand(2, 3, 128, 128), _landmarks()

    def encode(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 8).repeat(1, 4, 1, 1)

    guide, warped = warp_guide(encode, reference, points, points[:, None].expand(-1, 3, -1, -1))
    assert guide.shape == (2, 3, guide_channels(12), 16, 16) and guide_channels(12) == 26
    assert warped.shape == (2, 3, 3, 128, 128)
    assert torch.allclose(guide[0, 0, :12], encode(warped[0, :1])[0], atol=1e-5)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(MCDMError, match="differ in shape"):
        tps_flow(torch.rand(1, 68, 2), torch.rand(1, 60, 2))


def test_the_outline_gives_way() -> None:
    """One point of the outline alone is followed less than the same point is where no outline is known."""
    still = _landmarks(batch=1)
    jutting = still.clone()
    jutting[0, 54] += 0.05
    followed = []
    for count in (67, 68):
        flow = tps_flow(jutting[:, :count], still[:, :count], 128)
        at_chin = torch.nn.functional.grid_sample(flow, jutting[:, None, 54:55] * 2 - 1, align_corners=False)
        followed.append(float(at_chin.norm()))
    assert followed[1] < 0.9 * followed[0]


def test_the_extent_shows_the_same_flow_around_the_crop() -> None:
    still = _landmarks(batch=1)
    moved = still + 0.02 * torch.sin(9 * still)
    inner = tps_flow(moved, still, 32)
    outer = tps_flow(moved, still, 48, 1.5)
    assert torch.allclose(outer[:, :, 8:40, 8:40], inner, atol=1e-5)


def test_closed_lids_are_kept_a_slit_apart() -> None:
    """Crossing lids would fold the flow; parted ones press the open eye together, and open lids stay as they are."""
    reference = _landmarks(batch=1)
    reference[0, 36:46, 1], reference[0, 54] = 0.2, torch.tensor([0.5, 0.9])
    reference[0, 36:46, 0] = 0.5
    reference[0, 21:24, 1], reference[0, 25:28, 1] = 0.40, 0.44
    closed = reference.clone()
    closed[0, 21:24, 1], closed[0, 25:28, 1] = 0.425, 0.415
    parted = part_edges(closed, reference)
    gap = parted[0, [27, 26, 25], 1] - parted[0, [21, 22, 23], 1]
    assert torch.allclose(gap, torch.full((3,), 0.01), atol=1e-5)
    assert torch.equal(part_edges(reference, reference)[0, 20:28], reference[0, 20:28])


def _face() -> torch.Tensor:
    """Landmarks of an upright face, open-eyed: lips, corners, lids, brows and chin in their places, ``[1, 68, 2]``."""
    points = _landmarks(batch=1)
    points[0, 54] = torch.tensor([0.5, 0.9])
    for upper, lower in INNER_LIP_PAIRS:
        points[0, upper, 1], points[0, lower, 1] = 0.7, 0.72
    brows = (BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT)
    for middle, corners, lids, brow in zip((0.35, 0.65), EYE_CORNERS, LID_PAIRS, brows, strict=True):
        inwards = 0.05 if middle < 0.5 else -0.05
        points[0, corners] = torch.tensor([[middle - inwards, 0.4], [middle + inwards, 0.4]])
        points[0, brow] = torch.stack([torch.linspace(middle - 0.06, middle + 0.06, 5), torch.full((5,), 0.3)], -1)
        for step, (upper, lower) in zip((-0.5, 0.0, 0.5), lids, strict=True):
            points[0, upper] = torch.tensor([middle + step * inwards, 0.38])
            points[0, lower] = torch.tensor([middle + step * inwards, 0.42])
    return points


def test_creases_lie_above_the_lids_and_follow_the_brow_not_the_lid() -> None:
    reference = _face()
    closed, frowning = reference.clone(), reference.clone()
    uppers = [pair[0] for lids in LID_PAIRS for pair in lids]
    closed[:, uppers, 1] += 0.035
    frowning[:, 36:46, 1] += 0.02
    moved, still = creases(closed, reference)
    assert torch.allclose(moved, still, atol=1e-6)
    above = reference[:, uppers] - still
    assert torch.allclose(above, torch.tensor([0.0, 0.45 * 0.1]).expand(1, 6, 2), atol=1e-6)
    moved, still = creases(frowning, reference)
    assert torch.allclose(moved - still, torch.tensor([0.0, 0.7 * 0.02]).expand(1, 6, 2), atol=1e-5)


def test_creases_turn_and_grow_with_the_head() -> None:
    reference, angle = _face(), torch.tensor(0.4)
    turn = 1.3 * torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).view(2, 2)
    shift = torch.tensor([0.1, -0.2])
    moved, still = creases(reference @ turn + shift, reference)
    assert torch.allclose(moved, still @ turn + shift, atol=1e-5)


def test_closing_lids_leave_the_skin_above_their_crease() -> None:
    """What the crease shows moves by less than a fifth of the lid's way; without creases it is dragged along."""
    reference = _face()
    closed = reference.clone()
    closed[:, [pair[0] for lids in LID_PAIRS for pair in lids], 1] += 0.025
    crease = creases(closed, reference)[0]
    dragged = []
    for count in (67, 68):  # creases are of whole faces
        flow = tps_flow(closed[:, :count], reference[:, :count], 128)
        at_crease = torch.nn.functional.grid_sample(flow, crease[:, None] * 2 - 1, align_corners=False)
        dragged.append(float(at_crease.norm(dim=1).max()))
    assert dragged[1] < 0.005 < dragged[0]
