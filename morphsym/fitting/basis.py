"""What the solver needs of a face model: its bases at the landmarks only, so that a fit never touches the mesh.

Identity components that the landmarks cannot see are rotated away: with the prior ``identity ~ N(0, I)`` the basis at
the landmarks is factored ``B = U S Vᵀ`` and the solver works in the leading right singular directions. The rest stays at
the prior's mean, which is what the maximum a posteriori estimate would give it.

Contour landmarks (0–16) lie on the silhouette that the camera sees. When the head turns, the silhouette on the far side moves
from the ear towards the cheek. Each contour landmark therefore has a path of places on the neutral mesh at its own
height, from its frontal place towards the front, and slides along it until the surface faces the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError
from .correspondence import places

if TYPE_CHECKING:
    from ..faces import MorphableModel

PATH_STEPS = 9
"""Places on the path of a sliding contour landmark."""

SLIDING = (0, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16)
"""Contour landmarks that slide with yaw. The chin (6–10) moves with pitch only, and too little to matter."""

IDENTITY_VARIANCE_KEPT = 0.9995


@dataclass(frozen=True, eq=False)
class LandmarkBasis:
    """A model's bases at N landmarks; float64, cm, head frame. S places on the path of each sliding landmark."""

    mean: Tensor  # (N, 3)
    identity: Tensor  # (N, 3, Kr) along the rotated directions
    expression: Tensor  # (N, 3, Ks)
    to_identity: Tensor  # (Ki, Kr): identity coefficients = to_identity @ rotated ones
    sliding: np.ndarray  # (C,) int64: rows of the landmarks that slide
    path_mean: Tensor  # (C, S, 3)
    path_normal: Tensor  # (C, S, 3) unit normals of the mean mesh
    path_identity: Tensor  # (C, S, 3, Kr)
    path_expression: Tensor  # (C, S, 3, Ks)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float64) -> LandmarkBasis:
        """The same with its tensors on ``device``."""
        moved: dict[str, Any] = {k: v.to(device, dtype) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def gather(basis: Tensor, triangle_vertices: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """``basis (…, V, 3)`` at points given by ``triangle_vertices (N, 3)`` and ``barycentric (N, 3)``: ``(…, N, 3)``."""
    flat = torch.as_tensor(triangle_vertices.reshape(-1), dtype=torch.long, device=basis.device)
    picked = basis.index_select(-2, flat).detach().cpu().double().numpy()
    picked = picked.reshape(*picked.shape[:-2], len(triangle_vertices), 3, 3)
    return np.einsum("...nkc,nk->...nc", picked, np.asarray(barycentric, dtype=np.float64))


def landmark_basis(model: MorphableModel, mediapipe: bool) -> LandmarkBasis:
    """``model``'s bases at the 68 landmarks as MediaPipe (or any other detector) places them. Cached on the model."""
    cached: dict[bool, LandmarkBasis] = vars(model).setdefault("_landmark_basis", {})
    if mediapipe not in cached:
        cached[mediapipe] = _gather_all(model, *places(model, mediapipe))
    return cached[mediapipe]


def _gather_all(model: MorphableModel, triangles: np.ndarray, barycentric: np.ndarray, slide: bool) -> LandmarkBasis:
    weights = np.asarray(barycentric, dtype=np.float64)
    mean = gather(model.mean, triangles, weights)
    if np.linalg.svd(mean - mean.mean(axis=0), compute_uv=False)[2] < 1.0:
        raise ModelError(f"the landmarks of the model {model.name!r} ({model.source}) do not span a face; rebuild it")
    if slide:
        sliding = np.array(SLIDING)
        path_tri, path_w, path_normal = _contour_paths(model, np.asarray(model.faces), mean, sliding)
    else:
        sliding = np.zeros(0, dtype=np.int64)
        path_tri, path_w = np.zeros((0, PATH_STEPS, 3), dtype=np.int64), np.zeros((0, PATH_STEPS, 3))
        path_normal = np.zeros((0, PATH_STEPS, 3))
    c = len(sliding)

    def on_path(basis: Tensor) -> np.ndarray:
        flat = gather(basis, path_tri.reshape(-1, 3), path_w.reshape(-1, 3))
        return flat.reshape(*flat.shape[:-2], c, PATH_STEPS, 3)

    identity = gather(model.identity_basis, triangles, weights)  # (Ki, N, 3)
    rotate = _visible_directions(identity)
    expression = gather(model.sided.basis, triangles, weights)
    # A sliding landmark starts where the model puts it: the path's first place is the landmark itself.
    path_mean, path_id, path_ex = on_path(model.mean), on_path(model.identity_basis), on_path(model.sided.basis)
    path_mean[:, 0] = mean[sliding]
    path_id[:, :, 0] = identity[:, sliding]
    path_ex[:, :, 0] = expression[:, sliding]

    def t(x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))

    return LandmarkBasis(
        mean=t(mean),
        identity=t(np.einsum("knc,kr->ncr", identity, rotate)),
        expression=t(expression.transpose(1, 2, 0)),
        to_identity=t(rotate),
        sliding=sliding,
        path_mean=t(path_mean),
        path_normal=t(path_normal),
        path_identity=t(np.einsum("kcsx,kr->csxr", path_id, rotate)),
        path_expression=t(path_ex.transpose(1, 2, 3, 0)),
    )


def _visible_directions(identity: np.ndarray) -> np.ndarray:
    """Orthonormal ``(Ki, Kr)``: the identity directions that move the landmarks, by share of variance."""
    flat = identity.reshape(len(identity), -1).T
    _, s, vh = np.linalg.svd(flat, full_matrices=False)
    share = np.cumsum(s**2) / np.sum(s**2)
    keep = int(np.searchsorted(share, IDENTITY_VARIANCE_KEPT)) + 1
    return vh[:keep].T


def _contour_paths(
    model: MorphableModel, faces: np.ndarray, mean68: np.ndarray, sliding: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each sliding landmark, places ``(C, S)`` on the skin at its height from its own azimuth towards the front.

    Rays start on the head's vertical axis (halfway between the ears, at the landmark's height) and turn from the
    landmark's azimuth to 35 % of it; the outermost skin triangle hit is the place. Returns the triangles' vertices
    ``(C, S, 3)``, barycentric weights ``(C, S, 3)`` and the mean mesh's normals ``(C, S, 3)``.
    """
    vertices = model.mean.detach().cpu().double().numpy()
    skin = faces[model.part == model.part_names.index("skin")]
    corner, edge1, edge2 = vertices[skin[:, 0]], vertices[skin[:, 1]], vertices[skin[:, 2]]
    edge1, edge2 = edge1 - corner, edge2 - corner
    axis_z = float(mean68[[0, 16], 2].mean())
    triangles = np.zeros((len(sliding), PATH_STEPS, 3), dtype=np.int64)
    weights = np.zeros((len(sliding), PATH_STEPS, 3))
    normals = np.zeros((len(sliding), PATH_STEPS, 3))
    for c, i in enumerate(sliding):
        x, y, z = mean68[i]
        origin = np.array([0.0, y, min(axis_z, z) - 1.0])
        azimuth = np.arctan2(x, z - origin[2])
        near = np.nonzero((corner[:, 1] > y - 4) & (corner[:, 1] < y + 4))[0]
        for s, turn in enumerate(np.linspace(1.0, 0.35, PATH_STEPS)):
            direction = np.array([np.sin(turn * azimuth), 0.0, np.cos(turn * azimuth)])
            hit = _outermost(origin, direction, corner[near], edge1[near], edge2[near])
            if hit is None:  # a hole in the mesh: stay where the path was
                triangles[c, s], weights[c, s], normals[c, s] = (
                    triangles[c, s - 1],
                    weights[c, s - 1],
                    normals[c, s - 1],
                )
                continue
            k, u, v = hit
            triangles[c, s], weights[c, s] = skin[near[k]], (1 - u - v, u, v)
            n = np.cross(edge1[near[k]], edge2[near[k]])
            normals[c, s] = n / np.linalg.norm(n) * np.sign(n @ direction)
    return triangles, weights, normals


def _outermost(
    origin: np.ndarray, direction: np.ndarray, corner: np.ndarray, edge1: np.ndarray, edge2: np.ndarray
) -> tuple[int, float, float] | None:
    """The farthest triangle that the ray hits and the barycentric (u, v) there (Möller and Trumbore)."""
    p = np.cross(direction, edge2)
    det = np.einsum("ij,ij->i", edge1, p)
    inverse = 1.0 / np.where(np.abs(det) < 1e-12, np.inf, det)
    s = origin - corner
    u = np.einsum("ij,ij->i", s, p) * inverse
    q = np.cross(s, edge1)
    v = (q @ direction) * inverse
    distance = np.einsum("ij,ij->i", edge2, q) * inverse
    ok = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (distance > 0) & (inverse != 0)
    if not ok.any():
        return None
    k = int(np.argmax(np.where(ok, distance, -np.inf)))
    return k, float(u[k]), float(v[k])
