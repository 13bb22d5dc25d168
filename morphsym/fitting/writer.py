"""Writes the folder ``fits/`` (:mod:`.store`), fit by fit, and goes on where a call that was killed stopped.

While fits are written the rows of ``fits.csv`` lie in ``.unfinished/rows.csv``; ``fits.csv`` appears when the last one is
there. With a ``request`` (what determines the fits, as plain values) ``.unfinished/`` also says what was asked
(``request.json``) and how far the photos are done (``done.json``); a finished folder keeps the request as ``fit.json``.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import MorphsymError, StoreError
from ..experiment import locks
from ..experiment.atomic import ensure_folder, write_text, writing
from ..rendering.backends import _compile
from ..types import FaceFit
from .naming import Names, clean_name
from .overlay import mesh, overlay
from .sources import load_source
from .store import COLUMNS, row, to_arrays
from .video import is_video

if TYPE_CHECKING:
    from ..faces import MorphableModel

LISTING, REQUEST = "fits.csv", "fit.json"

THREADS = 4
"""Threads that write, at most: each holds a photo."""

PNG_LEVEL = 1
"""Of zlib, for overlays: a fifth of the time of its usual 6, for files that are a sixth larger."""


class FitsWriter:
    """Writes fits to a folder one after the other: every record and overlay at once, ``fits.csv`` when closed.

    Used as a context: ``with FitsWriter(folder) as writer: writer.add(fit)``. An error inside leaves no ``fits.csv``, so a
    half-written folder is not taken for a whole one. Nothing is held but the names. Overlays need the photo: it is read again
    from ``fit.photo``; a fit of an array in memory, or whose photo is gone, gets none and its ``note`` says so. ``model`` is
    the model of the fits where it is not in the registry.

    With a ``request`` the folder is held by this process, and :meth:`settled` notes how many photos are done. ``resume`` then
    goes on after the photos that an interrupted writer with the same request settled: :attr:`start` is their number,
    :attr:`taken` the names of their fits; :attr:`finished` is set where nothing is left to do. An interrupted fit is replaced
    only with ``overwrite``. Raises :class:`StoreError` for a folder that cannot be written, that another process writes to,
    whose request is another, or that an interrupted fit is in.
    """

    def __init__(
        self, folder: str | Path, overlays: bool = True, model: Any = None, request: Mapping[str, Any] | None = None,
        resume: bool = False, overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.folder = ensure_folder(Path(folder))
        self.start, self.finished = 0, False
        self.taken: list[str] = []
        self._aside = self.folder / ".unfinished"
        self._overlays, self._model, self._request = overlays, model, None if request is None else dict(request)
        self._rows: TextIOWrapper | None = None
        with ExitStack() as stack:
            if request is not None:
                stack.enter_context(locks.hold(self.folder))
                if resume:
                    self._resume(dict(request))
                elif not overwrite and (done := (_read(self._aside / "done.json") or {}).get("photos")):
                    raise StoreError(
                        f"{self.folder} holds an interrupted fit ({done} photos done); go on with the same command and "
                        "--resume, replace it with --overwrite, or choose another folder with -o"
                    )
            self._held = stack.pop_all()
        self._names = Names(self.taken)
        self._threads: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[FaceFit]] = deque()

    def _resume(self, request: dict[str, Any]) -> None:
        finished = (self.folder / LISTING).is_file()
        found = _read(self.folder / REQUEST if finished else self._aside / "request.json")
        if found is None and not finished:
            return  # nothing was settled: from the start
        if found != request:
            differs = (
                ", ".join(k for k in request if (found or {}).get(k) != request[k]) if found else "it does not say"
            )
            raise StoreError(
                f"{self.folder} holds fits that were made otherwise ({differs}); --resume needs the same photos and "
                "options; leave it out to replace them, or choose another folder with -o"
            )
        self.finished = finished
        done = None if finished else _read(self._aside / "done.json")
        if done is None:
            return
        rows = self._aside / "rows.csv"
        try:
            with open(rows, "r+b") as f:  # rows of photos that were not settled are made again
                if f.seek(0, os.SEEK_END) < done["bytes"]:
                    raise ValueError("it is shorter than it was")
                f.truncate(done["bytes"])
            with open(rows, newline="", encoding="utf-8") as text:
                self.taken = [r["name"] for r in csv.DictReader(text)]
            self._rows = open(rows, "a", newline="", encoding="utf-8")  # noqa: SIM115 closed in __exit__
            self.start = int(done["photos"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise StoreError(f"{rows} is damaged ({e}); start again with --overwrite") from None

    def _begin(self) -> TextIOWrapper:
        """From now on the folder is not what an older ``fits.csv`` says."""
        for old in (LISTING, REQUEST):
            (self.folder / old).unlink(missing_ok=True)
        shutil.rmtree(self._aside, ignore_errors=True)
        ensure_folder(self._aside)
        if self._request is not None:
            write_text(self._aside / "request.json", json.dumps(self._request, indent=2) + "\n")
        rows = open(self._aside / "rows.csv", "w", newline="", encoding="utf-8")  # noqa: SIM115 closed in __exit__
        csv.writer(rows, lineterminator="\n").writerow(COLUMNS)
        return rows

    def add(self, fit: FaceFit) -> FaceFit:
        """Write one fit; returns it as stored: a name that is taken is made unique."""
        fit = self._named(fit)
        self._catch_up()
        fit = self._store(fit, self._vertices(fit))
        self._write_row(fit)
        return fit

    def put(self, fit: FaceFit) -> None:
        """As :meth:`add`, but its files are written by threads while the caller goes on, a few at a time. An error comes with a
        later call. Frames of a video, which one reader decodes one after the other, are written at once."""
        if is_video(fit.photo):
            self.add(fit)
            return
        fit = self._named(fit)
        count = min(_compile.threads(), THREADS)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(count, "morphsym-writer")
        self._waiting.append(self._threads.submit(self._store, fit, self._vertices(fit)))
        self._catch_up(2 * count)

    def _catch_up(self, but: int = 0) -> None:
        """Wait until no more than ``but`` fits are being written; rows come in the order of the fits."""
        while len(self._waiting) > but:
            self._write_row(self._waiting.popleft().result())

    def _named(self, fit: FaceFit) -> FaceFit:
        if self._rows is None:
            with self._said():
                self._rows = self._begin()
        return replace(fit, name=self._names.unique(clean_name(fit.name)))

    def _vertices(self, fit: FaceFit) -> np.ndarray | None:
        """What an overlay shows, by the calling thread: the last bits of a product depend on how many threads torch has."""
        from ..faces import load_model

        if not (self._overlays and len(fit.expression) and fit.photo):
            return None
        with contextlib.suppress(MorphsymError):  # no such model: the overlay's note says it
            return mesh(fit, self._model or load_model(fit.model))
        return None

    def _store(self, fit: FaceFit, vertices: np.ndarray | None) -> FaceFit:
        """Write the files of one fit."""
        with _compile.limited(1) if self._threads is not None else contextlib.nullcontext():
            if self._overlays and len(fit.landmarks):
                fit = _save_overlay(self.folder, fit, self._model, vertices)
        with writing(self.folder / f"{fit.name}.npz") as aside, open(aside, "wb") as f:
            np.savez_compressed(f, allow_pickle=False, **to_arrays(fit))
        return fit

    def _write_row(self, fit: FaceFit) -> None:
        assert self._rows is not None
        with self._said():
            csv.writer(self._rows, lineterminator="\n").writerow([_text(v) for v in row(fit).values()])

    def settled(self, photos: int) -> None:
        """All fits of the first ``photos`` photos have been added: an interrupted call goes on after them."""
        if self._rows is None or self._request is None:
            return
        self._catch_up()
        with self._said():
            self._rows.flush()
            os.fsync(self._rows.fileno())
            length = os.fstat(self._rows.fileno()).st_size
        write_text(self._aside / "done.json", json.dumps({"photos": photos, "bytes": length}))

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise StoreError(f"cannot write {self._aside / 'rows.csv'}: {e.strerror or e}") from e

    def __enter__(self) -> FitsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._held:
            if self.finished:
                return
            try:
                with self._said():
                    if self._rows is None and kind is None:
                        self._rows = self._begin()
                    if kind is None:
                        self._catch_up()
                    if self._rows is not None:
                        self._rows.close()
                    if kind is None:
                        self._end()
            except StoreError:
                if kind is None:  # else the first error is the one to tell
                    raise
            finally:
                if self._threads is not None:
                    self._threads.shutdown(cancel_futures=True)
                if self._rows is not None:
                    self._rows.close()
            if kind is None or self._request is None:
                shutil.rmtree(self._aside, ignore_errors=True)

    def _end(self) -> None:
        """The rows become ``fits.csv``."""
        if self._request is not None:
            write_text(self.folder / REQUEST, json.dumps(self._request, indent=2) + "\n")
        rows = self._aside / "rows.csv"
        with open(rows, "rb") as f:
            os.fsync(f.fileno())
        os.replace(rows, self.folder / LISTING)


def request(photos: Sequence[Any], model: MorphableModel, **options: Any) -> dict[str, Any]:
    """What determines the fits of ``photos`` (paths), as plain values: for :class:`FitsWriter`."""
    from .. import __version__

    digest = hashlib.sha256()
    for p in photos:
        digest.update(os.path.abspath(p).encode("utf-8", "surrogateescape") + b"\0")
    plain = {k: os.path.abspath(v) if isinstance(v, Path) else v for k, v in options.items()}
    return {
        "morphsym": __version__, "photos": len(photos), "photos_sha256": digest.hexdigest(), "model": model.name,
        "model_sha256": model.sha256, **plain,
    }  # fmt: skip


def save_fits(
    folder: str | Path, fits: Iterable[FaceFit], overlays: bool = True, model: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[FaceFit]:  # fmt: skip
    """Write ``fits`` to ``folder`` (made if need be) and return them as stored; see :class:`FitsWriter`.

    Raises :class:`StoreError` for a folder that cannot be written.
    """
    fits = list(fits)
    stored = []
    with FitsWriter(folder, overlays, model) as writer:
        for i, fit in enumerate(fits):
            stored.append(writer.add(fit))
            if progress is not None:
                progress(i + 1, len(fits), stored[-1].name)
    return stored


def _text(value: Any) -> str:
    """A cell of ``fits.csv``: numbers with six digits, nothing for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _save_overlay(folder: Path, fit: FaceFit, model: Any, vertices: np.ndarray | None) -> FaceFit:
    """Write ``<name>.png``; a photo that cannot be read any more is said in the note, and stops nothing."""
    try:
        if not fit.photo:
            return replace(fit, note="; ".join(n for n in (fit.note, "no overlay: the photo was not a file") if n))
        picture = overlay(fit, load_source(fit), model, vertices)
    except MorphsymError as e:
        return replace(fit, note="; ".join(n for n in (fit.note, f"no overlay: {e}") if n))
    with writing(folder / f"{fit.name}.png") as aside:
        Image.fromarray(picture).save(aside, format="PNG", compress_level=PNG_LEVEL)
    return fit
