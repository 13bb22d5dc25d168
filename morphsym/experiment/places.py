"""Where results can be: a folder of this machine, or a prefix of an object store (``s3://…``, ``gs://…``, ``az://…``).

Paths of folders are :class:`pathlib.Path`; those of stores are ``UPath`` of the package universal-pathlib, which goes by
the same methods over fsspec. Only stores that write an object whole or not at all are taken: that is what a rename does
for a folder. Photos and fits are always files of this machine.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from ..errors import MissingDependencyError, StoreError, UsageError

OBJECT_STORES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "memory": "",
}
"""Protocols that are taken, and the package that fsspec needs for each."""


def place(where: str | os.PathLike[str]) -> Path:
    """``where`` as a path: of a folder, or (an object that behaves like a path) of an object store.

    Raises :class:`UsageError` for another kind of store, :class:`MissingDependencyError` without the store's package.
    """
    text = where if isinstance(where, str) else None
    if text is None or "://" not in text:
        return where if is_remote(where) else Path(where)  # type: ignore[return-value]
    protocol, _, rest = text.partition("://")
    if protocol in ("file", "local"):
        return Path(rest)
    if protocol not in OBJECT_STORES:
        raise UsageError(
            f"results cannot be kept at {text}; expected a folder, or an object store: s3://, gs:// or az://"
        )
    if not rest.strip("/"):
        raise UsageError(f"{text} names no bucket; expected for example {protocol}://bucket/study")
    needed = OBJECT_STORES[protocol]
    try:
        upath = importlib.import_module("upath")
        if needed:
            importlib.import_module(needed)
    except ImportError as e:
        what = "universal-pathlib" if e.name == "upath" else needed
        raise MissingDependencyError(
            f"{protocol}:// needs the package {what}: pip install 'morphsym[stores]' {needed}".rstrip()
        ) from None
    # another machine may write too: what was listed a minute ago is no answer
    options = {} if protocol == "memory" else {"use_listings_cache": False}
    return cast(Path, upath.UPath(text.rstrip("/"), **options))


def is_remote(path: Any) -> bool:
    """Whether ``path`` is of an object store."""
    return (
        not isinstance(path, str) and hasattr(path, "fs") and hasattr(path, "protocol") and not isinstance(path, Path)
    )


def under(folder: Path, where: str) -> Path:
    """``where``, which starts from ``folder`` unless it is absolute or of a store."""
    return place(where) if "://" in where else folder / where


def put(path: Path, data: bytes) -> None:
    """Write an object, whole or not at all. Raises :class:`StoreError`."""
    with told(path):
        store(path).pipe_file(key(path), data)


def put_file(path: Path, local: Path) -> None:
    """Write a file of this machine to a store. Raises :class:`StoreError`."""
    with told(path):
        store(path).put_file(str(local), key(path))


def create(path: Path, data: bytes) -> bool:
    """Write an object unless there is one; False when there is. The store decides: it is one request."""
    with told(path):
        if store(path).exists(key(path)):
            return False
        try:
            store(path).pipe_file(key(path), data, mode="create")
        except FileExistsError:
            return False
    return True


def remove(path: Path, recursive: bool = False) -> None:
    """Remove an object, or all below it; nothing when there is none."""
    with told(path), contextlib.suppress(FileNotFoundError):
        store(path).rm(key(path), recursive=recursive)


def store(path: Path) -> Any:
    """The fsspec file system of a path of a store."""
    return cast(Any, path).fs


def key(path: Path) -> str:
    """The name that the file system knows a path of a store by."""
    return str(cast(Any, path).path)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of a store (each has its own kinds) as a :class:`StoreError` in one line."""
    try:
        yield
    except StoreError:
        raise
    except Exception as e:
        reason = " ".join(str(e).split()) or type(e).__name__
        raise StoreError(f"cannot use {path}: {reason[:300]}") from e


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A folder of this machine whose files become those of the folder ``path``: itself, or a copy that is sent."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="morphsym-") as name:
        here = Path(name)
        yield here
        for file in sorted(p for p in here.rglob("*") if p.is_file()):
            put_file(path / file.relative_to(here).as_posix(), file)
