"""The causal edit: arms, designs and what they did to the mesh."""

from .arms import UnitConditions, unit_conditions
from .clinical import add_droop, clinical_preset, clinical_presets, clinical_sources, rest_droop, weaken_clinically
from .design import DEFAULT_ARMS, LIGHTS, MATCHED_RULES, SKINS, Design, Level
from .edit import edit, reach, weaken
from .matching import MIRROR68, Realised, matched_strengths, measure, skin_vertices, turned

__all__ = [
    "DEFAULT_ARMS",
    "LIGHTS",
    "MATCHED_RULES",
    "MIRROR68",
    "SKINS",
    "Design",
    "Level",
    "Realised",
    "UnitConditions",
    "add_droop",
    "clinical_preset",
    "clinical_presets",
    "clinical_sources",
    "edit",
    "matched_strengths",
    "measure",
    "reach",
    "rest_droop",
    "skin_vertices",
    "turned",
    "unit_conditions",
    "weaken",
    "weaken_clinically",
]
