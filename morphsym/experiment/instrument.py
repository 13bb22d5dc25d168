"""An independent reading of the pictures: MediaPipe's blendshapes, by people who never saw our meshes.

A network that was trained on photos says how far each half of a face moves. Read on our pictures, before any classifier
is asked, it answers whether the asymmetry that the mesh realised can be seen. It is slow (some 20 ms a picture) and needs
MediaPipe, so it is asked for, and for a sample of the units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..fitting import detectors
from ..fitting.detectors import Detector
from . import stages
from .images import to_uint8
from .run import one_thread
from .store import Results
from .study import ProgressBar, again, no_bar
from .units import FailedUnit

COLUMNS = (
    "condition",
    "unit",
    "arm",
    "side",
    "strength",
    "region",
    "seen",
    "read_left",
    "read_right",
    "read_asymmetry",
)


def read_score(scores: Mapping[str, float]) -> tuple[float, float, float]:
    """From blendshape scores by ARKit name: how far the left half moves, the right half, and how much they differ.

    Means over the shapes that have a left and a right, eyes' directions aside; the difference is the mean absolute one.
    """
    pairs = [
        (v, scores[f"{n.removesuffix('Left')}Right"])
        for n, v in scores.items()
        if n.endswith("Left") and not n.startswith(("eyeLook", "jaw")) and n not in ("mouthLeft",)
        and f"{n.removesuffix('Left')}Right" in scores
    ]  # fmt: skip
    both = np.array(pairs, dtype=float).reshape(-1, 2)
    if not len(both):
        return float("nan"), float("nan"), float("nan")
    return float(both[:, 0].mean()), float(both[:, 1].mean()), float(np.abs(both[:, 0] - both[:, 1]).mean())


def read_blendshapes(
    path: str | Path,
    sample: int = 10,
    seed: int = 0,
    *,
    detector: Detector | None = None,
    bar: ProgressBar | None = None,
) -> pd.DataFrame:
    """The pictures of ``sample`` random units of the results in ``path``, rendered again from the manifest and read.

    One row a picture (mirrored ones left out), columns :data:`COLUMNS`; ``seen`` is False, and the readings NaN, where no
    face was found. Raises what :func:`morphsym.fitting.detectors.get` does where MediaPipe is missing.
    """
    results = Results.open(path)
    read = detector or detectors.get("mediapipe")
    study, model, units = again(results)
    chosen = np.random.default_rng(seed).choice(len(units), size=min(sample, len(units)), replace=False)
    rows: list[dict[str, Any]] = []
    total = sum(units.conditions(int(k), int(k) + 1) for k in chosen)
    with one_thread(), (bar or no_bar)(total, "Reading blendshapes") as progress:
        for k in sorted(int(k) for k in chosen):
            for plan in stages.intervene(units.between(k, k + 1), model, study.design):
                progress(units.conditions(k, k + 1))
                if isinstance(plan, FailedUnit):
                    continue
                pictures = stages.render_plan(model, plan, results.manifest["renderer"])
                shown = np.flatnonzero(pictures.rendered).tolist()
                for image, i in zip(pictures.images, shown, strict=True):
                    if plan.mirrored[i]:
                        continue
                    c = plan.conditions[i]
                    found = read(to_uint8(image))
                    left, right, gap = read_score(found[0].blendshapes or {}) if found else (np.nan,) * 3
                    rows.append(dict(zip(COLUMNS, (c.condition, c.unit, c.arm, c.side, c.strength, c.region,
                                                   bool(found), left, right, gap))))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))
