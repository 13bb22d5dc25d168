"""The energy of a landmark fit, the negative log of its posterior, and its derivatives; for the solver.

Unknowns of a face, ``P = Kr + Kd + 7`` of them: identity along the directions that the landmarks see, the free expression
variables, a rotation increment ``ω`` (``R ← exp(ω) R``), the position as ``(t_x/t_z, t_y/t_z, log t_z)`` and ``log f``. The
energy, up to a constant, is::

    Σ_i ρ(|r_i|² / σ_i²) + |i − ī|²_Γ + (e − ē)ᵀ Λ (e − ē) + (log f − log f₀)²/σ_f² + (log t_z − log d₀)²/σ_d²

with the identity's mean ``ī`` 0 and precision ``Γ`` 1 where the face was not read, ``r_i`` the reprojection error of landmark
i in cm at the face and ``ρ(s) = s / (1 + s/k²)`` the Geman–McClure function (iteratively reweighted). Everything is linear
algebra over the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
    identity_mean: Tensor | None = None  # (B, Kr) of its prior; None: 0
    identity_precision: Tensor | None = None  # (B, Kr, Kr) of its prior; None: 1
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
class Data:
    """The problem in units of the face: image coordinates in cm at the face's distance, from the principal point."""

    target: Tensor  # (B, N, 2)
    inverse_sigma: Tensor  # (B, N)
    log_focal: Tensor  # (B,) prior mean
    focal_precision: Tensor  # (B,)
    mean: Tensor  # (B, Kd)
    precision: Tensor  # (B, Kd, Kd)
    slide: bool
    identity_mean: Tensor | None = None  # (B, Kr)
    identity_precision: Tensor | None = None  # (B, Kr, Kr)

    def identity_pull(self, identity: Tensor) -> Tensor:
        """Half the gradient ``(B, Kr)`` of the identity's prior."""
        if self.identity_mean is None or self.identity_precision is None:
            return identity
        return (self.identity_precision @ (identity - self.identity_mean)[..., None])[..., 0]

    def identity_energy(self, identity: Tensor) -> Tensor:
        """``(B,)``."""
        off = identity if self.identity_mean is None else identity - self.identity_mean
        return (off * self.identity_pull(identity)).sum(-1)


@dataclass(frozen=True, eq=False)
class JoinedBasis:
    """The bases with the expression ties applied: identity and expression side by side."""

    mean: Tensor  # (N, 3)
    shape: Tensor  # (N, 3, Kr + Kd)
    sliding: Tensor  # (C,)
    path_mean: Tensor  # (C, S, 3)
    path_normal: Tensor  # (C, S, 3)
    path_shape: Tensor  # (C, S, 3, Kr + Kd)
    identities: int


def join(basis: LandmarkBasis, prior: ExpressionPrior) -> JoinedBasis:
    """The model's bases side by side, with the ties of the prior applied to the expression."""
    return JoinedBasis(
        basis.mean,
        torch.cat([basis.identity, basis.expression @ prior.tie], dim=-1),
        torch.as_tensor(basis.sliding, device=basis.mean.device),
        basis.path_mean,
        basis.path_normal,
        torch.cat([basis.path_identity, basis.path_expression @ prior.tie], dim=-1),
        basis.identity.shape[-1],
    )


def bounds(basis: JoinedBasis, prior: ExpressionPrior) -> tuple[Tensor, Tensor]:
    """Lowest and highest value ``(Kr + Kd,)`` of the shape's coefficients; the identity has no box."""
    free = prior.low.new_full((basis.identities,), torch.inf)
    return torch.cat([-free, prior.low]), torch.cat([free, prior.high])


def prepare(basis: JoinedBasis, problem: Problem) -> tuple[State, Tensor, Data]:
    """Where the solver starts, the pixels per cm ``(B,)``, and the problem in units of the face."""
    principal = problem.size / 2
    start, scale = _initial(basis, problem, principal)
    log_focal, precision = _focal_prior(problem)
    data = Data(
        target=(problem.pixels - principal[:, None]) / scale[:, None, None],
        inverse_sigma=1.0 / problem.sigma,
        log_focal=log_focal - scale.log(),
        focal_precision=precision,
        mean=problem.prior.mean,
        precision=problem.prior.precision,
        slide=problem.slide,
        identity_mean=problem.identity_mean,
        identity_precision=problem.identity_precision,
    )
    return start, scale, data


def _focal_prior(problem: Problem) -> tuple[Tensor, Tensor]:
    """Mean of log f (pixels) and its precision, ``(B,)`` each."""
    known = ~problem.focal.isnan()
    guess = problem.size.max(dim=-1).values * FOCAL_PER_SIDE
    sigma = torch.where(known, FOCAL_SIGMA_KNOWN, FOCAL_SIGMA).to(guess)
    return torch.where(known, problem.focal, guess).log(), sigma**-2


def _initial(basis: JoinedBasis, problem: Problem, principal: Tensor) -> tuple[State, Tensor]:
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
    start = problem.identity_mean if problem.identity is None else problem.identity
    identity = basis.mean.new_zeros(batch, kr) if start is None else start.clone()
    variables = problem.prior.mean if problem.variables is None else problem.variables
    return State(identity, variables.clone(), R, camera), scale


def _slid(basis: JoinedBasis, state: State) -> tuple[Tensor, Tensor]:
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


def _points(basis: JoinedBasis, data: Data, state: State) -> tuple[Tensor, Tensor | None]:
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


Projection = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""What :func:`project` gives."""


def project(basis: JoinedBasis, data: Data, state: State) -> Projection:
    """Image ``(B, N, 2)``, landmarks in the head's and the camera's frame ``(B, N, 3)``, slid shape rows."""
    points, shape = _points(basis, data, state)
    tz = state.camera[:, 2].exp()
    t = torch.stack([state.camera[:, 0] * tz, state.camera[:, 1] * tz, tz], dim=-1)
    seen = points @ state.R.transpose(1, 2) + t[:, None]
    z = seen[..., 2:].clamp_min(1.0)  # a centimetre: nothing can be closer
    return state.camera[:, 3, None, None].exp() * seen[..., :2] / z, points, seen, shape


def energy(data: Data, image: Tensor, state: State) -> Tensor:
    squared = ((image - data.target) ** 2).sum(-1) * data.inverse_sigma**2
    robust = (squared / (1.0 + squared / ROBUST**2)).sum(-1)
    e = state.variables - data.mean
    shape = data.identity_energy(state.identity) + (e * (data.precision @ e[..., None])[..., 0]).sum(-1)
    return robust + shape + _camera_energy(data, state)


def _camera_energy(data: Data, state: State) -> Tensor:
    distance = (state.camera[:, 2] - math.log(DISTANCE_CM)) / DISTANCE_SIGMA
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


def jacobian(
    basis: JoinedBasis, state: State, seen: Tensor, shape: Tensor | None, scale: Tensor | None = None
) -> Tensor:
    """``∂image/∂(identity, variables, ω, camera)``, ``(B, N, 2, P)``; a slid landmark's place counts as fixed.

    ``scale (B, N)`` multiplies every landmark's rows.
    """
    d, pose = _pose_jacobian(state, seen)
    if scale is not None:
        d, pose = d * scale[..., None, None], pose * scale[..., None, None]
    m = d @ state.R[:, None]  # (B, N, 2, 3)
    by_shape = torch.einsum("bnuj,njk->bnuk", m, basis.shape)
    if shape is not None:
        by_shape[:, basis.sliding] = m[:, basis.sliding] @ shape
    return torch.cat([by_shape, pose], dim=-1)


def normal_equations(
    basis: JoinedBasis, data: Data, state: State, pose_only: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy ``(B,)``, half its gradient ``(B, P)`` and the Gauss–Newton matrix ``(B, P, P)``."""
    projected = project(basis, data, state)
    return energy(data, projected[0], state), *equations(basis, data, state, projected, pose_only)


def equations(
    basis: JoinedBasis, data: Data, state: State, projected: Projection, pose_only: bool
) -> tuple[Tensor, Tensor]:
    """Half the gradient and the Gauss–Newton matrix at a state that was projected."""
    image, _, seen, shape = projected
    residual = image - data.target
    squared = (residual**2).sum(-1) * data.inverse_sigma**2
    weight = data.inverse_sigma / (1.0 + squared / ROBUST**2)  # square root of the reweighting
    if pose_only:
        j = _pose_jacobian(state, seen)[1] * weight[..., None, None]
    else:
        j = jacobian(basis, state, seen, shape, weight)
    j = j.flatten(1, 2)
    gradient = (j.transpose(1, 2) @ (residual * weight[..., None]).flatten(1)[..., None])[..., 0]
    hessian = j.transpose(1, 2) @ j
    gradient[:, -2] += (state.camera[:, 2] - math.log(DISTANCE_CM)) / DISTANCE_SIGMA**2
    hessian[:, -2, -2] += DISTANCE_SIGMA**-2
    gradient[:, -1] += data.focal_precision * (state.camera[:, 3] - data.log_focal)
    hessian[:, -1, -1] += data.focal_precision
    if not pose_only:
        kr, kd = basis.identities, state.variables.shape[-1]
        gradient[:, :kr] += data.identity_pull(state.identity)
        gradient[:, kr : kr + kd] += (data.precision @ (state.variables - data.mean)[..., None])[..., 0]
        if data.identity_precision is None:
            hessian.diagonal(dim1=1, dim2=2)[:, :kr] += 1.0
        else:
            hessian[:, :kr, :kr] += data.identity_precision
        hessian[:, kr : kr + kd, kr : kr + kd] += data.precision
    return gradient, hessian


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
