"""Shading kernel: wrapped diffuse light, highlights and soft shadows over the visible triangles."""

from __future__ import annotations

import math

from numba import njit

from ..people.head_asset import SKIN
from .materials import hair_material, is_hair, material, skin_material
from .noise import JIT, mix


@njit(**JIT)
def _attribute(values, a, b, c, w0, w1, w2):
    """A 3-vector attribute inside triangle (a, b, c)."""
    return (
        w0 * values[a, 0] + w1 * values[b, 0] + w2 * values[c, 0],
        w0 * values[a, 1] + w1 * values[b, 1] + w2 * values[c, 1],
        w0 * values[a, 2] + w1 * values[b, 2] + w2 * values[c, 2],
    )


@njit(**JIT)
def _unit(x, y, z):
    scale = 1 / math.sqrt(x * x + y * y + z * z + 1e-9)
    return x * scale, y * scale, z * scale


@njit(**JIT)
def _lit(px, py, pz, matrix, shadow_map):
    """Share of the key light that reaches a point: 25 taps of the shadow map (percentage closer filtering)."""
    side = shadow_map.shape[0]
    column = int(matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + matrix[0, 3])
    row = int(matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + matrix[1, 3])
    depth = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + matrix[2, 3] - 0.006
    if row <= 1 or column <= 1 or row >= side - 2 or column >= side - 2:
        return 1.0
    total = 0.0
    for i in range(-2, 3):
        for j in range(-2, 3):
            if depth < shadow_map[row + i, column + j]:
                total += 1.0
    return total / 25.0


@njit(**JIT)
def _highlight(nx, ny, nz, vx, vy, vz, light, gloss, sharpness):
    """Blinn-Phong highlight with Schlick's Fresnel term."""
    hx, hy, hz = _unit(light[0] + vx, light[1] + vy, light[2] + vz)
    grazing = 1 - max(0.0, hx * vx + hy * vy + hz * vz)
    fresnel = 0.04 + 0.96 * grazing**5
    return gloss * max(0.0, nx * hx + ny * hy + nz * hz) ** sharpness * (sharpness + 8) / 25 * fresnel * 6


@njit(**JIT)
def _wrapped(cosine, reach, wrap):
    """Diffuse term; with ``wrap`` the light reaches ``reach`` beyond the edge, redder light further."""
    return mix(max(cosine, 0.0), max(0.0, (cosine + reach) / (1 + reach)), wrap)


@njit(**JIT)
def _film(value):
    """Shoulder of a film curve."""
    return value * (1 + value * 0.18) / (1 + value * 0.72)


@njit(**JIT)
def shade(
    owner,
    weight_b,
    weight_c,
    triangles,
    parts,
    num_body,
    points,
    normals,
    rest,
    uv,
    masks,
    texture,
    shadow_matrix,
    shadow_map,
    shadow_strength,
    skin,
    hair,
    iris,
    frame,
    teeth,
    eye_centres,
    seed,
    camera,
    key,
    key_colour,
    fill,
    fill_colour,
    sky,
    ground,
    exposure,
    colour,
    covered,
):
    """Colour every covered pixel.

    Args:
        owner, weight_b, weight_c: ``[s, s]`` buffers of the rasteriser; ``triangles``: ``[m, 3]``, those of the hair
            shell from ``num_body`` on; ``parts``: ``[m]``.
        points, normals, rest: ``[n, 3]``; ``uv``, ``masks``: ``[n, 2]`` (lips, ears); ``texture``: ``[h, w, 4]``.
        shadow_matrix: ``[3, 4]`` from the mesh's space into the shadow map ``[d, d]``.
        key, fill: ``[3]`` directions towards the lights; colours are linear RGB ``[3]``.
        colour: ``[s, s, 3]`` linear RGB, written; ``covered``: ``[s, s]`` uint8, written.
    """
    height, width = texture.shape[:2]
    size = owner.shape[0]
    for i in range(size):
        for j in range(size):
            t = owner[i, j]
            covered[i, j] = 1 if t >= 0 else 0
            if t < 0:
                continue
            part = parts[t]
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            w1, w2 = weight_b[i, j], weight_c[i, j]
            w0 = 1 - w1 - w2
            nx, ny, nz = _attribute(normals, a, b, c, w0, w1, w2)
            nx, ny, nz = _unit(nx, ny, nz)
            x, y, z = _attribute(rest, a, b, c, w0, w1, w2)
            px, py, pz = _attribute(points, a, b, c, w0, w1, w2)
            vx, vy, vz = _unit(camera[0] - px, camera[1] - py, camera[2] - pz)
            if nx * vx + ny * vy + nz * vz < 0 and part != SKIN:
                nx, ny, nz = -nx, -ny, -nz
            if is_hair(part, t >= num_body):
                red, green, blue, gloss, sharpness, open_sky, wrap = hair_material(x, y, z, hair, seed)
            elif part == SKIN:
                row = min(height - 1, max(0, int((w0 * uv[a, 1] + w1 * uv[b, 1] + w2 * uv[c, 1]) * height)))
                column = min(width - 1, max(0, int((w0 * uv[a, 0] + w1 * uv[b, 0] + w2 * uv[c, 0]) * width)))
                lip = w0 * masks[a, 0] + w1 * masks[b, 0] + w2 * masks[c, 0]
                red, green, blue, gloss, sharpness, open_sky, wrap = skin_material(texture[row, column], lip)
            else:
                red, green, blue, gloss, sharpness, open_sky, wrap = material(
                    part, x, y, z, skin, iris, frame, teeth, eye_centres, seed
                )
            up = nz * 0.5 + 0.5
            out_r = red * mix(ground[0], sky[0], up) * open_sky
            out_g = green * mix(ground[1], sky[1], up) * open_sky
            out_b = blue * mix(ground[2], sky[2], up) * open_sky
            for k in range(2):
                light = key if k == 0 else fill
                tint = key_colour if k == 0 else fill_colour
                reach = mix(1.0, _lit(px, py, pz, shadow_matrix, shadow_map), shadow_strength) if k == 0 else 1.0
                cosine = nx * light[0] + ny * light[1] + nz * light[2]
                shine = 0.0
                if cosine > 0 and gloss > 0:
                    shine = _highlight(nx, ny, nz, vx, vy, vz, light, gloss, sharpness) * open_sky
                out_r += tint[0] * (red * _wrapped(cosine, 0.32, wrap) * open_sky + shine) * reach
                out_g += tint[1] * (green * _wrapped(cosine, 0.14, wrap) * open_sky + shine) * reach
                out_b += tint[2] * (blue * _wrapped(cosine, 0.10, wrap) * open_sky + shine) * reach
            colour[i, j, 0] = _film(out_r * exposure)
            colour[i, j, 1] = _film(out_g * exposure)
            colour[i, j, 2] = _film(out_b * exposure)
