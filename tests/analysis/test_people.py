"""Beside the primary analysis: mixed models, heterogeneity, the photos' association, power, matching rules, families."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from morphsym.analysis import AnalysisOptions, analyze
from morphsym.analysis.association import associate, partial_rank_correlation, permute_within
from morphsym.analysis.power import people_needed, plan_from_pilot, power_of, simulated_power
from morphsym.analysis.sensitivity import matching_sensitivity
from morphsym.errors import UsageError

from .factory import Planted, predict, tables

QUICK = AnalysisOptions(permutations=199, bootstrap=199, outcomes=("logit",), tests=("wilcoxon",))
RECORDED = json.loads((Path(__file__).parent / "references" / "references.json").read_text())


def test_a_mixed_model_agrees_with_the_subject_means_in_a_balanced_design() -> None:
    a = analyze(*tables(n_subjects=15, classifiers={"x": Planted(between=0.8), "flat": Planted(ie=0, ae=0)}), QUICK)
    assert len(a.mixed) == 4
    # balanced: the fixed intercept is the grand mean, whatever the variance components
    np.testing.assert_allclose(a.mixed["estimate"], a.mixed["subject_means"], atol=1e-6)
    assert a.mixed["agrees"].all()
    x = a.mixed[(a.mixed["classifier"] == "x") & (a.mixed["contrast"] == "TE")].iloc[0]
    assert x["p_value"] < 1e-4
    # and its standard error is that of the subject means
    u = a.units[(a.units["contrast"] == "TE") & (a.units["strength"] == 1.0) & (a.units["classifier"] == "x")]
    means = u.astype({"subject": str}).groupby("subject")["value"].mean()
    assert x["se"] == pytest.approx(means.std(ddof=1) / np.sqrt(15), rel=1e-3)


def test_where_there_is_no_mixed_model_a_note_says_why() -> None:
    a = analyze(*tables(n_subjects=5, emotions=("fear",), sides=("left",)), QUICK)
    assert a.mixed["estimate"].isna().all()
    assert a.mixed["note"].str.contains("no mixed model").all()
    a = analyze(*tables(n_subjects=5, classifiers={"constant": Planted(ie=0, ae=0, noise=0)}), QUICK)
    assert (a.mixed["note"] == "zero variance: no mixed model").all()


def test_heterogeneity_finds_for_whom() -> None:
    conditions, predictions = tables(n_subjects=24, classifiers={"x": Planted(noise=0.05, between=0.0)})
    subject = conditions["subject"].str[1:].astype(int)
    conditions["sex"] = np.where(subject % 2, "female", "male")
    conditions["age"] = 20.0 + subject
    conditions["fitzpatrick"] = "III"
    strong = conditions.loc[(conditions["arm"] == "unilateral") & (conditions["sex"] == "female"), "condition"]
    target = predictions["condition"].isin(strong) & (
        predictions["emotion"] == predictions["condition"].str.extract(r"\.(\w+)/")[0]
    )
    predictions.loc[target, "logit"] -= 1.0
    a = analyze(conditions, predictions, QUICK)
    h = a.heterogeneity[a.heterogeneity["contrast"] == "AE"]
    test = h[h["test"] == "kruskal_wallis"].iloc[0]
    assert test["attribute"] == "sex"
    levels = h[(h["attribute"] == "sex") & (h["level"] != "")].set_index("level")
    assert levels.loc["female", "estimate"] < levels.loc["male", "estimate"] - 0.5
    means = {}
    u = a.units[(a.units["contrast"] == "AE") & (a.units["strength"] == 1.0)].astype({"subject": str})
    for s, v in u.groupby("subject")["value"].mean().items():
        means.setdefault(int(s[1:]) % 2, []).append(v)
    assert test["p_value"] == pytest.approx(stats.kruskal(means[0], means[1]).pvalue, rel=1e-9)
    age = h[h["attribute"] == "age"].iloc[0]
    assert (age["test"], bool(age["p_adjusted"] > 0.05)) == ("spearman", True)
    assert h.loc[h["attribute"] == "fitzpatrick", "note"].item() == "every subject has the same value"


def test_effects_of_opposite_sign_in_two_emotions_do_not_hide_in_their_average() -> None:
    conditions, predictions = tables(n_subjects=10, classifiers={"x": Planted(ie=0.0, ae=0.0, noise=0.1)})
    edited = predictions["condition"].str.contains("/unilateral/")
    for emotion, shift in (("happiness", -0.6), ("sadness", 0.6)):
        rows = edited & predictions["condition"].str.contains(f".{emotion}/", regex=False)
        predictions.loc[rows & (predictions["emotion"] == emotion), "logit"] += np.float32(shift)
    a = analyze(conditions, predictions, QUICK)
    h = a.heterogeneity[(a.heterogeneity["attribute"] == "emotion") & (a.heterogeneity["contrast"] == "AE")]
    by = h.set_index("level")
    assert by.loc["happiness", "ci_high"] < 0 < by.loc["sadness", "ci_low"]
    u = a.units[(a.units["contrast"] == "AE") & (a.units["strength"] == 1.0)].astype({"subject": str, "emotion": str})
    wide = u.pivot_table(index="subject", columns="emotion", values="value")
    assert by.loc["", "test"] == "friedman"
    assert by.loc["", "p_value"] == pytest.approx(stats.friedmanchisquare(*wide.to_numpy().T).pvalue, rel=1e-9)
    assert a.verdicts["asymmetry"].item() in ("equivalent", "inconclusive")
    assert a.verdicts["differs_by_emotion"].item() == "TE, AE"
    assert a.verdicts["sentence"].item().endswith("It differs between emotions.")


def test_a_partial_rank_correlation_is_pingouins() -> None:
    recorded = RECORDED["partial_spearman"]
    f = pd.DataFrame(recorded["frame"])
    got = partial_rank_correlation(f["x"].to_numpy(), f["y"].to_numpy(), f[["z", "w"]].to_numpy(), np.zeros(len(f)))
    assert got.r == pytest.approx(recorded["r"], rel=1e-9)
    assert got.p_value == pytest.approx(recorded["p"], rel=1e-9)
    # without covariates it is scipy's Spearman
    plain = partial_rank_correlation(f["x"].to_numpy(), f["y"].to_numpy(), np.empty((len(f), 0)), np.zeros(len(f)))
    assert plain.r == pytest.approx(stats.spearmanr(f["x"], f["y"]).statistic, rel=1e-12)


def test_permutations_stay_within_their_strata() -> None:
    """A difference between strata alone must not become significant, and p follows t where there is one stratum."""
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 30)
    x, y = rng.normal(size=60) + 5 * groups, rng.normal(size=60) + 5 * groups
    got = partial_rank_correlation(x, y, np.empty((60, 0)), groups)
    assert permute_within(got.x, got.y, groups, 2000, 0) > 0.05
    crude = stats.spearmanr(x, y)
    assert crude.pvalue < 1e-6
    z = 0.35 * x[:30] + rng.normal(size=30)
    one = partial_rank_correlation(x[:30], z, np.empty((30, 0)), groups[:30])
    assert permute_within(one.x, one.y, groups[:30], 20_000, 0) == pytest.approx(one.p_value, abs=0.02)


def photos(n: int, slope: float, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Photos whose untouched output falls with their measured asymmetry; intensity and pose confounded with it."""
    rng = np.random.default_rng(seed)
    conditions, predictions = tables(n_subjects=n, source="photo", classifiers={"x": Planted(noise=0.1)}, seed=seed)
    subject = conditions["subject"].str[1:].astype(int).to_numpy()
    asymmetry, yaw = rng.gamma(2, 0.1, n), rng.normal(0, 8, n)
    intensity = 1 - asymmetry + 0.1 * rng.normal(size=n)
    conditions["realised_asymmetry"] = asymmetry[subject]
    conditions["realised_intensity"] = intensity[subject]
    for name, value in (("yaw", yaw), ("pitch", rng.normal(0, 5, n)), ("roll", rng.normal(0, 3, n))):
        conditions[name] = value[subject]
    original = conditions.loc[conditions["arm"] == "original"].set_index("condition")["subject"].str[1:].astype(int)
    rows = predictions["condition"].isin(original.index)
    own = predictions.loc[rows, "condition"].map(original).to_numpy()
    is_target = (
        predictions.loc[rows, "emotion"].to_numpy() == predictions.loc[rows, "condition"].str.extract(r"\.(\w+)/")[0]
    )
    predictions.loc[rows, "logit"] += ((slope * asymmetry[own] + 2 * intensity[own]) * is_target).astype("float32")
    return conditions, predictions


def test_the_photos_association_is_found_adjusted_and_set_beside_the_synthetic_effect() -> None:
    a = analyze(*photos(90, -8.0), QUICK)
    t = a.association[a.association["emotion"] == "all"].set_index("test")
    assert t.loc["permutation", "p_value"] < 0.02
    assert t.loc["permutation", "r"] < -0.2
    assert t.loc["permutation", "ci_low"] < t.loc["permutation", "r"] < t.loc["permutation", "ci_high"]
    assert t.loc["t", "p_value"] < 0.02
    assert t.loc["permutation", "congruent"] == "yes"
    assert t.loc["permutation", "covariates"] == "realised_intensity, yaw, pitch, roll"
    assert t.loc["permutation", "synthetic"] < 0


def test_confounding_by_intensity_alone_is_no_association() -> None:
    """Asymmetric faces are less intense, and intensity drives the output: crude association, no partial one."""
    p = [
        associate(*photos(60, 0.0, seed=s), permutations=199)
        .query("emotion == 'all' and test == 'permutation'")["p_value"]
        .item()
        for s in range(12)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.25
    assert max(p) > 0.3


def test_too_few_photos_are_a_sentence() -> None:
    a = analyze(*tables(n_subjects=4, source="photo", classifiers={"x": Planted()}), QUICK)
    assert set(a.association["test"]) == {"none"}
    assert a.association["note"].str.contains("too few").any()
    assert analyze(*tables(n_subjects=3), QUICK).association.empty


@pytest.mark.parametrize("dz", [-0.2, 0.5, 1.2])
def test_people_needed_is_the_smallest_that_reaches_the_power(dz: float) -> None:
    plan = people_needed(dz, 0.9, 0.05)
    assert plan.people is not None
    assert TTestPower().power(abs(dz), plan.people, 0.05) >= 0.9 > TTestPower().power(abs(dz), plan.people - 1, 0.05)
    assert power_of(plan.people, dz) >= 0.9


def test_a_plan_from_a_pilot_is_cautious_and_can_be_checked_by_simulation() -> None:
    a = analyze(*tables(n_subjects=12), QUICK)
    plan = plan_from_pilot(a.effects).set_index(["classifier", "contrast"])
    row = plan.loc[("six-labels", "TE")]
    assert row["people_cautious"] >= row["people"] >= 3
    assert row["alpha"] == pytest.approx(0.05 / 10)
    assert "no effect size" in plan.loc[("constant", "AE"), "note"]
    rng = np.random.default_rng(0)
    pilot = rng.normal(0.5, 1.0, 4000)
    pilot = (pilot - pilot.mean()) / pilot.std() + 0.5
    power, error = simulated_power(pilot, 44)
    assert power == pytest.approx(power_of(44, 0.5), abs=4 * error + 0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: people_needed(0.0), "must be a number other than 0"),
        (lambda: people_needed(0.5, power=1.5), "power must lie between 0 and 1"),
        (lambda: simulated_power(np.array([1.0, np.nan]), 10), "at least 3 people"),
        (lambda: matching_sensitivity({}), "at least two matching rules"),
    ],
)
def test_plans_that_cannot_be_made_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        call()


def test_matching_rules_are_compared_on_the_same_total() -> None:
    conditions, predictions = tables(n_subjects=8, classifiers={"x": Planted(), "y": Planted(ae=0.0)})
    matched = predictions["condition"].str.contains("/matched/") & (predictions["label"] == "Happiness")
    other = predictions.assign(logit=predictions["logit"] + np.where(matched, 0.05, 0.0).astype("float32"))
    analyses = {"mesh": analyze(conditions, predictions, QUICK), "coefficients": analyze(conditions, other, QUICK)}
    table = matching_sensitivity(analyses)
    assert table.groupby("classifier")["TE"].nunique().tolist() == [1, 1]
    assert table["rule"].tolist() == ["mesh", "coefficients"] * 2
    assert (table.loc[table["classifier"] == "x", "AE_range"] > 0).all()
    assert table["agree"].all()
    stranger = analyze(conditions, predict(conditions, {"x": Planted(), "y": Planted()}, 99), QUICK)
    with pytest.raises(UsageError, match="these are not the same units"):
        matching_sensitivity({"mesh": analyses["mesh"], "landmarks": stranger})
