"""Cameras: portraits, projection, head pose as angles, and the conversion to other renderers' conventions.

Everything here works on :class:`morphsym.types.Cameras`: OpenCV pinholes, camera frame +x right, +y down, +z forward,
centimetres; pixel centres at half-integers, origin top left. This is the only module that knows another convention.

Angles are degrees with the signs of :class:`morphsym.types.FaceFit`: ``yaw`` is positive when the subject turns to the
subject's left (the nose moves to the right of a frontal picture), ``pitch`` when the subject looks up, ``roll`` when
the head tilts towards the subject's left shoulder. They compose as intrinsic yaw, then pitch, then roll, so that the
nose points along ``(sin yaw cos pitch, sin pitch, cos yaw cos pitch)`` whatever the roll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import RenderError, UsageError
from ..types import Cameras

Numbers: TypeAlias = "float | Sequence[float] | np.ndarray | Tensor"

NEAR = 0.1
"""Nearest visible depth, cm. Every backend cuts triangles at this plane."""


def frontal() -> Tensor:
    """``(3, 3)`` rotation from the world (head) frame to the frame of a camera that looks straight at it."""
    return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))


def euler_to_rotation(yaw: Numbers, pitch: Numbers, roll: Numbers) -> Tensor:
    """Head-to-camera rotations ``R`` (B, 3, 3) float64 of heads turned by yaw, pitch and roll (degrees; see module)."""
    y, p, r = _broadcast(yaw, pitch, roll)
    y, p, r = torch.deg2rad(y), torch.deg2rad(p), torch.deg2rad(r)
    one, zero = torch.ones_like(y), torch.zeros_like(y)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).reshape(-1, 3, 3)

    # Right-handed turns about +Y, +X and +Z; looking up and tilting left are negative turns about +X and +Z.
    turn = matrix(y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos())
    nod = matrix(one, zero, zero, zero, p.cos(), p.sin(), zero, -p.sin(), p.cos())
    tilt = matrix(r.cos(), r.sin(), zero, -r.sin(), r.cos(), zero, zero, zero, one)
    return frontal() @ turn @ nod @ tilt


def rotation_to_euler(R: Numbers) -> tuple[Tensor, Tensor, Tensor]:
    """Yaw, pitch and roll (degrees, each (B,) float64) of head-to-camera rotations ``R`` (B, 3, 3) or (3, 3).

    Inverse of :func:`euler_to_rotation` for ``|pitch| < 90``; at exactly ±90 roll is reported as 0.
    """
    head = frontal() @ torch.as_tensor(R, dtype=torch.float64).reshape(-1, 3, 3)
    nose = head[:, :, 2]
    pitch = torch.asin(nose[:, 1].clamp(-1, 1))
    upright = torch.hypot(head[:, 1, 0], head[:, 1, 1]) > 1e-9
    yaw = torch.where(upright, torch.atan2(nose[:, 0], nose[:, 2]), torch.atan2(-head[:, 2, 0], head[:, 0, 0]))
    roll = torch.where(upright, torch.atan2(-head[:, 1, 0], head[:, 1, 1]), torch.zeros_like(pitch))
    return torch.rad2deg(yaw), torch.rad2deg(pitch), torch.rad2deg(roll)


def portrait_camera(
    size: int | tuple[int, int] = 224,
    distance: Numbers = 75.0,
    fov: Numbers = 27.0,
    yaw: Numbers = 0.0,
    pitch: Numbers = 0.0,
    roll: Numbers = 0.0,
    target: Numbers = (0.0, 0.0, 0.0),
) -> Cameras:
    """Cameras for portraits of a head that is turned by yaw, pitch and roll.

    ``size`` is the picture's side, or (height, width), in pixels; ``distance`` (cm) is from the camera to ``target``,
    the point (world, cm; (3,) or (B, 3)) that stays in the picture's centre and about which the head turns; ``fov``
    (degrees) spans the shorter side. The defaults hold a head with its neck (36 cm at the target). Scalars or (B,)
    sequences; the batch is the longest of them. Raises :class:`UsageError` for values out of range.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UsageError(f"a picture needs at least 1×1 pixels, got {height}×{width}")
    centre = torch.as_tensor(target, dtype=torch.float64).reshape(-1, 3)
    d, f, y, p, r, _ = _broadcast(distance, fov, yaw, pitch, roll, torch.zeros(len(centre)))
    if not bool((d > NEAR).all()):
        raise UsageError(f"the camera's distance must be more than {NEAR} cm, got {d.min().item():g}")
    if not bool(((f > 0) & (f < 180)).all()):
        raise UsageError(
            f"the field of view must lie between 0 and 180 degrees, got {f.min().item():g}…{f.max().item():g}"
        )
    n = len(d)
    focal = 0.5 * min(height, width) / torch.tan(torch.deg2rad(f) / 2)
    K = torch.zeros(n, 3, 3, dtype=torch.float64)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = width / 2, height / 2, 1.0
    R = euler_to_rotation(y, p, r)
    t = -(R @ centre.expand(n, 3)[:, :, None])[:, :, 0]
    t[:, 2] += d
    # + 0.0 turns -0.0 into 0.0, so that equal cameras have equal bytes.
    return Cameras(K.float(), (R + 0.0).float(), (t + 0.0).float(), int(height), int(width))


def to_camera(cameras: Cameras, x: Tensor) -> Tensor:
    """World points ``x`` (B, N, 3) in the camera frame, cm; in ``x``'s dtype, differentiable."""
    R, t = cameras.R.to(x), cameras.t.to(x)
    return x @ R.transpose(1, 2) + t[:, None]


def project(cameras: Cameras, x: Tensor) -> tuple[Tensor, Tensor]:
    """World points ``x`` (B, N, 3) -> pixels (B, N, 2) and depth (B, N) in cm; in ``x``'s dtype, differentiable.

    ``x`` may have B = 1 for many cameras or the other way round. Points at or behind the camera's centre (depth <= 0)
    have no picture: their pixels are meaningless, so test the depth.
    """
    cam = to_camera(cameras, x)
    image = cam @ cameras.K.to(x).transpose(1, 2)
    depth = cam[..., 2]
    return image[..., :2] / image[..., 2:], depth


def join(cameras: Sequence[Cameras]) -> Cameras:
    """One batch out of several. Raises :class:`RenderError` when their pictures differ in size."""
    if not cameras:
        raise RenderError("there are no cameras to join")
    sizes = {(c.height, c.width) for c in cameras}
    if len(sizes) > 1:
        raise RenderError(f"cameras of one batch must have one picture size, got {sorted(sizes)}")
    first = cameras[0]
    K, R, t = (torch.cat([getattr(c, key) for c in cameras]) for key in ("K", "R", "t"))
    return Cameras(K, R, t, first.height, first.width)


def repeat(cameras: Cameras, n: int) -> Cameras:
    """A batch of one, repeated ``n`` times (without copying)."""
    if len(cameras) != 1:
        raise RenderError(f"repeat wants a batch of one camera, got {len(cameras)}")
    return Cameras(
        cameras.K.expand(n, 3, 3), cameras.R.expand(n, 3, 3), cameras.t.expand(n, 3), cameras.height, cameras.width
    )


def to(cameras: Cameras, device: torch.device | str) -> Cameras:
    """The same cameras on another device."""
    return Cameras(cameras.K.to(device), cameras.R.to(device), cameras.t.to(device), cameras.height, cameras.width)


def resized(cameras: Cameras, height: int, width: int) -> Cameras:
    """Cameras that see the same view in ``height`` × ``width`` pixels (half-integer centres: K scales linearly)."""
    scale = torch.tensor([width / cameras.width, height / cameras.height, 1.0]).to(cameras.K)
    return Cameras(cameras.K * scale[:, None], cameras.R, cameras.t, height, width)


@dataclass(frozen=True, eq=False)
class PyTorch3DCameras:
    """The arguments of ``pytorch3d.renderer.PerspectiveCameras(..., in_ndc=True)``; float32.

    PyTorch3D's view frame is +X left, +Y up, +Z into the scene; it multiplies row vectors (``x @ R + T``); NDC spans
    [-1, 1] over the picture's shorter side.
    """

    focal_length: Tensor  # (B, 2), NDC
    principal_point: Tensor  # (B, 2), NDC
    R: Tensor  # (B, 3, 3)
    T: Tensor  # (B, 3), cm
    image_size: tuple[int, int]  # height, width in pixels


def to_pytorch3d(cameras: Cameras) -> PyTorch3DCameras:
    """The same cameras in PyTorch3D's convention. Raises :class:`RenderError` for a skewed K, which it lacks."""
    K = cameras.K
    if bool((K[:, 0, 1].abs() > 1e-6 * K[:, 0, 0].abs()).any()):
        raise RenderError("PyTorch3D's cameras have no skew; K[0, 1] must be 0 (use --renderer numba)")
    scale = min(cameras.height, cameras.width) / 2
    centre = torch.tensor([cameras.width / 2, cameras.height / 2]).to(K)
    flip = torch.tensor([-1.0, -1.0, 1.0]).to(K)
    return PyTorch3DCameras(
        focal_length=torch.stack([K[:, 0, 0], K[:, 1, 1]], -1) / scale,
        principal_point=(centre - K[:, :2, 2]) / scale,
        R=cameras.R.transpose(1, 2) * flip,
        T=cameras.t * flip,
        image_size=(cameras.height, cameras.width),
    )


def to_opengl(cameras: Cameras, near: float = 1.0, far: float = 1000.0) -> tuple[Tensor, Tensor]:
    """OpenGL view and projection matrices, each (B, 4, 4), for column vectors: ``clip = P @ V @ (x, 1)``.

    The eye frame is +x right, +y up, -z forward; the picture's top row is the top of the NDC cube (so flip what
    ``glReadPixels`` returns). ``near`` and ``far`` in cm.
    """
    K, n = cameras.K, len(cameras)
    flip = torch.tensor([1.0, -1.0, -1.0]).to(K)
    view = torch.zeros(n, 4, 4).to(K)
    view[:, :3, :3] = cameras.R * flip[:, None]
    view[:, :3, 3] = cameras.t * flip
    view[:, 3, 3] = 1.0
    w, h = cameras.width, cameras.height
    projection = torch.zeros(n, 4, 4).to(K)
    projection[:, 0, 0] = 2 * K[:, 0, 0] / w
    projection[:, 0, 1] = -2 * K[:, 0, 1] / w
    projection[:, 0, 2] = 1 - 2 * K[:, 0, 2] / w
    projection[:, 1, 1] = 2 * K[:, 1, 1] / h
    projection[:, 1, 2] = 2 * K[:, 1, 2] / h - 1
    projection[:, 2, 2] = -(far + near) / (far - near)
    projection[:, 2, 3] = -2 * far * near / (far - near)
    projection[:, 3, 2] = -1.0
    return view, projection


def validate(cameras: Cameras, batch: int | None = None) -> None:
    """Raise :class:`RenderError` unless the record is finite, has proper shapes and holds ``batch`` (or 1) cameras."""
    n = len(cameras)
    for key, shape in (("K", (n, 3, 3)), ("R", (n, 3, 3)), ("t", (n, 3))):
        value: Any = getattr(cameras, key)
        if tuple(value.shape) != shape:
            raise RenderError(f"cameras.{key} must have shape {shape}, got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise RenderError(
                f"cameras.{key} holds a value that is not finite; check the fit that the camera came from"
            )
    if batch is not None and n not in (1, batch):
        raise RenderError(f"expected 1 or {batch} cameras, one a mesh, got {n}")
    if cameras.height < 1 or cameras.width < 1:
        raise RenderError(f"a picture needs at least 1×1 pixels, got {cameras.height}×{cameras.width}")


def _broadcast(*values: Numbers) -> tuple[Tensor, ...]:
    arrays = (v if isinstance(v, Tensor) else torch.from_numpy(np.array(v, np.float64)) for v in values)
    tensors = [a.detach().cpu().double().reshape(-1) for a in arrays]
    n = max(len(t) for t in tensors)
    for t in tensors:
        if len(t) not in (1, n):
            raise UsageError(f"camera parameters must have one value or one a camera ({n}), got {len(t)}")
        if not bool(torch.isfinite(t).all()):
            raise UsageError("camera parameters must be finite numbers")
    return tuple(t.expand(n) for t in tensors)
