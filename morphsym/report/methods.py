"""The methods section, with the numbers filled in: paragraphs that can go into a paper as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..analysis import AnalysisOptions
from ..types import REGIONS
from . import formatting as f
from .sentences import OUTCOMES, TESTS
from .view import SourceView

_CORRECTIONS = {"holm": "Holm’s procedure", "fdr_bh": "the Benjamini–Hochberg procedure"}
_INTERVALS = {"bca": "bias-corrected and accelerated (BCa) bootstrap", "percentile": "percentile bootstrap"}
_MATCHED = {
    "mesh": "the summed displacement of the skin’s vertices from rest",
    "landmarks": "the summed displacement of the 68 landmarks from rest",
    "coefficients": "the sum of the absolute expression coefficients",
}

LIMITS = (
    "What is claimed rests on the face model: it weakens expression as coefficients of a 3D morphable model, which "
    "resembles facial palsy but lacks its synkinesis, and in TE, IE and AE its droop at rest.",
    "The asymmetry part is defined by the rule by which the control is matched; another measure of ‘equal intensity’ "
    "moves the border between IE and AE, never their sum.",
    "A test over sampled people speaks for the population that the face model samples from, and a test over photos for "
    "people like those in the photos.",
)


def methods(
    views: Sequence[SourceView],
    options: AnalysisOptions,
    conditions: pd.DataFrame,
    manifest: Mapping[str, Any],
    version: str,
) -> list[str]:
    """What was done, and how it was analysed: two paragraphs."""
    return [_procedure(views, conditions, manifest, version), _statistics(options)]


def _procedure(views: Sequence[SourceView], conditions: pd.DataFrame, manifest: Mapping[str, Any], version: str) -> str:
    resolved = _mapping(_mapping(manifest.get("spec")).get("resolved"))
    design = _mapping(resolved.get("design"))
    names = [f.clean(n, 60) for n in dict.fromkeys(c.name for v in views for c in v.classifiers)]
    classifiers = f.plural(len(names), "facial-expression classifier")
    model = f.clean(_mapping(manifest.get("model")).get("name") or resolved.get("model"))
    rendered = f" with the 3D morphable model {model}" if model else ""
    rule = _MATCHED.get(str(design.get("matched_by") or "mesh"), "the total expression")
    who = f.join_words(
        f"{v.people} with {f.join_words(v.emotions)} ({f.plural(v.n_units, 'unit')})" for v in views if v.n_units
    )
    edited = conditions[conditions["arm"] == "unilateral"]
    regions = sorted(set(edited["region"].astype(str)))
    patterns = [f"the clinical pattern {f.clean(r)}" for r in regions if r not in REGIONS]
    parts = [f"the region {r}" for r in regions if r in REGIONS and r != "all"]
    whole = ["the muscles of the facial nerve"] if "all" in regions or not regions else []
    muscles = f.join_words([*whole, *parts, *patterns])
    more = [f.clean(n) for n in design.get("include") or ()]
    muscles += f" (and of {f.join_words(more)})" if more else ""
    sides = f.join_words(dict.fromkeys(s for v in views for s in v.sides)) or "–"
    strengths = f.join_words(f.strength_text(s) for s in sorted({s for v in views for s in v.strengths})) or "–"
    failed = int((conditions["status"] != "ok").sum())
    text = (
        f"The causal effect of reduced facial symmetry on {classifiers} ({f.join_words(names)}) was estimated with "
        f"morphsym {version}, following the synthetic interventions of Büchner et al. (2024). Subjects were {who}; a "
        f"unit is one subject with one expression. Each unit was rendered{rendered} as a factual face (baseline) and "
        f"with the expression of {muscles} weakened on one half (unilateral; side: {sides}; strength: {strengths})."
    )
    if (conditions["arm"] == "matched").any():
        text += (
            f" For every unilateral face, a symmetric control (matched) weakens both halves equally such that {rule} "
            "equals that of the unilateral face."
        )
    return (
        text
        + _asked_for(conditions, design)
        + _folds(conditions, resolved)
        + (
            " All arms of a unit share identity, pose, camera, light, skin, background and one crop for each classifier. "
            f"Of {f.plural(len(conditions), 'condition')}, {f.count(failed) if failed else 'none'} failed."
        )
    )


def _asked_for(conditions: pd.DataFrame, design: Mapping[str, Any]) -> str:
    """The further controls and sweeps, where the run has them."""
    arms, text = set(conditions["arm"]), ""
    if "placebo" in arms:
        mean = ""
        if "head_turn" in conditions:
            turn = conditions.loc[conditions["arm"] == "placebo", "head_turn"].abs().mean()
            mean = f" ({f.number(turn, 1)}° on average)"
        text += (
            f" A placebo turns the head towards the weakened side{mean} such that the mean displacement of the skin’s "
            "vertices equals that of the unilateral edit, without any change of expression."
        )
    if "unilateral_droop" in arms:
        text += (
            f" A further arm adds a droop of the weak side at rest ({f.strength_text(design.get('rest_droop'))} of a full "
            "one, times the strength); it enters no other contrast."
        )
    if any(str(a).startswith("matched_") for a in arms):
        text += " At the largest strength the control was also matched by the other two rules (sensitivity analysis)."
    swept = [(k, design.get(k)) for k in ("yaw", "pitch", "light", "skin") if design.get(k)]
    if swept:
        told = f.join_words(f"{k} ({', '.join(f'{v:g}°' if isinstance(v, float | int) else f.clean(v) for v in vs)})"
                            for k, vs in swept if isinstance(vs, Sequence))  # fmt: skip
        text += f" Sampled people were rendered once for every combination of {told}, everything else equal; pairs stay within."
    return text


def _folds(conditions: pd.DataFrame, resolved: Mapping[str, Any]) -> str:
    """What became of the skin's folds: they are part of what an edit does to a picture, and no part of the mesh."""
    sources, depth = set(conditions["source"].astype(str)), resolved.get("furrows")
    text = ""
    if "sampled" in sources and isinstance(depth, int | float):
        drawn = f"drawn with the furrows of the expression (depth {depth:g})" if depth else "left without furrows"
        text += f" Sampled people’s skin was {drawn}."
    if "photo" in sources and "furrows" in resolved:
        text += " In photos the folds of the skin were flattened with the expression that had made them."
    return text


def _statistics(options: AnalysisOptions) -> str:
    others = [TESTS[t] for t in options.tests if t != options.primary_test]
    beside = f" The {f.join_words(others)} are given beside it in effects.csv." if others else ""
    level, bound = f.number(100 * options.confidence, 0), options.sesoi[options.primary_outcome]
    return (
        f"The outcome is {OUTCOMES[options.primary_outcome]}. Contrasts are TE = y(unilateral) − y(baseline), IE = "
        "y(matched) − y(baseline) and AE = y(unilateral) − y(matched), so that TE = IE + AE. They were averaged within "
        "a subject over emotions and sides before anything was tested: the subject is the unit of inference. Photos "
        f"and sampled people were analysed apart. Each hypothesis was tested with a two-sided "
        f"{TESTS[options.primary_test]} (α = {options.alpha:g}); TE and AE of all classifiers of a source, at the "
        f"primary strength, were corrected as one family with {_CORRECTIONS[options.correction]}.{beside} Intervals "
        f"are {level} % {_INTERVALS[options.interval]} intervals from {f.count(options.bootstrap)} resamples of "
        f"subjects; permutation tests that are not exact used {f.count(options.permutations)} sign flips; the effect "
        "size is dz, the mean over the standard deviation of the subjects’ differences. An effect counts as "
        f"equivalent to none if two one-sided tests place it within ±{bound:g} of zero; otherwise it counts as found "
        "if it is significant and no smaller than the null error, that is, than what rendering alone changes. Random "
        f"seed of the analysis: {options.seed}."
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
