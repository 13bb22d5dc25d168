"""The folder ``fits/``: ``fits.csv`` with one row a face, ``<name>.npz`` (the record) and ``<name>.png`` (the overlay).

:mod:`.writer` writes it, every file atomically and ``fits.csv`` last, so a folder with a ``fits.csv`` is whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import StoreError
from ..types import FaceFit
from .measures import MEASURES
from .naming import clean_name

FORMAT = 1
"""Version of the files; a folder with a larger one is refused."""

COLUMNS = (
    "photo", "name", "subject", "face", "frame", "time", "status", "reason", "nme", "converged", "quality",
    "yaw", "pitch", "roll", "emotion", "emotion_source", *MEASURES, "expression_prior", "refined",
    "pixel_error_start", "pixel_error",
    "detector", "model", "note", "width", "height", "photo_sha256", "model_sha256", "format",
)  # fmt: skip

_ARRAYS = {"identity": "f4", "expression": "f4", "K": "f8", "R": "f8", "t": "f8", "landmarks": "f4"}
_OPTIONAL_ARRAYS = ("landmarks_478", "expression_fitted")


def table(fits: Sequence[FaceFit]) -> pd.DataFrame:
    """``fits.csv`` as a table: one row a face, :data:`COLUMNS`."""
    return pd.DataFrame([row(f) for f in fits], columns=list(COLUMNS))


def row(fit: FaceFit) -> dict[str, Any]:
    measures = fit.measures or {}
    row = {c: measures.get(c, math.nan) if c in MEASURES else getattr(fit, c, None) for c in COLUMNS}
    # whose face it is is always said; a photo has no frame
    return row | {"subject": fit.subject or fit.name, "frame": fit.frame if fit.frame >= 0 else None, "format": FORMAT}


def load_fits(folder: str | Path) -> list[FaceFit]:
    """The fits of ``folder``, failed ones too, in the order of ``fits.csv``.

    Raises :class:`StoreError` when the folder is missing, empty, half-written, damaged or from a newer version.
    """
    return list(each_fit(folder))


def each_fit(folder: str | Path) -> Iterator[FaceFit]:
    """:func:`load_fits`, one after the other: only the names are held. What is wrong with ``fits.csv`` raises at once."""
    folder = Path(folder)
    names = _listed(folder)
    return (_load(folder, name) for name in names)


def _listed(folder: Path) -> list[str]:
    """The names in ``fits.csv``."""
    listing = folder / "fits.csv"
    if not folder.is_dir():
        raise StoreError(f"no fits in {folder}: the folder does not exist; run `morphsym fit PHOTO… -o {folder}` first")
    if not listing.is_file():
        half = any(folder.glob("*.npz"))
        why = "fits.csv is missing, the fit was interrupted" if half else "there is no fits.csv in it"
        on = " (an interrupted one goes on with --resume)" if half else ""
        raise StoreError(f"no fits in {folder}: {why}; run `morphsym fit PHOTO… -o {folder}` again{on}")
    wanted = ("name", "status", "format")
    try:
        rows = pd.read_csv(listing, dtype=str, keep_default_na=False, usecols=lambda c: c in wanted)
    except (ValueError, OSError) as e:
        raise StoreError(f"{listing} is damaged ({e}); run `morphsym fit` again") from None
    if missing := [c for c in wanted if c not in rows.columns]:
        raise StoreError(
            f"{listing} is not a list of fits: the column {missing[0]!r} is missing; run `morphsym fit` again"
        )
    if rows.empty:
        raise StoreError(f"{listing} lists no faces; run `morphsym fit PHOTO… -o {folder}` again")
    return list(rows["name"])


def _load(folder: Path, name: str) -> FaceFit:
    path = folder / f"{name}.npz"
    if name != clean_name(name):
        raise StoreError(f"{folder / 'fits.csv'} is damaged: {name!r} is not a name that morphsym gives")
    if not path.is_file():
        raise StoreError(
            f"{folder} is incomplete: fits.csv lists {name!r} but {path.name} is missing; run `morphsym fit` again"
        )
    try:
        with np.load(path, allow_pickle=False) as z:
            arrays = {k: z[k] for k in z.files}
        header = json.loads(str(arrays["header"]))
        version = int(header["format"])
    except Exception as e:
        raise StoreError(f"{path} is damaged ({type(e).__name__}); run `morphsym fit` again") from None
    if version > FORMAT:
        raise StoreError(
            f"{path} is from a newer morphsym (format {version}, this one reads {FORMAT}); upgrade morphsym"
        )
    try:
        return _from_arrays(header, arrays)
    except (KeyError, TypeError, ValueError) as e:
        raise StoreError(f"{path} is damaged ({e}); run `morphsym fit` again") from None


def to_arrays(fit: FaceFit) -> dict[str, Any]:
    """The record as arrays without objects: plain values go into one JSON string."""
    header: dict[str, Any] = {"format": FORMAT}
    arrays: dict[str, np.ndarray] = {}
    for field in fields(fit):
        value = getattr(fit, field.name)
        if field.name in _ARRAYS:
            arrays[field.name] = np.asarray(value, dtype=_ARRAYS[field.name])
        elif field.name in _OPTIONAL_ARRAYS:
            if value is not None:
                arrays[field.name] = np.asarray(value, dtype="f4")
        elif isinstance(value, float) and not math.isfinite(value):
            header[field.name] = None
        elif field.name in ("blendshapes", "measures"):
            header[field.name] = None if value is None else {k: _finite(v) for k, v in value.items()}
        else:
            header[field.name] = list(value) if isinstance(value, tuple) else value
    return {"header": np.array(json.dumps(header, allow_nan=False)), **arrays}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _from_arrays(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> FaceFit:
    values: dict[str, Any] = {}
    for field in fields(FaceFit):
        name = field.name
        if name in _ARRAYS:
            values[name] = arrays[name]
        elif name in _OPTIONAL_ARRAYS:
            values[name] = arrays.get(name)
        elif name == "measures" and header.get(name) is not None:
            values[name] = {k: math.nan if v is None else float(v) for k, v in header[name].items()}
        elif name in ("nme", "yaw", "pitch", "roll", "time"):
            number = header.get(name) if name == "time" else header[name]
            values[name] = float("nan") if number is None else float(number)
        elif name == "expression_names":
            values[name] = tuple(header[name])
        elif name in header:
            values[name] = header[name]
    fit = FaceFit(**values)
    if fit.ok and (
        len(fit.expression) != len(fit.expression_names) or fit.K.shape != (3, 3) or fit.landmarks.shape != (68, 2)
    ):
        raise ValueError("its arrays do not fit together")
    return fit
