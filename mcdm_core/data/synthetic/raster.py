"""Rasteriser kernels: depth-buffered triangles with alpha tests, shadow map, vertex normals, final down-sampling."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .noise import JIT, n3, ss


@njit(**JIT)
def raster(S, tris, tpart, shell, UV, R, tex, hp, seed, size, zb, tid, bu, bv, base):
    TH, TW = tex.shape[:2]
    for t in range(tris.shape[0]):
        a = tris[t, 0]
        b = tris[t, 1]
        c = tris[t, 2]
        p = tpart[t]
        x0 = S[a, 0]
        y0 = S[a, 1]
        x1 = S[b, 0]
        y1 = S[b, 1]
        x2 = S[c, 0]
        y2 = S[c, 1]
        ar = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if ar == 0:
            continue
        if p == 0 and shell == 0 and ar > 0:
            continue  # back faces
        xa = max(0, int(math.ceil(min(x0, x1, x2) - 0.5)))
        xb = min(size - 1, int(math.floor(max(x0, x1, x2) - 0.5)))
        ya = max(0, int(math.ceil(min(y0, y1, y2) - 0.5)))
        yb = min(size - 1, int(math.floor(max(y0, y1, y2) - 0.5)))
        if xa > xb or ya > yb:
            continue
        ia = 1.0 / ar
        for yy in range(ya, yb + 1):
            py = yy + 0.5
            for xx in range(xa, xb + 1):
                px = xx + 0.5
                w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * ia
                w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * ia
                w0 = 1 - w1 - w2
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * S[a, 2] + w1 * S[b, 2] + w2 * S[c, 2]
                if z >= zb[yy, xx]:
                    continue
                if shell == 1 and p != 7:
                    u = w0 * UV[a, 0] + w1 * UV[b, 0] + w2 * UV[c, 0]
                    v = w0 * UV[a, 1] + w1 * UV[b, 1] + w2 * UV[c, 1]
                    if tex[min(TH - 1, max(0, int(v * TH))), min(TW - 1, max(0, int(u * TW))), 3] < 0.30 + 0.45 * n3(
                        (w0 * R[a, 0] + w1 * R[b, 0] + w2 * R[c, 0]) * 700,
                        (w0 * R[a, 1] + w1 * R[b, 1] + w2 * R[c, 1]) * 700,
                        (w0 * R[a, 2] + w1 * R[b, 2] + w2 * R[c, 2]) * 90,
                    ):
                        continue
                elif p == 7:
                    rx = w0 * R[a, 0] + w1 * R[b, 0] + w2 * R[c, 0]
                    ry = w0 * R[a, 1] + w1 * R[b, 1] + w2 * R[c, 1]
                    rz = w0 * R[a, 2] + w1 * R[b, 2] + w2 * R[c, 2]
                    if rz < hp[3] + 0.05 * n3(rx * 60 + seed, ry * 60, 0.0) or (ry < -0.115 and rz < 0.80):
                        continue
                elif p == 4:
                    rx = w0 * R[a, 0] + w1 * R[b, 0] + w2 * R[c, 0]
                    ry = w0 * R[a, 1] + w1 * R[b, 1] + w2 * R[c, 1]
                    rz = w0 * R[a, 2] + w1 * R[b, 2] + w2 * R[c, 2]
                    if rz < 0.7275 or n3(rx * 1100, 0.0, 0.0) < 0.40 + 0.9 * ss(-0.1335, -0.142, ry):
                        continue
                zb[yy, xx] = z
                tid[yy, xx] = t + base
                bu[yy, xx] = w1
                bv[yy, xx] = w2


@njit(**JIT)
def depth(S, tris, size, zb):
    for t in range(tris.shape[0]):
        a = tris[t, 0]
        b = tris[t, 1]
        c = tris[t, 2]
        x0 = S[a, 0]
        y0 = S[a, 1]
        x1 = S[b, 0]
        y1 = S[b, 1]
        x2 = S[c, 0]
        y2 = S[c, 1]
        ar = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if ar == 0:
            continue
        xa = max(0, int(math.ceil(min(x0, x1, x2) - 0.5)))
        xb = min(size - 1, int(math.floor(max(x0, x1, x2) - 0.5)))
        ya = max(0, int(math.ceil(min(y0, y1, y2) - 0.5)))
        yb = min(size - 1, int(math.floor(max(y0, y1, y2) - 0.5)))
        ia = 1.0 / ar
        for yy in range(ya, yb + 1):
            for xx in range(xa, xb + 1):
                px = xx + 0.5
                py = yy + 0.5
                w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * ia
                w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * ia
                if w1 < 0 or w2 < 0 or w1 + w2 > 1:
                    continue
                z = (1 - w1 - w2) * S[a, 2] + w1 * S[b, 2] + w2 * S[c, 2]
                if z < zb[yy, xx]:
                    zb[yy, xx] = z


@njit(**JIT)
def vnorm(V, tris, vm, nv, out):
    acc = np.zeros((nv, 3), np.float32)
    for t in range(tris.shape[0]):
        a = tris[t, 0]
        b = tris[t, 1]
        c = tris[t, 2]
        ex = V[b, 0] - V[a, 0]
        ey = V[b, 1] - V[a, 1]
        ez = V[b, 2] - V[a, 2]
        fx = V[c, 0] - V[a, 0]
        fy = V[c, 1] - V[a, 1]
        fz = V[c, 2] - V[a, 2]
        x = ey * fz - ez * fy
        y = ez * fx - ex * fz
        z = ex * fy - ey * fx
        for k in (vm[a], vm[b], vm[c]):
            acc[k, 0] += x
            acc[k, 1] += y
            acc[k, 2] += z
    for i in range(vm.shape[0]):
        k = vm[i]
        q = 1 / math.sqrt(acc[k, 0] ** 2 + acc[k, 1] ** 2 + acc[k, 2] ** 2 + 1e-20)
        out[i, 0] = acc[k, 0] * q
        out[i, 1] = acc[k, 1] * q
        out[i, 2] = acc[k, 2] * q


@njit(**JIT)
def finish(rgb, al, bg, out, k, noise, amp):
    n = out.shape[0]
    for i in range(n):
        for j in range(n):
            for c in range(3):
                s = 0.0
                for a in range(k):
                    for b in range(k):
                        y = i * k + a
                        x = j * k + b
                        s += rgb[y, x, c] if al[y, x] else bg[y, x, c]
                s = max(0.0, s / (k * k)) ** (1 / 2.2) * 255 + noise[i, j, c] * amp
                out[i, j, c] = 0 if s < 0 else (255 if s > 255 else int(s + 0.5))
