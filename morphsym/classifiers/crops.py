"""Crops from landmarks, and their sampling with proper filtering. Batched, on the device, float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .spec import ClassifierSpec, CropSpec, ResizeSpec


def five_points(landmarks: Tensor) -> Tensor:
    """(B, 68, 2) → (B, 5, 2): eye centres, nose tip, mouth corners; image order (the viewer's left first).

    In the Multi-PIE/iBUG scheme points 36–41 are the subject's right eye, on the viewer's left.
    """
    return torch.stack(
        [
            landmarks[:, 36:42].mean(1),
            landmarks[:, 42:48].mean(1),
            landmarks[:, 30],
            landmarks[:, 48],
            landmarks[:, 54],
        ],
        dim=1,
    )


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """(B, 2, 3): the least-squares rotation, uniform scale and translation from ``source`` to ``target`` (B, N, 2).

    Umeyama (1991) in two dimensions, where the solution is closed: with centred points as complex numbers,
    ``a = Σ conj(s) t / Σ |s|²``. Reflections are never returned.
    """
    mean_s, mean_t = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    s, t = source - mean_s, target - mean_t
    norm = (s * s).sum((1, 2))
    cos = (s * t).sum((1, 2)) / norm
    sin = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / norm
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    shift = mean_t[:, 0] - torch.einsum("bij,bj->bi", linear, mean_s[:, 0])
    return torch.cat([linear, shift[..., None]], -1)


def crop_matrix(landmarks: Tensor, spec: ClassifierSpec, image_size: tuple[int, int] | None = None) -> Tensor:
    """(B, 2, 3): takes a point of the crop (pixels, 0…width, 0…height) to the picture (pixels).

    ``landmarks`` (B, 68, 2) pixels, finite. ``image_size`` (height, width) is needed where the crop is ``full``.
    :class:`InputError` for landmarks of the wrong shape, non-finite, or without extent.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise InputError(f"landmarks: expected (B, 68, 2), got {tuple(landmarks.shape)}")
    points = landmarks.to(torch.float64)  # exact boxes; the result is float32
    if not bool(torch.isfinite(points).all()):
        bad = (~torch.isfinite(points).all(-1).all(-1)).nonzero()[0].item()
        raise InputError(f"landmarks: image {bad} of the batch has non-finite landmarks")
    height, width = spec.input_size
    crop = spec.crop
    if crop.kind == "full":
        if image_size is None:
            raise InputError("a 'full' crop needs the size of the picture")
        matrix = points.new_zeros(len(points), 2, 3)
        matrix[:, 0, 0], matrix[:, 1, 1] = image_size[1] / width, image_size[0] / height
    elif crop.kind == "box":
        matrix = _box(points, crop, height, width)
    else:
        matrix = _align(points, crop, height, width)
    if not bool(torch.isfinite(matrix).all()) or bool((matrix[:, :, :2].abs().amax((1, 2)) < 1e-6).any()):
        raise InputError("landmarks: they have no extent; is this a face?")
    return matrix.to(torch.float32)


def _box(points: Tensor, crop: CropSpec, height: int, width: int) -> Tensor:
    low, high = points.amin(1), points.amax(1)
    edge = (high - low).amax(1)
    centre = (low + high) / 2 + edge[:, None] * points.new_tensor(crop.shift)
    tall = edge * crop.margin
    wide = tall * width / height
    matrix = points.new_zeros(len(points), 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1] = wide / width, tall / height
    matrix[:, :, 2] = centre - torch.stack([wide, tall], -1) / 2
    return matrix


def _align(points: Tensor, crop: CropSpec, height: int, width: int) -> Tensor:
    template = points.new_tensor(crop.points)
    template = (template - 0.5) / crop.margin + 0.5
    target = template * points.new_tensor([width, height])
    forward = similarity(five_points(points), target.expand(len(points), 5, 2))
    inverse = torch.linalg.inv(forward[:, :, :2])
    return torch.cat([inverse, -inverse @ forward[:, :, 2:]], -1)


def sample(
    images: Tensor, matrix: Tensor, size: tuple[int, int], resize: ResizeSpec, outside: float | str = 0.0
) -> Tensor:
    """(B, C, h, w): ``images`` (B, C, H, W) seen through ``matrix`` (B, 2, 3), float32.

    Enlarging is plain interpolation. Where the crop shrinks by a factor f > 1 and the filter asks for it, it is first
    sampled ⌈f⌉ times as finely and then reduced with PIL's filter, so a whole-number f on pixel boundaries gives just
    what PIL gives. f belongs to one image, never to the batch: an image's pixels do not depend on its neighbours.
    """
    if images.device != matrix.device:
        matrix = matrix.to(images.device)
    # footprint of one crop pixel in picture pixels: the longer of its two edges
    edge = torch.linalg.vector_norm(matrix[:, :, :2], dim=1).amax(1)
    if resize.interpolation == "area" or (resize.antialias and resize.interpolation != "nearest"):
        fine = [max(1, math.ceil(e - 1e-4)) for e in edge.tolist()]
    else:
        fine = [1] * len(images)
    upright = bool((matrix[:, 0, 1] == 0).all() and (matrix[:, 1, 0] == 0).all())
    if upright and (resize.interpolation in ("bilinear", "area") or min(fine, default=1) > 1):
        return _sample_upright(images, matrix, size, resize, outside, fine)
    if len(set(fine)) == 1:
        return _sample(images, matrix, size, resize, outside, fine[0])
    out = images.new_empty(len(images), images.shape[1], *size)
    for k in sorted(set(fine)):
        index = torch.tensor([i for i, f in enumerate(fine) if f == k], device=images.device)
        out[index] = _sample(images[index], matrix[index], size, resize, outside, k)
    return out


def _sample_upright(
    images: Tensor,
    matrix: Tensor,
    size: tuple[int, int],
    resize: ResizeSpec,
    outside: float | str,
    fine: list[int],
) -> Tensor:
    """As :func:`_sample`, for crops without rotation: rows and columns separate, so it is two matrix products.

    The pictures of one unit share a crop, so the weights are worked out once for each different crop.
    """
    out = images.new_empty(len(images), images.shape[1], *size)
    unique, inverse = torch.unique(matrix, dim=0, return_inverse=True)
    groups = inverse.tolist()
    for g, one in enumerate(unique):
        members = [i for i, other in enumerate(groups) if other == g]
        rows, top = _weights(one[1, 1], one[1, 2], size[0], images.shape[2], fine[members[0]], resize, outside)
        columns, left = _weights(one[0, 0], one[0, 2], size[1], images.shape[3], fine[members[0]], resize, outside)
        index = slice(None) if len(members) == len(images) else torch.tensor(members, device=images.device)
        source = images[index, :, top : top + rows.shape[1], left : left + columns.shape[1]]
        if outside != "edge" and float(outside) != 0:
            source = source - float(outside)
        part = torch.matmul(rows, torch.matmul(source, columns.T))
        out[index] = part + float(outside) if outside != "edge" and float(outside) != 0 else part
    return out


def _weights(
    step: Tensor, start: Tensor, n: int, length: int, k: int, resize: ResizeSpec, outside: float | str
) -> tuple[Tensor, int]:
    """Weights (n, m) of the m picture pixels from the returned first one: bilinear at k · n points, then the filter."""
    at = start + step * (torch.arange(n * k, device=step.device, dtype=torch.float32) + 0.5) / k
    if outside == "edge":
        at = at.clamp(0.5, length - 0.5)
    first = max(0, min(length - 1, math.floor(float(at[0]) - 0.5)))
    last = max(first, min(length - 1, math.ceil(float(at[-1]) + 0.5)))
    centres = torch.arange(first, last + 1, device=step.device, dtype=torch.float32) + 0.5
    dense = (1 - (at[:, None] - centres).abs()).clamp_min(0)
    if k > 1 and resize.interpolation == "area":
        dense = dense.view(n, k, -1).mean(1)
    elif k > 1:
        narrow = dense.shape[1]
        dense = F.interpolate(
            dense[None, None], size=(n, narrow), mode=resize.interpolation, align_corners=False, antialias=True
        )[0, 0]
    return dense, first


def _sample(
    images: Tensor, matrix: Tensor, size: tuple[int, int], resize: ResizeSpec, outside: float | str, k: int
) -> Tensor:
    height, width = images.shape[2:]
    h, w = size[0] * k, size[1] * k
    # crop pixels (centres at half-integers) → picture → grid_sample's [-1, 1], whose pixel edges are at ±1
    scale = matrix.new_tensor([2.0 / width, 2.0 / height])
    theta = matrix * scale[:, None]
    theta[:, :, 2] -= 1.0
    xs = (torch.arange(w, device=images.device, dtype=torch.float32) + 0.5) / k
    ys = (torch.arange(h, device=images.device, dtype=torch.float32) + 0.5) / k
    grid = (
        theta[:, None, None, :, 0] * xs[None, None, :, None]
        + theta[:, None, None, :, 1] * ys[None, :, None, None]
        + theta[:, None, None, :, 2]
    )
    mode = {"area": "bilinear"}.get(resize.interpolation, resize.interpolation)
    if k > 1:
        mode = "bilinear"  # at this density the source pixels are read; the filter below does the reducing
    padding = "border" if outside == "edge" else "zeros"
    fill = 0.0 if outside == "edge" else float(outside)
    source = images - fill if fill else images
    out = F.grid_sample(source, grid, mode=mode, padding_mode=padding, align_corners=False)
    if fill:
        out = out + fill
    if k > 1:
        if resize.interpolation == "area":
            out = F.avg_pool2d(out, k)
        else:
            out = F.interpolate(out, size=size, mode=resize.interpolation, align_corners=False, antialias=True)
    return out
