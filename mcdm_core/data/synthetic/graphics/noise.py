"""Small numba building blocks of the renderer: value noise and smooth steps."""

from __future__ import annotations

import math

from numba import njit

JIT = {"fastmath": True, "cache": True, "error_model": "numpy"}


@njit(**JIT)
def _lattice(x: float, y: float, z: float) -> float:
    """A pseudo-random number in [0, 1) for a point of the integer lattice."""
    x = x * 0.3183099 + 0.1
    y = y * 0.3183099 + 0.1
    z = z * 0.3183099 + 0.1
    x = (x - math.floor(x)) * 17.0
    y = (y - math.floor(y)) * 17.0
    z = (z - math.floor(z)) * 17.0
    value = x * y * z * (x + y + z)
    return value - math.floor(value)


@njit(**JIT)
def noise(x: float, y: float, z: float) -> float:
    """Smooth value noise in [0, 1) with features about one unit wide."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    f, g, h = x - i, y - j, z - k
    f = f * f * (3 - 2 * f)
    g = g * g * (3 - 2 * g)
    h = h * h * (3 - 2 * h)
    near_low = _lattice(i, j, k) * (1 - f) + _lattice(i + 1, j, k) * f
    near_high = _lattice(i, j + 1, k) * (1 - f) + _lattice(i + 1, j + 1, k) * f
    far_low = _lattice(i, j, k + 1) * (1 - f) + _lattice(i + 1, j, k + 1) * f
    far_high = _lattice(i, j + 1, k + 1) * (1 - f) + _lattice(i + 1, j + 1, k + 1) * f
    near = near_low * (1 - g) + near_high * g
    far = far_low * (1 - g) + far_high * g
    return near * (1 - h) + far * h


@njit(**JIT)
def step(start: float, end: float, x: float) -> float:
    """0 at ``start``, 1 at ``end``, smooth between; ``start`` may be the larger one."""
    t = (x - start) / (end - start)
    t = 0.0 if t < 0 else (1.0 if t > 1 else t)
    return t * t * (3 - 2 * t)


@njit(**JIT)
def bell(x: float, width: float) -> float:
    """Gaussian bump, 1 at x = 0."""
    return math.exp(-x * x / (width * width))


@njit(**JIT)
def mix(a: float, b: float, t: float) -> float:
    """``a`` at t = 0, ``b`` at t = 1."""
    return a * (1 - t) + b * t
