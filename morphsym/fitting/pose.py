"""Rotations for the solver, and a closed-form first guess of the pose.

The camera is OpenCV's, ``x_cam = R @ x_head + t``. The angles in ``fits.csv`` are those of
:func:`morphsym.rendering.cameras.rotation_to_euler`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cross_matrix(v: Tensor) -> Tensor:
    """``(…, 3)`` to the skew matrices ``(…, 3, 3)`` with ``cross_matrix(v) @ x = v × x``."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).reshape(*v.shape[:-1], 3, 3)


def so3_exp(omega: Tensor) -> Tensor:
    """Rotation matrices ``(…, 3, 3)`` of rotation vectors ``(…, 3)`` in radians (Rodrigues)."""
    angle2 = (omega * omega).sum(-1)[..., None, None]
    angle = angle2.clamp_min(1e-24).sqrt()
    small = angle2 < 1e-10
    a = torch.where(small, 1 - angle2 / 6, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - angle2 / 24, (1 - torch.cos(angle)) / angle2.clamp_min(1e-24))
    k = cross_matrix(omega)
    return torch.eye(3, dtype=omega.dtype, device=omega.device) + a * k + b * (k @ k)


def weak_perspective(points: Tensor, pixels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First guess of the pose: the affine camera that maps ``points`` to ``pixels`` best, made a scaled rotation.

    Works from any in-plane rotation, since the affine fit is linear. ``points (N, 3)`` head frame, ``pixels (B, N, 2)``,
    ``weights (B, N)``; the points must not lie in one plane. Returns ``R (B, 3, 3)``, ``scale (B,)`` in pixels per unit and
    ``offset (B, 2)`` with ``pixels ≈ scale · (R @ points)[:2] + offset``.
    """
    w = weights / weights.sum(-1, keepdim=True)
    centre = (w[..., None] * points).sum(1)
    offset = (w[..., None] * pixels).sum(1)
    p = points[None] - centre[:, None]
    q = pixels - offset[:, None]
    gram = torch.einsum("bn,bni,bnj->bij", w, p, p)
    cross = torch.einsum("bn,bni,bnj->bij", w, q, p)
    affine = torch.linalg.solve(gram, cross.transpose(1, 2)).transpose(1, 2)  # (B, 2, 3)
    # The nearest pair of orthonormal rows with one scale (both singular values alike).
    u, s, vh = torch.linalg.svd(affine, full_matrices=False)
    rows = u @ vh
    R = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], dim=1)
    scale = s.mean(-1)
    return R, scale, offset - scale[:, None] * (R[:, :2] @ centre[..., None])[..., 0]
