"""A whole study in one go: fit, intervene, render, classify, analyze, report; and what it would cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import faces, fitting
from ..classifiers import load_classifier
from ..errors import FitError
from ..rendering import backends
from . import anonymous, engines, places
from .atomic import write_text
from .engines.local import cores
from .fits import fit_photos, fitted
from .run import Timing, compute, one_thread
from .spec import Photos, StudyFile
from .store import Results
from .study import ProgressBar, Study, Units, memory_plan, no_bar, run_study, shard_size

_PILOT_UNITS = 2


@dataclass(frozen=True)
class Plan:
    """What a study would make and take, from a pilot of its first units. Nothing is written."""

    units: int
    images: int
    classifiers: int
    shards: int
    workers: int
    seconds: float | None  # of all workers together at work; None where nothing could be tried (photos not yet fitted)
    bytes: int | None  # of the tables
    seconds_per_image: float | None  # of one worker
    renderer: str | None  # and why it was taken
    memory: str | None  # what rendering needs
    photos_to_fit: int


def plan(spec: StudyFile, folder: Path, workers: int | None = None, memory: str | None = None) -> Plan:
    """Count ``spec`` and time its first units on one worker. Raises what running it would raise before it starts."""
    photos = 0
    if spec.photos and not fitted(folder / spec.photos.fits, _request(spec.photos, folder, spec.model)):
        photos = len(fitting.find_photos([folder / p for p in spec.photos.paths]))
        spec = spec.model_copy(update={"photos": None})
        if spec.people is None:
            design = spec._design()
            names = spec.classifiers or []
            n = workers or spec.run.workers or cores()
            shards = -(-photos // (spec.run.units_per_shard or shard_size(photos)))
            return Plan(photos, design.count(photos, 0), len(names), shards, n, None, None, None, None, None, photos)
    return plan_study(
        spec.study(folder),
        workers or spec.run.workers,
        spec.run.units_per_shard,
        photos,
        spec.run.memory if memory is None else memory,
    )


def plan_study(
    study: Study,
    workers: int | None = None,
    units_per_shard: int | None = None,
    photos: int = 0,
    memory: str | None = None,
) -> Plan:
    """Count ``study`` and time its first units on one worker; ``photos`` more are yet to be fitted."""
    model = faces.load_model(study.model)
    study.design.check(model)
    loaded = [load_classifier(c, study.device) for c in study.classifiers]
    chosen = backends.get(study.renderer, study.device)
    renderer = chosen.name
    units = Units(study, model)
    n = workers or cores()
    needs = memory_plan(units, renderer, memory, n)
    with one_thread():
        first = list(units.between(0, _PILOT_UNITS))
        how: dict[str, Any] = {"placed": model.to(backends.place(renderer, study.device)), "memory_batch": needs.batch}
        compute(0, first[:1], model, study.design, loaded, renderer, **how)  # compiles and warms
        begin = time.perf_counter()
        made = compute(0, first, model, study.design, loaded, renderer, **how)
        each = (time.perf_counter() - begin) / made.timing.conditions
    images = units.conditions() + study.design.count(photos, 0)
    size = (len(made.conditions) + len(made.predictions)) / made.timing.conditions
    total_units = len(units) + photos
    shards = -(-total_units // (units_per_shard or shard_size(total_units)))
    total = each * images / min(n, max(shards, 1))
    return Plan(
        len(units) + photos,
        images,
        len(loaded),
        shards,
        n,
        total,
        int(size * images),
        each,
        f"{renderer} ({chosen.note})",
        str(needs),
        photos,
    )


def run_file(
    spec: StudyFile,
    folder: Path,
    out: Path | None = None,
    *,
    given: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    memory: str | None = None,
    save_images: bool = False,
    analyze: bool = True,
    bar: ProgressBar | None = None,
    step: Callable[[str], Any] | None = None,
    timing: Timing | None = None,
) -> tuple[Results, Any, Path | None]:
    """Run the whole of ``spec`` and return the results, the analysis and the report (None, None without ``analyze``).

    ``folder`` is what relative paths of the file start from; ``out`` replaces its ``output``. What is done already
    (fits, finished results, the report of finished results) is left as it is.
    """
    from .. import pipeline  # it imports this package

    out = out or places.under(folder, spec.output)
    if spec.photos:
        name = engine or spec.run.engine
        where = engines.get(name, workers or spec.run.workers, address or spec.run.address)
        _fit(spec, spec.photos, folder, bar, overwrite, where)
    results = run_study(
        spec.study(folder),
        out,
        given=given or spec.model_dump(),
        resume=resume,
        overwrite=overwrite,
        rerun=True,
        save_images=save_images or spec.run.save_images,
        bar=bar,
        timing=timing,
        engine=engine or spec.run.engine,
        workers=workers or spec.run.workers,
        address=address or spec.run.address,
        units_per_shard=spec.run.units_per_shard,
        memory=memory or spec.run.memory,
    )
    if not analyze:
        return results, None, None
    options = spec.options()
    mark = results.path / "analysis" / "analysed.json"
    wanted = json.dumps({"options": spec.analysis.model_dump(), "seed": spec.seed, "rows": results.manifest["sha256"]})
    report = results.path / "analysis" / "report.html"
    if report.is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return results, None, report
    analysis, report = pipeline.analyze_results(results.path, options, step)
    write_text(mark, wanted)
    return results, analysis, report


def _request(photos: Photos, folder: Path, model: str) -> dict[str, Any]:
    """What determines the fits, as plain values; paths as the file gives them."""
    return {k: v for k, v in photos.model_dump().items() if k != "fits"} | {"model": faces.load_model(model).sha256}


def _fit(
    spec: StudyFile, photos: Photos, folder: Path, bar: ProgressBar | None, overwrite: bool, engine: engines.Engine
) -> None:
    where = folder / photos.fits
    request = _request(photos, folder, spec.model)
    if not overwrite and fitted(where, request):
        return
    found = fitting.find_photos([folder / p for p in photos.paths])
    options = photos.model_dump(exclude={"paths", "fits"})
    options["landmarks"] = folder / photos.landmarks if photos.landmarks else None
    unnamed = anonymous.unnamed([str(p) for p in found]) if spec.anonymous else nullcontext()
    with unnamed, (bar or no_bar)(len(found), "Fitting") as progress:
        fits = fit_photos(found, where, request, spec.model, options, engine, progress)
    if not any(f.ok for f in fits) and spec.people is None:
        raise FitError(f"none of {len(found)} photos could be fitted; {where / 'fits.csv'} says why")
