"""Which face models there are, and loading them by name or path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import resources
from ..errors import InputError, UsageError
from .loaders.ict import load_ict
from .loaders.makehuman import load_makehuman
from .model import MorphableModel


@dataclass(frozen=True)
class ModelEntry:
    """A face model that the registry knows."""

    name: str
    title: str
    licence: str
    path: Path  # where it is, or has to be put
    available: bool
    how: str  # how to get it; '' when it is there


_LOADERS: dict[str, Callable[[Path], MorphableModel]] = {"makehuman": load_makehuman, "ict": load_ict}
_ICT = (
    "convert the upstream folder FaceXModel of https://github.com/ICT-VGL/ICT-FaceKit (MIT) with "
    "morphsym.faces.loaders.ict.convert_folder, or copy ict_facekit.npz, to {path}"
)


def list_models() -> list[ModelEntry]:
    """All models the registry knows, with whether they are there."""
    bundled = resources.assets_dir() / "heads" / "makehuman.npz"
    ict = resources.home() / "faces" / "ict_facekit.npz"
    return [
        ModelEntry(
            "makehuman",
            "bundled head from MakeHuman's data",
            "CC0-1.0",
            bundled,
            bundled.is_file(),
            "" if bundled.is_file() else "the bundled head is missing; reinstall morphsym",
        ),
        ModelEntry(
            "ict",
            "ICT-FaceKit Light",
            "MIT",
            ict,
            ict.is_file(),
            "" if ict.is_file() else _ICT.format(path=ict),
        ),
    ]


def load_model(name_or_path: str | Path = "makehuman") -> MorphableModel:
    """The face model of that name, or at that path (an npz of either kind, or ICT-FaceKit's upstream folder).

    Cached: the same file gives the same object until it changes. Raises :class:`UsageError` for an unknown name,
    :class:`InputError` for a known model that is not there or a path that does not exist, and
    :class:`morphsym.errors.ModelError` for a damaged file.
    """
    entries = {e.name: e for e in list_models()}
    text = str(name_or_path)
    if text in entries:
        entry = entries[text]
        if not entry.available:
            raise InputError(f"the face model {text!r} is not at {entry.path}: {entry.how}")
        return _load(text, entry.path, _stamp(entry.path))
    path = Path(name_or_path).expanduser()
    if not (path.suffix or len(path.parts) > 1 or path.is_dir()):
        raise UsageError(
            f"unknown face model {text!r}; known are {', '.join(entries)}, or give the path of an .npz file or of "
            "ICT-FaceKit's folder FaceXModel"
        )
    if not path.exists():
        raise InputError(f"no face model at {path}: no such file or folder")
    path = path.resolve()
    return _load(_kind(path), path, _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _load(kind: str, path: Path, stamp: tuple[int, int]) -> MorphableModel:
    return _LOADERS[kind](path)


def _kind(path: Path) -> str:
    """Which loader reads ``path``: by what is in it, not by its name."""
    if path.is_dir():
        return "ict"
    from .loaders.npz import keys_of

    keys = keys_of(path)
    if "identity_basis" in keys:
        return "makehuman"
    if {"identity", "expression"} & keys:
        return "ict"
    raise UsageError(
        f"{path} is no face model that this version reads; expected the keys of the bundled head or of ict_facekit.npz, "
        f"got {', '.join(sorted(keys)) or 'none'}"
    )
