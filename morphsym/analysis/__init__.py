"""Pairing, estimands, tests, intervals, corrections and verdicts: from tables to tables. See docs/analysis.md."""

from .analyze import analyze
from .association import associate
from .checks import require_manipulation
from .gate import Breach, gate
from .power import Plan, people_needed, plan_from_pilot, simulated_power
from .records import CONTRASTS, EFFECT_COLUMNS, OUTCOMES, SESOI, TESTS, Analysis, AnalysisOptions
from .sensitivity import MATCHING_RULES, matching_sensitivity

__all__ = [
    "CONTRASTS",
    "EFFECT_COLUMNS",
    "MATCHING_RULES",
    "OUTCOMES",
    "SESOI",
    "TESTS",
    "Analysis",
    "AnalysisOptions",
    "Breach",
    "Plan",
    "analyze",
    "associate",
    "gate",
    "matching_sensitivity",
    "people_needed",
    "plan_from_pilot",
    "require_manipulation",
    "simulated_power",
]
