"""Correction for many hypotheses, over declared families."""

from __future__ import annotations

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests


def adjust(p: np.ndarray, family: pd.Series, method: str) -> np.ndarray:
    """(K,) adjusted p values by ``statsmodels`` ('holm' or 'fdr_bh'), each within its ``family`` (K,).

    NaN (no test was made) is no hypothesis: it stays NaN and does not count.
    """
    out = np.full(len(p), np.nan)
    for rows in family.reset_index(drop=True).groupby(family.to_numpy(), sort=False).groups.values():
        index = np.asarray(rows)
        index = index[~np.isnan(p[index])]
        if len(index):
            out[index] = multipletests(p[index], method=method)[1]
    return out
