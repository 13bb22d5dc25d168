"""The mirror image of a face's problem, its view and its solution, in the model's own unknowns.

What refines a face looks at it both ways and takes the mean, so that no rule of a rasteriser, no diagonal of a quad and no order
of steps can favour a side: the mirror image of a photo gives the mirror image of the fit by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..faces.split import MIRROR68
from .energy import Problem, Solution, State
from .view import View

if TYPE_CHECKING:
    from ..faces import MorphableModel
    from .basis import LandmarkBasis

CLOSED = 1e-3
"""Largest share of the identity basis that its mirror image may have outside its span."""

FLIP = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Mirror:
    """What the mirror does to the unknowns of a model's faces; its own inverse."""

    identity: Tensor  # (Kr, Kr): mirrored = identity @ it, along the basis's directions
    variables: Tensor  # (Kd,) int64: mirrored = variables[it]

    def problem(self, problem: Problem) -> Problem:
        """The problem of the mirrored photos."""
        q, p = self.identity, self.variables
        prior, mean, precision = problem.prior, problem.identity_mean, problem.identity_precision
        return replace(
            problem,
            pixels=problem.pixels[:, MIRROR68] * torch.tensor([-1.0, 1.0]) + problem.size[:, None] * torch.tensor([1.0, 0]),
            sigma=problem.sigma[:, MIRROR68],
            prior=replace(prior, low=prior.low[p], high=prior.high[p], mean=prior.mean[:, p],
                          precision=prior.precision[:, p][:, :, p]),
            identity=None if problem.identity is None else problem.identity @ q,
            identity_mean=None if mean is None else mean @ q,
            identity_precision=None if precision is None else q.T @ precision @ q,
            variables=None if problem.variables is None else problem.variables[:, p],
        )  # fmt: skip

    def even(self, problem: Problem) -> Problem:
        """The problem with an identity's prior that is its own mirror image: what was read of it is the same both ways."""
        mean, precision, q = problem.identity_mean, problem.identity_precision, self.identity
        return replace(
            problem,
            identity_mean=None if mean is None else (mean + mean @ q) / 2,
            identity_precision=None if precision is None else (precision + q.T @ precision @ q) / 2,
        )

    def solution(self, solution: Solution) -> Solution:
        """Identity, expression and pose of the mirrored faces; the other fields are left as they are."""
        return replace(
            solution, identity=solution.identity @ self.identity, variables=solution.variables[:, self.variables],
            R=FLIP @ solution.R @ FLIP, t=solution.t @ FLIP,
        )  # fmt: skip

    def mean(self, one: Solution, mirrored: Solution) -> Solution:
        """Half way between solutions and those of the mirrored problems, which stop a little elsewhere."""
        other = self.solution(mirrored)
        halves = {k: (getattr(one, k) + getattr(other, k)) / 2 for k in ("identity", "variables", "t", "focal")}
        return replace(one, R=_mean_rotation(one.R, other.R), **halves)

    def state(self, state: State) -> State:
        """The mirrored faces."""
        camera = state.camera * torch.tensor([-1.0, 1.0, 1.0, 1.0])
        return State(state.identity @ self.identity, state.variables[:, self.variables], FLIP @ state.R @ FLIP, camera)


def mirror_of(model: MorphableModel, basis: LandmarkBasis, tie: Tensor) -> Mirror | None:
    """The mirror of ``model`` with ``basis``'s identity directions and ``tie``'s variables.

    None where the model has no identity for the mirror image of some of its people: such a face has no mirrored problem.
    """
    turn, outside = model.identity_mirror
    along = basis.to_identity.cpu().double()
    q = along.T @ torch.from_numpy(turn.astype(np.float64)) @ along
    if outside > CLOSED or (q @ q - torch.eye(len(q), dtype=q.dtype)).abs().max() > CLOSED:
        return None
    values, vectors = torch.linalg.eigh((q + q.T) / 2)
    q = (vectors * values.sign()) @ vectors.T  # its own inverse to the last digits: steps amplify what is not
    owner = tie.argmax(1).cpu()
    variables = torch.empty(tie.shape[1], dtype=torch.int64)
    variables[owner] = owner[torch.as_tensor(model.sided.partner)]
    return Mirror(q, variables)


def mirrored_view(view: View, width: float) -> View:
    """The view of the mirror image of a photo of ``width`` pixels."""
    there, back = (np.array([[-1.0, 0, w], [0, 1, 0], [0, 0, 1]]) for w in (len(view.pixels), width))
    return View(np.ascontiguousarray(view.pixels[:, ::-1]), there @ view.crop @ back)


def mean_state(one: State, other: State) -> State:
    """Half way between two states of one face."""
    halves = {k: (a + b) / 2 for (k, a), b in zip(vars(one).items(), vars(other).values(), strict=True)}
    return State(**halves | {"R": _mean_rotation(one.R, other.R)})


def _mean_rotation(one: Tensor, other: Tensor) -> Tensor:
    """The rotations ``(…, 3, 3)`` nearest to the mean of two that are close."""
    u, _, vh = torch.linalg.svd(one + other)
    return u @ vh
