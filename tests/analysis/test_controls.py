"""Positive and negative controls: classifiers whose reaction is known, from sampled people's real edited meshes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from morphsym.analysis import Analysis, AnalysisOptions, analyze
from morphsym.analysis.gate import gate
from morphsym.errors import UsageError
from morphsym.experiment.units import sampled_units
from morphsym.faces import load_model
from morphsym.intervention import Design, unit_conditions

LABELS = ("happiness", "surprise", "anger", "neutral")
SCALE = 2.0  # logit per millimetre


@pytest.fixture(scope="module")
def controls() -> Analysis:
    """Ten sampled people × three emotions, both sides; five 'classifiers' that read known quantities off the mesh."""
    model = load_model("makehuman")
    design = Design(strengths=(0.5, 1.0), arms=("baseline", "null", "unilateral", "matched"))
    rng = np.random.default_rng(0)
    tables, parts = [], []
    for unit in sampled_units(model, 10, ("happiness", "surprise", "anger"), seed=3):
        made = unit_conditions(model, unit, design)
        r = made.realised
        names = [c.condition for c in made.conditions]
        tables.append(
            pd.DataFrame(
                {
                    "condition": names, "unit": unit.unit, "subject": unit.subject, "source": unit.source,
                    "expression": unit.emotion, "arm": [c.arm for c in made.conditions],
                    "side": [c.side for c in made.conditions], "strength": [c.strength for c in made.conditions],
                    "region": [c.region for c in made.conditions], "realised_asymmetry": r.asymmetry,
                    "realised_intensity": r.intensity, "status": ["failed" if x else "ok" for x in made.reasons],
                    "reason": list(made.reasons),
                }
            )
        )  # fmt: skip
        # measurement noise of 0.01 mm, the same for equal pictures
        noise = dict(zip({x.tobytes() for x in made.coefficients}, rng.normal(size=len(names)) * 0.01))
        jitter = np.array([noise[x.tobytes()] for x in made.coefficients])
        read = {
            "asymmetry": -r.asymmetry + jitter, "intensity": r.intensity + jitter, "right half": r.right + jitter,
            "constant": np.zeros(len(names)), "both": r.intensity - 0.5 * r.asymmetry + jitter,
        }  # fmt: skip
        for name, value in read.items():
            logits = np.zeros((len(names), len(LABELS)))
            logits[:, LABELS.index(unit.emotion)] = SCALE * value
            parts.append(
                pd.DataFrame(
                    {
                        "condition": np.repeat(names, len(LABELS)), "classifier": name,
                        "label": np.tile(LABELS, len(names)), "emotion": np.tile(LABELS, len(names)),
                        "logit": logits.ravel().astype(np.float32),
                        "probability": (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).ravel(),
                    }
                )
            )  # fmt: skip
    options = AnalysisOptions(permutations=499, bootstrap=999, outcomes=("logit",), cross_checks=False)
    return analyze(pd.concat(tables), pd.concat(parts), options)


def effect(a: Analysis, classifier: str, contrast: str, side: str = "both") -> pd.Series:
    e = a.effects[(a.effects["classifier"] == classifier) & (a.effects["contrast"] == contrast)]
    e = e[(e["side"] == side) & (e["strength"] == 1.0) & (e["emotion"] == "all") & (e["test"] == "wilcoxon")]
    return e.iloc[0]


def test_a_classifier_that_reads_asymmetry_is_found_to_react_to_it(controls: Analysis) -> None:
    verdict = controls.verdicts.set_index("classifier").loc["asymmetry"]
    assert (verdict["total"], verdict["asymmetry"]) == ("lowers", "lowers")
    assert abs(effect(controls, "asymmetry", "IE")["estimate"]) < 0.2 * abs(verdict["ae"])
    assert controls.verdicts.set_index("classifier").loc["both", "asymmetry"] == "lowers"


def test_one_that_reads_intensity_alone_is_not(controls: Analysis) -> None:
    verdict = controls.verdicts.set_index("classifier").loc["intensity"]
    assert (verdict["total"], verdict["asymmetry"]) == ("lowers", "equivalent")
    assert effect(controls, "intensity", "IE")["p_value"] < 0.01


def test_one_that_looks_at_the_untouched_half_alone_does_not_see_the_edit(controls: Analysis) -> None:
    left, right = (effect(controls, "right half", "TE", side) for side in ("left", "right"))
    assert abs(left["estimate"]) < 0.1 * abs(right["estimate"])  # what the blend zone at the midline leaks
    # and over both sides it reads intensity: no asymmetry effect
    assert controls.verdicts.set_index("classifier").loc["right half", "asymmetry"] == "equivalent"


def test_a_constant_one_is_equivalent_to_no_effect(controls: Analysis) -> None:
    verdict = controls.verdicts.set_index("classifier").loc["constant"]
    assert (verdict["total"], verdict["asymmetry"]) == ("equivalent", "equivalent")


def test_the_manipulation_happened(controls: Analysis) -> None:
    assert controls.summary["manipulation"]["failed"] == []
    top = controls.checks[(controls.checks["strength"] == 1.0) & (controls.checks["arm"] == "unilateral")]
    assert (top["share_more_asymmetric"] == 1.0).all()


def test_the_gate_lets_pass_what_does_not_react(controls: Analysis) -> None:
    breaches = gate(controls.effects, 0.1)
    assert {b.classifier for b in breaches} == {"asymmetry", "both"}
    assert "at most ±0.1 is allowed" in breaches[0].reason
    assert gate(controls.effects, 100.0) == []
    with pytest.raises(UsageError, match="positive number"):
        gate(controls.effects, 0.0)
    lost = controls.effects.assign(estimate=np.nan, note="no matched arm")
    assert len(gate(lost, 0.1)) == 5


def test_a_weakness_of_both_sides_has_a_total_effect_and_no_control() -> None:
    """As Design makes it: side 'both' has no matched arm; its TE must not be lost for that."""
    from .factory import Planted, tables

    conditions, predictions = tables(n_subjects=6, sides=("left", "right", "both"), classifiers={"x": Planted()})
    conditions = conditions[(conditions["side"] != "both") | (conditions["arm"] != "matched")]
    predictions = predictions[predictions["condition"].isin(conditions["condition"])]
    options = AnalysisOptions(permutations=99, bootstrap=99, outcomes=("logit",), tests=("wilcoxon",))
    a = analyze(conditions, predictions, options)
    e = a.effects[
        (a.effects["emotion"] == "happiness") & (a.effects["strength"] == 1.0) & (a.effects["side"] == "both")
    ]
    real = e[(e["pooled"] == "") & (e["test"] == "wilcoxon")]
    assert real["contrast"].tolist() == ["TE", "side_bias"]
    assert real["n_units"].tolist() == [6, 6]
    assert real["n_excluded"].tolist() == [0, 0]
    assert a.exclusions.empty
    assert not a.effects.duplicated(["contrast", "emotion", "side", "strength", "region", "pooled", "test"]).any()
