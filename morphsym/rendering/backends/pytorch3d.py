"""The ``pytorch3d`` backend: PyTorch3D's rasteriser on CPU or CUDA, imported on use.

PyTorch3D (https://pytorch3d.org) has no build on PyPI for current Python; see :data:`PYTORCH3D_HELP`. What it does
differently, and how that is made to agree with the other backends:

- it works in float32 and its inside test is strict: a centre on a shared edge sees neither triangle (a symmetric frontal
  face loses its midline at odd widths), and one near an edge may see the wrong one. So it is asked for up to
  ``CANDIDATES`` triangles a pixel, those included that miss the centre by less than ``MARGIN``; where the nearest does
  not hold the centre clearly, or the next is about as near, :mod:`.exact` decides between them in float64, by the fill
  rule of all backends;
- its bins overflow silently on CUDA and then lose triangles: their size is counted beforehand (:func:`most_in_a_bin`);
- a triangle with a vertex behind the camera is dropped unless ``z_clip_value`` is set: it is, at ``cameras.NEAR``;
- triangles of at most 1e-8 of doubled area in NDC are dropped: :mod:`.exact` draws those that cover a centre;
- whatever else is lost is found by :func:`..checks.require_all_faces`.

Barycentrics and depth are computed in float64 at the pixels' centres.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...errors import MissingDependencyError, RenderError
from ...types import Cameras, Fragments
from .. import cameras as cams
from .. import checks, differentiable
from . import PYTORCH3D_HELP, exact

CANDIDATES = 8
MARGIN = 1 / 256  # pixels; float32 places vertices to about 1/4000 of a pixel at 1024²
FARTHEST = 0.5  # pixels, the largest margin
CLOSE = 1e-4  # of the depth: what float32 may confuse
DROPPED = 4e-8  # doubled area in NDC: four times what PyTorch3D drops, for its rounding


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
    cameras = cams.to(cameras, device)
    if count == 0:
        shape = (batch, height, width)
        return Fragments(
            torch.full(shape, -1, dtype=torch.int32, device=device),
            torch.zeros(*shape, 3, device=device),
            torch.full(shape, torch.inf, device=device),
        )
    points, index = vertices.detach().float(), faces.to(device).long()
    screen = exact.project(vertices.detach(), cameras)
    given = cams.to_pytorch3d(cameras)
    views = renderer.PerspectiveCameras(
        focal_length=given.focal_length.expand(batch, 2),
        principal_point=given.principal_point.expand(batch, 2),
        R=given.R.expand(batch, 3, 3),
        T=given.T.expand(batch, 3),
        in_ndc=True,
        image_size=torch.tensor([given.image_size], device=device).expand(batch, 2),
        device=device,
    )
    margin = _margin(screen, height, width) * 2 / min(height, width)  # NDC
    bins = 0 if device.type == "cpu" else bin_size(height, width)
    settings = renderer.RasterizationSettings(
        image_size=(height, width),
        blur_radius=margin**2,  # PyTorch3D compares squared distances
        faces_per_pixel=CANDIDATES,
        bin_size=bins,
        max_faces_per_bin=most_in_a_bin(screen, index, height, width, bins) if bins else None,
        perspective_correct=True,
        clip_barycentric_coords=False,
        cull_backfaces=False,
        z_clip_value=cams.NEAR,
        cull_to_frustum=False,
    )
    meshes = Meshes(verts=points, faces=index.expand(batch, -1, -1))
    found = renderer.MeshRasterizer(cameras=views, raster_settings=settings)(meshes)
    first = torch.arange(batch, device=device)[:, None, None, None] * count  # triangles are numbered through the batch
    candidates = torch.where(found.pix_to_face >= 0, found.pix_to_face - first, -1)
    # Squared distances to the triangle's edges, negative inside
    unclear = ~(found.dists[..., 0] < -(margin**2))
    unclear |= (candidates[..., 1] >= 0) & ~(found.zbuf[..., 1] > found.zbuf[..., 0] * (1 + CLOSE))
    unclear &= candidates[..., 0] >= 0
    triangle = candidates[..., 0].clone()
    triangle[unclear] = exact.choose(screen, index, candidates, unclear)
    small = exact.doubled_areas(screen, index) <= DROPPED * (min(height, width) / 2) ** 2
    triangle = exact.draw(screen, index, small, triangle)
    barycentric, depth = differentiable.weights_at_pixels(vertices.detach().double(), index, cameras, triangle)
    fragments = Fragments(triangle.int(), barycentric.float(), depth.float())
    checks.require_all_faces(fragments, points, index, cameras, "pytorch3d")
    return fragments


def _margin(screen: Tensor, height: int, width: int) -> float:
    """Pixels: ``MARGIN``, and more where vertices lie far outside the picture and float32 places edges less well."""
    half = torch.tensor([width / 2, height / 2]).to(screen)
    far = ((screen[..., :2] - half).abs() / half.amin()).amax(-1)
    if not bool((screen[..., 3] > 0).all()):
        return FARTHEST  # corners where the near plane cuts triangles lie farther out than any vertex
    return min(FARTHEST, MARGIN * max(1.0, float(far.max()) / 2))


def bin_size(height: int, width: int) -> int:
    """Pixels of a bin's side on CUDA: PyTorch3D's own choice, made here so that the triangles of a bin can be counted."""
    side = max(height, width)
    return 8 if side <= 64 else 2 ** max(math.ceil(math.log2(side)) - 4, 4)


def most_in_a_bin(screen: Tensor, faces: Tensor, height: int, width: int, size: int) -> int:
    """The most triangles whose bounds meet one bin of ``size`` pixels, with a pixel to spare on every side.

    ``screen`` (B, V, 4) from :func:`.exact.project`. Triangles that cross the near plane count everywhere.
    """
    rows, columns = -(-height // size), -(-width // size)
    corner = screen[:, faces]  # (B, F, 3, 4)
    seen, near = (corner[..., 3] > 0).any(2), (corner[..., 3] == 0).any(2)
    low, high = corner[..., :2].amin(2) - 1, corner[..., :2].amax(2) + 1
    low, high = torch.where(near[..., None], -1.0, low), torch.where(near[..., None], float(height + width), high)
    inside = seen & (high[..., 0] >= 0) & (high[..., 1] >= 0) & (low[..., 0] < width) & (low[..., 1] < height)
    limit = torch.tensor([columns, rows], device=screen.device)
    first = (low / size).floor().long().clamp(min=0).minimum(limit - 1)
    last = (high / size).floor().long().clamp(min=0).minimum(limit - 1)
    # Each triangle adds 1 at its bounds' first corner and takes it away behind them; sums give the counts.
    grid = torch.zeros(len(screen), rows + 1, columns + 1, dtype=torch.int64, device=screen.device).flatten(1)
    for y, x, sign in ((first[..., 1], first[..., 0], 1), (last[..., 1] + 1, first[..., 0], -1),
                       (first[..., 1], last[..., 0] + 1, -1), (last[..., 1] + 1, last[..., 0] + 1, 1)):  # fmt: skip
        grid.scatter_add_(1, y * (columns + 1) + x, sign * inside.long())
    counts = grid.reshape(-1, rows + 1, columns + 1).cumsum(1).cumsum(2)
    return max(1, int(counts.max()))
