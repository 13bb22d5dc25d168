"""The causal edit: arms, designs and what they did to the mesh."""

from .arms import UnitConditions, unit_conditions
from .design import DEFAULT_ARMS, MATCHED_RULES, Design
from .edit import edit, reach, weaken
from .matching import MIRROR68, Realised, matched_strengths, measure, skin_vertices

__all__ = [
    "DEFAULT_ARMS",
    "MATCHED_RULES",
    "MIRROR68",
    "Design",
    "Realised",
    "UnitConditions",
    "edit",
    "matched_strengths",
    "measure",
    "reach",
    "skin_vertices",
    "unit_conditions",
    "weaken",
]
