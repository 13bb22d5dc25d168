"""The paired tests against scipy.stats, and what they say where nothing can be tested."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from morphsym.analysis import tests as T


def blocks(n: int, k: int = 40, seed: int = 0) -> np.ndarray:
    """(n, k): normal, skewed, heavy-tailed, tied, zero-laden and shifted columns."""
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(n, k))
    d[:, 5:10] = rng.exponential(size=(n, 5)) - 1
    d[:, 10:15] = rng.standard_t(1.5, size=(n, 5))
    d[:, 15:20] = np.round(d[:, 15:20] * 2) / 2  # ties and zeros
    d[:, 20:25] = np.where(rng.random((n, 5)) < 0.3, 0.0, d[:, 20:25])  # zeros, no ties
    d[:, 25:] += np.linspace(-1, 1, k - 25)
    return d


def with_gaps(d: np.ndarray, seed: int = 1) -> np.ndarray:
    d = d.copy()
    d[np.random.default_rng(seed).random(d.shape) < 0.1] = np.nan
    return d


@pytest.mark.parametrize("n", [3, 8, 12, 20, 60])
def test_paired_t_is_scipys(n: int) -> None:
    d = with_gaps(blocks(n))
    got = T.paired_t(d)
    for k in range(d.shape[1]):
        x = d[:, k][~np.isnan(d[:, k])]
        if got.note[k]:
            assert len(x) < 2 or np.ptp(x) == 0
            continue
        want = stats.ttest_1samp(x, 0.0)
        assert got.statistic[k] == pytest.approx(want.statistic, rel=1e-9)
        assert got.p_value[k] == pytest.approx(want.pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [4, 9, 13, 14, 30, 50, 51, 120])
@pytest.mark.parametrize("zero_method", ["wilcox", "pratt", "zsplit"])
@pytest.mark.filterwarnings("ignore")
def test_wilcoxon_is_scipys_in_every_regime(n: int, zero_method: str) -> None:
    d = with_gaps(blocks(n))
    got = T.wilcoxon(d, zero_method)
    for k in range(0, d.shape[1], 2):
        x = d[:, k][~np.isnan(d[:, k])]
        if len(x) < 2 or not x.any():
            continue
        want = stats.wilcoxon(x, zero_method=zero_method)  # method='auto', one cell at a time
        assert got.statistic[k] == pytest.approx(want.statistic, abs=1e-9), k
        assert got.p_value[k] == pytest.approx(want.pvalue, rel=1e-9), k


@pytest.mark.parametrize("n", [2, 7, 15, 200])
def test_sign_test_is_the_exact_binomial(n: int) -> None:
    d = with_gaps(blocks(n))
    got = T.sign(d)
    for k in range(d.shape[1]):
        positive, negative = int((d[:, k] > 0).sum()), int((d[:, k] < 0).sum())
        if (~np.isnan(d[:, k])).sum() >= 2 and positive + negative:
            want = stats.binomtest(positive, positive + negative).pvalue
            assert got.p_value[k] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("n", [3, 8, 12])
def test_exact_sign_flips_are_scipys_permutation_test(n: int) -> None:
    d = blocks(n)
    got = T.sign_flip(d)
    assert (got.mc_error == 0).all()
    for k in range(0, d.shape[1], 3):
        want = stats.permutation_test(
            (d[:, k],), np.mean, permutation_type="samples", n_resamples=2**n, vectorized=True, axis=-1
        )
        assert got.p_value[k] == pytest.approx(want.pvalue, abs=1e-12), k


def test_monte_carlo_sign_flips_agree_with_enumeration_within_their_error() -> None:
    d = blocks(18)[:, 10:]
    signs = T.all_signs(18)
    exact = (np.abs(signs @ d) >= np.abs(d.sum(axis=0)) - 1e-12 * np.abs(d).sum(axis=0)).mean(axis=0)
    got = T.sign_flip(d, permutations=20_000, seed=3)
    sure = exact == 1.0  # the observed mean is zero
    assert (got.p_value[sure] == 1.0).all()
    assert (got.mc_error[~sure] > 0).all()
    z = (got.p_value - exact)[~sure] / np.sqrt(exact * (1 - exact) / 20_000)[~sure]
    assert np.abs(z).max() < 4.5
    assert got.p_value.min() >= 1 / 20_001


def test_a_cells_p_does_not_depend_on_its_company_and_follows_the_seed() -> None:
    d = blocks(40)
    alone = T.sign_flip(d[:, [7]], seed=5).p_value[0]
    assert alone == T.sign_flip(d, seed=5).p_value[7]
    assert alone != T.sign_flip(d[:, [7]], seed=6).p_value[0]
    gaps = np.vstack([d[:, [7]], np.full((3, 1), np.nan)])
    assert alone == T.sign_flip(gaps, seed=5).p_value[0]


def test_swapping_the_arms_changes_no_p_and_turns_the_sign() -> None:
    d = with_gaps(blocks(25))
    for name in ("wilcoxon", "paired_t", "sign_flip", "sign"):
        one = T.run(name, d, permutations=999, seed=0, zero_method="wilcox")
        two = T.run(name, -d, permutations=999, seed=0, zero_method="wilcox")
        np.testing.assert_allclose(one.p_value, two.p_value, rtol=1e-12)
    np.testing.assert_allclose(T.paired_t(d).statistic, -T.paired_t(-d).statistic)


@pytest.mark.parametrize("name", ["wilcoxon", "paired_t", "sign_flip", "sign"])
def test_what_cannot_be_tested_says_so(name: str) -> None:
    d = np.column_stack([[1.0, np.nan, np.nan], [np.nan] * 3, [0.0, 0, 0], [0.5, 0.5, 0.5]])
    got = T.run(name, d, permutations=999, seed=0, zero_method="wilcox")
    assert got.note[0] == "one subject: no test"
    assert np.isnan(got.p_value[0])
    assert got.note[1].startswith("no subject")
    assert np.isnan(got.p_value[1])
    if name == "paired_t":
        assert np.isnan(got.p_value[2:]).all()
        assert got.note[3] == "zero variance: t is not defined"
    else:
        assert got.p_value[2] == 1.0
        assert got.note[2] == "all differences are zero"
        assert got.p_value[3] == pytest.approx(0.25)  # three equal differences: 2 of 8 sign vectors


def test_tost_is_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    d = with_gaps(blocks(20))
    got = T.tost(d, 0.4)
    for k in range(d.shape[1]):
        x = d[:, k][~np.isnan(d[:, k])]
        want = weightstats.DescrStatsW(x).ttost_mean(-0.4, 0.4)[0]
        assert got.p_value[k] == pytest.approx(want, rel=1e-9)
    flat = T.tost(np.column_stack([np.zeros(5), np.full(5, 0.7)]), 0.4)
    assert flat.p_value.tolist() == [0.0, 1.0]
    assert all(flat.note)
