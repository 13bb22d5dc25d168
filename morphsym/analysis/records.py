"""What goes into an analysis and what comes out: options, the columns of ``effects.csv``, the result record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..errors import UsageError

CONTRASTS = (
    "TE", "IE", "AE", "side_bias", "mirror_bias", "null_error", "rerender", "TE_slope", "IE_slope", "AE_slope",
    "placebo", "droop", "IE_mesh", "AE_mesh", "IE_coefficients", "AE_coefficients", "IE_landmarks", "AE_landmarks",
)  # fmt: skip
"""Paired contrasts of a unit. TE = IE + AE exactly. Negative: the output falls as symmetry falls. The slopes are per
unit of strength, over the doses with the baseline as dose 0. Those of the last line only where the design has their arms;
see :mod:`.estimands`."""

OUTCOMES = ("logit", "probability", "top1")
"""``logit``: centred logit of the unit's emotion. ``probability``: the classifier's probability of it. ``top1``: 1
where the largest logit is that of the emotion, else 0."""

SESOI = {"logit": 0.1, "probability": 0.01, "top1": 0.05}
"""Smallest effects of interest by default: 0.1 logit changes the odds by less than 11 %."""

TESTS = ("wilcoxon", "paired_t", "sign_flip", "sign")
"""Tests of every contrast. Beside them ``tost`` (TE, IE, AE, the biases), ``page`` (slopes), ``mcnemar`` (top1)."""

EFFECT_COLUMNS = (
    # the columns of DESIGN.md section 6, in that order
    "classifier",
    "emotion",  # 'all': averaged over the unit's emotions
    "contrast",
    "side",  # 'both' with pooled containing 'side': the average of left and right
    "strength",  # empty where the row spans the strengths (slopes) or nothing is edited at a strength
    "region",
    "estimate",  # mean over subjects of the subject's mean contrast, in units of `outcome`
    "ci_low",
    "ci_high",
    "effect_size",  # dz = mean / standard deviation of the subjects' means
    "n_units",
    "n_subjects",
    "n_excluded",  # units that were planned for this cell and are not in it
    "test",  # 'none' where no test can be made; `note` says why
    "statistic",
    "p_value",  # two-sided
    "p_adjusted",  # within `family`, by options.correction
    # and beside them
    "source",  # photo | sampled: analysed apart
    "outcome",
    "primary",  # the row that the verdict is read from
    "pooled",  # '', 'emotion', 'side' or 'emotion+side': what the row averages over
    "g_av",  # Hedges' g_av
    "rank_biserial",  # matched-pairs rank-biserial correlation
    "interval",  # bca | percentile | none
    "p_mc_error",  # Monte Carlo standard error of p_value; 0 where it is exact
    "p_holm",
    "p_bh",
    "family",  # which hypotheses were corrected together
    "alpha",
    "null_error_size",  # mean over subjects of |null error|: what rendering alone does
    "below_null_error",  # |estimate| < null_error_size: not reported as found
    "note",
)


@dataclass(frozen=True)
class AnalysisOptions:
    """Everything that an analysis can be asked. The defaults are the declared primary analysis.

    The primary estimand of a classifier is TE (and its parts IE, AE) in ``primary_outcome`` at ``primary_strength``
    and ``primary_region``, averaged over emotions and over the left and the right side; its hypotheses (TE and AE of
    every classifier) form the family ``primary``. All other rows form the family ``secondary``. Sources and tests are
    corrected apart (tests are alternatives for one hypothesis, not further hypotheses).
    """

    seed: int = 0
    alpha: float = 0.05  # two-sided level of tests, and of the verdicts
    confidence: float = 0.95
    permutations: int = 10_000  # Monte Carlo sign flips, where 2**n_subjects > this
    bootstrap: int = 10_000  # bootstrap replicates of subjects
    interval: str = "percentile"  # percentile | bca; docs/analysis.md says why
    tests: tuple[str, ...] = TESTS
    primary_test: str = "wilcoxon"
    outcomes: tuple[str, ...] = OUTCOMES
    primary_outcome: str = "logit"
    cross_checks: bool = True  # mixed models, heterogeneity and, for photos, the association with measured asymmetry
    primary_strength: float | None = None  # the largest strength of the design
    primary_region: str | None = None  # 'all' if it is in the design, else the first region
    correction: str = "holm"  # holm | fdr_bh
    zero_method: str = "wilcox"  # as in scipy.stats.wilcoxon: zero differences are dropped
    sesoi: Mapping[str, float] = field(default_factory=lambda: dict(SESOI))
    """Smallest effect of interest, by outcome, in its own units: TOST tests |effect| < sesoi."""

    def __post_init__(self) -> None:
        def known(what: str, value: str, allowed: tuple[str, ...]) -> None:
            if value not in allowed:
                raise UsageError(f"{what} must be one of {', '.join(allowed)}; got {value!r}")

        for t in self.tests:
            known("tests", t, TESTS)
        known("primary_test", self.primary_test, self.tests)
        for o in self.outcomes:
            known("outcomes", o, OUTCOMES)
        known("primary_outcome", self.primary_outcome, self.outcomes)
        known("interval", self.interval, ("bca", "percentile"))
        known("correction", self.correction, ("holm", "fdr_bh"))
        known("zero_method", self.zero_method, ("wilcox", "pratt", "zsplit"))
        for name, value in (("alpha", self.alpha), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise UsageError(f"{name} must lie between 0 and 1; got {value}")
        for name, count in (("permutations", self.permutations), ("bootstrap", self.bootstrap)):
            if count < 99:
                raise UsageError(f"{name} must be at least 99; got {count}")
        for o in self.outcomes:
            if not self.sesoi.get(o, 0) > 0:
                raise UsageError(f"sesoi must give a positive number for the outcome {o!r}; got {dict(self.sesoi)}")


@dataclass(frozen=True, eq=False)
class Analysis:
    """The result of :func:`morphsym.analysis.analyze`. Every table is plain pandas; missing numbers are NaN in the
    tables (empty in CSV), and ``note`` says in a sentence why.
    """

    effects: pd.DataFrame
    """Columns :data:`EFFECT_COLUMNS`: one row a classifier × emotion × contrast × side × strength × region × outcome,
    and one row more for each further test."""
    units: pd.DataFrame
    """Unit-level contrasts: source, classifier, unit, subject, emotion, side, strength, region, outcome, contrast,
    value."""
    verdicts: pd.DataFrame
    """One row a source × classifier: total, asymmetry (lowers | raises | equivalent | inconclusive | untested),
    sentence, and the numbers that they rest on."""
    exclusions: pd.DataFrame
    """What was left out and why: source, classifier ('' = all), unit, subject, emotion, arm, side, strength, region,
    reason, count."""
    dose_response: pd.DataFrame
    """Means and intervals by strength: source, classifier, emotion, side, region, outcome, contrast, strength,
    realised_asymmetry, realised_intensity, estimate, ci_low, ci_high, n_subjects, n_units, pooled."""
    decomposition: pd.DataFrame
    """TE, IE, AE with intervals in one row: source, classifier, emotion, side, strength, region, outcome, TE, TE_low,
    TE_high, IE, …, AE_high, asymmetry_share (AE / TE; empty where TE's interval holds 0), n_subjects, pooled."""
    flips: pd.DataFrame
    """Decision flips by strength: source, classifier, emotion, side, region, arm (unilateral | matched), strength,
    pooled, n_units, n_flipped, share, median_flip_dose, n_returned."""
    checks: pd.DataFrame
    """What each arm realised on the mesh, and whether it is what the arm is for; see :mod:`.checks`."""
    mixed: pd.DataFrame
    """Mixed models of the primary contrasts, a cross-check; see :func:`.crosschecks.mixed_models`."""
    heterogeneity: pd.DataFrame
    """The primary effects by the people's attributes; see :func:`.crosschecks.heterogeneity`."""
    association: pd.DataFrame
    """Measured asymmetry and output in untouched photos; see :func:`.association.associate`."""
    matching: pd.DataFrame
    """The parts under the three rules by which ``matched`` can be matched; empty where the run has one rule. See
    :func:`.sensitivity.rule_sensitivity`."""
    summary: dict[str, Any]
    """Machine readable, json-able: what was asked, the rules, counts, k of n, verdicts."""
    options: AnalysisOptions
