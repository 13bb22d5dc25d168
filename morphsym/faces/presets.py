"""Expressions of the canonical emotions: FACS action units as coefficients, with their sources in the preset file.

The prototypes and the reading of action units as blendshapes are data, ``assets/presets/emotions.yaml``.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import yaml

from .. import resources
from ..errors import UsageError
from ..types import EMOTIONS
from .arkit import ARKIT_NAMES
from .model import MorphableModel

UNIT_SD = 0.15
"""Spread between people of every action unit's intensity (standard deviation of a factor around 1, cut at two)."""

_PAIRED = {n[:-4] for n in ARKIT_NAMES if n.endswith("Left") and n[:-4] not in ("jaw", "mouth")}


@dataclass(frozen=True)
class ActionUnit:
    """A FACS action unit and the blendshapes that show it (weights at full intensity)."""

    code: str  # 'AU12'
    name: str  # 'lip corner puller'
    muscle: str
    shapes: Mapping[str, float]  # 'mouthSmile' for both halves; 'jawOpen'
    source: tuple[str, ...]  # citations


@dataclass(frozen=True)
class Prototype:
    """An emotion's expression: intensities in [0, 1] of action units."""

    emotion: str
    units: Mapping[str, float]
    optional: Mapping[str, tuple[float, float]]  # action unit: intensity, share of people
    unilateral: bool
    source: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Presets:
    """The preset file, read and checked."""

    action_units: Mapping[str, ActionUnit]
    emotions: Mapping[str, Prototype]


@cache
def load_presets() -> Presets:
    """What ``assets/presets/emotions.yaml`` says."""
    with open(resources.asset("presets/emotions.yaml"), encoding="utf-8") as f:
        raw: dict[str, Any] = yaml.safe_load(f)
    scale, sources = raw["scale"], raw["sources"]
    units = {
        code: ActionUnit(code, u["name"], u["muscle"], dict(u["shapes"]), tuple(sources[s] for s in u["source"]))
        for code, u in raw["action_units"].items()
    }
    emotions = {
        name: Prototype(
            name,
            {u: scale[letter] for u, letter in e["units"].items()},
            {u: (scale[o["letter"]], float(o["share"])) for u, o in e.get("optional", {}).items()},
            bool(e.get("unilateral", False)),
            tuple(sources[s] for s in e["source"]),
            e.get("note", ""),
        )
        for name, e in raw["emotions"].items()
    }
    return Presets(units, emotions)


def emotion_preset(
    model: MorphableModel,
    emotion: str,
    rng: np.random.Generator | None = None,
    intensity: float = 1.0,
    side: str | None = None,
    asymmetry: float = 0.0,
) -> np.ndarray:
    """The expression of a canonical ``emotion`` as sided coefficients (Ks,) float32 of ``model``.

    Left and right are equal, but for contempt, which FACS describes on one side: ``side``, or a random one with ``rng``,
    or the left. ``rng`` adds a person's natural variation: every action unit's intensity varies by :data:`UNIT_SD`, and
    optional units come in their share of the people. ``intensity`` in [0, 1] scales the whole (0 is neutral).
    ``asymmetry``, off by default, is the standard deviation of a natural left–right difference of each action unit, as a
    share of its intensity; it needs ``rng``. Coefficients stay in the model's range.

    Raises :class:`UsageError` for an unknown emotion or value, or a model whose shapes have no ARKit names.
    """
    known = load_presets()
    if emotion not in known.emotions:
        raise UsageError(f"expression must be one of {', '.join(EMOTIONS)}; got {emotion!r}")
    if not 0.0 <= intensity <= 1.0:
        raise UsageError(f"intensity must lie between 0 (neutral) and 1, got {intensity:g}")
    if side not in (None, "left", "right"):
        raise UsageError(f"side must be left or right, got {side!r}")
    if asymmetry and rng is None:
        raise UsageError("asymmetry needs a random generator")
    prototype = known.emotions[emotion]
    chosen = side or ("left" if rng is None or rng.random() < 0.5 else "right")
    levels = dict(prototype.units)
    for unit, (level, share) in prototype.optional.items():
        if rng is not None and rng.random() < share:
            levels[unit] = max(level, levels.get(unit, 0.0))
    scores: dict[str, float] = {}
    for unit, level in levels.items():
        factor = 1.0 if rng is None else 1.0 + UNIT_SD * float(np.clip(rng.standard_normal(), -2, 2))
        tilt = 0.0 if rng is None or not asymmetry else asymmetry * float(np.clip(rng.standard_normal(), -2, 2))
        for shape, weight in known.action_units[unit].shapes.items():
            for half, sign in (("left", 1.0), ("right", -1.0)):
                if prototype.unilateral and half != chosen:
                    continue
                name = f"{shape}{half.capitalize()}" if shape in _PAIRED else f"{shape}.{half}"
                if name.startswith(("jaw", "tongue")):
                    sign = 0.0  # bones and the tongue have no sides
                scores[name] = scores.get(name, 0.0) + level * weight * factor * (1.0 + sign * tilt) * intensity
    found = model.coefficients(scores)
    return np.clip(found, model.sided.low, model.sided.high)


_templates: weakref.WeakKeyDictionary[MorphableModel, tuple[tuple[str, ...], np.ndarray]] = weakref.WeakKeyDictionary()


def nearest_emotion(model: MorphableModel, coefficients: np.ndarray) -> tuple[str, float]:
    """The canonical emotion whose preset is most similar to sided ``coefficients`` (Ks,), and the cosine.

    Gaze is left out, and so is neutral unless the face is at rest: its preset is zero, without a direction; a face whose
    coefficients are all below 0.05 is neutral with cosine 1. Contempt is compared on both sides.
    """
    if model not in _templates:
        names, rows = [], []
        for emotion in load_presets().emotions:
            if emotion != "neutral":
                for side in ("left", "right") if load_presets().emotions[emotion].unilateral else (None,):
                    names.append(emotion)
                    rows.append(emotion_preset(model, emotion, side=side))
        stacked = np.stack(rows).astype(np.float64)
        _templates[model] = tuple(names), stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    emotions, templates = _templates[model]
    c = np.asarray(coefficients, dtype=np.float64)
    if c.shape != (len(model.sided),):
        raise UsageError(f"expected ({len(model.sided)},) sided expression coefficients, got {c.shape}")
    c = np.where([n == "gaze" for n in model.sided.nerve], 0.0, c)
    if np.abs(c).max() < 0.05:
        return "neutral", 1.0
    cosines = templates @ c / np.linalg.norm(c)
    best = int(cosines.argmax())
    return emotions[best], float(cosines[best])
