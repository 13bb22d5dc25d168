"""Checking the tables that commands write, and turning logits into target values.

A target value y is the centred logit (logit minus the mean over the classifier's labels) of the label that is mapped to
the unit's canonical emotion. Nothing is substituted: a condition × classifier without a target value has a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import InputError
from ..types import ARMS, EMOTIONS

CONDITION_COLUMNS = (
    "condition", "unit", "subject", "source", "expression", "arm", "side", "strength", "region", "status", "reason",
)  # fmt: skip
PREDICTION_COLUMNS = ("condition", "classifier", "label", "emotion", "logit", "probability")
SOURCES = ("photo", "sampled")
SIDE_VALUES = ("left", "right", "both", "none")
KEY = ["unit", "side", "strength", "region"]

OK, FAILED, ABSENT, PARTIAL, NOT_FINITE, NO_EMOTION, AMBIGUOUS = range(7)
"""Why a condition × classifier has no target value; see :func:`reason_text`."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Target values of N conditions × C classifiers."""

    conditions: pd.DataFrame  # N rows, checked, index 0…N−1
    classifiers: tuple[str, ...]  # C
    labels: dict[str, tuple[str, ...]]  # label order of each classifier, as first met
    logit: np.ndarray  # (N, C) float64, centred logit of the unit's emotion; NaN where reason is not OK
    probability: np.ndarray  # (N, C) float64 in [0, 1]; NaN where it is not known
    top1: np.ndarray  # (N, C) int16, index of the label with the largest logit; −1 where not known
    hit: np.ndarray  # (N, C) int8: 1 if the top label is the unit's emotion, 0 if not, −1 where not known
    reason: np.ndarray  # (N, C) int8, OK, FAILED, …
    unknown: tuple[int, str]  # prediction rows whose condition is not in the table: how many, one example

    def values(self, outcome: str) -> np.ndarray:
        """(N, C) float64 target values of ``outcome``, one of ``records.OUTCOMES``."""
        if outcome == "top1":
            return np.where(self.hit < 0, np.nan, self.hit.astype(np.float64))
        return self.logit if outcome == "logit" else self.probability


def check_conditions(conditions: pd.DataFrame) -> pd.DataFrame:
    """``conditions`` with a fresh index, or :class:`InputError` naming the first thing that is wrong with it."""
    missing = [c for c in CONDITION_COLUMNS if c not in conditions.columns]
    if missing:
        raise InputError(
            f"conditions.parquet lacks the columns {', '.join(missing)}; "
            "write it with `morphsym intervene` of this version"
        )
    if len(conditions) == 0:
        raise InputError("conditions.parquet has no rows; run `morphsym intervene` (or --resume it) first")
    table = conditions.reset_index(drop=True)
    for column, allowed in (
        ("source", SOURCES),
        ("arm", ARMS),
        ("side", SIDE_VALUES),
        ("status", ("ok", "failed")),
        ("expression", EMOTIONS),
    ):
        values = table[column].astype(object)
        bad = ~values.isin(allowed)
        if bad.any():
            row = table[bad].iloc[0]
            raise InputError(
                f"conditions.parquet: column {column!r} must be one of {', '.join(allowed)}; "
                f"condition {row['condition']!r} has {row[column]!r} ({int(bad.sum())} such rows)"
            )
    strength = pd.to_numeric(table["strength"], errors="coerce")
    bad = ~strength.between(0, 1)
    if bad.any():
        row = table[bad].iloc[0]
        raise InputError(
            f"conditions.parquet: strength must be a number from 0 to 1; condition {row['condition']!r} has "
            f"{row['strength']!r}"
        )
    table["strength"] = strength.astype(float)
    for columns, what in ((["condition"], "the condition"), ([*KEY, "arm"], "unit, arm, side, strength and region of")):
        twice = table.duplicated(columns)
        if twice.any():
            raise InputError(
                f"conditions.parquet: {what} {table.loc[twice, 'condition'].iloc[0]!r} occurs twice; "
                "two runs in one folder? write each run to a folder of its own"
            )
    for column in ("subject", "source", "expression"):
        several = table.groupby("unit", observed=True, sort=False)[column].nunique()
        if (several > 1).any():
            raise InputError(
                f"conditions.parquet: the unit {several.index[several > 1][0]!r} has more than one {column}; "
                "two runs in one folder? write each run to a folder of its own"
            )
    several = table.groupby("subject", observed=True, sort=False)["source"].nunique()
    if (several > 1).any():
        name = several.index[several > 1][0]
        raise InputError(f"conditions.parquet: the subject {name!r} is a photo and sampled at once; rename one of them")
    return table


def _codes(column: pd.Series, known: pd.Index | None = None) -> tuple[np.ndarray, pd.Index]:
    """Integer codes of a text column (−1: missing, or not in ``known``); a dictionary-encoded column is not decoded."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.asarray(column.cat.codes)
        categories = column.cat.categories.astype(object)
    else:
        codes, categories = pd.factorize(column.astype(object) if column.dtype != object else column)
        categories = pd.Index(categories, dtype=object)
    if known is None:
        return codes.astype(np.int64), categories
    where = known.get_indexer(categories)
    return np.where(codes >= 0, np.append(where, -1)[codes], -1).astype(np.int64), known


def target_values(conditions: pd.DataFrame, predictions: pd.DataFrame) -> Targets:
    """Check both tables and compute every condition × classifier's target value.

    ``conditions`` and ``predictions`` have the columns of DESIGN.md section 5. A classifier's labels are all that occur
    for it anywhere; a condition × classifier with fewer is incomplete and gets no value. Raises :class:`InputError`
    where a table as a whole cannot be used.
    """
    table = check_conditions(conditions)
    missing = [c for c in PREDICTION_COLUMNS if c not in predictions.columns]
    if missing:
        raise InputError(
            f"the predictions lack the columns {', '.join(missing)}; "
            "write them with `morphsym classify` of this version"
        )
    if len(predictions) == 0:
        raise InputError("there are no predictions; run `morphsym classify RESULTS --classifier NAME` first")
    condition, _ = _codes(predictions["condition"], pd.Index(table["condition"].astype(object)))
    classifier, names = _codes(predictions["classifier"])
    label, label_names = _codes(predictions["label"])
    if (classifier < 0).any() or (label < 0).any():
        raise InputError("the predictions have rows without a classifier or a label; classify again")
    stray = condition < 0
    unknown = (int(stray.sum()), str(predictions["condition"].iloc[int(stray.argmax())]) if stray.any() else "")
    if stray.all():
        raise InputError(
            f"no prediction belongs to a condition of this run (for example {unknown[1]!r}); "
            "the predictions are of another run: classify again"
        )
    N, C = len(table), len(names)
    pairs, first = np.unique(classifier * len(label_names) + label, return_index=True)
    order = np.argsort(first, kind="stable")  # labels in the order in which they are first met
    pairs, first = pairs[order], first[order]
    owner = pairs // len(label_names)
    local = np.zeros(C * len(label_names), dtype=np.int64)
    labels: dict[str, tuple[str, ...]] = {}
    for c in range(C):
        mine = pairs[owner == c]
        local[mine] = np.arange(len(mine))
        labels[str(names[c])] = tuple(str(label_names[i % len(label_names)]) for i in mine)
    L = max(len(v) for v in labels.values())
    slot = local[classifier * len(label_names) + label]
    mapping = _emotions_of(predictions, classifier, slot, C, L, names, labels)

    keep = ~stray
    where = (condition[keep] * C + classifier[keep]) * L + slot[keep]
    logits = np.full(N * C * L, np.nan, dtype=np.float32)
    probabilities = np.full(N * C * L, np.nan, dtype=np.float32)
    seen = np.bincount(where, minlength=N * C * L).astype(np.int8)
    given = predictions["logit"].to_numpy(dtype=np.float32, na_value=np.nan)[keep]
    logits[where] = given
    probabilities[where] = predictions["probability"].to_numpy(dtype=np.float32, na_value=np.nan)[keep]
    if (seen > 1).any() and not np.array_equal(logits[where], given, equal_nan=True):
        i = int(np.flatnonzero(logits[where] != given)[0])
        row = predictions[keep].iloc[i]
        raise InputError(
            f"the predictions give two different logits for {row['condition']!r}, {row['classifier']!r}, "
            f"{row['label']!r}; two runs in one folder? classify again into a clean one"
        )
    return _targets(
        table,
        tuple(map(str, names)),
        labels,
        mapping,
        logits.reshape(N, C, L),
        probabilities.reshape(N, C, L),
        (seen > 0).reshape(N, C, L),
        unknown,
    )


def _emotions_of(
    predictions: pd.DataFrame,
    classifier: np.ndarray,
    slot: np.ndarray,
    C: int,
    L: int,
    names: pd.Index,
    labels: dict[str, tuple[str, ...]],
) -> np.ndarray:
    """(C, L) int64: index into EMOTIONS of each label; −1 for a label that is no canonical emotion."""
    emotion, emotion_names = _codes(predictions["emotion"])
    text = [str(e) for e in emotion_names]
    for e in text:
        if e not in ("", "nan", "None", *EMOTIONS):
            raise InputError(f"predictions: emotion must be one of {', '.join(EMOTIONS)}, or empty; got {e!r}")
    canonical = np.array([EMOTIONS.index(e) if e in EMOTIONS else -1 for e in text] + [-1])[emotion]
    mapping = np.full((C, L), -2)
    mapping[classifier, slot] = canonical
    clash = mapping[classifier, slot] != canonical
    if clash.any():
        i = int(clash.argmax())
        name = str(names[classifier[i]])
        raise InputError(
            f"predictions: the classifier {name!r} maps its label {labels[name][slot[i]]!r} "
            "to two emotions; two versions of it in one folder? classify again into a clean one"
        )
    return np.where(mapping == -2, -1, mapping)


def _targets(
    table: pd.DataFrame,
    classifiers: tuple[str, ...],
    labels: dict[str, tuple[str, ...]],
    mapping: np.ndarray,
    logits: np.ndarray,
    probabilities: np.ndarray,
    seen: np.ndarray,
    unknown: tuple[int, str],
) -> Targets:
    """Centre, pick the target label and say why where there is none. ``logits`` etc. are (N, C, L)."""
    N, C, _ = logits.shape
    wanted = np.array([EMOTIONS.index(e) for e in table["expression"]])
    failed = (table["status"] == "failed").to_numpy()
    y, p = np.full((N, C), np.nan), np.full((N, C), np.nan)
    top1, hit = np.full((N, C), -1, dtype=np.int16), np.full((N, C), -1, dtype=np.int8)
    reason = np.zeros((N, C), dtype=np.int8)
    for c, name in enumerate(classifiers):
        k = len(labels[name])
        z = logits[:, c, :k].astype(np.float64)
        count = seen[:, c, :k].sum(axis=1)
        matches = np.array([(mapping[c, :k] == e).sum() for e in range(len(EMOTIONS))])[wanted]
        target = np.array([int((mapping[c, :k] == e).argmax()) for e in range(len(EMOTIONS))])[wanted]
        why = np.full(N, OK, dtype=np.int8)
        why[~np.isfinite(z).all(axis=1)] = NOT_FINITE
        why[count < k] = PARTIAL
        why[count == 0] = ABSENT
        why[failed] = FAILED
        readable = why == OK
        top1[readable, c] = z[readable].argmax(axis=1)
        why[(matches > 1)] = AMBIGUOUS
        why[(matches == 0)] = NO_EMOTION
        good = np.flatnonzero(why == OK)
        y[good, c] = z[good, target[good]] - z[good].mean(axis=1)
        p[good, c] = probabilities[good, c, target[good]]
        hit[good, c] = top1[good, c] == target[good]
        reason[:, c] = why
    p[~np.isfinite(p)] = np.nan
    return Targets(table, classifiers, labels, y, p, top1, hit, reason, unknown)


def reason_text(targets: Targets, row: int, classifier: int) -> str:
    """A sentence's worth of why condition ``row`` has no target value for ``classifier``; '' if it has one."""
    code = int(targets.reason[row, classifier])
    record, name = targets.conditions.iloc[row], targets.classifiers[classifier]
    emotion = record["expression"]
    return {
        OK: "",
        FAILED: f"condition failed: {record['reason'] or 'no reason recorded'}",
        ABSENT: "no prediction of this classifier (classification stopped early, or the file is cut)",
        PARTIAL: f"incomplete prediction: fewer than the classifier's {len(targets.labels[name])} labels",
        NOT_FINITE: "the classifier gave a logit that is not finite",
        NO_EMOTION: f"the classifier has no label for {emotion}",
        AMBIGUOUS: f"the classifier has more than one label for {emotion}",
    }[code]
