"""The fill rule in float64 torch, for given pairs of pixels and triangles: what another rasteriser leaves undecided.

The same numbers, operation by operation, as :mod:`.numba_kernels`: screen coordinates, edge functions, and homogeneous
ones for triangles that cross the near plane.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...types import Cameras
from ..cameras import NEAR

AT_ONCE = 1 << 20  # pairs of pixels and triangles


def project(vertices: Tensor, cameras: Cameras) -> Tensor:
    """Vertices (B, V, 3) -> screen (B, V, 4) float64: (u, v, z, 1 / z), or (u z, v z, z, 0) where z < NEAR."""
    K, R, t = (x.detach().to(vertices.device).double() for x in (cameras.K, cameras.R, cameras.t))
    x, y, z = vertices.double().unbind(-1)
    rows = [R[:, i, 0, None] * x + R[:, i, 1, None] * y + R[:, i, 2, None] * z + t[:, i, None] for i in range(3)]
    u, v = (K[:, i, 0, None] * rows[0] + K[:, i, 1, None] * rows[1] + K[:, i, 2, None] * rows[2] for i in range(2))
    depth = rows[2]
    inverse = torch.where(depth >= NEAR, 1 / depth, 0.0)
    seen = inverse > 0
    return torch.stack([torch.where(seen, u * inverse, u), torch.where(seen, v * inverse, v), depth, inverse], -1)


def doubled_areas(screen: Tensor, faces: Tensor) -> Tensor:
    """(B, F) twice the area in the picture, pixels²; infinite for triangles that are not wholly before the near plane."""
    a, b, c = (screen[:, faces[:, k]] for k in range(3))
    area = ((b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (c[..., 0] - a[..., 0]) * (b[..., 1] - a[..., 1])).abs()
    visible = (a[..., 3] > 0) & (b[..., 3] > 0) & (c[..., 3] > 0)
    return torch.where(visible, area, torch.inf)


def _edge(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The line (a, b, c) through screen points (…, 4), as the kernels compute it for triangles at the near plane."""
    (xi, yi, zi, _), (xj, yj, zj, _) = p.unbind(-1), q.unbind(-1)
    i_seen, j_seen = zi >= NEAR, zj >= NEAR
    both, s = i_seen & j_seen, zi * zj
    hxi, hyi = torch.where(i_seen, xi * zi, xi), torch.where(i_seen, yi * zi, yi)
    hxj, hyj = torch.where(j_seen, xj * zj, xj), torch.where(j_seen, yj * zj, yj)
    return (
        torch.where(both, (yi - yj) * s, hyi * zj - hyj * zi),
        torch.where(both, (xj - xi) * s, hxj * zi - hxi * zj),
        torch.where(both, (xi * yj - xj * yi) * s, hxi * hyj - hxj * hyi),
    )


def inverse_depth(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Inverse depth (…) at the points (x, y) of triangles with screen ``corners`` (…, 3, 4); 0 where they miss them."""
    p = corners.unbind(-2)
    near = (corners[..., 3] == 0).any(-1)
    lines = []
    for i, j in ((1, 2), (2, 0), (0, 1)):
        a, b, k = _edge(p[i], p[j])
        plain = (p[i][..., 1] - p[j][..., 1], p[j][..., 0] - p[i][..., 0],
                 p[i][..., 0] * p[j][..., 1] - p[j][..., 0] * p[i][..., 1])  # fmt: skip
        lines.append(tuple(torch.where(near, n, o) for n, o in zip((a, b, k), plain)))
    (a0, b0, k0), (a1, b1, _), (a2, b2, _) = lines
    seen = p[0][..., 2] >= NEAR
    z = p[0][..., 2]
    u, v = torch.where(seen, p[0][..., 0] * z, p[0][..., 0]), torch.where(seen, p[0][..., 1] * z, p[0][..., 1])
    area = torch.where(near, u * a0 + v * b0 + z * k0, b2 * a1 - a2 * b1)
    sign = torch.where(area < 0, -1.0, 1.0)
    inside, w = (area != 0) & (corners[..., 2] >= NEAR).any(-1), torch.zeros_like(x)
    for (a, b, k), corner in zip(lines, p):
        a, b, k = a * sign, b * sign, k * sign
        e = a * x + (b * y + k)
        inside = inside & torch.where((a > 0) | ((a == 0) & (b > 0)), e >= 0, e > 0)
        w = w + e * (torch.where(near, 1.0, corner[..., 3]) * (1 / (area * sign)))
    w = torch.where(near, w, w.clamp(corners[..., 3].amin(-1), corners[..., 3].amax(-1)))
    return torch.where(inside & (w <= 1 / NEAR), w, 0.0)


def nearest(screen: Tensor, faces: Tensor, image: Tensor, triangle: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Of the candidates ``triangle`` (N, K), -1 for none, the one that the points (N,) of ``image`` (N,) show, or -1."""
    corners = screen[image[:, None, None], faces[triangle.clamp(min=0)]]
    w = inverse_depth(corners, x[:, None].expand(triangle.shape), y[:, None].expand(triangle.shape))
    w = torch.where(triangle >= 0, w, 0.0)
    best = w.amax(1, keepdim=True)
    last = torch.iinfo(triangle.dtype).max
    first = torch.where((w == best) & (w > 0), triangle, last).amin(1)  # of equal depths the lowest index
    return torch.where(first == last, -1, first)


def choose(screen: Tensor, faces: Tensor, candidates: Tensor, unclear: Tensor) -> Tensor:
    """The triangle (N,) that each of the N ``unclear`` pixels (B, H, W) bool shows, of its ``candidates`` (B, H, W, K)."""
    image, row, column = unclear.nonzero(as_tuple=True)
    triangle, x, y = candidates[unclear], column + 0.5, row + 0.5
    x, y = x.to(screen), y.to(screen)
    chosen = nearest(screen, faces, image, triangle, x, y)
    # None of a full list: what the pixel shows may be behind those; so few that all triangles can be tried
    every = torch.arange(len(faces), device=screen.device)
    for n in ((chosen < 0) & (triangle[:, -1] >= 0)).nonzero().flatten().tolist():
        chosen[n] = nearest(screen, faces, image[n : n + 1], every[None], x[n : n + 1], y[n : n + 1])[0]
    return chosen


def draw(screen: Tensor, faces: Tensor, which: Tensor, triangle: Tensor) -> Tensor:
    """``triangle`` (B, H, W) with the triangles ``which`` (B, F) bool drawn into it: few, or small in the picture."""
    height, width = triangle.shape[1:]
    image, f = which.nonzero(as_tuple=True)
    corner = screen[image[:, None], faces[f]][..., :2]
    low = (corner.amin(1) - 0.5).ceil().clamp(min=0)
    high = (corner.amax(1) - 0.5).floor()
    high = torch.minimum(high, torch.tensor([width - 1.0, height - 1.0]).to(high))
    size = (high - low + 1).clamp(min=0).long()
    pixels = size.prod(1)
    some = pixels > 0
    image, f, low, size, pixels = image[some], f[some], low[some].long(), size[some], pixels[some]
    if not len(pixels):
        return triangle
    out = triangle.clone()
    pair = torch.repeat_interleave(torch.arange(len(pixels), device=f.device), pixels)
    within = torch.arange(len(pair), device=f.device) - (pixels.cumsum(0) - pixels)[pair]
    column, row = low[pair, 0] + within % size[pair, 0], low[pair, 1] + within // size[pair, 0]
    for start in range(0, len(pair), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        b, r, c, own = image[pair[part]], row[part], column[part], f[pair[part]]
        w = inverse_depth(screen[b[:, None], faces[own]], c.to(screen) + 0.5, r.to(screen) + 0.5)
        for n in (w > 0).nonzero().flatten().tolist():  # of triangles this thin, a handful
            both = torch.stack([out[b[n], r[n], c[n]].long(), own[n]])[None]
            at = (c[n : n + 1].to(screen) + 0.5, r[n : n + 1].to(screen) + 0.5)
            out[b[n], r[n], c[n]] = nearest(screen, faces, b[n : n + 1], both, *at)[0]
    return out
