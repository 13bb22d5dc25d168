"""Batched Levenberg–Marquardt fit of a 3DMM to landmarks, with an analytic Jacobian.

Unknowns of a face, ``P = Kr + Kd + 7`` of them: identity along the directions that the landmarks see, the free expression
variables, a rotation increment ``ω`` (``R ← exp(ω) R``), the position as ``(t_x/t_z, t_y/t_z, log t_z)`` and ``log f``. The
energy, the negative log of the posterior up to a constant, is::

    Σ_i ρ(|r_i|² / σ_i²) + |identity|² + (e − ē)ᵀ Λ (e − ē) + (log f − log f₀)²/σ_f² + (log t_z − log d₀)²/σ_d²

with ``r_i`` the reprojection error of landmark i in cm at the face, ``ρ(s) = s / (1 + s/k²)`` the Geman–McClure
function (iteratively reweighted), and ``low ≤ e ≤ high`` kept by projection: a variable at a bound that the gradient pushes
outwards is taken out of the step (Bertsekas 1982). Everything is linear algebra over the batch; faces that have
converged drop out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .basis import LandmarkBasis
from .pose import cross_matrix, so3_exp, weak_perspective
from .priors import ExpressionPrior

ROBUST = 4.0
"""``k``: a landmark whose error is this many σ pulls half as hard as a quadratic loss would let it."""

DISTANCE_CM = 100.0
DISTANCE_SIGMA = 0.5
"""Prior of the camera's distance from the head: 37 to 270 cm within two standard deviations of its logarithm."""

FOCAL_PER_SIDE = 1.4
FOCAL_SIGMA = 0.8
"""Prior of the unknown focal length, by the longer side of the picture; wide, because photos are cropped."""

FOCAL_SIGMA_KNOWN = 0.02

ACTIVE_SET_PASSES = 3
"""How often a step is solved again without the variables that it would take out of the box."""


@dataclass(frozen=True, eq=False)
class Problem:
    """B faces to fit. All tensors float64 on one device."""

    pixels: Tensor  # (B, N, 2) landmarks, pixels
    sigma: Tensor  # (B, N) standard deviation of a landmark, cm at the face; inf: not used
    size: Tensor  # (B, 2) width and height of the picture, pixels
    focal: Tensor  # (B,) known focal length, pixels; nan: unknown
    prior: ExpressionPrior
    slide: bool = True  # contour landmarks follow the visible silhouette
    identity: Tensor | None = None  # (B, Kr) known identity: it is held
    variables: Tensor | None = None  # (B, Kd) known expression: it is held


@dataclass(frozen=True, eq=False)
class Solution:
    """The fit of B faces; leading dimension B everywhere."""

    identity: Tensor  # (B, Kr) along the basis's rotated directions
    variables: Tensor  # (B, Kd) free expression variables
    R: Tensor  # (B, 3, 3) head to camera
    t: Tensor  # (B, 3) cm
    focal: Tensor  # (B,) pixels
    projected: Tensor  # (B, N, 2) pixels
    points: Tensor  # (B, N, 3) landmarks in the head's frame, cm
    weight: Tensor  # (B, N) final robust weight of each landmark, 0 to 1
    energy: Tensor  # (B,)
    converged: Tensor  # (B,) bool
    iterations: Tensor  # (B,) int64


@dataclass(frozen=True, eq=False)
class State:
    """The unknowns of B faces where the solver is."""

    identity: Tensor
    variables: Tensor
    R: Tensor
    camera: Tensor  # (B, 4): t_x/t_z, t_y/t_z, log t_z, log f (f in units of the face's pixels per cm)


@dataclass(frozen=True, eq=False)
class _Data:
    """The problem in units of the face: image coordinates in cm at the face's distance, from the principal point."""

    target: Tensor  # (B, N, 2)
    inverse_sigma: Tensor  # (B, N)
    log_focal: Tensor  # (B,) prior mean
    focal_precision: Tensor  # (B,)
    mean: Tensor  # (B, Kd)
    precision: Tensor  # (B, Kd, Kd)
    slide: bool


@dataclass(frozen=True, eq=False)
class _Basis:
    """The bases with the expression ties applied: identity and expression side by side."""

    mean: Tensor  # (N, 3)
    shape: Tensor  # (N, 3, Kr + Kd)
    sliding: Tensor  # (C,)
    path_mean: Tensor  # (C, S, 3)
    path_normal: Tensor  # (C, S, 3)
    path_shape: Tensor  # (C, S, 3, Kr + Kd)
    identities: int


def solve(basis: LandmarkBasis, problem: Problem, iterations: int = 50, tolerance: float = 5e-4) -> Solution:
    """Fit every face of ``problem``. ``tolerance``: relative fall of the energy at which a face has converged."""
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


def join(basis: LandmarkBasis, prior: ExpressionPrior) -> _Basis:
    """The model's bases side by side, with the ties of the prior applied to the expression."""
    return _Basis(
        basis.mean,
        torch.cat([basis.identity, basis.expression @ prior.tie], dim=-1),
        torch.as_tensor(basis.sliding, device=basis.mean.device),
        basis.path_mean,
        basis.path_normal,
        torch.cat([basis.path_identity, basis.path_expression @ prior.tie], dim=-1),
        basis.identity.shape[-1],
    )


def bounds(basis: _Basis, prior: ExpressionPrior) -> tuple[Tensor, Tensor]:
    """Lowest and highest value ``(Kr + Kd,)`` of the shape's coefficients; the identity has no box."""
    free = prior.low.new_full((basis.identities,), torch.inf)
    return torch.cat([-free, prior.low]), torch.cat([free, prior.high])


def prepare(basis: _Basis, problem: Problem) -> tuple[State, Tensor, _Data]:
    """Where the solver starts, the pixels per cm ``(B,)``, and the problem in units of the face."""
    principal = problem.size / 2
    start, scale = _initial(basis, problem, principal)
    log_focal, precision = _focal_prior(problem)
    data = _Data(
        target=(problem.pixels - principal[:, None]) / scale[:, None, None],
        inverse_sigma=1.0 / problem.sigma,
        log_focal=log_focal - scale.log(),
        focal_precision=precision,
        mean=problem.prior.mean,
        precision=problem.prior.precision,
        slide=problem.slide,
    )
    return start, scale, data


def _focal_prior(problem: Problem) -> tuple[Tensor, Tensor]:
    """Mean of log f (pixels) and its precision, ``(B,)`` each."""
    known = ~problem.focal.isnan()
    guess = problem.size.max(dim=-1).values * FOCAL_PER_SIDE
    sigma = torch.where(known, FOCAL_SIGMA_KNOWN, FOCAL_SIGMA).to(guess)
    return torch.where(known, problem.focal, guess).log(), sigma**-2


def _initial(basis: _Basis, problem: Problem, principal: Tensor) -> tuple[State, Tensor]:
    """Mean identity, the prior's expression, and the pose from the affine camera; and the pixels per cm, ``(B,)``."""
    batch, kr = len(problem.pixels), basis.identities
    weights = 1.0 / problem.sigma**2
    weights = torch.where(weights.isfinite(), weights, torch.zeros_like(weights))
    if len(basis.sliding):  # the contour is least certain before the pose is known
        weights = weights.clone()
        weights[:, basis.sliding] *= 0.05
    R, scale, offset = weak_perspective(basis.mean, problem.pixels - principal[:, None], weights)
    log_focal, precision = _focal_prior(problem)
    # The focal length and distance that the two priors like best, given f / t_z = scale.
    d = 1.0 / DISTANCE_SIGMA**2
    log_f = (precision * log_focal + d * (scale * DISTANCE_CM).log()) / (precision + d)
    f = log_f.exp()
    camera = torch.stack([offset[:, 0] / f, offset[:, 1] / f, log_f - scale.log(), log_f - scale.log()], dim=-1)
    identity = basis.mean.new_zeros(batch, kr) if problem.identity is None else problem.identity.clone()
    variables = problem.prior.mean if problem.variables is None else problem.variables
    return State(identity, variables.clone(), R, camera), scale


def _slid(basis: _Basis, state: State) -> tuple[Tensor, Tensor]:
    """Where the contour landmarks are on their paths: mean ``(B, C, 3)`` and shape basis ``(B, C, 3, K)``.

    The first place from the ear that faces the camera, interpolated linearly between places.
    """
    tz = state.camera[:, 2].exp()
    t = torch.stack([state.camera[:, 0] * tz, state.camera[:, 1] * tz, tz], dim=-1)
    centre = -(state.R.transpose(1, 2) @ t[..., None])[..., 0]  # of the camera, head frame
    ray = centre[:, None, None] - basis.path_mean
    facing = (basis.path_normal * ray).sum(-1) / ray.norm(dim=-1)  # (B, C, S) cosine
    steps = facing.shape[-1]
    visible = facing >= 0
    first = torch.where(visible.any(-1), visible.int().argmax(-1), steps - 1)
    before = (first - 1).clamp_min(0)
    g1 = facing.gather(-1, first[..., None])[..., 0]
    g0 = facing.gather(-1, before[..., None])[..., 0]
    a = torch.where((first > 0) & (g1 > 0), -g0 / (g1 - g0).clamp_min(1e-9), torch.ones_like(g0)).clamp(0, 1)
    rows = torch.arange(facing.shape[1], device=facing.device)
    mean = basis.path_mean[rows, before] * (1 - a)[..., None] + basis.path_mean[rows, first] * a[..., None]
    w = a[..., None, None]
    return mean, basis.path_shape[rows, before] * (1 - w) + basis.path_shape[rows, first] * w


def _points(basis: _Basis, data: _Data, state: State) -> tuple[Tensor, Tensor | None]:
    """Landmarks in the head's frame ``(B, N, 3)``, and the slid rows of the shape basis."""
    coefficients = torch.cat([state.identity, state.variables], dim=-1)
    n = len(basis.mean)
    flat = basis.shape.reshape(n * 3, -1)
    points = basis.mean + (coefficients @ flat.T).reshape(-1, n, 3)
    if not data.slide or not len(basis.sliding):
        return points, None
    mean, shape = _slid(basis, state)
    points = points.index_copy(1, basis.sliding, mean + (shape @ coefficients[:, None, :, None])[..., 0])
    return points, shape


def project(basis: _Basis, data: _Data, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Image ``(B, N, 2)``, landmarks in the head's and the camera's frame ``(B, N, 3)``, slid shape rows."""
    points, shape = _points(basis, data, state)
    tz = state.camera[:, 2].exp()
    t = torch.stack([state.camera[:, 0] * tz, state.camera[:, 1] * tz, tz], dim=-1)
    seen = points @ state.R.transpose(1, 2) + t[:, None]
    z = seen[..., 2:].clamp_min(1.0)  # a centimetre: nothing can be closer
    return state.camera[:, 3, None, None].exp() * seen[..., :2] / z, points, seen, shape


def energy(data: _Data, image: Tensor, state: State) -> Tensor:
    squared = ((image - data.target) ** 2).sum(-1) * data.inverse_sigma**2
    robust = (squared / (1.0 + squared / ROBUST**2)).sum(-1)
    e = state.variables - data.mean
    shape = (state.identity**2).sum(-1) + (e * (data.precision @ e[..., None])[..., 0]).sum(-1)
    return robust + shape + _camera_energy(data, state)


def _camera_energy(data: _Data, state: State) -> Tensor:
    distance = (state.camera[:, 2] - torch.as_tensor(DISTANCE_CM).log()) / DISTANCE_SIGMA
    return distance**2 + data.focal_precision * (state.camera[:, 3] - data.log_focal) ** 2


def _pose_jacobian(state: State, seen: Tensor) -> tuple[Tensor, Tensor]:
    """``∂image/∂x_cam (B, N, 2, 3)`` and ``∂image/∂(ω, camera) (B, N, 2, 7)``."""
    f = state.camera[:, 3].exp()[:, None]
    z = seen[..., 2].clamp_min(1.0)
    x, y = seen[..., 0] / z, seen[..., 1] / z
    o = torch.zeros_like(z)
    d = torch.stack([f / z, o, -f * x / z, o, f / z, -f * y / z], dim=-1).reshape(*z.shape, 2, 3)
    tz = state.camera[:, 2].exp()
    t = torch.stack([state.camera[:, 0] * tz, state.camera[:, 1] * tz, tz], dim=-1)
    turned = seen - t[:, None]  # R @ X
    rotation = -d @ cross_matrix(turned)
    # ∂t/∂(t_x/t_z, t_y/t_z, log t_z) = [t_z e_x, t_z e_y, t]
    position = torch.stack([d[..., 0] * tz[:, None, None], d[..., 1] * tz[:, None, None],
                            (d @ t[:, None, :, None])[..., 0]], dim=-1)  # fmt: skip
    focal = f[..., None] * torch.stack([x, y], dim=-1)
    return d, torch.cat([rotation, position, focal[..., None]], dim=-1)


def jacobian(basis: _Basis, state: State, seen: Tensor, shape: Tensor | None) -> Tensor:
    """``∂image/∂(identity, variables, ω, camera)``, ``(B, N, 2, P)``; a slid landmark's place counts as fixed."""
    d, pose = _pose_jacobian(state, seen)
    m = d @ state.R[:, None]  # (B, N, 2, 3)
    by_shape = torch.einsum("bnuj,njk->bnuk", m, basis.shape)
    if shape is not None:
        by_shape[:, basis.sliding] = m[:, basis.sliding] @ shape
    return torch.cat([by_shape, pose], dim=-1)


def normal_equations(
    basis: _Basis, data: _Data, state: State, pose_only: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy ``(B,)``, half its gradient ``(B, P)`` and the Gauss–Newton matrix ``(B, P, P)``."""
    image, _, seen, shape = project(basis, data, state)
    residual = image - data.target
    squared = (residual**2).sum(-1) * data.inverse_sigma**2
    weight = data.inverse_sigma / (1.0 + squared / ROBUST**2)  # square root of the reweighting
    j = _pose_jacobian(state, seen)[1] if pose_only else jacobian(basis, state, seen, shape)
    batch, p = len(residual), j.shape[-1]
    j = (j * weight[..., None, None]).reshape(batch, -1, p)
    r = (residual * weight[..., None]).reshape(batch, -1, 1)
    gradient = (j.transpose(1, 2) @ r)[..., 0]
    hessian = j.transpose(1, 2) @ j
    gradient[:, -2] += (state.camera[:, 2] - torch.as_tensor(DISTANCE_CM).log()) / DISTANCE_SIGMA**2
    hessian[:, -2, -2] += DISTANCE_SIGMA**-2
    gradient[:, -1] += data.focal_precision * (state.camera[:, 3] - data.log_focal)
    hessian[:, -1, -1] += data.focal_precision
    if not pose_only:
        kr, kd = basis.identities, state.variables.shape[-1]
        gradient[:, :kr] += state.identity
        gradient[:, kr : kr + kd] += (data.precision @ (state.variables - data.mean)[..., None])[..., 0]
        diagonal = torch.arange(kr, device=hessian.device)
        hessian[:, diagonal, diagonal] += 1.0
        hessian[:, kr : kr + kd, kr : kr + kd] += data.precision
    return energy(data, image, state), gradient, hessian


def reduced_equations(basis: LandmarkBasis, problem: Problem, solution: Solution, about: str) -> tuple[Tensor, Tensor]:
    """What a face says ``about`` its 'identity' or its expression 'variables' once its other unknowns are eliminated.

    Half the gradient ``(B, K)`` and the Gauss–Newton matrix ``(B, K, K)`` of the energy at ``solution`` of ``problem``; for the
    identity *without its prior*. Eliminated expression variables at a bound that the gradient pushes outwards, and an
    identity that is held, count as fixed.
    """
    joined = join(basis, problem.prior)
    _, scale, data = prepare(joined, problem)
    low, high = bounds(joined, problem.prior)
    tz = solution.t[:, 2]
    camera = torch.stack(
        [solution.t[:, 0] / tz, solution.t[:, 1] / tz, tz.log(), (solution.focal / scale).log()], dim=-1
    )
    state = State(solution.identity, solution.variables, solution.R, camera)
    _, gradient, hessian = normal_equations(joined, data, state, False)
    kr, kd = joined.identities, solution.variables.shape[-1]
    free = torch.ones_like(gradient)
    if about == "identity":
        gradient, hessian = gradient.clone(), hessian.clone()
        gradient[:, :kr] -= state.identity
        hessian[:, :kr, :kr] -= torch.eye(kr, dtype=hessian.dtype, device=hessian.device)
        g = gradient[:, kr : kr + kd]
        walled = ((solution.variables <= low[kr:]) & (g > 0)) | ((solution.variables >= high[kr:]) & (g < 0))
        free[:, kr : kr + kd] = (~walled).to(gradient)
        kept = torch.arange(kr, device=gradient.device)
    else:
        if problem.identity is not None:
            free[:, :kr] = 0.0
        kept = torch.arange(kr, kr + kd, device=gradient.device)
    rest = torch.ones(gradient.shape[-1], dtype=torch.bool, device=gradient.device)
    rest[kept] = False
    gone = rest.nonzero()[:, 0]
    mask = free[:, gone]
    own = hessian[:, gone[:, None], gone] * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1.0 - mask)
    cross = hessian[:, kept[:, None], gone] * mask[:, None, :]
    solved = torch.linalg.solve(own, torch.cat([cross.transpose(1, 2), (gradient[:, gone] * mask)[..., None]], dim=-1))
    h = hessian[:, kept[:, None], kept]
    return gradient[:, kept] - (cross @ solved[..., -1:])[..., 0], h - cross @ solved[..., :-1]


def step(state: State, delta: Tensor, low: Tensor, high: Tensor) -> State:
    """The state moved by ``delta (B, P)`` (or ``(B, 7)``: pose only) and projected into the box."""
    kr, kd = state.identity.shape[-1], state.variables.shape[-1]
    R = so3_exp(delta[:, -7:-4]) @ state.R
    camera = state.camera + delta[:, -4:]
    if delta.shape[-1] == 7:
        return replace(state, R=R, camera=camera)
    variables = (state.variables + delta[:, kr : kr + kd]).clamp(low[kr:], high[kr:])
    return State(state.identity + delta[:, :kr], variables, R, camera)


def _levenberg_marquardt(
    basis: _Basis, data: _Data, state: State, low: Tensor, high: Tensor,
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
    energy, gradient, hessian = normal_equations(basis, data, state, pose_only)
    for iteration in range(iterations):
        delta = solve_step(gradient, hessian, damping, state, low, high, pose_only, held)
        trial = step(state, delta, low, high)
        new_energy, new_gradient, new_hessian = normal_equations(basis, data, trial, pose_only)
        better = new_energy < energy
        fall = torch.where(better, (energy - new_energy) / new_energy.clamp_min(1e-12), torch.zeros_like(energy))
        stop = (better & (fall < tolerance)) | (~better & (damping > 1e6))
        state = State(*(torch.where(better.reshape(-1, *[1] * (b.ndim - 1)), b, a)
                         for a, b in zip(vars(state).values(), vars(trial).values(), strict=True)))  # fmt: skip
        energy = torch.where(better, new_energy, energy)
        gradient = torch.where(better[:, None], new_gradient, gradient)
        hessian = torch.where(better[:, None, None], new_hessian, hessian)
        damping = torch.where(better, damping / 5, damping * 8).clamp(1e-9, 1e9)
        used[alive] = iteration + 1
        for k, v in vars(state).items():
            final[k][alive] = v
        final_energy[alive] = energy
        converged[alive] = stop
        if stop.any():
            go = ~stop
            alive = alive[go]
            if not len(alive):
                break
            state = State(*(v[go] for v in vars(state).values()))
            left: dict[str, Any] = {k: v[go] for k, v in vars(data).items() if isinstance(v, Tensor)}
            data = replace(data, **left)
            energy, gradient, hessian, damping = energy[go], gradient[go], hessian[go], damping[go]
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
    for attempt in range(ACTIVE_SET_PASSES):
        free = (~fixed).to(gradient)
        reduced = damped * free[:, :, None] * free[:, None, :]
        reduced.diagonal(dim1=1, dim2=2).add_(1.0 - free)
        rhs = -(gradient + (damped @ delta[..., None])[..., 0]) * free if attempt else -gradient * free
        delta = delta + torch.cholesky_solve(rhs[..., None], torch.linalg.cholesky(reduced))[..., 0]
        beyond = (delta < lowest) | (delta > highest)
        if not beyond.any():
            break
        # What would leave the box stops at its wall, and the others are solved for again.
        fixed = fixed | beyond
        delta = torch.where(fixed, delta.clamp(lowest, highest), torch.zeros_like(delta))
    return delta.clamp(lowest, highest)
