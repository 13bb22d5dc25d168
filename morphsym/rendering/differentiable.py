"""Gradients of pictures with respect to vertices, colours, lights and cameras.

What a pixel sees is discrete, but two things vary smoothly and carry the gradient. Inside a triangle, the interpolated
values move with the corners: :class:`Interpolate`. At a silhouette, the share of a pixel on either side of the edge
moves with the edge: :func:`antialias` blends neighbouring pixels accordingly (Laine et al. 2020, *Modular Primitives
for High-Performance Differentiable Rendering*, section 3.4). Where they look only at the edges of the triangle that a
pixel shows, this walks over the mesh from the pixel's centre to the silhouette, so that triangles smaller than pixels
work too.

Throughout, ``image_points`` X = K (R x + t) are homogeneous pixels (u z, v z, z). The barycentrics of the pixel
p = (u, v, 1) are ``e_k / (e_0 + e_1 + e_2)`` with ``e_k = p · (X_i × X_j)``, perspective-correct as they stand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..types import Cameras, Fragments, Lights
from . import backends, color, shading, textures
from . import cameras as cams
from .backends._compile import kernel, run

STEPS = 16  # triangles crossed between two neighbouring pixels before the walk to the silhouette gives up


def image_points(cameras: Cameras, vertices: Tensor) -> Tensor:
    """Homogeneous pixels (B, V, 3) of ``vertices`` (B, V, 3): (u z, v z, z); differentiable, in the vertices' dtype."""
    return cams.to_camera(cameras, vertices) @ cameras.K.to(vertices).transpose(1, 2)


def weights_at_pixels(vertices: Tensor, faces: Tensor, cameras: Cameras, triangle: Tensor) -> tuple[Tensor, Tensor]:
    """Barycentrics (B, H, W, 3) and depth (B, H, W) of pixel centres in known triangles (B, H, W), -1 for none.

    Plain torch, differentiable, on the vertices' device: the reference for :class:`Interpolate`.
    """
    return _weights(image_points(cameras, vertices), faces, triangle)


def _weights(points: Tensor, faces: Tensor, triangle: Tensor) -> tuple[Tensor, Tensor]:
    batch, height, width = triangle.shape
    corner = faces.to(triangle.device).long()[triangle.clamp(min=0).long()].reshape(batch, -1, 1).expand(-1, -1, 3)
    X = points.expand(batch, -1, -1).gather(1, corner).reshape(batch, height, width, 3, 3)
    y, x = torch.meshgrid(torch.arange(height).to(X) + 0.5, torch.arange(width).to(X) + 0.5, indexing="ij")
    p = torch.stack([x, y, torch.ones_like(x)], -1)
    e = torch.stack(
        [(torch.linalg.cross(X[..., i, :], X[..., j, :]) * p).sum(-1) for i, j in ((1, 2), (2, 0), (0, 1))], -1
    )
    weights = e / e.sum(-1, keepdim=True)
    depth = (weights * X[..., 2]).sum(-1)
    covered = triangle >= 0
    return torch.where(covered[..., None], weights, 0.0), torch.where(covered, depth, torch.inf)


@kernel
def _edges(points, i, j, k, x, y):
    """``e_0, e_1, e_2`` of pixel (x, y) in the triangle (i, j, k)."""
    ax, ay, az = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
    bx, by, bz = np.float64(points[j, 0]), np.float64(points[j, 1]), np.float64(points[j, 2])
    cx, cy, cz = np.float64(points[k, 0]), np.float64(points[k, 1]), np.float64(points[k, 2])
    # relative to the pixel (X - p z), which leaves e as it is and cancels less
    ax, ay, bx, by, cx, cy = ax - x * az, ay - y * az, bx - x * bz, by - y * bz, cx - x * cz, cy - y * cz
    return bx * cy - cx * by, cx * ay - ax * cy, ax * by - bx * ay


@kernel
def _forward(points, values, faces, triangle, out):
    """``out`` (H, W, C) = values (V, C) interpolated; 0 on the background."""
    height, width, channels = out.shape
    for r in range(height):
        for c in range(width):
            f = triangle[r, c]
            if f < 0:
                out[r, c] = 0.0
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            e0, e1, e2 = _edges(points, i, j, k, c + 0.5, r + 0.5)
            s = 1.0 / (e0 + e1 + e2)
            for n in range(channels):
                out[r, c, n] = (e0 * values[i, n] + e1 * values[j, n] + e2 * values[k, n]) * s


@kernel
def _backward(points, values, faces, triangle, gradient, to_points, to_values):
    """Accumulate the gradients (V, 3) of the points and (V, C) of the values, float64, from ``gradient`` (H, W, C)."""
    height, width, channels = gradient.shape
    for r in range(height):
        for c in range(width):
            f = triangle[r, c]
            if f < 0:
                continue
            x, y = c + 0.5, r + 0.5
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            e0, e1, e2 = _edges(points, i, j, k, x, y)
            s = 1.0 / (e0 + e1 + e2)
            b0, b1, b2 = e0 * s, e1 * s, e2 * s
            d0 = d1 = d2 = 0.0  # with respect to the barycentrics
            for n in range(channels):
                g = gradient[r, c, n]
                d0 += g * values[i, n]
                d1 += g * values[j, n]
                d2 += g * values[k, n]
                to_values[i, n] += g * b0
                to_values[j, n] += g * b1
                to_values[k, n] += g * b2
            mean = d0 * b0 + d1 * b1 + d2 * b2
            d0, d1, d2 = (d0 - mean) * s, (d1 - mean) * s, (d2 - mean) * s  # with respect to e
            ax, ay = points[i, 0] - x * points[i, 2], points[i, 1] - y * points[i, 2]
            bx, by = points[j, 0] - x * points[j, 2], points[j, 1] - y * points[j, 2]
            cx, cy = points[k, 0] - x * points[k, 2], points[k, 1] - y * points[k, 2]
            gax, gay = d2 * by - d1 * cy, d1 * cx - d2 * bx
            gbx, gby = d0 * cy - d2 * ay, d2 * ax - d0 * cx
            gcx, gcy = d1 * ay - d0 * by, d0 * bx - d1 * ax
            for v, gx, gy in ((i, gax, gay), (j, gbx, gby), (k, gcx, gcy)):
                to_points[v, 0] += gx
                to_points[v, 1] += gy
                to_points[v, 2] -= x * gx + y * gy


class Interpolate(torch.autograd.Function):
    """``Interpolate.apply(points (B, V, 3), values (B, V, C), faces (F, 3), triangle (B, H, W)) -> (B, H, W, C)``.

    ``points`` as from :func:`image_points`; float32 or float64 on the CPU, added up in float64. Gradients go to the
    points and the values. Every image has its own sums, so the number of threads does not matter.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> Tensor:
        ctx.save_for_backward(points, values, faces, triangle)
        p, v, f, t = _arrays(points, values, faces, triangle)
        out = np.empty((*t.shape, v.shape[2]), v.dtype)
        run(_forward, [(p[b], v[b], f, t[b], out[b]) for b in range(len(t))])
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        points, values, faces, triangle = ctx.saved_tensors
        p, v, f, t = _arrays(points, values, faces, triangle)
        g = np.ascontiguousarray(gradients[0].detach().numpy())
        to_points, to_values = np.zeros(p.shape), np.zeros(v.shape)
        run(_backward, [(p[b], v[b], f, t[b], g[b], to_points[b], to_values[b]) for b in range(len(t))])
        return torch.from_numpy(to_points).to(points), torch.from_numpy(to_values).to(values), None, None


def interpolate(points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> Tensor:
    """:class:`Interpolate` on the CPU; the same in plain torch on another device, where nothing leaves it."""
    if points.device.type == "cpu":
        return Interpolate.apply(points, values, faces, triangle)
    return interpolate_anywhere(points, values, faces, triangle)


def interpolate_anywhere(points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> Tensor:
    """What :class:`Interpolate` computes, in torch's own operations, on any device; it needs far more memory."""
    weights, _ = _weights(points, faces, triangle)
    corner = faces.to(triangle.device).long()[triangle.clamp(min=0).long()].reshape(len(triangle), -1)
    picked = values.gather(1, corner[..., None].expand(-1, -1, values.shape[-1]))
    return (picked.reshape(*triangle.shape, 3, -1) * weights[..., None].to(values)).sum(-2)


def _arrays(points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> tuple[np.ndarray, ...]:
    p, v = (np.ascontiguousarray(x.detach().numpy()) for x in (points, values))
    f, t = (np.ascontiguousarray(x.numpy(), np.int32) for x in (faces, triangle))
    return p, v, f.view(np.uint32), t


def neighbours(faces: Tensor) -> Tensor:
    """(F, 3) int64: the triangle across the edge opposite each corner; -1 where there is none or more than one."""
    f = faces.cpu().numpy().astype(np.int64)
    count = len(f)
    ends = np.sort(np.concatenate([f[:, [1, 2]], f[:, [2, 0]], f[:, [0, 1]]]), 1)
    owner = np.tile(np.arange(count), 3)
    _, edge, uses = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    total = np.bincount(edge, weights=owner, minlength=len(uses)).astype(np.int64)  # of two owners, the sum
    across = np.where(uses[edge] == 2, total[edge] - owner, -1)
    return torch.from_numpy(across.reshape(3, count).T.copy())


def antialias(colors: Tensor, fragments: Fragments, points: Tensor, faces: Tensor, across: Tensor) -> Tensor:
    """Blend ``colors`` (B, H, W, C), linear light, over silhouettes; differentiable in the colours and ``points``.

    ``points`` (B, V, 3) from :func:`image_points`; ``across`` from :func:`neighbours`. For two neighbouring pixels of
    which the nearer one's surface ends between their centres, at a share t of the way, the pixel in which it ends gets
    ``|t - 1/2|`` of the other's colour. Edges steeper than 45° are blended in rows, the others in columns.
    """
    triangle, depth = fragments.triangle.long(), fragments.depth
    batch, height, width = triangle.shape
    faces = faces.long()
    uv = points[..., :2] / points[..., 2:]
    visible = (points[..., 2] >= cams.NEAR).detach()
    a, b, c = (uv.detach()[:, faces[:, k]] for k in range(3))
    u, v = b - a, c - a
    area = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]  # (B, F)
    usable = visible[:, faces].all(-1) & (area != 0)
    flat = colors.reshape(-1, colors.shape[-1])
    number = torch.arange(batch * height * width, device=triangle.device).reshape(batch, height, width)
    out = flat
    for axis in (0, 1):  # neighbours in a row, then in a column
        here = (slice(None), slice(None), slice(0, width - 1)) if axis == 0 else (slice(None), slice(0, height - 1))
        there = (slice(None), slice(None), slice(1, width)) if axis == 0 else (slice(None), slice(1, height))
        differ = triangle[here] != triangle[there]
        one, two = number[here][differ], number[there][differ]
        first_nearer = depth.reshape(-1)[one] <= depth.reshape(-1)[two]
        near, far = torch.where(first_nearer, one, two), torch.where(first_nearer, two, one)
        image = near // (height * width)
        start, end = ((torch.stack([n % width, n // width % height], -1) + 0.5).to(uv) for n in (near, far))
        pair, edge_a, edge_b = _walk(
            uv.detach(), faces, across, area, usable, triangle.reshape(-1)[near], image, start, end
        )
        near, far, image, start, end = near[pair], far[pair], image[pair], start[pair], end[pair]
        pa, pb = uv[image, edge_a], uv[image, edge_b]
        along = (pb - pa).detach().abs()
        steep = along[:, 1] > along[:, 0]
        mine = steep if axis == 0 else ~steep
        near, far, start, end, pa, pb = near[mine], far[mine], start[mine], end[mine], pa[mine], pb[mine]
        other = 1 - axis
        where = pa[:, axis] + (start[:, other] - pa[:, other]) / (pb - pa)[:, other] * (pb - pa)[:, axis]
        t = ((where - start[:, axis]) * (end - start)[:, axis]).clamp(0, 1)  # the pixels are one apart
        target, source = torch.where(t < 0.5, near, far), torch.where(t < 0.5, far, near)
        share = (t - 0.5).abs()[:, None].to(colors)
        out = out.index_add(0, target, share * (flat[source] - flat[target]))
    return out.reshape(colors.shape)


def _walk(
    uv: Tensor,
    faces: Tensor,
    across: Tensor,
    area: Tensor,
    usable: Tensor,
    triangle: Tensor,
    image: Tensor,
    start: Tensor,
    end: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow the surface from pixel centre ``start`` (N, 2) towards ``end``, from triangle to triangle.

    Returns which of the N reach a silhouette on the way, and the two vertices of its edge. A silhouette is an edge
    without a neighbour, or whose neighbour faces the other way.
    """
    found, first, second = [], [], []
    pair = torch.arange(len(triangle), device=triangle.device)
    pair = pair[usable[image, triangle] & (triangle >= 0)]
    current = triangle[pair]
    for _ in range(STEPS):
        if not len(pair):
            break
        m, p, q = image[pair], start[pair][:, None], end[pair][:, None]
        corner = faces[current]
        xy = uv[m[:, None], corner]  # (n, 3, 2)
        base, tip = xy[:, [1, 2, 0]], xy[:, [2, 0, 1]]  # edge k is opposite corner k
        sign = area[m, current].sign()[:, None]

        def height(at: Tensor, base: Tensor = base, tip: Tensor = tip, sign: Tensor = sign) -> Tensor:
            edge, offset = tip - base, at - base
            return (edge[..., 0] * offset[..., 1] - edge[..., 1] * offset[..., 0]) * sign

        inside, beyond = height(p), height(q)
        # The way leaves the triangle through the first edge that it crosses outwards.
        t = torch.where(beyond < inside, inside / (inside - beyond), torch.inf)
        leave, k = t.min(1)
        going = leave <= 1
        pair, current, corner, k, m = pair[going], current[going], corner[going], k[going], m[going]
        onward = across[current, k]
        known = onward >= 0
        turn = ~known | (area[m, onward.clamp(min=0)] * area[m, current] < 0)
        found.append(pair[turn])
        rows = torch.arange(len(pair), device=pair.device)
        first.append(corner[rows, (k + 1) % 3][turn])
        second.append(corner[rows, (k + 2) % 3][turn])
        go = ~turn & usable[m, onward.clamp(min=0)]
        pair, current = pair[go], onward[go]
    if not found:
        nothing = torch.empty(0, dtype=torch.long, device=triangle.device)
        return nothing, nothing, nothing
    return torch.cat(found), torch.cat(first), torch.cat(second)


def render(
    vertices: Tensor,
    faces: Tensor,
    albedo: Tensor,
    cameras: Cameras,
    lights: Lights,
    background: Tensor | tuple[float, float, float] = (0.5, 0.5, 0.5),
    backend: str = "auto",
    across: Tensor | None = None,
    texture: textures.Texture | None = None,
) -> Tensor:
    """Images (B, 3, H, W) sRGB, differentiable in vertices, albedo, texture, cameras, lights and background.

    Arguments as for :func:`morphsym.rendering.render`, in the dtype and on the device of ``vertices``; ``backend`` only
    finds what every pixel shows, so gradients do not depend on it. One sample a pixel with analytic
    edge antialiasing. ``across`` saves finding the mesh's :func:`neighbours` again at every call.
    """
    batch = len(vertices)
    faces = faces.to(vertices.device).long()
    fragments = backends.get(backend, vertices.device).rasterize(vertices.detach(), faces, _detached(cameras))
    fragments = Fragments(
        *(x.to(vertices.device) for x in (fragments.triangle, fragments.barycentric, fragments.depth))
    )
    behind = torch.as_tensor(background).to(vertices).expand(batch, 3)
    points = image_points(cameras, vertices)
    covered = fragments.triangle >= 0
    if texture is not None:
        textures.validate(texture, batch, len(faces))
        light = textures.shade(fragments.triangle, vertices, faces, albedo, cameras, lights, texture)
    else:
        paint = color.srgb_to_linear(albedo.to(vertices)).expand(batch, -1, 3)
        front, back = shading.light_vertices(vertices, shading.vertex_normals(vertices, faces), paint, cameras, lights)
        both = interpolate(points, torch.cat([front, back], -1), faces, fragments.triangle)
        index = fragments.triangle.clamp(min=0).long().flatten(1)
        seen = shading.faces_front(vertices.detach(), faces, _detached(cameras)).gather(1, index).reshape(covered.shape)
        light = torch.where(seen[..., None], both[..., :3], both[..., 3:])
    light = torch.where(covered[..., None], light, color.srgb_to_linear(behind)[:, None, None])
    across = neighbours(faces) if across is None else across
    light = antialias(light, fragments, points, faces, across.to(vertices.device))
    return color.linear_to_srgb(light).permute(0, 3, 1, 2)


def _detached(cameras: Cameras) -> Cameras:
    K, R, t = (x.detach() for x in (cameras.K, cameras.R, cameras.t))
    return Cameras(K, R, t, cameras.height, cameras.width)
