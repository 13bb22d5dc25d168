"""The intensity-matched symmetric control, and what an edit did to the mesh.

``matched`` weakens both sides by one strength μ such that as much of the expression is left as under the unilateral
weakness λ. How much is left is, by rule:

- ``mesh`` (the default): the sum over the skin's vertices of their distance from rest, in cm;
- ``landmarks``: the same over the 68 landmarks;
- ``coefficients``: the sum of the absolute coefficients of the shapes in question.

With the displacement split into what is kept, a, and what is weakened, b, the amount left is Σ|a + (1 − μ) b|: a convex
function of μ, found by bisection for all conditions of a unit at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..errors import MorphsymError
from ..faces import MorphableModel
from ..faces.split import MIRROR68

_BISECTIONS = 40  # 2^-40: far below what float32 coefficients resolve
_REST = 1e-9  # cm; an expression of less than this in total is rest


class MatchError(MorphsymError):
    """No bilateral strength leaves as much expression as the unilateral one; the condition fails with this reason."""


@dataclass(frozen=True)
class Realised:
    """What a condition did to the mesh. Millimetres, averaged over the skin's vertices."""

    asymmetry: np.ndarray  # (N,) mean distance between a vertex' displacement and its mirror partner's, mirrored
    intensity: np.ndarray  # (N,) mean displacement from rest
    left: np.ndarray  # (N,) the same over the subject's left hemiface (hemiface weights)
    right: np.ndarray  # (N,) over the right


@lru_cache(maxsize=8)
def _tracked(model: MorphableModel, rule: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that are followed: basis (Ks, P, 3) float32, mirror (P,), left weight (P,)."""
    basis = model.sided.basis.detach().cpu().numpy()
    if rule == "landmarks":
        triangles, weights = model.landmarks68
        corners = model.faces[triangles]  # (68, 3)
        points = np.einsum("kpcx,pc->kpx", basis[:, corners], weights).astype(np.float32)
        left = np.einsum("pc,pc->p", model.hemiface_left[corners], weights)
        return points, MIRROR68, left
    skin = skin_vertices(model)
    where = np.full(len(model.mirror), -1)
    where[skin] = np.arange(len(skin))
    return np.ascontiguousarray(basis[:, skin]), where[model.mirror[skin]], model.hemiface_left[skin]


def skin_vertices(model: MorphableModel) -> np.ndarray:
    """Indices of the skin's vertices (all vertices where the model names no skin), closed under mirroring."""
    names = [n for n in model.part_names if "skin" in n.lower() or n.lower() == "face"]
    if not names:
        return np.arange(len(model.mirror))
    wanted = [model.part_names.index(n) for n in names]
    inside = np.zeros(len(model.mirror), dtype=bool)
    inside[np.unique(model.faces[np.isin(model.part, wanted)])] = True
    inside &= inside[model.mirror]
    return np.flatnonzero(inside)


def measure(model: MorphableModel, coefficients: np.ndarray) -> Realised:
    """Realised asymmetry and intensity of expression coefficients ``(N, Ks)``, whatever the identity.

    The asymmetry of a mirror-symmetric expression is 0; a displacement field d is compared with its own mirror image
    M d (partner vertices, x negated) as mean ½|d − M d|.
    """
    basis, mirror, left = _tracked(model, "mesh")
    d = _field(basis, coefficients)
    size = np.linalg.norm(d, axis=2)
    mirrored = d[:, mirror] * np.array([-1.0, 1.0, 1.0], dtype=d.dtype)
    asymmetry = 0.5 * np.linalg.norm(d - mirrored, axis=2)
    weight = left / left.sum()
    other = (1.0 - left) / (1.0 - left).sum()
    return Realised(10 * asymmetry.mean(axis=1), 10 * size.mean(axis=1), 10 * size @ weight, 10 * size @ other)


def mean_displacement(model: MorphableModel, changes: np.ndarray) -> np.ndarray:
    """(N,) mm: how far expression ``changes`` (N, Ks) move the skin's vertices, on average."""
    basis, _, _ = _tracked(model, "mesh")
    return 10 * np.linalg.norm(_field(basis, changes), axis=2).mean(axis=1)


def _field(basis: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(N, P, 3) float32 cm: where ``coefficients`` (N, Ks) take the points of ``basis`` (Ks, P, 3)."""
    active = np.flatnonzero(np.any(coefficients != 0, axis=0))
    flat = basis[active].reshape(len(active), 3 * basis.shape[1])
    return np.asarray((coefficients[:, active] @ flat).reshape(-1, basis.shape[1], 3))


@lru_cache(maxsize=8)
def turn_axis(model: MorphableModel) -> np.ndarray:
    """A point (3,) cm of the vertical axis about which the placebo turns the head: midway between the ears of the mean
    head (the ends of the jaw line, landmarks 1 and 17), about where the first vertebra lets a head turn."""
    ends = model.landmarks(model.mean[None])[0, [0, 16]].detach().cpu().numpy()
    return np.array([0.0, *ends.mean(axis=0)[1:]], dtype=np.float64)


def turn_for(model: MorphableModel, vertices: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Angles (N,) in degrees, ≥ 0, of head turns that move the skin of ``vertices`` (V, 3) by ``displacement`` (N,) mm on
    average. A turn by θ moves a point at distance ρ from the axis by 2 ρ sin(θ/2)."""
    skin = vertices[skin_vertices(model)].astype(np.float64) - turn_axis(model)
    mean = 10 * np.hypot(skin[:, 0], skin[:, 2]).mean()  # mm
    return np.degrees(2 * np.arcsin(np.minimum(displacement / (2 * mean), 1.0)))


def turned(model: MorphableModel, vertices: Tensor, degrees: np.ndarray) -> Tensor:
    """``vertices`` (N, V, 3), each turned about :func:`turn_axis` by ``degrees`` (N,), positive to the subject's left.
    What is turned by 0 is returned bit for bit."""
    moving = np.flatnonzero(degrees)
    if not len(moving):
        return vertices
    out = vertices.clone()
    centre = torch.as_tensor(turn_axis(model), dtype=vertices.dtype, device=vertices.device)
    for i in moving:
        c, s = math.cos(math.radians(degrees[i])), math.sin(math.radians(degrees[i]))
        turn = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]], dtype=vertices.dtype, device=vertices.device)
        out[i] = (vertices[i] - centre) @ turn.T + centre
    return out


def matched_strengths(
    model: MorphableModel,
    coefficients: np.ndarray,
    reached: np.ndarray,
    unilateral: np.ndarray,
    rule: str = "mesh",
) -> np.ndarray:
    """Bilateral strengths μ that leave as much expression as each of the ``unilateral`` edits.

    ``coefficients`` (Ks,) are the factual ones, ``reached`` (Ks,) bool the shapes of *both* sides that the weakness
    reaches, or float in [0, 1]: how far a whole weakness takes each of them (a clinical pattern); ``unilateral`` (N, Ks)
    the edited coefficients. Returns (N,) float64 in [0, 1]; NaN where no strength does (opposing shapes can make a face
    move *more* when one of them is weakened). A factual face at rest gives 0.
    """
    weight = reached.astype(coefficients.dtype)
    if rule == "coefficients":
        there = weight > 0
        total = np.abs(coefficients[there] * weight[there]).sum()  # what a whole weakness takes away
        lost = (np.abs(coefficients[there]) - np.abs(unilateral[:, there])).sum(axis=1)
        return lost / total if total > 0 else np.zeros(len(unilateral))
    basis, _, _ = _tracked(model, rule)
    active = np.flatnonzero((coefficients != 0) | np.any(unilateral != 0, axis=0))
    points = basis.shape[1]
    flat = basis[active].reshape(len(active), 3 * basis.shape[1])

    def field(c: np.ndarray) -> np.ndarray:
        return (c[..., active].astype(np.float32) @ flat).reshape(*c.shape[:-1], points, 3).astype(np.float64)

    kept = field(coefficients * (1 - weight))
    moved = field(coefficients * weight)
    # |a + s b|² = aa + 2 s ab + s² bb: three numbers a point instead of a mesh a step
    aa, ab, bb = (np.einsum("px,px->p", u, v) for u, v in ((kept, kept), (kept, moved), (moved, moved)))

    def amount(s: np.ndarray) -> np.ndarray:
        s = s[:, None]
        return np.sqrt(np.maximum(aa + 2 * s * ab + s * s * bb, 0.0)).sum(axis=1)

    target = np.linalg.norm(field(unilateral), axis=2).sum(axis=1)
    full, none = amount(np.ones(1))[0], amount(np.zeros(1))[0]
    if full < _REST:
        return np.zeros(len(unilateral))
    tolerance = 1e-6 * full  # what float32 displacement fields resolve
    low, high = np.zeros(len(target)), np.ones(len(target))
    # more expression left, more displacement; the other way round where what is weakened opposes the rest
    opposed = none > full
    for _ in range(_BISECTIONS):  # the remaining share s = 1 - μ of the expression
        middle = 0.5 * (low + high)
        above = (amount(middle) > target) != opposed
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    share = 0.5 * (low + high)
    share = np.where(np.abs(target - full) <= tolerance, 1.0, share)
    share = np.where(np.abs(target - none) <= tolerance, 0.0, share)
    solved = np.abs(amount(share) - target) <= 10 * tolerance
    return np.where(solved, 1.0 - share, np.nan)
