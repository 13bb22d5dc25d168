"""Slopes, monotone trend, flip doses and McNemar against independent computations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from morphsym.analysis import Analysis, AnalysisOptions, analyze
from morphsym.analysis.dose import page

from .factory import Planted, predict, tables

CLASSIFIERS = {"x": Planted(ie=-1.0, ae=-0.7, noise=0.6), "flat": Planted(ie=0.0, ae=0.0)}
RECORDED = json.loads((Path(__file__).parent / "references" / "references.json").read_text())


@pytest.fixture(scope="module")
def ten() -> Analysis:
    options = AnalysisOptions(permutations=499, bootstrap=499)
    return analyze(*tables(n_subjects=10, emotions=("happiness", "sadness"), classifiers=CLASSIFIERS), options)


def test_a_units_slope_is_the_least_squares_slope_with_the_baseline_as_dose_0(ten: Analysis) -> None:
    u = ten.units[(ten.units["outcome"] == "logit") & (ten.units["unit"] == "s0003.sadness")]
    u = u[(u["side"] == "left") & (u["classifier"] == "x")]
    for contrast in ("TE", "IE", "AE"):
        curve = u[u["contrast"] == contrast].sort_values("strength")
        want = np.polyfit([0, *curve["strength"]], [0, *curve["value"]], 1)[0]
        assert u.loc[u["contrast"] == f"{contrast}_slope", "value"].item() == pytest.approx(want, rel=1e-9)
    slopes = u[u["contrast"].str.endswith("_slope")].set_index("contrast")["value"]
    assert slopes["TE_slope"] == pytest.approx(slopes["IE_slope"] + slopes["AE_slope"], abs=1e-12)


def test_a_slope_row_is_tested_over_subjects(ten: Analysis) -> None:
    e = ten.effects
    row = e[(e["contrast"] == "AE_slope") & (e["classifier"] == "x") & (e["outcome"] == "logit")]
    row = row[(row["pooled"] == "emotion+side") & (row["test"] == "paired_t")].iloc[0]
    u = ten.units[(ten.units["contrast"] == "AE_slope") & (ten.units["classifier"] == "x")]
    mean = u[u["outcome"] == "logit"].astype({"subject": str}).groupby("subject")["value"].mean()
    assert row["p_value"] == pytest.approx(stats.ttest_1samp(mean, 0).pvalue, rel=1e-9)
    assert np.isnan(row["strength"])
    assert row["estimate"] == pytest.approx(-0.7, abs=0.25)


def test_page_is_scipys_and_two_sided(ten: Analysis) -> None:
    e = ten.effects
    where = (e["classifier"] == "x") & (e["outcome"] == "logit") & (e["emotion"] == "sadness") & (e["side"] == "left")
    row = e[where & (e["contrast"] == "TE_slope") & (e["test"] == "page")].iloc[0]
    u = ten.units[(ten.units["contrast"] == "TE") & (ten.units["classifier"] == "x")]
    u = u[u["outcome"] == "logit"]
    u = u[(u["emotion"] == "sadness") & (u["side"] == "left")].astype({"subject": str})
    data = u.pivot_table(index="subject", columns="strength", values="value").to_numpy()
    data = np.column_stack([np.zeros(10), data])
    want = stats.page_trend_test(-data)
    assert row["statistic"] == want.statistic
    assert row["p_value"] == pytest.approx(2 * want.pvalue, rel=1e-9)
    assert row["p_value"] < 1e-3
    flat = e[(e["classifier"] == "flat") & (e["contrast"] == "AE_slope") & (e["test"] == "page") & (e["pooled"] == "")]
    assert (flat["p_value"] > 0.001).all()
    assert not e.loc[e["test"] == "page", "p_value"].isna().any()


def test_page_agrees_with_the_recorded_values() -> None:
    ranked = np.array(RECORDED["page"]["ranked"])
    n = ranked.shape[1]
    rows = [("AE", (s + 1) / n) for s in range(n)] + [("AE_slope", np.nan)]
    table = pd.DataFrame(rows, columns=["contrast", "strength"])
    table[["classifier", "emotion", "side", "region", "pooled"]] = ["x", "fear", "left", "all", ""]
    values = np.column_stack([-ranked, np.zeros(len(ranked))])
    got = page(table, values)
    assert got.statistic[n] == RECORDED["page"]["statistic"]
    assert got.p_value[n] == pytest.approx(2 * RECORDED["page"]["exact"], rel=1e-9)


def test_mcnemar_is_the_exact_test_of_top_1_changes(ten: Analysis) -> None:
    e = ten.effects
    rows = e[e["test"] == "mcnemar"]
    assert set(rows["outcome"]) == {"top1"}
    assert set(rows["pooled"]) == {""}
    strongest = rows[(rows["classifier"] == "x") & (rows["contrast"] == "TE") & (rows["strength"] == 1.0)]
    assert len(strongest) == 4
    for _, row in strongest.iterrows():
        u = ten.units[(ten.units["contrast"] == "TE") & (ten.units["outcome"] == "top1")]
        u = u[(u["classifier"] == "x") & (u["emotion"] == row["emotion"]) & (u["side"] == row["side"])]
        d = u.loc[u["strength"] == 1.0, "value"]
        b, c = int((d < 0).sum()), int((d > 0).sum())
        want = mcnemar([[3, b], [c, 2]], exact=True)
        assert row["p_value"] == pytest.approx(want.pvalue, rel=1e-9)
        assert row["statistic"] == want.statistic
    recorded = RECORDED["mcnemar"]
    p = min(1.0, 2 * stats.binom.cdf(min(recorded["b"], recorded["c"]), recorded["b"] + recorded["c"], 0.5))
    assert p == pytest.approx(recorded["p"], rel=1e-9)


def test_the_dose_at_which_the_decision_flips() -> None:
    """Two labels, no noise: the decision flips where the planted line crosses zero."""
    labels = ("happiness", "neutral")
    conditions, _ = tables(n_subjects=9, emotions=("happiness",), sides=("left",), strengths=np.arange(1, 11) / 10)
    predictions = predict(conditions, {"x": Planted(ie=-2.0, ae=-4.0, noise=0.0, between=0.0, labels=labels)}, 5)
    a = analyze(conditions, predictions, AnalysisOptions(permutations=99, bootstrap=99))
    u = predictions.merge(conditions[["condition", "arm", "strength", "unit"]], on="condition")
    u = u[u["emotion"] == "happiness"]
    base = u[u["arm"] == "baseline"].set_index("unit")["probability"]
    start = base[base > 0.5]
    right = u[(u["arm"] == "unilateral") & u["unit"].isin(start.index)]
    f = a.flips[(a.flips["arm"] == "unilateral") & (a.flips["pooled"] == "") & (a.flips["classifier"] == "x")]
    assert (f["n_units"] == len(start)).all()
    want = right.assign(wrong=right["probability"] <= 0.5).groupby("strength")["wrong"].sum()
    assert f["n_flipped"].tolist() == want.tolist()
    first = right[right["probability"] <= 0.5].groupby("unit")["strength"].min().reindex(start.index, fill_value=np.inf)
    assert f["median_flip_dose"].iloc[0] == pytest.approx(np.sort(first)[(len(first) + 1) // 2 - 1])
    assert (f["n_returned"] == 0).all()
    assert (a.flips["share"].between(0, 1)).all()


def test_one_dose_allows_no_slope_and_nothing_breaks() -> None:
    a = analyze(*tables(n_subjects=4, strengths=(0.5,)), AnalysisOptions(permutations=99, bootstrap=99))
    assert not a.effects["contrast"].str.endswith("_slope").any()
    assert set(a.flips["strength"]) == {0.5}
