"""Correction for many hypotheses, over declared families."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def holm(p: np.ndarray) -> np.ndarray:
    """(n,) Holm's step-down adjusted p values, as ``statsmodels.stats.multitest.multipletests(p, method='holm')``.

    Written out because that one runs Python's garbage collector on every call (20 to 90 ms).
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1.0)
    return out


def adjust(p: np.ndarray, family: pd.Series, method: str) -> np.ndarray:
    """(K,) adjusted p values ('holm' or 'fdr_bh': Benjamini–Hochberg), each within its ``family`` (K,).

    NaN (no test was made) is no hypothesis: it stays NaN and does not count.
    """
    out = np.full(len(p), np.nan)
    codes = pd.factorize(family.to_numpy())[0]
    for code in range(int(codes.max(initial=-1)) + 1):
        index = np.flatnonzero((codes == code) & ~np.isnan(p))
        if len(index):
            out[index] = holm(p[index]) if method == "holm" else stats.false_discovery_control(p[index], method="bh")
    return out
