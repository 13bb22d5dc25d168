"""The ``numba`` backend: CPU, exact and fast. See :mod:`.numba_kernels` for the method."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...errors import RenderError
from ...types import Cameras, Fragments, Lights
from .. import cameras as cams
from .. import color
from .. import lights as lamps
from . import numba_kernels as kernels
from ._compile import run, threads

BAND_SAMPLES = 128 * 1024
"""Samples of a row band's z-buffer, at most: 1 MB, a core's second-level cache. Every band looks at all triangles again."""


def rasterize(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Fragments:
    """Fragments of ``vertices`` (B, V, 3), float32 or float64 world cm, ``faces`` (F, 3), ``cameras`` of 1 or B.

    Called through :func:`morphsym.rendering.rasterize`, which checks the arguments. Raises :class:`RenderError` for
    vertices that are not finite.
    """
    points, triangles = _array(vertices), _indices(faces)
    K, R, t = (_rows(x, len(points)) for x in _matrices(cameras))
    batch, height, width = len(points), cameras.height, cameras.width
    screen = np.empty((batch, points.shape[1], 4))
    bad = run(kernels.project, [(points[b], K[b], R[b], t[b], screen[b]) for b in range(batch)])
    _require_finite(bad)
    triangle = np.empty((batch, height, width), np.int32)
    barycentric = np.empty((batch, height, width, 3), np.float32)
    depth = np.empty((batch, height, width), np.float32)
    tasks = [
        (screen[b], triangles, top, triangle[b, top:end], barycentric[b, top:end], depth[b, top:end])
        for b in range(batch)
        for top, end in _bands(height, width, batch)
    ]
    run(kernels.rasterize_band, tasks)
    return Fragments(torch.from_numpy(triangle), torch.from_numpy(barycentric), torch.from_numpy(depth))


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
    points, triangles = _array(vertices, np.float32), _indices(faces)
    # Picture by picture: torch's vectorised power differs in last bits with a value's place in the array
    paint = _array(torch.stack([color.srgb_to_linear(a) for a in albedo.detach().cpu().float()]))
    batch, height, width = len(points), cameras.height, cameras.width
    fine = cams.resized(cameras, height * side, width * side)  # in units of samples
    K, R, t = (_rows(x, batch) for x in _matrices(fine))
    _, R32, t32 = (_rows(x, batch) for x in _matrices(cameras, np.float32))
    light = [_rows(_array(x, np.float32), batch) for x in _fields(lights)]
    paints, behind = _rows(paint, batch), _rows(_array(background, np.float32), batch)
    image = np.empty((batch, 3, height, width), np.float32)
    bands = _bands(height, width * side * side, batch)

    def prepare(b: int) -> tuple[int, np.ndarray, np.ndarray]:
        n = points.shape[1]
        screen, normals = np.empty((n, 4)), np.empty((n, 3), np.float32)
        radiance = np.empty((n, 6), np.float32)
        bad = kernels.project(points[b], K[b], R[b], t[b], screen)
        if bad < 0:
            kernels.vertex_normals(points[b], triangles, normals)
            ambient, direction, intensity, specular, sh, position, power = (x[b] for x in light)
            lamp = (ambient, direction, intensity, specular, sh, position, power)
            kernels.light_vertices(points[b], normals, paints[b], R32[b], t32[b], *lamp, radiance)
        return bad, screen, radiance

    def shade(b: int, ready: tuple[int, np.ndarray, np.ndarray], top: int, end: int) -> int:
        _, screen, radiance = ready
        table, view = _table(), image[b, :, top:end]
        return int(kernels.shade_band(screen, triangles, radiance, behind[b], table, side, top, view))

    def whole(b: int) -> tuple[int, int]:
        ready = prepare(b)
        return ready[0], 0 if ready[0] >= 0 else sum(shade(b, ready, top, end) for top, end in bands)

    if batch >= threads():
        results = run(whole, [(b,) for b in range(batch)])
        _require_finite([bad for bad, _ in results])
        covered = [n for _, n in results]
    else:
        ready = run(prepare, [(b,) for b in range(batch)])
        _require_finite([r[0] for r in ready])
        parts = run(shade, [(b, ready[b], top, end) for b in range(batch) for top, end in bands])
        covered = [sum(parts[b * len(bands) : (b + 1) * len(bands)]) for b in range(batch)]
    share = np.asarray(covered, np.float64) / (height * width * side * side)
    return torch.from_numpy(image), torch.from_numpy(share.astype(np.float32))


def _array(x: Tensor, dtype: type | None = None) -> np.ndarray:
    a = x.detach().cpu().numpy()
    if dtype is None:
        dtype = np.float64 if a.dtype == np.float64 else np.float32
    return np.ascontiguousarray(a, dtype)


def _indices(faces: Tensor) -> np.ndarray:
    """Unsigned, because numba tests signed indices for being negative."""
    if len(faces) > kernels.INDEX_MASK:
        raise RenderError(f"the numba backend takes at most {kernels.INDEX_MASK} triangles, got {len(faces)}")
    return _array(faces, np.int32).view(np.uint32)


def _rows(x: np.ndarray, batch: int) -> list[np.ndarray]:
    """One row an image. Rows, not a broadcast array, which numba would compile another kernel for."""
    return [x[b if len(x) > 1 else 0] for b in range(batch)]


def _matrices(cameras: Cameras, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    K, R, t = (_array(x, dtype) for x in (cameras.K, cameras.R, cameras.t))
    return K, R, t


def _fields(lights: Lights) -> tuple[Tensor, ...]:
    """What the kernel takes, in its order; what is not there has no rows."""
    n = len(lights)
    none = torch.zeros(n, 0, 3)
    sh = none if lights.sh is None else lights.sh * lamps.SCALES.to(lights.sh)[:, None]
    position, power = (none, none) if lights.position is None else (lights.position, lights.power)
    return lights.ambient, lights.direction, lights.intensity, lights.specular, sh, position, power  # type: ignore[return-value]


def _bands(height: int, samples_per_row: int, batch: int) -> list[tuple[int, int]]:
    """Rows (top, end) of the bands of one picture: small enough for the cache, and enough to keep all threads busy."""
    count = -(-height * samples_per_row // BAND_SAMPLES)
    if batch < threads():
        count = max(count, threads())
    edges = np.linspace(0, height, min(max(count, 1), height) + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


@cache
def _table() -> np.ndarray:
    return color.encode_table()


def _require_finite(bad: list[int]) -> None:
    wrong = [(b, v) for b, v in enumerate(bad) if v >= 0]
    if wrong:
        b, v = wrong[0]
        raise RenderError(
            f"vertices must be finite: mesh {b}, vertex {v} is not ({len(wrong)} of {len(bad)} meshes of the batch are "
            "affected); check the coefficients that made them"
        )
