"""3D morphable face models: one record for all of them, the split into hemifaces, people and expressions to sample."""

from .appearance import Appearance, compose, fitzpatrick, sample_appearance, skin_colour
from .arkit import ARKIT_NAMES
from .model import Embedding, MorphableModel
from .registry import ModelEntry, list_models, load_model

__all__ = [
    "ARKIT_NAMES",
    "Appearance",
    "Embedding",
    "ModelEntry",
    "MorphableModel",
    "compose",
    "fitzpatrick",
    "list_models",
    "load_model",
    "sample_appearance",
    "skin_colour",
]
