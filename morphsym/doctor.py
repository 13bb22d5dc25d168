"""What is installed, which device there is, which weights are present, and what to do about what is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import morphsym

from . import resources, weights
from .errors import MorphsymError


@dataclass(frozen=True)
class Check:
    """One finding. ``status``: ok, missing (the defaults need it) or optional (absent, and only wanted by some)."""

    name: str
    status: str
    found: str
    advice: str = ""


_OPTIONAL = {
    "face_alignment": ("face-alignment", "a second landmark detector: pip install 'morphsym[face-alignment]'"),
    "pytorch3d": ("pytorch3d", "a rasteriser: https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md"),
}


def examine() -> list[Check]:
    """Every check, in the order in which a person would ask."""
    return [*_software(), *_device(), *_files()]


def _software() -> Iterator[Check]:
    yield Check("morphsym", "ok", f"{morphsym.__version__}, Python {platform.python_version()}")
    for package in ("torch", "numba", "mediapipe"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield Check(package, "missing", "not installed", f"pip install {package}")
            continue
        yield _importable(package, package, version, required=True)
    for module, (package, advice) in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Check(package, "optional", "not installed", advice)
        else:
            yield _importable(package, module, importlib.metadata.version(package), required=False)


def _importable(name: str, module: str, version: str, required: bool) -> Check:
    """Installed is not enough: a missing system library shows only on import."""
    try:
        importlib.import_module(module)
    except Exception as e:  # whatever a broken install raises is the finding
        advice = "install the system library it names (Debian: apt install libgl1 libegl1 libgles2)"
        return Check(name, "missing" if required else "optional", f"{version}, but cannot be imported: {e}", advice)
    return Check(name, "ok", version)


def _device() -> Iterator[Check]:
    import torch

    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    if torch.cuda.is_available():
        yield Check("device", "ok", f"{torch.cuda.get_device_name(0)} (CUDA {torch.version.cuda}); {cores}")
    else:
        yield Check("device", "ok", f"CPU, {cores}; no CUDA device")
    from .rendering import backends

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, why in backends.available().items():
        if why:
            yield Check(f"renderer {name}", "optional", "not usable here", why)
        else:
            yield _renderer(name, "cpu" if name in ("numba", "torch") else device)
    chosen = backends.get("auto", device)
    yield Check("renderer auto", "ok", f"takes {chosen.name} ({chosen.note})")


def _renderer(name: str, device: str) -> Check:
    """A tiny picture against the reference's: being importable is not enough."""
    from .rendering import selfcheck

    if not (problem := selfcheck.problem(name, device)):
        return Check(f"renderer {name}", "ok", f"works on {device}: a test picture agrees with the reference")
    from .rendering.backends import PYTORCH3D_HELP

    advice = PYTORCH3D_HELP.partition("follow ")[2] if name == "pytorch3d" else "report this, or use another --renderer"
    return Check(f"renderer {name}", "missing" if name == "numba" else "optional", f"does not work: {problem}", advice)


def _files() -> Iterator[Check]:
    yield Check("home", "ok", f"{resources.home()} ($MORPHSYM_HOME or the platform's)")
    try:
        resources.asset("heads/makehuman.npz")
        yield Check("bundled head", "ok", "makehuman")
    except MorphsymError as e:
        yield Check("bundled head", "missing", "absent", str(e))
    for row in weights.list_weights():
        name = f"weights {row.weight.name}"
        if row.state == "present":
            yield Check(name, "ok", str(row.path))
        else:
            # `fit` needs the default detector's weights; the rest is for those who ask for it
            status = "missing" if row.weight.name == "mediapipe" else "optional"
            yield Check(name, status, f"{row.state}: {row.weight.purpose}", weights.instructions(row.weight.name))
