"""Whole pictures with known faces for the box net, a batch at once on the device: backgrounds, pasted faces, targets.

The net looks for faces about 32 px wide at one level of an image pyramid. It has to see smaller and larger ones as
background. Faces lie in an atlas of pictures with their halvings, so that shrinking does not alias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from ...face.crops import FACE_FRACTION
from ...face.reading.face_network import BOX_SIZE, BOX_STRIDE
from ..frame_store import pad_pictures, split_count
from .augmentation import uniform

CANVAS = 160
FULL, NEAR = 0.45, 0.75
"""Largest |ln(width / 32)| of a face that is this level's, and of one that is left out of the loss."""
_LEVELS = 4
_SLOTS = 3
"""The most faces of a scene; none to three have the chances 0.15, 0.5, 0.25 and 0.1."""
_COUNT_STEPS = (0.15, 0.65, 0.9)
_BACKGROUND_SHARES = (0.4, 0.25, 0.35)
"""Parts of scenes without a face, details of faces, procedural ones; without such scenes details take their share."""
_SHAPES = 8


@dataclass(frozen=True)
class Atlas:
    """Pictures with three halvings each beside them, to be looked at from any distance.

    Attributes:
        texture: uint8 ``[n, 3, h, 3 w / 2]``: the picture, then its halvings from top to bottom.
        sizes: ``[n, 2]`` width and height of the part that is a picture.
    """

    texture: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.texture)

    @staticmethod
    def of(pictures: Sequence[NDArray[np.uint8]], device: torch.device | str = "cpu", part: int = 256) -> Atlas:
        """Build it from pictures ``[h, w, 3]`` of any sizes."""
        frames, sizes = pad_pictures(pictures, 2**_LEVELS)
        height, width = frames.shape[1:3]
        texture = torch.zeros(len(frames), 3, height, width + width // 2, dtype=torch.uint8, device=device)
        for start in range(0, len(frames), part):
            level = rearrange(frames[start : start + part].to(device), "n h w c -> n c h w").float()
            texture[start : start + part, :, :, :width] = level.byte()
            top = 0
            for _ in range(1, _LEVELS):
                level = functional.avg_pool2d(level, 2)
                bottom, right = top + level.shape[2], width + level.shape[3]
                texture[start : start + part, :, top:bottom, width:right] = level.round().byte()
                top = bottom
        return Atlas(texture, sizes.flip(1).to(device))

    def look(self, index: Tensor, places: Tensor, scale: Tensor) -> Tensor:
        """Pictures resampled, their edges repeated.

        Args:
            index: ``[n]`` which pictures.
            places: ``[n, s, s, 2]`` (x, y) in pixels of the picture, 0 being its left and upper edge.
            scale: ``[n]`` output pixels per pixel of the picture.

        Returns:
            Float ``[n, 3, s, s]`` in 0 to 255.
        """
        height, wide = self.texture.shape[2:]
        width = wide * 2 // 3
        level = torch.log2(1 / scale).floor().clamp(0, _LEVELS - 1)
        shrink = 2.0**-level
        left = (level > 0) * float(width)
        top = (level > 0) * (height - height * 2 * shrink)
        limit = (self.sizes[index] * shrink[:, None] - 0.5).clamp_min(0.5)[:, None, None]
        inside = torch.minimum((places * shrink[:, None, None, None]).clamp_min(0.5), limit)
        corner = torch.stack([left, top], 1)[:, None, None]
        whole = torch.stack([torch.full_like(scale, wide), torch.full_like(scale, height)], 1)[:, None, None]
        grid = (inside + corner) / whole * 2 - 1
        return functional.grid_sample(self.texture[index].float(), grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class KnownFaces:
    """Pictures with one face each; ``squares`` ``[n, 3]``: the canonical square's centre x, y and side in pixels.

    The first ``real`` ones are photographs: half of the draws, however few they are.
    """

    atlas: Atlas
    squares: Tensor
    real: int = 0

    def __len__(self) -> int:
        return len(self.atlas)

    def to(self, device: torch.device | str) -> KnownFaces:
        """The same faces on a device."""
        atlas = Atlas(self.atlas.texture.to(device), self.atlas.sizes.to(device))
        return KnownFaces(atlas, self.squares.to(device), self.real)

    def draw(self, count: int) -> Tensor:
        """Indices ``[count]`` of random faces."""
        device = self.squares.device
        if not 0 < self.real < len(self):
            return torch.randint(len(self), (count,), device=device)
        photographs = torch.randint(self.real, (count,), device=device)
        others = torch.randint(self.real, len(self), (count,), device=device)
        return torch.where(torch.rand(count, device=device) < 0.5, photographs, others)


def pixel_places(device: torch.device | str, size: int = CANVAS) -> Tensor:
    """Middles of the pixels of a canvas, ``[size, size, 2]`` (x, y)."""
    steps = torch.arange(size, device=device, dtype=torch.float32) + 0.5
    return torch.stack([steps[None].expand(size, -1), steps[:, None].expand(-1, size)], -1)


def turned_places(centre: Tensor, source: Tensor, scale: Tensor, angle: Tensor, mirrored: Tensor) -> Tensor:
    """Where the canvas' pixels lie in a picture laid onto it: ``[n, 160, 160, 2]``.

    Args:
        centre: ``[n, 2]`` on the canvas, where ``source`` ``[n, 2]`` of the picture comes to lie.
        scale: ``[n]`` canvas pixels per pixel of the picture; angle: ``[n]`` in radians; mirrored: ``[n]`` bool.
    """
    x, y = (pixel_places(centre.device) - centre[:, None, None]).unbind(-1)
    cos, sin = ((f(angle) / scale)[:, None, None] for f in (torch.cos, torch.sin))
    side = 1.0 - 2.0 * mirrored.float()[:, None, None]
    return torch.stack([(cos * x + sin * y) * side, cos * y - sin * x], -1) + source[:, None, None]


def gaussian_blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Blur ``[n, c, s, s]`` each by its own sigma ``[n]`` in pixels (0: not at all)."""
    steps = torch.arange(pictures.shape[-1], device=pictures.device, dtype=torch.float32)
    apart = (steps[:, None] - steps).square()
    weights = torch.exp(-apart / (2 * sigma.clamp_min(1e-2).square())[:, None, None])
    weights = (weights / weights.sum(2, keepdim=True))[:, None]
    return weights @ pictures @ weights.transpose(2, 3)


def procedural_backgrounds(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Pictures without a face, float ``[n, 3, 160, 160]`` in 0 to 255: smooth colours, shapes, edges and noise."""
    each = (count, 1, 1, 1)
    field = 255 * torch.rand(count, 3, 12, 12, device=device)
    places = (pixel_places(device) / CANVAS * 2 - 1).expand(count, -1, -1, -1)
    grid = places * uniform(2 / 12, 11 / 12, *each, device=device)
    smooth = functional.grid_sample(field, grid, mode="bicubic", padding_mode="border", align_corners=False)
    stepped = functional.grid_sample(field, grid, mode="nearest", padding_mode="border", align_corners=False)
    picture = torch.where(torch.rand(each, device=device) < 0.7, smooth, stepped)
    strength = uniform(0.05, 1.0, *each, device=device)
    base = 255 * torch.rand(count, 3, 1, 1, device=device)
    picture = base + (picture - picture.mean((1, 2, 3), keepdim=True)) * strength
    number = torch.randint(_SHAPES + 1, (count, 1, 1), device=device)
    for k in range(_SHAPES):
        colour = 255 * torch.rand(count, 3, 1, 1, device=device)
        picture = torch.where((_shape(count, device) & (k < number))[:, None], colour, picture)
    soft = torch.rand(count, device=device) < 0.5
    picture = gaussian_blur(picture, soft * uniform(0.5, 4.0, count, device=device))
    return (picture + uniform(0.0, 12.0, *each, device=device) * torch.randn_like(picture)).clamp(0, 255)


def _shape(count: int, device: torch.device | str) -> Tensor:
    """Where a random rectangle, ellipse or line covers the canvas: bool ``[n, 160, 160]``."""
    middle = uniform(-20.0, CANVAS + 20.0, count, 2, device=device)
    angle = uniform(0.0, math.pi, count, device=device)
    kind = torch.rand(count, 1, 1, device=device)
    angle = torch.where(kind[:, 0, 0] < 0.35, 0.0, angle)
    ones = torch.ones(count, device=device)
    x, y = turned_places(middle, torch.zeros_like(middle), ones, angle, ones < 0).unbind(-1)
    half = uniform(4.0, 60.0, count, 2, 1, 1, device=device)
    thickness = uniform(0.5, 4.5, count, 1, 1, device=device)
    box = (x.abs() < half[:, 0]) & (y.abs() < half[:, 1])
    ellipse = (x / half[:, 0]).square() + (y / half[:, 1]).square() < 1
    line = (x.abs() < 1.5 * half[:, 0]) & (y.abs() < thickness)
    return torch.where(kind < 0.35, box, torch.where(kind < 0.75, ellipse, line))


def _details(atlas: Atlas, index: Tensor, side: Tensor) -> Tensor:
    """Random squares of pictures, of ``side`` ``[n]`` pixels, turned by quarters, flipped and enlarged to a canvas."""
    count, device = len(index), side.device
    reach = (atlas.sizes[index] - side[:, None]).clamp_min(0)
    source = side[:, None] / 2 + torch.rand(count, 2, device=device) * reach
    angle = torch.randint(4, (count,), device=device) * (math.pi / 2)
    mirrored = torch.rand(count, device=device) < 0.5
    scale = CANVAS / side
    middle = torch.full((count, 2), CANVAS / 2, device=device)
    return atlas.look(index, turned_places(middle, source, scale, angle, mirrored), scale)


def backgrounds(faces: KnownFaces, scenes: Atlas | None, count: int) -> Tensor:
    """Canvases to paste on, float ``[n, 3, 160, 160]`` in 0 to 255: parts of scenes, details of faces, procedural."""
    device = faces.squares.device
    of_scenes, of_faces, made = split_count(count, _BACKGROUND_SHARES)
    parts: list[Tensor] = []
    if scenes is None:
        of_scenes, of_faces = 0, of_faces + of_scenes
    if scenes is not None and of_scenes:
        index = torch.randint(len(scenes), (of_scenes,), device=device)
        side = scenes.sizes[index].amin(1) * uniform(0.25, 1.0, of_scenes, device=device)
        parts.append(_details(scenes, index, side))
    if of_faces:
        # A detail of a face, much enlarged (an eye, an ear, hair, cloth), is no face of this level.
        index = faces.draw(of_faces)
        side = (faces.squares[index, 2] * uniform(0.1, 0.22, of_faces, device=device)).clamp_min(8)
        parts.append(_details(faces.atlas, index, side))
    if made:
        parts.append(procedural_backgrounds(made, device))
    return torch.cat(parts)


def face_widths(count: int, device: torch.device | str) -> Tensor:
    """Widths ``[n]`` in pixels of faces on the canvas: 72 % for this level, the rest clearly smaller or larger."""
    fitting = uniform(-FULL, FULL, count, device=device)
    other = uniform(0.8, 1.7, count, device=device)
    other = other * torch.where(torch.rand(count, device=device) < 0.5, 1.0, -0.7)
    return BOX_SIZE * torch.where(torch.rand(count, device=device) < 0.72, fitting, other).exp()


def face_layers(faces: KnownFaces, index: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Faces turned, perhaps flipped and laid at a place: ``[n, 3, 160, 160]``, and opacity ``[n, 1, 160, 160]``.

    A picture is laid whole, or as a soft ellipse about the face.

    Args:
        index: ``[n]`` which faces; centre: ``[n, 2]`` on the canvas; width: ``[n]`` of the face in canvas pixels.
    """
    count, device = len(index), width.device
    square = faces.squares[index]
    scale = width / (square[:, 2] * FACE_FRACTION)
    usual = torch.deg2rad(12 * torch.randn(count, device=device))
    angle = torch.where(torch.rand(count, device=device) < 0.8, usual, uniform(-0.7, 0.7, count, device=device))
    mirrored = torch.rand(count, device=device) < 0.5
    places = turned_places(centre, square[:, :2], scale, angle, mirrored)
    layer = faces.atlas.look(index, places, scale)
    scaling = scale[:, None, None]
    edge = torch.minimum(places, faces.atlas.sizes[index][:, None, None] - places).amin(-1)
    whole = (edge * scaling + 0.5).clamp(0, 1)
    axes = torch.stack([uniform(0.55, 0.8, count, device=device), uniform(0.7, 0.95, count, device=device)], 1)
    axes = axes * width[:, None]
    away = (places - square[:, None, None, :2]) * scaling[..., None] / axes[:, None, None]
    softness = uniform(1.0, 3.0, count, 1, 1, device=device) * scaling.clamp(0.3, 1.5)
    oval = ((1 - away.norm(dim=-1)) * axes.amin(1)[:, None, None] / (2 * softness) + 0.5).clamp(0, 1)
    shaped = torch.rand(count, 1, 1, device=device) < 0.45
    return layer, torch.where(shaped, whole * oval, whole)[:, None]


def scenes_with_faces(faces: KnownFaces, scenes: Atlas | None, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Canvases with no to three faces that do not cover one another.

    Returns:
        Pictures float ``[n, 3, 160, 160]`` in 0 to 255, centre x, y and width ``[n, 3, 3]`` of the faces, and which
        of the three are there, bool ``[n, 3]``.
    """
    device = faces.squares.device
    canvas = backgrounds(faces, scenes, count)
    chance = torch.rand(count, device=device)
    wanted = [chance >= step for step in _COUNT_STEPS]
    centre = CANVAS * uniform(0.05, 0.95, count * _SLOTS, 2, device=device)
    width = face_widths(count * _SLOTS, device)
    layer, opacity = face_layers(faces, faces.draw(count * _SLOTS), centre, width)
    placed = torch.cat([centre, width[:, None]], 1).unflatten(0, (count, _SLOTS))
    layer, opacity = layer.unflatten(0, (count, _SLOTS)), opacity.unflatten(0, (count, _SLOTS))
    there: list[Tensor] = []
    for k in range(_SLOTS):
        free = wanted[k]
        for earlier, occupied in enumerate(there):
            apart = (placed[:, k, :2] - placed[:, earlier, :2]).norm(dim=1)
            free = free & ~(occupied & (apart < 0.9 * (placed[:, k, 2] + placed[:, earlier, 2])))
        there.append(free)
        alpha = opacity[:, k] * free[:, None, None, None]
        canvas = canvas * (1 - alpha) + layer[:, k] * alpha
    return _recoloured(canvas), placed, torch.stack(there, 1)


def _recoloured(canvas: Tensor) -> Tensor:
    """Grey some, change gain and brightness a channel, add noise, blur some; 0 to 255 stays."""
    count, device = len(canvas), canvas.device
    gain = 1 + 0.2 * torch.randn(count, 3, 1, 1, device=device)
    offset = 20 * torch.randn(count, 3, 1, 1, device=device)
    grey = torch.rand(count, 1, 1, 1, device=device) < 0.2
    x = torch.where(grey, canvas.mean(1, keepdim=True), canvas) * gain + offset
    x = x + uniform(0.0, 14.0, count, 1, 1, 1, device=device) * torch.randn_like(x)
    soft = torch.rand(count, device=device) < 0.3
    return gaussian_blur(x, soft * uniform(0.4, 1.3, count, device=device)).clamp(0, 255)


def cell_targets(placed: Tensor, there: Tensor, cells: int = CANVAS // BOX_STRIDE) -> Tensor:
    """What the box net is to say of faces ``[n, k, 3]`` (centre x, y, width), of which ``there`` ``[n, k]`` exist.

    Returns:
        ``[n, 5, cells, cells]``: presence (1, 0, or -1 where it does not count), dx, dy, log-size, 1 where a box is.
    """
    steps = (torch.arange(cells, device=placed.device) + 0.5) * BOX_STRIDE
    target = torch.zeros(len(placed), 5, cells, cells, device=placed.device)
    presence, box = target[:, 0], target[:, 1:]
    for (x, y, width), exists in zip(placed.permute(1, 2, 0)[..., None, None], there.T[..., None, None], strict=True):
        size = (width / BOX_SIZE).log()
        dx, dy = (x - steps).expand_as(presence), (y - steps[:, None]).expand_as(presence)
        distance = torch.hypot(dx, dy)
        near = exists & (size.abs() <= NEAR) & (distance < 0.5 * width) & (presence == 0)
        core = exists & (size.abs() <= FULL) & (distance <= (0.2 * width).clamp_min(BOX_STRIDE * 0.71))
        presence = torch.where(core, 1.0, torch.where(near, -1.0, presence))
        new = torch.stack([dx / BOX_SIZE, dy / BOX_SIZE, size.expand_as(dx), torch.ones_like(dx)], 1)
        box = torch.where(core[:, None], new, box)
    return torch.cat([presence[:, None], box], 1)
