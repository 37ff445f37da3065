"""Small numba building blocks of the renderer: value noise and smooth steps."""

from __future__ import annotations

import math

from numba import njit

JIT = {"fastmath": True, "cache": True, "error_model": "numpy"}


@njit(**JIT)
def h3(x, y, z):
    x = x * 0.3183099 + 0.1
    y = y * 0.3183099 + 0.1
    z = z * 0.3183099 + 0.1
    x -= math.floor(x)
    y -= math.floor(y)
    z -= math.floor(z)
    x *= 17.0
    y *= 17.0
    z *= 17.0
    r = x * y * z * (x + y + z)
    return r - math.floor(r)


@njit(**JIT)
def n3(x, y, z):
    i = math.floor(x)
    j = math.floor(y)
    k = math.floor(z)
    f = x - i
    g = y - j
    h = z - k
    f = f * f * (3 - 2 * f)
    g = g * g * (3 - 2 * g)
    h = h * h * (3 - 2 * h)
    a = h3(i, j, k) * (1 - f) + h3(i + 1, j, k) * f
    b = h3(i, j + 1, k) * (1 - f) + h3(i + 1, j + 1, k) * f
    c = h3(i, j, k + 1) * (1 - f) + h3(i + 1, j, k + 1) * f
    d = h3(i, j + 1, k + 1) * (1 - f) + h3(i + 1, j + 1, k + 1) * f
    e = a * (1 - g) + b * g
    q = c * (1 - g) + d * g
    return e * (1 - h) + q * h


@njit(**JIT)
def ss(a, b, x):
    t = (x - a) / (b - a)
    t = 0.0 if t < 0 else (1.0 if t > 1 else t)
    return t * t * (3 - 2 * t)


@njit(**JIT)
def gs(x, s):
    return math.exp(-x * x / (s * s))


@njit(**JIT)
def mixf(a, b, t):
    return a * (1 - t) + b * t
