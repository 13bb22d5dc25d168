"""Beyond the headline: differences between people and conditions, further controls, matching rules, real photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from morphsym.analysis import Analysis, analyze
from morphsym.analysis.causal import check_conditions
from morphsym.errors import StoreError
from morphsym.report.beyond import beyond
from morphsym.report.checks import checks
from morphsym.report.view import source_views

from ..analysis.factory import Planted, predict, tables
from .conftest import MANIFEST, QUICK, Case
from .test_page import read

PLACEBO, DROOP = -0.25, -0.4
WHO = {"reacts": Planted(noise=0.05), "intensity-only": Planted(ae=0.0, noise=0.05)}


def asked_for(n: int = 10, rules: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables with a placebo, a droop and two more matching rules: their targets are those of known arms, shifted."""
    conditions, predictions = tables(n, emotions=("happiness",), strengths=(0.5, 1.0), classifiers=WHO)
    conditions = conditions.assign(
        head_turn=0.0, displacement=np.where(conditions["arm"].isin(["unilateral"]), 1.0, 0.5)
    )
    parts, said = [conditions], [predictions]
    new = [("placebo", "baseline", PLACEBO), ("unilateral_droop", "unilateral", DROOP)]
    new += [("matched_coefficients", "matched", -0.3), ("matched_landmarks", "matched", 0.2)] if rules else []
    for arm, of, shift in new:
        rows = conditions[conditions["arm"] == "unilateral"]
        if arm.startswith("matched_"):
            rows = rows[rows["strength"] == 1.0]
        source = rows["condition"].str.replace("/unilateral/", f"/{of}/")
        if of == "baseline":
            source = rows["unit"] + "/baseline/none/0/none"
        made = rows.assign(arm=arm, condition=rows["condition"].str.replace("/unilateral/", f"/{arm}/"))
        if arm == "placebo":
            made = made.assign(head_turn=1.5, displacement=1.0, realised_asymmetry=0.0, realised_intensity=1.0)
            base = conditions[conditions["arm"] == "baseline"].set_index("unit")
            for c in ("realised_asymmetry", "realised_intensity"):
                made[c] = made["unit"].map(base[c])
        back = pd.DataFrame({"condition": source.to_numpy(), "new": made["condition"].to_numpy()})
        copied = back.merge(predictions, on="condition").drop(columns="condition").rename(columns={"new": "condition"})
        # a shift of the target's centred logit: the logit itself moves by shift / (1 − 1/L)
        labels = copied.groupby("classifier")["label"].transform("nunique")
        target = copied["emotion"] == "happiness"
        copied["logit"] = copied["logit"] + np.where(target, shift / (1 - 1 / labels), 0.0)
        parts.append(made)
        said.append(copied[predictions.columns])
    return pd.concat(parts, ignore_index=True), pd.concat(said, ignore_index=True)


@pytest.fixture(scope="module")
def run() -> Case:
    conditions, predictions = asked_for()
    return Case(conditions, predictions, analyze(conditions, predictions, QUICK))


def pooled(a: Analysis, contrast: str, classifier: str = "reacts") -> pd.Series:
    e = a.effects[(a.effects["contrast"] == contrast) & (a.effects["classifier"] == classifier)]
    e = e[(e["pooled"] == "emotion+side") & (e["strength"] == 1.0) & (e["outcome"] == "logit")]
    return e[e["test"] == "wilcoxon"].iloc[0]


def test_planted_controls_come_back_and_leave_the_primary_alone(run: Case) -> None:
    a = run.analysis
    assert pooled(a, "placebo")["estimate"] == pytest.approx(PLACEBO, abs=1e-5)
    assert pooled(a, "droop")["estimate"] == pytest.approx(DROOP, abs=1e-5)
    plain = run.conditions["arm"].isin(
        ["baseline", "null", "mirrored_baseline", "unilateral", "matched", "mirrored_unilateral"]
    )
    kept = run.predictions["condition"].isin(run.conditions.loc[plain, "condition"])
    before = analyze(run.conditions[plain], run.predictions[kept], QUICK)
    pd.testing.assert_frame_equal(
        before.effects[before.effects["primary"]].reset_index(drop=True),
        a.effects[a.effects["primary"]].reset_index(drop=True),
    )


def test_the_rules_are_compared_in_one_run(run: Case) -> None:
    table = run.analysis.matching.set_index(["classifier", "rule"])
    for name in WHO:
        ae = table.loc[name]["AE"]
        assert ae["coefficients"] - ae["mesh"] == pytest.approx(0.3, abs=1e-5)
        assert ae["landmarks"] - ae["mesh"] == pytest.approx(-0.2, abs=1e-5)
        assert ae["mesh"] == pytest.approx(pooled(run.analysis, "AE", name)["estimate"])
        assert (table.loc[name]["IE"] + ae).to_numpy() == pytest.approx(table.loc[name]["TE"].to_numpy(), abs=1e-5)
    given = table[table["given"]]
    assert set(given.index.get_level_values("rule")) == {"mesh"}
    verdicts = run.analysis.verdicts.set_index("classifier")["asymmetry"]
    assert given["verdict"].droplevel("rule").to_dict() == verdicts.to_dict()
    assert not table.loc["intensity-only", "agree"].any()
    assert table.loc["reacts", "agree"].all()


def test_a_run_of_one_rule_has_no_table_of_rules() -> None:
    assert analyze(*asked_for(4, rules=False), QUICK).matching.empty


def test_the_page_shows_them_and_the_methods_name_them(run: Case, tmp_path: Path) -> None:
    design = {"matched_by": "mesh", "rest_droop": 0.5, "yaw": [-10.0, 10.0]}
    manifest = MANIFEST | {"spec": {"given": {}, "resolved": {"seed": 7, "design": design, "furrows": 0.5}}}
    words = read(run.write(tmp_path, manifest=manifest)).words
    assert "Does the answer depend on how it was made?" in words
    assert "The verdict on asymmetry is the same under all three rules for 1 of 2 classifiers" in words
    assert "−0.25" in words
    assert "A placebo turns the head towards the weakened side (1.5° on average)" in words
    assert "adds a droop of the weak side at rest (0.5 of a full one" in words
    assert "every combination of yaw (-10°, 10°)" in words
    assert "Sampled people’s skin was drawn with the furrows of the expression (depth 0.5)." in words
    assert "nan" not in words.lower().split()


def test_the_placebos_size_is_checked(run: Case) -> None:
    name = "The placebo is as large as the weakness and keeps the expression"
    good = {c.name: c for c in checks(run.conditions)}[name]
    assert good.passed
    assert "1.00 mm" in good.detail
    small = run.conditions.assign(
        displacement=run.conditions["displacement"].mask(run.conditions["arm"] == "placebo", 0.5)
    )
    assert {c.name: c for c in checks(small)}[name].passed is False
    a = analyze(small, run.predictions, replace(QUICK, cross_checks=False))
    assert a.checks[a.checks["arm"] == "placebo"]["check"].eq("failed").all()


def test_a_head_that_turns_in_another_arm_stops_the_analysis(run: Case) -> None:
    turned = run.conditions.assign(head_turn=run.conditions["head_turn"].mask(run.conditions["arm"] == "matched", 0.5))
    with pytest.raises(StoreError, match="only the placebo turns it"):
        check_conditions(turned)


def test_what_the_pictures_say_is_a_check_that_can_fail(run: Case) -> None:
    weak = run.conditions["arm"] == "unilateral"
    seen = run.conditions.assign(mirror_ssim=np.where(weak, 0.6, 0.7), read_asymmetry=np.where(weak, 0.2, 0.1))
    found = [c for c in checks(seen) if "mirror image" in c.name or "MediaPipe" in c.name]
    assert [c.passed for c in found] == [True, True]
    assert "in 20 of 20 pairs" in found[0].detail
    swapped = seen.assign(mirror_ssim=1 - seen["mirror_ssim"], read_asymmetry=-seen["read_asymmetry"])
    assert [c.passed for c in checks(swapped) if "mirror image" in c.name or "MediaPipe" in c.name] == [False, False]


def test_a_swept_light_is_compared_within_people(tmp_path: Path) -> None:
    """AE twice as large in one light; people differ much more between each other than lights do."""
    conditions, predictions = [], []
    for light, ae in (("front", -0.4), ("left", -0.8)):
        c, _ = tables(12, emotions=("happiness",), sides=("left", "right"), strengths=(1.0,), classifiers=WHO)
        named = c["condition"].str.replace(".happiness", f".happiness.light-{light}")
        c = c.assign(unit=c["unit"] + f".light-{light}", light=light, condition=named)
        conditions.append(c)
        predictions.append(predict(c, {"x": Planted(ae=ae, noise=0.02)}, seed=3))
    table = pd.concat(conditions, ignore_index=True)
    a = analyze(table, pd.concat(predictions, ignore_index=True), QUICK)
    e = a.effects[a.effects["primary"] & (a.effects["test"] == "wilcoxon")].set_index("contrast")
    assert e.at["AE", "n_subjects"] == 12
    assert e.at["AE", "n_units"] == 24
    h = a.heterogeneity[(a.heterogeneity["attribute"] == "light") & (a.heterogeneity["contrast"] == "AE")]
    levels = h[h["level"] != ""].set_index("level")["estimate"]
    assert levels["left"] == pytest.approx(2 * levels["front"], rel=0.1)
    test = h[h["level"] == ""].iloc[0]
    assert test["test"] == "wilcoxon"
    assert test["p_adjusted"] < 0.01
    (view,) = source_views(a, table)
    found = beyond(a, view)
    assert any(r["by"] == "light" and r["effect"] == "AE" for r in found.people)
    words = read(Case(table, pd.concat(predictions, ignore_index=True), a).write(tmp_path)).words
    assert "For whom, and under which conditions" in words


def test_photos_stand_beside_the_synthetic_effect(tmp_path: Path) -> None:
    """Photos whose output falls with their own asymmetry; sampled people whose AE is negative: congruent."""
    rng = np.random.default_rng(0)
    synthetic, said = tables(12, emotions=("happiness",), strengths=(1.0,), classifiers={"x": Planted(noise=0.05)})
    photos, seen = tables(
        40, emotions=("happiness",), strengths=(1.0,), classifiers={"x": Planted(noise=0.0)}, source="photo"
    )
    own = dict(zip(photos["subject"].unique(), rng.uniform(0, 1, 40)))
    cohort = {s: "patient" if i % 2 else "healthy" for i, s in enumerate(own)}
    original = photos["arm"] == "original"
    photos = photos.assign(
        realised_asymmetry=photos["realised_asymmetry"].where(~original, photos["subject"].map(own)),
        cohort=photos["subject"].map(cohort),
    )
    target = seen["emotion"] == "happiness"
    drop = -6 * seen["condition"].str.split(".").str[0].map(own)
    seen = seen.assign(logit=seen["logit"] + np.where(target, drop, 0.0))
    conditions, predictions = (
        pd.concat([synthetic, photos], ignore_index=True),
        pd.concat([said, seen], ignore_index=True),
    )
    a = analyze(conditions, predictions, QUICK)
    row = a.association[(a.association["emotion"] == "all") & (a.association["test"] == "permutation")].iloc[0]
    assert row["r"] < -0.5
    assert row["strata"] == "emotion, cohort"
    assert row["congruent"] == "yes"
    words = read(Case(conditions, predictions, a).write(tmp_path)).words
    assert "Is the real world congruent?" in words
    assert "congruent" in words
