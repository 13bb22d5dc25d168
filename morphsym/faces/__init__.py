"""3D morphable face models: one record for all of them, the split into hemifaces, people and expressions to sample."""

from .appearance import Appearance, compose, fitzpatrick, sample_appearance, skin_colour
from .arkit import ARKIT_NAMES
from .furrows import depth_of, furrow_shade, furrowed
from .model import Embedding, MorphableModel
from .people import Population, paint, sample_people
from .presets import emotion_preset, load_presets, nearest_emotion
from .registry import ModelEntry, list_models, load_model
from .subdivide import subdivide

__all__ = [
    "ARKIT_NAMES",
    "Appearance",
    "Embedding",
    "ModelEntry",
    "MorphableModel",
    "Population",
    "compose",
    "depth_of",
    "emotion_preset",
    "fitzpatrick",
    "furrow_shade",
    "furrowed",
    "list_models",
    "load_model",
    "load_presets",
    "nearest_emotion",
    "paint",
    "sample_appearance",
    "sample_people",
    "skin_colour",
    "subdivide",
]
