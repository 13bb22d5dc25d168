"""Textures: against vertex colours, by hand, mip levels, seams, gradients, backends, bad input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from morphsym.errors import RenderError
from morphsym.faces import load_model
from morphsym.rendering import color, default_lights, differentiable, portrait_camera, render, sample_lights, textures
from morphsym.rendering import lights as lamps
from morphsym.rendering.textures import Pyramid, Texture
from morphsym.types import Cameras, Lights

from .scenes import ellipsoid, pixel_camera

QUAD_UV = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # of the square's corners, v upwards
QUAD = torch.tensor([[0, 2, 1], [0, 3, 2]])


def square(size: float = 12.0, front: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """A square over the pixels 2 … 2 + size of :func:`pixel_camera`."""
    a, b = 2.0, 2.0 + size
    vertices = torch.tensor([[[a, -a, 0], [b, -a, 0], [b, -b, 0], [a, -b, 0]]])
    return vertices, QUAD if front else QUAD.flip(1)


def flat() -> Lights:
    """Ambient light of 1: a picture is its albedo."""
    plain = default_lights()
    return Lights(torch.ones(1, 3), plain.direction, torch.zeros(1, 3), torch.zeros(1))


def draw(texture: Texture, size: int = 16, backend: str = "numba", extent: float = 12.0, samples: int = 1):
    vertices, faces = square(extent)
    black = torch.zeros(4, 3)
    return render(
        vertices, faces, black, pixel_camera(size, size), flat(), (0, 0, 0), backend, samples, texture
    )[0][0].permute(1, 2, 0)  # fmt: skip


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("samples", [1, 4])
def test_a_constant_texture_is_a_constant_albedo(backend: str, samples: int) -> None:
    vertices, faces = ellipsoid()
    camera = portrait_camera((40, 52), yaw=[20, -50], fov=15)
    lights = lamps.join(
        [sample_lights(np.random.default_rng(0), 1), lamps.sample_point_lights(np.random.default_rng(1), 1)]
    )
    colour = torch.tensor([0.8, 0.5, 0.3])
    texture = Texture(colour.expand(37, 64, 3), vertices[:, :2] / 20 + 0.5, faces)
    back = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    arguments = (camera, lights, back, backend, samples)
    albedo = colour.expand(len(vertices), 3)
    expected, cover = render(vertices.expand(2, -1, -1), faces, albedo, *arguments)
    found, share = render(vertices.expand(2, -1, -1), faces, torch.zeros_like(albedo), *arguments, texture)
    assert (found - expected).abs().max() < 1 / 255
    torch.testing.assert_close(share, cover)


def test_texels_land_where_they_belong() -> None:
    """Twelve texels over twelve pixels: the picture is the texture, not mirrored, row 0 above; linear light in between."""
    image = torch.rand(12, 12, 3, generator=torch.Generator().manual_seed(0))
    found = draw(Texture(image, QUAD_UV, QUAD))
    torch.testing.assert_close(found[2:14, 2:14], image, atol=1e-3, rtol=0)
    assert (found[0] == 0).all()
    # shifted by half a texel, a pixel is the mean of its neighbours in linear light
    half = Texture(image, QUAD_UV + torch.tensor([0.5 / 12, 0.0]), QUAD)
    linear = color.srgb_to_linear(image)
    expected = color.linear_to_srgb((linear + linear.roll(-1, 1)) / 2)  # the last column wraps around
    torch.testing.assert_close(draw(half)[2:14, 2:14], expected, atol=1e-3, rtol=0)
    tile = Texture(image, QUAD_UV + torch.tensor([3.0, 5.0]), QUAD)  # UDIM tiles drop out
    torch.testing.assert_close(draw(tile)[2:14, 2:14], image, atol=1e-3, rtol=0)


def test_mip_levels() -> None:
    """A texture of 2**k texels a pixel is seen at level k; stripes finer than a pixel are grey in linear light."""
    pyramid = Pyramid(torch.rand(64, 64, 3))
    assert pyramid.top == 6
    assert pyramid.height.tolist() == [64, 32, 16, 8, 4, 2, 1]
    for k in range(7):
        step = torch.tensor([[2.0**k / 64, 0.0]])
        assert pyramid.level(step, step.flip(1) / 4).item() == pytest.approx(k, abs=1e-6)  # the longer side counts
    assert pyramid.level(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0
    assert pyramid.level(torch.full((1, 2), 9.0), torch.zeros(1, 2)).item() == 6
    linear = color.srgb_to_linear(torch.rand(8, 8, 3, dtype=torch.float64))
    small = Pyramid(color.linear_to_srgb(linear))
    torch.testing.assert_close(small.texels[-1], linear.mean((0, 1)))  # each level is the mean of the last
    stripes = torch.zeros(96, 96, 3)
    stripes[:, ::2] = 1.0
    seen = draw(Texture(stripes, QUAD_UV, QUAD))[3:13, 3:13]  # eight texels a pixel
    torch.testing.assert_close(seen, color.linear_to_srgb(torch.full_like(seen, 0.5)), atol=0.004, rtol=0)
    odd = Pyramid(torch.rand(7, 12, 3))
    assert list(zip(odd.height.tolist(), odd.width.tolist())) == [(7, 12), (3, 6), (1, 3), (1, 1)]


def test_derivatives_are_those_of_the_coordinates() -> None:
    """The analytic footprint against differences of the coordinates in a tilted triangle in perspective."""
    corners = torch.tensor([[[-3.0, -2, 1], [30, 4, 2], [8, 50, 2.5]]], dtype=torch.float64)
    corners = torch.cat([corners[..., :2] * corners[..., 2:], corners[..., 2:]], -1)
    x, y = torch.tensor([9.0], dtype=torch.float64), torch.tensor([11.0], dtype=torch.float64)
    weights, across, down = textures._weights(corners, x, y)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, dtype=torch.float64))
    h = 1e-5
    by_x = (textures._weights(corners, x + h, y)[0] - textures._weights(corners, x - h, y)[0]) / (2 * h)
    by_y = (textures._weights(corners, x, y + h)[0] - textures._weights(corners, x, y - h)[0]) / (2 * h)
    torch.testing.assert_close(across, by_x, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(down, by_y, atol=1e-9, rtol=1e-6)


def test_only_masked_triangles_show_it_and_the_back_is_dark() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).expand(4, 4, 3)
    half = Texture(red, QUAD_UV, QUAD, torch.tensor([True, False]))
    vertices, faces = square()
    green = torch.tensor([0.0, 1.0, 0.0]).expand(4, 3)
    arguments = (pixel_camera(16, 16), flat(), (0, 0, 0), "numba", 1)
    seen = render(vertices, faces, green, *arguments, half)[0][0]
    assert seen[0, 4, 11] == pytest.approx(1.0)
    assert seen[1, 11, 4] == pytest.approx(1.0)
    assert seen[:2].sum(0).max() == pytest.approx(1.0)
    flipped = dataclasses.replace(half, faces_uv=QUAD.flip(1), mask=None)
    behind = render(*square(front=False), green, *arguments, flipped)[0][0]
    assert behind[0, 8, 8] == pytest.approx(color.linear_to_srgb(torch.tensor(0.5)).item(), abs=1e-3)


def test_gradients_in_float64() -> None:
    generator = torch.Generator().manual_seed(3)
    vertices = torch.tensor([[[0.5, -0.7, 0], [7.2, -1, 1], [7.4, -7.1, 0], [0.8, -7.3, -1]]], dtype=torch.float64)
    image = 0.2 + 0.6 * torch.rand(9, 6, 3, dtype=torch.float64, generator=generator)
    camera = pixel_camera(8, 8)
    camera = Cameras(camera.K.double(), camera.R.double(), camera.t.double(), 8, 8)
    lights = default_lights()
    uv = (QUAD_UV.double() * 0.9 + 0.03).requires_grad_()

    def picture(vertices: torch.Tensor, image: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        texture = Texture(image, uv, QUAD)
        return differentiable.render(vertices, QUAD, torch.zeros(4, 3).double(), camera, lights, texture=texture)

    inputs = (vertices.requires_grad_(), image.requires_grad_(), uv)
    assert torch.autograd.gradcheck(picture, inputs, atol=1e-5, rtol=1e-3, fast_mode=True)
    (gradient,) = torch.autograd.grad(picture(*inputs).sum(), image)
    assert (gradient > 0).all(), "every texel is seen"


@pytest.mark.parametrize("name", ["makehuman", "ict"])
def test_the_models_wear_textures(name: str, shared_data) -> None:
    path = name if name == "makehuman" else str(shared_data / "face_models" / "ict_facekit.npz")
    model = load_model(path)
    vertices, faces = model.mean[None].float(), torch.as_tensor(model.faces)
    albedo = torch.as_tensor(np.asarray(model.albedo))
    blue = np.zeros((32, 32, 3), np.uint8) + np.array([20, 40, 250], np.uint8)
    texture = textures.for_model(model, blue)
    plain, _ = render(vertices, faces, albedo, portrait_camera(96), default_lights())
    found, _ = render(vertices, faces, albedo, portrait_camera(96), default_lights(), texture=texture)
    marks = model.landmarks(vertices)
    from morphsym.rendering import project

    u, v = np.floor(project(portrait_camera(96), marks)[0][0, 30].numpy()).astype(int)
    assert found[0, 2, v, u] > 0.8 > found[0, 0, v, u] + 0.5
    eye = project(portrait_camera(96), marks)[0][0, 36:42].mean(0).floor().long()
    torch.testing.assert_close(found[0, :, eye[1], eye[0]], plain[0, :, eye[1], eye[0]], atol=0.02, rtol=0)
    with pytest.raises(RenderError, match="has no part 'ears'; it has "):
        textures.for_model(model, blue, parts=["ears"])
    with pytest.raises(RenderError, match="has no texture coordinates"):
        textures.for_model(dataclasses.replace(model, uv=None, faces_uv=None), blue)


def test_bad_textures_say_what_is_wrong() -> None:
    good = Texture(torch.rand(8, 8, 3), QUAD_UV, QUAD)

    def fails(message: str, **change: object) -> None:
        with pytest.raises(RenderError, match=message):
            draw(dataclasses.replace(good, **change))

    fails(r"floats of shape \(H, W, 3\) or \(B, H, W, 3\), got torch.float32 \(8, 8, 4\)", image=torch.rand(8, 8, 4))
    fails(r"got torch.uint8", image=torch.zeros(8, 8, 3, dtype=torch.uint8))
    fails(r"got torch.float32 \(0, 8, 3\)", image=torch.rand(0, 8, 3))
    fails("8192 pixels large at most, got 9000×1", image=torch.rand(1, 9000, 3))
    fails("expected 1 or 1 textures, one a mesh, got 2", image=torch.rand(2, 8, 8, 3))
    fails(r"must be sRGB in \[0, 1\], got 0 to 255", image=torch.linspace(0, 255, 192).reshape(8, 8, 3))
    fails("holds a value that is not finite", image=torch.full((8, 8, 3), float("nan")))
    fails(r"faces_uv must be integers of shape \(2, 3\), one row a triangle", faces_uv=QUAD[:1])
    fails("must index texture coordinates 0 to 3, got 0 to 6", faces_uv=QUAD * 2)
    fails(r"of shape \(T, 2\), got \(4, 3\)", uv=torch.rand(4, 3))
    fails(r"mask must be bool of shape \(2,\)", mask=torch.ones(3, dtype=torch.bool))


def test_one_texture_a_mesh_and_a_single_texel() -> None:
    vertices, faces = square()
    two = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, None, None].expand(2, 1, 1, 3)
    images, _ = render(
        vertices.expand(2, -1, -1), faces, torch.zeros(4, 3), pixel_camera(16, 16), flat(), samples=1,
        texture=Texture(two, QUAD_UV, QUAD),
    )  # fmt: skip
    torch.testing.assert_close(images[:, :, 8, 8], two[:, 0, 0])
