"""The fill rule in torch, which decides what PyTorch3D leaves open, against the kernels; and the count of bins."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from morphsym.rendering import cameras as cams
from morphsym.rendering import differentiable, portrait_camera, rasterize
from morphsym.rendering.backends import exact, pytorch3d
from tests.parity.test_rasterizers import Scene, behind, frontal, lattice, medium, near_plane, slivers

from .scenes import ellipsoid

SIZE = (33, 35)
SCENES = [medium, behind, near_plane, slivers, lattice, frontal]


def make(scene: object) -> Scene:
    torch.manual_seed(1)
    return scene(np.random.default_rng(5), SIZE)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("scene", SCENES, ids=lambda s: s.__name__)
def test_of_all_triangles_it_chooses_what_the_kernels_see(scene: object) -> None:
    vertices, faces, camera = make(scene)
    expected = rasterize(vertices, faces, camera, "numba").triangle
    screen = exact.project(vertices, camera)
    everything = torch.arange(len(faces)).expand(1, *SIZE, -1)
    found = exact.choose(screen, faces.long(), everything, torch.ones(1, *SIZE, dtype=torch.bool))
    assert (expected >= 0).sum() > 10
    assert torch.equal(found.reshape(1, *SIZE).int(), expected)


def test_a_full_list_of_wrong_candidates_is_not_believed() -> None:
    vertices, faces, camera = make(medium)
    expected = rasterize(vertices, faces, camera, "numba").triangle.long()
    unclear = expected == expected[expected >= 0].mode().values
    wrong = torch.where(unclear, (expected + 1) % len(faces), -1)[..., None].expand(-1, -1, -1, 2)
    found = exact.choose(exact.project(vertices, camera), faces.long(), wrong, unclear)
    assert torch.equal(found, expected[unclear])


@pytest.mark.parametrize("scene", [medium, slivers], ids=lambda s: s.__name__)
def test_triangles_that_were_left_out_are_drawn_in(scene: object) -> None:
    vertices, faces, camera = make(scene)
    which = torch.zeros(1, len(faces), dtype=torch.bool)
    which[:, ::4] = True
    kept = (~which[0]).nonzero().flatten()
    rest = rasterize(vertices, faces[kept], camera, "numba").triangle.long()
    rest = torch.where(rest >= 0, kept[rest.clamp(min=0)], -1)
    expected = rasterize(vertices, faces, camera, "numba").triangle.long()
    assert not torch.equal(rest, expected)
    assert torch.equal(exact.draw(exact.project(vertices, camera), faces.long(), which, rest), expected)


@pytest.mark.parametrize("size", [8, 16])
def test_no_bin_meets_more_triangles_than_counted(size: int) -> None:
    vertices, faces = ellipsoid()
    camera = portrait_camera((60, 90), yaw=[0.0, 40.0], fov=14)
    batch = vertices.expand(2, -1, -1)
    pixels, _ = cams.project(camera, batch)
    low, high = pixels[:, faces.long()].amin(2).numpy(), pixels[:, faces.long()].amax(2).numpy()
    most = 0
    for top in range(0, 60, size):
        for left in range(0, 90, size):
            meets = (
                (low[..., 0] < left + size) & (high[..., 0] > left) & (low[..., 1] < top + size) & (high[..., 1] > top)
            )
            most = max(most, int(meets.sum(1).max()))
    counted = pytorch3d.most_in_a_bin(exact.project(batch, camera), faces.long(), 60, 90, size)
    assert most <= counted <= 3 * most  # a pixel to spare on every side
    inside = exact.project(batch + torch.tensor([0.0, 0.0, 70.0]), camera)
    hidden = inside[:, faces.long(), 3] == 0
    crossing = int((hidden.any(2) & ~hidden.all(2)).sum(1).max())
    assert 0 < crossing <= pytorch3d.most_in_a_bin(inside, faces.long(), 60, 90, size)


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is None, reason="PyTorch3D is not installed")
def test_interpolation_gradients_against_pytorch3ds_own() -> None:
    """An independent implementation: d(sum of weighted interpolated values) / d(vertices), float32."""
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    vertices, faces = ellipsoid()
    camera = portrait_camera(64, yaw=20.0, fov=20)
    given = cams.to_pytorch3d(camera)
    theirs = vertices.clone().requires_grad_()
    view = PerspectiveCameras(
        given.focal_length, given.principal_point, given.R, given.T, image_size=(given.image_size,)
    )
    found = MeshRasterizer(view, RasterizationSettings((64, 64), perspective_correct=True))(
        Meshes([theirs], [faces.long()])
    )
    seen = found.pix_to_face[..., 0]
    values = torch.randn(len(vertices), 2, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(1, 64, 64, 2, generator=torch.Generator().manual_seed(1)) * (seen >= 0)[..., None]
    picked = (values[faces.long()][seen.clamp(min=0)] * found.bary_coords[..., 0, :, None]).sum(-2)
    (expected,) = torch.autograd.grad((picked * weights).sum(), theirs)
    ours = vertices[None].clone().requires_grad_()
    points = differentiable.image_points(camera, ours)
    mine = differentiable.interpolate(points, values[None], faces, seen.int())
    torch.testing.assert_close(mine * (seen >= 0)[..., None], picked * (seen >= 0)[..., None], atol=1e-4, rtol=0)
    (gradient,) = torch.autograd.grad((mine * weights).sum(), ours)
    assert (gradient[0] - expected).abs().max() <= 1e-3 * expected.abs().max()
