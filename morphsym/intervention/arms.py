"""From a unit and a design to the coefficients of every condition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..faces import MorphableModel
from ..types import Condition, Unit
from .design import Design
from .edit import reach, weaken
from .matching import Realised, matched_strengths, measure

MIRRORED = {"mirrored_baseline": "baseline", "mirrored_unilateral": "unilateral"}
"""Arms whose picture is the mirror image of another arm's picture."""


@dataclass(frozen=True, eq=False)
class UnitConditions:
    """All conditions of a unit: who they are, what is edited, and what the edit did to the mesh."""

    unit: Unit
    conditions: tuple[Condition, ...]  # N
    coefficients: np.ndarray  # (N, Ks) float32
    dose: np.ndarray  # (N,) float64: the strength applied to each half that is weakened; NaN where none matches
    realised: Realised  # (N,) each; of the mesh before it is mirrored
    reasons: tuple[str, ...]  # N, '' where the condition can be rendered
    picture: np.ndarray  # (N,) int64: index of the condition whose picture this is (itself, unless mirrored)
    mirrored: np.ndarray  # (N,) bool: the picture is flipped


def unit_conditions(model: MorphableModel, unit: Unit, design: Design) -> UnitConditions:
    """The conditions of ``unit`` under ``design``, with coefficients in the model's sided basis.

    Everything but the expression coefficients is the unit's and the same for all arms. ``mirrored_*`` arms carry the
    coefficients of the arm that they mirror: it is their picture that is flipped. ``original`` and ``null`` are of what the photo
    shows, which is not the factual expression where the fit was symmetrized.
    """
    basis = model.sided
    factual = np.asarray(unit.expression, dtype=np.float32)
    shown = factual
    if unit.fit is not None and unit.fit.expression_fitted is not None:
        shown = np.asarray(unit.fit.expression_fitted, dtype=np.float32)
    conditions = design.conditions(unit.unit, unit.source)
    coefficients = np.repeat(factual[None], len(conditions), axis=0)
    dose = np.zeros(len(conditions))
    reasons = [""] * len(conditions)
    for i, c in enumerate(conditions):
        if c.arm in ("unilateral", "mirrored_unilateral"):
            coefficients[i] = weaken(factual, reach(basis, c.side, c.region, design.include), c.strength)
            dose[i] = c.strength
        elif c.arm == "null":
            # through the whole edit, with nothing to do: what rendering alone changes
            coefficients[i] = weaken(shown, reach(basis, "both", "all", design.include), 0.0)
        elif c.arm == "original":
            coefficients[i] = shown
    for region in design.regions:
        rows = [i for i, c in enumerate(conditions) if c.arm == "matched" and c.region == region]
        if not rows:
            continue
        unilateral = np.stack(
            [
                weaken(factual, reach(basis, conditions[i].side, region, design.include), conditions[i].strength)
                for i in rows
            ]
        )
        both = reach(basis, "both", region, design.include)
        dose[rows] = matched_strengths(model, factual, both, unilateral, design.matched_by)
        for i in rows:
            if np.isfinite(dose[i]):
                coefficients[i] = weaken(factual, both, float(dose[i]))
            else:
                reasons[i] = "no bilateral strength leaves as much expression as the unilateral weakness"
    index = {(c.arm, c.side, c.strength, c.region): i for i, c in enumerate(conditions)}
    picture = np.arange(len(conditions))
    for i, c in enumerate(conditions):
        if c.arm in MIRRORED:
            picture[i] = index[MIRRORED[c.arm], c.side, c.strength, c.region]
    return UnitConditions(
        unit,
        tuple(conditions),
        coefficients,
        dose,
        measure(model, coefficients),
        tuple(reasons),
        picture,
        np.array([c.arm in MIRRORED for c in conditions]),
    )
