"""Spherical harmonics and point lights: known integrals, limits, mirror images, backends that agree, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from morphsym.errors import RenderError
from morphsym.rendering import default_lights, differentiable, portrait_camera, render, sample_lights
from morphsym.rendering import lights as lamps
from morphsym.rendering.shading import light_parts, vertex_normals
from morphsym.types import Cameras, Lights

from .scenes import ellipsoid


def dark(n: int = 1, **more: torch.Tensor) -> Lights:
    plain = default_lights(n)
    return Lights(torch.zeros(n, 3), plain.direction, torch.zeros(n, 3), plain.specular, **more)


def picture(lights: Lights, backend: str = "numba", yaw: float = 0.0, samples: int = 4) -> torch.Tensor:
    vertices, faces = ellipsoid(24, 48)
    albedo = torch.full((len(vertices), 3), 0.7)
    camera = portrait_camera(64, yaw=[yaw] * len(lights), fov=15)
    return render(vertices.expand(len(lights), -1, -1), faces, albedo, camera, lights, (0, 0, 0), backend, samples)[0]


def sphere_points(n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions (n, 3) and weights of a product quadrature that is exact for low polynomials."""
    z, w = np.polynomial.legendre.leggauss(20)
    phi = (np.arange(40) + 0.5) / 40 * 2 * np.pi
    r = np.sqrt(1 - z**2)
    d = np.stack([r[:, None] * np.cos(phi), r[:, None] * np.sin(phi), np.broadcast_to(z[:, None], (20, 40))], -1)
    weight = np.broadcast_to(w[:, None] * 2 * np.pi / 40, (20, 40))
    return torch.from_numpy(d.reshape(-1, 3)), torch.from_numpy(weight.reshape(-1).copy())


def test_the_basis_is_orthonormal() -> None:
    d, w = sphere_points()
    y = lamps.basis(d)
    torch.testing.assert_close(y.T @ (y * w[:, None]), torch.eye(9, dtype=torch.float64), atol=1e-12, rtol=0)


def test_harmonics_against_scipy() -> None:
    """Complex harmonics of another library, combined into real ones."""
    special = pytest.importorskip("scipy.special")
    d, _ = sphere_points()
    theta, phi = torch.acos(d[:, 2]).numpy(), torch.atan2(d[:, 1], d[:, 0]).numpy()
    ours, k = lamps.basis(d).numpy(), 0
    for degree in range(3):
        for m in range(-degree, degree + 1):
            y = special.sph_harm_y(degree, abs(m), theta, phi) * (-1) ** m  # without the Condon-Shortley phase
            expected = y.real if m == 0 else math.sqrt(2) * (y.real if m > 0 else y.imag)
            np.testing.assert_allclose(ours[:, k], expected, atol=1e-12)
            k += 1


def test_reflected_light_against_the_integral() -> None:
    """Of an environment that is itself of order 2, E(n) is exact: compare with integrating radiance * cosine."""
    rng = np.random.default_rng(0)
    sh = torch.from_numpy(rng.normal(0, 0.1, (9, 3)))
    sh[0] = 3.0
    # A fine grid, because the clamped cosine is not a polynomial
    azimuth, elevation = lamps._grid(400, 800)
    d = lamps.light_direction(azimuth, elevation).double().reshape(-1, 3)
    area = torch.from_numpy(np.cos(np.radians(elevation)) * (np.pi / 400) ** 2).reshape(-1)
    radiance = lamps.basis(d) @ sh
    assert radiance.min() > 0
    normals = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(20, 3))), dim=-1)
    expected = (normals @ d.T).clamp(min=0) * area @ radiance / math.pi
    found = lamps.environment_light(normals[None], sh[None])[0]
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=0)


def test_an_environment_map_and_its_coefficients() -> None:
    sh = torch.from_numpy(np.random.default_rng(1).normal(size=(9, 3)))
    azimuth, elevation = lamps._grid(180, 360)
    image = lamps.basis(lamps.light_direction(azimuth, elevation).double()) @ sh
    torch.testing.assert_close(lamps.project_environment(image).double(), sh, atol=2e-4, rtol=0)
    one_sided = torch.zeros(20, 40, 3)
    one_sided[:, 30:] = 1.0  # light on the right of the picture
    right = picture(dark(sh=lamps.project_environment(one_sided)[None]))[0, 0]
    assert right[32, 48] > right[32, 16] + 0.1
    above = torch.zeros(20, 40, 3)
    above[:5] = 1.0
    top = picture(dark(sh=lamps.project_environment(above)[None]))[0, 0]
    assert top[10, 32] > top[54, 32] + 0.1
    with pytest.raises(RenderError, match=r"must have shape \(H, W, 3\), got \(4, 5\)"):
        lamps.project_environment(np.zeros((4, 5)))
    with pytest.raises(RenderError, match="not finite"):
        lamps.project_environment(np.full((4, 5, 3), np.nan))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_constant_environment_is_ambient_light(backend: str) -> None:
    colour = torch.tensor([0.3, 0.5, 0.8])
    sh = torch.zeros(1, 9, 3)
    sh[0, 0] = colour * math.sqrt(4 * math.pi)
    # a map of pixels: the midpoint rule is off by some 1 / height²
    torch.testing.assert_close(lamps.project_environment(colour.expand(256, 512, 3)), sh[0], atol=1e-4, rtol=0)
    plain = default_lights()
    ambient = Lights(colour[None], plain.direction, torch.zeros(1, 3), torch.zeros(1))
    a, b = picture(ambient, backend, samples=1), picture(dark(sh=sh), backend, samples=1)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_lobe_tends_to_a_directional_light() -> None:
    """A lamp of order 2 differs from max(0, cosine) by at most 0.094, and its total is the same."""
    d, w = sphere_points()
    direction, one = lamps.light_direction(30, 20).double(), torch.ones(3, dtype=torch.float64)
    exact = (d @ direction).clamp(min=0)
    for width, largest in ((0.0, 0.094), (40.0, 0.25)):
        sh = lamps.lobe(direction, one, width)
        found = (lamps.polynomials(d) @ (sh * lamps.SCALES[:, None]))[:, 0]
        assert (found - exact).abs().max() < largest
        assert (found * w).sum() == pytest.approx(math.pi, rel=1e-9)  # the integral of the clamped cosine
    # the disc's mean against averaging many directions within it
    c = 1 - np.random.default_rng(0).random(200_000) * (1 - math.cos(math.radians(40)))
    np.testing.assert_allclose([c.mean(), (1.5 * c**2 - 0.5).mean()], _disc(40.0), atol=2e-3)
    with pytest.raises(RenderError, match="0 to 90 degrees, got 120"):
        lamps.lobe(direction, one, 120)


def _disc(width: float) -> list[float]:
    """What :func:`lobe` makes of degrees 1 and 2, read from its coefficients."""
    up, one = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    ratio = lamps.lobe(up, one, width)[:, 0] / lamps.lobe(up, one, 0.0)[:, 0]
    return [float(ratio[2]), float(ratio[6])]


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_far_point_light_is_a_directional_light(backend: str) -> None:
    direction, colour = lamps.light_direction(40, 30)[None], torch.tensor([[0.5, 0.6, 0.7]])
    far = 1e5
    point = dark(position=(far * direction)[:, None], power=(colour * (far / 100) ** 2)[:, None])
    plain = Lights(torch.zeros(1, 3), direction, colour, point.specular)
    a, b = picture(point, backend), picture(plain, backend)
    assert (a - b).abs().max() < 2e-3
    assert b.max() > 0.5


def test_a_point_light_falls_off_with_the_square_and_stays_finite() -> None:
    camera = portrait_camera(16)
    vertex, normal = torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 1.0]]])
    place = camera.t[0]  # of the vertex, in the camera frame

    def lit(distance: float) -> float:
        light = dark(position=place + torch.tensor([[[0.0, 0.0, -distance]]]), power=torch.ones(1, 1, 3))
        return light_parts(vertex, normal, camera, light)[0].max().item()

    assert lit(100.0) == pytest.approx(1.0, rel=1e-5)
    assert lit(50.0) == pytest.approx(4.0, rel=1e-5)
    assert lit(0.1) == pytest.approx(1e4, rel=1e-3)  # as at 1 cm
    assert np.isfinite(lit(0.0))
    inside = dark(position=place[None, None], power=torch.ones(1, 1, 3))
    assert torch.isfinite(picture(inside)).all()


@pytest.mark.parametrize("sample", [lamps.sample_environments, lamps.sample_point_lights, sample_lights])
def test_mirrored_light_on_a_mirrored_mesh_is_the_mirrored_picture(sample) -> None:
    lights = sample(np.random.default_rng(2), 3)
    vertices, faces = ellipsoid(24, 48)
    generator = torch.Generator().manual_seed(0)
    vertices = vertices * (1 + 0.05 * torch.rand(len(vertices), 1, generator=generator))  # not symmetric
    albedo = torch.rand(len(vertices), 3, generator=generator)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    there = render(vertices.expand(3, -1, -1), faces, albedo, portrait_camera(64, yaw=[20.0] * 3, fov=15), lights)[0]
    turned = portrait_camera(64, yaw=[-20.0] * 3, fov=15)
    here = render(
        (vertices * flip).expand(3, -1, -1), faces.flip(1), albedo, turned, lamps.mirrored(lights)
    )[0].flip(3)  # fmt: skip
    differ = (there - here).abs().amax(1)
    assert (differ > 1 / 255).float().mean() < 0.002  # ties of samples on edges
    assert (there - here).abs().mean() < 1e-4
    plain = render(
        (vertices * flip).expand(3, -1, -1), faces.flip(1), albedo, turned, lights
    )[0].flip(3)  # fmt: skip
    assert (there - plain).abs().mean() > 1e-3  # the light does have a side


@pytest.mark.parametrize("samples", [1, 4])
def test_backends_agree_on_every_kind_of_light(samples: int) -> None:
    rng = np.random.default_rng(3)
    kinds = [sample_lights(rng, 2), lamps.sample_environments(rng, 2), lamps.sample_point_lights(rng, 2)]
    lights = lamps.join(kinds)
    assert lights.sh is not None
    assert lights.position is not None
    assert lights.position.shape == (6, 1, 3)
    vertices, faces = ellipsoid()
    albedo = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(1))
    camera = portrait_camera(40, yaw=[-50, -30, -10, 10, 30, 50], fov=15)
    a, b = (
        render(vertices.expand(6, -1, -1), faces, albedo, camera, lights, backend=x, samples=samples)[0]
        for x in ("numba", "torch")
    )
    assert (a - b).abs().max() < 1 / 255
    for i, kind in enumerate(kinds):  # joined or alone, a light is the same
        alone = render(vertices.expand(2, -1, -1), faces, albedo, camera[2 * i : 2 * i + 2], kind, samples=samples)[0]
        assert torch.equal(alone, a[2 * i : 2 * i + 2])


def test_gradients_of_lights() -> None:
    vertices, faces = ellipsoid(6, 8)
    vertices = vertices[None].double()
    normals = vertex_normals(vertices, faces)
    camera = portrait_camera(16)
    camera = Cameras(camera.K.double(), camera.R.double(), camera.t.double(), 16, 16)
    kinds = lamps.join([lamps.sample_environments(np.random.default_rng(4), 1)])
    point = lamps.sample_point_lights(np.random.default_rng(4), 1)
    assert point.position is not None
    assert point.power is not None
    assert kinds.sh is not None
    plain = default_lights()

    def parts(vertices, sh, position, power):
        lights = Lights(
            plain.ambient.double(), plain.direction.double(), plain.intensity.double(), plain.specular.double(),
            sh, position, power,
        )  # fmt: skip
        return light_parts(vertices, normals, camera, lights)

    inputs = (vertices, kinds.sh.double(), point.position.double(), point.power.double())
    assert torch.autograd.gradcheck(parts, tuple(x.clone().requires_grad_() for x in inputs))
    sh = kinds.sh.clone().requires_grad_()
    images = differentiable.render(
        vertices.float(), faces, torch.full((vertices.shape[1], 3), 0.5), portrait_camera(16), dark(sh=sh)
    )
    images.sum().backward()
    assert sh.grad is not None
    assert sh.grad[0, 0].min() > 0  # more light, brighter picture


def test_samplers_are_valid_seeded_and_even_handed() -> None:
    for sample in (lamps.sample_environments, lamps.sample_point_lights):
        lights, again = sample(np.random.default_rng(5), 600), sample(np.random.default_rng(5), 600)
        lamps.validate(lights, 600)
        for key in (*lamps.FIELDS, *lamps.OPTIONAL):
            a, b = getattr(lights, key), getattr(again, key)
            assert (a is None and b is None) or torch.equal(a, b)
    surroundings = lamps.sample_environments(np.random.default_rng(5), 600).sh
    assert surroundings is not None
    assert surroundings[:, 3].mean().abs() < 0.05  # L_11, along x: neither side is preferred
    assert surroundings[:, 1].mean() < -0.1  # brighter above: y points down
    d, _ = sphere_points()
    assert lamps.environment_light(d.float()[None], surroundings).max() < 1.6  # skin is not washed out
    points = lamps.sample_point_lights(np.random.default_rng(5), 600)
    assert points.position is not None
    distance = (points.position[:, 0] - torch.tensor([0, 0, 75.0])).norm(dim=-1)
    assert distance.min() >= 40
    assert distance.max() <= 120.01
    assert points.position[:, 0, 0].mean().abs() < 4


def test_bad_lights_say_what_is_wrong() -> None:
    def fails(message: str, **more: torch.Tensor) -> None:
        with pytest.raises(RenderError, match=message):
            picture(dark(**more))

    fails(r"lights.sh must have shape \(1, 9, 3\), got \(1, 4, 3\)", sh=torch.zeros(1, 4, 3))
    fails("lights.sh holds a value that is not finite", sh=torch.full((1, 9, 3), float("nan")))
    fails("mean of the environment, must not be negative, got -1", sh=-torch.ones(1, 9, 3))
    fails("belong together", position=torch.zeros(1, 1, 3))
    fails(r"lights.power must have shape \(1, 2, 3\)", position=torch.zeros(1, 2, 3), power=torch.ones(1, 1, 3))
    fails("lights.power must not be negative", position=torch.zeros(1, 1, 3), power=-torch.ones(1, 1, 3))
