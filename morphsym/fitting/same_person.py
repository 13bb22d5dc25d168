"""Several photos of one person: one identity, an expression, pose and camera for each; the joint maximum a posteriori.

The energy is the sum of the photos' energies with the identity's prior counted once. It has the shape of an arrow: given
the identity, the photos do not know of each other. So each round solves every photo with the identity held, takes the
Gauss–Newton equations of each photo with its own unknowns eliminated (Schur complement; those at a wall of the box
stay there), adds them up and steps in the identity. A step that raises the joint energy is halved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .basis import LandmarkBasis
from .joint import descend
from .solver import Problem, Solution, reduced_equations, solve

ROUNDS = 8
TOLERANCE = 1e-3
"""Relative fall of the joint energy at which the identity has been found."""


def common_directions(bases: Sequence[LandmarkBasis]) -> list[LandmarkBasis]:
    """``bases`` of different kinds of landmarks with their identities along the same directions: all that any of them sees."""
    first = bases[0].to_identity
    if all(b.to_identity is first for b in bases):
        return list(bases)
    seen = list({id(b): b.to_identity for b in bases}.values())
    u, s, _ = torch.linalg.svd(torch.cat(seen, dim=1), full_matrices=False)
    directions = u[:, s > 1e-6 * s[0]]
    return [_along(b, directions) for b in bases]


def _along(basis: LandmarkBasis, directions: Tensor) -> LandmarkBasis:
    turn = basis.to_identity.T @ directions
    return replace(
        basis, identity=basis.identity @ turn, path_identity=basis.path_identity @ turn, to_identity=directions
    )


def solve_same_person(bases: Sequence[LandmarkBasis], problems: Sequence[Problem]) -> list[Solution]:
    """Solve ``problems`` (any number of faces each) for one identity; a solution each, in order.

    ``bases``: one a problem, with their identities along the same directions (:func:`common_directions`).
    """
    alone = [solve(b, p) for b, p in zip(bases, problems, strict=True)]
    if sum(len(s.energy) for s in alone) == 1:
        return alone
    # The mean of the photos' own identities, each weighted by what its photo can tell.
    gradient, information = _equations(bases, problems, alone, own=True)
    identity = torch.linalg.solve(information + _eye(information), -gradient)

    def step(at: Tensor, found: list[Solution]) -> Tensor:
        gradient, information = _equations(bases, problems, found)
        return -torch.linalg.solve(information + _eye(information), gradient + at)

    return descend(identity, lambda at: _held(bases, problems, at), step, lambda at: at, ROUNDS, TOLERANCE)


def _held(
    bases: Sequence[LandmarkBasis], problems: Sequence[Problem], identity: Tensor
) -> tuple[list[Solution], float]:
    """Every photo with ``identity (Kr,)``, and the joint energy."""
    found = [
        solve(b, replace(p, identity=identity.expand(len(p.pixels), -1))) for b, p in zip(bases, problems, strict=True)
    ]
    prior = float(identity @ identity)
    return found, sum(float(s.energy.sum()) - len(s.energy) * prior for s in found) + prior


def _equations(
    bases: Sequence[LandmarkBasis], problems: Sequence[Problem], found: Sequence[Solution], own: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradient ``(Kr,)`` and information ``(Kr, Kr)`` of the landmarks about the identity, summed over the photos.

    ``own``: the gradient at identity 0 of each photo's quadratic model in place of that at its own identity.
    """
    parts = []
    for b, p, s in zip(bases, problems, found, strict=True):
        g, h = reduced_equations(b, p, s, "identity")
        parts.append((g - (h @ s.identity[..., None])[..., 0] if own else g, h))
    return sum_of([g for g, _ in parts]), sum_of([h for _, h in parts])


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """The sum over the faces of all parts ``(B, …)``."""
    return torch.stack([p.sum(dim=0) for p in parts]).sum(dim=0)


def _eye(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
