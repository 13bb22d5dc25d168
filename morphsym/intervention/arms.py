"""From a unit and a design to the coefficients of every condition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..faces import MorphableModel
from ..types import Condition, Unit
from .clinical import add_droop, clinical_presets, strengths, weaken_clinically
from .design import MATCHED_RULES, Design
from .edit import reach, weaken
from .matching import Realised, matched_strengths, mean_displacement, measure, turn_for

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
    turn: np.ndarray  # (N,) float64, degrees, positive to the subject's left: how far the head is turned; placebo only
    displacement: np.ndarray  # (N,) float64, mm: mean distance of the skin's vertices from the baseline's


def unit_conditions(model: MorphableModel, unit: Unit, design: Design) -> UnitConditions:
    """The conditions of ``unit`` under ``design``, with coefficients in the model's sided basis.

    Everything but the expression coefficients (and, in the ``placebo``, a small turn of the head) is the unit's and the
    same for all arms. ``mirrored_*`` arms carry the coefficients of the arm that they mirror: it is their picture that is
    flipped. ``original`` and ``null`` are of what the photo shows, which is not the factual expression where the fit was
    symmetrized.
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

    def weakened(c: Condition) -> np.ndarray:
        return _weakened(model, design, factual, c.region, c.side, c.strength)

    for i, c in enumerate(conditions):
        if c.arm in ("unilateral", "mirrored_unilateral", "unilateral_droop"):
            coefficients[i] = weakened(c)
            dose[i] = c.strength
        if c.arm == "unilateral_droop":  # the droop grows with the weakness that brings it
            coefficients[i] = add_droop(basis, coefficients[i], c.side, design.rest_droop * c.strength)
        elif c.arm == "null":
            # through the whole edit, with nothing to do: what rendering alone changes
            coefficients[i] = weaken(shown, reach(basis, "both", "all", design.include), 0.0)
        elif c.arm == "original":
            coefficients[i] = shown
    rules = {"matched": design.matched_by} | {f"matched_{r}": r for r in MATCHED_RULES}
    for arm, rule in rules.items():
        for region in design.areas():
            rows = [i for i, c in enumerate(conditions) if c.arm == arm and c.region == region]
            if not rows:
                continue
            unilateral = np.stack([weakened(conditions[i]) for i in rows])
            both = _reached(model, design, region)
            dose[rows] = matched_strengths(model, factual, both, unilateral, rule)
            for i in rows:
                if np.isfinite(dose[i]):
                    coefficients[i] = _weakened(model, design, factual, region, "both", float(dose[i]))
                else:
                    reasons[i] = "no bilateral strength leaves as much expression as the unilateral weakness"
    index = {(c.arm, c.side, c.strength, c.region): i for i, c in enumerate(conditions)}
    picture = np.arange(len(conditions))
    for i, c in enumerate(conditions):
        if c.arm in MIRRORED:
            picture[i] = index[MIRRORED[c.arm], c.side, c.strength, c.region]
    edited, which = np.unique(coefficients, axis=0, return_inverse=True)
    displacement = mean_displacement(model, edited - factual)[which.ravel()]
    turn = np.zeros(len(conditions))
    placebo = [i for i, c in enumerate(conditions) if c.arm == "placebo"]
    if placebo:
        partners = [index["unilateral", c.side, c.strength, c.region] for c in (conditions[i] for i in placebo)]
        displacement[placebo] = displacement[partners]
        towards = np.array([1.0 if conditions[i].side == "left" else -1.0 for i in placebo])
        turn[placebo] = towards * turn_for(model, _baseline_mesh(model, unit), displacement[partners])
    return UnitConditions(
        unit,
        tuple(conditions),
        coefficients,
        dose,
        measure(model, coefficients),
        tuple(reasons),
        picture,
        np.array([c.arm in MIRRORED for c in conditions]),
        turn,
        displacement,
    )


def _weakened(
    model: MorphableModel, design: Design, factual: np.ndarray, region: str, side: str, strength: float
) -> np.ndarray:
    """``factual`` with ``side`` weakened in a region, or by a share of a clinical pattern."""
    if region in clinical_presets():
        return weaken_clinically(model.sided, factual, region, side, strength)
    return weaken(factual, reach(model.sided, side, region, design.include), strength)


def _reached(model: MorphableModel, design: Design, region: str) -> np.ndarray:
    """What a whole weakness of both sides takes of every shape: (Ks,) bool of a region, float of a pattern."""
    if region in clinical_presets():
        return strengths(model.sided, region, "both")
    return reach(model.sided, "both", region, design.include)


def _baseline_mesh(model: MorphableModel, unit: Unit) -> np.ndarray:
    device = model.sided.basis.device
    identity = torch.as_tensor(unit.identity, dtype=torch.float32, device=device)[None]
    expression = torch.as_tensor(unit.expression, dtype=torch.float32, device=device)[None]
    return np.asarray(model.forward(identity, expression)[0].detach().cpu().numpy())
