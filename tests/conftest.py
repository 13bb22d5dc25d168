"""Shared fixtures. Tests that need ``../shared/data`` skip, counted and named, where that folder is missing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def _alias(name: str, folder: str) -> None:
    """In a plain checkout, make ``folder`` importable under the name that it installs as."""
    if importlib.util.find_spec(name) is not None:
        return
    spec = importlib.util.spec_from_file_location(
        name, ROOT / folder / "__init__.py", submodule_search_locations=[str(ROOT / folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_alias("morphsym_assets", "assets")
_alias("morphsym_cli", "cli")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models, weights and goldens."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data (real models, weights and goldens), which is not here")
    return SHARED
