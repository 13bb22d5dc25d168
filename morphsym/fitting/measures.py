"""Observational measures of a fitted face: how asymmetric it is, and the distances that clinicians measure.

Two kinds, because they answer different questions. The **mesh** measures come from the fitted coefficients and compare with
what the tool does to faces. The **clinical** measures come from the *detected* landmarks, which no model has made more
symmetric: each is put on its ray at the depth of the fitted mesh, so that pixels become millimetres and the pose drops
out. Their scale is the model's (a photo has none): the ratio of left to right does not depend on it.

Left and right are the subject's. Distances are mm in the head's frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..types import FaceFit
from .correspondence import places

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

FACE_REACH = 1.05
"""The face of the mesh measures: skin within this many times the farthest landmark from the landmarks' centre."""


def measures(fit: FaceFit, model: MorphableModel) -> dict[str, float]:
    """All of :data:`MEASURES` for one fit, in mm; nan for a fit without coefficients."""
    if not len(fit.expression):
        return dict.fromkeys(MEASURES, math.nan)
    return {**mesh_measures(model, fit.identity, fit.expression), **clinical_measures(fit, model)}


def mesh_measures(model: MorphableModel, identity: np.ndarray, expression: np.ndarray) -> dict[str, float]:
    """The :data:`MESH` measures of coefficients ``(Ki,)`` and ``(Ks,)``, in mm."""
    from ..intervention import measure

    rest = np.zeros_like(expression)
    both = model.forward(
        torch.as_tensor(identity, dtype=torch.float32)[None].expand(2, -1),
        torch.as_tensor(np.stack([rest, expression]), dtype=torch.float32),
    ).numpy()
    realised = measure(model, np.asarray(expression, dtype=np.float32)[None])
    face = face_vertices(model)
    index = [asymmetry_index(v, model.mirror, face) for v in both]
    values = (*index, float(realised.asymmetry[0]), float(realised.intensity[0]))
    return dict(zip(MESH, values, strict=True))


def asymmetry_index(vertices: np.ndarray, mirror: np.ndarray, rows: np.ndarray) -> float:
    """Half the mean distance in mm of ``vertices (V, 3)`` (cm) at ``rows`` from their mirror image, rigidly aligned (Kabsch).

    The plane of symmetry is thus the face's own best one, not the model's. ``rows`` must be closed under ``mirror``.
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


def lifted_landmarks(fit: FaceFit, model: MorphableModel) -> np.ndarray:
    """The detected landmarks ``(68, 3)`` in cm, head's frame: on their rays, as far away as where the fit puts them."""
    vertices = model.forward(
        torch.as_tensor(fit.identity, dtype=torch.float32)[None],
        torch.as_tensor(fit.expression, dtype=torch.float32)[None],
    )[0].numpy()
    corners, weights, _ = places(model, fit.landmarks_478 is not None)
    fitted = np.einsum("nkc,nk->nc", vertices[corners], weights) @ np.asarray(fit.R).T + fit.t
    ray = np.c_[fit.landmarks.astype(np.float64), np.ones(68)] @ np.linalg.inv(fit.K).T
    return (ray * fitted[:, 2:] - fit.t) @ np.asarray(fit.R)


def clinical_measures(fit: FaceFit, model: MorphableModel) -> dict[str, float]:
    """The :data:`CLINICAL` measures of the detected landmarks, left and right, in mm."""
    return clinical_from_points(lifted_landmarks(fit, model))


def clinical_from_points(points: np.ndarray) -> dict[str, float]:
    """The :data:`CLINICAL` measures of 68 points ``(68, 3)`` in cm, +X the subject's left, +Y up; in mm.

    Only x and y are used: depth is the model's guess.
    """
    flat = 10 * np.asarray(points, dtype=np.float64)[:, :2]
    right, left = (flat[list(_EYE[s])].mean(axis=0) for s in ("right", "left"))
    across = (left - right) / np.linalg.norm(left - right)
    up = np.array([-across[1], across[0]])
    lip = np.array([flat[_BRIDGE, 0], flat[_LIP, 1]])
    found: dict[str, float] = {}
    for side in ("left", "right"):
        found[f"commissure_excursion_{side}_mm"] = float(np.linalg.norm(flat[_CORNER[side]] - lip))
        found[f"palpebral_fissure_{side}_mm"] = float(np.mean([(flat[a] - flat[b]) @ up for a, b in _LIDS[side]]))
        found[f"brow_height_{side}_mm"] = float((flat[list(_BROW[side])].mean(axis=0) - right) @ up)
    return {k: found[k] for k in MEASURES if k in found}


def symmetrized(expression: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The expression ``(…, Ks)`` averaged with its mirror image; ``partner (Ks,)`` of the model's sided basis."""
    return np.asarray(0.5 * (expression + expression[..., partner]), dtype=expression.dtype)
