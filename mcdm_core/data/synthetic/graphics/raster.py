"""Rasteriser kernels: depth-buffered triangles with alpha tests, shadow map, vertex normals, final down-sampling."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ..people.head_asset import HAIR, LASH, SKIN
from .noise import JIT, noise, step

BODY_PASS, HAIR_PASS, ATLAS_PASS = 0, 1, 2


@njit(**JIT)
def _interpolate(values, a, b, c, w0, w1, w2, axis):
    """One coordinate of a vertex attribute inside triangle (a, b, c)."""
    return w0 * values[a, axis] + w1 * values[b, axis] + w2 * values[c, axis]


@njit(**JIT)
def _see_through(part, mode, a, b, c, w0, w1, w2, uv, rest, texture, hair_length, seed):
    """Whether a pixel of hair or lashes falls between the strands."""
    if part != HAIR and part != LASH and mode != HAIR_PASS:
        return False
    x = _interpolate(rest, a, b, c, w0, w1, w2, 0)
    y = _interpolate(rest, a, b, c, w0, w1, w2, 1)
    z = _interpolate(rest, a, b, c, w0, w1, w2, 2)
    if mode == HAIR_PASS and part != HAIR:
        # The scalp as a shell: its edge dissolves into strands.
        height, width = texture.shape[:2]
        row = min(height - 1, max(0, int(_interpolate(uv, a, b, c, w0, w1, w2, 1) * height)))
        column = min(width - 1, max(0, int(_interpolate(uv, a, b, c, w0, w1, w2, 0) * width)))
        return texture[row, column, 3] < 0.30 + 0.45 * noise(x * 700, y * 700, z * 90)
    if part == HAIR:
        in_face = y < -0.115 and z < 0.80
        return in_face or z < hair_length + 0.05 * noise(x * 60 + seed, y * 60, 0.0)
    # Only the upper lashes: the full lash mesh draws black rings.
    return z < 0.7275 or noise(x * 1100, 0.0, 0.0) < 0.40 + 0.9 * step(-0.1335, -0.142, y)


@njit(**JIT)
def _doubled_area(screen, a, b, c):
    """Twice the signed area of a triangle on the screen; negative where the skin's outside is seen."""
    ax, ay = screen[a, 0], screen[a, 1]
    return (screen[b, 0] - ax) * (screen[c, 1] - ay) - (screen[c, 0] - ax) * (screen[b, 1] - ay)


@njit(**JIT)
def _extent(screen, a, b, c, size):
    """First and last row and column of the pixels whose centres a triangle may cover."""
    ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
    top = max(0, int(math.ceil(min(ay, by, cy) - 0.5)))
    bottom = min(size - 1, int(math.floor(max(ay, by, cy) - 0.5)))
    left = max(0, int(math.ceil(min(ax, bx, cx) - 0.5)))
    right = min(size - 1, int(math.floor(max(ax, bx, cx) - 0.5)))
    return top, bottom, left, right


@njit(**JIT)
def _weights(screen, a, b, c, inverse, row, column):
    """Barycentric weights of a pixel's centre; ``inverse`` of :func:`_doubled_area`."""
    ax, ay = screen[a, 0], screen[a, 1]
    x, y = column + 0.5 - ax, row + 0.5 - ay
    w1 = (x * (screen[c, 1] - ay) - (screen[c, 0] - ax) * y) * inverse
    w2 = ((screen[b, 0] - ax) * y - x * (screen[b, 1] - ay)) * inverse
    return 1 - w1 - w2, w1, w2


@njit(**JIT)
def rasterize(
    screen, triangles, parts, mode, uv, rest, texture, hair_length, seed, size, depth, owner, weight_b, weight_c, base
):
    """Draw triangles into the depth buffer.

    Args:
        screen: ``[n, 3]`` x, y in pixels and depth of the vertices.
        triangles: ``[m, 3]``; ``parts``: ``[m]``.
        mode: :data:`BODY_PASS`, :data:`HAIR_PASS` (the scalp shell and long hair) or :data:`ATLAS_PASS` (no test).
        uv: ``[n, 2]``; ``rest``: ``[n, 3]`` template positions; ``texture``: ``[h, w, 4]``, the last channel hair.
        depth, owner, weight_b, weight_c: ``[size, size]`` buffers: depth, ``base`` plus the triangle's number, and the
            barycentric weights of its second and third corner.
    """
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        part = parts[t]
        area = _doubled_area(screen, a, b, c)
        if area == 0 or (part == SKIN and mode == BODY_PASS and area > 0):
            continue  # nothing to see, or the skin's back
        top, bottom, left, right = _extent(screen, a, b, c, size)
        inverse = 1.0 / area
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                w0, w1, w2 = _weights(screen, a, b, c, inverse, row, column)
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]
                if z >= depth[row, column]:
                    continue
                if mode != ATLAS_PASS and _see_through(
                    part, mode, a, b, c, w0, w1, w2, uv, rest, texture, hair_length, seed
                ):
                    continue
                depth[row, column] = z
                owner[row, column] = t + base
                weight_b[row, column] = w1
                weight_c[row, column] = w2


@njit(**JIT)
def depth_map(screen, triangles, size, depth):
    """Depth alone, for the shadow map: ``screen`` ``[n, 3]``, ``triangles`` ``[m, 3]``, ``depth`` ``[size, size]``."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area = _doubled_area(screen, a, b, c)
        if area == 0:
            continue
        top, bottom, left, right = _extent(screen, a, b, c, size)
        inverse = 1.0 / area
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                w0, w1, w2 = _weights(screen, a, b, c, inverse, row, column)
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]
                if z < depth[row, column]:
                    depth[row, column] = z


@njit(**JIT)
def vertex_normals(points, triangles, merged, num_merged, normals):
    """Unit normals ``[n, 3]`` of ``points`` ``[n, 3]``; vertices with the same ``merged`` number ``[n]`` share one."""
    total = np.zeros((num_merged, 3), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ex, ey, ez = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        fx, fy, fz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        x, y, z = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
        for k in (merged[a], merged[b], merged[c]):
            total[k, 0] += x
            total[k, 1] += y
            total[k, 2] += z
    for i in range(merged.shape[0]):
        k = merged[i]
        scale = 1 / math.sqrt(total[k, 0] ** 2 + total[k, 1] ** 2 + total[k, 2] ** 2 + 1e-20)
        normals[i, 0] = total[k, 0] * scale
        normals[i, 1] = total[k, 1] * scale
        normals[i, 2] = total[k, 2] * scale


@njit(**JIT)
def resolve(colour, covered, background, picture, factor, grain, strength):
    """Average ``factor`` squared samples, put the background behind, encode as sRGB-like bytes with sensor noise.

    Args:
        colour, background: ``[n f, n f, 3]`` linear RGB; ``covered``: ``[n f, n f]``.
        picture: ``[n, n, 3]`` uint8, written; ``grain``: ``[n, n, 3]`` unit noise; ``strength`` in grey levels.
    """
    side = picture.shape[0]
    for i in range(side):
        for j in range(side):
            for channel in range(3):
                total = 0.0
                for a in range(factor):
                    for b in range(factor):
                        y, x = i * factor + a, j * factor + b
                        total += colour[y, x, channel] if covered[y, x] else background[y, x, channel]
                value = max(0.0, total / (factor * factor)) ** (1 / 2.2) * 255 + grain[i, j, channel] * strength
                picture[i, j, channel] = 0 if value < 0 else (255 if value > 255 else int(value + 0.5))
