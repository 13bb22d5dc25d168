"""Batched Levenberg–Marquardt fit of a 3DMM to landmarks, with an analytic Jacobian.

The unknowns and the energy are those of :mod:`.energy`; the box ``low ≤ e ≤ high`` of the expression is kept by projection: a
variable at a bound that the gradient pushes outwards is taken out of the step (Bertsekas 1982), and what a step would take
out of the box stops at its wall while the others are solved for again. Everything is linear algebra over the batch; faces
that have converged drop out.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from .basis import LandmarkBasis
from .energy import (
    ROBUST,
    Data,
    JoinedBasis,
    Problem,
    Solution,
    State,
    bounds,
    energy,
    equations,
    join,
    normal_equations,
    prepare,
    project,
    reduced_equations,
    step,
)
from .threads import in_threads

__all__ = [
    "ROBUST",
    "Problem",
    "Solution",
    "State",
    "bounds",
    "energy",
    "join",
    "normal_equations",
    "prepare",
    "project",
    "reduced_equations",
    "solve",
    "solve_step",
    "step",
]

ACTIVE_SET_PASSES = 3
"""How often a step is solved again without the variables that it would take out of the box."""


TOGETHER = 16
"""Faces whose equations are solved together on the CPU: what they need fits a core's cache."""


def solve(basis: LandmarkBasis, problem: Problem, iterations: int = 50, tolerance: float = 5e-4) -> Solution:
    """Fit every face of ``problem``. ``tolerance``: relative fall of the energy at which a face has converged.

    On the CPU faces are solved :data:`TOGETHER` at a time, on as many threads as torch may use. Which faces are solved
    together does not depend on the number of threads, and each set is solved on one, so the result does not either.
    """
    faces = len(problem.pixels)
    if problem.pixels.device.type != "cpu":
        return _solve(basis, problem, iterations, tolerance)
    parts = [
        problem if faces <= TOGETHER else _rows(problem, slice(i, i + TOGETHER)) for i in range(0, faces, TOGETHER)
    ]
    found = in_threads(lambda p: _solve(basis, p, iterations, tolerance), parts)
    if len(found) == 1:
        return found[0]
    return Solution(*(torch.cat([getattr(s, f.name) for s in found]) for f in fields(Solution)))


def _rows(problem: Problem, rows: slice) -> Problem:
    prior = replace(problem.prior, mean=problem.prior.mean[rows], precision=problem.prior.precision[rows])
    own: dict[str, Any] = {k: v[rows] for k, v in vars(problem).items() if isinstance(v, Tensor)}
    return replace(problem, prior=prior, **own)


def _solve(basis: LandmarkBasis, problem: Problem, iterations: int, tolerance: float) -> Solution:
    joined = join(basis, problem.prior)
    start, scale, data = prepare(joined, problem)
    low, high = bounds(joined, problem.prior)
    if problem.variables is not None:  # what is held may lie beyond the box
        low, high = torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf)
    state, *_ = _levenberg_marquardt(joined, data, start, low, high, 10, 1e-3, pose_only=True)
    held = problem.identity is not None, problem.variables is not None
    state, energy, converged, used = _levenberg_marquardt(
        joined, data, state, low, high, iterations, tolerance, held=held
    )
    image, points, _, _ = project(joined, data, state)
    squared = ((image - data.target) ** 2).sum(-1) * data.inverse_sigma**2
    tz = state.camera[:, 2].exp()
    return Solution(
        identity=state.identity,
        variables=state.variables,
        R=state.R,
        t=torch.stack([state.camera[:, 0] * tz, state.camera[:, 1] * tz, tz], dim=-1),
        focal=state.camera[:, 3].exp() * scale,
        projected=image * scale[:, None, None] + problem.size[:, None] / 2,
        points=points,
        weight=1.0 / (1.0 + squared / ROBUST**2) ** 2,
        energy=energy,
        converged=converged,
        iterations=used,
    )


def _levenberg_marquardt(
    basis: JoinedBasis, data: Data, state: State, low: Tensor, high: Tensor,
    iterations: int, tolerance: float, pose_only: bool = False, held: tuple[bool, bool] = (False, False),
) -> tuple[State, Tensor, Tensor, Tensor]:  # fmt: skip
    """Minimise the energy of every face; returns the state, the energy, which converged and the iterations used."""
    batch = len(state.identity)
    device = state.R.device
    final = {k: v.clone() for k, v in vars(state).items()}
    final_energy = torch.full((batch,), torch.inf, dtype=torch.float64, device=device)
    converged = torch.zeros(batch, dtype=torch.bool, device=device)
    used = torch.zeros(batch, dtype=torch.int64, device=device)
    alive = torch.arange(batch, device=device)  # faces still moving
    damping = torch.full((batch,), 1e-3, dtype=torch.float64, device=device)
    projected = project(basis, data, state)
    now = energy(data, projected[0], state)
    for iteration in range(iterations):
        gradient, hessian = equations(basis, data, state, projected, pose_only)
        delta = solve_step(gradient, hessian, damping, state, low, high, pose_only, held)
        trial = step(state, delta, low, high)
        projected = project(basis, data, trial)
        new = energy(data, projected[0], trial)
        better = new < now
        fall = torch.where(better, (now - new) / new.clamp_min(1e-12), 0.0)
        stop = (better & (fall < tolerance)) | (~better & (damping > 1e6))
        if better.all():
            state = trial
        else:
            state = State(*(torch.where(better.reshape(-1, *[1] * (b.ndim - 1)), b, a)
                             for a, b in zip(vars(state).values(), vars(trial).values(), strict=True)))  # fmt: skip
        now = torch.where(better, new, now)
        damping = torch.where(better, damping / 5, damping * 8).clamp(1e-9, 1e9)
        used[alive] = iteration + 1
        for k, v in vars(state).items():
            final[k][alive] = v
        final_energy[alive] = now
        converged[alive] = stop
        if stop.all():
            break
        if not (better | stop).all():  # what was projected is not where every face is
            projected = project(basis, data, state)
        if stop.any():
            go = ~stop
            alive, now, damping = alive[go], now[go], damping[go]
            state = State(*(v[go] for v in vars(state).values()))
            left: dict[str, Any] = {k: v[go] for k, v in vars(data).items() if isinstance(v, Tensor)}
            data = replace(data, **left)
            image, points, seen, shape = projected
            projected = image[go], points[go], seen[go], None if shape is None else shape[go]
    return State(**final), final_energy, converged, used


def solve_step(
    gradient: Tensor, hessian: Tensor, damping: Tensor, state: State, low: Tensor, high: Tensor, pose_only: bool,
    held: tuple[bool, bool] = (False, False),
) -> Tensor:  # fmt: skip
    """The damped Gauss–Newton step ``(B, P)``; 0 for variables at a bound, and for what is held: identity, expression."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    damped = hessian + torch.diag_embed(damping[:, None] * diagonal + 1e-12)
    if pose_only:
        return -torch.cholesky_solve(gradient[..., None], torch.linalg.cholesky(damped))[..., 0]
    x = torch.cat([state.identity, state.variables], dim=-1)
    pose = x.new_full((len(x), 7), torch.inf)
    lowest = torch.cat([low - x, -pose], dim=-1)  # of the step
    highest = torch.cat([high - x, pose], dim=-1)
    fixed = ((lowest >= 0) & (gradient > 0)) | ((highest <= 0) & (gradient < 0))
    kr = state.identity.shape[-1]
    if held[0]:
        fixed[:, :kr] = True
    if held[1]:
        fixed[:, kr:-7] = True
    delta = torch.zeros_like(gradient)
    rows = torch.arange(len(x), device=x.device)  # faces whose step is still to be solved for
    for attempt in range(ACTIVE_SET_PASSES):
        if attempt:  # what would leave the box stops at its wall, and the others are solved for again
            beyond = (delta < lowest) | (delta > highest)
            rows = beyond.any(dim=-1).nonzero()[:, 0]
            if not len(rows):
                break
            fixed[rows] |= beyond[rows]
            delta[rows] = torch.where(fixed[rows], delta[rows].clamp(lowest[rows], highest[rows]), 0.0)
        free = (~fixed[rows]).to(gradient)
        part = damped[rows] if len(rows) < len(x) else damped
        reduced = part * free[:, :, None]
        reduced *= free[:, None, :]
        reduced.diagonal(dim1=1, dim2=2).add_(1.0 - free)
        rhs = -(gradient[rows] + (part @ delta[rows][..., None])[..., 0]) * free
        factor, _ = torch.linalg.cholesky_ex(reduced)
        delta[rows] += torch.cholesky_solve(rhs[..., None], factor)[..., 0]
    return delta.clamp(lowest, highest)
