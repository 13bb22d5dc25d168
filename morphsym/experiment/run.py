"""The runner: units in, a results folder out. Fit → forward → render → classify, streamed unit by unit.

Work is cut into shards of a few units. A shard's rows are written once, atomically; a run that was killed goes on at
the first shard that is missing and ends with the same rows as one that was not.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..classifiers import Classifier, classify
from ..errors import MorphsymError
from ..faces import MorphableModel
from ..intervention import MIRROR68, Design, UnitConditions, unit_conditions
from ..types import Unit
from .images import save_image
from .store import CONDITION_COLUMNS, Results
from .tables import condition_rows, failed_rows, prediction_rows
from .units import FailedUnit, render_unit

UNITS_PER_SHARD = 12

Progress = Callable[[int], None]
"""Called with the number of conditions that were finished."""


@dataclass
class Timing:
    """Seconds spent by stage; ``other`` is everything that is neither rendering nor network inference."""

    rendering: float = 0.0
    classifying: float = 0.0
    total: float = 0.0
    conditions: int = 0

    @property
    def other(self) -> float:
        return self.total - self.rendering - self.classifying


@dataclass(frozen=True)
class Shard:
    """One shard's rows, before they are written."""

    conditions: pd.DataFrame
    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)


def run(
    units: Iterable[Unit | FailedUnit],
    model: MorphableModel,
    design: Design,
    classifiers: Sequence[Classifier],
    results: Results,
    *,
    renderer: str = "auto",
    save_images: Callable[[Unit], bool] | None = None,
    progress: Progress | None = None,
    timing: Timing | None = None,
    units_per_shard: int = UNITS_PER_SHARD,
) -> Results:
    """Render and classify every condition of ``units`` into ``results`` and mark it complete.

    ``save_images`` says of which units the pictures are kept. A unit or condition that fails is recorded with its
    reason. Shards that are already on disk are skipped.
    """
    timing = timing if timing is not None else Timing()
    stream = iter(units)
    shard = 0
    while batch := list(islice(stream, units_per_shard)):
        if results.has_shard(shard):
            if progress:
                progress(sum(len(design.conditions(u.unit, u.source)) for u in batch))
        else:
            done = compute(batch, model, design, classifiers, renderer, timing, progress, results.path, save_images)
            joined = pd.concat(list(done.predictions.values()), ignore_index=True)
            results.write_shard(shard, done.conditions, joined)
        shard += 1
    results.finish(shard, finished=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    return results


def compute(
    batch: Sequence[Unit | FailedUnit],
    model: MorphableModel,
    design: Design,
    classifiers: Sequence[Classifier],
    renderer: str,
    timing: Timing,
    progress: Progress | None = None,
    folder: Path | None = None,
    save_images: Callable[[Unit], bool] | None = None,
) -> Shard:
    """All rows of a few units."""
    begin = time.perf_counter()
    conditions: list[pd.DataFrame] = []
    predictions: dict[str, list[pd.DataFrame]] = {c.spec.id: [] for c in classifiers}
    for unit in batch:
        if isinstance(unit, FailedUnit):
            rows = failed_rows(unit, design)
            conditions.append(rows)
            if progress:
                progress(len(rows))
            continue
        plan = unit_conditions(model, unit, design)
        tick = time.perf_counter()
        pictures = render_plan(model, plan, renderer)
        tock = time.perf_counter()
        outputs, reasons = _classify(plan, pictures, classifiers)
        timing.rendering += tock - tick
        timing.classifying += time.perf_counter() - tock
        paths: dict[int, str] = {}
        if folder is not None and save_images is not None and save_images(unit):
            paths = _save(folder, plan, pictures)
        conditions.append(condition_rows(plan, pictures.reasons, reasons, pictures.coverage, pictures.leak, paths))
        for name, logits in outputs.items():
            rows = np.flatnonzero(pictures.rendered)
            names = [plan.conditions[i].condition for i in rows]
            spec = next(c.spec for c in classifiers if c.spec.id == name)
            predictions[name].append(prediction_rows(spec, names, logits))
        if progress:
            progress(len(plan.conditions))
        timing.conditions += len(plan.conditions)
    empty = {c.spec.id: prediction_rows(c.spec, [], np.zeros((0, len(c.spec.labels)))) for c in classifiers}
    shard = Shard(
        pd.concat(conditions, ignore_index=True)[
            [*CONDITION_COLUMNS, *sorted({c for f in conditions for c in f.columns} - set(CONDITION_COLUMNS))]
        ],
        {k: pd.concat(v, ignore_index=True) if v else empty[k] for k, v in predictions.items()},
    )
    timing.total += time.perf_counter() - begin
    return shard


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of one unit's conditions."""

    images: Tensor  # (n, 3, H, W) of the n conditions that could be rendered, in order
    landmarks: Tensor  # (n, 68, 2)
    rendered: np.ndarray  # (N,) bool
    reasons: list[str]  # N, '' where rendered
    coverage: np.ndarray  # (N,)
    leak: np.ndarray  # (N,)


def render_plan(model: MorphableModel, plan: UnitConditions, renderer: str) -> Pictures:
    """The pictures of a unit's conditions. A picture that is another's mirror image is flipped, not rendered."""
    unit, n = plan.unit, len(plan.conditions)
    reasons = list(plan.reasons)
    coverage, leak = np.full(n, np.nan), np.full(n, np.nan)
    todo = [i for i, c in enumerate(plan.conditions) if not reasons[i] and not plan.mirrored[i] and c.arm != "original"]
    images: dict[int, Tensor] = {}
    try:
        vertices = forward(model, unit, plan.coefficients[todo])
        pictures, cover, leaked = render_unit(model, unit, vertices, renderer)
        for k, i in enumerate(todo):
            images[i], coverage[i], leak[i] = pictures[k], float(cover[k]), float(leaked[k])
    except MorphsymError as e:
        for i in range(n):
            reasons[i] = reasons[i] or str(e)
    if unit.photo is not None:
        for i, c in enumerate(plan.conditions):
            if c.arm == "original" and not reasons[i]:
                images[i] = torch.from_numpy(unit.photo).permute(2, 0, 1).float() / 255.0
    anchor = torch.as_tensor(unit.landmarks, dtype=torch.float32)
    mirrored_anchor = anchor[torch.as_tensor(MIRROR68)] * torch.tensor([-1.0, 1.0])
    mirrored_anchor = mirrored_anchor + torch.tensor([float(unit.camera.width), 0.0])
    anchors: list[Tensor] = []
    found: list[Tensor] = []
    rendered = np.zeros(n, dtype=bool)
    for i in range(n):
        source = int(plan.picture[i])
        if reasons[i] or source not in images:
            reasons[i] = reasons[i] or reasons[source] or "the picture that it mirrors failed"
            continue
        rendered[i] = True
        coverage[i], leak[i] = coverage[source], leak[source]
        found.append(images[source].flip(-1) if plan.mirrored[i] else images[source])
        anchors.append(mirrored_anchor if plan.mirrored[i] else anchor)
    size = (3, unit.camera.height, unit.camera.width)
    return Pictures(
        torch.stack(found) if found else torch.zeros(0, *size),
        torch.stack(anchors) if anchors else torch.zeros(0, 68, 2),
        rendered,
        reasons,
        coverage,
        leak,
    )


def forward(model: MorphableModel, unit: Unit, coefficients: np.ndarray) -> Tensor:
    """Vertices (N, V, 3) of one identity with many expressions: the identity is added once."""
    device = model.mean.device
    identity = torch.as_tensor(unit.identity, dtype=torch.float32, device=device)[None]
    neutral = model.forward(identity, torch.zeros(1, len(model.sided), device=device))
    active = np.flatnonzero(np.any(coefficients != 0, axis=0))
    if len(active) == 0:
        return neutral.expand(len(coefficients), -1, -1).contiguous()
    c = torch.as_tensor(np.ascontiguousarray(coefficients[:, active]), device=device)
    basis = model.sided.basis[torch.as_tensor(active, device=device)]
    return neutral + (c @ basis.reshape(len(active), -1)).reshape(len(c), -1, 3)


def _classify(
    plan: UnitConditions, pictures: Pictures, classifiers: Sequence[Classifier]
) -> tuple[Mapping[str, np.ndarray], list[str]]:
    """Logits of the rendered pictures by classifier."""
    if not len(pictures.images):
        return {}, [""] * len(plan.conditions)
    logits = classify(pictures.images, pictures.landmarks, classifiers)
    return {k: v.detach().cpu().numpy() for k, v in logits.items()}, [""] * len(plan.conditions)


def _save(folder: Path, plan: UnitConditions, pictures: Pictures) -> dict[int, str]:
    """Save the pictures of a unit; returns their paths relative to ``folder`` by index of the condition."""
    paths = {}
    for image, i in zip(pictures.images, np.flatnonzero(pictures.rendered), strict=True):
        c = plan.conditions[i]
        name = c.arm if c.side == "none" else f"{c.arm}-{c.side}-{c.strength:g}-{c.region}"
        relative = f"images/{c.unit}/{name}.png"
        save_image(folder / relative, image)
        paths[int(i)] = relative
    return paths


def summary(frame: pd.DataFrame) -> dict[str, Any]:
    """Counts by status and arm, for the manifest and for messages."""
    failed = frame[frame["status"] != "ok"]
    return {
        "conditions": len(frame),
        "failed": len(failed),
        "units": int(frame["unit"].nunique()),
        "subjects": int(frame["subject"].nunique()),
        "reasons": {str(k): int(v) for k, v in failed["reason"].value_counts().items()},
    }
