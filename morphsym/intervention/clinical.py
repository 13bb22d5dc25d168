"""Clinical patterns of weakness: House–Brackmann grades, single branches of the facial nerve, and the droop at rest.

The patterns are data, ``assets/presets/clinical.yaml``, each number with its source. A pattern is a mapping from
``all``, a region or a shape (ARKit's name without side) to a strength; a shape goes before its region, a region
before ``all``. The droop at rest is apart: it changes the resting face, so it is not part of the weakness and is off
unless asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import yaml

from .. import resources
from ..errors import UsageError
from ..faces.arkit import ARKIT_NAMES
from ..types import REGIONS, SidedBasis

_STEMS = {n.removesuffix("Left").removesuffix("Right") for n in ARKIT_NAMES} | set(ARKIT_NAMES)


@cache
def _presets() -> dict[str, Any]:
    with open(resources.asset("presets/clinical.yaml"), encoding="utf-8") as f:
        return yaml.safe_load(f)


def clinical_presets() -> tuple[str, ...]:
    """The names of all patterns: ``house-brackmann-1`` to ``-6``, then the branches."""
    return tuple(_presets()["presets"])


def clinical_preset(name: str) -> dict[str, float]:
    """The pattern ``name``: ``all``, regions and shapes to strengths in [0, 1]. :class:`UsageError` for an unknown name."""
    return {k: float(v) for k, v in _pattern(name).items()}


def clinical_sources(name: str) -> tuple[str, tuple[str, ...]]:
    """Why the numbers of the pattern ``name`` are what they are, and the citations."""
    entry = _entry(name)
    return entry["why"], tuple(_presets()["sources"][s] for s in entry["source"])


def _entry(name: str) -> dict[str, Any]:
    presets = _presets()["presets"]
    if name not in presets:
        raise UsageError(f"unknown clinical preset {name!r}; known are {', '.join(presets)}")
    return presets[name]


def _pattern(name: str) -> dict[str, float]:
    entry = _entry(name)
    found = {"all": entry["all"]} if "all" in entry else {}
    return found | entry.get("regions", {}) | entry.get("shapes", {})


def strengths(basis: SidedBasis, pattern: str | Mapping[str, float], side: str) -> np.ndarray:
    """The strength of every sided shape, (Ks,) float64 in [0, 1]; 0 on the other side and for other nerves.

    ``pattern`` is a preset's name or a mapping like :func:`clinical_preset`'s; ``side`` is left, right or both.
    Raises :class:`UsageError` on an unknown key, a strength out of range, or a pattern of shapes that this model does
    not have (models without ARKit's names know regions only)."""
    wanted = clinical_preset(pattern) if isinstance(pattern, str) else dict(pattern)
    if side not in ("left", "right", "both"):
        raise UsageError(f"side must be one of left, right, both; got {side!r}")
    for key, value in wanted.items():
        if key not in REGIONS and key not in _STEMS:
            raise UsageError(f"a clinical pattern names all, a region or an ARKit shape without its side; got {key!r}")
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"the strength of {key} must lie between 0 and 1, got {value:g}")
    stems = [_stem(n) for n in basis.names]
    shapes = [k for k in wanted if k not in REGIONS]
    if shapes and len(shapes) == len(wanted) and not set(shapes) & set(stems):
        raise UsageError(
            f"this face model has none of the shapes {', '.join(shapes[:4])}…; a pattern by shapes needs ARKit's names "
            "(the bundled head or ICT-FaceKit), on other models use regions"
        )
    found = np.zeros(len(basis))
    for i, (stem, region, nerve) in enumerate(zip(stems, basis.region, basis.nerve)):
        if nerve == "facial" and (side == "both" or basis.side[i] == (1 if side == "left" else -1)):
            found[i] = wanted.get(stem, wanted.get(region, wanted.get("all", 0.0)))
    return found


def weaken_clinically(
    basis: SidedBasis, coefficients: np.ndarray, pattern: str | Mapping[str, float], side: str, share: float = 1.0
) -> np.ndarray:
    """Coefficients (…, Ks) with every shape scaled by ``1 - share * strength`` of :func:`strengths`.

    ``share`` in [0, 1] goes from the factual face (0, bit for bit) to the whole pattern (1).
    """
    coefficients = np.asarray(coefficients)
    if coefficients.shape[-1] != len(basis):
        raise UsageError(f"expected {len(basis)} sided expression coefficients, got {coefficients.shape[-1]}")
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"share must lie between 0 and 1, got {share:g}")
    kept = (1.0 - share * strengths(basis, pattern, side)).astype(coefficients.dtype)
    return coefficients * kept


def rest_droop(basis: SidedBasis, side: str, strength: float = 1.0) -> np.ndarray:
    """What a palsied side sags at rest: coefficients (Ks,) float32 to **add** to the face, the neutral one too.

    ``strength`` in [0, 1] scales the full droop of the preset file. It is no weakness: an analysis keeps it apart
    (its own arm or study), for it moves the face where the expression asks for nothing. Raises :class:`UsageError` on
    models without ARKit's names."""
    if side not in ("left", "right", "both"):
        raise UsageError(f"side must be one of left, right, both; got {side!r}")
    if not 0.0 <= strength <= 1.0:
        raise UsageError(f"the strength of the droop must lie between 0 and 1, got {strength:g}")
    wanted = {k: float(v["coefficient"]) for k, v in _presets()["rest_droop"]["shapes"].items()}
    found = np.zeros(len(basis), dtype=np.float32)
    for i, name in enumerate(basis.names):
        if _stem(name) in wanted and (side == "both" or basis.side[i] == (1 if side == "left" else -1)):
            found[i] = strength * wanted[_stem(name)]
    if not found.any() and strength > 0:
        raise UsageError("this face model has none of the shapes of the droop at rest; it needs ARKit's names")
    return found


def add_droop(basis: SidedBasis, coefficients: np.ndarray, side: str, strength: float = 1.0) -> np.ndarray:
    """Coefficients (…, Ks) with :func:`rest_droop` added, kept in the model's range."""
    coefficients = np.asarray(coefficients)
    droop = rest_droop(basis, side, strength)
    if strength == 0.0:
        return coefficients.copy()
    added = np.clip(coefficients + droop.astype(coefficients.dtype), basis.low, basis.high).astype(coefficients.dtype)
    return np.where(droop != 0, added, coefficients)  # nothing else is touched, not even by the clip


def _stem(name: str) -> str:
    """ARKit's name without its side: mouthSmile of mouthSmileLeft, mouthLeft of mouthLeft.right."""
    stem, dot, _ = name.rpartition(".")
    if dot:
        return stem
    return name.removesuffix("Left").removesuffix("Right")
