"""A video's expression, smoothed over time: the joint maximum a posteriori of all frames under a random walk.

The energy is the sum of the frames' energies (:mod:`.solver`) and, between frames t and t + 1 and for each expression
variable k::

    Σ_t Σ_k (e_{k,t+1} − e_{k,t})² / q,    q = σ_k² · δ · Δ_t / τ²

``σ_k`` is the standard deviation of the frames' own prior, ``δ`` the median time between frames, ``Δ_t`` the time between
these two (so a gap binds less) and ``τ`` the smoothing time. A variable that a frame tells as well as its prior does is thus
averaged with the weights exp(−|time|/τ), the kernel of a random walk's smoother; one that the landmarks tell better is
smoothed less. It looks as far ahead as back: a video played backwards gives the same, backwards. Head pose, camera and
identity are not smoothed.

Given the expression the frames do not know of each other, so each round solves every frame with its expression held, takes
the Gauss–Newton equations of the expression with the frame's other unknowns eliminated, solves the block tridiagonal
system and steps; a step that raises the joint energy is halved. Time and memory are linear in the number of frames (34 kB
a frame for the bundled head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .basis import LandmarkBasis
from .joint import descend
from .solver import Problem, Solution, reduced_equations, solve

ROUNDS = 6
TOLERANCE = 1e-4
"""Relative fall of the joint energy at which the smoothing has come to rest."""


def smooth(
    bases: Sequence[LandmarkBasis],
    problems: Sequence[Problem],
    found: Sequence[Solution],
    times: Tensor,
    seconds: float,
) -> list[Solution]:
    """Smooth one video over ``seconds``; ``found`` are the frames' own solutions, ``times (T,)`` increasing.

    ``problems`` cut the T frames into consecutive batches; a held identity stays held.
    """
    if len(times) < 2 or seconds <= 0:
        return list(found)
    sigma = torch.cat([p.prior.precision.diagonal(dim1=1, dim2=2) for p in problems]).mean(dim=0) ** -0.5  # (Kd,)
    gap = times.diff()
    bond = seconds**2 / (sigma**2 * gap.median() * gap[:, None])  # (T − 1, Kd): 1/q
    low, high = problems[0].prior.low, problems[0].prior.high
    state = torch.cat([s.variables for s in found])

    def step(at: Tensor, found: list[Solution]) -> Tensor:
        parts = [reduced_equations(b, p, s, "variables") for b, p, s in zip(bases, problems, found, strict=True)]
        gradient, information = (torch.cat(x) for x in zip(*parts, strict=True))
        gradient = gradient + _bond_gradient(at, bond)
        blocked = ((at <= low) & (gradient > 0)) | ((at >= high) & (gradient < 0))
        return -_solve_chain(information, bond, gradient, ~blocked)

    return descend(
        state, lambda at: _held(bases, problems, at, bond), step, lambda at: at.clamp(low, high), ROUNDS, TOLERANCE
    )


def _held(
    bases: Sequence[LandmarkBasis], problems: Sequence[Problem], state: Tensor, bond: Tensor
) -> tuple[list[Solution], float]:
    """Every frame with the expression ``state (T, Kd)``, and the joint energy."""
    parts = state.split([len(p.pixels) for p in problems])
    found = [solve(b, replace(p, variables=v)) for b, p, v in zip(bases, problems, parts, strict=True)]
    walk = float((bond * state.diff(dim=0) ** 2).sum())
    return found, sum(float(s.energy.sum()) for s in found) + walk


def _bond_gradient(state: Tensor, bond: Tensor) -> Tensor:
    """Half the gradient ``(T, Kd)`` of the random walk's energy."""
    pull = bond * state.diff(dim=0)
    out = torch.zeros_like(state)
    out[:-1] -= pull
    out[1:] += pull
    return out


def _solve_chain(information: Tensor, bond: Tensor, gradient: Tensor, free: Tensor) -> Tensor:
    """``x (T, Kd)`` of the block tridiagonal system with diagonal blocks ``information (T, Kd, Kd)`` plus the bonds,
    and ``−bond`` beside the diagonal; rows that are not ``free`` are 0."""
    mask = free.to(gradient)
    diagonal = torch.zeros_like(gradient)
    diagonal[:-1] += bond
    diagonal[1:] += bond
    blocks = information + torch.diag_embed(diagonal)
    blocks = blocks * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1.0 - mask)
    side = bond * mask[:-1] * mask[1:]
    right = gradient * mask
    # Block Cholesky along the chain (Thomas), forwards and back.
    factors: list[Tensor] = []
    carried: list[Tensor] = []
    block, value = blocks[0], right[0]
    for t in range(len(blocks)):
        if t:
            inverse = torch.cholesky_inverse(factors[-1])
            block = blocks[t] - side[t - 1][:, None] * inverse * side[t - 1][None]
            value = right[t] + side[t - 1] * (inverse @ carried[-1])
        factors.append(torch.linalg.cholesky(block))
        carried.append(value)
    out = torch.zeros_like(gradient)
    ahead = torch.zeros_like(gradient[0])
    for t in range(len(blocks) - 1, -1, -1):
        value = carried[t] + (side[t] * ahead if t < len(side) else 0)
        ahead = torch.cholesky_solve(value[:, None], factors[t])[:, 0]
        out[t] = ahead
    return out
