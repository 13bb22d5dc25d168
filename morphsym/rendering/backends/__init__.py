"""One rasteriser a file; all fill the same :class:`morphsym.types.Fragments`.

``numba`` runs on every CPU, ``triton`` on CUDA, ``pytorch3d`` on both where the user has installed it; ``torch`` is the
slow, readable reference that the others are tested against.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import MissingDependencyError, UsageError
from ...types import Cameras, Fragments

NAMES = ("numba", "triton", "pytorch3d", "torch")
"""Backends by name."""

FASTEST = {"cpu": ("numba",), "cuda": ("triton", "pytorch3d", "numba")}
"""What ``auto`` takes on a kind of device: the first that can be used. On the CPU numba always can."""

PYTORCH3D_HELP = (
    "PyTorch3D is not installed, and PyPI has no build of it for current Python: follow "
    "https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md, or use --renderer numba"
)
TRITON_HELP = (
    "Triton is not installed; it comes with torch's CUDA builds (https://pytorch.org/get-started/locally): install one "
    "of them, or use --renderer numba"
)
NO_CUDA = "the triton backend needs a CUDA device, and torch sees none; use --renderer numba"

_MODULES = {"numba": "numba_cpu", "triton": "triton_cuda", "pytorch3d": "pytorch3d", "torch": "torch_reference"}


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
    missing = dict.fromkeys(NAMES, "")
    if importlib.util.find_spec("pytorch3d") is None:
        missing["pytorch3d"] = PYTORCH3D_HELP
    if importlib.util.find_spec("triton") is None:
        missing["triton"] = TRITON_HELP
    elif not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        missing["triton"] = NO_CUDA
    return missing


def place(name: str, device: torch.device | str) -> str:
    """Where the backend called ``name`` renders in a study that runs on ``device``: there, or on the CPU."""
    return "cpu" if name in ("numba", "torch") else str(device)


def get(name: str = "auto", device: torch.device | str = "cpu") -> Backend:
    """The backend called ``name``; ``auto`` takes the fastest that is present for ``device``, and the result says which.

    Raises :class:`UsageError` for an unknown name and :class:`MissingDependencyError` for one that is not installed.
    Never another backend than the one asked for.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"--renderer must be one of auto, {', '.join(NAMES)}; got {name!r}")
    note = "asked for"
    missing = available()
    if name == "auto":
        # On the CPU numba is some thousand times faster than PyTorch3D (docs/performance.md).
        kind = torch.device(device).type
        order = FASTEST.get(kind, FASTEST["cpu"])
        name = next(n for n in order if not missing[n])
        note = f"auto: the fastest backend for {kind} on this machine"
        if passed_over := [f"{n}: {missing[n]}" for n in order[: order.index(name)]]:
            note = f"auto: what is faster for {kind} cannot be used ({'; '.join(passed_over)})"
    if missing[name]:
        raise MissingDependencyError(missing[name])
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return Backend(name, note, module.rasterize, getattr(module, "render", None))
