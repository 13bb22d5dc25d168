"""The causal graph, the check of recorded conditions against it, and the manipulation checks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from morphsym.analysis import AnalysisOptions, analyze, causal, checks
from morphsym.errors import MorphsymError, StoreError

from .factory import Planted, tables

QUICK = AnalysisOptions(permutations=99, bootstrap=99, outcomes=("logit",))


def test_the_graph_is_acyclic_complete_and_drawable() -> None:
    names = [n.name for n in causal.NODES]
    assert len(set(names)) == len(names)
    assert {x for e in causal.EDGES for x in e} == set(names)
    left = list(causal.EDGES)
    while left:  # Kahn: a graph without a source left has a cycle
        sources = {a for a, _ in left} - {b for _, b in left}
        assert sources
        left = [e for e in left if e[0] not in sources]
    assert all(0 <= n.x <= 1 and 0 <= n.y <= 1 for n in causal.NODES)
    json.dumps(causal.dag())
    assert causal.identified() == {"TE": True, "IE": True, "AE": True}


def test_an_unmeasured_cause_of_both_breaks_identification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "EDGES", (*causal.EDGES, ("identity", "side weakness")))
    assert not causal.identified()["TE"]


def test_every_arm_has_its_intervention_stated() -> None:
    from morphsym.types import ARMS

    assert set(causal.INTERVENTIONS) == set(ARMS)


def test_units_that_share_everything_pass_and_are_listed() -> None:
    conditions, _ = tables(n_subjects=2)
    conditions["yaw"] = conditions["unit"].map(dict(zip(conditions["unit"].unique(), np.arange(6.0))))
    table = causal.check_conditions(conditions)
    assert table["column"].tolist() == ["subject", "source", "expression", "yaw"]
    assert (table["n_units"] == 6).all()


@pytest.mark.parametrize(("column", "value"), [("yaw", 3.0), ("light", "from the left"), ("camera", [1.0, 2.0])])
def test_a_run_whose_arms_differ_in_something_else_is_stopped(column: str, value: object) -> None:
    conditions, predictions = tables(n_subjects=2)
    conditions[column] = [0.0 if isinstance(value, float) else "x"] * len(conditions)
    conditions[column] = conditions[column].astype(type(value) if isinstance(value, float) else object)
    conditions.at[7, column] = value
    with pytest.raises(StoreError, match=f"'{column}' must be equal in all conditions of a unit, but 's0000"):
        analyze(conditions, predictions, QUICK)


def test_what_the_edit_realised_is_checked_against_what_the_arm_is_for() -> None:
    a = analyze(*tables(n_subjects=4), QUICK)
    assert set(a.checks["check"]) == {"ok", ""}
    assert (a.checks.loc[a.checks["arm"].isin(["unilateral", "matched", "null"]), "check"] == "ok").all()
    row = a.checks[(a.checks["arm"] == "unilateral") & (a.checks["strength"] == 1.0)].iloc[0]
    assert row["asymmetry_change"] == pytest.approx(0.3)
    assert row["intensity_change"] == pytest.approx(-0.5)
    assert a.summary["manipulation"]["failed"] == []
    checks.require_manipulation(a.checks)


def test_a_manipulation_that_did_not_happen_fails_loudly() -> None:
    conditions, predictions = tables(n_subjects=4)
    edited = conditions["arm"] == "unilateral"
    conditions.loc[edited, "realised_asymmetry"] = 0.0
    a = analyze(conditions, predictions, QUICK)
    assert len(a.summary["manipulation"]["failed"]) >= 8
    with pytest.raises(
        MorphsymError, match=r"the manipulation did not happen: sampled, unilateral, side left, strength 1"
    ):
        checks.require_manipulation(a.checks)


@pytest.mark.parametrize(
    ("arm", "column", "note"),
    [("matched", "realised_intensity", "intensity"), ("matched", "realised_asymmetry", "asymmetry changed by"),
     ("null", "realised_intensity", "the null edit moved the face")],
)  # fmt: skip
def test_a_control_that_is_none_is_flagged(arm: str, column: str, note: str) -> None:
    conditions, predictions = tables(n_subjects=4)
    conditions.loc[conditions["arm"] == arm, column] += 0.25
    a = analyze(conditions, predictions, QUICK)
    failed = a.checks[a.checks["check"] == "failed"]
    assert set(failed["arm"]) == {arm}
    assert failed["note"].str.contains(note).all()


def test_the_null_error_in_numbers() -> None:
    a = analyze(*tables(n_subjects=5, source="photo", classifiers={"x": Planted(null_error=0.2)}), QUICK)
    table = checks.null_summary(a.units)
    row = table[table["contrast"] == "null_error"].iloc[0]
    assert row["mean"] == pytest.approx(0.2, abs=1e-5)
    assert row["mean_absolute"] == pytest.approx(0.2, abs=1e-5)
    assert row["n_units"] == 5
