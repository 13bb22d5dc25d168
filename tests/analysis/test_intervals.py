"""Bootstrap intervals against scipy.stats.bootstrap, and where BCa does not hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from morphsym.analysis.intervals import bootstrap_mean, counts


@pytest.mark.parametrize("kind", ["bca", "percentile"])
def test_intervals_agree_with_scipy_within_monte_carlo_error(kind: str) -> None:
    rng = np.random.default_rng(0)
    d = [rng.normal(size=30), rng.exponential(size=30), rng.standard_t(3, size=30), rng.gamma(0.5, size=30)]
    d = np.column_stack(d)
    got = bootstrap_mean(d, 40_000, kind=kind, expand=False)
    method = {"bca": "BCa", "percentile": "percentile"}[kind]
    for k in range(4):
        want = stats.bootstrap((d[:, k],), np.mean, n_resamples=40_000, method=method, rng=np.random.default_rng(9))
        width = want.confidence_interval.high - want.confidence_interval.low
        # the Monte Carlo error of a 2.5 % quantile of 40,000 is about 1 % of the width
        assert got.low[k] == pytest.approx(want.confidence_interval.low, abs=0.03 * width)
        assert got.high[k] == pytest.approx(want.confidence_interval.high, abs=0.03 * width)
        assert got.kind[k] == kind


def test_the_same_draws_give_scipys_bca_to_the_last_digits() -> None:
    """Replay our resamples through an independent BCa: scipy's own formula on the full jackknife."""
    rng = np.random.default_rng(2)
    x = rng.gamma(1.5, size=24)
    w = counts(24, 4000, 7)
    boot = np.sort(w.astype(float) @ x / 24)
    jack = np.array([np.delete(x, i).mean() for i in range(24)])
    u = jack.mean() - jack
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    z0 = stats.norm.ppf((boot < x.mean()).mean())
    levels = [stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in stats.norm.ppf([0.025, 0.975])]
    want = np.quantile(boot, levels)
    got = bootstrap_mean(x[:, None], 4000, kind="bca", seed=7, expand=False)
    assert [got.low[0], got.high[0]] == pytest.approx(want, abs=2e-6)  # float32 replicates


def test_resampling_is_of_n_subjects_with_replacement() -> None:
    w = counts(13, 500, 0)
    assert (w.sum(axis=1) == 13).all()
    assert w.var() == pytest.approx(12 / 13, abs=0.05)


def test_expansion_widens_to_students_interval_for_normal_data() -> None:
    x = stats.norm.ppf((np.arange(10) + 0.5) / 10)[:, None]  # symmetric: BCa = percentile
    got = bootstrap_mean(x, 100_000, kind="percentile")
    t = stats.t.interval(0.95, 9, 0, x.std(ddof=1) / np.sqrt(10))
    assert got.high[0] == pytest.approx(t[1], rel=0.03)
    narrow = bootstrap_mean(x, 100_000, kind="percentile", expand=False)
    assert narrow.high[0] < 0.87 * got.high[0]


def test_where_there_is_no_interval_a_note_says_why() -> None:
    d = np.full((8, 4), np.nan)
    d[0, 0] = 1.0
    d[:, 2] = 0.25
    d[:3, 3] = [1.0, 2.0, 4.0]
    got = bootstrap_mean(d, 999, kind="bca")
    assert got.kind.tolist() == ["none", "none", "percentile", "percentile"]
    assert np.isnan(got.low[:2]).all()
    assert got.note[0] == "one subject: no interval"
    assert (got.low[2], got.high[2]) == (0.25, 0.25)
    assert "zero variance" in got.note[2]
    assert "rough" in got.note[3]
    assert 1.0 <= got.low[3] <= got.high[3] <= 4.0


def test_a_cells_interval_does_not_depend_on_its_company() -> None:
    d = np.random.default_rng(0).normal(size=(20, 6))
    d[3, 2] = np.nan
    all_of_them, one = bootstrap_mean(d, 2000, seed=4), bootstrap_mean(d[:, [2]], 2000, seed=4)
    assert all_of_them.low[2] == pytest.approx(one.low[0], abs=1e-6)
    assert all_of_them.high[2] == pytest.approx(one.high[0], abs=1e-6)
