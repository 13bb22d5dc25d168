"""Against recorded values of pingouin, statsmodels and scipy; see references/make_references.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from morphsym.analysis import tests as T
from morphsym.analysis.corrections import adjust
from morphsym.analysis.effectsizes import dz, g_av, rank_biserial

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "references" / "references.json").read_text())


@pytest.mark.parametrize("case", RECORDED["paired"], ids=lambda c: f"n={len(c['first'])}")
def test_effect_sizes_and_tests_are_those_recorded(case: dict[str, Any]) -> None:
    first, second = (np.array(case[k])[:, None] for k in ("first", "second"))
    d = first - second
    assert g_av(first, second)[0] == pytest.approx(case["hedges_g_av"], rel=1e-9)
    assert rank_biserial(d)[0] == pytest.approx(case["rank_biserial"], rel=1e-9)
    t = T.paired_t(d)
    assert (t.statistic[0], t.p_value[0]) == pytest.approx((case["t"], case["t_p"]), rel=1e-9)
    assert dz(d)[0] == pytest.approx(case["t"] / np.sqrt(len(d)), rel=1e-9)
    assert T.tost(d, 0.5).p_value[0] == pytest.approx(case["tost_p"], rel=1e-9)
    assert case["tost_p"] == pytest.approx(case["ttost_mean_p"], rel=1e-9)  # two tools agree on the bound's meaning


def test_effect_sizes_per_cell_do_not_see_other_cells_or_missing_subjects() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 15, 6))
    first[3, 2] = np.nan
    for f in (lambda a, b: dz(a - b), g_av, lambda a, b: rank_biserial(a - b)):
        together = f(first, second)
        for k in range(6):
            keep = ~np.isnan(first[:, k])
            assert together[k] == pytest.approx(f(first[keep][:, [k]], second[keep][:, [k]])[0], rel=1e-12)


def test_effect_sizes_without_variance_are_not_numbers() -> None:
    flat = np.full((5, 1), 0.4)
    assert np.isnan(dz(flat)[0])
    assert np.isnan(g_av(flat, flat - 1)[0])
    assert rank_biserial(-flat)[0] == -1.0
    assert np.isnan(rank_biserial(0 * flat)[0])


@pytest.mark.parametrize("method", ["holm", "fdr_bh"])
def test_corrections_are_statsmodels(method: str) -> None:
    p = np.array(RECORDED["corrections"]["p"])
    family = pd.Series(["a"] * len(p))
    np.testing.assert_allclose(adjust(p, family, method), RECORDED["corrections"][method], rtol=1e-9)
    # two families and gaps: each family on its own, gaps are no hypotheses
    mixed = np.concatenate([p, [np.nan], p**2])
    family = pd.Series(["a"] * len(p) + ["b"] + ["b"] * len(p)).sample(frac=1, random_state=0)
    order = family.index.to_numpy()
    got = adjust(mixed[order], family, method)
    assert np.isnan(got[order == len(p)]).all()
    np.testing.assert_allclose(got[np.argsort(order)][len(p) + 1 :], multipletests(p**2, method=method)[1], rtol=1e-9)
