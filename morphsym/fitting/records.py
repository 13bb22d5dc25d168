"""From solutions to records: coefficients, camera, errors, the emotion, what is rejected and what is flagged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError
from ..rendering.cameras import rotation_to_euler
from ..types import FaceFit
from .basis import LandmarkBasis
from .measures import measures_of, symmetrized
from .quality import check_fit, quality_flag
from .solver import Problem, Solution

if TYPE_CHECKING:
    from ..faces import MorphableModel

OUTER_EYES = (36, 45)
"""The outer eye corners (landmarks 37 and 46 in the one-based numbering)."""


def records(
    blanks: Sequence[FaceFit], model: MorphableModel, basis: LandmarkBasis, problem: Problem, solution: Solution,
    unseen: np.ndarray | None = None,
) -> list[FaceFit]:  # fmt: skip
    """The records of ``solution``. ``unseen (B, Ki)``: identity in directions that the landmarks do not see."""
    identity = (solution.identity @ basis.to_identity.T).cpu().numpy()
    if unseen is not None:
        identity = identity + unseen
    expression = (solution.variables @ problem.prior.tie.T).cpu().numpy()
    error = (solution.projected - problem.pixels).norm(dim=-1).mean(dim=-1)
    eyes = (problem.pixels[:, OUTER_EYES[0]] - problem.pixels[:, OUTER_EYES[1]]).norm(dim=-1)
    nme = (error / eyes).cpu().numpy()
    yaw, pitch, roll = (a.cpu().numpy() for a in rotation_to_euler(solution.R))
    R, t, focal = solution.R.cpu().numpy(), solution.t.cpu().numpy(), solution.focal.cpu().numpy()
    weight, converged = solution.weight.cpu().numpy(), solution.converged.cpu().numpy()
    fits = []
    for i, blank in enumerate(blanks):
        coefficients = expression[i].astype(np.float32)
        emotion, source = blank.emotion, blank.emotion_source
        if not emotion:
            emotion, source = nearest(model, coefficients)
        done = replace(
            blank,
            status="ok",
            identity=identity[i].astype(np.float32),
            expression=coefficients,
            K=np.array([[focal[i], 0, blank.width / 2], [0, focal[i], blank.height / 2], [0, 0, 1]]),
            R=R[i],
            t=t[i],
            nme=float(nme[i]),
            yaw=float(yaw[i]),
            pitch=float(pitch[i]),
            roll=float(roll[i]),
            emotion=emotion,
            emotion_source=source,
            converged=bool(converged[i]),
        )
        reason = check_fit(done)
        flags = [blank.quality, quality_flag(done, weight[i])]
        done = replace(done, quality=reason or "; ".join(f for f in flags if f not in ("", "good")) or "good")
        fits.append(replace(done, status="failed", reason=reason) if reason else done)
    return fits


def nearest(model: MorphableModel, expression: np.ndarray) -> tuple[str, str]:
    """The emotion whose preset is nearest to ``expression`` and 'nearest_preset'; '' twice where the model has no presets."""
    from ..faces import nearest_emotion

    try:
        return nearest_emotion(model, expression)[0], "nearest_preset"
    except UsageError:  # the shapes have no ARKit names (FLAME, BFM): only the user knows
        return "", ""


def finish(fits: Sequence[FaceFit], model: MorphableModel, symmetrize: bool) -> list[FaceFit]:
    """The measures, of what was fitted; then the symmetric average, where that is asked for."""
    measured = iter(measures_of([f for f in fits if f.ok], model))
    fits = [replace(f, measures=next(measured)) if f.ok else f for f in fits]
    return [_symmetric(f, model) if f.ok else f for f in fits] if symmetrize else fits


def _symmetric(fit: FaceFit, model: MorphableModel) -> FaceFit:
    average = symmetrized(fit.expression, model.sided.partner)
    note = "; ".join(n for n in (fit.note, "expression averaged over both sides") if n)
    return replace(fit, expression=average, expression_fitted=fit.expression, note=note)
