"""The rows of ``conditions.parquet`` and ``predictions/``; names and meanings as in DESIGN.md section 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..classifiers import ClassifierSpec
from ..intervention import UnitConditions
from .units import FailedUnit


def condition_rows(
    plan: UnitConditions,
    reasons: Sequence[str],
    coverage: np.ndarray,
    leak: np.ndarray,
    paths: Mapping[int, str],
) -> pd.DataFrame:
    """One row a condition of a unit that could be made."""
    unit, cs = plan.unit, plan.conditions
    frame = pd.DataFrame(
        {
            "condition": [c.condition for c in cs],
            "unit": unit.unit,
            "subject": unit.subject,
            "source": unit.source,
            "expression": unit.emotion,
            "arm": [c.arm for c in cs],
            "side": [c.side for c in cs],
            "strength": [c.strength for c in cs],
            "region": [c.region for c in cs],
            "dose": plan.dose,
            "realised_asymmetry": plan.realised.asymmetry,
            "realised_intensity": plan.realised.intensity,
            "realised_left": plan.realised.left,
            "realised_right": plan.realised.right,
            "coverage": coverage.astype(np.float32),
            "leak": leak.astype(np.float32),
            "status": ["failed" if r else "ok" for r in reasons],
            "reason": list(reasons),
            "image": pd.Series([paths.get(i) for i in range(len(cs))], dtype="string"),
        }
    )
    for name, value in unit.attributes.items():
        frame[f"subject_{name}" if name in frame else name] = value
    return frame


def failed_rows(unit: FailedUnit) -> pd.DataFrame:
    """The rows of a unit that could not be made: every condition failed, for its one reason."""
    cs = unit.conditions
    frame = pd.DataFrame(
        {
            "condition": [c.condition for c in cs],
            "unit": unit.unit,
            "subject": unit.subject,
            "source": unit.source,
            "expression": unit.emotion,
            "arm": [c.arm for c in cs],
            "side": [c.side for c in cs],
            "strength": [c.strength for c in cs],
            "region": [c.region for c in cs],
            "status": "failed",
            "reason": unit.reason,
            "image": pd.Series([None] * len(cs), dtype="string"),
        }
    )
    for name in ("dose", "realised_asymmetry", "realised_intensity", "realised_left", "realised_right"):
        frame[name] = np.nan
    for name in ("coverage", "leak"):
        frame[name] = np.full(len(frame), np.nan, dtype=np.float32)
    return frame


def prediction_rows(spec: ClassifierSpec, conditions: Sequence[str], logits: np.ndarray) -> pd.DataFrame:
    """One row a condition × label of one classifier. ``logits`` (N, L); probabilities are their softmax."""
    n, labels = len(conditions), list(spec.labels)
    shifted = logits.astype(np.float64) - (logits.max(axis=1, keepdims=True) if n else 0.0)
    e = np.exp(shifted)
    probabilities = e / e.sum(axis=1, keepdims=True)
    emotions = spec.label_emotions
    codes = np.tile(np.arange(len(labels)), n)
    return pd.DataFrame(
        {
            "condition": np.repeat(np.asarray(conditions, dtype=object), len(labels)),
            "classifier": spec.id,
            "label": np.asarray(labels, dtype=object)[codes],
            "emotion": pd.Series(np.asarray(emotions, dtype=object)[codes], dtype="string"),
            "logit": logits.astype(np.float32).ravel(),
            "probability": probabilities.astype(np.float32).ravel(),
        }
    )
