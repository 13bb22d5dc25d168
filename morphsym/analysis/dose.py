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
        rows = block.rows
        strengths = np.sort(rows["strength"].unique())
        if len(strengths) < 2 or strengths[0] == 0:
            continue
        groups = rows.groupby(["unit", "side", "region"], sort=False, observed=True)
        which = groups.ngroup().to_numpy()
        first = groups.head(1)
        dose = np.concatenate([[0.0], strengths])
        weight = (dose - dose.mean()) / ((dose - dose.mean()) ** 2).sum()
        weight = weight[1:][np.searchsorted(strengths, rows["strength"].to_numpy())]
        values = np.zeros((len(first), block.first.shape[1]))
        np.add.at(values, which, block.values * weight[:, None])  # NaN stays NaN: the unit lacks a dose
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
    key = ["classifier", "emotion", "side", "region", "pooled"]
    curves = {
        k: g.sort_values("strength").index.to_numpy()
        for k, g in table[table["contrast"].isin(["TE", "IE", "AE"])].groupby([*key, "contrast"], sort=False)
    }
    for i in np.flatnonzero(table["contrast"].isin(SLOPES)):
        row = table.iloc[i]
        contrast = row["contrast"].removesuffix("_slope")
        columns = curves[(*row[key], contrast)]
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
    hit = targets.hit.astype(float)
    hit[hit < 0] = np.nan
    parts = []
    for source, arms in pairs.designed.items():
        edited = pairs.edited[pairs.edited["source"] == source]
        for arm in ("unilateral", "matched"):
            if arm not in arms or "baseline" not in arms or edited.empty:
                continue
            start = np.where((edited["baseline"] < 0).to_numpy()[:, None], np.nan, hit[edited["baseline"]])
            after = np.where((edited[arm] < 0).to_numpy()[:, None], np.nan, hit[edited[arm]])
            frames = [
                edited[ROW].assign(classifier=name, start=start[:, c], after=after[:, c], arm=arm)
                for c, name in enumerate(targets.classifiers)
            ]
            parts.append(pd.concat(frames, ignore_index=True))
    columns = ["source", "classifier", "emotion", "side", "region", "arm", "strength", "pooled", "n_units", "n_flipped",
               "share", "median_flip_dose", "n_returned"]  # fmt: skip
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    table = table[table["start"] == 1]
    key = ["source", "classifier", "unit", "emotion", "side", "region", "arm"]
    known = table.groupby(key, observed=True)["after"].transform(lambda x: x.notna().all()).astype(bool)
    table = table[known].sort_values([*key, "strength"])
    table["wrong"] = 1 - table["after"]
    grouped = table.groupby(key, observed=True)["wrong"]
    table["ever"] = grouped.cummax()
    table["returned"] = ((table["ever"] == 1) & (table["wrong"] == 0)).groupby([table[k] for k in key]).transform("any")
    out = []
    for pooled in ("", "side", "emotion", "emotion+side"):
        part = table
        if "side" in pooled:
            part = part[part["side"].isin(["left", "right"])].assign(side="both")
        if "emotion" in pooled:
            part = part.assign(emotion="all")
        curve = ["source", "classifier", "emotion", "side", "region", "arm"]
        for k, g in part.groupby(curve, observed=True):
            by = g.groupby("strength")
            share_ever = by["ever"].mean()
            reached = share_ever.index[share_ever >= 0.5]
            row = by["wrong"].agg(["size", "sum"]).rename(columns={"size": "n_units", "sum": "n_flipped"}).reset_index()
            row["share"] = row["n_flipped"] / row["n_units"]
            row["median_flip_dose"] = float(reached[0]) if len(reached) else np.nan
            largest = g[g["strength"] == g["strength"].max()]
            row["n_returned"] = int(largest["returned"].sum())
            out.append(row.assign(pooled=pooled, **dict(zip(curve, map(str, k)))))
    if not out:
        return pd.DataFrame(columns=columns)
    final = pd.concat(out, ignore_index=True)[columns]
    final = final.astype({"n_units": int, "n_flipped": int})
    return final.sort_values(columns[:8]).reset_index(drop=True)
