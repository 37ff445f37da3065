"""Materials of a head: colour and surface of a point from its part and its place on the template."""

from __future__ import annotations

import math

from numba import njit

from ..people.head_asset import EYE, EYE_CAVITY, HAIR, MOUTH, SKIN, TEETH, TONGUE
from .noise import JIT, mix, noise, step

GLASSES = 8


@njit(**JIT)
def hair_material(x, y, z, hair, seed):
    """Strands; see :func:`material` for what is returned."""
    shade = (0.55 + 0.9 * noise(x * 140 + seed, y * 140, z * 25)) * (0.8 + 0.5 * noise(x * 420, y * 420, z * 30))
    return hair[0] * shade, hair[1] * shade, hair[2] * shade, 0.35, 12.0, 1.0, 0.0


@njit(**JIT)
def skin_material(texel, lip):
    """Baked albedo ``texel`` ``[4]`` (hair share last, negative for clothes); lips shine."""
    gloss, sharpness, wrap = 0.18 + 0.30 * lip, 18.0 + 17.0 * lip, 1.0
    if texel[3] < 0:
        gloss, wrap = 0.02, 0.0
    else:
        gloss *= 1 - 0.7 * texel[3]
    return texel[0], texel[1], texel[2], gloss, sharpness, 1.0, wrap


@njit(**JIT)
def _eye(x, y, z, centres, iris, seed):
    side = 0 if x > 0 else 1
    dx, dy, dz = x - centres[side, 0], y - centres[side, 1], z - centres[side, 2]
    radius = math.sqrt(dx * dx + dz * dz) / 0.0142 if dy <= 0 else 2.0
    fibres = 0.7 + 0.9 * noise(math.atan2(dz, dx) * 9, radius * 3, seed)
    shade = fibres * (1 + 0.8 * step(0.2, 0.4, radius)) * mix(1.0, 0.35, step(0.36, 0.44, radius))
    inside = step(0.48, 0.41, radius)
    r, g, b = mix(0.80, iris[0] * shade, inside), mix(0.77, iris[1] * shade, inside), mix(0.74, iris[2] * shade, inside)
    pupil = step(0.21, 0.15, radius)
    r, g, b = mix(r, 0.01, pupil), mix(g, 0.01, pupil), mix(b, 0.01, pupil)
    vessels = 0.35 * step(0.65, 1.0, radius)
    r, g, b = mix(r, 0.6, vessels), mix(g, 0.25, vessels), mix(b, 0.2, vessels)
    shadow = mix(0.42, 1.0, step(0.009, -0.004, dz)) * mix(1.0, 0.6, step(0.008, 0.014, abs(dx)))
    return r, g, b, 0.9, 90.0, shadow, 0.2


@njit(**JIT)
def _teeth(x, y, z, teeth):
    """``teeth``: see identity.py:Identity."""
    place = math.atan2(x, 0.036 - (y + 0.1468)) * teeth[4]
    place -= math.floor(place)
    gap = mix(teeth[3], 1.0, step(0.0, 0.12, min(place, 1 - place)))
    gum = min(1.0, step(0.6682 + teeth[5], 0.6707 + teeth[5], z) + step(0.6478 - teeth[5], 0.6458 - teeth[5], z))
    r, g, b = mix(teeth[0] * gap, 0.45, gum), mix(teeth[1] * gap, 0.15, gum), mix(teeth[2] * gap, 0.15, gum)
    return r, g, b, 0.5, 40.0, step(-0.105, -0.148, y) * 0.72, 0.2


@njit(**JIT)
def material(part, x, y, z, skin, iris, frame, teeth, eye_centres, seed):
    """Everything but skin and hair.

    Args:
        part: part code; ``x, y, z``: the point on the template; ``skin, iris, frame``: ``[3]`` linear colours;
        ``teeth``: ``[6]``, see identity.py:Identity.

    Returns:
        Red, green, blue, strength and sharpness of the highlight, ambient occlusion in [0, 1], share of light that
        wraps around the edge. The last stands for light scattered under the skin.
    """
    if part == EYE:
        return _eye(x, y, z, eye_centres, iris, seed)
    if part == TEETH:
        return _teeth(x, y, z, teeth)
    if part == TONGUE:
        return 0.42, 0.13, 0.125, 0.3, 25.0, 0.08 + step(-0.09, -0.145, y) * 0.62 * step(0.632, 0.662, z), 1.0
    if part == MOUTH:
        return 0.28, 0.06, 0.055, 0.1, 18.0, mix(0.07, 0.6, step(-0.110, -0.150, y)), 1.0
    if part == EYE_CAVITY:
        return skin[0] * 0.75, skin[1] * 0.45, skin[2] * 0.42, 0.18, 18.0, 0.6, 1.0
    if part == GLASSES:
        return frame[0], frame[1], frame[2], 0.6, 40.0, 1.0, 0.0
    return 0.02, 0.015, 0.012, 0.0, 18.0, 1.0, 0.0  # lashes


@njit(**JIT)
def is_hair(part, in_shell):
    """Long hair, or the scalp drawn a second time as a shell."""
    return part == HAIR or (in_shell and part == SKIN)
