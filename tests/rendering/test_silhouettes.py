"""The kernels of the analytic antialiasing against their torch reference, and that threads and batches change no bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from morphsym.rendering import default_lights, differentiable, portrait_camera, rasterize, silhouettes
from morphsym.types import Cameras, Fragments

from .scenes import ellipsoid

Parts = tuple[Tensor, Fragments, Tensor, Tensor, Tensor]


def soup(seed: int, extent: float, spread: float, near: bool = False) -> tuple[Tensor, Tensor, Cameras]:
    """Triangles that share edges in strips of four, partly off-screen; ``near``: some reach behind the camera."""
    rng = np.random.default_rng(seed)
    start = rng.normal(0, spread, (30, 1, 3))
    points = start + np.cumsum(rng.normal(0, extent, (30, 6, 3)), 1)
    faces = [(6 * s + k, 6 * s + k + 1 + k % 2, 6 * s + k + 2 - k % 2) for s in range(30) for k in range(4)]
    camera = portrait_camera((61, 80), distance=5 if near else 60, fov=35, yaw=rng.uniform(-30, 30), roll=10)
    return torch.tensor(points.reshape(1, -1, 3)), torch.tensor(faces), camera


def head() -> tuple[Tensor, Tensor, Cameras]:
    vertices, faces = ellipsoid(24, 48)
    return vertices[None].double(), faces, portrait_camera((61, 80), yaw=20, roll=20, fov=17)


SCENES = {"small": (1, 2.0, 6.0), "large": (2, 9.0, 9.0), "near": (3, 3.0, 6.0, True), "head": None}


def parts(name: str, dtype: torch.dtype = torch.float64) -> Parts:
    arguments = SCENES[name]
    vertices, faces, camera = head() if arguments is None else soup(*arguments)
    fragments = rasterize(vertices, faces, camera)
    colors = torch.rand(1, 61, 80, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    points = differentiable.image_points(camera, vertices)
    return colors.to(dtype), fragments, points.to(dtype), faces, silhouettes.neighbours(faces)


def blended(how: object, given: Parts) -> tuple[Tensor, Tensor, Tensor]:
    """The picture, and the gradients of a random loss to colours and points."""
    colors, points = given[0].clone().requires_grad_(), given[2].clone().requires_grad_()
    out = how(colors, given[1], points, *given[3:])  # type: ignore[operator]
    some = torch.randn(out.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64).to(out)
    return out.detach(), *torch.autograd.grad((out * some).sum(), (colors, points))


@pytest.mark.parametrize("name", SCENES)
def test_kernels_and_torch_find_the_same_edges_and_gradients(name: str) -> None:
    given = parts(name)
    ours, theirs = blended(silhouettes.antialias, given), blended(silhouettes.antialias_anywhere, given)
    assert int(((theirs[0] - given[0]).abs().sum(-1) > 0).sum()) > 100  # pixels that were blended
    assert float(theirs[2].abs().max()) > 0
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-12)
    for got, expected in zip(ours[1:], theirs[1:]):
        assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize("name", SCENES)
def test_float32_is_as_good_as_its_points(name: str) -> None:
    """Against torch in float64 on the same float32 points: values to 1e-5, gradients to 1e-4 of the largest."""
    single = parts(name, torch.float32)
    double = (single[0].double(), single[1], single[2].double(), *single[3:])
    ours, theirs = blended(silhouettes.antialias, single), blended(silhouettes.antialias_anywhere, double)
    assert ours[0].dtype == ours[2].dtype == torch.float32
    assert (ours[0] - theirs[0]).abs().max() <= 1e-5
    for got, expected in zip(ours[1:], theirs[1:]):
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_gradcheck() -> None:
    vertices = torch.tensor([[[-8, -6, 0], [7, -7, 1], [0, 9, 2], [-3, -2, 6], [9, 1, 5], [2, 7, 4]]]).double() * 0.93
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    camera = portrait_camera((7, 8), distance=40, fov=32, yaw=10, roll=3)
    fragments, across = rasterize(vertices, faces, camera), silhouettes.neighbours(faces)
    colors = torch.rand(1, 7, 8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    points = differentiable.image_points(camera, vertices).requires_grad_()

    def picture(colors: Tensor, points: Tensor) -> Tensor:
        return silhouettes.antialias(colors, fragments, points, faces, across)

    assert (picture(colors, points) != colors).sum() > 8
    assert gradcheck(picture, (colors, points), eps=1e-7)


def test_threads_and_batches_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = ellipsoid(24, 48)
    batch = vertices * torch.tensor([1.0, 0.9, 1.05])[:, None, None]
    albedo = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(1))

    def all_of_it(rows: list[int], threads: int) -> tuple[Tensor, Tensor]:
        monkeypatch.setenv("MORPHSYM_THREADS", str(threads))
        v, camera = batch[rows].clone().requires_grad_(), portrait_camera(96, yaw=[[-30.0, 5.0, 40.0][r] for r in rows])
        images = differentiable.render(v, faces, albedo, camera, default_lights())
        return images.detach(), torch.autograd.grad(images.square().sum(), v)[0]

    images, gradients = all_of_it([0, 1, 2], 1)
    for threads in (2, 3, 5):  # 5: more threads than pictures, so that each is cut into bands
        for got, expected in zip(all_of_it([0, 1, 2], threads), (images, gradients)):
            assert torch.equal(got, expected)
    # One picture alone: the light's matrix products are torch's, whose last bits hang on the batch; the edges do not
    points, across = differentiable.image_points(portrait_camera(96, yaw=20), batch), silhouettes.neighbours(faces)
    fragments = rasterize(batch, faces, portrait_camera(96, yaw=20))
    whole = blended(silhouettes.antialias, (images.permute(0, 2, 3, 1), fragments, points, faces, across))
    for b in range(3):
        one = Fragments(*(x[b : b + 1] for x in (fragments.triangle, fragments.barycentric, fragments.depth)))
        given = (images.permute(0, 2, 3, 1)[b : b + 1], one, points[b : b + 1], faces, across)
        assert torch.equal(blended(silhouettes.antialias, given)[0], whole[0][b : b + 1])


def test_only_the_gradients_that_are_asked_for() -> None:
    colors, fragments, points, faces, across = parts("head")
    white, moved = torch.ones_like(colors).requires_grad_(), points.clone().requires_grad_()
    out = silhouettes.antialias(white, fragments, points, faces, across)
    assert torch.equal(out.detach(), white.detach())  # light is moved between pixels, not made
    (gradient,) = torch.autograd.grad(out.sum(), white)
    assert float(gradient.sum()) == pytest.approx(gradient.numel())
    out = silhouettes.antialias(colors, fragments, moved, faces, across)
    assert torch.autograd.grad(out.square().sum(), moved)[0].abs().max() > 0


def test_nothing_to_draw() -> None:
    vertices, faces = ellipsoid()
    for f, v in ((faces[:0], vertices), (faces, vertices + 500)):
        x = v[None].clone().requires_grad_()
        images = differentiable.render(x, f, torch.full((len(v), 3), 0.5), portrait_camera(16), default_lights())
        assert float(images.detach().std()) == 0
        assert float(torch.autograd.grad(images.sum(), x)[0].abs().max()) == 0
