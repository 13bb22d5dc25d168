"""Reading ``.npz`` files that somebody else made: no pickles, no missing keys, no surprises."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...errors import ModelError


def read_npz(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The arrays ``required`` and those of ``optional`` that are there.

    Raises :class:`ModelError` naming the file when it is missing, no npz, truncated, lacks a key, or holds pickled objects
    (which could run code, so they are refused).
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ModelError(f"{path}: expected an .npz archive, got a single array")
        with opened as data:
            if missing := [k for k in required if k not in data]:
                raise ModelError(f"{path}: expected the key {missing[0]!r}; it has {', '.join(sorted(data))}")
            found: dict[str, np.ndarray] = {}
            for key in (*required, *optional):
                if key in data:
                    try:
                        found[key] = data[key]
                    except ValueError as e:
                        if "allow_pickle" in str(e) or "Object arrays" in str(e):
                            raise ModelError(f"{path}: {key}: holds pickled objects, which are refused") from e
                        raise ModelError(f"{path}: {key}: cannot be read ({e})") from e
            return found
    except ModelError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as e:
        raise ModelError(f"{path}: not a readable .npz archive ({e})") from e


def strings(value: np.ndarray) -> tuple[str, ...]:
    """A numpy array of text as a tuple of str."""
    return tuple(str(v) for v in value.ravel())


def keys_of(path: Path) -> set[str]:
    """The names of the arrays in ``path``. Raises :class:`ModelError` when it is no npz archive."""
    try:
        with zipfile.ZipFile(path) as z:
            return {n.removesuffix(".npy") for n in z.namelist()}
    except (OSError, zipfile.BadZipFile) as e:
        raise ModelError(f"{path}: not a readable .npz archive ({e})") from e
