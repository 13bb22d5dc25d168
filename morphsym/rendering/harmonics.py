"""Pictures of meshes under order-2 spherical-harmonics light, fast enough to be differentiated by differences.

The photometric fit (:mod:`morphsym.fitting.refine`) needs many pictures of almost the same mesh. This is the fused CPU path of
the ``numba`` backend with another light: a vertex with unit normal ``n`` (camera frame) sends ``albedo * Σ_j light_j Y_j(n)``,
clipped at 0, to every direction (Lambert; Ramamoorthi & Hanrahan 2001 show that nine coefficients hold 99 % of it). The radiance
is interpolated over the triangles, as everywhere in this package; pixels are 2 × 2 samples averaged in linear light.
"""

from __future__ import annotations

import numpy as np

from .backends import numba_kernels as kernels
from .backends._compile import kernel, run
from .color import encode_table

TERMS = 9
SIDE = 2
"""Samples along the side of a pixel."""

_table: list[np.ndarray] = []


@kernel
def harmonics(normals, R, out):
    """``out (V, 9)``: the real spherical harmonics up to order 2, unnormalised, of ``normals (V, 3)`` turned by ``R``.

    1, x, y, z, xy, xz, yz, x² − y², 3z² − 1 in the camera's frame.
    """
    for v in range(normals.shape[0]):
        a, b, c = normals[v, 0], normals[v, 1], normals[v, 2]
        x = R[0, 0] * a + R[0, 1] * b + R[0, 2] * c
        y = R[1, 0] * a + R[1, 1] * b + R[1, 2] * c
        z = R[2, 0] * a + R[2, 1] * b + R[2, 2] * c
        out[v, 0] = np.float32(1.0)
        out[v, 1], out[v, 2], out[v, 3] = x, y, z
        out[v, 4], out[v, 5], out[v, 6] = x * y, x * z, y * z
        out[v, 7], out[v, 8] = x * x - y * y, np.float32(3.0) * z * z - np.float32(1.0)


@kernel
def _radiance(normals, albedo, light, R, out):
    """Front colours ``out[:, :3]`` of :func:`harmonics` times ``light (9, 3)`` times ``albedo (V, 3)``; backs are black."""
    y = np.empty((1, 9), np.float32)
    zero = np.float32(0.0)
    for v in range(normals.shape[0]):
        harmonics(normals[v : v + 1], R, y)
        for k in range(3):
            s = zero
            for j in range(9):
                s += light[j, k] * y[0, j]
            out[v, k] = albedo[v, k] * max(s, zero)
            out[v, 3 + k] = zero


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3) float32 of ``vertices`` (V, 3) float32 and ``faces`` (F, 3)."""
    out = np.empty((len(vertices), 3), np.float32)
    kernels.vertex_normals(vertices, np.ascontiguousarray(faces, np.int32).view(np.uint32), out)
    return out


def render(
    vertices: np.ndarray, faces: np.ndarray, albedo: np.ndarray, K: np.ndarray, R: np.ndarray, t: np.ndarray,
    light: np.ndarray, height: int, width: int,
) -> np.ndarray:  # fmt: skip
    """Images (B, 3, H, W) float32 sRGB, black behind the mesh.

    ``vertices`` (B, V, 3) float32 cm; ``faces`` (F, 3) uint32, counter-clockwise from outside; ``albedo`` (V, 3) float32 and
    ``light`` (9, 3) float32, linear; cameras ``K``, ``R`` (B, 3, 3), ``t`` (B, 3) float64, as in :class:`morphsym.types.Cameras`.
    """
    if not _table:
        _table.append(encode_table())
    image = np.empty((len(vertices), 3, height, width), np.float32)
    behind = np.zeros(3, np.float32)
    fine = K * np.array([[SIDE], [SIDE], [1.0]])

    def one(b: int) -> None:
        points = vertices[b]
        screen = np.empty((len(points), 4))
        towards, radiance = np.empty((len(points), 3), np.float32), np.empty((len(points), 6), np.float32)
        kernels.project(points, fine[b], R[b], t[b], screen)
        kernels.vertex_normals(points, faces, towards)
        _radiance(towards, albedo, light, R[b].astype(np.float32), radiance)
        kernels.shade_band(screen, faces, radiance, behind, _table[0], SIDE, 0, image[b])

    run(one, [(b,) for b in range(len(vertices))])
    return image
