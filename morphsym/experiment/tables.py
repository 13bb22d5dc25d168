"""The rows of ``conditions.parquet`` and ``predictions/``; names and meanings as in DESIGN.md section 5.

Rows are gathered as columns, unit by unit, and become Arrow tables once a shard: no pandas on the way to disk.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..classifiers import ClassifierSpec
from ..intervention import UnitConditions
from ..types import Unit
from .units import FailedUnit

CONDITION_COLUMNS = (
    "condition",
    "unit",
    "subject",
    "source",
    "expression",
    "arm",
    "side",
    "strength",
    "region",
    "dose",
    "realised_asymmetry",
    "realised_intensity",
    "realised_left",
    "realised_right",
    "displacement",
    "head_turn",
    "coverage",
    "leak",
    "mirror_ssim",
    "image_change",
    "status",
    "reason",
    "image",
    "scene",
)
PREDICTION_COLUMNS = ("condition", "classifier", "label", "emotion", "logit", "probability")
FAILURE_COLUMNS = ("condition", "classifier", "reason")

_FLOAT32 = ("coverage", "leak", "mirror_ssim", "image_change")
_FLOAT64 = (
    "strength",
    "dose",
    "realised_asymmetry",
    "realised_intensity",
    "realised_left",
    "realised_right",
    "displacement",
    "head_turn",
)

Columns = dict[str, Any]
"""One unit's rows: a list or an array for each of CONDITION_COLUMNS, and the subject's attributes as single values."""


@dataclass(frozen=True, eq=False)
class Answers:
    """One classifier's logits for n pictures."""

    spec: ClassifierSpec
    conditions: Sequence[str]  # n
    logits: np.ndarray  # (n, L) float32


@dataclass(frozen=True)
class Failure:
    """A picture for which a classifier gave no answer."""

    condition: str
    classifier: str
    reason: str


def condition_rows(
    plan: UnitConditions,
    reasons: Sequence[str],
    measured: Mapping[str, np.ndarray],
    paths: Mapping[int, str],
) -> Columns:
    """The rows of a unit that could be made: one a condition. ``measured`` has the columns that are read from pictures."""
    unit, n = plan.unit, len(plan.conditions)
    columns = _about(unit, plan.conditions) | {
        "dose": plan.dose,
        "realised_asymmetry": plan.realised.asymmetry,
        "realised_intensity": plan.realised.intensity,
        "realised_left": plan.realised.left,
        "realised_right": plan.realised.right,
        "displacement": plan.displacement,
        "head_turn": plan.turn,
        **measured,
        "scene": [scene(unit)] * n,
        "status": ["failed" if r else "ok" for r in reasons],
        "reason": list(reasons),
        "image": [paths.get(i) for i in range(n)],
    }
    for name, value in unit.attributes.items():
        columns[f"subject_{name}" if name in CONDITION_COLUMNS else name] = value
    return columns


def scene(unit: Unit) -> str:
    """A digest of all that the arms of a unit must share: identity, factual expression, camera, light, skin, background,
    photo, and the crop's anchor. 16 hexadecimal digits; the analysis checks that a unit has one."""
    digest = hashlib.sha256()
    parts: list[Any] = [unit.identity, unit.expression, unit.landmarks, unit.albedo, unit.background, unit.photo]
    parts += [np.float64(unit.furrows)]
    parts += [getattr(unit.camera, f.name) for f in fields(unit.camera)]
    parts += [getattr(unit.lights, f.name) for f in fields(unit.lights)] if unit.lights is not None else []
    for x in parts:
        if isinstance(x, torch.Tensor):
            x = x.detach().cpu().numpy()
        digest.update(b"|" if x is None else np.ascontiguousarray(x).tobytes() + b"|")
    return digest.hexdigest()[:16]


def failed_rows(unit: FailedUnit) -> Columns:
    """The rows of a unit that could not be made: every condition failed, for its one reason."""
    n = len(unit.conditions)
    columns = _about(unit, unit.conditions)
    columns |= {name: np.full(n, np.nan) for name in (*_FLOAT64, *_FLOAT32) if name != "strength"}
    return columns | {"status": ["failed"] * n, "reason": [unit.reason] * n, "image": [None] * n, "scene": [None] * n}


def _about(unit: Any, conditions: Sequence[Any]) -> Columns:
    n = len(conditions)
    return {
        "condition": [c.condition for c in conditions],
        "unit": [unit.unit] * n,
        "subject": [unit.subject] * n,
        "source": [unit.source] * n,
        "expression": [unit.emotion] * n,
        "arm": [c.arm for c in conditions],
        "side": [c.side for c in conditions],
        "strength": [c.strength for c in conditions],
        "region": [c.region for c in conditions],
    }


def condition_table(units: Sequence[Columns]) -> pa.Table:
    """Units' rows as one table: the stated columns first, then the subjects' attributes, sorted; null where a unit has
    none."""
    sizes = [len(u["condition"]) for u in units]
    made: dict[str, pa.Array] = {}
    for name in CONDITION_COLUMNS:
        if name in _FLOAT32 or name in _FLOAT64:
            dtype = np.float32 if name in _FLOAT32 else np.float64
            made[name] = pa.array(np.concatenate([np.asarray(u[name], dtype=dtype) for u in units] or [np.zeros(0)]))
        else:
            made[name] = pa.array([v for u in units for v in u[name]], type=pa.string())
    for name in sorted({k for u in units for k in u} - set(CONDITION_COLUMNS)):
        values = pa.array([_plain(u.get(name)) for u in units])
        made[name] = values.take(pa.array(np.repeat(np.arange(len(units)), sizes)))
    return pa.table(made)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def prediction_table(answers: Sequence[Answers]) -> pa.Table:
    """One row a condition × classifier × label; probabilities are the softmax of the logits."""
    answers = [a for a in answers if len(a.conditions)]
    index: dict[str, int] = {}
    classifiers: dict[str, int] = {}
    labels: dict[str, int] = {}
    emotions: dict[str, int] = {}
    codes: dict[str, list[np.ndarray]] = {k: [] for k in PREDICTION_COLUMNS[:4]}
    logits: list[np.ndarray] = [np.zeros(0, np.float32)]
    probabilities: list[np.ndarray] = [np.zeros(0, np.float32)]
    for a in answers:
        n, k = a.logits.shape
        codes["condition"].append(np.repeat([index.setdefault(c, len(index)) for c in a.conditions], k))
        codes["classifier"].append(np.full(n * k, classifiers.setdefault(a.spec.id, len(classifiers))))
        codes["label"].append(np.tile([labels.setdefault(x, len(labels)) for x in a.spec.labels], n))
        emotion = [-1 if e is None else emotions.setdefault(e, len(emotions)) for e in a.spec.label_emotions]
        codes["emotion"].append(np.tile(emotion, n))
        logits.append(a.logits.astype(np.float32).ravel())
        e = np.exp(a.logits.astype(np.float64) - a.logits.max(axis=1, keepdims=True))
        probabilities.append((e / e.sum(axis=1, keepdims=True)).astype(np.float32).ravel())
    made: dict[str, pa.Array] = {}
    for name, names in zip(codes, (index, classifiers, labels, emotions), strict=True):
        code = np.concatenate([np.zeros(0, np.int64), *codes[name]]).astype(np.int32)
        made[name] = pa.DictionaryArray.from_arrays(pa.array(code, mask=code < 0), pa.array(list(names), pa.string()))
    return pa.table(
        made | {"logit": pa.array(np.concatenate(logits)), "probability": pa.array(np.concatenate(probabilities))}
    )


def failure_table(failures: Sequence[Failure]) -> pa.Table:
    """One row a condition × classifier that has no prediction although its picture was made, with the reason."""
    return pa.table(
        {c: pa.array([getattr(f, c) for f in failures], pa.string()) for c in FAILURE_COLUMNS}  # as plain text
    )


def encode(table: pa.Table | pd.DataFrame) -> bytes:
    """``table`` as the bytes of a Parquet file. Dictionary-encoded columns are written as such and read as text."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", store_schema=False)
    return out.getvalue()
