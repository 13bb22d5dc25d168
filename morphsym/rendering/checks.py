"""Checks on every picture: does it show the mesh that was asked for?

:func:`expected_coverage` measures the mesh's silhouette by another algorithm (scan lines, on a coarse grid, from
vertices projected by :func:`.cameras.project`), so a rasteriser that loses a part of the face, or a camera that looks
elsewhere, is noticed. :func:`require_all_faces` finds single lost triangles in a backend's fragments.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import RenderError
from ..types import Cameras, Fragments
from . import cameras as cams
from .backends._compile import kernel, run

GRID = 96  # rows of the coarse picture on which silhouettes are measured
TOLERANCE = 0.01
"""Largest difference between measured and expected coverage, as a share of the picture; see :func:`failures`."""


@kernel
def _silhouette(pixels, depth, faces, near, mask):
    """Mark the pixels of ``mask`` (h, w) whose centres lie in a triangle. Returns how many triangles cross ``near``.

    Every row of pixel centres is cut with the triangle's edges; the pixels between the cuts are covered.
    """
    height, width = mask.shape
    crossing = 0
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if depth[i] < near or depth[j] < near or depth[k] < near:
            crossing += depth[i] >= near or depth[j] >= near or depth[k] >= near
            continue
        low = min(pixels[i, 1], pixels[j, 1], pixels[k, 1])
        high = max(pixels[i, 1], pixels[j, 1], pixels[k, 1])
        if not (high > 0 and low < height):
            continue
        for r in range(int(max(low, 0.0)), int(min(high, height - 1.0)) + 1):
            y, start, end = r + 0.5, np.inf, -np.inf
            for a, b in ((i, j), (j, k), (k, i)):
                ya, yb = pixels[a, 1], pixels[b, 1]
                if (ya <= y) != (yb <= y):
                    x = pixels[a, 0] + (y - ya) / (yb - ya) * (pixels[b, 0] - pixels[a, 0])
                    start, end = min(start, x), max(end, x)
            if end >= 0 and start < width:
                mask[r, int(np.ceil(max(start, 0.0) - 0.5)) : int(np.ceil(min(end, width) - 0.5))] = True
    return crossing


def expected_coverage(vertices: Tensor, faces: Tensor, cameras: Cameras) -> np.ndarray:
    """Share (B,) float32 of the picture inside the silhouette of ``vertices`` (B, V, 3), to about 0.003.

    NaN where triangles cross the near plane (a camera inside the mesh): there is nothing to compare with.
    """
    scale = GRID / min(cameras.height, cameras.width)
    height, width = max(1, round(cameras.height * scale)), max(1, round(cameras.width * scale))
    # A very long strip would not fit into memory; a picture of few pixels needs no finer grid.
    coarse = cams.resized(cameras, min(height, 64 * GRID), min(width, 64 * GRID))
    pixels, depth = (x.detach().cpu().double().numpy() for x in cams.project(coarse, vertices))
    index = np.ascontiguousarray(faces.detach().cpu().numpy(), np.int32)

    def one(b: int) -> float:
        mask = np.zeros((coarse.height, coarse.width), np.bool_)
        crossing = _silhouette(pixels[b], depth[b], index, cams.NEAR, mask)
        return float("nan") if crossing else float(mask.mean())

    return np.asarray(run(one, [(b,) for b in range(len(pixels))]), np.float32)


def failures(images: Tensor, coverage: Tensor | np.ndarray, expected: np.ndarray) -> list[str]:
    """One reason a picture (B), '' where all is well; the sentences go to the ``reason`` column.

    Wrong are: values that are not finite or outside [0, 1]; a picture that shows nothing of the mesh; a coverage that
    differs from ``expected`` by more than ``TOLERANCE`` and half a pixel's border of a small picture.
    """
    measured = np.asarray(coverage, np.float64)
    allowed = TOLERANCE + 0.5 / min(images.shape[-2:])
    finite = torch.isfinite(images).flatten(1).all(1).tolist()
    within = ((images >= 0) & (images <= 1)).flatten(1).all(1).tolist()
    reasons = []
    for got, want, is_finite, is_within in zip(measured, expected, finite, within):
        if not is_finite:
            reasons.append("the picture holds values that are not finite")
        elif not is_within:
            reasons.append("the picture holds values outside [0, 1]")
        elif got == 0:
            reasons.append("the mesh is not in the picture: check the camera and the fit")
        elif abs(got - want) > allowed:
            reasons.append(f"the mesh covers {got:.3f} of the picture where its outline covers {want:.3f}")
        else:
            reasons.append("")
    return reasons


def require_all_faces(fragments: Fragments, vertices: Tensor, faces: Tensor, cameras: Cameras, who: str) -> None:
    """Raise :class:`RenderError` when a backend (named ``who``) has lost triangles.

    A triangle whose middle is near a pixel centre that lies well inside it is a witness: that pixel must show the
    triangle or something nearer. Cost: a few operations a triangle, none a pixel.
    """
    height, width = fragments.depth.shape[1:]
    for b in range(len(vertices)):
        camera = cams.to_camera(cameras[b % len(cameras)], vertices[b : b + 1].double())[0][
            faces.to(vertices.device).long()
        ]
        K = cameras.K[b % len(cameras)].to(camera)
        corners = camera[(camera[..., 2] >= cams.NEAR).all(1)] @ K.T
        pixels = corners[..., :2] / corners[..., 2:]
        centre = pixels.mean(1).floor()
        index = centre.long()
        in_picture = ((index >= 0) & (index < torch.tensor([width, height]).to(index))).all(1)
        pixels, corners, centre, index = pixels[in_picture], corners[in_picture], centre[in_picture], index[in_picture]
        to_corner = pixels - (centre + 0.5)[:, None]
        x, y = to_corner.unbind(-1)
        weights = torch.stack([x[:, i] * y[:, j] - x[:, j] * y[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], -1)
        area = weights.sum(-1, keepdim=True)
        weights = weights / area
        inside = (weights > 0.05).all(1) & (area[:, 0].abs() > 1e-2)
        depth = 1 / (weights / corners[..., 2]).sum(-1)
        shown = fragments.depth[b, index[:, 1], index[:, 0]].to(depth)
        lost = inside & (shown > depth * (1 + 1e-4))
        if bool(lost.any()):
            raise RenderError(
                f"the {who} backend lost {int(lost.sum())} of {int(inside.sum())} triangles checked in picture {b}; "
                "use --renderer numba"
            )
