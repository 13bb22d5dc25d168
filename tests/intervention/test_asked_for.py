"""Placebo, clinical patterns, droop at rest, the other matching rules: what they do to the mesh, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym.experiment.stages import forward
from morphsym.experiment.units import sampled_units
from morphsym.faces import MorphableModel, load_model
from morphsym.intervention import (
    DEFAULT_ARMS,
    Design,
    UnitConditions,
    measure,
    skin_vertices,
    turned,
    unit_conditions,
    weaken_clinically,
)
from morphsym.types import Unit

STRENGTHS = (0.5, 1.0)
ASKED = Design(
    strengths=STRENGTHS, arms=(*DEFAULT_ARMS, "placebo"), rest_droop=0.5, matched_sensitivity=True,
    clinical=("house-brackmann-4", "marginal-mandibular"),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load_model("makehuman")


@pytest.fixture(scope="module")
def unit(model: MorphableModel) -> Unit:
    return next(sampled_units(model, 1, ("happiness",), seed=3))


@pytest.fixture(scope="module")
def made(model: MorphableModel, unit: Unit) -> UnitConditions:
    return unit_conditions(model, unit, ASKED)


def rows(made: UnitConditions, arm: str, region: str = "all") -> list[int]:
    return [i for i, c in enumerate(made.conditions) if c.arm == arm and c.region == region]


def test_nothing_that_is_asked_for_touches_the_other_arms(
    model: MorphableModel, unit: Unit, made: UnitConditions
) -> None:
    plain = unit_conditions(model, unit, Design(strengths=STRENGTHS))
    where = {c.condition: i for i, c in enumerate(made.conditions)}
    for i, c in enumerate(plain.conditions):
        j = where[c.condition]
        assert plain.coefficients[i].tobytes() == made.coefficients[j].tobytes()
        assert (plain.turn[i], plain.dose[i]) == (made.turn[j], made.dose[j]) == (0.0, made.dose[j])


def test_the_placebo_moves_the_skin_as_far_as_the_weakness(
    model: MorphableModel, unit: Unit, made: UnitConditions
) -> None:
    skin = skin_vertices(model)
    for region in ("all", "house-brackmann-4"):
        placebo, weak = rows(made, "placebo", region), rows(made, "unilateral", region)
        vertices = turned(model, forward(model, unit, made.coefficients), made.turn).numpy()[:, skin]
        moved = 10 * np.linalg.norm(vertices - vertices[rows(made, "baseline", "none")[0]], axis=2).mean(axis=1)
        assert moved[placebo] == pytest.approx(moved[weak], rel=1e-4)
        assert made.displacement[placebo] == pytest.approx(moved[placebo], rel=1e-4)
        assert made.displacement[weak] == pytest.approx(moved[weak], rel=1e-4)


def test_the_placebo_keeps_symmetry_and_emotion_and_turns_to_the_weak_side(made: UnitConditions) -> None:
    base = rows(made, "baseline", "none")[0]
    for i in rows(made, "placebo"):
        assert made.coefficients[i].tobytes() == made.coefficients[base].tobytes()
        assert made.realised.asymmetry[i] == made.realised.asymmetry[base]
        assert (made.turn[i] > 0) == (made.conditions[i].side == "left")
        assert 0 < abs(made.turn[i]) < 5


def test_a_turn_to_the_subjects_left_takes_the_nose_there(model: MorphableModel) -> None:
    nose = model.landmarks(model.mean[None])[0, 30]
    both = turned(model, model.mean[None].expand(3, -1, -1).contiguous(), np.array([10.0, -10.0, 0.0]))
    left, right, still = (model.landmarks(v[None])[0, 30] for v in both)
    assert left[0] > nose[0] + 1
    assert right[0] < nose[0] - 1
    assert left[1] == pytest.approx(float(nose[1]), abs=1e-5)
    assert torch.equal(both[2], model.mean)
    assert torch.equal(still, nose)


def test_a_clinical_pattern_is_the_clinical_edit_and_its_control_is_matched(
    model: MorphableModel, unit: Unit, made: UnitConditions
) -> None:
    for region in ("house-brackmann-4", "marginal-mandibular"):
        for i in rows(made, "unilateral", region):
            c = made.conditions[i]
            wanted = weaken_clinically(model.sided, unit.expression, region, c.side, c.strength)
            assert np.array_equal(made.coefficients[i], wanted)
        weak, matched = rows(made, "unilateral", region), rows(made, "matched", region)
        # the depressors of the mouth oppose a smile: without them the face moves more, and the control still exists
        assert not any(made.reasons[i] for i in matched)
        assert made.realised.intensity[matched] == pytest.approx(made.realised.intensity[weak], rel=1e-4)
        assert made.realised.asymmetry[matched] == pytest.approx(0, abs=1e-4)


def test_the_coefficients_rule_is_exact_for_a_pattern(model: MorphableModel, unit: Unit) -> None:
    design = Design(clinical=("house-brackmann-4",), regions=(), strengths=(0.7,), matched_by="coefficients")
    made = unit_conditions(model, unit, design)
    amount = np.abs(made.coefficients).sum(axis=1)
    weak, matched = (amount[rows(made, arm, "house-brackmann-4")] for arm in ("unilateral", "matched"))
    assert matched == pytest.approx(weak, rel=1e-5)


def test_the_droop_is_added_to_the_weakness_and_grows_with_it(
    model: MorphableModel, unit: Unit, made: UnitConditions
) -> None:
    drooping, weak = rows(made, "unilateral_droop"), rows(made, "unilateral")
    added = made.coefficients[drooping] - made.coefficients[weak]
    side = np.array([1 if made.conditions[i].side == "left" else -1 for i in drooping])
    for k in range(len(drooping)):
        assert (added[k][model.sided.side != side[k]] == 0).all()
        assert added[k].max() > 0
    half, whole = added[0].sum(), added[1].sum()
    assert whole > 1.5 * half


def test_every_rule_leaves_the_same_amount_by_its_own_measure(model: MorphableModel, made: UnitConditions) -> None:
    weak = [i for i in rows(made, "unilateral") if made.conditions[i].strength == 1.0]
    other = rows(made, "matched_coefficients")
    amounts = [np.abs(made.coefficients[i]).sum(axis=1) for i in (weak, other)]
    assert amounts[0] == pytest.approx(amounts[1], rel=1e-5)
    doses = {a: made.dose[rows(made, a)][-1] for a in ("matched", "matched_coefficients", "matched_landmarks")}
    assert len(set(doses.values())) == 3
    assert measure(model, made.coefficients[other]).asymmetry == pytest.approx(0, abs=1e-4)
