"""Pairing, estimands, tests, intervals and corrections."""

from .analyze import analyze
from .records import CONTRASTS, EFFECT_COLUMNS, OUTCOMES, TESTS, Analysis, AnalysisOptions

__all__ = ["CONTRASTS", "EFFECT_COLUMNS", "OUTCOMES", "TESTS", "Analysis", "AnalysisOptions", "analyze"]
