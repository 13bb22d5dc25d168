"""Observational measures of a fitted face: how asymmetric it is, and the distances that clinicians measure.

Two kinds, because they answer different questions. The **mesh** measures come from the fitted coefficients and compare with
what the tool does to faces. The **clinical** measures come from the *detected* landmarks, which no model has made more
symmetric: each is put on its ray at the depth of the fitted mesh, so that pixels become millimetres and the pose drops
out. Their scale is the model's (a photo has none): the ratio of left to right does not depend on it.

Left and right are the subject's. Distances are mm in the head's frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..types import FaceFit
from .basis import gather
from .correspondence import places
from .threads import in_threads

if TYPE_CHECKING:
    from ..faces import MorphableModel

MESH = ("asymmetry_rest_mm", "asymmetry_expression_mm", "realised_asymmetry_mm", "realised_intensity_mm")

CLINICAL = ("commissure_excursion", "palpebral_fissure", "brow_height")

MEASURES = (*MESH, *(f"{name}_{side}_mm" for name in CLINICAL for side in ("left", "right")))
"""The columns of ``fits.csv``, in order.

``asymmetry_rest_mm``, ``asymmetry_expression_mm``: mesh asymmetry index of the face without and with its expression: half
the mean distance between a vertex and its partner's mirror image, after the best rigid alignment of the two.
``realised_asymmetry_mm``, ``realised_intensity_mm``: of the expression alone, whatever the identity; the same quantities as in
the results of an experiment (:func:`morphsym.intervention.measure`).
``commissure_excursion``: from where the face's midline (through the bridge of the nose, upright in the head's frame) meets the
lower lip's lower edge to the corner of the mouth, as in the clinic: a mouth that is pulled to one side, or an eye that
shuts, does not take the midline with it.
``palpebral_fissure``: mean of two heights between the lids.
``brow_height``: of the brow's middle three points above the line through the corners of both eyes.
"""

_CORNER = {"left": 54, "right": 48}
_LIP, _BRIDGE = 57, 27
_LIDS = {"left": ((43, 47), (44, 46)), "right": ((37, 41), (38, 40))}
_EYE = {"left": (42, 45), "right": (36, 39)}
_BROW = {"left": (23, 24, 25), "right": (18, 19, 20)}

TOGETHER = 16
"""Faces that are measured together."""

_FLIP = torch.tensor([[-1.0], [1.0], [1.0]])
"""The mirror image of points ``(3, N)`` through the mid-sagittal plane."""

FACE_REACH = 1.05
"""The face of the mesh measures: skin within this many times the farthest landmark from the landmarks' centre."""


def measures(fit: FaceFit, model: MorphableModel) -> dict[str, float]:
    """All of :data:`MEASURES` for one fit, in mm; nan for a fit without coefficients."""
    return measures_of([fit], model)[0]


def measures_of(fits: Sequence[FaceFit], model: MorphableModel) -> list[dict[str, float]]:
    """:func:`measures` of many fits, computed together; the last bits do not depend on the number of threads."""
    having = [f for f in fits if len(f.expression)]
    parts = [having[i : i + TOGETHER] for i in range(0, len(having), TOGETHER)]
    mesh = _MeshBasis.of(model)  # before the threads: it is made once

    def measured(part: list[FaceFit]) -> list[dict[str, float]]:
        identity = torch.from_numpy(np.stack([f.identity for f in part]).astype(np.float32))
        expression = torch.from_numpy(np.stack([f.expression for f in part]).astype(np.float32))
        rows = mesh.measures(identity, expression).tolist()
        points = clinical_from_points(lifted_landmarks(part, model))
        return [
            {**dict(zip(MESH, row, strict=True)), **{k: float(v[i]) for k, v in points.items()}}
            for i, row in enumerate(rows)
        ]

    found = iter([row for part in in_threads(measured, parts) for row in part])
    return [next(found) if len(f.expression) else dict.fromkeys(MEASURES, math.nan) for f in fits]


def mesh_measures(model: MorphableModel, identity: np.ndarray, expression: np.ndarray) -> dict[str, float]:
    """The :data:`MESH` measures of coefficients ``(Ki,)`` and ``(Ks,)``, in mm."""
    one = (torch.as_tensor(c, dtype=torch.float32)[None] for c in (identity, expression))
    return dict(zip(MESH, _MeshBasis.of(model).measures(*one)[0].tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class _MeshBasis:
    """What the mesh measures need of a model, components before vertices so that each is one run of memory.

    F face vertices (:func:`face_vertices`) in H pairs of partners, the midline's with themselves; S skin vertices.
    """

    mean: Tensor  # (3, 2H) cm: of the pairs' first vertices, then of their partners
    identity: Tensor  # (Ki, 3 · 2H)
    expression: Tensor  # (Ks, 3 · S)
    mirror: Tensor  # (S,) each skin vertex' partner
    pairs: Tensor  # (2H,) rows of the skin
    share: Tensor  # (H,) of the F vertices that a pair stands for: 2 / F, or 1 / F on the midline

    @classmethod
    def of(cls, model: MorphableModel) -> _MeshBasis:
        """Made once a model."""
        cached: _MeshBasis | None = vars(model).get("_mesh_basis")
        if cached is None:
            from ..intervention import skin_vertices

            skin, face = skin_vertices(model), face_vertices(model)
            where = np.full(len(model.mirror), -1)
            where[skin] = np.arange(len(skin))
            first = face[face <= model.mirror[face]]
            pairs = np.concatenate([first, model.mirror[first]])
            share = np.where(model.mirror[first] == first, 1.0, 2.0) / len(face)
            rows = torch.from_numpy(pairs)

            def flat(basis: Tensor, at: Tensor) -> Tensor:
                picked = basis.detach().cpu()[:, at].transpose(1, 2)
                return picked.reshape(len(basis), -1).contiguous()

            cached = cls(
                model.mean.detach().cpu()[rows].T.contiguous(),
                flat(model.identity_basis, rows),
                flat(model.sided.basis, torch.from_numpy(skin)),
                torch.from_numpy(where[model.mirror[skin]]),
                torch.from_numpy(where[pairs]),
                torch.from_numpy(share),
            )
            vars(model)["_mesh_basis"] = cached
        return cached

    def measures(self, identity: Tensor, expression: Tensor) -> Tensor:
        """The :data:`MESH` measures ``(B, 4)`` of coefficients ``(B, Ki)`` and ``(B, Ks)``, in mm."""
        batch = len(identity)
        moved = (expression @ self.expression).reshape(batch, 3, -1)  # (B, 3, S) cm, whatever the identity
        rest = self.mean + (identity @ self.identity).reshape(batch, 3, -1)
        index = self._asymmetry_index(torch.stack([rest, rest + moved[..., self.pairs]]))
        uneven = moved - moved[..., self.mirror] * _FLIP
        realised = [v.square().sum(dim=1).sqrt().mean(dim=-1).double() for v in (0.5 * uneven, moved)]
        return 10 * torch.stack([*index, *realised], dim=-1)

    def _asymmetry_index(self, pairs: Tensor) -> Tensor:
        """:func:`asymmetry_index` in cm, ``(…)`` of meshes ``(…, 3, 2H)``, from one vertex of each pair.

        With a_i the one and b_i its partner's mirror image, both from their centres, the cross-covariance over all
        vertices is C + F Cᵀ F, C = Σ b aᵀ and F = diag(−1, 1, 1); the best turn then takes pairs to pairs, and both
        vertices of one are equally far off.
        """
        here, there = pairs.double().chunk(2, dim=-1)
        there = there * _FLIP
        centre = (self.share * 0.5 * (here + there * _FLIP)).sum(dim=-1, keepdim=True)
        here, there = here - centre, there - centre * _FLIP
        c = 0.5 * (there * self.share) @ here.transpose(-1, -2)
        u, _, vt = torch.linalg.svd(c + _FLIP * c.transpose(-1, -2) * _FLIP.T)
        proper = torch.ones_like(u[..., :1, :])
        proper[..., 2] = torch.linalg.det(u @ vt).sign()[..., None]
        turn = (u * proper) @ vt
        off = here - turn.transpose(-1, -2) @ there
        return 0.5 * (self.share * off.square().sum(dim=-2).sqrt()).sum(dim=-1)


def asymmetry_index(vertices: np.ndarray, mirror: np.ndarray, rows: np.ndarray) -> float:
    """Half the mean distance in mm of ``vertices (V, 3)`` (cm) at ``rows`` from their mirror image, rigidly aligned (Kabsch).

    The plane of symmetry is thus the face's own best one, not the model's. ``rows`` must be closed under ``mirror``. The
    fits' measures compute the same for many faces at once.
    """
    here = vertices[rows].astype(np.float64)
    there = vertices[mirror[rows]].astype(np.float64) * (-1.0, 1.0, 1.0)
    here, there = here - here.mean(axis=0), there - there.mean(axis=0)
    u, _, vt = np.linalg.svd(there.T @ here)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return float(10 * 0.5 * np.linalg.norm(here - there @ turn, axis=1).mean())


def face_vertices(model: MorphableModel) -> np.ndarray:
    """Rows of the skin around the landmarks, closed under mirroring."""
    from ..intervention import skin_vertices

    cached: np.ndarray | None = vars(model).get("_face_vertices")
    if cached is None:
        mean = model.mean.detach().cpu().numpy()
        points = model.landmarks(model.mean[None])[0].detach().cpu().numpy()
        centre = points.mean(axis=0) * (0.0, 1.0, 1.0)
        skin = skin_vertices(model)
        inside = np.zeros(len(mean), dtype=bool)
        inside[skin] = (
            np.linalg.norm(mean[skin] - centre, axis=1) <= FACE_REACH * np.linalg.norm(points - centre, axis=1).max()
        )
        inside[skin] &= mean[skin, 2] >= points[:, 2].min()  # the front of the head
        inside &= inside[model.mirror]
        cached = np.flatnonzero(inside)
        vars(model)["_face_vertices"] = cached
    return cached


def lifted_landmarks(fits: Sequence[FaceFit], model: MorphableModel) -> np.ndarray:
    """The detected landmarks ``(B, 68, 3)`` in cm, head's frame: on their rays, as far away as where the fits put them."""
    fitted = np.empty((len(fits), 68, 3))
    for mediapipe in {f.landmarks_478 is not None for f in fits}:
        mean, basis = _landmark_basis(model, mediapipe)
        rows = [i for i, f in enumerate(fits) if (f.landmarks_478 is not None) == mediapipe]
        coefficients = np.stack([np.concatenate([fits[i].identity, fits[i].expression]) for i in rows])
        fitted[rows] = (mean + coefficients.astype(np.float64) @ basis).reshape(-1, 68, 3)
    R, t, K = (np.stack([np.asarray(getattr(f, k), dtype=np.float64) for f in fits]) for k in ("R", "t", "K"))
    depth = fitted @ R[:, 2, :, None] + t[:, 2, None, None]
    pixels = np.stack([f.landmarks for f in fits]).astype(np.float64)
    ray = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=-1) @ np.linalg.inv(K).transpose(0, 2, 1)
    return (ray * depth - t[:, None]) @ R


def _landmark_basis(model: MorphableModel, mediapipe: bool) -> tuple[np.ndarray, np.ndarray]:
    """The 68 landmarks on the mesh: mean ``(204,)`` and basis ``(Ki + Ks, 204)`` float64 cm. Made once a model and kind."""
    cached: dict[bool, tuple[np.ndarray, np.ndarray]] = vars(model).setdefault("_measured_landmarks", {})
    if mediapipe not in cached:
        corners, weights, _ = places(model, mediapipe)
        bases = [gather(b, corners, weights) for b in (model.identity_basis, model.sided.basis)]
        mean = gather(model.mean, corners, weights)
        cached[mediapipe] = mean.reshape(-1), np.concatenate(bases).reshape(-1, mean.size)
    return cached[mediapipe]


def clinical_measures(fit: FaceFit, model: MorphableModel) -> dict[str, float]:
    """The :data:`CLINICAL` measures of the detected landmarks, left and right, in mm."""
    return {k: float(v[0]) for k, v in clinical_from_points(lifted_landmarks([fit], model)).items()}


def clinical_from_points(points: np.ndarray) -> dict[str, np.ndarray]:
    """The :data:`CLINICAL` measures ``(…)`` of 68 points ``(…, 68, 3)`` in cm, +X the subject's left, +Y up; in mm.

    Only x and y are used: depth is the model's guess.
    """
    flat = 10 * np.asarray(points, dtype=np.float64)[..., :2]
    right, left = (flat[..., list(_EYE[s]), :].mean(axis=-2) for s in ("right", "left"))
    across = (left - right) / np.linalg.norm(left - right, axis=-1, keepdims=True)
    up = np.stack([-across[..., 1], across[..., 0]], axis=-1)
    lip = np.stack([flat[..., _BRIDGE, 0], flat[..., _LIP, 1]], axis=-1)
    found: dict[str, np.ndarray] = {}
    for side in ("left", "right"):
        found[f"commissure_excursion_{side}_mm"] = np.linalg.norm(flat[..., _CORNER[side], :] - lip, axis=-1)
        lids = [((flat[..., a, :] - flat[..., b, :]) * up).sum(axis=-1) for a, b in _LIDS[side]]
        found[f"palpebral_fissure_{side}_mm"] = np.mean(lids, axis=0)
        brow = flat[..., list(_BROW[side]), :].mean(axis=-2) - right
        found[f"brow_height_{side}_mm"] = (brow * up).sum(axis=-1)
    return {k: found[k] for k in MEASURES if k in found}


def symmetrized(expression: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The expression ``(…, Ks)`` averaged with its mirror image; ``partner (Ks,)`` of the model's sided basis."""
    return np.asarray(0.5 * (expression + expression[..., partner]), dtype=expression.dtype)
