"""What ran: versions, revision, hashes, device. Goes into ``manifest.json`` and the report."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import morphsym

from ..classifiers import Classifier
from ..faces import MorphableModel
from ..types import FaceFit

_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "torch",
    "numba",
    "scikit-image",
    "mediapipe",
    "face-alignment",
    "pytorch3d",
)


def build(
    given: Mapping[str, Any],
    resolved: Mapping[str, Any],
    model: MorphableModel,
    classifiers: Sequence[Classifier],
    renderer: str,
    device: str,
    fits: Sequence[FaceFit] = (),
) -> dict[str, Any]:
    """The manifest of a study that is about to run.

    ``given`` is the specification as asked for, ``resolved`` with every default filled in. ``spec_sha256`` covers what
    determines the rows: the resolved specification, the hashes of the model, the classifiers and the fits, and the renderer.
    Where the folder of fits lies is not part of it, what is in it is: a study can be moved.
    """
    files = {f"model:{model.name}": model.sha256} | {f"classifier:{c.spec.id}": c.spec.sha256 for c in classifiers}
    if fits:
        files["fits"] = fits_sha256(fits)
    placeless = {k: v for k, v in resolved.items() if k != "fits"}
    determined = {"resolved": placeless, "files": files, "renderer": renderer}
    return {
        "spec": {"given": dict(given), "resolved": dict(resolved)},
        "spec_sha256": hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest(),
        "seed": resolved.get("seed"),
        "files": files,
        "model": {"name": model.name, "source": model.source, "licence": model.licence, "sha256": model.sha256},
        "classifiers": {c.spec.id: describe(c) for c in classifiers},
        "renderer": renderer,
        "device": device,
        "machine": machine(),
        "versions": versions(),
        "git": revision(),
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def fits_sha256(fits: Sequence[FaceFit]) -> str:
    """A hash of everything in ``fits`` that reaches a picture or a row; not of where the photos lie."""
    found = hashlib.sha256()
    for f in fits:
        plain = (
            f.name,
            f.photo_sha256,
            f.model_sha256,
            f.status,
            f.emotion,
            f.height,
            f.width,
            f.nme,
            f.yaw,
            f.pitch,
            f.roll,
            f.subject,
            f.frame,
            f.time,
            sorted((f.measures or {}).items()),
        )
        found.update(json.dumps([str(x) for x in plain]).encode())
        for array in (f.identity, f.expression, f.K, f.R, f.t, f.landmarks):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def describe(classifier: Classifier) -> dict[str, Any]:
    """What a reader of the results must know of a classifier."""
    spec = classifier.spec
    emotions = dict(zip(spec.labels, spec.label_emotions, strict=True))
    return {"labels": list(spec.labels), "emotions": emotions, "sha256": spec.sha256}


def versions() -> dict[str, str]:
    """Versions of Python, morphsym and of the packages that matter; 'not installed' where one is absent."""
    found = {"morphsym": morphsym.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """The processor, on which the last bits of results hang, and its cores. No names of hosts or people."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):  # another system, or another kind of processor
        pass
    return {"processor": model, "cores": os.cpu_count()}


def revision() -> str | None:
    """The git revision of the checkout that this runs from, with '+changes' when it was edited; None when installed."""
    root = Path(morphsym.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head, status = (
            subprocess.run(
                ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True
            ).stdout
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+changes" if status.strip() else "")
