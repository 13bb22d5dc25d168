"""The doors of the room: :func:`rasterize` gives fragments, :func:`render` gives shaded pictures."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ..errors import RenderError
from ..types import Cameras, Fragments, Lights
from . import backends, shading, textures
from . import cameras as cams
from . import lights as lamps

SAMPLES = 4
"""Samples a pixel of :func:`render`: 2 × 2. At 1 outlines and lips have steps, and 16 looks the same as 4 at 224²."""


def rasterize(vertices: Tensor, faces: Tensor, cameras: Cameras, backend: str = "auto") -> Fragments:
    """Which triangle every pixel's centre sees.

    ``vertices`` (B, V, 3) world, cm, float32 or float64; ``faces`` (F, 3) integers, the same for the batch; ``cameras``
    of 1 or B. Returns :class:`Fragments` of (B, H, W). Triangles are two-sided; what is nearer than ``cameras.NEAR`` is
    cut off. Of two triangles that share an edge exactly one covers a centre on it (the top-left rule). Raises
    :class:`RenderError` for wrong shapes, indices or values, :class:`MissingDependencyError` for a missing backend.
    """
    vertices, faces = _mesh(vertices, faces)
    cams.validate(cameras, len(vertices))
    return backends.get(backend, vertices.device).rasterize(vertices, faces, cameras)


def render(
    vertices: Tensor,
    faces: Tensor,
    albedo: Tensor,
    cameras: Cameras,
    lights: Lights,
    background: Tensor | tuple[float, float, float] = (0.5, 0.5, 0.5),
    backend: str = "auto",
    samples: int = SAMPLES,
    texture: textures.Texture | None = None,
) -> tuple[Tensor, Tensor]:
    """Shaded pictures of meshes with smooth normals: images (B, 3, H, W) float32 sRGB in [0, 1], and coverage (B,).

    ``vertices`` (B, V, 3) world, cm; ``faces`` (F, 3), counter-clockwise seen from outside; ``albedo`` (V, 3) or
    (B, V, 3) sRGB in [0, 1]; ``cameras`` and ``lights`` of 1 or B; ``background`` (3,) or (B, 3) sRGB. ``samples`` a
    pixel, 1, 4, 9 or 16, on a regular grid, averaged in linear light. Coverage is the share of samples that see the
    mesh. Light is as :class:`morphsym.types.Lights` says; back faces, the inside of the head seen through its openings,
    get half of the ambient light only. ``texture`` replaces the albedo of the triangles that it covers; it takes the
    backend's fragments and shades them in torch, slower than without. Raises :class:`RenderError` as :func:`rasterize` does.
    """
    vertices, faces = _mesh(vertices, faces)
    batch = len(vertices)
    cams.validate(cameras, batch)
    lamps.validate(lights, batch)
    if samples not in (1, 4, 9, 16):
        raise RenderError(f"samples must be 1, 4, 9 or 16, got {samples}")
    paint = _rows("albedo", torch.as_tensor(albedo, dtype=torch.float32), (vertices.shape[1], 3), batch)
    behind = _rows("background", torch.as_tensor(background, dtype=torch.float32), (3,), batch)
    chosen = backends.get(backend, vertices.device)
    if texture is not None:
        textures.validate(texture, batch, len(faces))
        draw = shading.render_fragments(chosen.rasterize, partial(textures.shade, texture=texture))
    else:
        draw = chosen.fused or shading.render_fragments(chosen.rasterize)
    images, coverage = draw(vertices, faces, paint, cameras, lights, behind, math.isqrt(samples))
    return images, coverage


def _mesh(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    vertices, faces = torch.as_tensor(vertices), torch.as_tensor(faces)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not vertices.is_floating_point():
        raise RenderError(f"vertices must be floats of shape (B, V, 3), got {vertices.dtype} {tuple(vertices.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point() or faces.dtype == torch.bool:
        raise RenderError(f"faces must be integers of shape (F, 3), got {faces.dtype} {tuple(faces.shape)}")
    if len(faces):
        low, high = int(faces.min()), int(faces.max())
        if low < 0 or high >= vertices.shape[1]:
            raise RenderError(f"faces must index vertices 0 to {vertices.shape[1] - 1}, got {low} to {high}")
    return vertices, faces


def _rows(name: str, value: Tensor, shape: tuple[int, ...], batch: int) -> Tensor:
    if tuple(value.shape) == shape:
        value = value[None]
    if tuple(value.shape[1:]) != shape or len(value) not in (1, batch):
        full = (batch, *shape)
        raise RenderError(f"{name} must have shape {shape} or {full}, got {tuple(value.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise RenderError(f"{name} holds a value that is not finite")
    if value.numel() and (float(value.min()) < 0 or float(value.max()) > 1):
        low, high = float(value.min()), float(value.max())
        raise RenderError(f"{name} must be sRGB in [0, 1], got {low:g} to {high:g}")
    return value
