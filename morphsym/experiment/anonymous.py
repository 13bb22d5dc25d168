"""Names that say nothing: keyed hashes in place of the names of photos.

The hash is HMAC-SHA256 under a key of this machine (made once, readable by its owner only), so the same photo keeps its
alias in every study made here, and nobody without the key can try names until one fits.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..errors import StoreError
from ..resources import home
from ..types import FaceFit
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


def alias(name: str) -> str:
    """The name that stands for ``name``: ``p`` and 12 hexadecimal digits."""
    return "p" + hmac.new(_key(home() / "anonymous.key"), name.encode(), "sha256").hexdigest()[:12]


def fit(found: FaceFit) -> FaceFit:
    """``found`` under its alias; reasons no longer name the photo."""
    name = alias(found.name)
    return replace(found, name=name, reason=_without(found.reason, found.photo, found.name, name))


def failed(unit: FailedUnit, found: FaceFit) -> FailedUnit:
    """A unit that failed, with a reason that does not name its photo."""
    return replace(unit, reason=_without(unit.reason, found.photo, Path(found.photo).stem, found.name))


def _without(text: str, photo: str, name: str, put: str) -> str:
    for secret in (photo, Path(photo).name, name):
        if secret:
            text = text.replace(secret, put)
    return text
