"""Unit-level contrasts: what one unit's pair says, before any statistics.

TE = y(unilateral) − y(baseline), IE = y(matched) − y(baseline), AE = y(unilateral) − y(matched), so TE = IE + AE;
side_bias = TE(left) − TE(right); mirror_bias = y(mirrored_baseline) − y(baseline); null_error = y(null) − y(original)
(photos); rerender = y(null) − y(baseline). Negative TE: the output falls as symmetry falls.

Where the design has the arms: placebo = y(placebo) − y(baseline); droop = y(unilateral_droop) − y(unilateral), what the
droop at rest adds to the weakness; IE_<rule> and AE_<rule>, the parts with the control that another rule matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .frames import Targets
from .pairing import Pairs

RULES = ("mesh", "coefficients", "landmarks")
BY_SIDE = ("TE", "IE", "AE", "placebo", "droop", *(f"{c}_{r}" for c in ("IE", "AE") for r in RULES))
"""Contrasts with a value for each side, which can be averaged over left and right."""

ROW = ["source", "subject", "unit", "emotion", "side", "strength", "region"]


@dataclass(frozen=True, eq=False)
class Block:
    """One contrast of R rows × C classifiers, in one outcome. NaN where the pair is not complete."""

    contrast: str
    outcome: str
    rows: pd.DataFrame  # R rows, columns ROW: everything that was planned
    first: np.ndarray  # (R, C) float64
    second: np.ndarray  # (R, C) float64; the contrast is first − second

    @property
    def values(self) -> np.ndarray:
        """(R, C) float64, the contrast."""
        return self.first - self.second


def _take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows of (N, C) ``values``; a row of NaN where the index is −1."""
    out = values[index]
    out[index < 0] = np.nan
    return out


def _one_face(targets: Targets, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether rows ``a`` and ``b`` of the conditions show one face: the factual arm of a symmetrized photo is not the photo."""
    if "realised_asymmetry" not in targets.conditions.columns:
        return np.ones(len(a), dtype=bool)
    x = targets.conditions["realised_asymmetry"].to_numpy(dtype=float)
    return ~(np.abs(x[a] - x[b]) > 1e-6)


def contrasts(targets: Targets, pairs: Pairs, outcome: str) -> list[Block]:
    """Every contrast that the design allows. A row is NaN for a classifier that lacks any of the arms it needs."""
    y = targets.values(outcome)
    blocks: list[Block] = []
    for source, arms in pairs.designed.items():
        edited = pairs.edited[pairs.edited["source"] == source]
        rows = edited[ROW].reset_index(drop=True)
        triple = {arm: _take(y, edited[arm].to_numpy()) for arm in ("unilateral", "matched", "baseline")}
        # the triple stands or falls as a whole, as far as the design has it: a weakness of both sides has no control
        controlled = edited["side"].isin(pairs.sides_of(source, "matched")).to_numpy()
        incomplete = np.zeros_like(triple["unilateral"], dtype=bool)
        for arm, v in triple.items():
            if arm in arms:
                incomplete |= np.isnan(v) & (controlled[:, None] if arm == "matched" else True)
        u, m, b = (np.where(incomplete, np.nan, v) for v in triple.values())
        some = rows[controlled].reset_index(drop=True)
        if {"unilateral", "baseline"} <= arms:
            te = Block("TE", outcome, rows, u, b)
            blocks += [te, *_side_bias(te)]
        if {"matched", "baseline"} <= arms:
            blocks.append(Block("IE", outcome, some, m[controlled], b[controlled]))
        if {"matched", "unilateral"} <= arms:
            blocks.append(Block("AE", outcome, some, u[controlled], m[controlled]))
        blocks += _asked_for(y, outcome, edited, arms, u, b)
        units = pairs.units[pairs.units["source"] == source]
        rows = units.assign(side="none", strength=0.0, region="none")[ROW].reset_index(drop=True)
        for contrast, first, second in (
            ("mirror_bias", "mirrored_baseline", "baseline"),
            ("null_error", "null", "original"),
            ("rerender", "null", "baseline"),
        ):
            if {first, second} <= arms:
                index = {arm: units[arm].to_numpy() for arm in (first, second)}
                if contrast == "rerender":
                    index = {arm: np.where(_one_face(targets, *index.values()), i, -1) for arm, i in index.items()}
                blocks.append(Block(contrast, outcome, rows, *(_take(y, index[arm]) for arm in (first, second))))
    return blocks


def _asked_for(
    y: np.ndarray, outcome: str, edited: pd.DataFrame, arms: frozenset[str], u: np.ndarray, b: np.ndarray
) -> list[Block]:
    """The contrasts of the arms that are not there by default. ``u`` and ``b`` are NaN where the triple is incomplete, so
    that they are about the same units as TE, IE and AE."""
    blocks = []

    def add(contrast: str, arm: str, second: np.ndarray, flip: bool = False) -> None:
        planned = (edited["side"].isin(edited.loc[edited[arm] >= 0, "side"])
                   & edited["strength"].isin(edited.loc[edited[arm] >= 0, "strength"])).to_numpy()  # fmt: skip
        rows = edited.loc[planned, ROW].reset_index(drop=True)
        pair = (_take(y, edited[arm].to_numpy())[planned], second[planned])
        blocks.append(Block(contrast, outcome, rows, *(pair[::-1] if flip else pair)))

    if {"placebo", "baseline"} <= arms:
        add("placebo", "placebo", b)
    if {"unilateral_droop", "unilateral"} <= arms:
        add("droop", "unilateral_droop", u)
    for rule in RULES:
        if f"matched_{rule}" in arms:
            add(f"IE_{rule}", f"matched_{rule}", b)
            add(f"AE_{rule}", f"matched_{rule}", u, flip=True)
    return blocks


def _side_bias(te: Block) -> list[Block]:
    """TE(left) − TE(right) of the units that were planned on both sides, at each strength and region."""
    rows = te.rows.assign(i=np.arange(len(te.rows)))
    key = ["unit", "strength", "region"]
    left, right = (rows.loc[rows["side"] == s, [*key, "i"]] for s in ("left", "right"))
    both = left.merge(right, on=key, suffixes=("_left", "_right"))
    if both.empty:
        return []
    i, j = both["i_left"].to_numpy(), both["i_right"].to_numpy()
    out = te.rows.iloc[i].assign(side="both").reset_index(drop=True)
    return [Block("side_bias", te.outcome, out, te.values[i], te.values[j])]


def unit_table(blocks: list[Block], classifiers: tuple[str, ...]) -> pd.DataFrame:
    """The blocks as one long table: source, classifier, unit, subject, emotion, side, strength, region, outcome,
    contrast, value. Incomplete pairs are left out (they are in the exclusions)."""
    parts = []
    for block in blocks:
        values = block.values
        r, c = np.nonzero(~np.isnan(values))
        part = block.rows.iloc[r].reset_index(drop=True)
        part["classifier"] = pd.Categorical.from_codes(c, categories=pd.Index(classifiers))
        part["outcome"], part["contrast"], part["value"] = block.outcome, block.contrast, values[r, c]
        parts.append(part)
    columns = ["source", "classifier", *(c for c in ROW if c != "source"), "outcome", "contrast"]
    out = pd.concat(parts, ignore_index=True)[[*columns, "value"]]
    return out.astype({c: "category" for c in columns if c != "strength"})


@dataclass(frozen=True, eq=False)
class Cells:
    """Subject means of K cells (a cell × classifier each) of one source and outcome."""

    table: pd.DataFrame  # K rows: classifier, emotion, contrast, side, strength, region, source, outcome, pooled,
    #                      n_units, n_subjects, n_excluded
    subjects: tuple[str, ...]  # S
    values: np.ndarray  # (S, K) float64: the subject's mean contrast; NaN where it has none
    first: np.ndarray  # (S, K) float64: the same of the first arm
    second: np.ndarray  # (S, K) float64: and of the second


POOLINGS = (("", ()), ("side", ("side",)), ("emotion", ("emotion",)), ("emotion+side", ("emotion", "side")))


def cells(blocks: list[Block], classifiers: tuple[str, ...], source: str) -> Cells:
    """Average every block within subjects, per cell and over the poolings: over sides (left and right), over emotions.

    Units of one subject are not independent, so everything after this works on one number a subject.
    """
    mine = [b for b in blocks if len(b.rows) and b.rows["source"].iloc[0] == source]
    subjects = sorted({s for b in mine for s in b.rows["subject"]})
    tables, values, firsts, seconds = [], [], [], []
    known: dict[tuple[int, str], _Groups] = {}  # TE, IE and AE have the same rows
    for block in mine:
        for name, over in POOLINGS:
            rows = block.rows
            keep = np.ones(len(rows), dtype=bool)
            if "side" in over:
                if block.contrast.removesuffix("_slope") not in BY_SIDE:
                    continue
                keep = rows["side"].isin(["left", "right"]).to_numpy()
                if rows.loc[keep, "side"].nunique() < 2:
                    continue
            if (id(rows), name) not in known:
                label = rows[keep].copy()
                if "side" in over:
                    label["side"] = "both"
                if "emotion" in over:
                    label["emotion"] = "all"
                known[id(rows), name] = _groups(label, keep, subjects)
            table, v, f, s = _average(block, known[id(rows), name], classifiers, len(subjects))
            table["pooled"] = name
            tables.append(table)
            values.append(v)
            firsts.append(f)
            seconds.append(s)
    return Cells(
        pd.concat(tables, ignore_index=True),
        tuple(subjects),
        np.concatenate(values, axis=1),
        np.concatenate(firsts, axis=1),
        np.concatenate(seconds, axis=1),
    )


@dataclass(frozen=True, eq=False)
class _Groups:
    """Which rows of a block make up which cell."""

    keep: np.ndarray  # (R,) bool
    index: pd.DataFrame  # (K,) emotion, side, strength, region of each cell
    cell: np.ndarray  # (rows kept,) int
    slot: np.ndarray  # (rows kept,) int: cell and subject
    unit: np.ndarray  # (rows kept,) int
    planned: np.ndarray  # (K,) int: units of the design


def _groups(label: pd.DataFrame, keep: np.ndarray, subjects: list[str]) -> _Groups:
    groups = label.groupby(["emotion", "side", "strength", "region"], sort=True, observed=True, dropna=False)
    cell = groups.ngroup().to_numpy()
    index = groups.size().index.to_frame(index=False)
    unit = pd.factorize(label["unit"])[0]
    once = np.unique(cell * (unit.max() + 1) + unit) // (unit.max() + 1)
    subject = pd.Index(subjects).get_indexer(pd.Index(label["subject"]))
    return _Groups(keep, index, cell, cell * len(subjects) + subject, unit, np.bincount(once, minlength=len(index)))


def _average(
    block: Block, groups: _Groups, classifiers: tuple[str, ...], S: int
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Subject means of the groups' rows; columns ordered by cell, then classifier."""
    index, cell, slot, unit = groups.index, groups.cell, groups.slot, groups.unit
    C, K, n = len(classifiers), len(index), int(unit.max()) + 1
    first, second = block.first[groups.keep], block.second[groups.keep]
    there = ~np.isnan(first - second)
    count = np.stack([np.bincount(slot, there[:, c], K * S) for c in range(C)], axis=1)

    def mean(x: np.ndarray) -> np.ndarray:
        total = np.stack([np.bincount(slot, np.where(there[:, c], x[:, c], 0.0), K * S) for c in range(C)], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            out = total / count
        return np.ascontiguousarray(out.reshape(K, S, C).transpose(1, 0, 2).reshape(S, K * C))

    # distinct units per cell × classifier: a unit may have several rows in a pooled cell
    used = np.empty((K, C), dtype=int)
    for c in range(C):
        pairs = np.unique(cell[there[:, c]] * n + unit[there[:, c]])
        used[:, c] = np.bincount(pairs // n, minlength=K)
    table = index.loc[np.repeat(np.arange(K), C)].reset_index(drop=True)
    table.insert(0, "classifier", np.tile(np.array(classifiers, dtype=object), K))
    table["contrast"], table["outcome"], table["source"] = block.contrast, block.outcome, block.rows["source"].iloc[0]
    table["n_units"] = used.ravel()
    table["n_subjects"] = (count.reshape(K, S, C) > 0).sum(axis=1).ravel()
    table["n_excluded"] = (groups.planned[:, None] - used).ravel()
    f, s = mean(first), mean(second)
    return table, mean(first - second), f, s
