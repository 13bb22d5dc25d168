"""A study: who, which interventions, which classifiers; what ``intervene``, ``classify`` and ``demo`` run."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from .. import faces
from ..classifiers import Classifier, bundled, load_classifier
from ..errors import StoreError, UsageError
from ..faces import MorphableModel
from ..intervention import Design
from ..rendering import backends
from ..rendering import memory as memories
from ..resources import sha256
from ..types import FaceFit, Unit
from . import anonymous, engines, places
from . import manifest as manifests
from .atomic import writing
from .labels import read_labels
from .run import Progress, ShardRows, Timing, compute, execute, one_thread
from .store import Results, check_name, difference, digest_of, same
from .units import (
    BACKGROUND,
    DISTANCE,
    PHOTO_SIZE,
    PORTRAIT_SIZE,
    POSE_SD,
    SAMPLED_EMOTIONS,
    UNITS_PER_SHARD,
    FailedUnit,
    load_fits,
    photo_unit,
    sampled_units,
    subject_name,
)

EXAMPLE_PHOTOS = 2
EXAMPLE_PEOPLE = 3

ProgressBar = Callable[[int, str], Any]
"""``(total, description)`` to a context manager that yields a function taking the number of finished conditions; with
``failed=`` how many of them could not be made, with ``skipped=True`` when they were there already."""


@dataclass(frozen=True)
class Study:
    """Everything that determines the rows of a results folder. Plain values; see :class:`Design` for the interventions.

    Units are the fits of the folder ``fits`` (each with the emotion that ``fit`` wrote) and ``sample`` sampled
    people × ``expressions``. Raises :class:`UsageError` when there are neither.
    """

    model: str = "makehuman"
    fits: str | None = None
    sample: int = 0
    expressions: tuple[str, ...] = SAMPLED_EMOTIONS
    design: Design = field(default_factory=Design)
    classifiers: tuple[str, ...] = field(default_factory=bundled)
    renderer: str = "auto"
    device: str = "auto"
    seed: int = 0
    size: int = PORTRAIT_SIZE
    photo_size: int = PHOTO_SIZE
    pose_sd: tuple[float, float, float] = POSE_SD
    background: tuple[float, float] = BACKGROUND
    distance: tuple[float, float] = DISTANCE
    light: str = "lamp"
    furrows: float = 1.0
    anonymous: bool = False
    labels: str | None = None  # a CSV file about the photos, see :mod:`.labels`
    labels_sha256: str = ""  # of that file; filled in

    def __post_init__(self) -> None:
        if not self.fits and self.sample < 1:
            raise UsageError("nobody to intervene on: give fitted photos (--fits DIR) or sampled people (--sample N)")
        if not self.classifiers:
            raise UsageError(f"at least one classifier is needed, for example {bundled()[0]}")
        if self.design.sweeps and self.sample < 1:
            raise UsageError(
                "yaw, pitch, light and skin are swept over sampled people, not over photos: add --sample N"
            )
        if self.labels and not self.fits:
            raise UsageError("labels are about photos: give fitted photos (--fits DIR) too")
        if self.labels and not self.labels_sha256:
            if not Path(self.labels).is_file():
                raise UsageError(
                    f"there is no file {self.labels}; expected a CSV file about the photos, with a column photo"
                )
            object.__setattr__(self, "labels_sha256", sha256(Path(self.labels)))
        object.__setattr__(self, "device", resolve_device(self.device))
        object.__setattr__(self, "classifiers", tuple(dict.fromkeys(self.classifiers)))
        object.__setattr__(self, "expressions", tuple(dict.fromkeys(self.expressions)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        plain = asdict(self) | {"design": self.design.to_dict()}
        if not self.labels:
            del plain["labels"], plain["labels_sha256"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Study:
        """The inverse of :meth:`to_dict`. Raises :class:`StoreError` on an unknown key (a newer version's)."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise StoreError(f"the manifest names an unknown setting {sorted(unknown)[0]!r}; update morphsym")
        design: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["design"].items()}
        rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "design"}
        return cls(design=Design(**design), **rest)


def resolve_device(name: str) -> str:
    """``auto`` as a device that is there; any other name checked. Raises :class:`UsageError`."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}") from None
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"there is no CUDA device for {name!r}; use --device cpu")
    if kind.type not in ("cpu", "cuda"):
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}")
    return name


class Units:
    """The units of a study: countable, and any stretch of them can be made without those before."""

    def __init__(self, study: Study, model: MorphableModel) -> None:
        self.study, self.model = study, model
        self.levels = study.design.levels()
        self.fits: list[FaceFit] = load_fits(study.fits) if study.fits else []
        if study.fits and not any(f.ok for f in self.fits) and not study.sample:
            raise StoreError(f"{study.fits} holds no usable fit; fits.csv says why, by photo")
        for f in self.fits:
            check_name("photo name", f.name)
        about, names = self._labels(), [f.name for f in self.fits]
        if study.anonymous:
            self.fits = anonymous.fits(self.fits)  # in another order
            about = [a | ({"subject": anonymous.alias(a["subject"])} if "subject" in a else {}) for a in about]
            names = [anonymous.alias(n) for n in names]
        self.about = dict(zip(names, about, strict=True))

    def _labels(self) -> list[dict[str, Any]]:
        """What the labels say of each fit; the expression goes into the fit itself."""
        s = self.study
        if not s.labels:
            return [{} for _ in self.fits]
        path = anonymous.find(s.labels) if s.anonymous and not Path(s.labels).is_file() else s.labels
        about = read_labels(path, self.fits)
        if sha256(Path(path)) != s.labels_sha256:
            raise StoreError(f"{path} has changed since the study was begun; run the study again")
        told = [a.pop("expression", "") for a in about]
        self.fits = [
            replace(f, emotion=e, emotion_source="given") if e else f for f, e in zip(self.fits, told, strict=True)
        ]
        return about

    def __len__(self) -> int:
        return len(self.fits) + self.study.sample * len(self.study.expressions) * len(self.levels)

    def __iter__(self) -> Iterator[Unit | FailedUnit]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[Unit | FailedUnit]:
        """Units ``start`` to ``stop``: photos first, then people, each with every expression in every level of the sweep."""
        s, photos_ = self.study, len(self.fits)
        for f in self.fits[start:stop]:
            unit = photo_unit(f, self.model, s.photo_size)
            about = dict(self.about[f.name])
            subject = check_name("subject", str(about.pop("subject", unit.subject)))
            if isinstance(unit, FailedUnit):
                unit = replace(unit, subject=subject)
                yield anonymous.failed(unit, f) if s.anonymous else unit
            else:
                yield replace(unit, subject=subject, attributes={**unit.attributes, **about})
        if stop > photos_ and s.sample:
            yield from sampled_units(
                self.model,
                s.sample,
                s.expressions,
                s.seed,
                s.size,
                s.pose_sd,
                s.background,
                max(start - photos_, 0),
                stop - photos_,
                self.levels,
                s.distance,
                s.light,
                s.furrows,
            )

    def conditions(self, start: int = 0, stop: int | None = None) -> int:
        """How many images the study makes, or units ``start`` to ``stop`` of it."""
        stop = len(self) if stop is None else min(stop, len(self))
        photos_ = min(stop, len(self.fits)) - min(start, len(self.fits))
        return self.study.design.count(photos_, stop - start - photos_)

    def is_example(self) -> Callable[[Unit], bool]:
        """Whose pictures the report shows: the first photos, and of the first people one emotion each."""
        s = self.study
        chosen = {f.name for f in [f for f in self.fits if f.ok][:EXAMPLE_PHOTOS]}
        order = sorted(s.expressions, key=lambda e: (e != "happiness", e != "surprise", e))
        level = f".{self.levels[0].name}" if self.levels[0].name else ""
        people = {f"{subject_name(i)}.{order[i % len(order)]}{level}" for i in range(min(EXAMPLE_PEOPLE, s.sample))}
        return lambda unit: (
            (unit.fit is not None and unit.fit.name in chosen) if unit.source == "photo" else (unit.unit in people)
        )


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to make shards of a study: plain values that travel to any process; see :mod:`.engines`.

    ``loaded`` are the classifiers already in memory, for workers that are threads of this process.
    """

    study: Study
    renderer: str
    folder: str
    units_per_shard: int
    save_images: bool
    batch: int | None = None  # pictures rendered at once
    model: MorphableModel | None = None
    loaded: tuple[Classifier, ...] | None = None
    progress: Progress | None = None

    def __call__(self) -> Callable[[int], ShardRows]:
        s = self.study
        model = self.model or faces.load_model(s.model)
        loaded = self.loaded or tuple(load_classifier(c, s.device) for c in s.classifiers)
        units = Units(s, model)
        keep = (lambda unit: True) if self.save_images else units.is_example()
        placed = model.to(backends.place(self.renderer, s.device))
        _ = model.sided, placed.sided  # computed once, before threads ask for it

        def job(shard: int) -> ShardRows:
            start = shard * self.units_per_shard
            batch = units.between(start, min(start + self.units_per_shard, len(units)))
            folder = places.place(self.folder)
            return compute(
                shard, batch, model, s.design, loaded, self.renderer, self.progress, folder, keep, placed, self.batch
            )

        return job


def run_study(
    study: Study,
    out: str | Path,
    *,
    given: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rerun: bool = False,
    save_images: bool = False,
    bar: ProgressBar | None = None,
    timing: Timing | None = None,
    classifiers: Sequence[Classifier] | None = None,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    units_per_shard: int | None = None,
    memory: int | str | None = None,
) -> Results:
    """Run ``study`` into the folder ``out``. ``given`` is what the user asked for (default: the study itself).

    A finished folder of the same study is left as it is with ``resume`` or ``rerun``; a half-written one is continued
    with ``resume`` only. The rows do not hang on ``engine``, ``workers`` (default: the machine's), ``units_per_shard``,
    ``memory`` or interruptions. ``memory`` is what all workers' rendering may take, in bytes or as text (``'4GB'``).
    Everything that can be wrong with the request is found before the first file is written.
    """
    begin = time.perf_counter()
    where = engines.get(engine, workers, address, study.device)
    if classifiers is not None and engine != "local":
        raise UsageError(f"the engine {engine} loads classifiers by name in every worker; register them first")
    model = faces.load_model(study.model)
    names = study.classifiers
    loaded = list(classifiers) if classifiers is not None else [load_classifier(c, study.device) for c in names]
    ids = [c.spec.id for c in loaded]
    if len(set(ids)) != len(ids):
        raise UsageError(f"the classifier {max(ids, key=ids.count)} was given twice; give each its own id")
    chosen = backends.get(study.renderer, study.device)
    renderer = chosen.name
    study.design.check(model)
    units = Units(study, model)
    needs = memory_plan(units, renderer, memory, getattr(where, "workers", None) or workers or 1)
    resolved, asked = study.to_dict(), given or study.to_dict()
    if study.anonymous:
        asked = anonymous.given(asked)
        if study.fits:
            resolved["fits"] = anonymous.put_away(study.fits)
        if study.labels:
            resolved["labels"] = anonymous.put_away(study.labels)
    made = manifests.build(asked, resolved, model, loaded, renderer, study.device, units.fits)
    made["renderer_note"] = chosen.note
    made["memory"] = needs.to_dict()
    made["fits"] = {
        f.name: {"photo": f.name, "sha256": anonymous.digest(f.photo_sha256)}
        if study.anonymous
        else {"photo": Path(f.photo).name, "sha256": f.photo_sha256}
        for f in units.fits
    }
    made["units_per_shard"] = units_per_shard or shard_size(len(units))
    results = Results.create(out, made, resume=resume, overwrite=overwrite, rerun=rerun)
    if results.complete:
        return results
    size = int(results.manifest["units_per_shard"])  # as it was begun
    here = engine == "local"
    unnamed = anonymous.unnamed([f.photo for f in units.fits]) if study.anonymous else nullcontext()
    told = (bar or no_bar)(units.conditions(), f"Rendering ({renderer}) and classifying")
    with results.acquire_lock(), unnamed, told as progress:
        results.reload()  # the run that held the folder until now may have finished it, or begun another study
        if not same(results.manifest, made):
            raise StoreError(
                f"another run has just begun another study in {out} ({difference(results.manifest, made)}); "
                "choose another folder with -o"
            )
        if results.complete:
            return results
        _note_resumed(results, made)
        tell = _together(progress)
        recipe = Recipe(study, renderer, str(results.path), size, save_images, needs.batch)
        if here:
            recipe = replace(recipe, model=model, loaded=tuple(loaded), progress=tell)
        execute(
            results,
            -(-len(units) // size),
            lambda shards: where.map(recipe, shards),
            skipped=lambda k: tell(units.conditions(k * size, (k + 1) * size), skipped=True),
            written=None if here else lambda rows: tell(rows.timing.conditions, failed=rows.timing.failed),
            timing=timing,
        )
        seconds = results.manifest.get("seconds", {}).get("total", 0.0) + time.perf_counter() - begin
        results.write_manifest(engine={"name": engine, "workers": workers}, seconds={"total": round(seconds, 3)})
    return results


def memory_plan(units: Units, renderer: str, budget: int | str | None, workers: int) -> memories.Memory:
    """What rendering ``units`` needs, and how many pictures are rendered at once; see :mod:`..rendering.memory`.

    Without a ``budget`` it is what a GPU has free when the study renders on one, and not limited on the CPU.
    """
    study, model = units.study, units.model
    place = backends.place(renderer, study.device)
    limit = memories.free(place) if budget is None else memories.parse(str(budget))
    size = max([study.photo_size] * bool(units.fits) + [study.size] * bool(study.sample))
    pictures = max(study.design.count(1, 0) * bool(units.fits), study.design.count(0, 1) * bool(study.sample))
    return memories.plan(limit, workers, renderer, pictures, len(model.mean), len(model.faces), size, size)


def _note_resumed(results: Results, now: dict[str, Any]) -> None:
    """Say in the manifest when a study goes on with other versions, or on another processor, than it was begun with."""
    names = ("versions", "git", "machine")
    if any(results.manifest.get(k) != now[k] for k in names):
        old, new = results.manifest.get("versions", {}), now["versions"]
        if other := [f"{k} {old.get(k)} there, {new[k]} now" for k in new if old.get(k) != new[k]]:
            warnings.warn(
                f"the study goes on with other versions than it was begun with: {'; '.join(other)}", stacklevel=3
            )
        again = {"time": now["started"]} | {k: now[k] for k in names}
        results.write_manifest(resumed=[*results.manifest.get("resumed", []), again])


def shard_size(units: int) -> int:
    """Units a shard, where nobody asks: small studies keep many workers busy, large ones do not drown in files."""
    return max(2, min(48, units // 32))


def _together(progress: Progress) -> Progress:
    """``progress`` for several threads."""
    lock = threading.Lock()

    def tell(n: int, **more: Any) -> None:
        with lock:
            progress(n, **more)

    return tell


def again(results: Results) -> tuple[Study, MorphableModel, Units]:
    """The study behind ``results``, its model and its units, from the manifest alone.

    Fits are looked for where they were, and beside the results: a study's folder can be moved as a whole.
    """
    study = Study.from_dict(results.manifest["spec"]["resolved"])
    if study.fits:
        known = anonymous.find(study.fits) if study.anonymous else study.fits
        places_ = [Path(known)]
        if not places.is_remote(results.path):
            beside = results.path.absolute().parent
            places_ += [beside / known, beside / Path(known).name]
        study = replace(study, fits=str(next((p for p in places_ if (p / "fits.csv").is_file()), known)))
        if study.labels and not study.anonymous and not Path(study.labels).is_file():
            moved = [p.parent / Path(study.labels).name for p in places_]
            study = replace(study, labels=str(next((p for p in moved if p.is_file()), study.labels)))
    model = faces.load_model(study.model)
    return study, model, Units(study, model)


def add_classifiers(
    path: str | Path, names: Sequence[str], *, bar: ProgressBar | None = None, device: str | None = None
) -> list[str]:
    """Add classifiers to finished results: the pictures are rendered again from the manifest, exactly as they were.

    Returns the names that were added (those already there are left alone).
    """
    results = Results.open(path)
    missing = [n for n in dict.fromkeys(names) if n not in results.manifest["classifiers"]]
    if not missing:
        return []
    study, model, units = again(results)
    if model.sha256 != results.manifest["model"]["sha256"]:
        raise StoreError(f"the model {model.name} has changed since {path} was made; run the study again")
    if units.fits and results.manifest["files"].get("fits") != manifests.fits_sha256(units.fits):
        raise StoreError(f"the photos or fits behind {path} have changed since it was made; run the study again")
    loaded = [load_classifier(n, device or study.device) for n in missing]
    renderer = results.manifest["renderer"]
    placed = model.to(backends.place(renderer, study.device))
    before = results.conditions()["condition"]
    done = 0
    files = [f"predictions/part-{check_name('classifier', n)}.parquet" for n in missing]
    failed = [pa.Table.from_pandas(results.failures(), preserve_index=False)]
    with (
        results.acquire_lock(),
        ExitStack() as stack,
        (bar or no_bar)(units.conditions(), "Rendering and classifying") as progress,
        one_thread(),
    ):
        writers: list[Any] = [None] * len(missing)
        asides = [stack.enter_context(writing(results.path / f)) for f in files]
        with ExitStack() as closing:
            for start in range(0, len(units), UNITS_PER_SHARD):
                batch = units.between(start, start + UNITS_PER_SHARD)
                made = compute(
                    start // UNITS_PER_SHARD, batch, model, study.design, loaded, renderer, progress, placed=placed
                )
                seen = pq.read_table(pa.BufferReader(made.conditions), columns=["condition"])["condition"]
                if seen.to_pylist() != before.iloc[done : done + len(seen)].tolist():
                    raise StoreError(
                        f"the photos or fits behind {path} have changed since it was made; run the study again"
                    )
                done += len(seen)
                table = pq.read_table(pa.BufferReader(made.predictions))
                if made.failures:
                    failed.append(pq.read_table(pa.BufferReader(made.failures)))
                for i, n in enumerate(missing):
                    if writers[i] is None:
                        writers[i] = closing.enter_context(
                            pq.ParquetWriter(asides[i], table.schema, compression="zstd", store_schema=False)
                        )
                    writers[i].write_table(table.filter(pc.equal(table["classifier"], n)))
        if done != len(before):
            raise StoreError(f"the photos or fits behind {path} have changed since it was made; run the study again")
        stack.close()  # renames the parts to their final names
        digests = {f: digest_of(results.path / f) for f in files}
        if len(failed) > 1:
            digests["failures.parquet"] = results.write_failures(pa.concat_tables(failed, promote_options="permissive"))
        here = {"machine": manifests.machine(), "versions": manifests.versions(), "device": device or study.device}
        described = {c.spec.id: manifests.describe(c) | {"added": here} for c in loaded}
        hashes = {f"classifier:{c.spec.id}": c.spec.sha256 for c in loaded}
        results.write_manifest(
            classifiers=results.manifest["classifiers"] | described,
            files=results.manifest["files"] | hashes,
            sha256=results.manifest.get("sha256", {}) | digests,
        )
    return missing


def no_bar(total: int, description: str) -> Any:
    """No progress bar."""
    return nullcontext(lambda n, **more: None)
