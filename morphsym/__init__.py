"""morphsym: how does a facial-expression classifier react to the symmetry of a face?

The public API, by name. Names are imported on first use, so that ``import morphsym`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "AnalysisOptions": "analysis",
    "Analysis": "analysis",
    "Classifier": "classifiers",
    "ClassifierSpec": "classifiers",
    "Design": "intervention",
    "FaceFit": "types",
    "MorphableModel": "faces",
    "MorphsymError": "errors",
    "Study": "experiment.study",
    "Unit": "types",
    "analyze": "pipeline",
    "analyze_results": "pipeline",
    "answer_table": "report",
    "classify": "pipeline",
    "fit": "fitting",
    "intervene": "pipeline",
    "load_classifier": "classifiers",
    "load_fits": "fitting",
    "load_model": "faces",
    "photo_units": "pipeline",
    "render": "pipeline",
    "run_study": "experiment.study",
    "sample_landmarks": "experiment.demo",
    "sample_photo": "experiment.demo",
    "sample_units": "pipeline",
    "save_fits": "fitting",
}

__all__ = [
    "Analysis",
    "AnalysisOptions",
    "Classifier",
    "ClassifierSpec",
    "Design",
    "FaceFit",
    "MorphableModel",
    "MorphsymError",
    "Study",
    "Unit",
    "__version__",
    "analyze",
    "analyze_results",
    "answer_table",
    "classify",
    "fit",
    "intervene",
    "load_classifier",
    "load_fits",
    "load_model",
    "photo_units",
    "render",
    "run_study",
    "sample_landmarks",
    "sample_photo",
    "sample_units",
    "save_fits",
]

if TYPE_CHECKING:
    from .analysis import Analysis, AnalysisOptions
    from .classifiers import Classifier, ClassifierSpec, load_classifier
    from .errors import MorphsymError
    from .experiment.demo import sample_landmarks, sample_photo
    from .experiment.study import Study, run_study
    from .faces import MorphableModel, load_model
    from .fitting import load_fits, save_fits
    from .fitting.fit import fit
    from .intervention import Design
    from .pipeline import analyze, analyze_results, classify, intervene, photo_units, render, sample_units
    from .report import answer_table
    from .types import FaceFit, Unit


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'morphsym' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
