"""Photometric refinement: the landmark fit, corrected by the pixels (analysis by synthesis).

The energy is the landmark solver's (:mod:`.solver`: landmarks, identity, expression, camera) with the readout's prior as it is,
or MediaPipe's scores trusted less (:data:`LOOSER`) where the face was not read, plus::

    (3 / c) Σ_i ρ(|I_i − Î_i|² / (3 σ²))     ρ(s) = s / (1 + s / k²)

over the pixels i well inside the face: ``Î`` is the rendered picture under the light and the colours that explain the photo
best (:mod:`.scene`), ``ρ`` Geman–McClure's function, which lets hands, hair and glasses go, ``σ`` the pixels' own median
error and ``c`` the number of neighbouring pixels that err together: both large where the model cannot make the photo, which then
hardly moves the landmark fit. Levenberg–Marquardt steps within the expression's box, first at half the size.

**What the model cannot make.** Such a photo is explained best by coefficients that are not the face's: its model has no other
means. So the picture is made by ``e + u``, where ``u ~ N(0, D² I)`` is what the coefficients must be moved by to make up for what
the model lacks, and a last step, in which ``u`` is eliminated, gives ``e``. ``D`` grows with what the picture leaves unexplained
(:mod:`.evidence`): 0 where the model makes the photo. In that step the landmark fit is a witness of the expression as it was,
with the precision it has once identity and pose are eliminated: what the pixels make of these moves no expression. So where the
model cannot make the photo, the expression is the landmark fit's.

**Both ways.** The photo and its mirror image are refined, and the mean of the two is the result (:mod:`.mirroring`).

A face is changed only when, over the same pixels, the result explains them better and the whole energy is lower, and its
landmarks are not much farther off (:data:`WORSE`). Else it keeps the landmark fit, and the reason is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import solver
from .evidence import LEAST_TOGETHER, apart, discrepancy, displaced, misfit, robust, spread_of
from .mirroring import Mirror, mean_state, mirror_of, mirrored_view
from .photometric import Front, front
from .scene import POSE_STEP, Scene, Shot
from .view import View

if TYPE_CHECKING:
    from ..faces import MorphableModel
    from .basis import LandmarkBasis
    from .solver import Problem, Solution

LOOSER = 0.1
"""Added (in squares) to the standard deviation of MediaPipe's scores: the pixels measure again what those say."""

ITERATIONS = (3, 4)
"""Steps at half the view's size and at its full size."""

TRIES = 4
"""Steps tried with more and more damping before a level is left."""

SMALLEST = 48
"""Pixels of the view's side below which a face is not refined."""

FEWEST = 300
"""Pixels of the face below which it is not refined."""

LAST_DAMPING = 1e-3
"""Of the step that weighs the pixels."""

WORSE = (2.0, 0.02)
"""The landmark error may grow to so many times what it was, or by so much of the outer eye distance, whichever is more."""

FALL = 1e-3
"""Relative fall of the energy at which a level is done."""


@dataclass(frozen=True)
class Gain:
    """What refining one face did. Errors: mean absolute difference over pixels and channels, in grey levels (0 to 255)."""

    accepted: bool
    reason: str  # why not
    error_start: float | None
    error: float | None


class _Rejected(Exception):
    """A reason not to change a face."""


def refine(
    model: MorphableModel, basis: LandmarkBasis, problem: Problem, solution: Solution, views: Sequence[View],
    looser: Tensor, hold_identity: bool = False,
) -> tuple[Solution, list[Gain]]:  # fmt: skip
    """Refine ``solution`` of ``problem`` (B faces) against ``views``; returns it and what was gained, face by face.

    ``looser (B, Kd, Kd)``: the precision of the expression's prior that replaces the problem's. ``hold_identity``: it is
    shared with other photos. On the CPU. A face that cannot be refined keeps its solution; nothing is raised for a photo's sake.
    """
    mirror = mirror_of(model, basis, problem.prior.tie)
    start = solution
    if mirror is not None and not hold_identity:  # the landmark solver stops a little elsewhere in the mirror
        problem = mirror.even(problem)
        start = mirror.mean(solver.solve(basis, problem), solver.solve(basis, mirror.problem(problem)))
    problem = replace(problem, prior=replace(problem.prior, precision=looser))
    the_front = front(model, basis, problem.prior.tie)
    changed = {k: v.clone() for k, v in vars(solution).items()}
    gains = []
    for b, view in enumerate(views):
        try:
            rows = _rows(problem, b), _rows(solution, b), _rows(start, b)
            both = _both_ways(basis, the_front, *rows, view, mirror, hold_identity)
            gain, better = _refined(both, mirror)
            for k, v in better.items():
                changed[k][b] = v[0]
        except _Rejected as e:
            gain = Gain(False, str(e), None, None)
        except (ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError) as e:
            gain = Gain(False, f"the equations could not be solved ({type(e).__name__})", None, None)
        gains.append(gain)
    return replace(solution, **changed), gains


def _both_ways(
    basis: LandmarkBasis, front: Front, problem: Problem, given: Solution, start: Solution, view: View,
    mirror: Mirror | None, hold: bool,
) -> list[_Face]:  # fmt: skip
    """The face, and where the model has one its mirror image."""
    if len(view.pixels) < SMALLEST:
        raise _Rejected(f"the face is too small to refine ({len(view.pixels)} pixels; expected {SMALLEST} or more)")
    faces = [_Face(basis, front, problem, given, start, view, hold)]
    if mirror is not None:
        solutions = mirror.solution(given), mirror.solution(start)
        there = mirrored_view(view, float(problem.size[0, 0]))
        faces.append(_Face(basis, front, mirror.problem(problem), *solutions, there, hold))
    return faces


def _refined(faces: list[_Face], mirror: Mirror | None) -> tuple[Gain, dict[str, Tensor]]:
    """The gain, and the fields of the solution that change (none when it is not accepted)."""
    state = faces[0].refined()
    states = [state]
    if mirror is not None:
        state = mean_state(state, mirror.state(faces[1].refined()))
        if faces[0].hold:
            state = replace(state, identity=faces[0].start.identity)
        states = [state, mirror.state(state)]
    compared = [f.compared(s) for f, s in zip(faces, states, strict=True)]
    energies, losses, errors, nmes = (np.mean([getattr(c, k) for c in compared], axis=0) for k in _Compared._fields)
    reason = ""
    if not np.isfinite(energies).all() or energies[1] >= energies[0] or losses[1] >= losses[0]:
        reason = "the pixels asked for nothing better than the landmark fit"
    elif nmes[1] > max(WORSE[0] * nmes[0], WORSE[1] + nmes[0]):
        reason = f"the landmarks would be {100 * nmes[1]:.1f} % off instead of {100 * nmes[0]:.1f} %"
    if reason:
        return Gain(False, reason, float(errors[0]), float(errors[0])), {}
    return Gain(True, "", float(errors[0]), float(errors[1])), faces[0].fields(state)


class _Compared(NamedTuple):
    """Before and after."""

    energies: list[float]
    losses: list[float]  # the pixels' part
    errors: list[float]  # grey levels
    nmes: list[float]


def on_cpu(record: Any) -> Any:
    """A Problem or Solution with its tensors on the CPU."""
    moved = {k: v.to("cpu") for k, v in vars(record).items() if hasattr(v, "to")}
    return replace(record, **moved)


def _rows(record: Any, b: int) -> Any:
    """Face ``b`` of a Problem or Solution, with a batch of 1."""
    batch = len(record.pixels) if hasattr(record, "pixels") else len(record.energy)
    fields = {k: v[b : b + 1] for k, v in vars(record).items() if isinstance(v, Tensor) and len(v) == batch}
    if hasattr(record, "prior"):
        fields["prior"] = replace(
            record.prior, mean=record.prior.mean[b : b + 1], precision=record.prior.precision[b : b + 1]
        )
    return replace(record, **fields)


class _Face:
    """One face's energy and its minimisation."""

    def __init__(
        self, basis: LandmarkBasis, front: Front, problem: Problem, given: Solution, start: Solution, view: View, hold: bool
    ) -> None:  # fmt: skip
        self.problem, self.front, self.view, self.hold = problem, front, view, hold
        self.joined = solver.join(basis, problem.prior)
        self.low, self.high = solver.bounds(self.joined, problem.prior)
        _, self.scale, self.data = solver.prepare(self.joined, problem)
        self.given, self.start = self.at(given), self.at(start)

    def at(self, solution: Solution) -> solver.State:
        """Where a solution is."""
        tz = solution.t[:, 2]
        camera = [solution.t[:, 0] / tz, solution.t[:, 1] / tz, tz.log(), (solution.focal / self.scale).log()]
        return solver.State(solution.identity, solution.variables, solution.R, torch.stack(camera, dim=-1))

    # -- the energy --------------------------------------------------------------------------------------------------
    def camera(self, state: solver.State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K, R, t of the photo's camera."""
        x, y, log_z, log_f = state.camera[0].tolist()
        f, z = math.exp(log_f) * float(self.scale[0]), math.exp(log_z)
        width, height = self.problem.size[0].tolist()
        K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])
        return K, state.R[0].numpy(), np.array([x * z, y * z, z])

    def shot(self, scene: Scene, state: solver.State) -> Shot:
        found = scene.shot(torch.cat([state.identity, state.variables], 1)[0].numpy(), *self.camera(state))
        if len(found.pixels) < FEWEST * (scene.size / 112) ** 2:
            raise _Rejected("too little of the face is in the picture")
        return found

    def landmark_energy(self, state: solver.State) -> float:
        image, *_ = solver.project(self.joined, self.data, state)
        return float(solver.energy(self.data, image, state)[0])

    def nme(self, state: solver.State) -> float:
        image, *_ = solver.project(self.joined, self.data, state)
        eyes = (self.data.target[0, 36] - self.data.target[0, 45]).norm()
        return float((image - self.data.target).norm(dim=-1).mean() / eyes)

    # -- the minimisation --------------------------------------------------------------------------------------------
    def refined(self) -> solver.State:
        """Where the minimisation ends, weighed by how well the picture can be made."""
        state = self.start
        scene = None
        for current, iterations in zip((self.view.halved(), self.view), ITERATIONS, strict=True):
            last, scene = scene, Scene(self.front, current)
            if last is not None:
                scene.light, scene.colour = last.light, last.colour
            state, known = self._level(scene, state, iterations)
        assert scene is not None
        return self._weighed(scene, state, known)

    def _weighed(self, scene: Scene, state: solver.State, known: np.ndarray | None) -> solver.State:
        """A last step, that takes back what the pixels say of the expression as far as the model cannot make the picture."""
        shot = self.shot(scene, state)
        sigma, together = self._explain(scene, shot)
        kr = self.joined.identities
        expression = slice(kr, kr + state.variables.shape[1])
        room = (self.high - torch.cat([state.identity, state.variables], 1)[0]).numpy()
        picture, jacobian = scene.jacobian(shot, room, kr, self._moved_cameras(state), known)
        weight = robust((picture - scene.target)[shot.pixels], sigma)[1]
        matrix, gradient = scene.normal_equations(shot, picture, jacobian, weight, 1 / (sigma**2 * together))
        matrix, gradient = displaced(matrix, gradient, expression, discrepancy(misfit(scene, shot)))
        _, g, h = solver.normal_equations(self.joined, self.data, state)
        moved = (state.variables - self.start.variables)[0]
        h, g = apart(h[0], g[0], expression, moved, slice(0 if not self.hold else kr, None))
        delta = solver.solve_step(
            (gradient + g)[None], (matrix + h)[None], torch.full((1,), LAST_DAMPING, dtype=torch.float64),
            state, self.low, self.high, False, (self.hold, False),
        )  # fmt: skip
        return solver.step(state, delta, self.low, self.high)

    def _level(self, scene: Scene, state: solver.State, iterations: int) -> tuple[solver.State, np.ndarray | None]:
        """Steps at one size; and the picture's derivatives by the identity, which are taken once."""
        shot = self.shot(scene, state)
        sigma, together = self._explain(scene, shot)
        damping = 1e-2
        known: np.ndarray | None = None
        kr = self.joined.identities
        for _ in range(iterations):
            room = (self.high - torch.cat([state.identity, state.variables], 1)[0]).numpy()
            picture, jacobian = scene.jacobian(shot, room, kr, self._moved_cameras(state), known)
            if known is None:
                known = np.zeros((3, kr, len(scene.target)), np.float32)
                known[:, :, shot.pixels] = jacobian[:, :kr]
            residual = (picture - scene.target)[shot.pixels]
            loss, weight = robust(residual, sigma)
            precision = 1 / (sigma**2 * together)
            matrix, gradient = scene.normal_equations(shot, picture, jacobian, weight, precision)
            energy, g, h = solver.normal_equations(self.joined, self.data, state)
            matrix, gradient = matrix[None] + h, gradient[None] + g
            before = float(energy[0]) + 3 * float(loss.sum()) / together
            kept = scene.light.copy(), scene.colour.copy()
            spread = np.zeros(len(scene.target), np.float32)
            spread[shot.pixels] = weight
            for _ in range(TRIES):
                delta = solver.solve_step(
                    gradient,
                    matrix,
                    torch.full((1,), damping, dtype=torch.float64),
                    state,
                    self.low,
                    self.high,
                    False,
                    (self.hold, False),
                )
                trial = solver.step(state, delta, self.low, self.high)
                seen = self.shot(scene, trial)
                scene.explain(seen, spread[seen.pixels], 1)
                new = (scene.picture(seen) - scene.target)[shot.pixels]
                after = self.landmark_energy(trial) + 3 * float(robust(new, sigma)[0].sum()) / together
                if after < before:
                    break
                scene.light, scene.colour = kept[0].copy(), kept[1].copy()
                damping *= 10
            else:
                return state, known
            damping = max(damping / 5, 1e-5)
            state, shot = trial, seen
            sigma, together = spread_of(scene, seen, sigma)
            if before - after < FALL * before:
                break
        return state, known

    def _explain(self, scene: Scene, shot: Shot) -> tuple[float, float]:
        """Light and colours of a shape from nothing, robustly; returns σ and c."""
        weight, sigma, together = np.ones(len(shot.pixels), np.float32), 0.08, LEAST_TOGETHER
        for rounds in (3, 1, 1):
            scene.explain(shot, weight, rounds)
            sigma, together = spread_of(scene, shot)
            weight = robust((scene.picture(shot) - scene.target)[shot.pixels], sigma)[1]
        return sigma, together

    def _moved_cameras(self, state: solver.State) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        steps = torch.diag(torch.tensor(POSE_STEP, dtype=torch.float64))
        return [self.camera(solver.step(state, step[None], self.low, self.high)) for step in steps]

    def compared(self, state: solver.State) -> _Compared:
        """The given landmark fit and ``state`` as equals: the same pixels and σ, light and colours of each found anew."""
        pictures, shots, sigmas = [], [], []
        for s in (self.given, state):
            scene = Scene(self.front, self.view)
            shot = self.shot(scene, s)
            sigmas.append(self._explain(scene, shot))
            pictures.append(scene.picture(shot))
            shots.append(shot)
        both = np.intersect1d(shots[0].pixels, shots[1].pixels)
        target = self.view.pixels.reshape(-1, 3)[both]
        residuals = [p[both] - target for p in pictures]
        sigma, together = max(sigmas)
        losses = [3 * float(robust(r, sigma)[0].sum()) / together for r in residuals]
        energies = [self.landmark_energy(s) + loss for s, loss in zip((self.given, state), losses, strict=True)]
        errors = [255 * float(np.abs(r).mean()) for r in residuals]
        return _Compared(energies, losses, errors, [self.nme(s) for s in (self.given, state)])

    def fields(self, state: solver.State) -> dict[str, Tensor]:
        """Of the solution, at a state."""
        image, points, _, _ = solver.project(self.joined, self.data, state)
        squared = ((image - self.data.target) ** 2).sum(-1) * self.data.inverse_sigma**2
        tz = state.camera[:, 2].exp()
        return {
            "identity": state.identity,
            "variables": state.variables,
            "R": state.R,
            "t": torch.stack([state.camera[:, 0] * tz, state.camera[:, 1] * tz, tz], dim=-1),
            "focal": state.camera[:, 3].exp() * self.scale,
            "projected": image * self.scale[:, None, None] + self.problem.size[:, None] / 2,
            "points": points,
            "weight": 1.0 / (1.0 + squared / solver.ROBUST**2) ** 2,
        }
