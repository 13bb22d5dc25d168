"""Small scenes for the tests of the renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from morphsym.rendering.cameras import frontal
from morphsym.types import Cameras


def ellipsoid(
    rows: int = 12, columns: int = 24, radii: tuple[float, float, float] = (7, 10, 8)
) -> tuple[Tensor, Tensor]:
    """A closed 'head', vertices (V, 3) and faces (F, 3), counter-clockwise from outside, exactly symmetric in x.

    Two columns of vertices lie on the plane x = 0, as in a face model.
    """
    assert columns % 2 == 0
    theta = np.linspace(0, np.pi, rows + 1)[1:-1, None]
    half = np.linspace(0, np.pi, columns // 2 + 1)[None]  # from the front to the back over the subject's left
    x, y, z = np.sin(theta) * np.sin(half), np.cos(theta) + 0 * half, np.sin(theta) * np.cos(half)
    x[:, 0] = x[:, -1] = 0.0
    ring = [np.concatenate([a, s * a[:, -2:0:-1]], 1) for a, s in ((x, -1), (y, 1), (z, 1))]
    grid = np.stack(ring, -1).reshape(-1, 3)
    points = np.concatenate([grid, [[0, 1, 0], [0, -1, 0]]]) * np.asarray(radii)
    n, top = columns, len(grid)
    faces: list[tuple[int, int, int]] = []
    for r in range(rows - 2):
        for c in range(columns):
            a, b = r * n + c, r * n + (c + 1) % n
            d, e = a + n, b + n
            # diagonals mirrored too, so that the triangles are symmetric as well as the vertices
            faces += [(a, d, e), (a, e, b)] if c < n // 2 else [(a, d, b), (b, d, e)]
    for c in range(columns):
        b = (c + 1) % n
        faces += [(top, c, b), (top + 1, (rows - 2) * n + b, (rows - 2) * n + c)]
    return torch.tensor(points, dtype=torch.float32), torch.tensor(faces, dtype=torch.int32)


def pixel_camera(height: int, width: int, depth: float = 64.0) -> Cameras:
    """A frontal camera for which the world point (u, -v, 0) is exactly the pixel (u, v)."""
    K = torch.tensor([[[depth, 0, 0], [0, depth, 0], [0, 0, 1.0]]])
    return Cameras(K, frontal().float()[None], torch.tensor([[0.0, 0.0, depth]]), height, width)


def ict(shared_data: Path) -> tuple[np.lib.npyio.NpzFile, Tensor, Tensor]:
    """The ICT-FaceKit file, its mean (V, 3) and its faces."""
    data = np.load(shared_data / "face_models" / "ict_facekit.npz", allow_pickle=False)
    return data, torch.from_numpy(data["mean"].astype(np.float32)), torch.from_numpy(data["faces"])
