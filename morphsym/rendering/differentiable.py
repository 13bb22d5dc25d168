"""Gradients of pictures with respect to vertices, colours, lights and cameras.

What a pixel sees is discrete, but two things vary smoothly and carry the gradient. Inside a triangle, the interpolated
values move with the corners: :class:`Interpolate`. At a silhouette, the share of a pixel on either side of the edge
moves with the edge: :mod:`.silhouettes`.

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
from .silhouettes import antialias, neighbours


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
    """``out`` (H, W, C) = values (V, C) interpolated; 0 on the background.

    Of values (V, 2 C) the first half is taken where a triangle shows its front, the second where it shows its back.
    """
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
            first = channels if s > 0.0 and values.shape[1] > channels else 0
            for n in range(channels):
                m = first + n
                out[r, c, n] = (e0 * values[i, m] + e1 * values[j, m] + e2 * values[k, m]) * s


@kernel
def _backward(points, values, faces, triangle, gradient, to_points, to_values):
    """Accumulate the gradients (V, 3) of the points and those of the values, float64, from ``gradient`` (H, W, C)."""
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
            first = channels if s > 0.0 and values.shape[1] > channels else 0
            for n in range(channels):
                g, m = np.float64(gradient[r, c, n]), first + n
                d0 += g * values[i, m]
                d1 += g * values[j, m]
                d2 += g * values[k, m]
                to_values[i, m] += g * b0
                to_values[j, m] += g * b1
                to_values[k, m] += g * b2
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

    With a fifth argument True, values (B, V, 2 C) hold those of the front and those of the back, and the pixels get the
    half of the side that they see. ``points`` as from :func:`image_points`; float32 or float64 on the CPU, added up in
    float64. Gradients go to the points and the values. Every image has its own sums, so the number of threads does not
    matter.
    """

    @staticmethod
    def forward(
        ctx: Any, points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor, sides: bool = False
    ) -> Tensor:
        ctx.save_for_backward(points, values, faces, triangle)
        p, v, f, t = _arrays(points, values, faces, triangle)
        out = np.empty((*t.shape, v.shape[2] // 2 if sides else v.shape[2]), v.dtype)
        run(_forward, [(p[b], v[b], f, t[b], out[b]) for b in range(len(t))])
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        points, values, faces, triangle = ctx.saved_tensors
        p, v, f, t = _arrays(points, values, faces, triangle)
        g = np.ascontiguousarray(gradients[0].detach().numpy())
        to_points, to_values = np.zeros(p.shape), np.zeros(v.shape)
        run(_backward, [(p[b], v[b], f, t[b], g[b], to_points[b], to_values[b]) for b in range(len(t))])
        return torch.from_numpy(to_points).to(points), torch.from_numpy(to_values).to(values), None, None, None


def interpolate(points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> Tensor:
    """:class:`Interpolate` on the CPU; the same in plain torch on another device, where nothing leaves it."""
    if points.device.type == "cpu":
        return Interpolate.apply(points, values, faces, triangle)
    return interpolate_anywhere(points, values, faces, triangle)


def interpolate_sides(points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> Tensor:
    """Of values (B, V, 2 C), front and back, those (B, H, W, C) of the side that each pixel sees; on any device."""
    if points.device.type == "cpu":
        return Interpolate.apply(points, values, faces, triangle, True)
    return interpolate_sides_anywhere(points, values, faces, triangle)


def interpolate_sides_anywhere(points: Tensor, values: Tensor, faces: Tensor, triangle: Tensor) -> Tensor:
    """What :func:`interpolate_sides` computes, in torch's own operations, on any device."""
    front, back = interpolate_anywhere(points, values, faces, triangle).chunk(2, -1)
    X = points.detach()[:, faces.long()]  # (B, F, 3, 3)
    seen = (torch.linalg.cross(X[..., 0, :], X[..., 1, :]) * X[..., 2, :]).sum(-1) < 0
    index = triangle.clamp(min=0).long().flatten(1)
    return torch.where(seen.expand(len(triangle), -1).gather(1, index).reshape(*triangle.shape, 1), front, back)


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
        light = interpolate_sides(points, torch.cat([front, back], -1), faces, fragments.triangle)
    light = torch.where(covered[..., None], light, color.srgb_to_linear(behind)[:, None, None])
    across = neighbours(faces) if across is None else across
    light = antialias(light, fragments, points, faces, across.to(vertices.device))
    return color.linear_to_srgb(light).permute(0, 3, 1, 2)


def _detached(cameras: Cameras) -> Cameras:
    K, R, t = (x.detach() for x in (cameras.K, cameras.R, cameras.t))
    return Cameras(K, R, t, cameras.height, cameras.width)
