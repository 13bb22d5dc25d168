"""The CPU kernels of :func:`morphsym.rendering.silhouettes.antialias`: the search for edges, the blend and its adjoint.

Everything is computed in float64, step by step as the torch code there does it, but only for pairs of pixels that an
edge of the mesh's silhouette lies between: a few in a hundred. The search is cut into row bands; each band lists what it
finds in the order of its pixels, and the lists are joined in the order of the bands, so the blend and the gradients add
up in the same order whatever the number of threads.
"""

from __future__ import annotations

import numpy as np

from .backends._compile import kernel
from .cameras import NEAR

STEPS = 16  # triangles crossed between two neighbouring pixels before the walk to the silhouette gives up
SLACK = 1e-3  # pixels: far more than rounding
FIRST_ROOM = 1024  # edges that a band's list has room for at first


@kernel
def on_screen(points, faces, screen, facing):
    """Homogeneous pixels (V, 3) -> ``screen`` (V, 2) float64 pixels, and ``facing`` (F,) int8.

    ``facing`` is the sign of a triangle's area in the picture; times 2 where a corner is not beyond the near plane.
    """
    for v in range(points.shape[0]):
        z = np.float64(points[v, 2])
        screen[v, 0], screen[v, 1] = points[v, 0] / z, points[v, 1] / z
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y = screen[i, 0], screen[i, 1]
        area = (screen[j, 0] - x) * (screen[k, 1] - y) - (screen[j, 1] - y) * (screen[k, 0] - x)
        sign = 1 if area > 0.0 else -1 if area < 0.0 else 0
        facing[f] = sign if points[i, 2] >= NEAR and points[j, 2] >= NEAR and points[k, 2] >= NEAR else 2 * sign


@kernel
def mark(screen, facing, faces, across, flags):
    """Where a silhouette edge passes between two neighbouring pixels: ``flags`` (H, W) uint8, cleared here.

    1 at a pixel whose next one in the row lies beyond a steep edge, 2 at one whose next one in the column lies beyond a
    level edge. Hidden edges count too, and those that miss by ``SLACK``: the walk decides.
    """
    flags[:] = 0
    height, width = flags.shape
    for f in range(faces.shape[0]):
        sign = facing[f]
        if sign != 1 and sign != -1:
            continue
        for n in range(3):
            onward = across[f, n]
            if onward >= 0 and facing[np.uint32(onward)] * sign >= 0:
                continue
            i, j = faces[f, (n + 1) % 3], faces[f, (n + 2) % 3]
            steep = abs(screen[j, 1] - screen[i, 1]) > abs(screen[j, 0] - screen[i, 0])
            axis = 0 if steep else 1
            other = 1 - axis
            length = screen[j, other] - screen[i, other]
            if length == 0.0:
                continue
            slope = (screen[j, axis] - screen[i, axis]) / length
            lines, pixels = (height, width) if steep else (width, height)
            low = min(screen[i, other], screen[j, other]) - SLACK
            high = max(screen[i, other], screen[j, other]) + SLACK
            for line in range(int(np.ceil(max(low - 0.5, 0.0))), int(np.floor(min(high - 0.5, lines - 1.0))) + 1):
                place = screen[i, axis] + (line + 0.5 - screen[i, other]) * slope - 0.5
                if not (place > -1.0 and place < pixels):
                    continue
                for at in range(
                    max(int(np.floor(place - SLACK)), 0), min(int(np.floor(place + SLACK)), pixels - 2) + 1
                ):
                    if steep:
                        flags[line, at] |= 1
                    else:
                        flags[at, line] |= 2


@kernel
def _walk(screen, facing, faces, across, f, goal, x, y, along_x, along_y):
    """Follow the surface from (x, y) in triangle ``f`` for one pixel along (along_x, along_y), of which one is 0.

    Returns whether it ends at a silhouette on the way, and the two vertices of that edge: one without a neighbour, or
    whose neighbour faces the other way. In the triangle ``goal`` the other pixel is reached.
    """
    one, two = faces[f, 0], faces[f, 0]
    for _ in range(STEPS):
        sign = np.float64(facing[f])
        if abs(sign) != 1.0:
            break
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = screen[i, 0] - x, screen[i, 1] - y
        bx, by = screen[j, 0] - x, screen[j, 1] - y
        cx, cy = screen[k, 0] - x, screen[k, 1] - y
        # The way leaves the triangle through the first edge that it crosses outwards: of those whose height above the
        # edge falls, after the smallest share (height / fall) of the way, if that is not more than all of it.
        height, fall, edge = np.inf, 1.0, -1
        h, d = (bx * cy - by * cx) * sign, ((cy - by) * along_x - (cx - bx) * along_y) * sign
        if d > 0.0:
            height, fall, edge = h, d, 0
        h, d = (cx * ay - cy * ax) * sign, ((ay - cy) * along_x - (ax - cx) * along_y) * sign
        if d > 0.0 and h * fall < height * d:
            height, fall, edge = h, d, 1
        h, d = (ax * by - ay * bx) * sign, ((by - ay) * along_x - (bx - ax) * along_y) * sign
        if d > 0.0 and h * fall < height * d:
            height, fall, edge = h, d, 2
        if edge < 0 or not height <= fall:
            break
        one, two = (j, k) if edge == 0 else (k, i) if edge == 1 else (i, j)
        onward = across[f, edge]
        if onward < 0 or np.float64(facing[np.uint32(onward)]) * sign < 0.0:
            return True, one, two
        f = np.uint32(onward)
        if f == goal:
            break
    return False, one, two


@kernel
def find(screen, facing, faces, across, flags, triangle, depth, top, end):
    """Blended pixels of the pairs that :func:`mark` has marked, whose first pixel lies in rows ``top`` to ``end``.

    Returns ``where`` (N, 4) int64: the pixel that is blended, the one that it is blended with, and the two vertices of the
    edge between them; and ``how`` (N, 2): the share that it takes over, and its derivative by the edge's position along
    the pair's row or column.
    """
    width = triangle.shape[1]
    room, count = FIRST_ROOM, 0
    where, how = np.empty((room, 4), np.int64), np.empty((room, 2))
    for r in range(top, end):
        for c in range(width):
            if flags[r, c] == 0:
                continue
            for axis in range(2):  # with the next pixel of the row, then of the column
                if not flags[r, c] & (1 + axis):
                    continue
                r2, c2 = r + axis, c + 1 - axis
                if triangle[r, c] == triangle[r2, c2]:
                    continue
                first = depth[r, c] <= depth[r2, c2]
                nr, nc, fr, fc = (r, c, r2, c2) if first else (r2, c2, r, c)
                if triangle[nr, nc] < 0:
                    continue
                x, y, way = nc + 0.5, nr + 0.5, 1.0 if first else -1.0
                ends, a, b = _walk(
                    screen, facing, faces, across, np.uint32(triangle[nr, nc]), np.uint32(triangle[fr, fc]), x, y,
                    way * (1 - axis), way * axis,
                )  # fmt: skip
                if not ends:
                    continue
                steep = abs(screen[b, 1] - screen[a, 1]) > abs(screen[b, 0] - screen[a, 0])
                if steep != (axis == 0):
                    continue
                other = 1 - axis
                start = (x, y)
                q = (start[other] - screen[a, other]) / (screen[b, other] - screen[a, other])
                place = screen[a, axis] + q * (screen[b, axis] - screen[a, axis])
                t = (place - start[axis]) * way  # the pixels are one apart
                slope = 0.0
                if t >= 0.0 and t <= 1.0 and t != 0.5:
                    slope = way if t > 0.5 else -way
                t = min(max(t, 0.0), 1.0)
                near, far = nr * width + nc, fr * width + fc
                if count == room:
                    room *= 2
                    more_where, more_how = np.empty((room, 4), np.int64), np.empty((room, 2))
                    more_where[:count], more_how[:count] = where, how
                    where, how = more_where, more_how
                where[count, 0], where[count, 1] = (near, far) if t < 0.5 else (far, near)
                where[count, 2], where[count, 3] = a, b
                how[count, 0], how[count, 1] = abs(t - 0.5), slope
                count += 1
    return where[:count].copy(), how[:count].copy()


@kernel
def blend(colors, where, how, out):
    """``out`` (P, C): ``colors`` (P, C), with the shares that :func:`find` has found."""
    out[:] = colors
    for n in range(where.shape[0]):
        target, source, share = where[n, 0], where[n, 1], how[n, 0]
        for k in range(colors.shape[1]):
            out[target, k] += share * (colors[source, k] - colors[target, k])


@kernel
def to_colors(gradient, where, how, out):
    """The adjoint of :func:`blend` in its colours: ``gradient`` and ``out`` (P, C)."""
    out[:] = gradient
    for n in range(where.shape[0]):
        target, source, share = where[n, 0], where[n, 1], how[n, 0]
        for k in range(gradient.shape[1]):
            g = share * gradient[target, k]
            out[target, k] -= g
            out[source, k] += g


@kernel
def to_points(colors, gradient, screen, points, where, how, width, out):
    """The adjoint in the homogeneous pixels: adds to ``out`` (V, 3) float64."""
    for n in range(where.shape[0]):
        slope = how[n, 1]
        if slope == 0.0:
            continue
        target, source, a, b = where[n, 0], where[n, 1], where[n, 2], where[n, 3]
        g = 0.0  # with respect to the share
        for k in range(colors.shape[1]):
            g += gradient[target, k] * (colors[source, k] - colors[target, k])
        g *= slope
        axis = 0 if target // width == source // width else 1
        other = 1 - axis
        across = (target % width if other == 0 else target // width) + 0.5  # the same for both pixels
        d = screen[b, other] - screen[a, other]
        q, run = (across - screen[a, other]) / d, screen[b, axis] - screen[a, axis]
        for v, weight in ((a, 1.0 - q), (b, q)):
            along, aside = g * weight, -g * weight * run / d  # with respect to the pixels of this end
            z = np.float64(points[v, 2])
            out[v, axis] += along / z
            out[v, other] += aside / z
            out[v, 2] -= (along * screen[v, axis] + aside * screen[v, other]) / z
