"""Albedo of the skin, baked once an identity: pores, blush, lips, brows, beard, age, hairline, clothes."""

from __future__ import annotations

import math

from numba import njit

from .noise import JIT, gs, mixf, n3, ss


@njit(**JIT)
def hline(x, y, z, line):
    f = math.atan2(abs(x), -(y + 0.03))
    h = mixf(0.800, 0.790, ss(0.0, 0.75, f))
    h = mixf(h, 0.722, ss(0.80, 1.15, f))
    h = mixf(h, 0.742, ss(1.25, 1.6, f))
    h = mixf(h, 0.655, ss(1.75, 2.3, f))
    h = mixf(h, 0.625, ss(2.3, 3.1, f))
    return h + line * (1.0 - ss(0.9, 1.4, f))


@njit(**JIT)
def bake(Rm, Mm, cov, prm, skin, lip, hair, brow, cloth, tex):
    # prm: seed,beard,mous,bthick,bden,age,blush,collar,freck,hstyle,hline
    seed, beard, mous, bthick, bden, age, blush, collar, freck, hst, hln = prm
    H, W = cov.shape
    for i in range(H):
        for j in range(W):
            if cov[i, j] == 0:
                continue
            x = Rm[i, j, 0]
            y = Rm[i, j, 1]
            z = Rm[i, j, 2]
            ax = abs(x)
            lm = Mm[i, j, 0]
            er = Mm[i, j, 1]
            l1 = n3(x * 35 + seed, y * 35, z * 35)
            l2 = n3(x * 120 + seed * 2, y * 120, z * 120)
            l3 = n3(x * 500, y * 500, z * 500)
            k = 0.86 + 0.16 * l1 + 0.10 * l2 + 0.08 * l3
            r = skin[0] * k
            g = skin[1] * k
            b = skin[2] * k
            t = blush * min(
                1.0, gs(ax - 0.045, 0.022) * gs(z - 0.690, 0.020) + 0.8 * gs(x, 0.014) * gs(z - 0.695, 0.014) + 0.6 * er
            )
            r *= 1 + 0.10 * t
            g *= 1 - 0.18 * t
            b *= 1 - 0.20 * t
            so = gs(ax - 0.031, 0.018) * gs(z - 0.7205, 0.011) * (0.5 + 0.4 * age)
            r *= 1 - 0.18 * so
            g *= 1 - 0.28 * so
            b *= 1 - 0.26 * so
            # upper lid crease & lash line
            lid = (
                gs(z - 0.7395 + 0.9 * (ax - 0.031) * (ax - 0.031) * 10.0, 0.0016)
                * ss(0.016, 0.02, ax)
                * ss(0.052, 0.046, ax)
                * (y < -0.08)
            )
            k = 1 - 0.30 * lid
            r *= k
            g *= k
            b *= k
            if freck > 0:
                f = 0.35 * freck * ss(0.62, 0.8, n3(x * 330 + seed, y * 330, z * 330)) * gs(z - 0.70, 0.03)
                r *= 1 - f
                g *= 1 - f
                b *= 1 - f
            if age > 0:
                w = (
                    age
                    * gs(z - 0.775, 0.02)
                    * (0.5 + 0.5 * math.sin(z * 900 + 6 * n3(x * 30, y * 30, z * 30)))
                    * 0.22
                    * ss(0.07, 0.03, ax)
                )
                # nasolabial fold + crow feet
                nx = 0.022 + 0.35 * max(0.0, 0.692 - z)
                w += age * 0.30 * gs(ax - nx, 0.0022) * ss(0.655, 0.665, z) * ss(0.697, 0.688, z) * (y < -0.1)
                r *= 1 - w
                g *= 1 - w
                b *= 1 - w
            k = 0.85 + 0.3 * n3(x * 700, z * 120, 0.0)
            r = mixf(r, lip[0] * k, lm)
            g = mixf(g, lip[1] * k, lm)
            b = mixf(b, lip[2] * k, lm)
            if beard > 0:
                bz = (
                    ss(0.697, 0.668, z - 0.55 * max(0.0, ax - 0.035))
                    * ss(0.585, 0.60, z)
                    * ss(0.0, -0.05, y + 0.02)
                    * (1 - lm)
                )
                bz *= ss(0.026, 0.042, ax + (0.655 - z) * 1.6)
                bz = max(bz, mous * gs(z - 0.6815, 0.006) * ss(0.033, 0.026, ax) * (1 - lm))
                bd = min(0.9, bz * beard * (0.45 + 0.75 * n3(x * 900 + seed, y * 900, z * 200)))
                r = mixf(r, hair[0] * 0.8, bd)
                g = mixf(g, hair[1] * 0.8, bd)
                b = mixf(b, hair[2] * 0.8, bd)
            bt = (ax - 0.010) / 0.043
            bc = min(1.0, max(0.0, bt))
            zc = 0.7475 + 0.0065 * math.sin(bc * 2.3) - 0.004 * max(0.0, bt - 0.6)
            th = bthick * (1.15 - 0.65 * bc)
            if y < -0.08:
                bm = (
                    ss(1.0, 0.35, abs(z - zc + (n3(x * 500 + seed, y * 500, z * 500) - 0.5) * 0.0022) / th)
                    * ss(-0.06, 0.06, bt)
                    * ss(1.08, 0.85, bt)
                )
                st = n3(x * 900 + z * 500 * (1 if x > 0 else -1), z * 160, seed)
                m = min(0.96, bm * bden * (0.55 + 0.75 * st))
                r = mixf(r, brow[0], m)
                g = mixf(g, brow[1], m)
                b = mixf(b, brow[2], m)
            hm = 0.0
            if hst > -0.5:
                hm = ss(
                    -0.010,
                    0.012,
                    z
                    - hline(x, y, z, hln)
                    + (n3(x * 140 + seed, y * 140, z * 25) - 0.5) * 0.014
                    + (n3(x * 60 + seed, y * 60, z * 60) - 0.5) * 0.012,
                ) * (1 - min(1.0, er))
                r = mixf(r, hair[0] * 0.9, hm * 0.9)
                g = mixf(g, hair[1] * 0.9, hm * 0.9)
                b = mixf(b, hair[2] * 0.9, hm * 0.9)
            ao = mixf(0.55, 1.0, ss(0.52, 0.60, z + 0.6 * max(0.0, -y - 0.09))) * (
                1 - 0.35 * gs(ax - 0.019, 0.008) * gs(z - 0.726, 0.008)
            )
            dd = math.sqrt(x * x + (y + 0.01) * (y + 0.01))
            cz = collar - 0.040 + 1.15 * max(0.0, dd - 0.066)
            cl = 0.0
            if z < cz and z < 0.592:
                k = 0.8 + 0.3 * n3(x * 200, y * 200, z * 200) - 0.25 * ss(0.006, 0.0, cz - z)
                r = cloth[0] * k
                g = cloth[1] * k
                b = cloth[2] * k
                cl = 1.0
            tex[i, j, 0] = r * ao
            tex[i, j, 1] = g * ao
            tex[i, j, 2] = b * ao
            tex[i, j, 3] = hm if cl == 0 else -1.0


@njit(**JIT)
def hairoff(T, er, part, line, thick, seed, out):
    for i in range(T.shape[0]):
        x = T[i, 0]
        y = T[i, 1]
        z = T[i, 2]
        if part[i] == 7:
            out[i] = 0.0
            continue
        t = ss(-0.004, 0.05, z - hline(x, y, z, line))
        out[i] = (thick * t * (1 - er[i]) + 0.0012) * (0.8 + 0.5 * n3(x * 25 + seed, y * 25, z * 25))
