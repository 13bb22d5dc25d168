"""Does a backend work on this machine? A tiny picture is compared with the reference's."""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import Fragments
from . import backends
from .cameras import portrait_camera
from .render import rasterize


def problem(name: str, device: torch.device | str = "cpu") -> str:
    """'' where the backend called ``name`` draws what the reference draws, else what is wrong, in one line.

    Two meshes of 24 triangles, of which some cross each other, some lie behind the camera and some are seen edge on, at
    33 × 40 pixels. ``device`` is where the vertices lie.
    """
    if reason := backends.available()[name]:
        return reason
    vertices, faces = _scene()
    camera = portrait_camera((33, 40), distance=30, yaw=[20.0, -35.0], fov=40)
    expected = rasterize(vertices, faces, camera, "torch")
    try:
        got = rasterize(vertices.to(device), faces.to(device), camera, name)
        return differs(_on_cpu(got), expected)
    except Exception as error:  # whatever a broken installation raises is the finding
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def differs(got: Fragments, expected: Fragments) -> str:
    """'' where ``got`` agrees with ``expected`` up to ties, else how it does not."""
    covered = (expected.triangle >= 0) | (got.triangle >= 0)
    same = covered & (got.triangle == expected.triangle)
    others = int(covered.sum() - same.sum())
    if others > 0.001 * int(covered.sum()):
        return f"{others} of {int(covered.sum())} pixels show another triangle than the reference's"
    error = float((got.barycentric - expected.barycentric)[same].abs().max())
    if not error <= 1e-4:
        return f"barycentrics differ from the reference's by {error:.2g}"
    error = float(((got.depth - expected.depth) / expected.depth)[same].abs().max())
    return "" if error <= 1e-5 else f"depth differs from the reference's by {error:.2g} of itself"


def _scene() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(7)
    centre = 5 * torch.randn(2, 24, 1, 3, generator=rng)
    centre[:, -3:, :, 2] += 25  # about the camera
    vertices = (centre + 4 * torch.randn(2, 24, 3, 3, generator=rng)).reshape(2, 72, 3)
    return vertices, torch.arange(72).reshape(24, 3)


def _on_cpu(f: Fragments) -> Fragments:
    return Fragments(f.triangle.cpu(), f.barycentric.cpu(), f.depth.cpu())
