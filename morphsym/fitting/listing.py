"""Which photos and videos the user means: files as given, folders in natural order; a folder may hold a million."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from ..errors import InputError
from .images import KINDS
from .video import SUFFIXES as VIDEOS

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".jp2")
    + (".heic", ".heif", ".avif")
)
"""File name endings that :func:`find_photos` takes from a folder (a file given by name may have any)."""


class Photos(Sequence[Path]):
    """Paths of photos that are kept as their folders and names: a path is made when it is asked for."""

    def __init__(self) -> None:
        self._parts: list[tuple[Path | None, Sequence[str]]] = []  # a folder and names in it; None and whole paths
        self._starts: list[int] = []
        self._count = 0

    def _add(self, folder: Path | None, names: Sequence[str]) -> None:
        if names:
            self._parts.append((folder, names))
            self._starts.append(self._count)
            self._count += len(names)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError("no such photo")
        part = bisect_right(self._starts, index % self._count) - 1
        folder, names = self._parts[part]
        name = names[index % self._count - self._starts[part]]
        return Path(name) if folder is None else folder / name

    def __iter__(self) -> Iterator[Path]:
        for folder, names in self._parts:
            yield from (Path(n) if folder is None else folder / n for n in names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Photos, list, tuple)) and len(self) == len(other) and all(
            a == b for a, b in zip(self, other, strict=True)
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]


def find_photos(paths: Iterable[str | os.PathLike[str]]) -> Photos:
    """The photos that ``paths`` name: files as given, folders replaced by the pictures and videos in them (no subfolders).

    A folder's pictures are those whose ending is in :data:`SUFFIXES` or a video's, without hidden files, in natural order
    (``face2`` before ``face10``). A file named twice is taken once. Files are not opened: a missing one is found by
    :func:`load_photo`, so that one bad photo does not stop the others. The answer is a sequence of :class:`~pathlib.Path`.

    Raises :class:`InputError` where there is nothing: no paths, or a folder without pictures.
    """
    given = [Path(p) for p in paths]
    found = Photos()
    seen: dict[Path, set[str]] = {}  # names by absolute folder; only needed where something can come twice
    for path in given:
        whole = path.absolute()
        folder = path.is_dir()
        names = _pictures(path) if folder else [whole.name]
        if folder and not names:
            raise InputError(
                f"no photos in the folder {path} (looked for {KINDS}, not in its subfolders); "
                "give a folder with photos, or the photos themselves"
            )
        if len(given) > 1:
            there = seen.setdefault(whole if folder else whole.parent, set())
            names = [n for n in names if n not in there]
            there.update(names)
        if folder:
            found._add(path, names)
        elif names:
            found._add(None, [str(path)])
    if not found:
        raise InputError("no photos given; name at least one photo or a folder of photos")
    return found


_DIGITS = re.compile(r"\d+")


def natural_key(name: str) -> str:
    """A sort key that puts ``face2`` before ``face10``, whatever the case."""
    return _DIGITS.sub(_number, name.casefold())


def _number(digits: re.Match[str]) -> str:
    """Digits such that longer numbers come later, and all of them before letters."""
    value = digits[0].lstrip("0")
    if not value.isascii():
        value = str(int(value))
    return f"\0{chr(len(value))}{value}"


def _pictures(folder: Path) -> list[str]:
    """The names of the pictures and videos in ``folder``, sorted."""
    wanted = SUFFIXES | VIDEOS
    names = []
    try:
        with os.scandir(folder) as entries:  # one pass, no stat for names that do not matter
            for entry in entries:
                name = entry.name
                dot = name.rfind(".")
                if dot > 0 and name[0] != "." and name[dot:].lower() in wanted and not entry.is_dir():
                    names.append(name)
    except OSError as e:
        raise InputError(f"cannot read the folder {folder}: {e.strerror or e}") from e
    names.sort()  # what the keys leave undecided
    names.sort(key=natural_key)
    return names
