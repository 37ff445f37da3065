"""Pictures of a person in which a painted frame is found: to the pixel, and no further than the sight reaches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mcdm_core.models.layers.picture_sight import REACH, PictureSight, half_resolution_cells

SIZE = 48


def sharp_pictures(number: int, seed: int = 0) -> torch.Tensor:
    """Pictures ``[number, 3, 48, 48]`` of spots of several sizes."""
    draw = torch.Generator().manual_seed(seed)
    spots = [torch.rand(number, 3, SIZE // k, SIZE // k, generator=draw) for k in (2, 4, 8)]
    return sum(F.interpolate(s, size=SIZE, mode="bilinear") for s in spots) / 1.5 - 1


def lips_open(by: float, number: int) -> torch.Tensor:
    """Contours ``[1, number, 48]`` of lips in the middle, open by so much."""
    turn = torch.linspace(0, 2 * torch.pi, 13)[:12]
    lips = [torch.stack([0.5 + 0.2 * turn.cos(), 0.5 + height * turn.sin()], -1) for height in (0.1 + by, by)]
    return torch.stack(lips).flatten().expand(1, number, -1)


def found_in(pictures: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a sight finds of frames ``[f, 3, k, k]``, asked with them as they are, and how far off."""
    sight, lips = PictureSight(8), lips_open(0.1, len(pictures))
    found, off = sight.find(
        half_resolution_cells(wanted)[None], lips_open(0.1, len(wanted)), sight.look(pictures[None], lips)
    )
    return F.pixel_shuffle(found[0], 2), off[0, :, 0]


@torch.no_grad()
@pytest.mark.parametrize("aside", [(0, 0), (1, -1), (-REACH, REACH)])
def test_a_frame_is_found_to_the_pixel_in_another_picture(aside: tuple[int, int]) -> None:
    wanted, others = sharp_pictures(5, 1), sharp_pictures(3, 2)
    moved = torch.roll(wanted[2:3], aside, (-2, -1))
    inside = (..., slice(16, -16), slice(16, -16))
    found, off = found_in(torch.cat([others, moved]), wanted[2:3])
    assert float((found - wanted[2:3])[inside].abs().mean()) < (0.02 if max(aside) < REACH else 0.05)
    none, far = found_in(others, wanted[2:3])
    assert float((none - wanted[2:3])[inside].abs().mean()) > 0.1
    assert float(far.mean()) > 5 * float(off[..., 8:-8, 8:-8].mean())


@torch.no_grad()
def test_beyond_its_reach_nothing_is_found() -> None:
    wanted = sharp_pictures(1, 1)
    far = torch.roll(wanted, (0, REACH + 4), (-2, -1))
    found, _ = found_in(far, wanted)
    assert float((found - wanted).abs().mean()) > 0.1


@torch.no_grad()
def test_a_blurred_question_finds_a_sharp_answer() -> None:
    wanted, others = sharp_pictures(1, 1), sharp_pictures(3, 2)
    soft = F.interpolate(F.avg_pool2d(wanted, 4), scale_factor=4, mode="bilinear")
    found, _ = found_in(torch.cat([others, wanted]), soft)
    assert float((found - wanted).abs().mean()) < 0.5 * float((soft - wanted).abs().mean())


@torch.no_grad()
def test_frames_are_found_alike_alone_and_together_whatever_the_order() -> None:
    wanted, pictures = sharp_pictures(6, 1), sharp_pictures(4, 2)
    together, _ = found_in(pictures, wanted)
    alone, _ = found_in(pictures.flip(0), wanted[5:])
    torch.testing.assert_close(together[5:], alone, rtol=0, atol=1e-4)


def test_it_can_learn_what_to_ask() -> None:
    torch.manual_seed(0)
    sight, wanted = PictureSight(8), sharp_pictures(4, 1)
    features = torch.randn(4, 8, SIZE // 4, SIZE // 4)
    lips = lips_open(0.1, 4)
    found, _ = sight.find(sight.query(features)[None], lips, sight.look(wanted[None], lips))
    (found[0] - F.pixel_unshuffle(wanted, 2)).abs().mean().backward()
    assert sight.query.weight.grad is not None and float(sight.query.weight.grad.abs().sum()) > 0


@torch.no_grad()
def test_of_mouths_as_likely_the_one_with_the_contours_asked_for_is_found() -> None:
    sight, pictures = PictureSight(8), sharp_pictures(2, 1)
    rough = half_resolution_cells(pictures.mean(0, keepdim=True))[None]
    seen = sight.look(pictures[None], torch.cat([lips_open(0.02, 1), lips_open(0.15, 1)], 1))
    for which, opening in enumerate((0.02, 0.15)):
        found, off = sight.find(rough, lips_open(opening, 1), seen)
        apart = [(F.pixel_shuffle(found[0], 2) - picture)[..., 16:-16, 16:-16].abs().mean() for picture in pictures]
        assert apart[which] < 0.7 * apart[1 - which]
        assert float(off[:, :, 2].mean()) < 0.05


@torch.no_grad()
def test_a_mouth_of_another_colour_is_found_all_the_same_and_the_colour_is_told() -> None:
    wanted, others = sharp_pictures(1, 1), sharp_pictures(3, 2)
    tinted = wanted + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
    inside = (..., slice(16, -16), slice(16, -16))
    found, looks = found_in(torch.cat([others, wanted]), tinted)
    assert float((found - wanted)[inside].abs().mean()) < 0.02
    assert float(looks[:, 8:-8, 8:-8].mean()) < 2e-3
    sight, lips = PictureSight(8), lips_open(0.1, 4)
    seen = sight.look(torch.cat([others, wanted])[None], lips)
    _, off = sight.find(half_resolution_cells(tinted)[None], lips_open(0.1, 1), seen)
    assert float(off[0, 0, 1, 8:-8, 8:-8].mean()) == pytest.approx((0.09 + 0.04 + 0.01) / 3, rel=0.1)


@torch.no_grad()
def test_of_cells_alike_the_one_that_is_moved_least_is_found() -> None:
    # Upright stripes: a cell moved up or down is the same but for a faint ramp.
    ramp = torch.linspace(-0.9, 0.9, SIZE).view(1, 1, SIZE, 1).expand(1, 3, SIZE, SIZE)
    stripes = torch.where(torch.arange(SIZE) % 4 < 2, 0.2, -0.2).expand(1, 3, SIZE, SIZE)
    picture = stripes + 0.02 * ramp
    sight = PictureSight(8)
    seen = sight.look(picture[None], lips_open(0.1, 1))
    found, _ = sight.find(half_resolution_cells(stripes)[None], lips_open(0.1, 1), seen)
    shown = F.pixel_shuffle(found[0], 2)[0, 0]
    rows = (shown - stripes[0, 0])[12:-12].mean(1)
    torch.testing.assert_close(rows, 0.02 * ramp[0, 0, 12:-12, 0], rtol=0, atol=2e-3)


@torch.no_grad()
def test_gates_decide_how_much_of_it_is_shown() -> None:
    sight, shapes = PictureSight(8), lips_open(0.1, 2)
    own, found = torch.zeros(2, 12, 8, 8), torch.ones(1, 2, 12, 8, 8)
    off = torch.rand(1, 2, 3, 8, 8)
    off[:, :, 2] = 0.0
    given = own, shapes, found, off
    torch.testing.assert_close(sight.laid_over(*given), torch.full_like(own, 1.0).mul(torch.tensor(1.0).sigmoid()))
    torch.nn.init.constant_(sight.gates.bias, -50.0)
    torch.testing.assert_close(sight.laid_over(*given), own)
    # A gate is one of a pixel, whatever the colour.
    sight.gates.bias[3] = 50.0
    shown = F.pixel_shuffle(sight.laid_over(*given), 2)
    assert torch.equal(shown[..., 1::2, 1::2], torch.ones_like(shown[..., 1::2, 1::2]))
    assert float(shown[..., ::2, :].abs().max()) < 1e-6 and float(shown[..., :, ::2].abs().max()) < 1e-6


@torch.no_grad()
def test_of_another_moments_mouth_nothing_is_shown() -> None:
    sight, own, found = PictureSight(8), torch.zeros(1, 12, 8, 8), torch.ones(1, 1, 12, 8, 8)
    torch.nn.init.constant_(sight.gates.bias, 50.0)
    torch.nn.init.constant_(sight.correction.bias, 0.5)
    shown = []
    for far in (0.0, 0.1, 0.5):
        off = torch.zeros(1, 1, 3, 8, 8)
        off[:, :, 2] = far
        shown.append(float(sight.laid_over(own, lips_open(0.1, 1), found, off).mean()))
    assert shown[0] == pytest.approx(1.5) and 0.7 < shown[1] / shown[0] < 0.85 and shown[2] < 0.01


@torch.no_grad()
def test_gates_can_learn_from_what_is_off_and_from_contours() -> None:
    torch.manual_seed(0)
    sight = PictureSight(8)
    torch.nn.init.normal_(sight.gates.weight)
    own, found = torch.zeros(1, 12, 8, 8), torch.ones(1, 1, 12, 8, 8)
    base = sight.laid_over(own, lips_open(0.1, 1), found, torch.full((1, 1, 3, 8, 8), 0.01))
    for channel in range(3):
        off = torch.full((1, 1, 3, 8, 8), 0.01)
        off[:, :, channel] = 0.05
        assert float((sight.laid_over(own, lips_open(0.1, 1), found, off) - base).abs().mean()) > 1e-3
    wider = sight.laid_over(own, lips_open(0.2, 1), found, torch.full((1, 1, 3, 8, 8), 0.01))
    assert float((wider - base).abs().mean()) > 1e-3
