"""The runner: units in, a results folder out.

Work is cut into shards of a few units. :func:`compute` makes the rows of one shard, the same on every worker; an engine
(:mod:`.engines`) says where; :func:`execute` writes each shard once, atomically, as it comes. A run that was killed goes
on with the shards that are missing and ends with the same rows as one that was not.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import threadpoolctl
import torch

from ..classifiers import Classifier
from ..errors import ClassifierError
from ..faces import MorphableModel
from ..intervention import Design
from ..rendering.backends import _compile
from ..types import Unit
from .images import save_image
from .stages import Rendered, ask, intervene, render_plan
from .store import Results
from .tables import (
    Answers,
    Columns,
    Failure,
    condition_rows,
    condition_table,
    encode,
    failed_rows,
    failure_table,
    prediction_table,
)
from .units import UNITS_PER_SHARD, FailedUnit

Progress = Callable[..., Any]
"""Called with the number of conditions that were finished, and ``failed=`` how many of them could not be made."""


@dataclass
class Timing:
    """Seconds of processor time by stage, summed over workers (each is one thread); ``other`` is neither rendering nor
    classifying. What others do on a shared machine does not count.

    ``total`` is the wall time. With several workers the stages add up to more than it.
    """

    rendering: float = 0.0
    classifying: float = 0.0
    other: float = 0.0
    total: float = 0.0
    conditions: int = 0
    failed: int = 0  # of the conditions

    @property
    def busy(self) -> float:
        return self.rendering + self.classifying + self.other


@dataclass(frozen=True, eq=False)
class ShardRows:
    """One shard, as the bytes of its files, and what it took. Plain data: it travels between processes."""

    shard: int
    conditions: bytes
    predictions: bytes
    failures: bytes | None  # None when no classifier failed
    timing: Timing = field(default_factory=Timing)
    notes: tuple[str, ...] = ()  # what the manifest records of how they were made: batches that were halved


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let each worker compute on one thread: torch, BLAS and OpenMP in this process, and the rasteriser's kernels in
    this thread. The last bits of a network's answer hang on its number of threads, so it is the same everywhere; the
    cores are used by several workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1), _compile.limited(1):
            yield
    finally:
        torch.set_num_threads(before)


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
    """Render and classify every condition of any ``units`` into ``results``, in this thread, and mark it complete.

    ``save_images`` says of which units the pictures are kept. A unit or condition that fails is recorded with its
    reason. Shards that are already on disk are skipped.
    """
    timing = timing if timing is not None else Timing()
    begin = time.perf_counter()
    stream = iter(units)
    shard = 0
    with one_thread():
        while batch := list(islice(stream, units_per_shard)):
            if results.has_shard(shard):
                if progress:
                    progress(sum(len(design.conditions(u.unit, u.source)) for u in batch))
            else:
                rows = compute(shard, batch, model, design, classifiers, renderer, progress, results.path, save_images)
                _write(results, rows, timing)
            shard += 1
    _finish(results, shard, timing)
    timing.total += time.perf_counter() - begin
    return results


def execute(
    results: Results,
    shards: int,
    stream: Callable[[Iterable[int]], Iterator[ShardRows]],
    *,
    skipped: Callable[[int], Any] | None = None,
    written: Callable[[ShardRows], Any] | None = None,
    timing: Timing | None = None,
) -> Results:
    """Fill the shards of ``results`` that are missing with what ``stream`` (an engine at work) makes of them.

    Shards are written as they come, in any order. ``skipped`` is told of shards that are there already, ``written`` of
    those that were made.
    """
    timing = timing if timing is not None else Timing()
    begin = time.perf_counter()

    def missing() -> Iterator[int]:
        marked = results.marked()
        for k in range(shards):
            if k not in marked or not results.has_shard(k):
                yield k
            elif skipped:
                skipped(k)

    notes: dict[str, None] = dict.fromkeys(results.manifest.get("notes", []))
    for rows in stream(missing()):
        _write(results, rows, timing)
        notes |= dict.fromkeys(rows.notes)
        if written:
            written(rows)
    if notes:
        results.write_manifest(notes=list(notes))
    _finish(results, shards, timing)
    timing.total += time.perf_counter() - begin
    return results


def _write(results: Results, rows: ShardRows, timing: Timing) -> None:
    tick = time.thread_time()
    results.write_shard(rows.shard, rows.conditions, rows.predictions, rows.failures)
    t = rows.timing
    timing.rendering += t.rendering
    timing.classifying += t.classifying
    timing.conditions += t.conditions
    timing.failed += t.failed
    timing.other += t.other + time.thread_time() - tick


def _finish(results: Results, shards: int, timing: Timing) -> None:
    tick = time.thread_time()
    results.finish(shards, finished=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    timing.other += time.thread_time() - tick


def compute(
    shard: int,
    batch: Iterable[Unit | FailedUnit],
    model: MorphableModel,
    design: Design,
    classifiers: Sequence[Classifier],
    renderer: str = "auto",
    progress: Progress | None = None,
    folder: Path | None = None,
    save_images: Callable[[Unit], bool] | None = None,
    placed: MorphableModel | None = None,
    memory_batch: int | None = None,
) -> ShardRows:
    """All rows of a few units, one unit at a time: its pictures are gone before the next one's are made.

    A picture for which a classifier gives no answer is recorded. A classifier that answers none of a shard's pictures
    is broken, not stumped: :class:`ClassifierError` stops the run, which can be resumed when it works again.
    ``placed`` is the model on the device that renders, ``memory_batch`` how many pictures are rendered at once.
    """
    timing = Timing()
    begin = time.thread_time()
    columns: list[Columns] = []
    answers: list[Answers] = []
    failures: list[Failure] = []
    notes: dict[str, None] = {}
    for plan in intervene(batch, model, design):
        if isinstance(plan, FailedUnit):
            columns.append(failed_rows(plan))
        else:
            tick = time.thread_time()
            pictures = render_plan(model, plan, renderer, placed, memory_batch)
            notes |= dict.fromkeys(pictures.notes)
            timing.rendering += time.thread_time() - tick
            keep = folder is not None and save_images is not None and save_images(plan.unit)
            columns.append(rows(pictures, save_pictures(folder, pictures) if keep and folder else {}))
            tick = time.thread_time()
            found, failed = ask(pictures, classifiers)
            timing.classifying += time.thread_time() - tick
            answers += found
            failures += failed
        timing.conditions += len(columns[-1]["condition"])
        bad = len(columns[-1]["condition"]) - columns[-1]["status"].count("ok")
        timing.failed += bad
        if progress:
            progress(len(columns[-1]["condition"]), failed=bad)
    for classifier in dict.fromkeys(f.classifier for f in failures):
        if not any(a.spec.id == classifier for a in answers):
            reason = next(f.reason for f in failures if f.classifier == classifier)
            raise ClassifierError(f"{reason} (it answered none of the pictures of shard {shard}; mend it and --resume)")
    made = ShardRows(
        shard,
        encode(condition_table(columns)),
        encode(prediction_table(answers)),
        encode(failure_table(failures)) if failures else None,
        timing,
        tuple(notes),
    )
    timing.other = time.thread_time() - begin - timing.rendering - timing.classifying
    return made


def rows(rendered: Rendered | FailedUnit, paths: dict[int, str] | None = None) -> Columns:
    """The rows of one unit: one a condition. ``paths`` are its kept pictures by index of the condition."""
    if isinstance(rendered, FailedUnit):
        return failed_rows(rendered)
    names = ("coverage", "leak", "mirror_ssim", "image_change")
    return condition_rows(rendered.plan, rendered.reasons, {k: getattr(rendered, k) for k in names}, paths or {})


def join(units: Sequence[Columns]) -> pd.DataFrame:
    """Units' rows as one table: the stated columns first, then the subjects' attributes."""
    return condition_table(units).to_pandas()


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
    """Counts of conditions, units, subjects and failures, for messages."""
    failed = frame[frame["status"] != "ok"]
    return {
        "conditions": len(frame),
        "failed": len(failed),
        "units": int(frame["unit"].nunique()),
        "subjects": int(frame["subject"].nunique()),
        "reasons": {str(k): int(v) for k, v in failed["reason"].value_counts().items()},
    }
