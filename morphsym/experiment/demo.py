"""The demo: the bundled sample photo and a few sampled people through the whole chain, without any download."""

from __future__ import annotations

from pathlib import Path

import skimage

from .. import fitting
from ..resources import asset
from ..types import FaceFit
from .store import Results
from .study import ProgressBar, Study, run_study

SAMPLE_LANDMARKS = "sample/astronaut.json"


def sample_photo() -> Path:
    """The sample photo: Eileen Collins, NASA, public domain; ``skimage.data.astronaut()``, which skimage ships."""
    return Path(skimage.__file__).parent / "data" / "astronaut.png"


def sample_landmarks() -> Path:
    """The sample photo's landmarks as MediaPipe gave them (478 points, 68 of them, 52 blendshapes)."""
    return asset(SAMPLE_LANDMARKS)


def fit_sample(folder: Path, model: str = "makehuman") -> list[FaceFit]:
    """Fit the sample photo from its bundled landmarks and save it."""
    fits = fitting.fit([sample_photo()], model=model, landmarks=sample_landmarks())
    fitting.save_fits(folder, fits)
    return fits


def run(
    fits: Path, out: Path, *, sample: int = 12, seed: int = 0, overwrite: bool = False, bar: ProgressBar | None = None
) -> Results:
    """The demo's study: the sample photo and ``sample`` people, six emotions, both sides, four strengths, all arms."""
    return run_study(
        Study(fits=str(fits), sample=sample, seed=seed), out, resume=not overwrite, overwrite=overwrite, bar=bar
    )
