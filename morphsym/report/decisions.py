"""Slope, order and decision: the table beneath the dose–response curves, read from the analysis' tables."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ..analysis import Analysis
from . import formatting as f
from .view import Estimate, SourceView, estimate, select


@dataclass(frozen=True)
class DecisionRow:
    """How one classifier goes with the dose. Cells are text; an en dash where the analysis has no number."""

    label: str
    te_slope: Estimate | None  # per unit of strength
    ae_slope: Estimate | None
    page: str  # adjusted p of Page's trend in TE
    flipped: str  # of the pairs whose top label was the emotion, how many lose it: one half weakened
    flipped_matched: str  # the same, both halves weakened
    flip_dose: str  # strength at which half of them have lost it


def decision_rows(analysis: Analysis, view: SourceView) -> list[DecisionRow]:
    """One row a classifier, at the primary strength and region; empty where there is only one strength."""
    if len(view.strengths) < 2:
        return []
    cell = {"source": view.source, "region": view.region, "side": view.side, "pooled": view.pooled}
    effects = select(analysis.effects, **cell)
    flips = select(analysis.flips, **cell)
    rows = []
    for c in view.classifiers:
        own, turned = select(effects, classifier=c.name), select(flips, classifier=c.name)
        logit = select(own, outcome=view.outcome)
        at = {a: select(turned, arm=a, strength=view.strength) for a in ("unilateral", "matched")}
        te, ae = (select(logit, contrast=k) for k in ("TE_slope", "AE_slope"))
        rows.append(
            DecisionRow(
                c.label,
                estimate(te.iloc[0]) if len(te) else None,
                estimate(ae.iloc[0]) if len(ae) else None,
                f.p_cell(_first(select(te, test="page"), "p_adjusted")),
                _share(at["unilateral"]),
                _share(at["matched"]),
                f.number(_first(at["unilateral"], "median_flip_dose")),
            )
        )
    blank = all(
        r.te_slope is None and r.ae_slope is None and r.flipped == f.MISSING and r.page == f.MISSING for r in rows
    )
    return [] if blank else rows


def _first(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].iloc[0]) if len(rows) and not f.is_missing(rows[column].iloc[0]) else float("nan")


def _share(rows: pd.DataFrame) -> str:
    """'12 of 36 (33 %)'."""
    n, k = _first(rows, "n_units"), _first(rows, "n_flipped")
    if f.is_missing(n) or f.is_missing(k) or n == 0:
        return f.MISSING
    return f"{f.count(k)} of {f.count(n)} ({f.percent(k / n)})"
