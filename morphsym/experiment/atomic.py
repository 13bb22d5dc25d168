"""Atomic writes: a file is there whole or not at all.

Everything is written aside in the same folder, flushed to disk (``fsync``) and renamed over its final name, so that a
run killed at any moment leaves either the old file or the new one. An object store (:mod:`.places`) writes an object whole
or not at all by itself; there a file is made on this machine and sent.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreError
from . import places


def ensure_folder(folder: Path) -> Path:
    """Make ``folder`` (and its parents); a :class:`StoreError` says why it cannot be written to."""
    if places.is_remote(folder):  # stores have no folders, only names
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreError(f"cannot write to {folder}: a file is in the way; choose another folder with -o") from None
    except OSError as e:
        raise StoreError(f"cannot write to {folder}: {e.strerror or e}; choose another folder with -o") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write to {folder}: the folder is read-only; choose another folder with -o")
    return folder


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; renamed over ``path`` when the block ends without an error."""
    final = places.place(path)
    if places.is_remote(final):
        with tempfile.TemporaryDirectory(prefix="morphsym-") as folder:
            aside = Path(folder) / final.name
            yield aside
            places.put_file(final, aside)
        return
    ensure_folder(final.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp" + final.suffix, dir=final.parent)
    except OSError as e:
        raise StoreError(f"cannot write {final}: {e.strerror or e}; choose another folder with -o") from None
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with open(aside, "rb") as f:
            os.fsync(f.fileno())
        aside.chmod(0o644)
        os.replace(aside, final)
        _sync_folder(final.parent)
    except OSError as e:
        aside.unlink(missing_ok=True)
        raise StoreError(f"cannot write {final}: {e.strerror or e}") from e
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    if places.is_remote(path):
        places.put(places.place(path), data)
        return
    with writing(path) as aside:
        aside.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically, UTF-8 with ``\\n`` line ends."""
    write_bytes(path, text.encode("utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable (a no-op where folders cannot be opened, as on Windows)."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:  # some network file systems cannot sync a folder; the file itself is synced
        return
    finally:
        os.close(fd)
