"""Expression classifiers through one contract: a spec, one crop a unit, float32 logits."""

from .base import Classifier, NoFaceFound
from .crops import crop_matrix
from .predict import centred, classify, probabilities
from .registry import bundled, catalogue, find_spec, load_classifier, sets, user_specs, with_margins
from .spec import ClassifierSpec, CropSpec, OutputSpec, ResizeSpec, parse_spec, read_specs

__all__ = [
    "Classifier",
    "ClassifierSpec",
    "CropSpec",
    "NoFaceFound",
    "OutputSpec",
    "ResizeSpec",
    "bundled",
    "catalogue",
    "centred",
    "classify",
    "crop_matrix",
    "find_spec",
    "load_classifier",
    "parse_spec",
    "probabilities",
    "read_specs",
    "sets",
    "user_specs",
    "with_margins",
]
