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
from .solver import Problem, Solution, reduced_identity_equations, solve

ROUNDS = 8
HALVINGS = 4
TOLERANCE = 1e-3
"""Relative fall of the joint energy at which the identity has been found."""


def solve_same_person(basis: LandmarkBasis, problems: Sequence[Problem]) -> list[Solution]:
    """Solve ``problems`` (any number of faces each) for one identity; a solution each, in order."""
    alone = [solve(basis, p) for p in problems]
    if sum(len(s.energy) for s in alone) == 1:
        return alone
    gradient, information = _equations(basis, problems, alone)
    # The mean of the photos' own identities, each weighted by what its photo can tell.
    identity = torch.linalg.solve(information + _eye(information), _weighted(basis, problems, alone))
    found, energy = _held(basis, problems, identity)
    for _ in range(ROUNDS):
        gradient, information = _equations(basis, problems, found)
        step = -torch.linalg.solve(information + _eye(information), gradient + identity)
        for _ in range(HALVINGS):
            tried, new = _held(basis, problems, identity + step)
            if new < energy:
                break
            step = step / 2
        else:
            break
        fall = (energy - new) / new
        identity, found, energy = identity + step, tried, new
        if fall < TOLERANCE:
            break
    return found


def _held(basis: LandmarkBasis, problems: Sequence[Problem], identity: Tensor) -> tuple[list[Solution], float]:
    """Every photo with ``identity (Kr,)``, and the joint energy."""
    found = [solve(basis, replace(p, identity=identity.expand(len(p.pixels), -1))) for p in problems]
    prior = float(identity @ identity)
    return found, sum(float(s.energy.sum()) - len(s.energy) * prior for s in found) + prior


def _equations(basis: LandmarkBasis, problems: Sequence[Problem], found: Sequence[Solution]) -> tuple[Tensor, Tensor]:
    """Gradient ``(Kr,)`` and information ``(Kr, Kr)`` of the landmarks about the identity, summed over the photos."""
    parts = [reduced_identity_equations(basis, p, s) for p, s in zip(problems, found, strict=True)]
    return sum_of([g for g, _ in parts]), sum_of([h for _, h in parts])


def _weighted(basis: LandmarkBasis, problems: Sequence[Problem], found: Sequence[Solution]) -> Tensor:
    total = []
    for p, s in zip(problems, found, strict=True):
        gradient, information = reduced_identity_equations(basis, p, s)
        total.append((information @ s.identity[..., None])[..., 0] - gradient)
    return sum_of(total)


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """The sum over the faces of all parts ``(B, …)``."""
    return torch.stack([p.sum(dim=0) for p in parts]).sum(dim=0)


def _eye(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
