"""The warped reference of the ``tiny`` preset: thin-plate splines through the landmarks (method.md, section 8).

An addition beside the paper's paths. Landmarks of the reference and of a target frame give a smooth flow, by which the
reference is warped in pixels and encoded. These latents, the flow and drawn landmarks are the UNet's guide. The warped
latents are also the prior mean of its denoising. The warp fails inside the mouth and at closing lids, which the network
has to paint.

A flow is a backward displacement: the target pixel at p shows the reference at p + flow(p), in crop widths.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from einops import rearrange
from torch import Tensor

from ..errors import MCDMError
from .landmarks import (
    BROW_PICTURE_LEFT,
    BROW_PICTURE_RIGHT,
    EYE_CORNERS,
    FACE,
    INNER_LIP_PAIRS,
    LID_PAIRS,
    LIDS,
    LIPS,
    NUM_LANDMARKS,
    constant,
)
from .mouth_fill import fill_mouth

FLOW_SIZE = 32
FLOW_SCALE = 10.0
"""Flow channels of the guide are displacements times this, so that they are about as large as latents."""
DRAWN_GROUPS = (LIPS, LIDS, FACE)
_DOT = 0.02
"""Standard deviation of a drawn landmark in crop widths."""
_STIFFNESS = 1e-3
"""Smoothing of the spline: lips that close in the target must not fold the flow."""
_OUTLINE = slice(52, 68)
_FACE_STIFFNESS = 1e-2
"""Cheeks, jaw, temples and neck may give way: where a turned head hides them, exact points would fold the picture."""
_FRAME = tuple(
    (x, y)
    for x in (-0.25, 0.125, 0.5, 0.875, 1.25)
    for y in (-0.25, 0.125, 0.5, 0.875, 1.25)
    if x in (-0.25, 1.25) or y in (-0.25, 1.25)
)
"""Points at rest, a quarter of the crop outside of it: hair and neck near the border may move. On held-out clips 0.6 dB
closer to the true frames than with points at rest on the border itself."""
_LEAST_LID_GAP, _LEAST_LIP_GAP = 0.25, 0.15
_CREASE_HEIGHT = 0.45
"""Height of the lids' creases above the open upper lids, in widths of the eye."""
_BROW_SHARE = 0.7
"""How much of a brow's movement the crease below it follows."""


def tps_flow(
    target_landmarks: Tensor,
    reference_landmarks: Tensor,
    size: int = FLOW_SIZE,
    extent: float = 1.0,
) -> Tensor:
    """Thin-plate spline that carries target landmarks to the reference's; a frame around the crop stays where it is.

    Of a whole face (68 landmarks) lids and lips never quite close (:func:`part_edges`). The skin above the lids stays
    when they close (:func:`creases`), and the outline gives way.

    Args:
        target_landmarks: ``[b, k, 2]`` in [0, 1].
        reference_landmarks: ``[b, k, 2]``, of the same points.
        size: the flow is evaluated at the centres of ``size x size`` cells.
        extent: side of the concentric square those cells cover, in crop widths.

    Returns:
        ``[b, 2, size, size]`` displacement (x, y) in crop widths, float32.

    Raises:
        MCDMError: if the two differ in shape.

    >>> tps_flow(torch.rand(1, 68, 2), torch.rand(1, 68, 2), size=16).shape
    torch.Size([1, 2, 16, 16])
    """
    if target_landmarks.shape != reference_landmarks.shape:
        raise MCDMError(
            f"Landmarks of target {tuple(target_landmarks.shape)} and reference {tuple(reference_landmarks.shape)} "
            "differ in shape; give both as [b, k, 2]."
        )
    target, reference = target_landmarks.float(), reference_landmarks.float()
    if target.shape[1] == NUM_LANDMARKS:
        target = part_edges(target, reference)
        crease, reference_crease = creases(target, reference)
        target, reference = torch.cat([target, crease], 1), torch.cat([reference, reference_crease], 1)
    batch, device = target.shape[0], target.device
    frame = constant(_FRAME, device).expand(batch, -1, -1)
    source = torch.cat([target, frame], 1)
    displacement = torch.cat([reference, frame], 1) - source
    number = source.shape[1]
    affine = torch.cat([torch.ones(batch, number, 1, device=device), source], -1)
    system = torch.zeros(batch, number + 3, number + 3, device=device)
    system[:, :number, :number] = _kernel(source, source) + _stiffness(number, target_landmarks.shape[1], device)
    system[:, :number, number:] = affine
    system[:, number:, :number] = affine.transpose(1, 2)
    weights = torch.linalg.solve_ex(system, functional.pad(displacement, (0, 0, 0, 3)))[0]
    cells = ((_cell_centres(size, device) - 0.5) * extent + 0.5).expand(batch, -1, -1)
    basis = torch.cat([_kernel(cells, source), torch.ones_like(cells[..., :1]), cells], -1)
    # Large weights cancel here: a matrix product in half precision would be noise.
    with torch.autocast(device.type, enabled=False):
        flow = basis @ weights
    return rearrange(flow, "b (h w) xy -> b xy h w", h=size)


def part_edges(target: Tensor, reference: Tensor) -> Tensor:
    """Keep facing lid and lip points of the target a part of the reference's gap apart, ``[b, 68, 2]``.

    Lids that are shut, or cross by the noise of their reading, fold the spline. The open eye of the reference would
    show as a black hole. Pressed to a quarter of its height it is a slit, which the network closes.
    """
    down, reference_down = _downwards(target), _downwards(reference)
    result = target.clone()
    for pairs, least in ((LID_PAIRS[0] + LID_PAIRS[1], _LEAST_LID_GAP), (INNER_LIP_PAIRS, _LEAST_LIP_GAP)):
        upper, lower = (constant(side, target.device) for side in zip(*pairs, strict=True))
        gap = ((target[:, lower] - target[:, upper]) * down).sum(-1)
        wanted = least * ((reference[:, lower] - reference[:, upper]) * reference_down).sum(-1).clamp(min=0)
        step = (wanted - gap).clamp(min=0)[..., None] / 2 * down
        result[:, upper] -= step
        result[:, lower] += step
    return result


def creases(target: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Points above the upper lids, where a lid folds: they move with the eye's corners and mostly with the brow, never
    with the lid. Without them a closing lid pulls down all that lies below the brow's landmarks, which on some
    portraits are above the brow.

    Args:
        target, reference: landmarks ``[b, 68, 2]``.

    Returns:
        Points ``[b, 6, 2]`` of the target and of the reference.
    """
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for (outer, inner), lids, brow in zip(EYE_CORNERS, LID_PAIRS, (BROW_PICTURE_LEFT, BROW_PICTURE_RIGHT), strict=True):
        upper = constant(tuple(pair[0] for pair in lids), target.device)
        frames = [_eye_frame(points, outer, inner) for points in (target, reference)]
        (origin, axes), (reference_origin, reference_axes) = frames
        above = _coordinates(reference[:, upper], reference_origin, reference_axes)
        above = above - constant((0.0, _CREASE_HEIGHT), above.device)
        raised = _coordinates(target[:, brow], origin, axes) - _coordinates(
            reference[:, brow], reference_origin, reference_axes
        )
        moved = above + _BROW_SHARE * raised.mean(1, keepdim=True) * constant((0.0, 1.0), above.device)
        found[0].append(origin + moved @ axes)
        found[1].append(reference_origin + above @ reference_axes)
    return torch.cat(found[0], 1), torch.cat(found[1], 1)


def _eye_frame(landmarks: Tensor, outer: int, inner: int) -> tuple[Tensor, Tensor]:
    """Middle ``[b, 1, 2]`` of an eye's corners, and ``[b, 2, 2]`` its width's vector and the one downwards as long."""
    across = landmarks[:, inner] - landmarks[:, outer]
    down = torch.stack([-across[:, 1], across[:, 0]], -1)
    down = down * torch.sign((down * _downwards(landmarks)[:, 0]).sum(-1, keepdim=True))
    return (landmarks[:, None, inner] + landmarks[:, None, outer]) / 2, torch.stack([across, down], 1)


def _coordinates(points: Tensor, origin: Tensor, axes: Tensor) -> Tensor:
    """Points ``[b, n, 2]`` in an eye's frame; its axes are orthogonal and of the same length."""
    length = axes.square().sum(-1).clamp_min(1e-9)
    return (points - origin) @ axes.mT / length[:, None]


def _downwards(landmarks: Tensor) -> Tensor:
    """Unit vector from the brows to the chin, ``[b, 1, 2]``."""
    down = landmarks[:, 54] - landmarks[:, 36:46].mean(1)
    return (down / down.norm(dim=-1, keepdim=True).clamp_min(1e-6))[:, None]


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Warp pictures by backward flows.

    Args:
        image: ``[b, c, h, w]``.
        flow: ``[b, 2, s, s]`` displacement in crop widths; resized to the picture.

    Returns:
        ``[b, c, h, w]``, edges repeated, in the picture's type.

    >>> picture = torch.arange(4.0).expand(1, 1, 4, 4)
    >>> flow = torch.zeros(1, 2, 4, 4)
    >>> flow[:, 0] = 0.25  # a quarter of the crop, one pixel here
    >>> warp(picture, flow)[0, 0, 0]
    tensor([1., 2., 3., 3.])
    """
    height, width = image.shape[-2:]
    fine = functional.interpolate(flow.float(), size=(height, width), mode="bilinear", align_corners=False)
    xs = (torch.arange(width, device=image.device, dtype=torch.float32) + 0.5) / width
    ys = (torch.arange(height, device=image.device, dtype=torch.float32) + 0.5) / height
    grid = torch.stack([xs + fine[:, 0], ys[:, None] + fine[:, 1]], -1) * 2 - 1
    warped = functional.grid_sample(image.float(), grid, padding_mode="border", align_corners=False)
    return warped.to(image.dtype)


def warp_reference(image: Tensor, target: Tensor, reference: Tensor) -> Tensor:
    """Pictures ``[b, 3, h, w]`` in [-1, 1] of ``reference`` landmarks warped to the ``target`` ones, ``[b, 68, 2]``."""
    return fill_mouth(warp(image, tps_flow(target, reference)), image, target, reference)


def draw_landmarks(landmarks: Tensor, size: int = FLOW_SIZE) -> Tensor:
    """Draw lips, lids and face as three maps of soft dots: ``[b, 68, 2]`` to ``[b, 3, size, size]`` in [0, 1].

    >>> draw_landmarks(torch.rand(2, 68, 2), 32).shape
    torch.Size([2, 3, 32, 32])
    """
    points = landmarks.float()
    cells = (torch.arange(size, device=points.device, dtype=torch.float32) + 0.5) / size
    maps = []
    for group in DRAWN_GROUPS:
        x, y = points[:, group, 0:1], points[:, group, 1:2]
        across = torch.exp(-((x - cells) ** 2) / (2 * _DOT**2))
        down = torch.exp(-((y - cells) ** 2) / (2 * _DOT**2))
        maps.append((down[..., :, None] * across[..., None, :]).amax(1))
    return torch.stack(maps, 1)


def guide_channels(latent_channels: int) -> int:
    """Channels of the guide: warped latents, 2 of flow, the drawn groups at twice the latents' resolution.

    >>> guide_channels(12)
    26
    """
    return latent_channels + 2 + 4 * len(DRAWN_GROUPS)


@torch.no_grad()
def warp_guide(
    encode: Callable[[Tensor], Tensor],
    reference: Tensor,
    reference_landmarks: Tensor,
    target_landmarks: Tensor,
) -> tuple[Tensor, Tensor]:
    """The UNet's guide for a clip.

    Args:
        encode: the autoencoder's ``encode``: ``[n, 3, h, w]`` in [-1, 1] to normalised latents ``[n, c, s, s]``.
        reference: ``[b, 3, h, w]`` in [-1, 1].
        reference_landmarks: ``[b, 68, 2]`` in [0, 1].
        target_landmarks: ``[b, f, 68, 2]``.

    Returns:
        The guide ``[b, f, c + 14, s, s]``, and the warped reference ``[b, f, 3, h, w]``. For 12 latent channels the
        guide has 26: warped latents, flow times ``FLOW_SCALE``, three drawn groups unshuffled to four channels each.
        The first c are the prior mean of the denoising.
    """
    batch, frames = target_landmarks.shape[:2]
    target = target_landmarks.flatten(0, 1)
    source = reference_landmarks.repeat_interleave(frames, 0)
    flow = tps_flow(target, source)
    portraits = reference.repeat_interleave(frames, 0)
    warped = fill_mouth(warp(portraits, flow), portraits, target, source)
    latents = encode(warped.contiguous(memory_format=torch.channels_last))
    size = latents.shape[-1]
    small_flow = functional.adaptive_avg_pool2d(flow, size) * FLOW_SCALE
    drawn = functional.pixel_unshuffle(draw_landmarks(target, 2 * size), 2)
    guide = torch.cat([latents, small_flow.to(latents.dtype), drawn.to(latents.dtype)], 1)
    return guide.unflatten(0, (batch, frames)), warped.unflatten(0, (batch, frames))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """The thin-plate kernel r^2 ln r^2 between points ``[b, n, 2]`` and ``[b, m, 2]``."""
    square = (a[:, :, None] - b[:, None]).square().sum(-1)
    return square * torch.log(square + 1e-6)


def _stiffness(number: int, landmarks: int, device: torch.device) -> Tensor:
    """Diagonal matrix of the smoothing of each of ``number`` points, of which the first ``landmarks`` are landmarks."""
    smoothing = torch.full((number,), _STIFFNESS, device=device)
    if landmarks == NUM_LANDMARKS:
        smoothing[_OUTLINE] = _FACE_STIFFNESS
    return torch.diag(smoothing)


def _cell_centres(size: int, device: torch.device) -> Tensor:
    """Centres of ``size x size`` cells, ``[1, size * size, 2]`` (x, y) in [0, 1], row by row."""
    steps = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    ys, xs = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([xs, ys], -1).view(1, -1, 2)
