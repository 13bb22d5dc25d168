"""A study: who, which interventions, which classifiers; what ``intervene``, ``classify`` and ``demo`` run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .. import faces
from ..classifiers import Classifier, bundled, load_classifier
from ..errors import StoreError, UsageError
from ..faces import MorphableModel
from ..intervention import Design
from ..rendering import backends
from ..types import FaceFit, Unit
from . import manifest as manifests
from .run import Timing, compute, run, summary
from .store import Results, check_name
from .units import (
    BACKGROUND,
    PHOTO_SIZE,
    PORTRAIT_SIZE,
    POSE_SD,
    SAMPLED_EMOTIONS,
    FailedUnit,
    load_fits,
    photo_unit,
    sampled_units,
)

EXAMPLE_PHOTOS = 2
EXAMPLE_PEOPLE = 3

ProgressBar = Callable[[int, str], Any]
"""``(total, description)`` to a context manager that yields a function taking the number of finished conditions."""


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
    anonymous: bool = False

    def __post_init__(self) -> None:
        if not self.fits and self.sample < 1:
            raise UsageError("nobody to intervene on: give fitted photos (--fits DIR) or sampled people (--sample N)")
        if not self.classifiers:
            raise UsageError(f"at least one classifier is needed, for example {bundled()[0]}")
        object.__setattr__(self, "device", resolve_device(self.device))
        object.__setattr__(self, "classifiers", tuple(dict.fromkeys(self.classifiers)))
        object.__setattr__(self, "expressions", tuple(dict.fromkeys(self.expressions)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        plain = asdict(self) | {"design": self.design.to_dict()}
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
    """The units of a study, countable before they are made."""

    def __init__(self, study: Study, model: MorphableModel) -> None:
        self.study, self.model = study, model
        self.fits: list[FaceFit] = load_fits(study.fits) if study.fits else []
        if study.fits and not any(f.ok for f in self.fits) and not study.sample:
            raise StoreError(f"{study.fits} holds no usable fit; fits.csv says why, by photo")
        for f in self.fits:
            check_name("photo name", f.name)

    def __iter__(self) -> Iterator[Unit | FailedUnit]:
        for f in self.fits:
            yield photo_unit(f, self.model, self.study.photo_size)
        if self.study.sample:
            s = self.study
            yield from sampled_units(self.model, s.sample, s.expressions, s.seed, s.size)

    def conditions(self) -> int:
        """How many images the study makes."""
        return self.study.design.count(len(self.fits), self.study.sample * len(self.study.expressions))

    def is_example(self) -> Callable[[Unit], bool]:
        """Whose pictures the report shows: the first photos, and of the first people one emotion each."""
        photos = {f.name for f in [f for f in self.fits if f.ok][:EXAMPLE_PHOTOS]}
        s = self.study
        order = sorted(s.expressions, key=lambda e: (e != "happiness", e != "surprise", e))
        names: dict[str, str] = {}

        def chosen(unit: Unit) -> bool:
            if unit.source == "photo":
                return unit.subject in photos
            # by order of appearance, so that it does not hang on how subjects are named
            if unit.subject not in names and len(names) < EXAMPLE_PEOPLE:
                names[unit.subject] = order[len(names) % len(order)]
            return names.get(unit.subject) == unit.emotion

        return chosen


def run_study(
    study: Study,
    out: str | Path,
    *,
    given: dict[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    save_images: bool = False,
    bar: ProgressBar | None = None,
    timing: Timing | None = None,
    classifiers: Sequence[Classifier] | None = None,
) -> Results:
    """Run ``study`` into the folder ``out``. ``given`` is what the user asked for (default: the study itself).

    A finished folder of the same study is left as it is. Everything that can be wrong with the request is found before
    the first file is written.
    """
    model = faces.load_model(study.model)
    names = study.classifiers
    loaded = list(classifiers) if classifiers is not None else [load_classifier(c, study.device) for c in names]
    renderer = backends.get(study.renderer).name
    units = Units(study, model)
    made = manifests.build(given or study.to_dict(), study.to_dict(), model, loaded, renderer, study.device)
    made["fits"] = {f.name: {"photo": Path(f.photo).name, "sha256": f.photo_sha256} for f in units.fits}
    results = Results.create(out, made, resume=resume, overwrite=overwrite)
    if results.complete:
        return results
    timing = timing or Timing()
    begin = time.perf_counter()
    with results.acquire_lock(), (bar or _no_bar)(units.conditions(), "Rendering and classifying") as progress:
        run(
            units,
            model,
            study.design,
            loaded,
            results,
            renderer=renderer,
            save_images=(lambda unit: True) if save_images else units.is_example(),
            progress=progress,
            timing=timing,
        )
    results.write_manifest(
        counts=summary(results.conditions()), seconds={"total": round(time.perf_counter() - begin, 3)}
    )
    return results


def add_classifiers(
    path: str | Path, names: Sequence[str], *, bar: ProgressBar | None = None, device: str | None = None
) -> list[str]:
    """Add classifiers to finished results: the pictures are rendered again from the manifest, exactly as they were.

    Returns the names that were added (those already there are left alone).
    """
    results = Results.open(path)
    study = Study.from_dict(results.manifest["spec"]["resolved"])
    missing = [n for n in dict.fromkeys(names) if n not in results.manifest["classifiers"]]
    if not missing:
        return []
    model = faces.load_model(study.model)
    if model.sha256 != results.manifest["model"]["sha256"]:
        raise StoreError(f"the model {model.name} has changed since {path} was made; run the study again")
    loaded = [load_classifier(n, device or study.device) for n in missing]
    units = Units(study, model)
    before = results.conditions()
    parts: dict[str, list[pd.DataFrame]] = {n: [] for n in missing}
    seen: list[str] = []
    with results.acquire_lock(), (bar or _no_bar)(units.conditions(), "Rendering and classifying") as progress:
        for unit in units:
            rows, predictions = compute(
                [unit], model, study.design, loaded, results.manifest["renderer"], progress=progress
            )
            seen += rows["condition"].tolist()
            for n in missing:
                parts[n].append(predictions[predictions["classifier"] == n])
        if seen != before["condition"].tolist():
            raise StoreError(f"the photos or fits behind {path} have changed since it was made; run the study again")
        for n in missing:
            results.add_predictions(check_name("classifier", n), pd.concat(parts[n], ignore_index=True))
        described = {c.spec.id: manifests.describe(c) for c in loaded}
        hashes = {f"classifier:{c.spec.id}": c.spec.sha256 for c in loaded}
        results.write_manifest(
            classifiers=results.manifest["classifiers"] | described, files=results.manifest["files"] | hashes
        )
    return missing


def _no_bar(total: int, description: str) -> Any:
    return nullcontext(lambda n: None)
