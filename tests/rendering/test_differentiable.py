"""Gradients: float64 gradcheck on small scenes, finite differences on a face, and the look of the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from morphsym.rendering import cameras as cams
from morphsym.rendering import color, default_lights, differentiable, portrait_camera, rasterize, render, shading
from morphsym.types import Cameras, Lights

from .scenes import ellipsoid, ict


def scene() -> tuple[Tensor, Tensor, Cameras]:
    """Three triangles that overlap each other and the border of 9 × 8 pixels, in float64."""
    corners = [[-8, -6, 0], [7, -7, 1], [0, 9, 2], [-3, -2, 6], [9, 1, 5], [2, 7, 4], [-20, 3, -3], [-2, 12, -3]]
    vertices = torch.tensor([corners], dtype=torch.float64) * 0.93 + 0.137
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 0, 7]])
    return vertices, faces, portrait_camera((8, 9), distance=40, fov=30, yaw=10, pitch=5, roll=3)


def double(cameras: Cameras) -> Cameras:
    K, R, t = cameras.K.double(), cameras.R.double(), cameras.t.double()
    return Cameras(K, R, t, cameras.height, cameras.width)


def test_weights_agree_with_the_rasteriser() -> None:
    vertices, faces = ellipsoid()
    camera = portrait_camera(65, yaw=25)
    fragments = rasterize(vertices[None], faces, camera)
    weights, depth = differentiable.weights_at_pixels(vertices[None].double(), faces, camera, fragments.triangle)
    torch.testing.assert_close(weights.float(), fragments.barycentric, atol=1e-5, rtol=0)
    torch.testing.assert_close(depth.float(), fragments.depth, rtol=1e-6, atol=0)


def test_interpolation_gradcheck_and_reference() -> None:
    vertices, faces, camera = scene()
    fragments = rasterize(vertices, faces, camera)
    assert len(fragments.triangle.unique()) == 4  # all three and the background
    values = torch.randn(1, vertices.shape[1], 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = differentiable.image_points(camera, vertices).requires_grad_()
    values.requires_grad_()

    def fast(points: Tensor, values: Tensor) -> Tensor:
        return differentiable.Interpolate.apply(points, values, faces, fragments.triangle)

    assert gradcheck(fast, (points, values))
    weights, _ = differentiable.weights_at_pixels(vertices, faces, camera, fragments.triangle)
    index = faces[fragments.triangle.clamp(min=0).long()]
    torch.testing.assert_close(fast(points, values), (values[0][index] * weights[..., None]).sum(-2))
    # what other devices run
    anywhere = differentiable.interpolate_anywhere(points, values, faces, fragments.triangle)
    torch.testing.assert_close(anywhere, fast(points, values))
    some = torch.randn(anywhere.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for got, expected in zip(
        *(torch.autograd.grad((x * some).sum(), (points, values)) for x in (anywhere, fast(points, values)))
    ):
        torch.testing.assert_close(got, expected)


def test_each_pixel_gets_the_side_that_it_sees() -> None:
    """Front and back of an open mesh: the kernel, what other devices run, and the two halves picked by hand."""
    vertices, faces = ellipsoid(12, 16)
    camera = portrait_camera(48, yaw=30, fov=15)
    faces = faces[torch.arange(len(faces)) % 3 > 0]  # full of holes, through which one sees its inside
    triangle = rasterize(vertices[None], faces, camera).triangle
    values = torch.rand(1, len(vertices), 6, generator=torch.Generator().manual_seed(3)).double()
    points = differentiable.image_points(camera, vertices[None].double())
    front = shading.faces_front(vertices[None].double(), faces, camera)[0][triangle.clamp(min=0).long()]
    covered = triangle >= 0
    assert 20 < int((front & covered).sum()) < int(covered.sum()) - 20
    both = differentiable.Interpolate.apply(points, values, faces, triangle)
    expected = torch.where(front[..., None], both[..., :3], both[..., 3:])
    inputs = points.requires_grad_(), values.requires_grad_()
    ours = differentiable.interpolate_sides(*inputs, faces, triangle)
    torch.testing.assert_close(ours, expected)
    theirs = differentiable.interpolate_sides_anywhere(*inputs, faces, triangle)
    torch.testing.assert_close(theirs, expected)
    for got, other in zip(*(torch.autograd.grad(x.square().sum(), inputs) for x in (ours, theirs))):
        torch.testing.assert_close(got, other)


def test_whole_pictures_gradcheck() -> None:
    """To vertices, colours, camera, light and background at once, silhouettes and shading included."""
    vertices, faces, camera = scene()
    camera = double(camera)
    albedo = (
        torch.rand(1, vertices.shape[1], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    )
    lamp = default_lights()
    background = torch.tensor([[0.2, 0.5, 0.8]], dtype=torch.float64)
    parts = (vertices, albedo, camera.K, camera.R, camera.t, lamp.ambient.double(), lamp.intensity.double(), background)
    inputs = tuple(x.clone().requires_grad_() for x in parts)

    def picture(*x: Tensor) -> Tensor:
        view = Cameras(x[2], x[3], x[4], 8, 9)
        light = Lights(x[5], lamp.direction.double(), x[6], lamp.specular.double())
        return differentiable.render(x[0], faces, x[1], view, light, x[7])

    assert gradcheck(picture, inputs, eps=1e-7, atol=1e-5, rtol=1e-3)
    gradients = torch.autograd.grad(picture(*inputs).square().sum(), inputs)
    assert all(bool(g.abs().max() > 1e-6) for g in gradients)


def test_moving_an_outline_changes_the_share_of_its_pixels() -> None:
    """A white square on black: d(sum of linear light) / d(shift of one side) is that side's length in pixels."""
    height = width = 24
    vertices = torch.tensor([[[5.3, -4.2, 0], [17.6, -4.2, 0], [17.6, -19.7, 0], [5.3, -19.7, 0]]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    K = torch.tensor([[[64.0, 0, 0], [0, 64, 0], [0, 0, 1]]])
    camera = Cameras(K, cams.frontal().float()[None], torch.tensor([[0.0, 0.0, 64.0]]), height, width)
    fragments = rasterize(vertices, faces, camera)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = vertices + shift * torch.tensor([[[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]])
    white = (fragments.triangle >= 0).double()[..., None]
    points = differentiable.image_points(camera, moved)
    blended = differentiable.antialias(white, fragments, points, faces, differentiable.neighbours(faces))
    (slope,) = torch.autograd.grad(blended.sum(), shift)
    assert slope.item() == pytest.approx(15.5, abs=0.5001)  # whole rows: 15 or 16
    assert blended.sum().item() == pytest.approx(12.3 * 15.5, rel=0.01)  # the area itself
    assert white.sum().item() != pytest.approx(12.3 * 15.5, rel=0.01)


def test_neighbours_by_hand() -> None:
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 5, 6]])
    assert differentiable.neighbours(faces).tolist() == [[1, -1, -1], [-1, 0, -1], [-1, -1, -1]]
    fan = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]])  # three triangles at one edge
    assert differentiable.neighbours(fan)[:, 2].tolist() == [-1, -1, -1]


def _coarser(images: Tensor, times: int) -> Tensor:
    """Pixels averaged as light, as a camera does."""
    return color.linear_to_srgb(torch.nn.functional.avg_pool2d(color.srgb_to_linear(images), times))


def _smooth_loss(size: int, batch: int = 1) -> Tensor:
    """Smooth random weights (B, 3, H, W): a loss that sees everything and has no steps of its own."""
    rough = torch.randn(batch, 3, 6, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return torch.nn.functional.interpolate(rough, size=(size, size), mode="bicubic")


def _directions(mean: Tensor) -> dict[str, Tensor]:
    """Movements (V, 3) of about a centimetre."""
    turn = torch.stack([mean[:, 2], torch.zeros(len(mean)), -mean[:, 0]], 1)
    return {"left": torch.tensor([1.0, 0, 0]).expand_as(mean), "up": torch.tensor([0, 1.0, 0]).expand_as(mean),
            "grow": mean * 0.1, "turn": turn * 0.1}  # fmt: skip


@pytest.mark.shared
def test_finite_differences_on_a_face(shared_data: Path) -> None:
    """The slope of a loss along movements of a real face, silhouettes and all: differences of the same function."""
    data, mean, faces = ict(shared_data)
    skin = faces[torch.from_numpy(data["face_material"] == 4)]
    names = list(data["expression_names"])
    albedo, camera = torch.full((1, len(mean), 3), 0.6), portrait_camera(128, yaw=15, fov=20)
    weights, across = _smooth_loss(128), differentiable.neighbours(skin)

    def loss(vertices: Tensor) -> Tensor:
        images = differentiable.render(
            vertices[None], skin, albedo, camera, default_lights(), (0.1, 0.1, 0.1), across=across
        )
        return (images * weights).sum()

    start = mean.double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(start), start)
    directions = _directions(mean)
    for name in ("jawOpen", "mouthSmile_L"):
        directions[name] = torch.from_numpy(data["expression"][names.index(name)].astype(np.float32))
    step = 1e-6
    with torch.no_grad():
        for name, d in directions.items():
            difference = float(loss(start + step * d) - loss(start - step * d)) / (2 * step)
            assert float((gradient * d).sum()) == pytest.approx(difference, rel=1e-3), name


def test_slopes_of_finely_sampled_pictures() -> None:
    """Against the forward renderer at 144 samples a pixel, which knows nothing of edges; averaged over subpixel shifts.

    Analytic antialiasing is an approximation where an outline bends within a pixel: 10 % of the largest slope.
    """
    vertices, faces = ellipsoid(24, 48)
    albedo, size = torch.full((len(vertices), 3), 0.6), 96
    base, weights, across = portrait_camera(size, yaw=15, fov=16), _smooth_loss(size), differentiable.neighbours(faces)
    rng = np.random.default_rng(0)
    directions = _directions(vertices)
    slopes, differences = np.zeros(4), np.zeros(4)
    for _ in range(12):
        K = base.K.clone()
        K[0, :2, 2] += torch.from_numpy(rng.uniform(-0.5, 0.5, 2)).float()
        camera = Cameras(K, base.R, base.t, size, size)
        fine = cams.resized(camera, 3 * size, 3 * size)
        start = vertices.double().requires_grad_()
        images = differentiable.render(
            start[None], faces, albedo[None], camera, default_lights(), (0.1, 0.1, 0.1), across=across
        )
        (gradient,) = torch.autograd.grad((color.srgb_to_linear(images) * weights).sum(), start)
        for n, d in enumerate(directions.values()):
            slopes[n] += float((gradient * d).sum())
            pair = [render((vertices + s * d)[None], faces, albedo, fine, default_lights(), (0.1, 0.1, 0.1), samples=16)[0]
                    for s in (0.05, -0.05)]  # fmt: skip
            plus, minus = (color.srgb_to_linear(_coarser(x.double(), 3)) for x in pair)
            differences[n] += float(((plus - minus) * weights).sum()) / 0.1
    assert np.abs(slopes - differences).max() < 0.1 * np.abs(differences).max(), (slopes, differences)


def test_edges_are_as_smooth_as_with_many_samples() -> None:
    """White on black: the value of a pixel is the covered share of it."""
    vertices, faces = ellipsoid(24, 48)
    camera = portrait_camera(64, yaw=20, roll=20)

    def covered(camera: Cameras) -> Tensor:
        return (rasterize(vertices[None], faces, camera).triangle >= 0).float()[..., None]

    truth = torch.nn.functional.avg_pool2d(covered(cams.resized(camera, 1024, 1024)).permute(0, 3, 1, 2), 16)
    jagged, points = covered(camera), differentiable.image_points(camera, vertices[None])
    fragments = rasterize(vertices[None], faces, camera)
    smooth = differentiable.antialias(jagged, fragments, points, faces, differentiable.neighbours(faces))
    error, rough = ((x.permute(0, 3, 1, 2) - truth).abs().sum() for x in (smooth, jagged))
    assert error < 0.15 * rough
