"""The ``triton`` backend: CUDA, exact and fast. See :mod:`.triton_kernels` for the method.

Triton comes with torch's CUDA builds. Everything stays on the GPU: vertices in, fragments or pictures out. Vertices on the
CPU travel to the current GPU and their results back. With ``TRITON_INTERPRET=1`` in the environment Triton's interpreter
runs the same kernels on the CPU, slowly, for tests.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
from torch import Tensor

from ...errors import RenderError
from ...types import Cameras, Fragments, Lights
from .. import color, shading
from . import triton_kernels as kernels
from .numba_kernels import INDEX_MASK

LANES = 128
"""Triangles, vertices or pixels a program."""
WARPS = 4  # one lane a thread
LIMIT = 64
"""Triangles with more pixels in their bounds are shared between programs."""
CHUNK = 256
PROGRAMS = 1024
"""Programs that share the large triangles: several for each multiprocessor of any GPU."""


def interpreted() -> bool:
    """Whether Triton's interpreter was asked for."""
    return os.environ.get("TRITON_INTERPRET", "") == "1"


def rasterize(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Fragments:
    """Fragments of ``vertices`` (B, V, 3), ``faces`` (F, 3), ``cameras`` of 1 or B, on the device of ``vertices``."""
    points, triangles = _inputs(vertices, faces)
    device, batch, count = points.device, len(points), points.shape[1]
    height, width = cameras.height, cameras.width
    screen, bad = _project(points, cameras)
    keys = _keys(screen, triangles, batch, count, height, width)
    triangle = torch.empty(batch, height, width, dtype=torch.int32, device=device)
    barycentric = torch.empty(batch, height, width, 3, device=device)
    depth = torch.empty(batch, height, width, device=device)
    _launch(
        kernels.fragments, height * width, batch, screen, triangles, keys, triangle, barycentric, depth, count, height,
        width,
    )  # fmt: skip
    _require_finite(bad, count)
    home = vertices.device
    return Fragments(triangle.to(home), barycentric.to(home), depth.to(home))


def render(
    vertices: Tensor,
    faces: Tensor,
    albedo: Tensor,
    cameras: Cameras,
    lights: Lights,
    background: Tensor,
    side: int,
) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) sRGB and coverage (B,), fused; arguments as checked by :func:`morphsym.rendering.render`."""
    points, triangles = _inputs(vertices.float(), faces)
    device, batch, count = points.device, len(points), points.shape[1]
    height, width = cameras.height, cameras.width
    screen, bad = _project(points, cameras, side)
    paint = color.srgb_to_linear(albedo.detach().to(points))
    normals = _normals(points, triangles)
    lit = shading.light_vertices(points, normals, paint.expand(batch, -1, -1), cameras, lights)
    front, back = (x.float().expand(batch, -1, -1).contiguous() for x in lit)
    keys = _keys(screen, triangles, batch, count, height * side, width * side)
    behind = background.detach().to(points).expand(batch, 3)
    both = torch.cat([color.srgb_to_linear(behind), behind], 1).contiguous()
    image = torch.empty(batch, 3, height, width, device=device)
    hits = torch.zeros(batch, dtype=torch.int64, device=device)
    _launch(
        kernels.shade, height * width, batch, screen, triangles, keys, front, back, both, image, hits, count, height,
        width, SIDE=side,
    )  # fmt: skip
    _require_finite(bad, count)
    coverage = (hits.double() / (height * width * side * side)).float()
    return image.to(vertices.device), coverage.to(vertices.device)


def _inputs(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices and int32 faces, contiguous, where the kernels run."""
    if len(faces) > INDEX_MASK:
        raise RenderError(f"the triton backend takes at most {INDEX_MASK} triangles, got {len(faces)}")
    device = vertices.device
    if device.type != "cuda" and not interpreted():
        device = torch.device("cuda")
    return vertices.detach().to(device).contiguous(), faces.to(device, torch.int32).contiguous()


def _project(points: Tensor, cameras: Cameras, side: int = 1) -> tuple[Tensor, Tensor]:
    """Screen (B, V, 4) float64 in units of samples, ``side`` a pixel, and the first bad vertex (B,), V for none."""
    batch, count = points.shape[:2]
    # as cameras.resized() scales it: in K's own precision, so that all backends see the same numbers
    K = (cameras.K.detach() * torch.tensor([side, side, 1.0]).to(cameras.K)[:, None]).double()
    parts = [x.to(points.device).reshape(len(cameras), -1) for x in (K, cameras.R.detach(), cameras.t.detach())]
    packed = torch.cat([p.double() for p in parts], 1).expand(batch, 21).contiguous()
    screen = torch.empty(batch, count, 4, dtype=torch.float64, device=points.device)
    bad = torch.full((batch,), count, dtype=torch.int64, device=points.device)
    _launch(kernels.project, count, batch, points, packed, screen, bad, count)
    return screen, bad


def _keys(screen: Tensor, faces: Tensor, batch: int, count: int, height: int, width: int) -> Tensor:
    """The z-buffer (B, height, width) int64: 0 on the background."""
    keys = torch.zeros(batch, height, width, dtype=torch.int64, device=screen.device)
    total = len(faces)
    counter = torch.zeros(1, dtype=torch.int64, device=screen.device)
    starts, names = (torch.empty(batch * total, dtype=torch.int64, device=screen.device) for _ in range(2))
    sizes = (count, total, height, width)
    lists = (keys, counter, starts, names)
    # the interpreter pays for every step of a program, not for lanes
    limit, chunk = (512, 1 << 14) if interpreted() else (LIMIT, CHUNK)
    _launch(kernels.small_triangles, total, batch, screen, faces, *lists, *sizes, LIMIT=limit, CHUNK=chunk)
    if total and batch:
        kernels.large_triangles[(2 if interpreted() else PROGRAMS,)](
            screen, faces, *lists, *sizes, CHUNK=chunk, num_warps=8, **kernels.EXACT
        )
    return keys


def _normals(points: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals (B, V, 3) float32."""
    batch, count = points.shape[:2]
    owner, order = torch.sort(faces.reshape(-1).long(), stable=True)
    first = torch.searchsorted(owner, torch.arange(count + 1, device=points.device)).int()
    users = (order // 3).int()
    normals = torch.empty(batch, count, 3, device=points.device)
    _launch(kernels.vertex_normals, count, batch, points, faces, first, users, normals, count)
    return normals


def _launch(kernel: Any, items: int, batch: int, *arguments: Any, **constants: Any) -> None:
    """Run ``kernel`` with a lane an item of every image; CUDA allows 65,535 images a launch, far beyond its memory."""
    if not (items and batch):
        return
    lanes = min(1 << 16, triton.next_power_of_2(items)) if interpreted() else LANES
    kernel[(triton.cdiv(items, lanes), batch)](*arguments, **constants, BLOCK=lanes, num_warps=WARPS, **kernels.EXACT)


def _require_finite(bad: Tensor, count: int) -> None:
    wrong = [(b, v) for b, v in enumerate(bad.tolist()) if v < count]  # the one value that the CPU waits for
    if wrong:
        b, v = wrong[0]
        raise RenderError(
            f"vertices must be finite: mesh {b}, vertex {v} is not ({len(wrong)} of {len(bad)} meshes of the batch are "
            "affected); check the coefficients that made them"
        )
