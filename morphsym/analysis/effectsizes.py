"""Standardised effect sizes of paired data, over subjects and vectorised over cells.

``first``, ``second`` (S, K): the subjects' means of the two arms, NaN where missing; ``values = first − second``.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from .tests import constant, patterns


def _per_pattern(values: np.ndarray, f) -> np.ndarray:  # type: ignore[no-untyped-def]
    out = np.full(values.shape[1], np.nan)
    for columns, rows in patterns(values):
        if len(rows) >= 2:
            out[columns] = f(rows, columns)
    return out


def dz(values: np.ndarray) -> np.ndarray:
    """(K,) Cohen's dz = mean / SD (n − 1) of the differences; NaN without variance."""

    def f(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        d = values[np.ix_(rows, columns)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(constant(d), np.nan, d.mean(axis=0) / d.std(axis=0, ddof=1))

    return _per_pattern(values, f)


def g_av(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(K,) Hedges' g_av: mean difference / sqrt((s1² + s2²) / 2), times 1 − 3 / (4 (2n) − 9).

    Source: Cumming 2012; Lakens 2013; pingouin's ``compute_effsize(paired=True, eftype='hedges')``.
    """
    values = first - second

    def f(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        a, b = first[np.ix_(rows, columns)], second[np.ix_(rows, columns)]
        average = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)
        small = 1 - 3 / (4 * 2 * len(rows) - 9) if len(rows) > 2 else np.nan
        flat = average <= 1e-12 * np.maximum(np.abs(a).max(axis=0), np.abs(b).max(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(flat, np.nan, (a - b).mean(axis=0) / average * small)

    return _per_pattern(values, f)


def rank_biserial(values: np.ndarray) -> np.ndarray:
    """(K,) matched-pairs rank-biserial correlation (Kerby 2014): (R₊ − R₋) / (R₊ + R₋) of the signed ranks without
    zeros; −1 if every difference is negative. NaN where all are zero."""

    def f(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        d = values[np.ix_(rows, columns)]
        size = np.where(d == 0, np.nan, np.abs(d))
        ranks = np.nan_to_num(stats.rankdata(size, axis=0, nan_policy="omit"), nan=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (ranks * np.sign(d)).sum(axis=0) / ranks.sum(axis=0)

    return _per_pattern(values, f)
