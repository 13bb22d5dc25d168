"""Dose–response: slope per unit, monotone trend, and the dose at which the decision flips.

The dose is the strength; a unit's baseline is its dose 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from .estimands import ROW, Block
from .frames import Targets
from .pairing import Pairs
from .tests import TestResult, too_few

SLOPES = ("TE_slope", "IE_slope", "AE_slope")
PAGE_EXACT = 6  # doses; Page's exact distribution enumerates doses! orders


def slopes(blocks: list[Block]) -> list[Block]:
    """Least-squares slope over the doses {0, λ1, …} of every unit × side × region of the blocks TE, IE and AE.

    Each contrast is 0 at dose 0, by definition; so TE_slope is the slope of the outcome itself, and TE_slope = IE_slope
    + AE_slope. A unit needs all of its design's doses, at least two beside 0; otherwise it is NaN for that classifier.
    Units: outcome per unit of strength.
    """
    out = []
    for block in blocks:
        if block.contrast not in ("TE", "IE", "AE"):
            continue
        there = (block.rows["strength"] > 0).to_numpy()
        rows = block.rows[there].reset_index(drop=True)
        strengths = np.sort(rows["strength"].unique())
        if len(strengths) < 2:
            continue
        groups = rows.groupby(["unit", "side", "region"], sort=False, observed=True)
        which = groups.ngroup().to_numpy()
        first = groups.head(1)
        dose = np.concatenate([[0.0], strengths])
        weight = (dose - dose.mean()) / ((dose - dose.mean()) ** 2).sum()
        weight = weight[1:][np.searchsorted(strengths, rows["strength"].to_numpy())]
        values = np.zeros((len(first), block.first.shape[1]))
        np.add.at(values, which, block.values[there] * weight[:, None])  # NaN stays NaN: the unit lacks a dose
        values[np.bincount(which) < len(strengths)] = np.nan
        label = first[ROW].assign(strength=np.nan).reset_index(drop=True)
        out.append(Block(f"{block.contrast}_slope", block.outcome, label, values, np.zeros_like(values)))
    return out


def page(table: pd.DataFrame, values: np.ndarray) -> TestResult:
    """Page's trend test of the rows ``*_slope`` of ``table`` (K rows; ``values`` (S, K) subject means of all rows).

    Over the subjects that have every dose. For TE and IE the baseline is dose 0 (their ranks are those of the outcome
    itself); for AE it is not ranked, because the difference of two edited arms has noise that its 0 at dose 0 has not.
    ``statistic`` is L for the order 'falls with the dose'; p is two-sided: twice the smaller p of the two orders
    (``scipy.stats.page_trend_test``; exact where that is recommended and there are at most 6 doses).
    """
    K = len(table)
    out = TestResult("page", np.full(K, np.nan), np.full(K, np.nan), np.zeros(K), np.full(K, "", dtype=object))
    key = ["classifier", "emotion", "side", "region", "pooled", "contrast"]
    rows = list(table[key].itertuples(index=False, name=None))
    strength = table["strength"].to_numpy()
    curves: dict[tuple[str, ...], list[int]] = {}
    for i in np.argsort(strength, kind="stable"):
        if strength[i] == 0:
            continue  # an edit of strength 0 is the baseline
        curves.setdefault(rows[i], []).append(int(i))
    for i in np.flatnonzero(table["contrast"].isin(SLOPES)):
        contrast = rows[i][-1].removesuffix("_slope")
        columns = curves[(*rows[i][:-1], contrast)]
        data = values[:, columns]
        data = data[~np.isnan(data).any(axis=1)]
        if contrast != "AE":
            data = np.column_stack([np.zeros(len(data)), data])
        m, n = data.shape
        if m < 2:
            out.note[i] = too_few(m)
            continue
        if n < 3:
            out.note[i] = "Page's test needs three doses"
            continue
        method = "auto" if n <= PAGE_EXACT else "asymptotic"
        order = np.arange(1, n + 1)
        falls, rises = (stats.page_trend_test(data, predicted_ranks=o, method=method) for o in (order[::-1], order))
        out.statistic[i] = falls.statistic
        out.p_value[i] = min(1.0, 2 * min(falls.pvalue, rises.pvalue))
    return out


def flips(targets: Targets, pairs: Pairs) -> pd.DataFrame:
    """At which dose the top label stops being the unit's emotion, among the units where it is at baseline.

    One row a source × classifier × emotion (and 'all') × side (and 'both') × region × arm × strength: n_units (right at
    baseline, and known at every dose), n_flipped (wrong at this strength), share, and the same on every row of a curve:
    median_flip_dose (the smallest strength at which half of the units have flipped at least once; NaN if fewer ever do)
    and n_returned (flipped at some dose and right again at a larger one). ``arm`` 'matched' is the flip by lost
    intensity alone.
    """
    columns = ["source", "classifier", "emotion", "side", "region", "arm", "strength", "pooled", "n_units", "n_flipped",
               "share", "median_flip_dose", "n_returned"]  # fmt: skip
    hit = targets.values("top1")
    out = []
    for source in pairs.designed:
        for arm in ("unilateral", "matched"):
            edited = pairs.edited[(pairs.edited["source"] == source) & (pairs.edited[arm] >= 0)]
            edited = edited[edited["baseline"] >= 0].sort_values(["unit", "side", "region", "strength"], kind="stable")
            for _, grid in edited.groupby("region"):
                doses = np.sort(grid["strength"].unique())
                size = grid.groupby(["unit", "side"])["strength"].transform("size")
                grid = grid[size == len(doses)]  # a curve with a gap has no first flip
                if len(grid):
                    out += _flip_curves(grid, doses, hit, source, arm, targets.classifiers)
    if not out:
        return pd.DataFrame(columns=columns)
    table = pd.concat(out, ignore_index=True)[columns]
    return table.sort_values(columns[:8]).reset_index(drop=True)


def _flip_curves(
    grid: pd.DataFrame, doses: np.ndarray, hit: np.ndarray, source: str, arm: str, classifiers: tuple[str, ...]
) -> list[pd.DataFrame]:
    """The rows of :func:`flips` of one region: ``grid`` has every unit × side at every dose, in that order."""
    D, C = len(doses), len(classifiers)
    after = hit[grid[arm].to_numpy()].reshape(-1, D, C)
    label = grid.iloc[::D]
    start = hit[label["baseline"].to_numpy()]
    counts = (start == 1) & ~np.isnan(after).any(axis=1)  # (U, C)
    wrong = (after == 0) & counts[:, None, :]
    ever = np.logical_or.accumulate(wrong, axis=1)
    returned = (ever & ~wrong).any(axis=1) & counts
    out = []
    for pooled in ("", "side", "emotion", "emotion+side"):
        emotion = np.full(len(label), "all") if "emotion" in pooled else label["emotion"].to_numpy(dtype=object)
        side = label["side"].to_numpy(dtype=object)
        for e in dict.fromkeys(emotion):
            for s in ("both",) if "side" in pooled else dict.fromkeys(side):
                these = (emotion == e) & (np.isin(side, ("left", "right")) if "side" in pooled else side == s)
                n = counts[these].sum(axis=0)
                if not n.any():
                    continue
                flipped = wrong[these].sum(axis=0)  # (D, C)
                half = ever[these].sum(axis=0) * 2 >= np.maximum(n, 1)
                median = np.where(half.any(axis=0), doses[half.argmax(axis=0)], np.nan)
                part = pd.DataFrame(
                    {
                        "classifier": np.repeat(np.array(classifiers, dtype=object), D),
                        "strength": np.tile(doses, C),
                        "n_units": np.repeat(n, D),
                        "n_flipped": flipped.T.ravel(),
                        "share": (flipped / np.maximum(n, 1)).T.ravel(),
                        "median_flip_dose": np.repeat(median, D),
                        "n_returned": np.repeat(returned[these].sum(axis=0), D),
                    }
                )
                part = part[part["n_units"] > 0]
                out.append(
                    part.assign(
                        source=source, arm=arm, emotion=e, side=s, region=str(label["region"].iloc[0]), pooled=pooled
                    )
                )
    return out
