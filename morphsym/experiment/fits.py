"""The photos of a study, fitted part by part: a run that is killed while fitting goes on with the parts that are missing.

Parts are cut by the order of the photos alone, and each is solved on one thread, so the fits do not hang on the number of
workers or on interruptions. While the work goes on, parts lie in ``.parts/`` of the fits' folder, each a whole folder of
fits; at the end they become one, and ``fits.csv`` is written last.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import faces, fitting
from ..errors import StoreError
from ..fitting.naming import Names
from . import engines, locks
from .atomic import ensure_folder, write_text
from .run import one_thread

PHOTOS_PER_PART = 16
REQUEST = "request.json"
_DONE = "done.json"


@dataclass(frozen=True)
class FitRecipe:
    """What a worker needs to fit parts of a study's photos: plain values. ``options`` are of :func:`fitting.fit`."""

    photos: tuple[str, ...]
    model: str
    options: tuple[tuple[str, Any], ...]
    folder: str
    per_part: int

    def __call__(self) -> Callable[[int], int]:
        model = faces.load_model(self.model)

        def job(part: int) -> int:
            mine = self.photos[part * self.per_part : (part + 1) * self.per_part]
            with one_thread():
                fits = fitting.fit([Path(p) for p in mine], model=model, **dict(self.options))
                where = _part(Path(self.folder), part)
                shutil.rmtree(where, ignore_errors=True)  # what a killed run left
                fitting.save_fits(where, fits, model=model)
            write_text(where / _DONE, json.dumps(list(mine)))
            return len(mine)

        return job


def fit_photos(
    photos: Sequence[Path],
    where: Path,
    request: dict[str, Any],
    model: str,
    options: dict[str, Any],
    engine: engines.Engine,
    progress: Callable[[int], Any] | None = None,
) -> list[Any]:
    """Fit ``photos`` into the folder ``where`` and return the fits. ``request`` is kept beside them.

    Parts that an interrupted call with the same ``request`` finished are not made again. Raises :class:`StoreError` when
    another run fits into the folder.
    """
    ensure_folder(where)
    with locks.hold(where):
        parts = where / ".parts"
        if _read(parts / REQUEST) != request:
            shutil.rmtree(parts, ignore_errors=True)
            write_text(parts / REQUEST, json.dumps(request, indent=2) + "\n")
        (where / "fits.csv").unlink(missing_ok=True)  # of a request that this one replaces
        names = tuple(str(p.absolute()) for p in photos)
        # what belongs together is solved together: photos of one person, frames of one video
        per = len(names) if options.get("same_person") or options.get("fps") else PHOTOS_PER_PART
        recipe = FitRecipe(names, model, tuple(options.items()), str(where), per)
        count = -(-len(names) // per)

        def missing() -> Iterator[int]:
            for k in range(count):
                mine = list(names[k * per : (k + 1) * per])
                if _read(_part(where, k) / _DONE) != mine:
                    yield k
                elif progress:
                    progress(len(mine))

        for done in engine.map(recipe, missing()):
            if progress:
                progress(done)
        write_text(where / REQUEST, json.dumps(request, indent=2) + "\n")
        fits = _join(where, count)
        shutil.rmtree(parts, ignore_errors=True)
    return fits


def _join(where: Path, count: int) -> list[Any]:
    """The parts as one folder of fits; overlays are moved, not drawn again."""
    found = [(k, f) for k in range(count) for f in fitting.load_fits(_part(where, k))]
    names, subjects = Names(), dict[tuple[int, str], str]()
    for k, f in found:  # two videos of the same name in different parts are two people
        if f.subject and (k, f.subject) not in subjects:
            subjects[k, f.subject] = names.unique(f.subject)
    fits = [replace(f, subject=subjects[k, f.subject]) if f.subject else f for k, f in found]
    stored = fitting.save_fits(where, fits, overlays=False)
    for (k, old), new in zip(found, stored, strict=True):
        drawn = _part(where, k) / f"{old.name}.png"
        if drawn.is_file():
            os.replace(drawn, where / f"{new.name}.png")
    return stored


def _part(where: Path, part: int) -> Path:
    return where / ".parts" / f"{part:05d}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def fitted(where: Path, wanted: dict[str, Any]) -> bool:
    """Whether the fits of the request ``wanted`` are in ``where``. :class:`StoreError` when others are in their place."""
    if not (where / "fits.csv").is_file():
        return False
    found = _read(where / REQUEST) or {}
    if found == wanted:
        return True
    differs = ", ".join(k for k in wanted if found.get(k) != wanted[k]) if found else f"no {REQUEST} beside them"
    raise StoreError(
        f"{where} holds fits of another request ({differs}); name another folder in photos.fits, use them as they are "
        "with fits: in place of photos:, or replace them with --overwrite"
    )


__all__ = ["FitRecipe", "fit_photos", "fitted"]
