"""Furrows of the skin that come with an expression: nasolabial folds, crow's feet, wrinkles of the brow.

A morphable model's shapes are smooth: they move the skin and do not fold it. People, and classifiers trained on photos of them,
know a smile or a frown by its folds as well. Where furrows lie and which shapes deepen them is in
``assets/presets/furrows.yaml``, from FACS' lists of appearance changes. A furrow is drawn as the light that it loses: the
sRGB-encoded albedo of a vertex is multiplied by ``exp(-DEPTH m tanh(d / m))``, ``d = depth sum_k c_k field_k``, ``m = LIMIT``:
none at rest, deeper with the coefficients, never black. Fields are split at the midline by the hemiface weights like shapes
without a side, so an edit of the left half changes no furrow of the right one.

Geometry stays the model's own: nothing is moved, and fits, measures and landmarks are what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from torch import Tensor

from .. import resources
from ..errors import UsageError
from .split import MIRROR68

if TYPE_CHECKING:
    from .model import MorphableModel

DEPTH = 0.25
"""How dark furrows are. One shape at 1 darkens the encoded albedo by exp(-0.22) = 0.80 (the formula with m below), 0.59 in linear
light."""
LIMIT = 1.6
"""Where several shapes deepen one furrow its depth saturates at this many times one shape's."""
AGES = (18.0, 90.0)
YOUNG, OLD = 0.75, 1.45
"""Depth at these ages, linear between them; 1 at 44 years. This project's choice: furrows deepen with age."""

_STEPS = 8  # straight pieces between two points of a curve
_TAPER = 0.3  # share of a curve's length over which it fades at an end
_EYES = 9.0  # cm between the outer eye corners of the face that the file speaks of
_LEAST = 1e-3  # a field below this is none


@dataclass(frozen=True, eq=False)
class Furrows:
    """The furrows of a model. Only vertices that have any are held."""

    vertices: np.ndarray  # (n,) int64: vertices that some furrow reaches
    fields: Tensor  # (Ks, n) float32 ≥ 0: depth at these vertices for a coefficient of 1


def depth_of(attributes: Mapping[str, Any]) -> float:
    """How deep a person's furrows are, by ``attributes['age']`` in years; 1 where no age is stated."""
    if "age" not in attributes:
        return 1.0
    return float(np.interp(attributes["age"], AGES, (YOUNG, OLD)))


def furrows(model: MorphableModel, folds_only: bool = False) -> Furrows:
    """The furrows of a model; none (n = 0) where no shape has a name that ``furrows.yaml`` knows, as FLAME's.

    ``folds_only`` leaves out what is a shadow and no line in the skin.
    """
    mean = model.mean.detach().cpu().numpy().astype(np.float64)
    skin = model.vertices_of("skin")
    marks = model.landmarks(model.mean[None].float())[0].detach().cpu().numpy().astype(np.float64)
    marks = 0.5 * (marks + marks[MIRROR68] * [-1.0, 1.0, 1.0])
    names, sided = model.expression_names, model.sided
    shapes = [n.removesuffix("Left").removesuffix("Right").split(".")[0] for n in names]
    whole = np.zeros((len(names), len(mean)))
    for entry in _table():
        driven = [(i, entry["shapes"][s]) for i, s in enumerate(shapes) if s in entry["shapes"]]
        if not driven or (folds_only and not entry.get("fold", True)):
            continue
        field = np.zeros(len(mean))
        field[skin] = _field(entry, marks, mean[skin])
        field = np.maximum(field, field[model.mirror])
        for i, weight in driven:
            whole[i] += weight * field
    whole[whole < _LEAST] = 0.0
    reached = np.flatnonzero(whole.any(axis=0))
    left = model.hemiface_left[reached]
    halves = np.where(sided.side[:, None] > 0, left, np.float32(1.0) - left)
    fields = (whole[:, reached].astype(np.float32))[sided.source] * halves
    return Furrows(reached, torch.from_numpy(np.ascontiguousarray(fields, dtype=np.float32)).to(model.device))


def furrow_shade(model: MorphableModel, expression: Tensor | np.ndarray, depth: float = 1.0) -> Tensor:
    """What is left of the encoded albedo at ``model.furrows.vertices`` (n): (B, n) in (0, 1], 1 where there is no furrow.

    ``expression`` (B, Ks) sided coefficients; ``depth`` ≥ 0 how deep this person's furrows are: 0 none, 1 an average
    adult's. Differentiable in ``expression``. Raises :class:`UsageError` on shapes that do not fit and a negative depth.
    """
    expression = torch.as_tensor(expression)
    if not depth >= 0:
        raise UsageError(f"the depth of furrows must not be negative, got {depth:g}")
    if expression.ndim != 2 or expression.shape[1] != len(model.sided):
        raise UsageError(f"{model.name}: expression must be (B, {len(model.sided)}), got {tuple(expression.shape)}")
    d = depth * (expression @ model.furrows.fields.to(expression)).clamp(min=0)
    return torch.exp(-DEPTH * LIMIT * torch.tanh(d / LIMIT))


def furrowed(model: MorphableModel, albedo: Tensor | np.ndarray, shade: Tensor) -> Tensor:
    """The albedo of a skin with furrows: (B, V, 3) sRGB in [0, 1].

    ``albedo`` (V, 3) sRGB of the smooth skin, ``shade`` (B, n) of :func:`furrow_shade`. Differentiable in both. Raises
    :class:`UsageError` on shapes that do not fit.
    """
    albedo, where = torch.as_tensor(albedo), model.furrows.vertices
    if tuple(albedo.shape) != (model.n_vertices, 3):
        raise UsageError(f"{model.name}: albedo must be ({model.n_vertices}, 3), got {tuple(albedo.shape)}")
    if shade.ndim != 2 or shade.shape[1] != len(where):
        raise UsageError(f"{model.name}: shade must be (B, {len(where)}), got {tuple(shade.shape)}")
    out = albedo.to(shade).expand(len(shade), -1, -1)
    if not len(where):
        return out
    index = torch.as_tensor(where, device=shade.device)
    return out.index_copy(1, index, out[:, index] * shade[..., None])


@cache
def _table() -> tuple[dict[str, Any], ...]:
    with open(resources.asset("presets/furrows.yaml"), encoding="utf-8") as f:
        return tuple(yaml.safe_load(f)["furrows"].values())


def _field(entry: dict[str, Any], marks: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Depth (n,) in [0, 1] of a furrow of the left half at ``skin`` (n, 3): a Gaussian across, fading towards its ends."""
    unit = float(np.linalg.norm(marks[45] - marks[36])) / _EYES
    width = entry["width"] * unit
    most = np.zeros(len(skin))
    for curve in entry["curves"]:
        points = np.array([marks[list(m)].mean(axis=0) + np.array([dx, dy, 0.0]) * unit for m, dx, dy in curve])
        if entry.get("from_midline"):
            points[0, 0] = 0.0
        path = _on_skin(_smooth(points), skin, unit)
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        low, high = path.min(axis=0) - 4.0 * width, path.max(axis=0) + 4.0 * width
        row = np.flatnonzero(((skin > low) & (skin < high)).all(axis=1))
        a, way, near = path[:-1], np.diff(path, axis=0), skin[row]
        t = np.einsum("nsx,sx->ns", near[:, None] - a, way) / np.maximum((way * way).sum(axis=1), 1e-12)
        t = np.clip(t, 0.0, 1.0)
        squared = ((near[:, None] - a - t[..., None] * way) ** 2).sum(axis=-1)
        nearest = squared.argmin(axis=1)
        pick = np.arange(len(near)), nearest
        along = (length[nearest] + t[pick] * np.diff(length)[nearest]) / length[-1]
        end = 1.0 - along if entry.get("from_midline") else np.minimum(along, 1.0 - along)
        fade = 0.35 + 0.65 * np.clip(end / _TAPER, 0.0, 1.0)
        most[row] = np.maximum(most[row], fade * np.exp(-0.5 * squared[pick] / width**2))
    return most


def _smooth(points: np.ndarray) -> np.ndarray:
    """A smooth path through ``points`` (n, 3), ``_STEPS`` pieces between two."""
    from scipy.interpolate import PchipInterpolator

    at = np.arange(len(points), dtype=np.float64)
    return PchipInterpolator(at, points)(np.linspace(0, at[-1], _STEPS * (len(points) - 1) + 1))


def _on_skin(path: np.ndarray, skin: np.ndarray, unit: float) -> np.ndarray:
    """``path`` with each point's depth that of the foremost skin within 0.35 cm of it, seen from the front."""
    out = path.copy()
    for p in out:
        aside = np.hypot(skin[:, 0] - p[0], skin[:, 1] - p[1])
        p[2] = skin[aside < max(0.35 * unit, aside.min() + 0.1 * unit), 2].max()
    return out
