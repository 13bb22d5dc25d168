"""Where files are: the bundled assets, and the user's cache of models and weights.

Bundled files install as the package ``morphsym_assets``; in a plain checkout they are the folder ``assets/`` beside
``morphsym/``. Everything else lives in :func:`home`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import cache
from pathlib import Path

import platformdirs

from .errors import MorphsymError


@cache
def assets_dir() -> Path:
    """The folder of the bundled files."""
    spec = importlib.util.find_spec("morphsym_assets")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    checkout = Path(__file__).resolve().parent.parent / "assets"
    if (checkout / "__init__.py").is_file():
        return checkout
    raise MorphsymError("the bundled files (package morphsym_assets) are missing; reinstall morphsym")


def asset(name: str) -> Path:
    """Path of the bundled file ``name`` ('heads/makehuman.npz')."""
    path = assets_dir() / name
    if not path.is_file():
        raise MorphsymError(f"the bundled file {name!r} is missing from {assets_dir()}; reinstall morphsym")
    return path


def home() -> Path:
    """The user's folder of models and weights: ``$MORPHSYM_HOME``, else the platform's. Not created here."""
    given = os.environ.get("MORPHSYM_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_data_dir("morphsym", appauthor=False))


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
