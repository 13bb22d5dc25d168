"""Cameras: signs, projection, angles, and other renderers' conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from morphsym.errors import RenderError, UsageError
from morphsym.rendering import cameras as cams
from morphsym.types import Cameras

NOSE, CROWN, LEFT_EAR = [0.0, 0.0, 10.0], [0.0, 12.0, 0.0], [8.0, 0.0, 0.0]


def pixel(camera: Cameras, point: list[float]) -> np.ndarray:
    return cams.project(camera, torch.tensor([[point]], dtype=torch.float64))[0][0, 0].numpy()


def test_a_frontal_portrait_shows_left_on_the_right_and_up_on_top() -> None:
    camera = cams.portrait_camera(224)
    np.testing.assert_allclose(pixel(camera, [0, 0, 0]), [112, 112], atol=1e-4)
    assert pixel(camera, LEFT_EAR)[0] > 112
    assert pixel(camera, CROWN)[1] < 112


@pytest.mark.parametrize(
    ("angles", "point", "axis", "sign"),
    [
        ({"yaw": 30}, NOSE, 0, +1),  # turning to the subject's left moves the nose to the right of the picture
        ({"pitch": 20}, NOSE, 1, -1),  # looking up moves the nose up
        ({"roll": 15}, CROWN, 0, +1),  # the crown goes towards the subject's left shoulder
    ],
)
def test_signs_of_the_angles(angles: dict[str, float], point: list[float], axis: int, sign: int) -> None:
    straight = pixel(cams.portrait_camera(224), point)
    moved = pixel(cams.portrait_camera(224, **angles), point) - straight
    back = pixel(cams.portrait_camera(224, **{k: -v for k, v in angles.items()}), point) - straight
    assert sign * moved[axis] > 5
    assert sign * back[axis] < -5


def test_angles_are_intrinsic_yaw_pitch_roll() -> None:
    rng = np.random.default_rng(0)
    yaw, pitch, roll = rng.uniform(-180, 180, 50), rng.uniform(-89, 89, 50), rng.uniform(-180, 180, 50)
    R = cams.euler_to_rotation(yaw, pitch, roll).numpy()
    head = Rotation.from_euler("YXZ", np.stack([yaw, -pitch, -roll], 1), degrees=True).as_matrix()
    np.testing.assert_allclose(np.diag([1, -1, -1]) @ R, head, atol=1e-12)
    np.testing.assert_allclose(np.stack(cams.rotation_to_euler(R)), [yaw, pitch, roll], atol=1e-9)


def test_looking_straight_up_still_has_angles() -> None:
    R = cams.euler_to_rotation(30.0, 90.0, 0.0)
    np.testing.assert_allclose(torch.stack(cams.rotation_to_euler(R))[:, 0], [30, 90, 0], atol=1e-6)


def test_the_target_stays_in_the_centre_at_its_distance() -> None:
    target = [1.0, 2.0, 3.0]
    camera = cams.portrait_camera((100, 200), distance=[50, 90], yaw=40, pitch=-10, roll=5, target=target)
    pixels, depth = cams.project(camera, torch.tensor([[target]]).expand(2, 1, 3))
    torch.testing.assert_close(pixels, torch.tensor([[[100.0, 50.0]]] * 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth[:, 0], torch.tensor([50.0, 90.0]))


def test_field_of_view_spans_the_shorter_side() -> None:
    camera = cams.portrait_camera((100, 300), distance=10, fov=90)
    np.testing.assert_allclose(pixel(camera, [0, 10, 0]), [150, 0], atol=1e-4)


def test_resized_cameras_see_the_same() -> None:
    camera = cams.portrait_camera(64, yaw=20)
    np.testing.assert_allclose(3 * pixel(camera, NOSE), pixel(cams.resized(camera, 192, 192), NOSE), rtol=1e-6)


def test_pytorch3d_convention() -> None:
    """By PyTorch3D's documentation: row vectors, +X left, +Y up, NDC 1 at the shorter side's end."""
    camera = cams.portrait_camera((120, 200), yaw=25, pitch=10, roll=-5)
    x = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0)) * 8
    p3d = cams.to_pytorch3d(camera)
    view = x @ p3d.R + p3d.T[:, None]
    ndc = view[..., :2] / view[..., 2:] * p3d.focal_length[:, None] + p3d.principal_point[:, None]
    screen = torch.tensor([200, 120]) / 2 - ndc * 60
    pixels, depth = cams.project(camera, x)
    torch.testing.assert_close(screen, pixels, atol=1e-3, rtol=0)
    torch.testing.assert_close(view[..., 2], depth)
    skewed = Cameras(camera.K + torch.tensor([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]]), camera.R, camera.t, 120, 200)
    with pytest.raises(RenderError, match="no skew"):
        cams.to_pytorch3d(skewed)


def test_opengl_convention() -> None:
    camera = cams.portrait_camera((120, 200), yaw=25, pitch=10, roll=-5)
    x = torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0)) * 8
    view, projection = cams.to_opengl(camera, near=10, far=500)
    clip = torch.cat([x, torch.ones(1, 20, 1)], -1) @ (projection @ view).transpose(1, 2)
    ndc = clip[..., :3] / clip[..., 3:]
    pixels, depth = cams.project(camera, x)
    torch.testing.assert_close((ndc[..., 0] + 1) * 100, pixels[..., 0], atol=1e-3, rtol=0)
    torch.testing.assert_close((1 - ndc[..., 1]) * 60, pixels[..., 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(clip[..., 3], depth)
    near_far = projection @ torch.tensor([0, 0, -10.0, 1])
    torch.testing.assert_close(near_far[:, 2] / near_far[:, 3], torch.tensor([-1.0]))


def test_batches_are_joined_and_repeated() -> None:
    a, b = cams.portrait_camera(64, yaw=[10, 20]), cams.portrait_camera(64)
    both = cams.join([a, b])
    assert len(both) == 3
    assert torch.equal(both[2].R, b.R)
    assert len(cams.repeat(b, 5)) == 5
    with pytest.raises(RenderError, match="one picture size"):
        cams.join([a, cams.portrait_camera(65)])
    with pytest.raises(RenderError, match="one camera, got 2"):
        cams.repeat(a, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "at least 1×1"),
        ({"distance": 0}, "distance must be more than"),
        ({"fov": 180}, "between 0 and 180"),
        ({"yaw": [1, 2], "pitch": [1, 2, 3]}, "one value or one a camera"),
        ({"yaw": float("nan")}, "finite"),
    ],
)
def test_bad_cameras_say_what_is_wrong(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cams.portrait_camera(**arguments)
