"""The runner: units in, a results folder out.

Work is cut into shards of a few units. A shard's rows are written once, atomically; a run that was killed goes on at
the first shard that is missing and ends with the same rows as one that was not.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classifiers import Classifier
from ..faces import MorphableModel
from ..intervention import Design
from ..types import Unit
from .images import save_image
from .stages import Rendered, classify, intervene, render_plan
from .store import CONDITION_COLUMNS, Results
from .tables import condition_rows, failed_rows
from .units import UNITS_PER_SHARD, FailedUnit

Progress = Callable[[int], Any]
"""Called with the number of conditions that were finished."""


@dataclass
class Timing:
    """Seconds spent by stage; ``other`` is everything that is neither rendering nor classifying."""

    rendering: float = 0.0
    classifying: float = 0.0
    total: float = 0.0
    conditions: int = 0

    @property
    def other(self) -> float:
        return self.total - self.rendering - self.classifying


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
    begin = time.perf_counter()
    stream = iter(units)
    shard = 0
    while batch := list(islice(stream, units_per_shard)):
        if results.has_shard(shard):
            if progress:
                progress(sum(len(design.conditions(u.unit, u.source)) for u in batch))
        else:
            conditions, predictions = compute(
                batch, model, design, classifiers, renderer, timing, progress, results.path, save_images
            )
            results.write_shard(shard, conditions, predictions)
        shard += 1
    results.finish(shard, finished=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    timing.total += time.perf_counter() - begin
    return results


def compute(
    batch: Sequence[Unit | FailedUnit],
    model: MorphableModel,
    design: Design,
    classifiers: Sequence[Classifier],
    renderer: str = "auto",
    timing: Timing | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
    save_images: Callable[[Unit], bool] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows of a few units: conditions and predictions."""
    timing = timing if timing is not None else Timing()
    frames: list[pd.DataFrame] = []
    pending: list[Rendered] = []
    for plan in intervene(batch, model, design):
        if isinstance(plan, FailedUnit):
            frames.append(rows(plan))
        else:
            tick = time.perf_counter()
            pictures = render_plan(model, plan, renderer)
            timing.rendering += time.perf_counter() - tick
            keep = folder is not None and save_images is not None and save_images(plan.unit)
            frames.append(rows(pictures, save_pictures(folder, pictures) if keep and folder else {}))
            pending.append(pictures)
        if progress:
            progress(len(frames[-1]))
        timing.conditions += len(frames[-1])
    tick = time.perf_counter()
    predictions = classify(pending, classifiers)
    timing.classifying += time.perf_counter() - tick
    return join(frames), predictions


def rows(rendered: Rendered | FailedUnit, paths: dict[int, str] | None = None) -> pd.DataFrame:
    """The rows of one unit: one a condition. ``paths`` are its kept pictures by index of the condition."""
    if isinstance(rendered, FailedUnit):
        return failed_rows(rendered)
    return condition_rows(rendered.plan, rendered.reasons, rendered.coverage, rendered.leak, paths or {})


def join(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Units' rows as one table: the stated columns first, then the subjects' attributes."""
    joined = pd.concat(frames, ignore_index=True)
    extra = sorted(set(joined.columns) - set(CONDITION_COLUMNS))
    return joined[[*CONDITION_COLUMNS, *extra]]


def save_pictures(folder: Path, pictures: Rendered) -> dict[int, str]:
    """Save the pictures of a unit; returns their paths relative to ``folder`` by index of the condition."""
    paths = {}
    for image, i in zip(pictures.images, np.flatnonzero(pictures.rendered), strict=True):
        c = pictures.plan.conditions[i]
        name = c.arm if c.side == "none" else f"{c.arm}-{c.side}-{c.strength:g}-{c.region}"
        paths[int(i)] = f"images/{c.unit}/{name}.png"
        save_image(folder / paths[int(i)], image)
    return paths


def summary(frame: pd.DataFrame) -> dict[str, Any]:
    """Counts of conditions, units, subjects and failures, for the manifest and for messages."""
    failed = frame[frame["status"] != "ok"]
    return {
        "conditions": len(frame),
        "failed": len(failed),
        "units": int(frame["unit"].nunique()),
        "subjects": int(frame["subject"].nunique()),
        "reasons": {str(k): int(v) for k, v in failed["reason"].value_counts().items()},
    }
