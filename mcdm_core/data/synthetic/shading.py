"""Shading kernel: wrapped diffuse light, highlights, soft shadows and the materials of a head."""

from __future__ import annotations

import math

from numba import njit

from .noise import JIT, mixf, n3, ss


@njit(**JIT)
def shade2(
    size,
    tid,
    bu,
    bv,
    tris,
    tpart,
    nbody,
    V,
    N,
    R,
    UV,
    M,
    tex,
    SL,
    sdw,
    skin,
    hair,
    iris,
    frame,
    cam,
    L1,
    C1,
    L2,
    C2,
    amb,
    ambg,
    expo,
    shstr,
    e0,
    seed,
    rgb,
    al,
):
    TH, TW = tex.shape[:2]
    SD = sdw.shape[0]
    for i in range(size):
        for j in range(size):
            t = tid[i, j]
            if t < 0:
                al[i, j] = 0
                continue
            al[i, j] = 1
            sh_ = t >= nbody
            p = tpart[t]
            a_ = tris[t, 0]
            b_ = tris[t, 1]
            c_ = tris[t, 2]
            w1 = bu[i, j]
            w2 = bv[i, j]
            w0 = 1 - w1 - w2
            nx = w0 * N[a_, 0] + w1 * N[b_, 0] + w2 * N[c_, 0]
            ny = w0 * N[a_, 1] + w1 * N[b_, 1] + w2 * N[c_, 1]
            nz = w0 * N[a_, 2] + w1 * N[b_, 2] + w2 * N[c_, 2]
            q = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
            nx *= q
            ny *= q
            nz *= q
            x = w0 * R[a_, 0] + w1 * R[b_, 0] + w2 * R[c_, 0]
            y = w0 * R[a_, 1] + w1 * R[b_, 1] + w2 * R[c_, 1]
            z = w0 * R[a_, 2] + w1 * R[b_, 2] + w2 * R[c_, 2]
            Px = w0 * V[a_, 0] + w1 * V[b_, 0] + w2 * V[c_, 0]
            Py = w0 * V[a_, 1] + w1 * V[b_, 1] + w2 * V[c_, 1]
            Pz = w0 * V[a_, 2] + w1 * V[b_, 2] + w2 * V[c_, 2]
            vx = cam[0] - Px
            vy = cam[1] - Py
            vz = cam[2] - Pz
            q = 1 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx *= q
            vy *= q
            vz *= q
            if nx * vx + ny * vy + nz * vz < 0 and p != 0:
                nx = -nx
                ny = -ny
                nz = -nz
            spec = 0.18
            gl = 18.0
            ao = 1.0
            sss = 1.0
            if p == 7 or (sh_ and p == 0):
                k = (0.55 + 0.9 * n3(x * 140 + seed, y * 140, z * 25)) * (0.8 + 0.5 * n3(x * 420, y * 420, z * 30))
                r = hair[0] * k
                g = hair[1] * k
                b = hair[2] * k
                spec = 0.35
                gl = 12.0
                sss = 0.0
            elif p == 0:
                u = w0 * UV[a_, 0] + w1 * UV[b_, 0] + w2 * UV[c_, 0]
                v = w0 * UV[a_, 1] + w1 * UV[b_, 1] + w2 * UV[c_, 1]
                ti = min(TH - 1, max(0, int(v * TH)))
                tj = min(TW - 1, max(0, int(u * TW)))
                r = tex[ti, tj, 0]
                g = tex[ti, tj, 1]
                b = tex[ti, tj, 2]
                hm = tex[ti, tj, 3]
                lm = w0 * M[a_, 0] + w1 * M[b_, 0] + w2 * M[c_, 0]
                spec = 0.18 + 0.30 * lm
                gl = 18 + 17 * lm
                if hm < 0:
                    spec = 0.02
                    sss = 0.0
                else:
                    spec *= 1 - 0.7 * hm
            elif p == 6:
                r = skin[0] * 0.75
                g = skin[1] * 0.45
                b = skin[2] * 0.42
                ao = 0.6
            elif p == 1:
                s = 0 if x > 0 else 1
                qx = x - e0[s, 0]
                qy = y - e0[s, 1]
                qz = z - e0[s, 2]
                rr = math.sqrt(qx * qx + qz * qz) / 0.0142
                if qy > 0:
                    rr = 2.0
                k = (
                    (0.7 + 0.9 * n3(math.atan2(qz, qx) * 9, rr * 3, seed))
                    * (1 + 0.8 * ss(0.2, 0.4, rr))
                    * mixf(1.0, 0.35, ss(0.36, 0.44, rr))
                )
                m = ss(0.48, 0.41, rr)
                r = mixf(0.80, iris[0] * k, m)
                g = mixf(0.77, iris[1] * k, m)
                b = mixf(0.74, iris[2] * k, m)
                m = ss(0.21, 0.15, rr)
                r = mixf(r, 0.01, m)
                g = mixf(g, 0.01, m)
                b = mixf(b, 0.01, m)
                m = 0.35 * ss(0.65, 1.0, rr)
                r = mixf(r, 0.6, m)
                g = mixf(g, 0.25, m)
                b = mixf(b, 0.2, m)
                ao = mixf(0.42, 1.0, ss(0.009, -0.004, qz)) * mixf(1.0, 0.6, ss(0.008, 0.014, abs(qx)))
                spec = 0.9
                gl = 90.0
                sss = 0.2
            elif p == 2:
                th = math.atan2(x, 0.036 - (y + 0.1468)) * 7
                tq = th - math.floor(th)
                k = mixf(0.6, 1.0, ss(0.0, 0.12, min(tq, 1 - tq)))
                gm = min(1.0, ss(0.6682, 0.6707, z) + ss(0.6478, 0.6458, z))
                r = mixf(0.74 * k, 0.45, gm)
                g = mixf(0.69 * k, 0.15, gm)
                b = mixf(0.58 * k, 0.15, gm)
                ao = ss(-0.105, -0.148, y) * 0.72
                spec = 0.5
                gl = 40.0
                sss = 0.2
            elif p == 3:
                r = 0.42
                g = 0.13
                b = 0.125
                ao = 0.08 + ss(-0.09, -0.145, y) * 0.62 * ss(0.632, 0.662, z)
                spec = 0.3
                gl = 25.0
            elif p == 5:
                r = 0.28
                g = 0.06
                b = 0.055
                ao = mixf(0.07, 0.6, ss(-0.110, -0.150, y))
                spec = 0.1
            elif p == 8:
                r = frame[0]
                g = frame[1]
                b = frame[2]
                spec = 0.6
                gl = 40.0
                sss = 0.0
            else:
                r = 0.02
                g = 0.015
                b = 0.012
                spec = 0.0
                sss = 0.0
            m = nz * 0.5 + 0.5
            cr = r * mixf(ambg[0], amb[0], m) * ao
            cg = g * mixf(ambg[1], amb[1], m) * ao
            cb = b * mixf(ambg[2], amb[2], m) * ao
            for k in range(2):
                L = L1 if k == 0 else L2
                C = C1 if k == 0 else C2
                d = nx * L[0] + ny * L[1] + nz * L[2]
                lit = 1.0
                if k == 0:
                    lx = SL[0, 0] * Px + SL[0, 1] * Py + SL[0, 2] * Pz + SL[0, 3]
                    ly = SL[1, 0] * Px + SL[1, 1] * Py + SL[1, 2] * Pz + SL[1, 3]
                    lz = (SL[2, 0] * Px + SL[2, 1] * Py + SL[2, 2] * Pz + SL[2, 3]) - 0.006
                    li = int(ly)
                    lj = int(lx)
                    acc = 0.0
                    if li > 1 and lj > 1 and li < SD - 2 and lj < SD - 2:
                        for ii in range(-2, 3, 1):
                            for jj in range(-2, 3, 1):
                                if lz < sdw[li + ii, lj + jj]:
                                    acc += 1.0
                        lit = mixf(1.0, acc / 25.0, shstr)
                hx = L[0] + vx
                hy = L[1] + vy
                hz = L[2] + vz
                q = 1 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
                hx *= q
                hy *= q
                hz *= q
                s = 0.0
                if d > 0 and spec > 0:
                    hv = 1 - max(0.0, hx * vx + hy * vy + hz * vz)
                    fr = 0.04 + 0.96 * hv * hv * hv * hv * hv
                    s = spec * max(0.0, nx * hx + ny * hy + nz * hz) ** gl * (gl + 8) / 25 * fr * 6 * ao
                dm = max(d, 0.0)
                dr = mixf(dm, max(0.0, (d + 0.32) / 1.32), sss)
                dg = mixf(dm, max(0.0, (d + 0.14) / 1.14), sss)
                db = mixf(dm, max(0.0, (d + 0.10) / 1.10), sss)
                cr += C[0] * (r * dr * ao + s) * lit
                cg += C[1] * (g * dg * ao + s) * lit
                cb += C[2] * (b * db * ao + s) * lit
            cr *= expo
            cg *= expo
            cb *= expo
            cr = cr * (1 + cr * 0.18) / (1 + cr * 0.72)
            cg = cg * (1 + cg * 0.18) / (1 + cg * 0.72)
            cb = cb * (1 + cb * 0.18) / (1 + cb * 0.72)
            rgb[i, j, 0] = cr
            rgb[i, j, 1] = cg
            rgb[i, j, 2] = cb
