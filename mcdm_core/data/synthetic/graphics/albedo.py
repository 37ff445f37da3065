"""Albedo of the skin, baked once an identity: pores, blush, lips, brows, beard, age, hairline, clothes.

Places are those of the template (``x`` to the person's left, ``y`` backwards, ``z`` upwards), so that the same code
paints every head. ``across`` is the distance from the midline.
"""

from __future__ import annotations

import math

from numba import njit

from ..people.head_asset import HAIR
from .noise import JIT, bell, mix, noise, step


@njit(**JIT)
def hair_line_height(x, y, z, shift):
    """Height at which the hair begins at this angle around the head; ``shift`` raises it over the forehead."""
    angle = math.atan2(abs(x), -(y + 0.03))
    height = mix(0.800, 0.790, step(0.0, 0.75, angle))
    height = mix(height, 0.722, step(0.80, 1.15, angle))
    height = mix(height, 0.742, step(1.25, 1.6, angle))
    height = mix(height, 0.655, step(1.75, 2.3, angle))
    height = mix(height, 0.625, step(2.3, 3.1, angle))
    return height + shift * (1.0 - step(0.9, 1.4, angle))


@njit(**JIT)
def _toned(r, g, b, less_r, less_g, less_b, amount):
    return r * (1 - less_r * amount), g * (1 - less_g * amount), b * (1 - less_b * amount)


@njit(**JIT)
def _over(r, g, b, colour, strength, amount):
    """Paint ``colour`` times ``strength`` over (r, g, b)."""
    return (
        mix(r, colour[0] * strength, amount),
        mix(g, colour[1] * strength, amount),
        mix(b, colour[2] * strength, amount),
    )


@njit(**JIT)
def _bare_skin(x, y, z, across, ear, skin, blush, age, freckles, seed):
    coarse, middle = noise(x * 35 + seed, y * 35, z * 35), noise(x * 120 + seed * 2, y * 120, z * 120)
    mottle = 0.86 + 0.16 * coarse + 0.10 * middle + 0.08 * noise(x * 500, y * 500, z * 500)
    r, g, b = skin[0] * mottle, skin[1] * mottle, skin[2] * mottle
    cheeks = bell(across - 0.045, 0.022) * bell(z - 0.690, 0.020)
    nose = 0.8 * bell(x, 0.014) * bell(z - 0.695, 0.014)
    r, g, b = _toned(r, g, b, -0.10, 0.18, 0.20, blush * min(1.0, cheeks + nose + 0.6 * ear))
    socket = bell(across - 0.031, 0.018) * bell(z - 0.7205, 0.011) * (0.5 + 0.4 * age)
    r, g, b = _toned(r, g, b, 0.18, 0.28, 0.26, socket)
    crease = bell(z - 0.7395 + 9.0 * (across - 0.031) * (across - 0.031), 0.0016)
    crease *= step(0.016, 0.02, across) * step(0.052, 0.046, across) * (y < -0.08)
    r, g, b = _toned(r, g, b, 0.30, 0.30, 0.30, crease)
    if freckles > 0:
        spots = 0.35 * freckles * step(0.62, 0.8, noise(x * 330 + seed, y * 330, z * 330)) * bell(z - 0.70, 0.03)
        r, g, b = _toned(r, g, b, 1.0, 1.0, 1.0, spots)
    if age > 0:
        furrows = 0.5 + 0.5 * math.sin(z * 900 + 6 * noise(x * 30, y * 30, z * 30))
        forehead = bell(z - 0.775, 0.02) * furrows * 0.22 * step(0.07, 0.03, across)
        fold = 0.30 * bell(across - 0.022 - 0.35 * max(0.0, 0.692 - z), 0.0022)
        fold *= step(0.655, 0.665, z) * step(0.697, 0.688, z) * (y < -0.1)
        r, g, b = _toned(r, g, b, 1.0, 1.0, 1.0, age * (forehead + fold))
    return r, g, b


@njit(**JIT)
def _beard_cover(x, y, z, across, lip, beard, moustache, goatee, seed):
    area = step(0.697, 0.668, z - 0.55 * max(0.0, across - 0.035)) * step(0.585, 0.60, z)
    area *= step(0.0, -0.05, y + 0.02) * (1 - lip) * step(0.026, 0.042, across + (0.655 - z) * 1.6)
    upper = moustache * bell(z - 0.6815, 0.006) * step(0.033, 0.026, across) * (1 - lip)
    # A goatee closes around the mouth and covers the chin.
    around = math.sqrt((x / 0.031) ** 2 + ((z - 0.6635) / 0.0205) ** 2)
    chin = step(0.019, 0.011, across) * step(0.600, 0.612, z) * step(0.648, 0.642, z)
    ring = goatee * max(bell(around - 1.0, 0.20), chin) * (1 - lip) * step(-0.09, -0.11, y)
    strength = max(max(area, upper) * beard, ring)
    return min(0.9, strength * (0.45 + 0.75 * noise(x * 900 + seed, y * 900, z * 200)))


@njit(**JIT)
def _brow_cover(x, y, z, across, thickness, density, seed):
    along = (across - 0.010) / 0.043
    inside = min(1.0, max(0.0, along))
    middle = 0.7475 + 0.0065 * math.sin(inside * 2.3) - 0.004 * max(0.0, along - 0.6)
    ragged = (noise(x * 500 + seed, y * 500, z * 500) - 0.5) * 0.0022
    shape = step(1.0, 0.35, abs(z - middle + ragged) / (thickness * (1.15 - 0.65 * inside)))
    shape *= step(-0.06, 0.06, along) * step(1.08, 0.85, along)
    strands = noise(x * 900 + z * 500 * (1 if x > 0 else -1), z * 160, seed)
    return min(0.96, shape * density * (0.55 + 0.75 * strands))


@njit(**JIT)
def bake(positions, masks, cover, parameters, skin, lip, hair, brow, cloth, texture):
    """Paint the texture of one identity.

    Args:
        positions: ``[h, w, 3]`` template positions of the texels; ``masks``: ``[h, w, 2]`` lips and ears.
        cover: ``[h, w]`` int, 0 where no skin is.
        parameters: noise seed, beard, moustache, goatee, brow thickness and density, age, blush, collar height,
            freckles, hair style (-1 bald) and shift of the hairline.
        skin, lip, hair, brow, cloth: ``[3]`` linear RGB.
        texture: ``[h, w, 4]`` written: linear RGB, then the share of hair in [0, 1], -1 for clothes.
    """
    seed, beard, moustache, goatee, brow_thickness, brow_density, age, blush, collar, freckles, style, line = parameters
    height, width = cover.shape
    for i in range(height):
        for j in range(width):
            if cover[i, j] == 0:
                continue
            x, y, z = positions[i, j, 0], positions[i, j, 1], positions[i, j, 2]
            across, on_lip, ear = abs(x), masks[i, j, 0], masks[i, j, 1]
            r, g, b = _bare_skin(x, y, z, across, ear, skin, blush, age, freckles, seed)
            r, g, b = _over(r, g, b, lip, 0.85 + 0.3 * noise(x * 700, z * 120, 0.0), on_lip)
            if beard > 0 or goatee > 0:
                cover_here = _beard_cover(x, y, z, across, on_lip, beard, moustache, goatee, seed)
                r, g, b = _over(r, g, b, hair, 0.8, cover_here)
            if y < -0.08:
                r, g, b = _over(r, g, b, brow, 1.0, _brow_cover(x, y, z, across, brow_thickness, brow_density, seed))
            scalp = 0.0
            if style > -0.5:
                ragged = (noise(x * 140 + seed, y * 140, z * 25) - 0.5) * 0.014
                ragged += (noise(x * 60 + seed, y * 60, z * 60) - 0.5) * 0.012
                above = z - hair_line_height(x, y, z, line) + ragged
                scalp = step(-0.010, 0.012, above) * (1 - min(1.0, ear))
                r, g, b = _over(r, g, b, hair, 0.9, scalp * 0.9)
            under_chin = mix(0.55, 1.0, step(0.52, 0.60, z + 0.6 * max(0.0, -y - 0.09)))
            eye_corner = 1 - 0.35 * bell(across - 0.019, 0.008) * bell(z - 0.726, 0.008)
            hem = collar - 0.040 + 1.15 * max(0.0, math.sqrt(x * x + (y + 0.01) * (y + 0.01)) - 0.066)
            if z < hem and z < 0.592:
                weave = 0.8 + 0.3 * noise(x * 200, y * 200, z * 200) - 0.25 * step(0.006, 0.0, hem - z)
                r, g, b = cloth[0] * weave, cloth[1] * weave, cloth[2] * weave
                scalp = -1.0
            texture[i, j, 0] = r * under_chin * eye_corner
            texture[i, j, 1] = g * under_chin * eye_corner
            texture[i, j, 2] = b * under_chin * eye_corner
            texture[i, j, 3] = scalp


@njit(**JIT)
def hair_lift(positions, ears, parts, line, thickness, seed, lift):
    """How far the hair shell stands off the scalp, ``lift`` ``[n]`` written; nothing at the helper for long hair."""
    for i in range(positions.shape[0]):
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        if parts[i] == HAIR:
            lift[i] = 0.0
            continue
        above = step(-0.004, 0.05, z - hair_line_height(x, y, z, line))
        uneven = 0.8 + 0.5 * noise(x * 25 + seed, y * 25, z * 25)
        lift[i] = (thickness * above * (1 - ears[i]) + 0.0012) * uneven
