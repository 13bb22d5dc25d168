"""One run a folder. A folder is held by a lock of the operating system, which ends with the process that holds it.

A store has no such locks: there the object ``.lock`` is created (only if there is none: the store itself sees to that) and
renewed while the run lasts. A hold that was not renewed for :data:`LEASE` seconds is of a run that died and may
be taken over. If two runs ever held one folder, they would write the same bytes under the same names.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from ..errors import StoreError
from . import places

LEASE = 120.0
"""Seconds after its last sign of life that a hold on a store ends."""


def _refusal(path: Path, more: str = "") -> StoreError:
    return StoreError(f"another run is writing to {path}{more}; wait for it or choose another folder")


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the folder ``path`` for this run. Raises :class:`StoreError` when another run writes to it."""
    if places.is_remote(path):
        with _lease(path / ".lock", path):
            yield
        return
    lock = filelock.FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _refusal(path) from None
    try:
        yield
    finally:
        lock.release()


def _read(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _lease(file: Path, path: Path) -> Iterator[None]:
    mine = secrets.token_hex(8)

    def sign() -> bytes:
        return json.dumps({"run": mine, "renewed": time.time()}).encode()

    if not places.create(file, sign()):
        renewed = _read(file).get("renewed")
        age = time.time() - renewed if isinstance(renewed, float) else LEASE
        if age < LEASE:
            raise _refusal(path, f" (its last sign of life was {age:.0f} s ago; one that was killed is given up after "
                                 f"{LEASE:.0f} s)")  # fmt: skip
        places.remove(file)
        if not places.create(file, sign()):
            raise _refusal(path)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(LEASE / 4):
            with contextlib.suppress(StoreError):  # the store is away for a moment; writing rows says so if it lasts
                if _read(file).get("run") in (mine, None):
                    places.put(file, sign())

    thread = threading.Thread(target=renew, daemon=True, name="morphsym-lease")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if _read(file).get("run") == mine:
            with contextlib.suppress(StoreError):
                places.remove(file)
