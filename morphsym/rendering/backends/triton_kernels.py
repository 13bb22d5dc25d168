"""The CUDA kernels in Triton: the numba backend's arithmetic, triangle by triangle and then pixel by pixel.

The numbers are those of :mod:`.numba_kernels`, operation by operation in float64, so that both backends decide every
tie alike. The kernels are launched without fusing multiplications and additions (:data:`EXACT`): two triangles on one
edge must compute exact negatives of each other.

1. :func:`project`: vertices to the screen.
2. :func:`small_triangles`: one program a block of triangles, one lane a triangle. Every lane walks over the pixels of its
   own bounds and takes the maximum of the pixel's 64-bit key (bits of the inverse depth, the lowest of which are the
   triangle's index counted down) with an atomic operation: which triangle comes first does not matter. A triangle with
   more than ``LIMIT`` pixels would keep its whole block waiting: it is put on a list instead, cut into chunks of pixels.
3. :func:`large_triangles`: a fixed number of programs shares the chunks of that list evenly.
4. :func:`fragments` or :func:`shade`: one lane a pixel; barycentrics and depth, or light, of the triangle it shows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..cameras import NEAR
from .numba_kernels import INDEX_MASK, TIE

EXACT = {"enable_fp_fusion": False}
"""Launch option: ``a * b - c * d`` must be the exact negative of ``c * d - a * b``."""

_NEAR = tl.constexpr(NEAR)
_MOST = tl.constexpr(1.0 / NEAR)
_MASK = tl.constexpr(INDEX_MASK)  # an index counted down is the index ^ _MASK
_DEPTH = tl.constexpr(~INDEX_MASK)
_TIE = tl.constexpr(TIE)
_INFINITY = tl.constexpr(float("inf"))
_SLOT = tl.constexpr(40)
"""Bits of the list's counter that count chunks; those above count triangles."""
_ONE_SLOT = tl.constexpr(1 << 40)
_CHUNKS = tl.constexpr((1 << 40) - 1)


@triton.jit(do_not_specialize=["count"])
def project(vertices, cameras, screen, bad, count, BLOCK: tl.constexpr):
    """Vertices (B, V, 3) -> screen (B, V, 4) float64 as in :func:`.numba_kernels.project`.

    ``cameras`` (B, 21) float64 holds K, R and t row by row; ``bad`` (B,) int64 becomes the lowest vertex that is not
    finite, where it was larger.
    """
    image = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = i < count
    v = vertices + (image * count + i) * 3
    x = tl.load(v, mask=valid, other=0.0).to(tl.float64)
    y = tl.load(v + 1, mask=valid, other=0.0).to(tl.float64)
    z = tl.load(v + 2, mask=valid, other=0.0).to(tl.float64)
    m = cameras + image * 21
    R, t = m + 9, m + 18
    cx = tl.load(R) * x + tl.load(R + 1) * y + tl.load(R + 2) * z + tl.load(t)
    cy = tl.load(R + 3) * x + tl.load(R + 4) * y + tl.load(R + 5) * z + tl.load(t + 1)
    cz = tl.load(R + 6) * x + tl.load(R + 7) * y + tl.load(R + 8) * z + tl.load(t + 2)
    u = tl.load(m) * cx + tl.load(m + 1) * cy + tl.load(m + 2) * cz
    w = tl.load(m + 3) * cx + tl.load(m + 4) * cy + tl.load(m + 5) * cz
    # NaN and infinity are what does not become zero when taken from itself.
    finite = (u - u == 0.0) & (w - w == 0.0) & (cz - cz == 0.0)
    tl.atomic_min(bad + image + tl.zeros_like(i), i.to(tl.int64), mask=valid & ~finite)
    visible = cz >= _NEAR
    inverse = tl.where(visible, 1.0 / tl.where(visible, cz, 1.0), 0.0)
    s = screen + (image * count + i) * 4
    tl.store(s, tl.where(visible, u * inverse, u), mask=valid)
    tl.store(s + 1, tl.where(visible, w * inverse, w), mask=valid)
    tl.store(s + 2, cz, mask=valid)
    tl.store(s + 3, inverse, mask=valid)


@triton.jit
def _edge(xi, yi, zi, xj, yj, zj):
    """:func:`.numba_kernels._edge`: the line through two vertices of a triangle that crosses the near plane."""
    i_seen, j_seen = zi >= _NEAR, zj >= _NEAR
    both = i_seen & j_seen
    s = zi * zj
    # homogeneous
    hxi, hyi = tl.where(i_seen, xi * zi, xi), tl.where(i_seen, yi * zi, yi)
    hxj, hyj = tl.where(j_seen, xj * zj, xj), tl.where(j_seen, yj * zj, yj)
    a = tl.where(both, (yi - yj) * s, hyi * zj - hyj * zi)
    b = tl.where(both, (xj - xi) * s, hxj * zi - hxi * zj)
    k = tl.where(both, (xi * yj - xj * yi) * s, hxi * hyj - hxj * hyi)
    return a, b, k


@triton.jit
def _near_bound(xi, yi, zi, xj, yj, zj, x0, x1, y0, y1):
    """Bounds widened by vertex i, if visible, and by where its edge to vertex j crosses the near plane."""
    i_seen, j_seen = zi >= _NEAR, zj >= _NEAR
    x0, x1 = tl.where(i_seen, tl.minimum(x0, xi), x0), tl.where(i_seen, tl.maximum(x1, xi), x1)
    y0, y1 = tl.where(i_seen, tl.minimum(y0, yi), y0), tl.where(i_seen, tl.maximum(y1, yi), y1)
    hxi, hyi = tl.where(i_seen, xi * zi, xi), tl.where(i_seen, yi * zi, yi)
    hxj, hyj = tl.where(j_seen, xj * zj, xj), tl.where(j_seen, yj * zj, yj)
    cross = i_seen != j_seen
    s = -(zi - _NEAR) / tl.where(cross, zj - zi, 1.0)
    x, y = (hxi + s * (hxj - hxi)) / _NEAR, (hyi + s * (hyj - hyi)) / _NEAR
    x0, x1 = tl.where(cross, tl.minimum(x0, x), x0), tl.where(cross, tl.maximum(x1, x), x1)
    y0, y1 = tl.where(cross, tl.minimum(y0, y), y0), tl.where(cross, tl.maximum(y1, y), y1)
    return x0, x1, y0, y1


@triton.jit
def _corner(screen, i, valid):
    """x, y, z and inverse depth of a vertex on the screen of one image."""
    s = screen + i.to(tl.int64) * 4
    x, y = tl.load(s, mask=valid, other=0.0), tl.load(s + 1, mask=valid, other=0.0)
    z, w = tl.load(s + 2, mask=valid, other=0.0), tl.load(s + 3, mask=valid, other=0.0)
    return x, y, z, w


@triton.jit
def _near_setup(x0, y0, z0, x1, y1, z1, x2, y2, z2):
    """:func:`.numba_kernels._setup_near`."""
    a0, b0, k0 = _edge(x1, y1, z1, x2, y2, z2)
    a1, b1, k1 = _edge(x2, y2, z2, x0, y0, z0)
    a2, b2, k2 = _edge(x0, y0, z0, x1, y1, z1)
    seen = z0 >= _NEAR
    area = tl.where(seen, x0 * z0, x0) * a0 + tl.where(seen, y0 * z0, y0) * b0 + z0 * k0
    return a0, b0, k0, a1, b1, k1, a2, b2, k2, area


@triton.jit
def _setup(screen, faces, f, valid, height, width):
    """Edge functions and pixel bounds of triangles ``f``: what :func:`.numba_kernels.zbuffer` does before its rows.

    Returns a0 … k2, w0, w1, w2, far, close, then the first column and row, and how many columns and rows (0 of each
    where the triangle covers no pixel's centre).
    """
    face = faces + f.to(tl.int64) * 3
    x0, y0, z0, w0 = _corner(screen, tl.load(face, mask=valid, other=0), valid)
    x1, y1, z1, w1 = _corner(screen, tl.load(face + 1, mask=valid, other=0), valid)
    x2, y2, z2, w2 = _corner(screen, tl.load(face + 2, mask=valid, other=0), valid)
    near = (w0 == 0.0) | (w1 == 0.0) | (w2 == 0.0)
    hidden = (w0 == 0.0) & (w1 == 0.0) & (w2 == 0.0)
    # the ordinary triangle
    a0, b0, k0 = y1 - y2, x2 - x1, x1 * y2 - x2 * y1
    a1, b1, k1 = y2 - y0, x0 - x2, x2 * y0 - x0 * y2
    a2, b2, k2 = y0 - y1, x1 - x0, x0 * y1 - x1 * y0
    area = b2 * a1 - a2 * b1
    left, right = tl.minimum(tl.minimum(x0, x1), x2), tl.maximum(tl.maximum(x0, x1), x2)
    up, down = tl.minimum(tl.minimum(y0, y1), y2), tl.maximum(tl.maximum(y0, y1), y2)
    far, close = tl.minimum(tl.minimum(w0, w1), w2), tl.maximum(tl.maximum(w0, w1), w2)
    if tl.max(near.to(tl.int32), 0) > 0:  # rare: a whole block skips it
        na0, nb0, nk0, na1, nb1, nk1, na2, nb2, nk2, narea = _near_setup(x0, y0, z0, x1, y1, z1, x2, y2, z2)
        l, r = tl.full(x0.shape, _INFINITY, tl.float64), tl.full(x0.shape, -_INFINITY, tl.float64)
        u, d = tl.full(x0.shape, _INFINITY, tl.float64), tl.full(x0.shape, -_INFINITY, tl.float64)
        l, r, u, d = _near_bound(x0, y0, z0, x1, y1, z1, l, r, u, d)
        l, r, u, d = _near_bound(x1, y1, z1, x2, y2, z2, l, r, u, d)
        l, r, u, d = _near_bound(x2, y2, z2, x0, y0, z0, l, r, u, d)
        left = tl.where(near, tl.maximum(l - 1.0, -1.0), left)
        right = tl.where(near, tl.minimum(r + 1.0, width + 1.0), right)
        up = tl.where(near, tl.maximum(u - 1.0, -1.0), up)
        down = tl.where(near, tl.minimum(d + 1.0, height + 1.0), down)
        a0, b0, k0 = tl.where(near, na0, a0), tl.where(near, nb0, b0), tl.where(near, nk0, k0)
        a1, b1, k1 = tl.where(near, na1, a1), tl.where(near, nb1, b1), tl.where(near, nk1, k1)
        a2, b2, k2 = tl.where(near, na2, a2), tl.where(near, nb2, b2), tl.where(near, nk2, k2)
        area = tl.where(near, narea, area)
        w0, w1, w2 = tl.where(near, 1.0, w0), tl.where(near, 1.0, w1), tl.where(near, 1.0, w2)
        far, close = tl.where(near, 0.0, far), tl.where(near, _INFINITY, close)
    # Written so that NaN is outside, too.
    draw = valid & ~hidden & (down > 0.0) & (up < height) & (right > 0.0) & (left < width)
    draw = draw & (area != 0.0) & (area - area == 0.0)
    first_row = tl.ceil(tl.where(draw, tl.maximum(up, 0.0), 0.5) - 0.5).to(tl.int32)
    last_row = tl.floor(tl.where(draw, tl.minimum(down, height), 0.5) - 0.5).to(tl.int32)
    first_column = tl.ceil(tl.where(draw, tl.maximum(left, 0.0), 0.5) - 0.5).to(tl.int32)
    last_column = tl.floor(tl.where(draw, tl.minimum(right, width), 0.5) - 0.5).to(tl.int32)
    columns, rows = last_column - first_column + 1, last_row - first_row + 1
    draw = draw & (columns > 0) & (rows > 0)
    columns, rows = tl.where(draw, columns, 0), tl.where(draw, rows, 0)
    sign = tl.where(area < 0.0, -1.0, 1.0)
    a0, b0, k0 = sign * a0, sign * b0, sign * k0
    a1, b1, k1 = sign * a1, sign * b1, sign * k1
    a2, b2, k2 = sign * a2, sign * b2, sign * k2
    scale = 1.0 / tl.where(draw, sign * area, 1.0)
    w0, w1, w2 = w0 * scale, w1 * scale, w2 * scale
    return (a0, b0, k0, a1, b1, k1, a2, b2, k2, w0, w1, w2, far, close, first_column, first_row, columns, rows)


@triton.jit
def _inside(e, a, b):
    """On the inner side of an edge; on the edge itself where it is a top or a left one."""
    top_left = (a > 0.0) | ((a == 0.0) & (b > 0.0))
    return e >= tl.where(top_left, 0.0, _TIE)


@triton.jit
def _draw(
    keys, f, column, row, inside, width, a0, b0, k0, a1, b1, k1, a2, b2, k2, w0, w1, w2, far, close
):  # fmt: skip
    """Put triangles ``f`` into the keys of the pixels (``column``, ``row``) whose centres they cover."""
    x, y = column.to(tl.float64) + 0.5, row.to(tl.float64) + 0.5
    q0, q1, q2 = b0 * y + k0, b1 * y + k1, b2 * y + k2
    e0, e1, e2 = a0 * x + q0, a1 * x + q1, a2 * x + q2
    w = e0 * w0 + e1 * w1 + e2 * w2
    inside = inside & _inside(e0, a0, b0) & _inside(e1, a1, b1) & _inside(e2, a2, b2) & (w <= _MOST)
    w = tl.minimum(tl.maximum(w, far), close)
    key = (w.to(tl.int64, bitcast=True) & _DEPTH) | (f.to(tl.int64) ^ _MASK)
    tl.atomic_max(keys + (row.to(tl.int64) * width + column), key, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["vertex_count", "face_count", "height", "width"])
def small_triangles(
    screen, faces, keys, counter, starts, names, vertex_count, face_count, height, width,
    LIMIT: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Draw the triangles of at most ``LIMIT`` pixels into ``keys`` (B, H, W) int64, and list the larger ones.

    ``counter`` (1,) int64 counts the list's triangles (above bit 40) and their chunks (below). ``starts`` (B F,) int64 is
    the first chunk of a listed triangle, ``names`` (B F,) int64 is ``image * face_count + triangle``. One addition gives
    both counts, so that ``starts`` ascends.
    """
    image = tl.program_id(1).to(tl.int64)
    f = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    (a0, b0, k0, a1, b1, k1, a2, b2, k2, w0, w1, w2, far, close, first_column, first_row, columns, rows) = _setup(
        screen + image * vertex_count * 4, faces, f, f < face_count, height, width
    )
    pixels = columns.to(tl.int64) * rows
    large = pixels > LIMIT
    chunks = (pixels + CHUNK - 1) // CHUNK
    before = tl.atomic_add(counter + tl.zeros_like(f), chunks + _ONE_SLOT, mask=large, sem="relaxed")
    slot = tl.where(large, before >> _SLOT, 0)
    tl.store(starts + slot, before & _CHUNKS, mask=large)
    tl.store(names + slot, image * face_count + f, mask=large)
    own = keys + image * height * width
    todo = tl.where(large, 0, pixels).to(tl.int32)
    most = tl.max(todo, 0)
    column, row = first_column, first_row
    n = 0
    while n < most:
        _draw(own, f, column, row, n < todo, width, a0, b0, k0, a1, b1, k1, a2, b2, k2, w0, w1, w2, far, close)
        column += 1
        end = column == first_column + columns
        column = tl.where(end, first_column, column)
        row = tl.where(end, row + 1, row)
        n += 1


@triton.jit(do_not_specialize=["vertex_count", "face_count", "height", "width"])
def large_triangles(
    screen, faces, keys, counter, starts, names, vertex_count, face_count, height, width,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """Draw the listed triangles; every program takes every ``num_programs``-th chunk of the whole list."""
    total = tl.load(counter)
    listed, chunks = total >> _SLOT, total & _CHUNKS
    chunk = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, CHUNK)
    while chunk < chunks:
        low, high = listed * 0, listed - 1  # the last triangle that starts at or before this chunk
        while low < high:
            middle = (low + high + 1) // 2
            after = tl.load(starts + middle) > chunk
            low, high = tl.where(after, low, middle), tl.where(after, middle - 1, high)
        name = tl.load(names + low)
        image = name // face_count
        f = (name - image * face_count + lane * 0).to(tl.int32)
        (a0, b0, k0, a1, b1, k1, a2, b2, k2, w0, w1, w2, far, close, first_column, first_row, columns, rows) = _setup(
            screen + image * vertex_count * 4, faces, f, lane >= 0, height, width
        )
        pixel = (chunk - tl.load(starts + low)) * CHUNK + lane
        row, column = pixel // columns, pixel % columns
        inside = row < rows
        row, column = (first_row + row).to(tl.int32), (first_column + column).to(tl.int32)
        own = keys + image * height * width
        _draw(own, f, column, row, inside, width, a0, b0, k0, a1, b1, k1, a2, b2, k2, w0, w1, w2, far, close)
        chunk += tl.num_programs(0)


@triton.jit
def _weights(screen, faces, f, covered, x, y):
    """:func:`.numba_kernels._weights` of triangles ``f`` at the points (x, y); also the corners' indices."""
    face = faces + f.to(tl.int64) * 3
    i0 = tl.load(face, mask=covered, other=0)
    i1 = tl.load(face + 1, mask=covered, other=0)
    i2 = tl.load(face + 2, mask=covered, other=0)
    x0, y0, z0, w0 = _corner(screen, i0, covered)
    x1, y1, z1, w1 = _corner(screen, i1, covered)
    x2, y2, z2, w2 = _corner(screen, i2, covered)
    near = covered & ((w0 == 0.0) | (w1 == 0.0) | (w2 == 0.0))
    rx0, ry0, rx1, ry1, rx2, ry2 = x0 - x, y0 - y, x1 - x, y1 - y, x2 - x, y2 - y
    p0, p1, p2 = rx1 * ry2 - rx2 * ry1, rx2 * ry0 - rx0 * ry2, rx0 * ry1 - rx1 * ry0
    area = p0 + p1 + p2
    p0, p1, p2 = p0 * w0, p1 * w1, p2 * w2
    if tl.max(near.to(tl.int32), 0) > 0:
        a0, b0, k0, a1, b1, k1, a2, b2, k2, narea = _near_setup(x0, y0, z0, x1, y1, z1, x2, y2, z2)
        p0 = tl.where(near, a0 * x + (b0 * y + k0), p0)
        p1 = tl.where(near, a1 * x + (b1 * y + k1), p1)
        p2 = tl.where(near, a2 * x + (b2 * y + k2), p2)
        area = tl.where(near, narea, area)
    return p0, p1, p2, area, i0, i1, i2


@triton.jit(do_not_specialize=["vertex_count", "height", "width"])
def fragments(
    screen, faces, keys, triangle, barycentric, depth, vertex_count, height, width, BLOCK: tl.constexpr
):  # fmt: skip
    """Keys (B, H, W) -> the fields of :class:`morphsym.types.Fragments`."""
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = pixel < height * width
    at = image * height * width + pixel
    key = tl.load(keys + at, mask=valid, other=0)
    covered = key != 0
    f = tl.where(covered, (key & _MASK) ^ _MASK, -1).to(tl.int32)
    x, y = (pixel % width).to(tl.float64) + 0.5, (pixel // width).to(tl.float64) + 0.5
    p0, p1, p2, area, _i0, _i1, _i2 = _weights(screen + image * vertex_count * 4, faces, f, covered, x, y)
    s = 1.0 / tl.where(covered, p0 + p1 + p2, 1.0)
    tl.store(triangle + at, f, mask=valid)
    tl.store(depth + at, tl.where(covered, area * s, _INFINITY).to(tl.float32), mask=valid)
    tl.store(barycentric + at * 3, tl.where(covered, p0 * s, 0.0).to(tl.float32), mask=valid)
    tl.store(barycentric + at * 3 + 1, tl.where(covered, p1 * s, 0.0).to(tl.float32), mask=valid)
    tl.store(barycentric + at * 3 + 2, tl.where(covered, p2 * s, 0.0).to(tl.float32), mask=valid)


@triton.jit
def _encode(linear):
    """Linear light, clipped to [0, 1] -> sRGB (IEC 61966-2-1)."""
    x = tl.minimum(tl.maximum(linear, 0.0), 1.0)
    power = tl.exp2(tl.log2(tl.maximum(x, 0.0031308)) * (1.0 / 2.4))
    return tl.minimum(tl.where(x <= 0.0031308, x * 12.92, 1.055 * power - 0.055), 1.0)


@triton.jit(do_not_specialize=["vertex_count", "height", "width"])
def shade(
    screen, faces, keys, front, back, behind, image, hits, vertex_count, height, width,
    SIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Keys (B, SIDE H, SIDE W) -> pictures ``image`` (B, 3, H, W) float32 sRGB; one lane a pixel of the picture.

    ``front`` and ``back`` (B, V, 3) float32 are the linear radiance of vertices from either side; ``behind`` (B, 6)
    float32 is the background in linear light and in sRGB. ``hits`` (B,) int64 counts the samples that see the mesh.
    """
    b = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = pixel < height * width
    row, column = pixel // width, pixel % width
    own = keys + b * height * width * (SIDE * SIDE)
    hit = tl.zeros([BLOCK], tl.int32)
    red, green, blue = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for sample in range(SIDE * SIDE):
        r, c = row * SIDE + sample // SIDE, column * SIDE + sample % SIDE
        key = tl.load(own + r.to(tl.int64) * width * SIDE + c, mask=valid, other=0)
        covered = key != 0
        f = tl.where(covered, (key & _MASK) ^ _MASK, 0).to(tl.int32)
        x, y = c.to(tl.float64) + 0.5, r.to(tl.float64) + 0.5
        p0, p1, p2, area, i0, i1, i2 = _weights(screen + b * vertex_count * 4, faces, f, covered, x, y)
        s = 1.0 / tl.where(covered, p0 + p1 + p2, 1.0)
        g0, g1, g2 = (p0 * s).to(tl.float32), (p1 * s).to(tl.float32), (p2 * s).to(tl.float32)
        lit = tl.where(area < 0.0, front + b * vertex_count * 3, back + b * vertex_count * 3)
        v0, v1, v2 = lit + i0.to(tl.int64) * 3, lit + i1.to(tl.int64) * 3, lit + i2.to(tl.int64) * 3
        hit += covered.to(tl.int32)
        red += _mix(v0, v1, v2, g0, g1, g2, covered)
        green += _mix(v0 + 1, v1 + 1, v2 + 1, g0, g1, g2, covered)
        blue += _mix(v0 + 2, v1 + 2, v2 + 2, g0, g1, g2, covered)
    share = 1.0 / (SIDE * SIDE)
    rest = (SIDE * SIDE - hit).to(tl.float32)
    out = image + b * 3 * height * width + pixel
    back_light = behind + b * 6
    red = tl.where(hit > 0, _encode((red + rest * tl.load(back_light)) * share), tl.load(back_light + 3))
    green = tl.where(hit > 0, _encode((green + rest * tl.load(back_light + 1)) * share), tl.load(back_light + 4))
    blue = tl.where(hit > 0, _encode((blue + rest * tl.load(back_light + 2)) * share), tl.load(back_light + 5))
    tl.store(out, red, mask=valid)
    tl.store(out + height * width, green, mask=valid)
    tl.store(out + 2 * height * width, blue, mask=valid)
    tl.atomic_add(hits + b, tl.sum(hit.to(tl.int64), 0), sem="relaxed")


@triton.jit
def _mix(v0, v1, v2, g0, g1, g2, covered):
    c0, c1 = tl.load(v0, mask=covered, other=0.0), tl.load(v1, mask=covered, other=0.0)
    c2 = tl.load(v2, mask=covered, other=0.0)
    return g0 * c0 + g1 * c1 + g2 * c2


@triton.jit(do_not_specialize=["vertex_count"])
def vertex_normals(vertices, faces, first, users, normals, vertex_count, BLOCK: tl.constexpr):
    """Area-weighted unit normals (B, V, 3) float32, added up in the order of the triangles: the same bytes every time.

    ``users`` lists the triangles of every vertex, vertex after vertex; those of vertex i are ``first[i]`` to
    ``first[i + 1]``.
    """
    b = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = i < vertex_count
    own = vertices + b * vertex_count * 3
    start, end = tl.load(first + i, mask=valid, other=0), tl.load(first + i + 1, mask=valid, other=0)
    most = tl.max(end - start, 0)
    nx, ny, nz = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    n = 0
    while n < most:
        use = start + n < end
        face = faces + tl.load(users + start + n, mask=use, other=0).to(tl.int64) * 3
        p = own + tl.load(face, mask=use, other=0).to(tl.int64) * 3
        q = own + tl.load(face + 1, mask=use, other=0).to(tl.int64) * 3
        r = own + tl.load(face + 2, mask=use, other=0).to(tl.int64) * 3
        px, py, pz = tl.load(p), tl.load(p + 1), tl.load(p + 2)
        ax, ay, az = tl.load(q) - px, tl.load(q + 1) - py, tl.load(q + 2) - pz
        bx, by, bz = tl.load(r) - px, tl.load(r + 1) - py, tl.load(r + 2) - pz
        nx += tl.where(use, ay * bz - az * by, 0.0)
        ny += tl.where(use, az * bx - ax * bz, 0.0)
        nz += tl.where(use, ax * by - ay * bx, 0.0)
        n += 1
    length = tl.sqrt(nx * nx + ny * ny + nz * nz)
    s = tl.where(length > 0.0, 1.0 / tl.where(length > 0.0, length, 1.0), 0.0)
    out = normals + (b * vertex_count + i) * 3
    tl.store(out, nx * s, mask=valid)
    tl.store(out + 1, ny * s, mask=valid)
    tl.store(out + 2, nz * s, mask=valid)
