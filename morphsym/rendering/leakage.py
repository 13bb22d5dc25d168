"""Did an edit of one half of a rendered face change pixels of the other half?

An edit of the subject's left half may change what shows vertices with a left weight above 1 % or their neighbours (whose
normals turn with them), and what lies within the edit's own movement of those in the picture. Anything else must be the
baseline's own bytes. What is measured is the largest change elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..types import Cameras
from . import cameras as cams
from . import checks
from .backends._compile import kernel, run
from .render import rasterize

if TYPE_CHECKING:
    from ..faces import MorphableModel

WEIGHT = 0.01
BORDER = 2.0
"""Pixels added to the movement: a pixel's samples, and the rounding of the mask to whole pixels."""
LARGEST = 1 / 255
"""A rendered picture that changes more than this where nothing was edited is wrong."""


def measure(
    images: Sequence[Tensor],
    vertices: Sequence[Tensor],
    sides: Sequence[str],
    baseline: Tensor,
    unedited: Tensor,
    model: MorphableModel,
    camera: Cameras,
    backend: str = "auto",
) -> np.ndarray:
    """Largest change (B,) float32, in [0, 1], of B ``images`` (3, H, W) outside the reach of their edits.

    ``baseline`` (3, H, W) is the picture of the ``unedited`` vertices (V, 3), ``vertices`` B of (V, 3) those of the
    images; ``sides`` are 'left', 'right', 'both' or 'none' (nothing may change), the subject's. ``model`` gives faces and
    hemiface weights. The pictures stay on their device.
    """
    faces = torch.as_tensor(model.faces)
    fragments = rasterize(unedited[None], faces, camera, backend)
    if backend not in ("auto", "numba"):  # numba's own tests find lost faces; others depend on more than this package
        checks.require_all_faces(fragments, unedited[None], faces, camera, backend)
    seen = fragments.triangle[0].cpu().numpy()
    depth = cams.to_camera(camera, unedited[None])[0, :, 2].clamp(min=cams.NEAR).amin()
    pixels_per_cm = float(camera.K[0, :2, :2].abs().max()) / float(depth)
    far = {side: _distance(seen, reached(model, side)) for side in set(sides)}

    def one(image: Tensor, mesh: Tensor, side: str) -> float:
        if image.device.type == "cpu" and mesh.device.type == "cpu":
            moved = _movement(mesh.numpy(), unedited.numpy()) * pixels_per_cm
            return float(_largest(image.numpy(), baseline.numpy(), far[side], np.float32(moved + BORDER)))
        moved = float((mesh - unedited).norm(dim=-1).amax()) * pixels_per_cm
        outside = torch.from_numpy(far[side] > moved + BORDER).to(image.device)
        return float(((image - baseline).abs() * outside).amax())

    return np.asarray(run(one, list(zip(images, vertices, sides, strict=True))), np.float32)


@kernel
def _movement(vertices, unedited):
    """The longest way of a vertex, cm."""
    most = 0.0
    for v in range(len(vertices)):
        x, y = vertices[v, 0] - unedited[v, 0], vertices[v, 1] - unedited[v, 1]
        z = vertices[v, 2] - unedited[v, 2]
        most = max(most, x * x + y * y + z * z)
    return np.sqrt(most)


@kernel
def _largest(image, baseline, far, margin):
    """Largest difference of pictures (3, H, W) where ``far`` (H, W) is more than ``margin``; NaN counts as 1."""
    most = np.float32(0.0)
    for k in range(3):
        for r in range(far.shape[0]):
            for c in range(far.shape[1]):
                if far[r, c] > margin:
                    change = abs(image[k, r, c] - baseline[k, r, c])
                    most = max(most, change if change == change else np.float32(1.0))
    return most


def _distance(seen: np.ndarray, touched: np.ndarray) -> np.ndarray:
    """Pixels from every pixel to the nearest one that shows a touched triangle; infinite where none does."""
    near = (seen >= 0) & touched[np.maximum(seen, 0)]
    if not near.any():
        return np.full(seen.shape, np.inf, np.float32)
    return np.asarray(distance_transform_edt(~near), np.float32)


def reached(model: MorphableModel, side: str) -> np.ndarray:
    """(F,) bool: the triangles that an edit of ``side`` may change, with their neighbours."""
    return _reached(np.asarray(model.hemiface_left, np.float32).tobytes(), model.faces.tobytes(), side)


@lru_cache(maxsize=8)
def _reached(weights: bytes, triangles: bytes, side: str) -> np.ndarray:
    left, faces = np.frombuffer(weights, np.float32), np.frombuffer(triangles, np.int32).reshape(-1, 3)
    if side == "none":
        return np.zeros(len(faces), bool)
    touched = {"left": left, "right": 1 - left}.get(side, np.ones_like(left)) > WEIGHT
    touched = touched.copy()
    touched[faces[touched[faces].any(1)]] = True  # whose normals change
    return np.asarray(touched[faces].any(1))
