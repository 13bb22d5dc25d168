"""The stages between a unit and its rows: intervene, render, classify. Pure: records in, records out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..classifiers import Classifier
from ..classifiers import classify as run_classifiers
from ..errors import MorphsymError
from ..faces import MorphableModel
from ..intervention import MIRROR68, Design, UnitConditions, unit_conditions
from ..types import Unit
from .tables import prediction_rows
from .units import FailedUnit, render_unit

BATCH = 192
"""Pictures that go through the classifiers at once, at least (whole units are kept together)."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """The pictures of one unit's N conditions, of which n could be rendered."""

    plan: UnitConditions
    images: Tensor  # (n, 3, H, W) float32 in [0, 1], sRGB; in the order of the conditions
    landmarks: Tensor  # (n, 68, 2) float32, pixels: the unit's one crop anchor, mirrored for the mirrored arms
    rendered: np.ndarray  # (N,) bool
    reasons: tuple[str, ...]  # N, '' where rendered
    coverage: np.ndarray  # (N,) share of the pixels that show the mesh; NaN where nothing was rendered
    leak: np.ndarray  # (N,) largest change outside the edit's reach, in [0, 1]; NaN where not measured

    @property
    def names(self) -> list[str]:
        """The n conditions that could be rendered."""
        return [self.plan.conditions[i].condition for i in np.flatnonzero(self.rendered)]


def intervene(
    units: Iterable[Unit | FailedUnit], model: MorphableModel, design: Design
) -> Iterator[UnitConditions | FailedUnit]:
    """The conditions of every unit; units that could not be made pass through, to be counted."""
    for unit in units:
        if isinstance(unit, FailedUnit):
            yield replace(unit, conditions=tuple(design.conditions(unit.unit, unit.source)))
        else:
            yield unit_conditions(model, unit, design)


def render(
    plans: Iterable[UnitConditions | FailedUnit], model: MorphableModel, renderer: str = "auto"
) -> Iterator[Rendered | FailedUnit]:
    """The pictures of every unit, one unit at a time."""
    for plan in plans:
        yield plan if isinstance(plan, FailedUnit) else render_plan(model, plan, renderer)


def render_plan(model: MorphableModel, plan: UnitConditions, renderer: str) -> Rendered:
    """The pictures of a unit's conditions. A picture that is another's mirror image is flipped, not rendered."""
    unit, n = plan.unit, len(plan.conditions)
    reasons = list(plan.reasons)
    coverage, leak = np.full(n, np.nan), np.full(n, np.nan)
    arms = [c.arm for c in plan.conditions]
    todo = [i for i in range(n) if not (reasons[i] or plan.mirrored[i] or arms[i] == "original")]
    images: dict[int, Tensor] = {}
    try:
        vertices = forward(model, unit, plan.coefficients[todo])
        pictures, cover, leaked = render_unit(model, unit, vertices, renderer)
        for k, i in enumerate(todo):
            images[i], coverage[i], leak[i] = pictures[k], float(cover[k]), float(leaked[k])
    except MorphsymError as e:
        reasons = [r or str(e) for r in reasons]
    if unit.photo is not None and "original" in arms:
        original = arms.index("original")
        images[original] = torch.tensor(unit.photo).permute(2, 0, 1).float() / 255.0
    anchor = torch.as_tensor(unit.landmarks, dtype=torch.float32)
    # x → W − x, and every landmark takes the name of its mirror partner
    flipped = anchor[torch.as_tensor(MIRROR68)] * torch.tensor([-1.0, 1.0]) + torch.tensor([unit.camera.width, 0.0])
    found: list[Tensor] = []
    anchors: list[Tensor] = []
    rendered = np.zeros(n, dtype=bool)
    for i in range(n):
        source = int(plan.picture[i])
        if not reasons[i] and source not in images:
            reasons[i] = reasons[source] or "the picture that it mirrors failed"
        if reasons[i]:
            continue
        rendered[i] = True
        coverage[i], leak[i] = coverage[source], leak[source]
        found.append(images[source].flip(-1) if plan.mirrored[i] else images[source])
        anchors.append(flipped if plan.mirrored[i] else anchor)
    size = (0, 3, unit.camera.height, unit.camera.width)
    return Rendered(
        plan,
        torch.stack(found) if found else torch.zeros(size),
        torch.stack(anchors) if anchors else torch.zeros(0, 68, 2),
        rendered,
        tuple(reasons),
        coverage,
        leak,
    )


def forward(model: MorphableModel, unit: Unit, coefficients: np.ndarray) -> Tensor:
    """Vertices (N, V, 3) of one identity with N expressions (N, Ks): the identity is added once."""
    device = model.sided.basis.device
    identity = torch.as_tensor(unit.identity, dtype=torch.float32, device=device)[None]
    neutral = model.forward(identity, torch.zeros(1, len(model.sided), device=device))
    active = np.flatnonzero(np.any(coefficients != 0, axis=0))
    if len(active) == 0:
        return neutral.expand(len(coefficients), -1, -1).contiguous()
    c = torch.as_tensor(np.ascontiguousarray(coefficients[:, active]), device=device)
    basis = model.sided.basis[torch.as_tensor(active, device=device)]
    return neutral + (c @ basis.reshape(len(active), -1)).reshape(len(c), -1, 3)


def classify(rendered: Sequence[Rendered], classifiers: Sequence[Classifier]) -> pd.DataFrame:
    """Predictions of all pictures by all classifiers: one row a condition × classifier × label.

    Units are joined into batches of about :data:`BATCH` pictures; each picture's logits do not hang on its batch.
    """
    parts: list[pd.DataFrame] = []
    pending: list[Rendered] = []

    def flush() -> None:
        if not pending:
            return
        names = [name for r in pending for name in r.names]
        images = torch.cat([r.images for r in pending]) if len(pending) > 1 else pending[0].images
        anchors = torch.cat([r.landmarks for r in pending])
        logits = run_classifiers(images, anchors, classifiers)
        for c in classifiers:
            parts.append(prediction_rows(c.spec, names, logits[c.spec.id].detach().cpu().numpy()))
        pending.clear()

    for r in rendered:
        if pending and r.images.shape[1:] != pending[0].images.shape[1:]:
            flush()
        if len(r.images):
            pending.append(r)
        if sum(len(p.images) for p in pending) >= BATCH:
            flush()
    flush()
    if not parts:
        parts = [prediction_rows(c.spec, [], np.zeros((0, len(c.spec.labels)), np.float32)) for c in classifiers]
    return pd.concat(parts, ignore_index=True)
