"""Paired tests over subjects, vectorised over cells. Not a test-suite: see tests/analysis for that.

Every test takes ``values`` (S, K): one number a subject (its mean contrast) for each of K cells, NaN where the subject
has none, and tests the null that the contrast is symmetric about zero (Wilcoxon, sign-flip), has mean zero (t) or
median zero (sign). All are two-sided. A cell that cannot be tested gets p = NaN and a note that says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from scipy import stats

EXACT_FLIPS = 14  # 2**14 sign vectors are enumerated; beyond, Monte Carlo
WILCOXON_EXACT = 50  # as scipy.stats.wilcoxon: the exact distribution without ties and zeros up to here
WILCOXON_ENUMERATE = 13  # and with them, all 2**n sign assignments up to here
# scipy renamed the method in 1.15 and dropped the old name in 1.17
ASYMPTOTIC = "asymptotic" if tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 15) else "approx"
BLOCK = 1024  # cells at a time: bounds the memory of (replicates × cells) to some 40 MB


@dataclass(frozen=True, eq=False)
class TestResult:
    """What a test says of K cells."""

    __test__ = False  # not for pytest

    test: str
    statistic: np.ndarray  # (K,) float64
    p_value: np.ndarray  # (K,) float64, two-sided
    mc_error: np.ndarray  # (K,) float64: Monte Carlo standard error of p_value, 0 where p is not random
    note: np.ndarray  # (K,) object: '' or why there is no p, or how it was found


def patterns(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Group cells by which subjects they have: yields (columns (k,), rows (n,)), so that ``values[rows][:, columns]``
    has no NaN."""
    there = ~np.isnan(values)
    if there.all():
        yield np.arange(values.shape[1]), np.arange(values.shape[0])
        return
    packed = np.packbits(there, axis=0)
    _, inverse = np.unique(packed.T.copy(), axis=0, return_inverse=True)
    inverse = inverse.ravel()
    order = np.argsort(inverse, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    for columns in sorted(groups, key=lambda g: int(there[:, g[0]].sum())):  # by n, so that draws can be kept
        yield columns, np.flatnonzero(there[:, columns[0]])


def _blank(test: str, values: np.ndarray) -> TestResult:
    K = values.shape[1]
    return TestResult(test, np.full(K, np.nan), np.full(K, np.nan), np.zeros(K), np.full(K, "", dtype=object))


def too_few(n: int) -> str:
    """The note of a cell with fewer than two subjects."""
    return "no subject: nothing to show" if n == 0 else "one subject: no test"


def constant(d: np.ndarray) -> np.ndarray:
    """(k,) bool: all subjects of an (n, k) block have the same number, to rounding."""
    spread = d.max(axis=0) - d.min(axis=0)
    return spread <= 1e-12 * np.abs(d).max(axis=0)


def paired_t(values: np.ndarray) -> TestResult:
    """Student's paired t test (``scipy.stats.ttest_1samp`` of the differences). No p where the variance is zero."""
    out = _blank("paired_t", values)
    for columns, rows in patterns(values):
        if len(rows) < 2:
            out.note[columns] = too_few(len(rows))
            continue
        d = values[np.ix_(rows, columns)]
        flat = constant(d)
        out.note[columns[flat]] = "zero variance: t is not defined"
        columns, d = columns[~flat], d[:, ~flat]
        if len(columns):
            result = stats.ttest_1samp(d, 0.0, axis=0)
            out.statistic[columns], out.p_value[columns] = result.statistic, result.pvalue
    return out


def sign(values: np.ndarray) -> TestResult:
    """Sign test: an exact binomial test of the number of positive differences among those that are not zero."""
    out = _blank("sign", values)
    n_there = (~np.isnan(values)).sum(axis=0)
    positive, negative = (values > 0).sum(axis=0), (values < 0).sum(axis=0)
    n = positive + negative
    p = np.minimum(1.0, 2.0 * stats.binom.cdf(np.minimum(positive, negative), n, 0.5))
    ok = n_there >= 2
    out.statistic[ok], out.p_value[ok] = positive[ok], p[ok]
    out.note[ok & (n == 0)] = "all differences are zero"
    for k in np.flatnonzero(~ok):
        out.note[k] = too_few(int(n_there[k]))
    return out


def _signed_ranks(d: np.ndarray, zero_method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, k) mid-ranks of |d| (0 where a zero is dropped), and per cell: has ties, has zeros."""
    size = np.abs(d)
    zero = d == 0
    if zero_method == "wilcox":
        size = np.where(zero, np.nan, size)
    ranks = np.nan_to_num(stats.rankdata(size, axis=0, nan_policy="omit"), nan=0.0)
    ordered = np.sort(np.where(zero, np.nan, size), axis=0)
    return ranks, (np.diff(ordered, axis=0) == 0).any(axis=0), zero.any(axis=0)


def wilcoxon(values: np.ndarray, zero_method: str = "wilcox") -> TestResult:
    """Wilcoxon's signed-rank test; statistic and p are those of ``scipy.stats.wilcoxon(d, zero_method=…)``.

    Exact without ties and zeros up to 50 subjects, exact with them by enumeration up to 13, else the normal
    approximation corrected for ties. ``zero_method`` 'wilcox' drops zero differences.
    """
    out = _blank("wilcoxon", values)
    for columns, rows in patterns(values):
        n = len(rows)
        if n < 2:
            out.note[columns] = too_few(n)
            continue
        d = values[np.ix_(rows, columns)]
        nothing = (d == 0).all(axis=0)
        out.statistic[columns[nothing]], out.p_value[columns[nothing]] = 0.0, 1.0
        out.note[columns[nothing]] = "all differences are zero"
        columns, d = columns[~nothing], d[:, ~nothing]
        if not len(columns):
            continue
        if n > WILCOXON_EXACT:
            kind = np.full(len(columns), ASYMPTOTIC, dtype=object)
        else:
            _, ties, zeros = _signed_ranks(d, zero_method)
            awkward = "enumerate" if n <= WILCOXON_ENUMERATE else ASYMPTOTIC
            kind = np.where(ties | zeros, awkward, "exact").astype(object)
        for method in ("exact", ASYMPTOTIC, "enumerate"):
            here = kind == method
            if not here.any():
                continue
            if method == "enumerate":
                statistic, p = _wilcoxon_enumerated(d[:, here], zero_method)
                out.note[columns[here]] = "ties or zero differences: exact by enumeration"
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # scipy warns of small samples with zeros; the method is stated
                    result = stats.wilcoxon(d[:, here], zero_method=zero_method, method=method, axis=0)
                statistic, p = result.statistic, result.pvalue
                if method == ASYMPTOTIC and n <= WILCOXON_EXACT:
                    out.note[columns[here]] = "ties or zero differences: normal approximation"
            out.statistic[columns[here]], out.p_value[columns[here]] = statistic, p
    return out


def _wilcoxon_enumerated(d: np.ndarray, zero_method: str) -> tuple[np.ndarray, np.ndarray]:
    """The permutation distribution of the rank sum given the ties: every sign of every nonzero difference."""
    ranks, _, _ = _signed_ranks(d, zero_method)
    extra = np.zeros(d.shape[1])
    if zero_method == "zsplit":
        extra = np.where(d == 0, ranks, 0).sum(axis=0) / 2
    ranks = np.where(d == 0, 0.0, ranks)
    plus = (ranks * (d > 0)).sum(axis=0) + extra
    minus = (ranks * (d < 0)).sum(axis=0) + extra
    heads = (all_signs(len(d)) + 1) / 2  # (2**n, n) of 0 and 1; ranks are multiples of 1/4, so sums are exact
    drawn = heads @ ranks + extra
    below, above = (drawn <= plus).mean(axis=0), (drawn >= plus).mean(axis=0)
    return np.minimum(plus, minus), np.minimum(1.0, 2 * np.minimum(below, above))


def all_signs(n: int) -> np.ndarray:
    """(2**n, n) float64: every vector of −1 and +1."""
    return 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1.0


def sign_flip(values: np.ndarray, permutations: int = 10_000, seed: int = 0) -> TestResult:
    """Sign-flip permutation test of the mean over subjects.

    Exact (all 2**n sign vectors) up to 14 subjects. Beyond, Monte Carlo: p = (b + 1) / (m + 1), with the standard error
    sqrt(p (1 − p) / m) reported. Cells with the same number of subjects share their draws, which come from ``seed`` and
    that number alone, so a cell's p does not depend on which other cells are there. ``statistic`` is the mean.
    """
    out = _blank("sign_flip", values)
    draws: dict[int, np.ndarray] = {}
    for columns, rows in patterns(values):
        n = len(rows)
        if n < 2:
            out.note[columns] = too_few(n)
            continue
        exact = n <= EXACT_FLIPS
        if n not in draws:
            draws.clear()  # one matrix at a time
            draws[n] = all_signs(n) if exact else random_signs(n, permutations, seed)
        signs = draws[n]
        for start in range(0, len(columns), BLOCK):
            some = columns[start : start + BLOCK]
            d = values[np.ix_(rows, some)]
            total = np.abs(d.sum(axis=0))
            # a flipped sum that equals the observed one up to rounding counts as equal: the conservative side
            slack = (1e-13 if exact else 4e-7) * np.abs(d).sum(axis=0)
            limit, d_ = (total - slack).astype(signs.dtype), d.astype(signs.dtype)
            b = np.zeros(len(some), dtype=np.int64)
            for first in range(0, len(signs), 1024):  # the sums stay in the cache between product and comparison
                flipped = signs[first : first + 1024] @ d_
                b += np.count_nonzero(np.abs(flipped, out=flipped) >= limit, axis=0)
            p = b / len(signs) if exact else (b + 1) / (len(signs) + 1)
            out.statistic[some], out.p_value[some] = d.mean(axis=0), p
            if not exact:
                out.mc_error[some] = np.sqrt(p * (1 - p) / len(signs))
            out.note[some[(d == 0).all(axis=0)]] = "all differences are zero"
    return out


def random_signs(n: int, permutations: int, seed: int) -> np.ndarray:
    """(permutations, n) float32 of −1 and +1."""
    rng = np.random.default_rng([seed, 1, n])
    bits = np.unpackbits(rng.integers(0, 256, (permutations, (n + 7) // 8), dtype=np.uint8), axis=1, count=n)
    return bits.astype(np.float32) * 2 - 1


def tost(values: np.ndarray, bound: float) -> TestResult:
    """Two one-sided paired t tests of |mean| < ``bound`` (Schuirmann 1987); p is the larger of the two.

    Cells without variance are decided by their value: p = 0 if it lies within the bound, 1 if not, and a note.
    """
    out = _blank("tost", values)
    for columns, rows in patterns(values):
        n = len(rows)
        if n < 2:
            out.note[columns] = too_few(n)
            continue
        d = values[np.ix_(rows, columns)]
        mean, se = d.mean(axis=0), d.std(axis=0, ddof=1) / np.sqrt(n)
        flat = constant(d)
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = (mean + bound) / se, (mean - bound) / se
        p = np.maximum(stats.t.sf(low, n - 1), stats.t.cdf(high, n - 1))
        p[flat] = np.where(np.abs(mean[flat]) < bound, 0.0, 1.0)
        out.note[columns[flat]] = "zero variance: every subject has the same value"
        out.statistic[columns] = np.where(flat, np.nan, np.where(np.abs(low) < np.abs(high), low, high))
        out.p_value[columns] = p
    return out


def mcnemar(values: np.ndarray) -> TestResult:
    """Exact McNemar test of differences in {−1, 0, 1}: a binomial test of the discordant pairs, whose smaller number is
    the statistic (``statsmodels.stats.contingency_tables.mcnemar(exact=True)``). One pair a subject."""
    result = sign(values)
    result.statistic[:] = np.minimum((values > 0).sum(axis=0), (values < 0).sum(axis=0))
    result.note[result.note == "all differences are zero"] = "no discordant pair"
    return TestResult("mcnemar", result.statistic, result.p_value, result.mc_error, result.note)


def run(name: str, values: np.ndarray, *, permutations: int, seed: int, zero_method: str) -> TestResult:
    """The test called ``name``."""
    if name == "wilcoxon":
        return wilcoxon(values, zero_method)
    if name == "paired_t":
        return paired_t(values)
    if name == "sign_flip":
        return sign_flip(values, permutations, seed)
    return sign(values)
