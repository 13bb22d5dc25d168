"""Area-weighted vertex normals, differentiable, added up in the order of the triangles on every device.

A vertex's normal is the sum of the cross products of its triangles. ``index_add`` adds them with atomic operations on
CUDA, in an order that changes from run to run, and with it the last bits of a picture. Here a CPU adds them one after
the other, and another device over the sorted list of each vertex's triangles, forward and backward.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backends._compile import kernel, run

SMALLEST = 1e-30  # a normal that is not longer is 0


@kernel
def _forward(vertices, faces, sums, normals):
    """``sums`` (V, 3) float64, cleared here, and their directions, from ``vertices`` (V, 3)."""
    sums[:] = 0.0
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = np.float64(vertices[i, 0]), np.float64(vertices[i, 1]), np.float64(vertices[i, 2])
        ax, ay, az = vertices[j, 0] - x, vertices[j, 1] - y, vertices[j, 2] - z
        bx, by, bz = vertices[k, 0] - x, vertices[k, 1] - y, vertices[k, 2] - z
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            sums[v, 0] += nx
            sums[v, 1] += ny
            sums[v, 2] += nz
    for v in range(vertices.shape[0]):
        x, y, z = sums[v, 0], sums[v, 1], sums[v, 2]
        s = 1.0 / max(np.sqrt(x * x + y * y + z * z), SMALLEST)
        normals[v, 0], normals[v, 1], normals[v, 2] = x * s, y * s, z * s


@kernel
def _backward(vertices, faces, sums, gradient, out):
    """Gradients ``out`` (V, 3) float64 of the vertices, cleared here, from ``gradient`` (V, 3) of the normals."""
    inner = np.zeros(sums.shape)  # with respect to the sums
    for v in range(sums.shape[0]):
        x, y, z = sums[v, 0], sums[v, 1], sums[v, 2]
        length = np.sqrt(x * x + y * y + z * z)
        if length > SMALLEST:
            s = 1.0 / length
            x, y, z = x * s, y * s, z * s
            gx, gy, gz = np.float64(gradient[v, 0]), np.float64(gradient[v, 1]), np.float64(gradient[v, 2])
            along = gx * x + gy * y + gz * z
            inner[v, 0], inner[v, 1], inner[v, 2] = (gx - along * x) * s, (gy - along * y) * s, (gz - along * z) * s
    out[:] = 0.0
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = np.float64(vertices[i, 0]), np.float64(vertices[i, 1]), np.float64(vertices[i, 2])
        ax, ay, az = vertices[j, 0] - x, vertices[j, 1] - y, vertices[j, 2] - z
        bx, by, bz = vertices[k, 0] - x, vertices[k, 1] - y, vertices[k, 2] - z
        gx = inner[i, 0] + inner[j, 0] + inner[k, 0]
        gy = inner[i, 1] + inner[j, 1] + inner[k, 1]
        gz = inner[i, 2] + inner[j, 2] + inner[k, 2]
        # of a × b: b × g to a, g × a to b
        px, py, pz = by * gz - bz * gy, bz * gx - bx * gz, bx * gy - by * gx
        qx, qy, qz = gy * az - gz * ay, gz * ax - gx * az, gx * ay - gy * ax
        for v, ux, uy, uz in ((j, px, py, pz), (k, qx, qy, qz), (i, -px - qx, -py - qy, -pz - qz)):
            out[v, 0] += ux
            out[v, 1] += uy
            out[v, 2] += uz


class _OnCPU(torch.autograd.Function):
    """float32 or float64, added up in float64."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, faces: Tensor) -> Tensor:
        v, f = np.ascontiguousarray(vertices.detach().numpy()), _indices(faces)
        sums, normals = np.empty(v.shape), np.empty_like(v)
        run(_forward, [(v[b], f, sums[b], normals[b]) for b in range(len(v))])
        ctx.save_for_backward(vertices, faces)
        ctx.sums = sums
        return torch.from_numpy(normals)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        vertices, faces = ctx.saved_tensors
        v, g = (np.ascontiguousarray(x.detach().numpy()) for x in (vertices, gradients[0]))
        f, out = _indices(faces), np.empty(v.shape)
        run(_backward, [(v[b], f, ctx.sums[b], g[b], out[b]) for b in range(len(v))])
        return torch.from_numpy(out).to(vertices), None


def _indices(faces: Tensor) -> np.ndarray:
    return np.ascontiguousarray(faces.numpy(), np.int32).view(np.uint32)


class _Anywhere(torch.autograd.Function):
    """In torch's own operations, none of which adds in an order of its own."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, faces: Tensor) -> Tensor:
        faces = faces.to(vertices.device).long()
        a, b = _sides(vertices, faces)
        cross = torch.linalg.cross(a, b)
        sums = add_up(cross[:, :, None].expand(-1, -1, 3, -1).flatten(1, 2), faces.flatten(), vertices.shape[1])
        ctx.save_for_backward(vertices, faces, sums)
        return torch.nn.functional.normalize(sums, dim=-1, eps=SMALLEST)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        vertices, faces, sums = ctx.saved_tensors
        length = sums.norm(dim=-1, keepdim=True)
        unit = sums / length.clamp(min=SMALLEST)
        g = gradients[0]
        inner = (g - unit * (unit * g).sum(-1, keepdim=True)) / length.clamp(min=SMALLEST) * (length > SMALLEST)
        i, j, k = faces.unbind(1)
        g = inner[:, i] + inner[:, j] + inner[:, k]
        a, b = _sides(vertices, faces)
        p, q = torch.linalg.cross(b, g), torch.linalg.cross(g, a)
        corners = torch.stack([-p - q, p, q], 2).flatten(1, 2)
        return add_up(corners, faces.flatten(), vertices.shape[1]), None


def _sides(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    return b - a, c - a


def add_up(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """Sums (B, ``count``, C) of the rows of ``values`` (B, N, C) that each ``owner`` (N,) has; the same bits every time.

    A segmented scan over the rows sorted by owner (Hillis & Steele 1986): after k steps a row holds the sum of itself and
    of up to 2^k - 1 rows of the same owner before it.
    """
    total = len(owner)
    if not total:
        return values.new_zeros(len(values), count, values.shape[2])
    owner, order = torch.sort(owner, stable=True)
    bounds = torch.searchsorted(owner, torch.arange(count + 1, device=owner.device))
    values = values[:, order]
    # 'meta' has no values to ask for
    longest = total if owner.is_meta else int((bounds[1:] - bounds[:-1]).max())
    step = 1
    while step < longest:
        same = (owner[step:] == owner[:-step])[:, None]
        values = torch.cat([values[:, :step], values[:, step:] + torch.where(same, values[:, :-step], 0.0)], 1)
        step *= 2
    last = values[:, (bounds[1:] - 1).clamp(min=0)]
    return torch.where((bounds[1:] > bounds[:-1])[:, None], last, 0.0)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals (B, V, 3) of ``vertices`` (B, V, 3); 0 where a vertex has no triangle with an area.

    ``faces`` (F, 3) are counter-clockwise seen from outside. Differentiable; the same bits in every run, for any number of
    threads and any batch.
    """
    return (_OnCPU if vertices.device.type == "cpu" else _Anywhere).apply(vertices, faces)
