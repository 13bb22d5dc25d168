"""From the analysis' tables to what the report shows: one :class:`SourceView` for sampled people, one for photos.

The numbers are looked up, never computed again: what the page says is what ``effects.csv`` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..analysis import Analysis
from . import formatting as f

SOURCES = ("sampled", "photo")
VERDICTS = ("lowers", "raises", "equivalent", "inconclusive", "untested")
PARTS = ("TE", "IE", "AE")


@dataclass(frozen=True)
class Estimate:
    """One row of ``effects.csv`` as plain numbers; NaN where something could not be computed."""

    value: float
    low: float
    high: float
    dz: float
    g_av: float
    p: float
    p_adjusted: float
    n_subjects: int
    n_units: int
    test: str
    below_null: bool
    note: str


@dataclass(frozen=True)
class ClassifierView:
    """What the report says of one classifier on one source."""

    name: str
    label: str
    total: str  # of VERDICTS
    asymmetry: str  # of VERDICTS
    sentence: str
    parts: dict[str, Estimate]  # TE, IE, AE: the primary cell
    share: float  # AE / TE; NaN where TE's interval holds 0 or the parts have opposite signs
    probability: Estimate | None  # TE on the probability, same cell
    null_error: float  # mean |null error|; NaN where there is none


@dataclass(frozen=True)
class SourceView:
    """What the report says of one source."""

    source: str
    n_subjects: int
    n_units: int
    subjects: tuple[str, ...]
    emotions: tuple[str, ...]
    sides: tuple[str, ...]
    strengths: tuple[float, ...]
    strength: float  # of the primary cell
    side: str
    region: str
    pooled: str
    outcome: str
    classifiers: tuple[ClassifierView, ...]

    @property
    def tested(self) -> bool:
        """Whether any claim is tested: one subject supports none."""
        return self.n_subjects > 1 and any(c.total != "untested" or c.asymmetry != "untested" for c in self.classifiers)

    @property
    def people(self) -> str:
        """'12 sampled synthetic people', '1 photo of a real person'."""
        if self.source == "photo":
            return f.plural(self.n_subjects, "photo of a real person", "photos of real people")
        return f.plural(self.n_subjects, "sampled synthetic person", "sampled synthetic people")

    @property
    def heading(self) -> str:
        return {"sampled": "Sampled synthetic people", "photo": "Photos of real people"}.get(self.source, self.source)

    def average(self, part: str) -> float:
        """Mean over classifiers of a part of the primary effect; NaN where none has it."""
        values = f.finite([c.parts[part].value for c in self.classifiers if part in c.parts])
        return float(values.mean()) if len(values) else float("nan")

    def count(self, kind: str, verdict: str) -> int:
        """How many classifiers have ``verdict`` on ``kind`` ('total' or 'asymmetry')."""
        return sum(getattr(c, kind) == verdict for c in self.classifiers)


def source_views(analysis: Analysis, conditions: pd.DataFrame | None = None) -> list[SourceView]:
    """The views of every source, sampled people first. With ``conditions``, also sources of which nothing was left."""
    known = set(analysis.verdicts["source"].dropna()) if "source" in analysis.verdicts else set()
    if len(analysis.units):
        known |= set(analysis.units["source"].dropna())
    if conditions is not None and "source" in conditions:
        known |= set(conditions["source"].dropna())
    return [_view(analysis, conditions, s) for s in (*SOURCES, *sorted(known - set(SOURCES))) if s in known]


def select(frame: pd.DataFrame, **equal: Any) -> pd.DataFrame:
    """The rows of ``frame`` whose columns equal the given values; NaN and None match NaN."""
    keep = np.ones(len(frame), dtype=bool)
    for column, value in equal.items():
        if column not in frame.columns:
            continue
        if f.is_missing(value) and not isinstance(value, str):
            keep &= frame[column].isna().to_numpy()
        else:
            keep &= (frame[column] == value).to_numpy()
    return frame[keep]


def estimate(row: Any) -> Estimate:
    """An :class:`Estimate` of one row (a Series or a mapping) of the effects table."""

    def get(name: str) -> float:
        value = row.get(name)
        return float("nan") if f.is_missing(value) else float(value)

    def whole(name: str) -> int:
        value = get(name)
        return 0 if np.isnan(value) else round(value)

    below = row.get("below_null_error")
    return Estimate(
        get("estimate"),
        get("ci_low"),
        get("ci_high"),
        get("effect_size"),
        get("g_av"),
        get("p_value"),
        get("p_adjusted"),
        whole("n_subjects"),
        whole("n_units"),
        f.clean(row.get("test")),
        False if f.is_missing(below) else bool(below),
        f.clean(row.get("note"), 400),
    )


def one_test(frame: pd.DataFrame, test: str) -> pd.DataFrame:
    """The rows of one test (where no test could be made there is only the row with test 'none')."""
    if "test" not in frame.columns:
        return frame
    return frame[frame["test"].isin([test, "none"])]


def _view(analysis: Analysis, conditions: pd.DataFrame | None, source: str) -> SourceView:
    options = analysis.options
    mine = select(analysis.units, source=source).rename(columns={"emotion": "expression"})
    if mine.empty and conditions is not None:  # nothing could be paired; say at least who was planned
        mine = select(conditions, source=source)
    edited = mine[mine["side"].isin(["left", "right", "both"]) & (mine["strength"] > 0)]
    if "contrast" in edited.columns:
        edited = edited[edited["contrast"] == "TE"]
    effects = one_test(select(analysis.effects, source=source, outcome=options.primary_outcome), options.primary_test)
    primary = effects[effects["primary"].fillna(False).astype(bool)] if "primary" in effects else effects.iloc[:0]
    cell = _primary_cell(primary, edited, options)
    verdicts = select(analysis.verdicts, source=source)
    names = list(dict.fromkeys([*verdicts.get("classifier", []), *effects["classifier"]]))
    labels = f.labels([str(n) for n in names])
    classifiers = []
    for name in names:
        own = select(effects, classifier=name, **cell)
        parts = {p: estimate(rows.iloc[0]) for p in PARTS if len(rows := select(own, contrast=p))}
        verdict = select(verdicts, classifier=name)
        v: Any = verdict.iloc[0] if len(verdict) else {}
        shares = select(analysis.decomposition, source=source, classifier=name, outcome=options.primary_outcome, **cell)
        other = one_test(select(analysis.effects, source=source, outcome="probability"), options.primary_test)
        other = select(other, classifier=name, contrast="TE", **cell)
        sizes = f.finite(own.get("null_error_size", []))
        classifiers.append(
            ClassifierView(
                str(name),
                labels[str(name)],
                _word(v.get("total")),
                _word(v.get("asymmetry")),
                f.clean(v.get("sentence"), 600),
                parts,
                _share(shares),
                estimate(other.iloc[0]) if len(other) else None,
                float(sizes[0]) if len(sizes) else float("nan"),
            )
        )
    return SourceView(
        source,
        int(mine["subject"].nunique()),
        int(mine["unit"].nunique()),
        tuple(sorted(str(s) for s in mine["subject"].unique())),
        tuple(sorted(str(e) for e in mine["expression"].dropna().unique())),
        tuple(s for s in ("left", "right", "both") if (edited["side"] == s).any()),
        tuple(sorted(float(s) for s in edited["strength"].unique())),
        cell["strength"],
        str(cell.get("side", "both")),
        str(cell["region"]),
        str(cell.get("pooled", "")),
        options.primary_outcome,
        tuple(classifiers),
    )


def _share(rows: pd.DataFrame) -> float:
    """AE / TE as a share: NaN where the analysis gives none, or where IE and AE pull in opposite directions."""
    share = float(rows["asymmetry_share"].iloc[0]) if len(rows) else float("nan")
    return share if -0.005 <= share <= 1.005 else float("nan")


def _primary_cell(primary: pd.DataFrame, edited: pd.DataFrame, options: Any) -> dict[str, Any]:
    """Which rows are the headline: the columns that the primary TE rows share."""
    columns = ("emotion", "side", "strength", "region", "pooled")
    total = select(primary, contrast="TE")
    if len(total):
        return {c: total.iloc[0][c] for c in columns if c in total}
    strength = options.primary_strength
    if strength is None:
        strength = float(edited["strength"].max()) if len(edited) else float("nan")
    return {"emotion": "all", "strength": strength, "region": options.primary_region or "all"}


def _word(value: Any) -> str:
    word = f.clean(value)
    return word if word in VERDICTS else "untested"
