"""The whole analysis on tables with planted effects, and on everything that can be wrong with tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from morphsym.analysis import EFFECT_COLUMNS, Analysis, AnalysisOptions, analyze
from morphsym.errors import UsageError

from .factory import SEVEN, Planted, predict, tables

FULL = AnalysisOptions(permutations=999, bootstrap=999)
QUICK = AnalysisOptions(permutations=499, bootstrap=499, outcomes=("logit",), cross_checks=False)


def primary(a: Analysis, contrast: str, classifier: str, test: str = "wilcoxon", source: str = "sampled") -> pd.Series:
    e = a.effects
    e = e[e["primary"] & (e["contrast"] == contrast) & (e["classifier"] == classifier) & (e["test"] == test)]
    return e[e["source"] == source].iloc[0]


@pytest.fixture(scope="module")
def twelve() -> Analysis:
    return analyze(*tables(n_subjects=12), FULL)


def test_the_columns_are_those_of_the_design_in_that_order(twelve: Analysis) -> None:
    design = "classifier emotion contrast side strength region estimate ci_low ci_high effect_size n_units n_subjects"
    design += " n_excluded test statistic p_value p_adjusted"
    assert list(twelve.effects.columns)[:17] == design.split()
    assert tuple(twelve.effects.columns) == EFFECT_COLUMNS
    key = ["source", "outcome", "classifier", "emotion", "contrast", "side", "strength", "region", "pooled", "test"]
    assert not twelve.effects.duplicated(key).any()


def test_planted_effects_are_found_and_absent_ones_are_not(twelve: Analysis) -> None:
    verdicts = twelve.verdicts.set_index("classifier")
    assert verdicts.loc["reacts", ["total", "asymmetry"]].tolist() == ["lowers", "lowers"]
    assert verdicts.loc["intensity-only", ["total", "asymmetry"]].tolist() == ["lowers", "equivalent"]
    assert verdicts.loc["asymmetry-only", ["total", "asymmetry"]].tolist() == ["lowers", "lowers"]
    assert verdicts.loc["constant", ["total", "asymmetry"]].tolist() == ["equivalent", "equivalent"]
    assert verdicts.loc["six-labels", "asymmetry"] == "raises"
    row = primary(twelve, "AE", "reacts")
    assert row["ci_low"] < -0.5 < row["ci_high"]
    assert row["n_units"] == 36
    assert row["n_subjects"] == 12


def test_total_is_intensity_plus_asymmetry_in_every_row(twelve: Analysis) -> None:
    d = twelve.decomposition
    np.testing.assert_allclose(d["TE"], d["IE"] + d["AE"], atol=1e-12)
    clear = (d["TE_low"] > 0) | (d["TE_high"] < 0)
    assert d.loc[~clear, "asymmetry_share"].isna().all()
    np.testing.assert_allclose(d.loc[clear, "asymmetry_share"], (d["AE"] / d["TE"])[clear])


def test_the_dose_response_carries_what_the_edit_realised(twelve: Analysis) -> None:
    d = twelve.dose_response
    d = d[(d["classifier"] == "reacts") & (d["pooled"] == "emotion+side") & (d["outcome"] == "logit")]
    te = d[d["contrast"] == "TE"]
    assert te["strength"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert (np.diff(te["estimate"]) < 0).all()
    np.testing.assert_allclose(te["realised_asymmetry"], 0.3 * te["strength"] + 0.01)


def test_same_seed_same_bytes_and_the_order_of_rows_does_not_matter(twelve: Analysis) -> None:
    conditions, predictions = tables(n_subjects=12)
    again = analyze(conditions.sample(frac=1, random_state=0), predictions, FULL)
    pd.testing.assert_frame_equal(again.effects, twelve.effects, rtol=1e-6)
    once_more = analyze(conditions, predictions, FULL)
    assert once_more.effects.to_csv() == twelve.effects.to_csv()
    assert json.dumps(once_more.summary) == json.dumps(twelve.summary)


def test_swapping_left_and_right_turns_the_side_bias(twelve: Analysis) -> None:
    conditions, predictions = tables(n_subjects=12)
    swapped = conditions.assign(side=conditions["side"].replace({"left": "right", "right": "left"}))
    other = analyze(swapped, predictions, QUICK)
    where = {
        "contrast": "side_bias",
        "classifier": "asymmetry-only",
        "strength": 1.0,
        "pooled": "emotion",
        "outcome": "logit",
    }
    pick = [a.effects[(a.effects[list(where)] == pd.Series(where)).all(axis=1)].iloc[0] for a in (twelve, other)]
    assert pick[0]["estimate"] == pytest.approx(0.3, abs=0.1)
    assert pick[1]["estimate"] == pytest.approx(-pick[0]["estimate"])
    assert primary(twelve, "AE", "reacts")["estimate"] == pytest.approx(primary(other, "AE", "reacts")["estimate"])


def test_the_primary_family_is_what_it_is_said_to_be(twelve: Analysis) -> None:
    e = twelve.effects
    family = e[e["family"] == "sampled/logit/wilcoxon/primary"]
    assert len(family) == 2 * 5
    assert set(family["contrast"]) == {"TE", "AE"}
    assert family["primary"].all()
    order = family.sort_values("p_value")
    smallest = order.iloc[0]
    assert smallest["p_adjusted"] == pytest.approx(min(1, 10 * smallest["p_value"]))
    assert (e["p_holm"].dropna() >= e.loc[e["p_holm"].notna(), "p_value"] - 1e-15).all()


def test_the_summary_is_json_without_nan(twelve: Analysis) -> None:
    text = json.dumps(twelve.summary, allow_nan=False)
    assert "4 of 5 classifiers lower their output" in text
    assert json.loads(text)["sources"]["sampled"]["asymmetry"]["lowers"] == 2


def test_one_photo_is_shown_with_its_numbers_and_no_test_is_claimed() -> None:
    a = analyze(*tables(n_subjects=1, source="photo"), QUICK)
    assert np.isfinite(a.effects["estimate"]).all()
    for column in ("ci_low", "ci_high", "effect_size", "p_value", "p_adjusted", "statistic"):
        assert a.effects[column].isna().all()
    assert set(a.effects["test"]) == {"none"}
    assert a.effects["note"].str.contains("one subject: no test").all()
    assert set(a.verdicts["total"]) == {"untested"}
    assert "a single subject allows no test" in a.summary["answer"][0]
    json.dumps(a.summary, allow_nan=False)


def test_photos_and_sampled_people_are_analysed_apart() -> None:
    one, two = tables(n_subjects=6), tables(n_subjects=7, source="photo", seed=9)
    both = analyze(pd.concat([one[0], two[0]]), pd.concat([one[1], two[1]]), QUICK)
    alone = analyze(*one, QUICK)
    mine = both.effects[both.effects["source"] == "sampled"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone.effects, rtol=1e-6)
    assert set(both.effects["source"]) == {"photo", "sampled"}
    assert len(both.summary["answer"]) == 2


def test_an_effect_below_the_null_error_is_flagged_and_not_reported_as_found() -> None:
    weak = {"weak": Planted(ie=0.0, ae=-0.3, null_error=0.5, noise=0.02), "strong": Planted(ae=-3.0, null_error=0.5)}
    a = analyze(*tables(n_subjects=20, source="photo", classifiers=weak), QUICK)
    row = primary(a, "TE", "weak", source="photo")
    assert row["p_adjusted"] < 0.01
    assert row["below_null_error"]
    assert row["null_error_size"] == pytest.approx(0.5, abs=1e-3)
    assert "not reported as found" in row["note"]
    verdicts = a.verdicts.set_index("classifier")
    assert verdicts.loc["weak", "total"] == "inconclusive"
    assert "smaller than the null error" in verdicts.loc["weak", "sentence"]
    assert verdicts.loc["strong", "total"] == "lowers"


@pytest.mark.parametrize(
    ("arm", "lost", "kept"),
    [("matched", ["AE", "IE"], ["TE"]), ("baseline", ["TE", "IE"], ["AE"]), ("unilateral", ["TE", "AE"], ["IE"])],
)
def test_a_missing_arm_is_a_sentence_and_the_rest_is_computed(arm: str, lost: list[str], kept: list[str]) -> None:
    conditions, predictions = tables(n_subjects=6)
    conditions = conditions[conditions["arm"] != arm]
    predictions = predictions[predictions["condition"].isin(conditions["condition"])]
    a = analyze(conditions, predictions, QUICK)
    for contrast in lost:
        row = primary(a, contrast, "reacts", test="none")
        assert np.isnan(row["estimate"])
        assert row["note"] == f"not computed: the run has no '{arm}' arm"
    for contrast in kept:
        assert np.isfinite(primary(a, contrast, "reacts")["estimate"])
    assert a.exclusions["reason"].str.contains(f"there is no '{arm}' arm").any()
    assert "could not be computed" in " ".join(a.verdicts["sentence"])
    json.dumps(a.summary, allow_nan=False)


def test_awkward_tables_give_notes_and_no_crash() -> None:
    """NaN logits, a classifier without an emotion, a cut file, one unit, two subjects, one side, one strength."""
    conditions, predictions = tables(n_subjects=6)
    predictions.loc[predictions["classifier"] == "reacts", "logit"] = np.nan
    a = analyze(conditions, predictions.iloc[: len(predictions) * 2 // 3], QUICK)
    row = primary(a, "TE", "reacts", test="none")
    assert row["note"] == "no complete pair: see the exclusions"
    assert row["n_excluded"] == 18
    assert a.exclusions["reason"].str.contains("not finite").any()
    for kwargs in (
        {"n_subjects": 1, "emotions": ("happiness",), "sides": ("left",), "strengths": (1.0,)},
        {"n_subjects": 2, "sides": ("both",), "strengths": (0.5,)},
        {"n_subjects": 3, "regions": ("mouth", "eye")},
        {"n_subjects": 4, "emotions": ("contempt", "happiness")},
        {"n_subjects": 4, "emotions": ("contempt",)},
    ):
        a = analyze(*tables(**kwargs), QUICK)  # type: ignore[arg-type]
        json.dumps(a.summary, allow_nan=False)
        empty = a.effects["estimate"].isna() | a.effects["p_value"].isna()
        assert (a.effects.loc[empty, "note"] != "").all()
        assert not a.verdicts["sentence"].str.contains("nan", case=False).any()


def test_classifiers_that_lack_an_emotion_are_named_in_the_effects() -> None:
    classifiers = {"a": Planted(), "b": Planted(labels=tuple(e for e in SEVEN if e != "surprise"))}
    a = analyze(*tables(n_subjects=5, classifiers=classifiers), QUICK)
    rows = a.effects[(a.effects["classifier"] == "b") & (a.effects["emotion"] == "surprise")]
    assert len(rows)
    assert (rows["n_subjects"] == 0).all()
    assert (rows["note"] == "the classifier has no label for surprise").all()
    pooled = primary(a, "TE", "b")
    assert (pooled["n_units"], pooled["n_excluded"]) == (10, 5)


def test_failed_conditions_are_counted_in_their_cells() -> None:
    conditions, _ = tables(n_subjects=6, emotions=("happiness",))
    bad = conditions["condition"] == "s0003.happiness/unilateral/left/1/all"
    conditions.loc[bad, ["status", "reason"]] = ["failed", "lost triangles"]
    a = analyze(conditions, predict(conditions, {"x": Planted()}, 1), QUICK)
    e = a.effects[
        (a.effects["contrast"] == "AE") & (a.effects["test"] == "wilcoxon") & (a.effects["outcome"] == "logit")
    ]
    left = e[(e["side"] == "left") & (e["strength"] == 1.0) & (e["emotion"] == "happiness")].iloc[0]
    assert (left["n_units"], left["n_subjects"], left["n_excluded"]) == (5, 5, 1)
    assert a.summary["exclusions"]["reasons"] == {"condition failed: lost triangles": 1}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"alpha": 2.0}, "alpha must lie between 0 and 1; got 2.0"),
        ({"tests": ("z",)}, "tests must be one of wilcoxon"),
        ({"bootstrap": 3}, "bootstrap must be at least 99; got 3"),
        ({"sesoi": {"logit": 0.1}}, "sesoi must give a positive number for the outcome 'probability'"),
        ({"primary_test": "sign", "tests": ("wilcoxon",)}, "primary_test must be one of wilcoxon"),
    ],
)
def test_wrong_options_are_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AnalysisOptions(**kwargs)


def test_a_primary_estimand_that_is_not_in_the_run_is_refused() -> None:
    conditions, predictions = tables(n_subjects=2)
    with pytest.raises(UsageError, match=r"primary_strength 0.6 is not in this run \(sampled: 0.25, 0.5, 0.75, 1.0\)"):
        analyze(conditions, predictions, AnalysisOptions(primary_strength=0.6))
    with pytest.raises(UsageError, match=r"primary_region 'eye' is not in this run \(sampled: all\)"):
        analyze(conditions, predictions, AnalysisOptions(primary_region="eye"))


def test_labels_that_are_no_emotion_count_in_the_mean_and_nothing_else() -> None:
    conditions, predictions = tables(n_subjects=3, classifiers={"x": Planted(noise=0.0, between=0.0)})
    spoilt = predictions.assign(emotion=predictions["emotion"].where(predictions["emotion"] != "disgust"))
    a, b = analyze(conditions, predictions, QUICK), analyze(conditions, spoilt, QUICK)
    pd.testing.assert_frame_equal(a.effects, b.effects)
    without = predictions[predictions["emotion"] != "disgust"]
    assert primary(analyze(conditions, without, QUICK), "TE", "x")["estimate"] != primary(a, "TE", "x")["estimate"]


def test_photos_without_any_edit_beside_sampled_people_are_a_sentence() -> None:
    one, two = tables(n_subjects=4), tables(n_subjects=3, source="photo", seed=9)
    photos = two[0][two[0]["strength"] == 0]
    a = analyze(pd.concat([one[0], photos]), pd.concat([one[1], two[1][two[1]["condition"].isin(photos["condition"])]]))
    mine = a.verdicts[a.verdicts["source"] == "photo"]
    assert set(mine["total"]) == {"untested"}
    assert mine["note"].str.contains("the run has no 'unilateral'").all()
    assert (a.effects.loc[a.effects["source"] == "photo", "contrast"] == "null_error").any()
    json.dumps(a.summary, allow_nan=False)


def test_all_photos_failed() -> None:
    one, two = tables(n_subjects=4), tables(n_subjects=2, source="photo", seed=9)
    two[0][["status", "reason"]] = ["failed", "no face found"]
    a = analyze(pd.concat([one[0], two[0]]), one[1], QUICK)
    assert set(a.verdicts.loc[a.verdicts["source"] == "photo", "total"]) == {"untested"}
    assert "condition failed: no face found" in a.summary["exclusions"]["reasons"]
    assert "0 subjects with complete pairs allows no test" in a.summary["answer"][0]


def test_tables_are_written_and_read_without_a_nan_in_the_text(twelve: Analysis, tmp_path) -> None:  # type: ignore[no-untyped-def]
    twelve.effects.to_csv(tmp_path / "effects.csv", index=False)
    text = (tmp_path / "effects.csv").read_text()
    assert "nan" not in text.lower()
    back = pd.read_csv(tmp_path / "effects.csv", keep_default_na=True)
    assert list(back.columns) == list(twelve.effects.columns)
    np.testing.assert_allclose(back["estimate"], twelve.effects["estimate"], rtol=1e-12)
    assert back["strength"].dtype == np.float64
    for name in ("effects", "units", "verdicts", "exclusions", "dose_response", "decomposition", "flips", "checks",
                 "mixed", "heterogeneity", "association"):  # fmt: skip
        getattr(twelve, name).to_parquet(tmp_path / f"{name}.parquet")
