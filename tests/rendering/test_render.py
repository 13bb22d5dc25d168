"""Shaded pictures: light that can be computed by hand, backends and threads that agree, bad input."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import Tensor

from morphsym.errors import MissingDependencyError, RenderError, UsageError
from morphsym.rendering import (
    backends,
    checks,
    color,
    default_lights,
    differentiable,
    portrait_camera,
    rasterize,
    render,
    sample_lights,
    selfcheck,
)
from morphsym.rendering import cameras as cams
from morphsym.rendering import lights as lamps
from morphsym.rendering.backends import _compile, numba_kernels
from morphsym.rendering.shading import render_fragments, vertex_normals
from morphsym.types import Cameras, Fragments, Lights

from .scenes import ellipsoid, pixel_camera

GREY = (0.5, 0.5, 0.5)


def head(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    vertices, faces = ellipsoid()
    albedo = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(1))
    return vertices.expand(batch, -1, -1), faces, albedo


def square(front: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """A square over the pixels 2…14 of :func:`pixel_camera`, facing the camera or away from it."""
    vertices = torch.tensor([[[2.0, -2, 0], [14, -2, 0], [14, -14, 0], [2, -14, 0]]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    return vertices, faces if front else faces.flip(1)


def test_srgb_against_known_values() -> None:
    x = torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64)
    linear = torch.tensor([0.0, 0.0031308, 0.21404114, 1.0], dtype=torch.float64)  # IEC 61966-2-1
    torch.testing.assert_close(color.srgb_to_linear(x), linear, atol=1e-7, rtol=0)
    torch.testing.assert_close(color.linear_to_srgb(linear), x, atol=1e-6, rtol=0)
    assert color.linear_to_srgb(torch.tensor([2.0, -1.0])).tolist() == pytest.approx([1.0, 0.0])
    # slopes: along the line, along the curve, and none where light is clipped
    at = torch.tensor([-0.5, 0.001, 0.2, 0.9, 1.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(color.linear_to_srgb(at).sum(), at)
    curve = [1.055 / 2.4 * v ** (1 / 2.4 - 1) for v in (0.2, 0.9)]
    assert slope.tolist() == pytest.approx([0, 12.92, *curve, 0], rel=1e-12)
    table = color.encode_table()
    fine = np.linspace(0, 1, 100_001)
    exact = color.linear_to_srgb(torch.from_numpy(fine)).numpy()
    np.testing.assert_allclose(np.interp(fine * color.TABLE_SIZE, np.arange(len(table)), table), exact, atol=2e-5)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_lambert_by_hand(backend: str) -> None:
    """A square that faces the camera: albedo × (ambient + intensity × cosine), encoded; no highlight."""
    vertices, faces = square()
    direction = lamps.light_direction(0, 60)[None]
    lights = Lights(torch.full((1, 3), 0.2), direction, torch.tensor([[0.4, 0.6, 0.8]]), torch.zeros(1))
    albedo = torch.tensor([[0.9, 0.5, 0.2]]).expand(4, 3)
    images, coverage = render(vertices, faces, albedo, pixel_camera(16, 16), lights, GREY, backend, samples=1)
    linear = np.array([0.9, 0.5, 0.2])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    light = linear * (0.2 + np.array([0.4, 0.6, 0.8]) * 0.5)  # cos 60°
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(images[0, :, 8, 8], expected, atol=1e-4)
    assert coverage.item() == pytest.approx(144 / 256)
    np.testing.assert_array_equal(images[0, :, 0, 0], GREY)  # the background's own bytes
    np.testing.assert_array_equal(images[0, :, 2, 2], images[0, :, 13, 13])


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_back_faces_are_seen_in_ambient_light_only(backend: str) -> None:
    vertices, faces = square(front=False)
    white = torch.ones(4, 3)
    lights = Lights(torch.full((1, 3), 0.3), lamps.light_direction(0, 0)[None], torch.ones(1, 3), torch.ones(1))
    images, coverage = render(vertices, faces, white, pixel_camera(16, 16), lights, GREY, backend, samples=1)
    expected = color.linear_to_srgb(torch.tensor(0.3 * numba_kernels.BACK_LIGHT)).item()
    np.testing.assert_allclose(images[0, :, 8, 8], expected, atol=1e-4)
    assert coverage.item() == pytest.approx(144 / 256)


def test_a_highlight_is_where_the_mirror_is() -> None:
    """On a sphere lit from above the camera, specular light is brightest where the normal halves light and view."""
    vertices, faces = ellipsoid(48, 96, (8, 8, 8))
    lights = Lights(torch.zeros(1, 3), lamps.light_direction(0, 60)[None], torch.ones(1, 3), torch.ones(1))
    camera = portrait_camera(128, distance=2000, fov=0.6)
    images, _ = render(vertices[None], faces, torch.zeros(len(vertices), 3), camera, lights, (0, 0, 0))
    row, column = np.unravel_index(int(images[0, 0].argmax()), (128, 128))
    expected, _ = cams.project(camera, 8 * torch.tensor([[[0, np.sin(np.pi / 6), np.cos(np.pi / 6)]]]).float())
    assert abs(column + 0.5 - expected[0, 0, 0]) < 2
    assert abs(row + 0.5 - expected[0, 0, 1]) < 2


@pytest.mark.parametrize("samples", [1, 4, 9])
def test_fused_and_unfused_shading_agree(samples: int) -> None:
    """To 1/255 everywhere (issue 4); the fused path shades groups of samples, the other every sample."""
    vertices, faces, albedo = head(2)
    camera = portrait_camera((40, 52), yaw=[20, -50], fov=15)
    lights = sample_lights(np.random.default_rng(0), 2)
    back = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    a, ca = render(vertices, faces, albedo, camera, lights, back, "numba", samples)
    b, cb = render(vertices, faces, albedo, camera, lights, back, "torch", samples)
    assert (a - b).abs().max() < 1 / 255
    torch.testing.assert_close(ca, cb)


def test_normals_against_numpy() -> None:
    vertices, faces = ellipsoid()
    v, f = vertices.double().numpy(), faces.numpy()
    expected = np.zeros_like(v)
    cross = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
    for k in range(3):
        np.add.at(expected, f[:, k], cross)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (expected * v).sum(1).min() > 0  # outwards
    fast = np.empty(v.shape, np.float32)
    numba_kernels.vertex_normals(vertices.numpy(), f.view(np.uint32), fast)
    np.testing.assert_allclose(fast, expected, atol=1e-6)
    np.testing.assert_allclose(vertex_normals(vertices[None], faces)[0], expected, atol=1e-6)


def test_the_number_of_threads_and_of_images_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces, albedo = head(5)
    camera = portrait_camera(96, yaw=[0, 10, 20, 30, 40], fov=15)
    lights = sample_lights(np.random.default_rng(3), 5)
    results = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("MORPHSYM_THREADS", threads)
        images, coverage = render(vertices, faces, albedo, camera, lights)
        fragments = rasterize(vertices, faces, camera)
        one, _ = render(vertices[2:3], faces, albedo, camera[2], lamps.select(lights, [2]))
        assert torch.equal(one, images[2:3])
        parts = (images, coverage, fragments.triangle, fragments.barycentric, fragments.depth)
        results.append(b"".join(x.numpy().tobytes() for x in parts))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("size", [96, 97])
@pytest.mark.parametrize("samples", [1, 4])
def test_a_symmetric_face_gives_a_symmetric_picture_without_a_midline(size: int, samples: int) -> None:
    vertices, faces = ellipsoid(24, 48)
    albedo = torch.full((len(vertices), 3), 0.6)
    images, _ = render(
        vertices[None], faces, albedo, portrait_camera(size), default_lights(), (0, 0, 1.0), samples=samples
    )
    # where an outline passes exactly through samples, the top-left rule gives them to one side
    difference = (images - images.flip(3)).abs().amax(1)
    assert (difference > 1 / 255).float().mean() < 0.002
    middle = images[0, 2, size // 3 : -size // 3, size // 2]
    assert middle.max() < 0.8, "background shines through the midline"


def test_supersampling_is_the_mean_of_a_finer_picture() -> None:
    vertices, faces, albedo = head()
    camera = portrait_camera(32, fov=15)
    smooth, coverage = render(vertices, faces, albedo, camera, default_lights(), samples=4)
    fine, fine_coverage = render(vertices, faces, albedo, cams.resized(camera, 64, 64), default_lights(), samples=1)
    mean = torch.nn.functional.avg_pool2d(color.srgb_to_linear(fine), 2)
    torch.testing.assert_close(smooth, color.linear_to_srgb(mean), atol=1e-3, rtol=0)
    torch.testing.assert_close(coverage, fine_coverage)


def test_sampled_lights_are_valid_seeded_and_even_handed() -> None:
    lights = sample_lights(np.random.default_rng(5), 2000)
    lamps.validate(lights, 2000)
    again = sample_lights(np.random.default_rng(5), 2000)
    assert all(torch.equal(getattr(lights, k), getattr(again, k)) for k in lamps.FIELDS)
    assert abs(lights.direction[:, 0].mean()) < 0.03  # neither side is preferred
    assert (lights.direction[:, 2] < 0).all()  # never from behind the head
    assert lights.direction[:, 1].mean() < -0.2  # from above


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (512, 300)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    vertices, faces, albedo = head()
    camera = portrait_camera(size, fov=6)
    images, coverage = render(vertices, faces, albedo, camera, default_lights())
    assert images.shape == (1, 3, *size)
    assert torch.isfinite(images).all()
    assert checks.failures(images, coverage, checks.expected_coverage(vertices, faces, camera)) == [""]


def test_a_very_large_picture() -> None:
    vertices, faces, albedo = head()
    camera = portrait_camera(4096)
    images, coverage = render(vertices, faces, albedo, camera, default_lights(), samples=1)
    _, small = render(vertices, faces, albedo, cams.resized(camera, 256, 256), default_lights(), samples=16)
    assert images.shape == (1, 3, 4096, 4096)
    assert coverage.item() == pytest.approx(small.item(), abs=1e-3)


def test_empty_and_degenerate_meshes_show_the_background() -> None:
    vertices, _, albedo = head()
    camera = portrait_camera(16)
    for faces in (torch.empty(0, 3, dtype=torch.int64), torch.tensor([[3, 3, 3], [1, 2, 2]])):
        images, coverage = render(vertices, faces, albedo, camera, default_lights(), (0.25, 0.5, 0.75))
        assert coverage.item() == 0
        assert torch.equal(images[0, :, 3, 5], torch.tensor([0.25, 0.5, 0.75]))
    flat = torch.zeros_like(vertices)
    _, coverage = render(flat, ellipsoid()[1], albedo, camera, default_lights())
    assert coverage.item() == 0


def test_a_mesh_behind_the_camera_is_not_seen() -> None:
    vertices, faces, albedo = head()
    _, coverage = render(vertices + torch.tensor([0, 0, 200.0]), faces, albedo, portrait_camera(32), default_lights())
    assert coverage.item() == 0


def test_a_camera_inside_the_head_sees_it_everywhere() -> None:
    vertices, faces, albedo = head()
    camera = portrait_camera(33, distance=1.0, fov=100)
    images, coverage = render(vertices, faces, albedo, camera, default_lights())
    assert coverage.item() == 1
    assert torch.isfinite(images).all()
    assert np.isnan(checks.expected_coverage(vertices, faces, camera)).all()


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vertices_that_are_not_finite(backend: str, value: float) -> None:
    vertices, faces, albedo = head(3)
    vertices = vertices.clone()
    vertices[1, 7, 2] = value
    with pytest.raises(RenderError, match="vertices must be finite: mesh 1"):
        rasterize(vertices, faces, portrait_camera(16), backend)
    with pytest.raises(RenderError, match="vertices must be finite: mesh 1"):
        render(vertices, faces, albedo, portrait_camera(16), default_lights(), backend=backend)


def test_bad_arguments_say_what_was_expected_and_what_came() -> None:
    vertices, faces, albedo = head(2)
    camera, lights = portrait_camera(16), default_lights()

    def fails(message: str, **change: object) -> None:
        arguments: dict = {"vertices": vertices, "faces": faces, "albedo": albedo, "cameras": camera, "lights": lights}
        with pytest.raises(RenderError, match=message):
            render(**(arguments | change))

    fails(r"vertices must be floats of shape \(B, V, 3\), got torch.float32 \(266, 3\)", vertices=vertices[0])
    fails(r"faces must be integers of shape \(F, 3\)", faces=faces.float())
    fails(r"faces must index vertices 0 to 265, got 0 to 999", faces=torch.tensor([[0, 1, 999]]))
    fails(r"albedo must have shape \(266, 3\) or \(2, 266, 3\), got \(5, 3\)", albedo=albedo[:5])
    fails(r"albedo must be sRGB in \[0, 1\], got 0.* to 25", albedo=(albedo + 1e-6) / albedo.max() * 25)
    fails(r"background must be sRGB in \[0, 1\]", background=(0.0, 0.0, 128.0))
    fails("background holds a value that is not finite", background=(0.0, float("nan"), 0.0))
    fails("expected 1 or 2 cameras, one a mesh, got 3", cameras=portrait_camera(16, yaw=[1, 2, 3]))
    fails("expected 1 or 2 lights, one a mesh, got 3", lights=default_lights(3))
    fails("unit length", lights=Lights(torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 3), torch.ones(1)))
    fails("must not be negative", lights=Lights(-torch.ones(1, 3), lights.direction, torch.ones(1, 3), torch.ones(1)))
    fails("samples must be 1, 4, 9 or 16, got 2", samples=2)
    K = camera.K.clone()
    K[0, 0, 0] = float("nan")
    fails("cameras.K holds a value that is not finite", cameras=type(camera)(K, camera.R, camera.t, 16, 16))


def test_backends_are_named_and_never_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = backends.get("auto")
    assert (chosen.name, chosen.note.startswith("auto")) == ("numba", True)
    assert backends.get("torch").name == "torch"
    assert set(backends.available()) == set(backends.NAMES)
    with pytest.raises(UsageError, match="must be one of auto, numba, triton, pytorch3d, torch; got 'opengl'"):
        backends.get("opengl")
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"INSTALL\.md"):
        backends.get("pytorch3d")
    with pytest.raises(MissingDependencyError, match="comes with torch's CUDA builds"):
        backends.get("triton")


def test_auto_takes_the_fastest_for_the_device_and_says_what_it_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    there = dict.fromkeys(backends.NAMES, "")
    monkeypatch.setattr(backends.importlib, "import_module", lambda name: types.SimpleNamespace(rasterize=None))
    monkeypatch.setattr(backends, "available", lambda: there)
    assert [backends.get("auto", d).name for d in ("cpu", "cuda", "cuda:1")] == ["numba", "triton", "triton"]
    there["triton"] = "no Triton"
    chosen = backends.get("auto", "cuda")
    assert chosen.name == "pytorch3d"
    assert "triton: no Triton" in chosen.note
    there["pytorch3d"] = "no PyTorch3D"
    chosen = backends.get("auto", "cuda")
    assert chosen.name == "numba"
    assert "triton: no Triton; pytorch3d: no PyTorch3D" in chosen.note
    assert [backends.place(n, "cuda:1") for n in ("numba", "triton", "torch")] == ["cpu", "cuda:1", "cpu"]


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_the_self_check_passes_and_fails(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert selfcheck.problem(backend) == ""
    if backend == "numba":
        good = rasterize

        def lossy(vertices: Tensor, faces: Tensor, cameras: Cameras, name: str) -> Fragments:
            f = good(vertices, faces, cameras, name)
            return f if name == "torch" else Fragments(torch.full_like(f.triangle, -1), f.barycentric, f.depth)

        monkeypatch.setattr(selfcheck, "rasterize", lossy)
        assert "show another triangle than the reference's" in selfcheck.problem(backend)
        monkeypatch.setattr(backends, "available", lambda: {backend: "is not installed"})
        assert selfcheck.problem(backend) == "is not installed"


def test_shading_of_fragments_stays_on_the_device_of_the_vertices() -> None:
    """On torch's 'meta' device, which refuses to be mixed with the CPU: what CUDA would refuse."""
    vertices, faces, albedo = head(2)
    shape = (2, 32, 32)
    found = Fragments(
        torch.empty(shape, dtype=torch.int32, device="meta"),
        torch.empty(*shape, 3, device="meta"),
        torch.empty(shape, device="meta"),
    )
    draw = render_fragments(lambda *_: found)
    lights, behind = default_lights(), torch.zeros(1, 3)
    images, coverage = draw(vertices.to("meta"), faces, albedo[None], portrait_camera(16), lights, behind, 2)
    assert (images.device.type, coverage.device.type) == ("meta", "meta")
    points = differentiable.image_points(portrait_camera(32), vertices.to("meta"))
    seen = differentiable.interpolate(points, vertices.to("meta"), faces.to("meta"), found.triangle)
    assert seen.device.type == "meta"


def test_kernels_compile_where_nothing_can_be_cached() -> None:
    """Code without a file stands for an installation whose folders cannot be written."""
    space: dict = {}
    exec(compile("def double(x):\n    return 2 * x\n", "<nowhere>", "exec"), space)
    assert _compile.kernel(space["double"])(21) == 42


def test_more_than_the_triangles_that_a_key_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, _, _ = head()
    many = torch.zeros(numba_kernels.INDEX_MASK + 1, 3, dtype=torch.int32)
    with pytest.raises(RenderError, match="at most 16777215 triangles"):
        rasterize(vertices, many, portrait_camera(4), "numba")
