"""Analytic antialiasing of silhouettes, which gives the position of an outline a gradient.

At a silhouette the share of a pixel on either side of the edge moves with the edge: :func:`antialias` blends
neighbouring pixels accordingly (Laine et al. 2020, *Modular Primitives for High-Performance Differentiable Rendering*,
section 3.4). Where they look only at the edges of the triangle that a pixel shows, this walks over the mesh from the
pixel's centre to the silhouette, so that triangles smaller than pixels work too.

On the CPU this is :mod:`.silhouette_kernels`; :func:`antialias_anywhere` is the same in torch, on any device.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..types import Fragments
from . import cameras as cams
from . import silhouette_kernels as kernels
from .backends._compile import run, threads


def neighbours(faces: Tensor) -> Tensor:
    """(F, 3) int64: the triangle across the edge opposite each corner; -1 where there is none or more than one."""
    f = np.ascontiguousarray(faces.cpu().numpy(), np.int64)
    return torch.from_numpy(_neighbours(f.tobytes()).copy())


@lru_cache(maxsize=4)
def _neighbours(faces: bytes) -> np.ndarray:
    """A mesh's topology is asked for again at every picture of an optimisation."""
    f = np.frombuffer(faces, np.int64).reshape(-1, 3)
    count = len(f)
    a, b = np.concatenate([f[:, 1], f[:, 2], f[:, 0]]), np.concatenate([f[:, 2], f[:, 0], f[:, 1]])
    key = np.minimum(a, b) * (f.max(initial=0) + 1) + np.maximum(a, b)  # one number an edge
    owner = np.tile(np.arange(count), 3)
    _, edge, uses = np.unique(key, return_inverse=True, return_counts=True)
    total = np.bincount(edge, weights=owner, minlength=len(uses)).astype(np.int64)  # of two owners, the sum
    across = np.where(uses[edge] == 2, total[edge] - owner, -1)
    return np.ascontiguousarray(across.reshape(3, count).T)


class Antialias(torch.autograd.Function):
    """:func:`antialias` on the CPU, float32 or float64, computed in float64; the same bits for any number of threads."""

    @staticmethod
    def forward(
        ctx: Any, colors: Tensor, points: Tensor, triangle: Tensor, depth: Tensor, faces: Tensor, across: Tensor
    ) -> Tensor:
        batch, height, width, channels = colors.shape
        c, p, z = (np.ascontiguousarray(x.detach().numpy()) for x in (colors, points, depth))
        t, f, a = (np.ascontiguousarray(x.numpy(), np.int32) for x in (triangle, faces, across))
        c, f = c.reshape(batch, height * width, channels), f.view(np.uint32)
        screen, facing = np.empty((*p.shape[:2], 2)), np.empty((batch, len(f)), np.int8)
        run(kernels.on_screen, [(p[b], f, screen[b], facing[b]) for b in range(batch)])
        flags = np.empty(t.shape, np.uint8)
        run(kernels.mark, [(screen[b], facing[b], f, a, flags[b]) for b in range(batch)])
        # bands of one picture only where there are fewer pictures than threads
        bands = np.linspace(0, height, 1 + (1 if batch >= threads() else min(height, 4 * threads()))).astype(int)
        tasks = [
            (screen[b], facing[b], f, a, flags[b], t[b], z[b], int(top), int(end))
            for b in range(batch)
            for top, end in pairwise(bands)
        ]
        found, n = run(kernels.find, tasks), len(bands) - 1
        edges = [tuple(map(np.concatenate, zip(*found[b * n : (b + 1) * n]))) for b in range(batch)]
        out = np.empty_like(c)
        run(kernels.blend, [(c[b], *edges[b], out[b]) for b in range(batch)])
        ctx.save_for_backward(colors, points)
        ctx.screen, ctx.edges = screen, edges
        return torch.from_numpy(out.reshape(colors.shape))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        colors, points = ctx.saved_tensors
        batch, height, width, channels = colors.shape
        g, c = (
            np.ascontiguousarray(x.detach().numpy()).reshape(batch, height * width, channels)
            for x in (gradients[0], colors)
        )
        to_colors = to_points = None
        if ctx.needs_input_grad[0]:
            out = np.empty_like(g)
            run(kernels.to_colors, [(g[b], *ctx.edges[b], out[b]) for b in range(batch)])
            to_colors = torch.from_numpy(out.reshape(colors.shape)).to(colors)
        if ctx.needs_input_grad[1]:
            p, sums = np.ascontiguousarray(points.detach().numpy()), np.zeros(points.shape)
            run(
                kernels.to_points,
                [(c[b], g[b], ctx.screen[b], p[b], *ctx.edges[b], width, sums[b]) for b in range(batch)],
            )
            to_points = torch.from_numpy(sums).to(points)
        return to_colors, to_points, None, None, None, None


def antialias(colors: Tensor, fragments: Fragments, points: Tensor, faces: Tensor, across: Tensor) -> Tensor:
    """Blend ``colors`` (B, H, W, C), linear light, over silhouettes; differentiable in the colours and ``points``.

    ``points`` (B, V, 3) from :func:`image_points`; ``across`` from :func:`neighbours`. For two neighbouring pixels of
    which the nearer one's surface ends between their centres, at a share t of the way, the pixel in which it ends gets
    ``|t - 1/2|`` of the other's colour. Edges steeper than 45° are blended in rows, the others in columns.
    """
    if colors.device.type == "cpu":
        return Antialias.apply(colors, points, fragments.triangle, fragments.depth, faces, across)
    return antialias_anywhere(colors, fragments, points, faces, across)


def antialias_anywhere(colors: Tensor, fragments: Fragments, points: Tensor, faces: Tensor, across: Tensor) -> Tensor:
    """What :func:`antialias` computes, in torch's own operations, on any device: the reference for the kernels."""
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
        now = (slice(None), slice(None), slice(0, width - 1)) if axis == 0 else (slice(None), slice(0, height - 1))
        next_ = (slice(None), slice(None), slice(1, width)) if axis == 0 else (slice(None), slice(1, height))
        differ = triangle[now] != triangle[next_]
        one, two = number[now][differ], number[next_][differ]
        first_nearer = depth.reshape(-1)[one] <= depth.reshape(-1)[two]
        near, far = torch.where(first_nearer, one, two), torch.where(first_nearer, two, one)
        image = near // (height * width)
        start, end = ((torch.stack([n % width, n // width % height], -1) + 0.5).to(uv) for n in (near, far))
        begin, goal = triangle.reshape(-1)[near], triangle.reshape(-1)[far]
        pair, edge_a, edge_b = _walk(uv.detach(), faces, across, area, usable, begin, goal, image, start, end)
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
        change = share * (flat[source] - flat[target])
        for here in (target < source, target > source):  # of each half a pixel is blended once, so order is no matter
            out = out.index_add(0, target[here], change[here])
    return out.reshape(colors.shape)


def _walk(
    uv: Tensor,
    faces: Tensor,
    across: Tensor,
    area: Tensor,
    usable: Tensor,
    triangle: Tensor,
    goal: Tensor,
    image: Tensor,
    start: Tensor,
    end: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow the surface from pixel centre ``start`` (N, 2) in ``triangle`` towards ``end`` in ``goal``.

    Returns which of the N reach a silhouette on the way, and the two vertices of its edge. A silhouette is an edge
    without a neighbour, or whose neighbour faces the other way.
    """
    found, first, second = [], [], []
    pair = torch.arange(len(triangle), device=triangle.device)
    pair = pair[usable[image, triangle] & (triangle >= 0)]
    current = triangle[pair]
    for _ in range(kernels.STEPS):
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
        go = ~turn & usable[m, onward.clamp(min=0)] & (onward != goal[pair])
        pair, current = pair[go], onward[go]
    if not found:
        nothing = torch.empty(0, dtype=torch.long, device=triangle.device)
        return nothing, nothing, nothing
    return torch.cat(found), torch.cat(first), torch.cat(second)
