"""One rasteriser a file; all fill the same :class:`morphsym.types.Fragments`.

``numba`` runs on every CPU; ``pytorch3d`` where the user has installed it; ``torch`` is the slow, readable reference
that the others are tested against.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...errors import MissingDependencyError, UsageError
from ...types import Cameras, Fragments

NAMES = ("numba", "pytorch3d", "torch")
"""Backends by name."""

PYTORCH3D_HELP = (
    "PyTorch3D is not installed, and PyPI has no build of it for current Python: follow "
    "https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md, or use --renderer numba"
)

_MODULES = {"numba": "numba_cpu", "pytorch3d": "pytorch3d", "torch": "torch_reference"}


@dataclass(frozen=True)
class Backend:
    """A rasteriser. ``name`` is what the manifest records; ``note`` says why it was taken.

    ``rasterize(vertices (B, V, 3), faces (F, 3), cameras) -> Fragments``. ``fused`` is a faster path from vertices to
    shaded pixels, or None where pixels are shaded from the fragments.
    """

    name: str
    note: str
    rasterize: Callable[[Tensor, Tensor, Cameras], Fragments]
    fused: Callable[..., Any] | None = None


def available() -> dict[str, str]:
    """Every backend's name -> '' where it can be used, else what is missing. Imports nothing heavy."""
    missing = importlib.util.find_spec("pytorch3d") is None
    return {name: PYTORCH3D_HELP if name == "pytorch3d" and missing else "" for name in NAMES}


def get(name: str = "auto") -> Backend:
    """The backend called ``name``; ``auto`` takes the fastest that is present, and the result says which that is.

    Raises :class:`UsageError` for an unknown name and :class:`MissingDependencyError` for one that is not installed.
    Never another backend than the one asked for.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"--renderer must be one of auto, {', '.join(NAMES)}; got {name!r}")
    note = "asked for"
    if name == "auto":
        # On the CPU numba is some thousand times faster than PyTorch3D (docs/design/rendering.md).
        name, note = "numba", "auto: the fastest backend on this machine"
    reason = available()[name]
    if reason:
        raise MissingDependencyError(reason)
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return Backend(name, note, module.rasterize, getattr(module, "render", None))
