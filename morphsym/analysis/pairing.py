"""Joining arms into pairs, by equality on unit, side, strength and region.

A condition that failed, or that a classifier has no target value for, takes its whole pair out (for TE, IE and AE: its
whole triple, so that TE = IE + AE holds in every average). What is taken out is counted and named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import InputError
from ..types import ARMS
from .frames import ABSENT, FAILED, KEY, NO_EMOTION, OK, Targets, reason_text

UNIT_ARMS = ("original", "baseline", "null", "mirrored_baseline")
"""Arms of which a unit has at most one condition."""

EDITED_ARMS = tuple(a for a in ARMS if a not in UNIT_ARMS)
"""Arms with a condition for each side, strength and region."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of the conditions table, joined. An index is −1 where the arm is not there."""

    edited: pd.DataFrame
    """One row a unit × side × strength × region that is edited: source, subject, unit, emotion, side, strength, region,
    and int columns baseline and each of EDITED_ARMS."""
    units: pd.DataFrame
    """One row a unit: source, subject, unit, emotion, and int columns original, baseline, null, mirrored_baseline."""
    designed: dict[str, frozenset[str]]
    """By source: the arms that occur at all."""

    def sides_of(self, source: str, arm: str) -> frozenset[str]:
        """The sides on which ``source`` has the edited arm ``arm`` at all."""
        rows = self.edited[(self.edited["source"] == source) & (self.edited[arm] >= 0)]
        return frozenset(rows["side"])


def pair(targets: Targets) -> Pairs:
    """Join the arms of every unit. Raises :class:`InputError` where nothing can be paired at all."""
    table = targets.conditions
    table = table.assign(emotion=table["expression"].astype(str), row=np.arange(len(table)))
    for column in ("unit", "subject", "source", "arm", "side", "region"):
        table[column] = table[column].astype(str)
    designed = {str(s): frozenset(g["arm"]) for s, g in table.groupby("source")}
    about = table.drop_duplicates("unit").set_index("unit")[["source", "subject", "emotion"]]
    units = about.copy()
    for arm in UNIT_ARMS:
        rows = table[table["arm"] == arm]
        if rows["unit"].duplicated().any():
            unit = rows.loc[rows["unit"].duplicated(), "unit"].iloc[0]
            raise InputError(f"the unit {unit!r} has more than one {arm!r} condition; two runs in one folder?")
        units[arm] = rows.set_index("unit")["row"].reindex(units.index).fillna(-1).astype(int)
    edited: pd.DataFrame | None = None
    present = [a for a in EDITED_ARMS if a in ("unilateral", "matched") or (table["arm"] == a).any()]
    for arm in present:
        rows = table.loc[table["arm"] == arm, [*KEY, "row"]].rename(columns={"row": arm})
        edited = rows if edited is None else edited.merge(rows, on=KEY, how="outer")
    assert edited is not None
    if edited.empty:
        raise InputError(
            "conditions.parquet has no edited condition (arm 'unilateral'), so there is nothing to compare; "
            "run `morphsym intervene` with at least one --side and --strength"
        )
    for arm in EDITED_ARMS:
        edited[arm] = edited[arm].fillna(-1).astype(int) if arm in present else -1
    edited = edited.join(about, on="unit")
    edited["baseline"] = units["baseline"].reindex(edited["unit"]).to_numpy()
    edited = edited.sort_values(["source", "emotion", "region", "side", "strength", "unit"]).reset_index(drop=True)
    return Pairs(edited, units.reset_index(), designed)


EXCLUSION_COLUMNS = (
    "source", "classifier", "unit", "subject", "emotion", "arm", "side", "strength", "region", "reason", "count",
)  # fmt: skip


def exclusions(targets: Targets, pairs: Pairs) -> pd.DataFrame:
    """What is left out and why, named. ``classifier`` '' means: for every classifier. ``count``: conditions.

    A classifier without an emotion gets one row for the emotion (``unit`` ''), not one for every unit.
    """
    rows: list[dict[str, object]] = []
    table = targets.conditions

    def add(classifier: str, i: int | None, reason: str, count: int = 1, **known: object) -> None:
        blank = dict.fromkeys(EXCLUSION_COLUMNS, "") | {"strength": np.nan}
        if i is not None:
            r = table.iloc[i]
            blank |= {c: r[c] for c in ("source", "unit", "subject", "arm", "side", "strength", "region")}
            blank["emotion"] = r["expression"]
        rows.append(blank | {"classifier": classifier, "reason": reason, "count": count} | known)

    if targets.unknown[0]:
        stray, example = targets.unknown
        add("", None, f"{stray} rows of the predictions belong to conditions that are not in this run, for example "
            f"{example!r}; they are not used", stray)  # fmt: skip
    failed = np.flatnonzero((table["status"] == "failed").to_numpy())
    for i in failed:
        add("", int(i), f"condition failed: {table['reason'].iloc[i] or 'no reason recorded'}")
    missing = (targets.reason != OK) & (targets.reason != FAILED)
    for c, name in enumerate(targets.classifiers):
        lacking = targets.reason[:, c] == NO_EMOTION
        for (source, emotion), group in table[lacking].groupby(["source", "expression"], observed=True):
            add(name, None, f"the classifier has no label for {emotion}", len(group), source=source, emotion=emotion)
        absent = targets.reason[:, c] == ABSENT
        if absent.sum() > 50:  # a predictions file cut in half: one row for all of them, with an example
            first, n = int(np.flatnonzero(absent)[0]), int(absent.sum())
            example, source = table["condition"].iloc[first], table["source"].iloc[first]
            add(name, None, f"no prediction of this classifier for {n} conditions, for example {example!r} "
                "(classification stopped early, or the file is cut)", n, source=source)  # fmt: skip
        else:
            absent = np.zeros_like(lacking)
        for k in np.flatnonzero(missing[:, c] & ~lacking & ~absent):
            add(name, int(k), reason_text(targets, int(k), c))
    for source, arms in pairs.designed.items():
        rules = (
            ("unilateral", "TE and AE cannot be computed"),
            ("baseline", "TE and IE cannot be computed"),
            ("matched", "IE and AE cannot be computed"),
            ("mirrored_baseline", "the mirror bias cannot be computed"),
            ("null", "the error of rendering cannot be computed"),
            *((("original", "the null error cannot be computed"),) if source == "photo" else ()),
        )
        for arm, consequence in rules:
            if arm not in arms:
                add("", None, f"there is no {arm!r} arm, so {consequence}", 0, source=source, arm=arm)
    for source, edited in pairs.edited.groupby("source"):
        for arm in ("baseline", *EDITED_ARMS):
            if arm not in pairs.designed[str(source)] or arm == "mirrored_unilateral":
                continue
            lacking = edited[edited[arm] < 0]
            if arm not in ("unilateral", "baseline"):
                # a weakness of both sides is its own symmetric control; some arms are for the largest strength only
                there = edited[edited[arm] >= 0]
                lacking = lacking[lacking["side"].isin(there["side"]) & lacking["strength"].isin(there["strength"])]
            for _, r in lacking.iterrows():
                known = {k: r[k] for k in ("source", "unit", "subject", "emotion", "side", "strength", "region")}
                add("", None, f"the pair has no {arm!r} condition", 1, arm=arm, **known)
    out = pd.DataFrame(rows, columns=list(EXCLUSION_COLUMNS))
    return out.astype({"count": int, "strength": float})
