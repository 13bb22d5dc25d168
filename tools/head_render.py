"""A small z-buffer renderer for looking at the head while it is built (tools only; the library has its own)."""

from __future__ import annotations

import numba
import numpy as np

DISTANCE, FOCAL = 70.0, 2.9  # camera distance in cm; focal length in units of the image size


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fill(xy: np.ndarray, z: np.ndarray, faces: np.ndarray, index: np.ndarray, bary: np.ndarray) -> None:
    height, width = index.shape
    depth = np.full((height, width), np.inf)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        lo_x, hi_x = max(0, int(min(x0, x1, x2) - 0.5)), min(width - 1, int(max(x0, x1, x2) + 0.5))
        lo_y, hi_y = max(0, int(min(y0, y1, y2) - 0.5)), min(height - 1, int(max(y0, y1, y2) + 0.5))
        for i in range(lo_y, hi_y + 1):
            for j in range(lo_x, hi_x + 1):
                px, py = j + 0.5, i + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area
                w2 = 1 - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                q0, q1, q2 = w0 / z[a], w1 / z[b], w2 / z[c]
                d = 1 / (q0 + q1 + q2)
                if d < depth[i, j]:
                    depth[i, j] = d
                    index[i, j] = f
                    bary[i, j, 0], bary[i, j, 1], bary[i, j, 2] = q0 * d, q1 * d, q2 * d


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """Head rotation; positive yaw turns the subject to the subject's left, positive pitch looks up (degrees)."""
    a, b = np.deg2rad(yaw), np.deg2rad(-pitch)
    ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(rx @ ry)


def project(vertices: np.ndarray, size: int, yaw: float = 0.0, pitch: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (V, 2) and depth (V,) of head-frame vertices."""
    x = vertices @ rotation(yaw, pitch).T
    z = DISTANCE - x[:, 2]
    scale = FOCAL * size / z
    return np.stack([size / 2 + scale * x[:, 0], size / 2 - scale * x[:, 1]], 1), z


def fragments(
    vertices: np.ndarray, faces: np.ndarray, size: int, yaw: float = 0.0, pitch: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Visible triangle (size, size), -1 outside, and barycentric weights (size, size, 3)."""
    xy, z = project(vertices, size, yaw, pitch)
    index, bary = np.full((size, size), -1), np.zeros((size, size, 3))
    _fill(xy, z, faces, index, bary)
    return index, bary


def render(
    vertices: np.ndarray, faces: np.ndarray, albedo: np.ndarray, size: int = 512, yaw: float = 0.0, pitch: float = 0.0
) -> np.ndarray:
    """A shaded uint8 picture (size, size, 3) of the head before a grey ground, 2 x 2 supersampled."""
    big = size * 2
    index, bary = fragments(vertices, faces, big, yaw, pitch)
    tri = vertices[faces]
    cross = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    normal = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normal, faces[:, k], cross)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    on = index >= 0
    corners = faces[index[on]]
    n = np.einsum("pk,pkd->pd", bary[on], normal[corners]) @ rotation(yaw, pitch).T
    n /= np.linalg.norm(n, axis=1, keepdims=True) + 1e-12
    colour = np.einsum("pk,pkd->pd", bary[on], albedo[corners] ** 2.2)
    key = np.array([0.25, 0.45, 0.86])
    fill = np.array([-0.6, 0.1, 0.8])
    light = 0.32 + 0.62 * np.clip(n @ (key / np.linalg.norm(key)), 0, None)
    light += 0.2 * np.clip(n @ (fill / np.linalg.norm(fill)), 0, None)
    image = np.full((big, big, 3), 0.55**2.2)
    image[on] = colour * light[:, None]
    image = np.clip(image, 0, 1).reshape(size, 2, size, 2, 3).mean((1, 3)) ** (1 / 2.2)
    return (image * 255 + 0.5).astype(np.uint8)
