"""Conditions and predictions with planted effects, in the columns that `intervene` writes. For tests and the report.

The target's centred logit of a unit is, by construction,
``y(baseline) = b_u``, ``y(matched) = b_u + λ·IE + noise``, ``y(unilateral) = b_u + λ·(IE + AE ± side_bias/2) + noise``,
``y(mirrored_baseline) = b_u + mirror_bias``, ``y(null) = y(baseline)``, ``y(original) = y(null) − null_error``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

SEVEN = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


@dataclass(frozen=True)
class Planted:
    """The true effects of one synthetic classifier on the centred logit, at strength 1."""

    ie: float = -0.8
    ae: float = -0.6
    side_bias: float = 0.0  # TE(left) − TE(right)
    mirror_bias: float = 0.0
    null_error: float = 0.02  # photos only
    noise: float = 0.15  # standard deviation of each image's own noise
    between: float = 0.3  # standard deviation over subjects of the effect, relative to it
    labels: tuple[str, ...] = SEVEN


CLASSIFIERS: Mapping[str, Planted] = {
    "reacts": Planted(),
    "intensity-only": Planted(ae=0.0),
    "asymmetry-only": Planted(ie=0.0, ae=-0.9, side_bias=0.3),
    "constant": Planted(ie=0.0, ae=0.0, noise=0.0, null_error=0.0),
    "six-labels": Planted(ie=-0.2, ae=0.1, mirror_bias=0.4, labels=SEVEN[:6]),
}


def tables(
    n_subjects: int = 12,
    emotions: Sequence[str] = ("happiness", "sadness", "surprise"),
    sides: Sequence[str] = ("left", "right"),
    strengths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    regions: Sequence[str] = ("all",),
    classifiers: Mapping[str, Planted] = CLASSIFIERS,
    source: str = "sampled",
    seed: int = 0,
    prefix: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(conditions, predictions). Photos get one emotion a subject and an `original` arm."""
    prefix = prefix or {"sampled": "s", "photo": "p"}[source]
    rows = []
    for s in range(n_subjects):
        subject = f"{prefix}{s:04d}"
        for emotion in emotions if source == "sampled" else (emotions[s % len(emotions)],):
            arms = [("baseline", "none", 0.0, "none"), ("null", "none", 0.0, "none")]
            arms += [("mirrored_baseline", "none", 0.0, "none")]
            arms += [("original", "none", 0.0, "none")] if source == "photo" else []
            arms += [
                (arm, side, float(strength), region)
                for side in sides
                for strength in strengths
                for region in regions
                for arm in ("unilateral", "matched", "mirrored_unilateral")
            ]
            for arm, side, strength, region in arms:
                unit = f"{subject}.{emotion}"
                asymmetric = arm in ("unilateral", "mirrored_unilateral")
                rows.append(
                    {
                        "condition": f"{unit}/{arm}/{side}/{strength:g}/{region}",
                        "unit": unit,
                        "subject": subject,
                        "source": source,
                        "expression": emotion,
                        "arm": arm,
                        "side": side,
                        "strength": strength,
                        "region": region,
                        "dose": strength * (0.5 if arm == "matched" else 1.0),
                        "realised_asymmetry": 0.3 * strength * asymmetric + 0.01 * (s % 3),
                        "realised_intensity": 1.0 - 0.5 * strength,
                        "status": "ok",
                        "reason": "",
                        "image": None,
                    }
                )
    conditions = pd.DataFrame(rows)
    return conditions, predict(conditions, classifiers, seed + 1)


def predict(conditions: pd.DataFrame, classifiers: Mapping[str, Planted], seed: int) -> pd.DataFrame:
    """Predictions of the synthetic ``classifiers`` on every condition that is 'ok'."""
    rng = np.random.default_rng(seed)
    ok = conditions[conditions["status"] == "ok"].reset_index(drop=True)
    n = len(ok)
    subject, n_subjects = ok["subject"].factorize()[0], ok["subject"].nunique()
    unit, n_units = ok["unit"].factorize()[0], ok["unit"].nunique()
    arm, lam = ok["arm"].to_numpy(), ok["strength"].to_numpy()
    sign = ok["side"].map({"left": 1.0, "right": -1.0, "both": 0.0, "none": 0.0}).to_numpy()
    edited = np.isin(arm, ("unilateral", "matched", "mirrored_unilateral"))
    asymmetric = np.isin(arm, ("unilateral", "mirrored_unilateral"))
    mirrored = np.isin(arm, ("mirrored_baseline", "mirrored_unilateral"))
    parts = []
    for name, p in classifiers.items():
        base = 2.0 + rng.normal(size=n_units)[unit] * 0.7
        spread = 1.0 + p.between * rng.normal(size=n_subjects)[subject]
        y = base + lam * spread * (p.ie * edited + (p.ae + 0.5 * p.side_bias * sign) * asymmetric)
        y = y + p.mirror_bias * mirrored - p.null_error * (arm == "original")
        y = y + p.noise * rng.normal(size=n) * edited
        L = len(p.labels)
        logits = rng.normal(size=(n_units, L))[unit]
        target = ok["expression"].map({e: i for i, e in enumerate(p.labels)}).to_numpy(dtype=float)
        has = ~np.isnan(target)
        rows, cols = np.flatnonzero(has), target[has].astype(int)
        logits[rows, cols] = 0.0
        logits[rows, cols] = (y[has] + logits[rows].sum(axis=1) / L) / (1.0 - 1.0 / L)
        logits += 3.0 * rng.normal(size=n_units)[unit][:, None]  # raw logits are not centred
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = e / e.sum(axis=1, keepdims=True)
        parts.append(
            pd.DataFrame(
                {
                    "condition": np.repeat(ok["condition"].to_numpy(), L),
                    "classifier": name,
                    "label": np.tile(np.array([f"{x.title()}" for x in p.labels]), n),
                    "emotion": np.tile(np.array(p.labels), n),
                    "logit": logits.ravel().astype(np.float32),
                    "probability": probability.ravel().astype(np.float32),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
