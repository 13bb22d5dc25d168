"""The ``pytorch3d`` backend: PyTorch3D's rasteriser on CPU or CUDA, imported on use.

PyTorch3D (https://pytorch3d.org) has no build on PyPI for current Python; see :data:`PYTORCH3D_HELP`. What it does
differently, and how that is made safe:

- its bins overflow silently on CUDA and then lose faces: ``max_faces_per_bin`` is the number of faces, so they cannot;
- a face with a vertex behind the camera is dropped unless ``z_clip_value`` is set: it is, at ``cameras.NEAR``;
- its inside test is strict, so a centre exactly on a shared edge sees neither face, and a symmetric frontal face loses
  its midline at odd widths: the picture is nudged by 1/1024 pixel for the test of what is seen, and barycentrics and
  depth are then computed where the pixel centres really are;
- it takes float32 only, and drops faces whose doubled area is at most 1e-8 in NDC;
- whatever else is lost is found by :func:`..checks.require_all_faces`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import MissingDependencyError, RenderError
from ...types import Cameras, Fragments
from .. import cameras as cams
from .. import checks, differentiable
from . import PYTORCH3D_HELP

NUDGE = 1 / 1024  # pixels


def _modules() -> Any:
    try:
        import pytorch3d.renderer as renderer
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise MissingDependencyError(f"{PYTORCH3D_HELP} ({error})") from error
    return renderer, Meshes


def rasterize(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Fragments:
    """Fragments of ``vertices`` (B, V, 3), ``faces`` (F, 3), ``cameras`` of 1 or B, on the device of ``vertices``."""
    renderer, Meshes = _modules()
    if not bool(torch.isfinite(vertices).all()):
        mesh = int((~torch.isfinite(vertices)).flatten(1).any(1).nonzero()[0])
        raise RenderError(f"vertices must be finite: mesh {mesh} is not; check the coefficients that made it")
    device, batch, count = vertices.device, len(vertices), len(faces)
    height, width = cameras.height, cameras.width
    if count == 0:
        shape = (batch, height, width)
        return Fragments(
            torch.full(shape, -1, dtype=torch.int32, device=device),
            torch.zeros(*shape, 3, device=device),
            torch.full(shape, torch.inf, device=device),
        )
    points, index = vertices.detach().float(), faces.to(device).long()
    K = cameras.K.clone()
    K[:, :2, 2] += NUDGE
    given = cams.to_pytorch3d(cams.to(Cameras(K, cameras.R, cameras.t, height, width), device))
    views = renderer.PerspectiveCameras(
        focal_length=given.focal_length.expand(batch, 2),
        principal_point=given.principal_point.expand(batch, 2),
        R=given.R.expand(batch, 3, 3),
        T=given.T.expand(batch, 3),
        in_ndc=True,
        image_size=torch.tensor([given.image_size], device=device).expand(batch, 2),
        device=device,
    )
    settings = renderer.RasterizationSettings(
        image_size=(height, width),
        blur_radius=0.0,
        faces_per_pixel=1,
        bin_size=None,
        max_faces_per_bin=count,
        perspective_correct=True,
        clip_barycentric_coords=False,
        cull_backfaces=False,
        z_clip_value=cams.NEAR,
        cull_to_frustum=False,
    )
    meshes = Meshes(verts=points, faces=index.expand(batch, -1, -1))
    packed = renderer.MeshRasterizer(cameras=views, raster_settings=settings)(meshes).pix_to_face[..., 0]
    first = torch.arange(batch, device=device)[:, None, None] * count  # faces are numbered through the batch
    triangle = torch.where(packed >= 0, packed - first, -1).int()
    barycentric, depth = differentiable.weights_at_pixels(vertices.detach().double(), index, cameras, triangle)
    fragments = Fragments(triangle, barycentric.float(), depth.float())
    checks.require_all_faces(fragments, points, index, cameras, "pytorch3d")
    return fragments
