"""The CPU kernels: a z-buffer in numba, and a fused path from vertices to shaded pixels.

Method. Every vertex is projected once, in float64. A triangle covers a pixel when the pixel's centre lies on the inner
side of its three edge functions ``e(x, y) = a x + b y + k`` (Pineda 1988, *A Parallel Algorithm for Polygon
Rasterization*). Two triangles that share an edge evaluate the same numbers with opposite signs, so a centre exactly on
the edge belongs to exactly one of them: the one for which it is a top or a left edge. Inverse depth is linear in the
picture and decides visibility; of equal depths the lower triangle index wins. Triangles that reach behind the near
plane are rasterised by homogeneous edge functions (Olano & Greer 1997, *Triangle Scan Conversion using 2D Homogeneous
Coordinates*), which need no clipping. Triangles are two-sided: back faces hide what is behind them.

Work is cut into row bands of images. Every pixel sees the triangles in the same order whatever the cut, so the result
does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from ..cameras import NEAR
from ..color import TABLE_SIZE
from ._compile import kernel

TIE = 1e-300  # an edge function must reach this where a tie is excluded: above 0, below any rounding
SHININESS_SQUARINGS = 5  # Blinn-Phong exponent 2**5 = 32
LANES = 8  # pixels tested together
INDEX_MASK = (1 << 24) - 1  # bits of a z-buffer key that hold the triangle; 28 bits of the depth's mantissa remain
POINT_DISTANCE = 100.0  # cm, where a point light's power is its intensity
NEAREST = 1.0  # cm: a point light that is nearer to the skin gets no brighter
MOST = 1.0 / NEAR  # largest inverse depth
BACK_LIGHT = 0.5  # back faces (the inside of the head) see this share of the ambient light and no lamp


@kernel
def project(vertices, K, R, t, screen):
    """Vertices (V, 3) world -> screen (V, 4) float64: (u, v, z, 1 / z), or (u z, v z, z, 0) where z < NEAR.

    Returns the index of the first vertex that is not finite, or -1.
    """
    bad = -1
    for i in range(vertices.shape[0]):
        x, y, z = np.float64(vertices[i, 0]), np.float64(vertices[i, 1]), np.float64(vertices[i, 2])
        cx = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + t[0]
        cy = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + t[1]
        cz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + t[2]
        u = K[0, 0] * cx + K[0, 1] * cy + K[0, 2] * cz
        v = K[1, 0] * cx + K[1, 1] * cy + K[1, 2] * cz
        if not (np.isfinite(u) and np.isfinite(v) and np.isfinite(cz)) and bad < 0:
            bad = i
        w = 1.0 / cz if cz >= NEAR else 0.0
        if w > 0.0:
            u *= w
            v *= w
        screen[i, 0], screen[i, 1], screen[i, 2], screen[i, 3] = u, v, cz, w
    return bad


@kernel
def _edge(screen, i, j):
    """The line through two vertices as (a, b, c), for triangles that may reach behind the near plane.

    Where both ends are visible these are the ordinary edge function's own numbers (so that neighbours agree on ties)
    times the positive product of depths, which makes the three edges of a triangle comparable.
    """
    xi, yi, zi = screen[i, 0], screen[i, 1], screen[i, 2]
    xj, yj, zj = screen[j, 0], screen[j, 1], screen[j, 2]
    if zi >= NEAR and zj >= NEAR:
        s = zi * zj
        return (yi - yj) * s, (xj - xi) * s, (xi * yj - xj * yi) * s
    if zi >= NEAR:
        xi, yi = xi * zi, yi * zi
    if zj >= NEAR:
        xj, yj = xj * zj, yj * zj
    return yi * zj - yj * zi, xj * zi - xi * zj, xi * yj - xj * yi


@kernel
def _setup_near(screen, i0, i1, i2):
    """Homogeneous edges of a triangle that crosses the near plane: (a0, b0, c0, a1, …, c2, determinant).

    ``e_k / determinant`` is the k-th barycentric over depth; their sum is the inverse depth.
    """
    a0, b0, c0 = _edge(screen, i1, i2)
    a1, b1, c1 = _edge(screen, i2, i0)
    a2, b2, c2 = _edge(screen, i0, i1)
    x, y, z = screen[i0, 0], screen[i0, 1], screen[i0, 2]
    if z >= NEAR:
        x, y = x * z, y * z
    return a0, b0, c0, a1, b1, c1, a2, b2, c2, x * a0 + y * b0 + z * c0


@kernel
def _near_bounds(screen, i0, i1, i2, width, height):
    """Picture bounds (x0, x1, y0, y1) of the part of a triangle that lies beyond the near plane (clipped polygon)."""
    x0, x1, y0, y1 = np.inf, -np.inf, np.inf, -np.inf
    index = (i0, i1, i2)
    for k in range(3):
        i, j = index[k], index[(k + 1) % 3]
        xi, yi, zi = screen[i, 0], screen[i, 1], screen[i, 2]
        xj, yj, zj = screen[j, 0], screen[j, 1], screen[j, 2]
        if zi >= NEAR:
            x0, x1, y0, y1 = min(x0, xi), max(x1, xi), min(y0, yi), max(y1, yi)
            xi, yi = xi * zi, yi * zi
        if zj >= NEAR:
            xj, yj = xj * zj, yj * zj
        if (zi >= NEAR) != (zj >= NEAR):
            s = (NEAR - zi) / (zj - zi)
            x, y = (xi + s * (xj - xi)) / NEAR, (yi + s * (yj - yi)) / NEAR
            x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
    # A pixel of slack: these bounds only save work, the edge functions decide.
    return max(x0 - 1.0, -1.0), min(x1 + 1.0, width + 1.0), max(y0 - 1.0, -1.0), min(y1 + 1.0, height + 1.0)


@kernel
def zbuffer(screen, faces, top, height, width, keys):
    """Rasterise the rows from ``top`` to ``top + height`` into ``keys`` (height, >= width + LANES) int64, cleared here.

    ``screen`` comes from :func:`project`. A key is 0 on the background, else the bits of the inverse depth (a positive
    float orders like its bits), the lowest of which are replaced by the triangle's index, counted down: the largest key
    is the nearest triangle and, of equal depths, the one with the lowest index. See :func:`seen`.
    """
    keys[:] = 0
    bottom = top + height
    for f in range(faces.shape[0]):
        i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
        w0, w1, w2 = screen[i0, 3], screen[i1, 3], screen[i2, 3]
        x0, x1, x2 = screen[i0, 0], screen[i1, 0], screen[i2, 0]
        y0, y1, y2 = screen[i0, 1], screen[i1, 1], screen[i2, 1]
        near = w0 == 0.0 or w1 == 0.0 or w2 == 0.0
        if near:
            if w0 == 0.0 and w1 == 0.0 and w2 == 0.0:
                continue
            left, right, up, down = _near_bounds(screen, i0, i1, i2, width, bottom)
        else:
            left, right = min(x0, x1, x2), max(x0, x1, x2)
            up, down = min(y0, y1, y2), max(y0, y1, y2)
        # Outside this band. Written so that NaN is outside too.
        if not (down > top and up < bottom and right > 0 and left < width):
            continue
        # First and last pixel whose centre (at +0.5) is within the bounds.
        r0, r1 = int(np.ceil(max(up, top) - 0.5)), int(np.floor(min(down, bottom) - 0.5))
        c0, c1 = int(np.ceil(max(left, 0.0) - 0.5)), int(np.floor(min(right, width) - 0.5))
        if r0 > r1 or c0 > c1:
            continue
        if near:
            a0, b0, k0, a1, b1, k1, a2, b2, k2, area = _setup_near(screen, i0, i1, i2)
            w0 = w1 = w2 = 1.0
            far, close = 0.0, np.inf
        else:
            a0, b0, k0 = y1 - y2, x2 - x1, x1 * y2 - x2 * y1
            a1, b1, k1 = y2 - y0, x0 - x2, x2 * y0 - x0 * y2
            a2, b2, k2 = y0 - y1, x1 - x0, x0 * y1 - x1 * y0
            area = b2 * a1 - a2 * b1  # twice the signed area
            # Rounding in a sliver must not carry it in front of its own corners.
            far, close = min(w0, w1, w2), max(w0, w1, w2)
        if area == 0.0 or not np.isfinite(area):
            continue
        if area < 0.0:
            a0, b0, k0, a1, b1, k1, a2, b2, k2, area = -a0, -b0, -k0, -a1, -b1, -k1, -a2, -b2, -k2, -area
        # Ties: a centre on an edge is inside when the triangle lies to the right of it, or below a level one.
        t0 = 0.0 if a0 > 0.0 or (a0 == 0.0 and b0 > 0.0) else TIE
        t1 = 0.0 if a1 > 0.0 or (a1 == 0.0 and b1 > 0.0) else TIE
        t2 = 0.0 if a2 > 0.0 or (a2 == 0.0 and b2 > 0.0) else TIE
        scale = 1.0 / area
        w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
        name = INDEX_MASK - f
        left = c0 + 0.5
        count = (c1 - c0) // LANES * LANES + LANES
        for r in range(r0, r1 + 1):
            y = r + 0.5
            q0, q1, q2 = b0 * y + k0, b1 * y + k1, b2 * y + k2
            row = keys[r - top]
            # No branches, so that the compiler makes vector instructions of it: whether a pixel is inside is as good as
            # random, and guessing wrong costs more than the few lanes beyond the bounds, which fail the test.
            block = row[c0 : c0 + count]
            for c in range(count):
                x = left + c
                e0, e1, e2 = a0 * x + q0, a1 * x + q1, a2 * x + q2
                w = e0 * w0 + e1 * w1 + e2 * w2
                inside = (e0 >= t0) & (e1 >= t1) & (e2 >= t2) & (w <= MOST)
                w = min(max(w, far), close)
                key = ((np.float64(w).view(np.int64) & ~INDEX_MASK) | name) & -np.int64(inside)
                more = key - block[c]
                block[c] += more & ~(more >> 63)  # the larger key


@kernel
def seen(key):
    """The triangle of a key of :func:`zbuffer`, -1 for none."""
    return np.int64(INDEX_MASK - (key & INDEX_MASK)) if key != 0 else np.int64(-1)


@kernel
def _weights_near(screen, i0, i1, i2, x, y):
    """:func:`_weights` of a triangle that reaches behind the near plane."""
    a0, b0, k0, a1, b1, k1, a2, b2, k2, area = _setup_near(screen, i0, i1, i2)
    return a0 * x + (b0 * y + k0), a1 * x + (b1 * y + k1), a2 * x + (b2 * y + k2), area


@kernel
def _weights(screen, i0, i1, i2, x, y):
    """At the picture's point (x, y): unnormalised perspective-correct weights of the corners, and twice the area.

    Their sum over the area is the inverse depth; a front face has a negative area. Callers take :func:`_weights_near`
    where a corner's ``screen[i, 3]`` is 0: both in one function are too much for the compiler to put into a loop.
    """
    # Relative to the point, so that nothing cancels in small triangles.
    x0, y0 = screen[i0, 0] - x, screen[i0, 1] - y
    x1, y1 = screen[i1, 0] - x, screen[i1, 1] - y
    x2, y2 = screen[i2, 0] - x, screen[i2, 1] - y
    p0, p1, p2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    return p0 * screen[i0, 3], p1 * screen[i1, 3], p2 * screen[i2, 3], p0 + p1 + p2


@kernel
def rasterize_band(screen, faces, top, triangle, barycentric, depth):
    """Fill ``triangle``, ``barycentric`` and ``depth`` (views of the rows from ``top`` on) of one image."""
    height, width = triangle.shape
    keys = np.empty((height, width + LANES), np.int64)
    zbuffer(screen, faces, top, height, width, keys)
    for r in range(height):
        for c in range(width):
            f = seen(keys[r, c])
            triangle[r, c] = f
            if f < 0:
                barycentric[r, c, 0] = barycentric[r, c, 1] = barycentric[r, c, 2] = 0.0
                depth[r, c] = np.inf
                continue
            i0, i1, i2, x, y = faces[f, 0], faces[f, 1], faces[f, 2], c + 0.5, top + r + 0.5
            if screen[i0, 3] == 0.0 or screen[i1, 3] == 0.0 or screen[i2, 3] == 0.0:
                p0, p1, p2, area = _weights_near(screen, i0, i1, i2, x, y)
            else:
                p0, p1, p2, area = _weights(screen, i0, i1, i2, x, y)
            total = p0 + p1 + p2
            s = 1.0 / total
            barycentric[r, c, 0], barycentric[r, c, 1], barycentric[r, c, 2] = p0 * s, p1 * s, p2 * s
            depth[r, c] = area * s


@kernel
def vertex_normals(vertices, faces, normals):
    """Area-weighted vertex normals (V, 3), unit length; 0 where a vertex has no triangle of positive area."""
    normals[:] = 0.0
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        bx, by, bz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(vertices.shape[0]):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        n = np.sqrt(x * x + y * y + z * z)
        if n > 0.0:
            s = np.float32(1.0) / n
            normals[v, 0], normals[v, 1], normals[v, 2] = x * s, y * s, z * s


@kernel
def _shine(mx, my, mz, lx, ly, lz, vx, vy, vz):
    """``max(0, n·h)**32`` of the normal m, the unit directions l to the light and v to the camera (Blinn 1977)."""
    zero = np.float32(0.0)
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    h2 = hx * hx + hy * hy + hz * hz
    if h2 <= zero:
        return zero
    shine = max(zero, mx * hx + my * hy + mz * hz) / np.sqrt(h2)
    for _ in range(SHININESS_SQUARINGS):
        shine *= shine
    return shine


@kernel
def light_vertices(
    vertices, normals, albedo, R, t, ambient, direction, intensity, specular, sh, position, power, radiance
):
    """Linear ``radiance`` (V, 6) float32 of each vertex: RGB seen from its front, and RGB seen from its back.

    Front: ``albedo * (ambient + environment + intensity * max(0, n·l) + points) + specular * (shine of the lamps)``,
    see :mod:`morphsym.rendering.lights` for the formulas. Back: ``albedo * (ambient + mean of the environment) *
    BACK_LIGHT``, the dark inside of a head. ``albedo`` is linear. ``sh`` (0 or 9, 3) is the environment, scaled to
    coefficients of :func:`morphsym.rendering.lights.basis`; ``position`` and ``power`` (P, 3) are the point lights.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    lx, ly, lz = direction[0], direction[1], direction[2]
    lit, gloss = np.empty(3, np.float32), np.empty(3, np.float32)
    inside = np.empty(3, np.float32)
    for k in range(3):
        inside[k] = ambient[k]
        if sh.shape[0] > 0:
            inside[k] += max(zero, sh[0, k])
    for v in range(vertices.shape[0]):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        # normal, position and view direction in the camera frame, where the light is given
        mx = R[0, 0] * nx + R[0, 1] * ny + R[0, 2] * nz
        my = R[1, 0] * nx + R[1, 1] * ny + R[1, 2] * nz
        mz = R[2, 0] * nx + R[2, 1] * ny + R[2, 2] * nz
        cx = R[0, 0] * x + R[0, 1] * y + R[0, 2] * z + t[0]
        cy = R[1, 0] * x + R[1, 1] * y + R[1, 2] * z + t[1]
        cz = R[2, 0] * x + R[2, 1] * y + R[2, 2] * z + t[2]
        d = -one / np.sqrt(cx * cx + cy * cy + cz * cz)
        vx, vy, vz = cx * d, cy * d, cz * d
        diffuse = max(zero, mx * lx + my * ly + mz * lz)
        shine = zero
        if diffuse > zero:
            shine = _shine(mx, my, mz, lx, ly, lz, vx, vy, vz)
        for k in range(3):
            lit[k] = ambient[k] + intensity[k] * diffuse
            gloss[k] = intensity[k] * shine
        if sh.shape[0] > 0:
            for k in range(3):
                e = (
                    sh[0, k] + sh[1, k] * my + sh[2, k] * mz + sh[3, k] * mx + sh[4, k] * mx * my
                    + sh[5, k] * my * mz + sh[6, k] * (np.float32(3.0) * mz * mz - one)
                    + sh[7, k] * mx * mz + sh[8, k] * (mx * mx - my * my)
                )  # fmt: skip
                lit[k] += max(zero, e)
        for p in range(position.shape[0]):
            px, py, pz = position[p, 0] - cx, position[p, 1] - cy, position[p, 2] - cz
            d2 = px * px + py * py + pz * pz
            if d2 <= zero:
                continue
            s = one / np.sqrt(d2)
            px, py, pz = px * s, py * s, pz * s
            diffuse = mx * px + my * py + mz * pz
            if diffuse > zero:
                fall = np.float32(POINT_DISTANCE * POINT_DISTANCE) / max(d2, np.float32(NEAREST * NEAREST))
                shine = fall * _shine(mx, my, mz, px, py, pz, vx, vy, vz)
                for k in range(3):
                    lit[k] += power[p, k] * fall * diffuse
                    gloss[k] += power[p, k] * shine
        for k in range(3):
            radiance[v, k] = albedo[v, k] * lit[k] + specular * gloss[k]
            radiance[v, 3 + k] = albedo[v, k] * inside[k] * np.float32(BACK_LIGHT)


@kernel
def _group_four(f0, f1, f2, f3, c, groups, group_f, group_c, group_n, group_x, group_y):
    """Append the groups of pixel ``c`` with 2 × 2 samples f0 f1 / f2 f3; returns their new number and the samples hit.

    Every sample writes a group at the end of the list, and only the first sample of a triangle moves the end on.
    """
    h0, h1, h2, h3 = np.int64(f0 >= 0), np.int64(f1 >= 0), np.int64(f2 >= 0), np.int64(f3 >= 0)
    e01, e02, e03 = np.int64(f0 == f1), np.int64(f0 == f2), np.int64(f0 == f3)
    e12, e13, e23 = np.int64(f1 == f2), np.int64(f1 == f3), np.int64(f2 == f3)
    n = 1 + e01 + e02 + e03
    group_f[groups], group_c[groups], group_n[groups] = f0, c, n
    group_x[groups], group_y[groups] = (e01 + e03) / n, (e02 + e03) / n
    groups += h0
    n = 1 + e12 + e13
    group_f[groups], group_c[groups], group_n[groups] = f1, c, n
    group_x[groups], group_y[groups] = (1 + e13) / n, (e12 + e13) / n
    groups += h1 & ~e01
    n = 1 + e23
    group_f[groups], group_c[groups], group_n[groups] = f2, c, n
    group_x[groups], group_y[groups] = e23 / n, 1.0
    groups += h2 & ~e02 & ~e12
    group_f[groups], group_c[groups], group_n[groups] = f3, c, 1
    group_x[groups], group_y[groups] = 1.0, 1.0
    groups += h3 & ~e03 & ~e13 & ~e23
    return groups, h0 + h1 + h2 + h3


@kernel
def shade_band(screen, faces, radiance, background, table, side, top, image):
    """Shade the rows from ``top`` on into ``image`` (3, h, W), sRGB; returns the number of covered samples.

    Every pixel has ``side`` × ``side`` samples on a regular grid, averaged in linear light (box filter). ``screen`` is
    in sample units (the picture enlarged ``side`` times). Samples of one pixel that see the same triangle are shaded
    once, at their mean position. ``background`` (3,) is sRGB, ``table`` comes from ``color.encode_table``.
    """
    height, width = image.shape[1], image.shape[2]
    keys = np.empty((height * side, width * side + LANES), np.int64)
    zbuffer(screen, faces, top * side, height * side, width * side, keys)
    n = side * side
    share = np.float32(1.0 / n)
    behind = np.empty(3, np.float32)
    for k in range(3):
        b = background[k]
        behind[k] = b / np.float32(12.92) if b <= 0.04045 else ((b + 0.055) / 1.055) ** 2.4
    offset_x, offset_y = np.empty(n, np.int64), np.empty(n, np.int64)
    for q in range(n):
        offset_x[q], offset_y[q] = q % side, q // side
    ids, hits = np.empty(n, np.int64), np.empty(width, np.int64)
    # The groups of one row of pixels (samples of one pixel in one triangle): triangle, pixel, size and mean position.
    group_f, group_c = np.empty(width * n + 1, np.uint32), np.empty(width * n + 1, np.int64)
    group_n, group_x, group_y = np.empty(width * n + 1), np.empty(width * n + 1), np.empty(width * n + 1)
    light = np.empty((width, 3), np.float32)
    covered = 0
    for r in range(height):
        groups = 0
        for c in range(width):
            if side == 2:  # the same as below without loops and branches: this is the hot path
                k0, k1 = keys[2 * r, 2 * c], keys[2 * r, 2 * c + 1]
                k2, k3 = keys[2 * r + 1, 2 * c], keys[2 * r + 1, 2 * c + 1]
                if k0 | k1 | k2 | k3 == 0:
                    hits[c] = 0
                    continue
                groups, hit = _group_four(
                    seen(k0), seen(k1), seen(k2), seen(k3), c, groups, group_f, group_c, group_n, group_x, group_y
                )
                hits[c] = hit
                covered += hit
                rest = np.float32(4 - hit)
                light[c, 0], light[c, 1], light[c, 2] = rest * behind[0], rest * behind[1], rest * behind[2]
                continue
            if side == 1:
                f = seen(keys[r, c])
                one = 1 if f >= 0 else 0
                group_f[groups], group_c[groups], group_n[groups], group_x[groups], group_y[groups] = f, c, 1, 0, 0
                groups += one
                hits[c] = one
                covered += one
                light[c] = 0.0
                continue
            hit = 0
            for q in range(n):
                ids[q] = seen(keys[r * side + offset_y[q], c * side + offset_x[q]])
                hit += ids[q] >= 0
            hits[c] = hit
            covered += hit
            rest = np.float32(n - hit)
            for k in range(3):
                light[c, k] = rest * behind[k]
            if hit == 0:
                continue
            for first in range(n):
                f = ids[first]
                if f < 0:
                    continue
                count = sx = sy = np.int64(0)
                for q in range(first, n):
                    same = np.int64(ids[q] == f)
                    ids[q] |= -same
                    count += same
                    sx += same * offset_x[q]
                    sy += same * offset_y[q]
                group_f[groups], group_c[groups], group_n[groups] = f, c, count
                group_x[groups], group_y[groups] = sx / count, sy / count
                groups += 1
        y = (top + r) * side + 0.5
        for g in range(groups):
            f, c = group_f[g], group_c[g]
            i0, i1, i2 = faces[f, 0], faces[f, 1], faces[f, 2]
            at_x, at_y = c * side + (group_x[g] + 0.5), y + group_y[g]
            if screen[i0, 3] == 0.0 or screen[i1, 3] == 0.0 or screen[i2, 3] == 0.0:
                p0, p1, p2, area = _weights_near(screen, i0, i1, i2, at_x, at_y)
            else:
                p0, p1, p2, area = _weights(screen, i0, i1, i2, at_x, at_y)
            s = group_n[g] / (p0 + p1 + p2)
            g0, g1, g2 = np.float32(p0 * s), np.float32(p1 * s), np.float32(p2 * s)
            side_seen = (
                0 if area < 0.0 else 3
            )  # the first three columns are lit from the front, the others from the back
            for k in range(3):
                j = side_seen + k
                light[c, k] += g0 * radiance[i0, j] + g1 * radiance[i1, j] + g2 * radiance[i2, j]
        for k in range(3):
            for c in range(width):
                if hits[c] == 0:
                    image[k, r, c] = background[k]
                    continue
                level = min(max(light[c, k] * share, np.float32(0.0)), np.float32(1.0)) * np.float32(TABLE_SIZE)
                i = np.uint32(level)
                image[k, r, c] = table[i] + (table[i + np.uint32(1)] - table[i]) * (level - np.float32(i))
    return covered
