"""Textures: a picture wrapped over a mesh by texture coordinates, bilinear and mip-mapped, for every backend.

Coordinates (u, v) run from 0 to 1 over the picture, u to the right and v **upwards** (as in OBJ files): row 0 of the
picture is at v = 1. Texel centres lie at half-integers over the size; outside [0, 1] the picture repeats, so that tile
numbers (UDIM: 1.3 is 0.3 of the second tile) drop out.

The picture is sRGB; it is decoded, averaged and interpolated in linear light, as pixels are. Level k of the pyramid
(Williams 1983, *Pyramidal Parametrics*) has half the size of level k - 1, rounded down, each texel the mean of those it
covers. A pixel looks between the two levels next to ``log2`` of the longer side of its footprint: the larger of the
lengths, in texels of level 0, of the derivatives of (u, v) along the picture's rows and columns (OpenGL 4.6, section
8.14.1). These are exact, from the triangle's plane, not differences of neighbouring pixels, so outlines and seams of
the texture's charts are like any other place.

Everything is torch, on the fragments of any backend; gradients flow to the picture, vertices, albedo, lights, cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import RenderError
from ..types import Cameras, Lights
from . import cameras as cams
from . import shading
from .color import srgb_to_linear

if TYPE_CHECKING:
    from ..faces import MorphableModel

LARGEST = 8192
"""Pixels of a texture's longer side."""


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture over (part of) a mesh. Triangles outside ``mask`` keep their vertices' albedo."""

    image: Tensor  # (H, W, 3) or (B, H, W, 3) float, sRGB in [0, 1], row 0 at v = 1
    uv: Tensor  # (T, 2) float, texture coordinates
    faces_uv: Tensor  # (F, 3) integer, the corners' texture coordinates: one row for each triangle of the mesh
    mask: Tensor | None = None  # (F,) bool: triangles that show it; None: all


def for_model(model: MorphableModel, image: Tensor | np.ndarray, parts: Sequence[str] | None = None) -> Texture:
    """A :class:`Texture` of ``image`` (H, W, 3), uint8 or sRGB in [0, 1], for ``model``.

    ``parts`` are names of ``model.part_names`` that show it, by default the part with the tip of the nose: the skin.
    Raises :class:`RenderError` where the model has no texture coordinates or no such part.
    """
    if model.uv is None or model.faces_uv is None:
        raise RenderError(f"the model {model.name!r} has no texture coordinates; use its per-vertex albedo")
    part = np.asarray(model.part)
    names = list(model.part_names)
    if parts is None:
        wanted = [int(part[int(np.asarray(model.landmarks68[0])[30])])]
    else:
        missing = [p for p in parts if p not in names]
        if missing:
            raise RenderError(f"the model {model.name!r} has no part {missing[0]!r}; it has {', '.join(names)}")
        wanted = [names.index(p) for p in parts]
    picture = torch.as_tensor(image)
    if picture.dtype == torch.uint8:
        picture = picture.float() / 255
    return Texture(
        picture,
        torch.as_tensor(np.asarray(model.uv), dtype=torch.float32),
        torch.as_tensor(np.asarray(model.faces_uv)).long(),
        torch.from_numpy(np.isin(part, wanted)),
    )


def validate(texture: Texture, batch: int, faces: int) -> None:
    """Raise :class:`RenderError` for wrong shapes or values; ``faces`` is the number of the mesh's triangles."""
    image, uv, index = texture.image, texture.uv, texture.faces_uv
    shape = tuple(image.shape)
    if len(shape) not in (3, 4) or shape[-1] != 3 or not image.is_floating_point() or 0 in shape:
        raise RenderError(f"a texture must be floats of shape (H, W, 3) or (B, H, W, 3), got {image.dtype} {shape}")
    if len(shape) == 4 and shape[0] not in (1, batch):
        raise RenderError(f"expected 1 or {batch} textures, one a mesh, got {shape[0]}")
    if max(shape[-3:-1]) > LARGEST:
        raise RenderError(
            f"a texture may be {LARGEST} pixels large at most, got {shape[-2]}×{shape[-3]}; scale it down"
        )
    if not bool(torch.isfinite(image).all()):
        raise RenderError("the texture holds a value that is not finite")
    low, high = float(image.detach().min()), float(image.detach().max())
    if low < 0 or high > 1:
        raise RenderError(f"a texture must be sRGB in [0, 1], got {low:g} to {high:g}")
    if uv.ndim != 2 or uv.shape[1] != 2 or not bool(torch.isfinite(uv).all()):
        raise RenderError(f"texture coordinates must be finite and of shape (T, 2), got {tuple(uv.shape)}")
    if tuple(index.shape) != (faces, 3) or index.is_floating_point():
        raise RenderError(
            f"faces_uv must be integers of shape ({faces}, 3), one row a triangle of the mesh, got {index.dtype} "
            f"{tuple(index.shape)}"
        )
    if faces and (int(index.min()) < 0 or int(index.max()) >= len(uv)):
        raise RenderError(
            f"faces_uv must index texture coordinates 0 to {len(uv) - 1}, got {int(index.min())} to {int(index.max())}"
        )
    if texture.mask is not None and (tuple(texture.mask.shape) != (faces,) or texture.mask.dtype != torch.bool):
        raise RenderError(f"a texture's mask must be bool of shape ({faces},), got {tuple(texture.mask.shape)}")


class Pyramid:
    """The levels of a picture (H, W, 3), linear light, in one row of texels. Differentiable."""

    def __init__(self, image: Tensor) -> None:
        level = srgb_to_linear(image)
        sizes, rows = [], []
        while True:
            height, width = level.shape[:2]
            sizes.append((height, width))
            rows.append(level.reshape(-1, 3))
            if height == width == 1:
                break
            half = (max(1, height // 2), max(1, width // 2))
            level = torch.nn.functional.adaptive_avg_pool2d(level.permute(2, 0, 1)[None], half)[0].permute(1, 2, 0)
        self.texels = torch.cat(rows)
        self.height, self.width = torch.tensor(sizes, device=image.device).T
        self.start = torch.tensor([0, *np.cumsum([h * w for h, w in sizes])[:-1]], device=image.device)
        self.top = len(sizes) - 1

    def bilinear(self, uv: Tensor, level: Tensor) -> Tensor:
        """Texels (N, 3) at ``uv`` (N, 2) of the integer ``level`` (N,)."""
        height, width, start = self.height[level], self.width[level], self.start[level]
        x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
        column, row = x.detach().floor(), y.detach().floor()
        fx, fy = (x - column)[:, None], (y - row)[:, None]
        c0, r0 = column.long() % width, row.long() % height
        c1, r1 = (c0 + 1) % width, (r0 + 1) % height
        above = (1 - fx) * self.texels[start + r0 * width + c0] + fx * self.texels[start + r0 * width + c1]
        below = (1 - fx) * self.texels[start + r1 * width + c0] + fx * self.texels[start + r1 * width + c1]
        return (1 - fy) * above + fy * below

    def sample(self, uv: Tensor, level: Tensor) -> Tensor:
        """Linear light (N, 3) at ``uv`` (N, 2) and ``level`` (N,) in [0, top], between two levels."""
        low = level.detach().floor().clamp(0, self.top).long()
        high = (low + 1).clamp(max=self.top)
        share = (level - low)[:, None]
        return (1 - share) * self.bilinear(uv, low) + share * self.bilinear(uv, high)

    def level(self, across: Tensor, down: Tensor) -> Tensor:
        """The level (N,) for derivatives (N, 2) of (u, v) along a pixel's row and column."""
        size = torch.stack([self.width[0], self.height[0]]).to(across)
        squared = torch.maximum((across * size).square().sum(-1), (down * size).square().sum(-1))
        return (0.5 * torch.log2(squared.clamp(min=1.0))).clamp(max=float(self.top))


def shade(
    triangle: Tensor,
    vertices: Tensor,
    faces: Tensor,
    albedo: Tensor,
    cameras: Cameras,
    lights: Lights,
    texture: Texture,
) -> Tensor:
    """Linear radiance (B, H, W, 3), 0 on the background, of the pixels that show ``triangle`` (B, H, W).

    As :func:`morphsym.rendering.shading.shade`, with the texture in place of ``albedo`` (1 or B, V, 3; sRGB) where it
    applies; in the dtype of ``vertices``.
    """
    batch, height, width = triangle.shape
    faces = faces.to(vertices.device).long()
    paint = srgb_to_linear(albedo.to(vertices)).expand(batch, -1, 3)
    normals = shading.vertex_normals(vertices, faces)
    lit, gloss, inside = shading.light_parts(vertices, normals, cameras, lights)
    points = cams.to_camera(cameras, vertices) @ cameras.K.to(vertices).transpose(1, 2)
    values = torch.cat([paint, lit.expand(batch, -1, 3), gloss.expand(batch, -1, 3)], -1)
    front = shading.faces_front(vertices.detach(), faces, cameras) if len(faces) else None
    pictures = texture.image.to(vertices)
    pictures = pictures if pictures.ndim == 4 else pictures[None]
    pyramids = [Pyramid(p) for p in pictures]
    uv, faces_uv = texture.uv.to(vertices), texture.faces_uv.to(vertices.device).long()
    out = []
    for b in range(batch):
        rows, columns = torch.nonzero(triangle[b] >= 0, as_tuple=True)
        seen = triangle[b, rows, columns].long()
        blank = torch.zeros(height, width, 3).to(vertices)
        if front is None or not len(seen):
            out.append(blank)
            continue
        weights, across, down = _weights(points[b][faces[seen]], columns + 0.5, rows + 0.5)
        value = (values[b][faces[seen]] * weights[..., None]).sum(1)
        base, light, shine = value.split(3, dim=-1)
        shown = torch.ones_like(seen, dtype=torch.bool) if texture.mask is None else texture.mask.to(seen.device)[seen]
        corner = uv[faces_uv[seen[shown]]]  # (n, 3, 2)
        at, along, below = ((corner * w[shown][..., None]).sum(1) for w in (weights, across, down))
        pyramid = pyramids[b if len(pyramids) > 1 else 0]
        base = base.index_put((torch.nonzero(shown)[:, 0],), pyramid.sample(at, pyramid.level(along, below)))
        dark = inside[b if len(inside) > 1 else 0]
        colour = torch.where(front[b, seen][:, None], base * light + shine, base * dark)
        out.append(blank.index_put((rows, columns), colour))
    return torch.stack(out)


def _weights(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Perspective-correct barycentrics (N, 3) at pixels (x, y) of ``corners`` (N, 3, 3), and their derivatives.

    ``corners`` are homogeneous pixels X; the barycentrics are ``e_k / sum(e)`` with ``e_k = (x, y, 1) · (X_i × X_j)``,
    whose gradient along (x, y) is the cross product itself. Relative to the pixel, which cancels less; any corner may
    lie behind the camera.
    """
    x, y = x.to(corners), y.to(corners)
    z = corners[..., 2]
    px, py = corners[..., 0] - x[:, None] * z, corners[..., 1] - y[:, None] * z
    i, j = [1, 2, 0], [2, 0, 1]
    e = px[:, i] * py[:, j] - px[:, j] * py[:, i]
    ex, ey = py[:, i] * z[:, j] - z[:, i] * py[:, j], z[:, i] * px[:, j] - px[:, i] * z[:, j]
    total = e.sum(-1, keepdim=True)
    weights = e / total
    return (
        weights,
        (ex - weights * ex.sum(-1, keepdim=True)) / total,
        (ey - weights * ey.sum(-1, keepdim=True)) / total,
    )
