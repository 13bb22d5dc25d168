"""The reference rasteriser: short, in float64 torch, for tests. It tries every triangle at every pixel of its bounds.

It shares no code with the fast backends: triangles are cut at the near plane as polygons, ties are decided by
comparing exact zeros, perspective-correct weights are found by intersecting the pixel's ray with the triangle's plane
(Möller & Trumbore 1997, *Fast, Minimum Storage Ray/Triangle Intersection*).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import RenderError
from ...types import Cameras, Fragments
from ..cameras import NEAR


def rasterize(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Fragments:
    """Fragments of ``vertices`` (B, V, 3), ``faces`` (F, 3), ``cameras`` of 1 or B; see :func:`..render.rasterize`."""
    if not bool(torch.isfinite(vertices).all()):
        mesh = int((~torch.isfinite(vertices)).flatten(1).any(1).nonzero()[0])
        raise RenderError(f"vertices must be finite: mesh {mesh} is not; check the coefficients that made it")
    one = [_rasterize_one(v.double(), faces.long(), cameras[b % len(cameras)]) for b, v in enumerate(vertices)]
    triangle, barycentric, depth = (torch.stack(x) for x in zip(*one))
    return Fragments(triangle, barycentric.float(), depth.float())


def _rasterize_one(vertices: Tensor, faces: Tensor, view: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    K, R, t = (x[0].double() for x in (view.K, view.R, view.t))
    height, width = view.height, view.width
    points = vertices @ R.T + t
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x, y = x.double(), y.double()
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(K).T  # points at depth 1
    triangle = torch.full((height, width), -1, dtype=torch.int32)
    barycentric = torch.zeros(height, width, 3, dtype=torch.float64)
    depth = torch.full((height, width), torch.inf, dtype=torch.float64)
    for f, face in enumerate(faces):
        corners = points[face]
        inside = torch.zeros(height, width, dtype=torch.bool)
        polygon = corners if bool((corners[:, 2] >= NEAR).all()) else _clip(corners)
        if len(polygon) < 3:
            continue
        pixels = polygon @ K.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        low, high = pixels.amin(0).clamp(min=-1), pixels.amax(0)
        c0, r0 = (low.floor().clamp(min=0)).long().tolist()
        c1, r1 = min(float(high[0]) + 1, width), min(float(high[1]) + 1, height)
        box = (slice(r0, int(max(r1, 0))), slice(c0, int(max(c1, 0))))
        if inside[box].numel() == 0:
            continue
        covered = _covers(pixels, x[box], y[box])
        if covered is None or not bool(covered.any()):
            continue
        weights, z = _intersect(corners, rays[box])
        nearer = covered & (z < depth[box]) & (z > 0)
        triangle[box] = torch.where(nearer, f, triangle[box])
        depth[box] = torch.where(nearer, z, depth[box])
        barycentric[box] = torch.where(nearer[..., None], weights, barycentric[box])
    return triangle, barycentric, depth


def _clip(corners: Tensor) -> Tensor:
    """The polygon of a triangle's part at depth >= NEAR (Sutherland & Hodgman 1974)."""
    kept = []
    for i in range(3):
        a, b = corners[i], corners[(i + 1) % 3]
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (NEAR - a[2]) / (b[2] - a[2]) * (b - a))
    return torch.stack(kept) if kept else corners[:0]


def _covers(polygon: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
    """Whether points lie in a convex polygon of pixels (n, 2); a top or left edge is inside, others are not."""
    after = polygon.roll(-1, 0)
    area = (polygon[:, 0] * after[:, 1] - after[:, 0] * polygon[:, 1]).sum()
    if area == 0:
        return None
    sign = 1.0 if area > 0 else -1.0
    inside = torch.ones_like(x, dtype=torch.bool)
    for p, q in zip(polygon, after):
        a, b = sign * (p[1] - q[1]), sign * (q[0] - p[0])
        e = a * x + (b * y + sign * (p[0] * q[1] - q[0] * p[1]))
        top_left = bool(a > 0) or (bool(a == 0) and bool(b > 0))
        inside &= (e >= 0) if top_left else (e > 0)
    return inside


def _intersect(corners: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Barycentrics (…, 3) and depth (…) where rays (…, 3) from the camera, of unit depth, meet a triangle's plane."""
    u, v = corners[1] - corners[0], corners[2] - corners[0]
    normal = torch.linalg.cross(u, v)
    z = (normal @ corners[0]) / (rays @ normal)
    offset = rays * z[..., None] - corners[0]
    scale = normal @ normal
    beta = (torch.linalg.cross(offset, v.expand_as(offset)) @ normal) / scale
    gamma = (torch.linalg.cross(u.expand_as(offset), offset) @ normal) / scale
    return torch.stack([1 - beta - gamma, beta, gamma], -1), z
