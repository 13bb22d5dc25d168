"""Names that say nothing: keyed hashes in place of the names of photos.

The hash is HMAC-SHA256 under a key of this machine (made once, readable by its owner only), so the same photo keeps its
alias in every study made here, and nobody without the key can try names until one fits. The same is done to the photos'
own hashes, which would tell whoever has a photo that it is in the study. Where the fits lie is kept beside the key.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..resources import home
from ..types import FaceFit
from . import warned
from .atomic import write_text
from .units import FailedUnit


@cache
def _key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(secrets.token_hex(32).encode())
        except FileExistsError:
            pass
        key = path.read_bytes()
    except OSError as e:
        raise StoreError(f"the key of --anonymous cannot be kept in {path}: {e.strerror}; set MORPHSYM_HOME") from None
    if len(key) < 32:
        raise StoreError(f"{path}, the key of --anonymous, is damaged; remove it, and aliases will be new ones")
    return key


def _keyed(text: str) -> str:
    return hmac.new(_key(home() / "anonymous.key"), text.encode(), "sha256").hexdigest()


def alias(name: str) -> str:
    """The name that stands for ``name``: ``p`` and 12 hexadecimal digits."""
    return "p" + _keyed(name)[:12]


def digest(sha256: str) -> str:
    """What stands for a photo's hash: one that only the holder of the key can compute."""
    return _keyed("sha256:" + sha256)


def fits(found: Iterable[FaceFit]) -> list[FaceFit]:
    """``found`` under their aliases, in the aliases' order (the photos' own would give the alphabet away)."""
    return sorted((_fit(f) for f in found), key=lambda f: f.name)


def _fit(found: FaceFit) -> FaceFit:
    name = alias(found.name)
    subject = alias(found.subject) if found.subject else ""
    return replace(found, name=name, subject=subject, reason=_without(found.reason, found.photo, found.name, name))


def failed(unit: FailedUnit, found: FaceFit) -> FailedUnit:
    """A unit that failed, with a reason that does not name its photo."""
    return replace(unit, reason=_without(unit.reason, found.photo, Path(found.photo).stem, found.name))


def _without(text: str, photo: str, name: str, put: str) -> str:
    for secret in (photo, Path(photo).name, name, Path(photo).stem):
        if secret:  # as a word of its own: a photo called 1.jpg must not take the digits out of numbers
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", put, text)
    return text


def hide(text: str, photos: Iterable[str]) -> str:
    """``text`` (a warning, a message) without the names of ``photos`` and of the folders that they are in."""
    for photo in photos:
        text = _without(text, photo, Path(photo).stem, alias(Path(photo).stem))
        for folder in [*Path(photo).parents][:-1]:
            text = text.replace(str(folder) + os.sep, "")
    return text


def unnamed(photos: Sequence[str]) -> AbstractContextManager[None]:
    """While this lasts warnings are shown without the names of ``photos``."""
    return warned.rewriting(lambda text: hide(text, photos))


_SECRET = ("paths", "landmarks", "fits", "file", "labels")


def given(values: Any, secret: bool = False) -> Any:
    """A request as asked for, with aliases in place of paths: photos, fits, landmarks and the file itself."""
    if isinstance(values, dict):
        return {
            k: given(v, secret or k in _SECRET) if k != "set" else [_override(x) for x in v] for k, v in values.items()
        }
    if isinstance(values, list | tuple):
        return [given(v, secret) for v in values]
    return alias(values) if secret and isinstance(values, str) else values


def _override(text: str) -> str:
    key, _, value = text.partition("=")
    return f"{key}={alias(value)}" if key.startswith(("photos", "fits", "labels")) else text


def put_away(folder: str) -> str:
    """Remember where fits lie, beside the key; returns the alias that stands for the folder in a manifest."""
    full = str(Path(folder).absolute())
    name = alias(full)
    try:
        (home() / "anonymous").mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise StoreError(f"{home()} cannot be written to ({e.strerror}); set MORPHSYM_HOME") from None
    write_text(home() / "anonymous" / f"{name}.txt", full)
    return name


def find(name: str) -> str:
    """The folder that ``name`` stands for. Raises :class:`StoreError` on another machine, which cannot know."""
    try:
        return (home() / "anonymous" / f"{name}.txt").read_text(encoding="utf-8")
    except OSError:
        raise StoreError(
            f"these results are anonymous: where the fits {name} lie is known only to the machine and account that made "
            "them"
        ) from None
