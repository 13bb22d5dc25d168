"""Landmarks from a file: ``.pts`` (68 points), ``.csv``, ``.json`` or ``.npz`` (68 or 478 points); no weights needed.

What is read:

- ``.pts``: iBUG's ``version: 1``, ``n_points: 68``, ``{``, one ``x y`` a line, ``}``. Pixel centres at integers starting at 1, as
  that format has them: 0.5 is taken off.
- ``.csv``: one point a row with columns ``x,y`` (a header is optional; an ``index`` or ``point`` column is ignored).
- ``.json``: a list of ``[x, y]``, or an object with ``landmarks_478`` and/or ``landmarks_68`` (also ``landmarks``), and
  optionally ``blendshapes``, ``width``, ``height``: the format of ``assets/sample/astronaut.json``.
- ``.npz``: arrays of the same names.

Except for ``.pts``, coordinates are pixels with centres at half-integers, origin top left.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .base import Detection, Kind, box_of, check_image
from .mediapipe import SUBSET_68

SUFFIXES = (".pts", ".csv", ".json", ".npz")


class FileDetector:
    """Gives the landmarks of one file for whatever picture it is called with, after checking that they fit in it."""

    name = "file"

    def __init__(self, path: str | Path) -> None:
        self.path = str(Path(path).expanduser())
        self._points, self._extra = read_landmarks(Path(self.path))

    @classmethod
    def from_array(cls, points: Any) -> FileDetector:
        """The same for points ``(68 or 478, 2)`` in memory."""
        detector = cls.__new__(cls)
        detector.path, detector._extra = "landmarks", {}
        detector._points = check_points(points, "landmarks")
        return detector

    def __call__(self, image: np.ndarray) -> list[Detection]:
        check_image(image)
        height, width = image.shape[:2]
        stated = tuple(
            int(self._extra[k]) if k in self._extra else v for k, v in (("width", width), ("height", height))
        )
        if stated != (width, height):
            raise InputError(
                f"{self.path}: the landmarks are for a picture of {stated[0]}×{stated[1]} pixels, "
                f"this one has {width}×{height}"
            )
        low, high = self._points.min(axis=0), self._points.max(axis=0)
        if (high <= 2).all():
            raise InputError(
                f"{self.path}: expected pixels, the coordinates look normalised (largest {high.max():.3g})"
            )
        inside = ((self._points >= 0) & (self._points <= (width, height))).all(axis=1).mean()
        if inside < 0.5:
            raise InputError(
                f"{self.path}: {100 * (1 - inside):.0f} % of the landmarks are outside the picture of {width}×{height} "
                f"pixels (x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}); are they for another size?"
            )
        full = self._points if len(self._points) == 478 else None
        subset = self._points if full is None else self._points[list(SUBSET_68)]
        kind: Kind = "visible" if full is None else "mediapipe"
        scores = self._extra.get("blendshapes")
        return [Detection(subset, box_of(self._points), float("nan"), self.name, full, scores, kind)]


def read_landmarks(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Points ``(68 or 478, 2)`` float64 in pixels, and what else the file states (blendshapes, width, height).

    Raises :class:`InputError` for a missing or damaged file, a wrong count, coordinates that are not finite numbers.
    """
    if not path.is_file():
        raise InputError(f"no landmark file {path}; expected one of {', '.join(SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown kind of landmark file; expected one of {', '.join(SUFFIXES)}")
    extra: dict[str, Any] = {}
    try:
        if suffix == ".pts":
            points = _read_pts(path)
        elif suffix == ".csv":
            points = _read_csv(path)
        elif suffix == ".json":
            points, extra = _unpack(json.loads(path.read_text(encoding="utf-8")))
        else:
            with np.load(path, allow_pickle=False) as z:
                points, extra = _unpack({k: z[k].tolist() for k in z.files})
    except InputError as e:
        raise InputError(f"{path}: {e}") from None
    except Exception as e:
        raise InputError(f"{path}: not a readable {suffix} file of landmarks ({e or type(e).__name__})") from None
    return check_points(points, str(path)), extra


def check_points(points: Any, where: str) -> np.ndarray:
    """``(68 or 478, 2)`` float64, or an :class:`InputError` that names ``where``."""
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) not in (68, 478) or points.shape[1] not in (2, 3):
        raise InputError(f"{where}: expected 68 or 478 points of x, y; found an array of {points.shape}")
    if not np.isfinite(points).all():
        raise InputError(f"{where}: {int((~np.isfinite(points)).any(axis=1).sum())} landmarks are not finite numbers")
    points = points[:, :2]
    if (np.ptp(points, axis=0) < 1e-6).any():
        raise InputError(f"{where}: all landmarks lie on one line or point")
    return points


def _read_pts(path: Path) -> np.ndarray:
    text = path.read_text(encoding="utf-8")
    head, brace, rest = text.partition("{")
    body, end, _ = rest.partition("}")
    if not brace or not end:
        raise InputError("expected the points between { and }")
    points = [[float(v) for v in line.split()] for line in body.splitlines() if line.strip()]
    for line in head.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "n_points" and int(value) != len(points):
            raise InputError(f"n_points says {int(value)}, found {len(points)}")
    return np.array(points) - 0.5


def _read_csv(path: Path) -> np.ndarray:
    with open(path, newline="", encoding="utf-8-sig") as f:
        rows = [row for row in csv.reader(f) if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError("the file is empty")
    columns = (0, 1)
    header = [cell.strip().lower() for cell in rows[0]]
    if "x" in header and "y" in header:
        columns = (header.index("x"), header.index("y"))
        rows = rows[1:]
    elif any(not _number(cell) for cell in rows[0]):
        raise InputError(f"expected columns x and y, found {', '.join(header)}")
    return np.array([[float(row[c]) for c in columns] for row in rows])


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unpack(content: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(content, Mapping):
        return content, {}
    for key in ("landmarks_478", "landmarks478", "landmarks_68", "landmarks68", "landmarks"):
        if key in content:
            points = content[key]
            break
    else:
        raise InputError(f"expected landmarks_478, landmarks_68 or landmarks, found {', '.join(map(str, content))}")
    extra: dict[str, Any] = {k: content[k] for k in ("width", "height") if k in content}
    if isinstance(content.get("blendshapes"), Mapping):
        extra["blendshapes"] = {str(k): float(v) for k, v in content["blendshapes"].items() if k != "_neutral"}
    return points, extra
