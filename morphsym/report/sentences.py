"""The words of the report, with the numbers filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..analysis import AnalysisOptions
from . import formatting as f
from .view import SourceView

QUESTION = "Does a facial-expression classifier react to the symmetry of a face, and how strongly?"

VERDICT_WORDS = {
    "lowers": ("▼", "lowers"),
    "raises": ("▲", "raises"),
    "equivalent": ("=", "no effect"),
    "inconclusive": ("?", "inconclusive"),
    "untested": ("·", "not tested"),
}

TERMS = (
    ("Baseline", "the factual face, rendered; every effect is a change from it."),
    ("Unilateral", "one half’s expression is weakened, as by facial palsy; strength 0 leaves it, 1 takes it away."),
    ("Matched", "both halves are weakened equally: as much expression is left as in the unilateral face, symmetrically."),
    ("Centred logit", "the logit of the shown emotion minus the mean of all logits: comparable between classifiers."),
    ("TE, total effect", "unilateral minus baseline: what losing one half’s expression does altogether."),
    ("IE, intensity part", "matched minus baseline: what losing that much expression does without any asymmetry."),
    ("AE, asymmetry part", "unilateral minus matched: what the asymmetry itself does. TE = IE + AE exactly."),
    ("Sign", "negative means that the output falls as symmetry falls."),
    ("Left, right", "the subject’s own sides; the subject’s left is on the right of a frontal picture."),
)  # fmt: skip

_TESTS = {
    "wilcoxon": "Wilcoxon signed-rank test",
    "paired_t": "paired t test",
    "sign_flip": "sign-flip permutation test",
    "sign": "sign test",
}
_CORRECTIONS = {"holm": "Holm’s procedure", "fdr_bh": "the Benjamini–Hochberg procedure"}
_INTERVALS = {"bca": "bias-corrected and accelerated (BCa) bootstrap", "percentile": "percentile bootstrap"}
_OUTCOMES = {"logit": "the centred logit of the shown emotion", "probability": "the probability of the shown emotion"}


def answer(view: SourceView) -> list[str]:
    """The answer of one source in two to four sentences."""
    n = len(view.classifiers)
    if n == 0:
        return ["Nothing could be compared: see what was excluded, and why."]
    where = "when one half of the face loses its expression"
    if not view.tested:
        return _untested(view, where)
    lower = view.count("total", "lowers")
    sentences = [
        f"{lower} of {f.plural(n, 'classifier')} {_verb(lower, n, 'lower')} {_its(n)} output "
        f"{where}{_rest(view, 'total')}."
    ]
    sentences += _split(view)
    if any("AE" in c.parts for c in view.classifiers):
        lower = view.count("asymmetry", "lowers")
        sentences.append(
            f"With the amount of expression held equal, asymmetry alone lowers the output of {lower} of "
            f"{f.plural(n, 'classifier')}{_rest(view, 'asymmetry')}."
        )
    return sentences


def _untested(view: SourceView, where: str) -> list[str]:
    values = [c.parts["TE"].value for c in view.classifiers if "TE" in c.parts and math.isfinite(c.parts["TE"].value)]
    if not values:
        return ["No pair of pictures was left to compare: see what was excluded, and why."]
    lower = sum(v < 0 for v in values)
    strength = f.strength_text(view.strength)
    first = f"The output of {lower} of {f.plural(len(values), 'classifier')} is lower {where} (strength {strength})."
    if view.n_subjects == 1:
        who = "One photo is one person" if view.source == "photo" else "One sampled person"
        return [first, *_split(view), f"{who}: an illustration with its numbers, for which no test is claimed."]
    return [first, *_split(view), "No test could be made; the table below says why."]


def _split(view: SourceView) -> list[str]:
    te, ie, ae = (view.average(p) for p in ("TE", "IE", "AE"))
    if not (math.isfinite(te) and math.isfinite(ie) and math.isfinite(ae)):
        return []
    digits = 2 if view.outcome == "logit" else 3
    over = "On average over the classifiers, " if len(view.classifiers) > 1 else ""
    noun = _OUTCOMES[view.outcome]
    shares = abs(te) > 1e-9 and ie * te >= 0 and ae * te >= 0
    begin = f"{over}{noun} changes by {f.number(te, digits)} at strength {f.strength_text(view.strength)}"
    begin = begin[:1].upper() + begin[1:]
    if shares:
        return [
            f"{begin}: {f.number(ie, digits)} of it ({f.percent(ie / te)}) is lost intensity and "
            f"{f.number(ae, digits)} ({f.percent(ae / te)}) is asymmetry."
        ]
    return [
        f"{begin}: {f.number(ie, digits)} through lost intensity and {f.number(ae, digits)} through asymmetry; "
        f"the two pull in opposite directions."
    ]


def _rest(view: SourceView, kind: str) -> str:
    words = {
        "raises": "{} {} it",
        "equivalent": "{} without an effect of interest",
        "inconclusive": "{} inconclusive",
        "untested": "{} not tested",
    }
    parts = []
    for verdict, text in words.items():
        k = view.count(kind, verdict)
        if k:
            parts.append(text.format(k, "raises" if k == 1 else "raise") if verdict == "raises" else text.format(k))
    return f" ({', '.join(parts)})" if parts else ""


def _verb(k: int, n: int, verb: str) -> str:
    return verb + "s" if n == 1 or k == 1 else verb


def _its(n: int) -> str:
    return "its" if n == 1 else "their"


def methods(
    views: list[SourceView],
    options: AnalysisOptions,
    conditions: pd.DataFrame,
    manifest: Mapping[str, Any],
    version: str,
) -> list[str]:
    """The methods section: paragraphs that can go into a paper as they are."""
    resolved = _mapping(_mapping(manifest.get("spec")).get("resolved"))
    design = _mapping(resolved.get("design"))
    names = list(dict.fromkeys(c.name for v in views for c in v.classifiers))
    model = f.clean(_mapping(manifest.get("model")).get("name") or resolved.get("model"))
    rule = {
        "mesh": "the summed displacement of the skin’s vertices from rest",
        "landmarks": "the summed displacement of the 68 landmarks from rest",
        "coefficients": "the sum of the absolute expression coefficients",
    }.get(str(design.get("matched_by") or "mesh"), "the total expression")
    who = f.join_words(
        f"{v.people} with {f.join_words(v.emotions)} ({f.plural(v.n_units, 'unit')})" for v in views if v.n_units
    )
    arms = set(conditions["arm"])
    failed = int((conditions["status"] != "ok").sum())
    regions = sorted(set(conditions.loc[conditions["arm"] == "unilateral", "region"].astype(str)))
    sides = f.join_words(dict.fromkeys(s for v in views for s in v.sides))
    strengths = f.join_words(f.strength_text(s) for s in sorted({s for v in views for s in v.strengths}))
    muscles = "the muscles of the facial nerve" if regions in ([], ["all"]) else f"the region {f.join_words(regions)}"
    first = (
        f"The causal effect of reduced facial symmetry on {f.plural(len(names), 'facial-expression classifier')} "
        f"({f.join_words(f.clean(n, 60) for n in names)}) was estimated with morphsym {version}, following the "
        "synthetic "
        f"interventions of Büchner et al. (2024). Subjects were {who}; a unit is one subject with one expression. "
        f"Each unit was rendered{f' with the 3D morphable model {model}' if model else ''} as a factual face "
        "(baseline) and with the "
        f"expression of {muscles} weakened on one half (unilateral; side: {sides or 'none'}; strength: "
        f"{strengths or 'none'})."
    )
    if "matched" in arms:
        first += (
            f" For every unilateral face, a symmetric control (matched) weakens both halves equally such that {rule} "
            "equals that "
            "of the unilateral face."
        )
    first += (
        " All arms of a unit share identity, pose, camera, light, skin, background and one crop for each classifier. "
        f"Of {f.plural(len(conditions), 'condition')}, {f.count(failed) if failed else 'none'} failed."
    )
    outcome = _OUTCOMES[options.primary_outcome]
    others = [_TESTS[t] for t in options.tests if t != options.primary_test]
    second = (
        f"The outcome is {outcome}. Contrasts are TE = y(unilateral) − y(baseline), IE = y(matched) − y(baseline) and "
        "AE = y(unilateral) − y(matched), so that TE = IE + AE. They were averaged within a subject over emotions and "
        "sides "
        "before anything was tested: the subject is the unit of inference. Photos and sampled people were analysed "
        "apart. "
        f"Each hypothesis was tested with a two-sided {_TESTS[options.primary_test]} (α = {options.alpha:g}), and TE "
        "and AE of "
        "all classifiers of a source, at the primary strength, were corrected as one family with "
        f"{_CORRECTIONS[options.correction]}."
    )
    if others:
        second += f" The {f.join_words(others)} are given beside it in effects.csv."
    bound = options.sesoi.get(options.primary_outcome)
    second += (
        f" Intervals are {f.number(100 * options.confidence, 0)} % {_INTERVALS[options.interval]} intervals from "
        f"{f.count(options.bootstrap)} resamples of subjects; Monte Carlo permutation tests used "
        f"{f.count(options.permutations)} "
        "sign flips; the effect size is dz, the mean over the standard deviation of the subjects’ differences."
    )
    if bound:
        second += (
            f" An effect counts as equivalent to none if two one-sided tests place it within ±{bound:g} of zero, and "
            "as not "
            "found if it is smaller than the null error, that is, than what rendering alone changes."
        )
    second += f" Random seed of the analysis: {options.seed}."
    return [first, second]


LIMITS = (
    "What is claimed rests on the face model: it weakens expression as coefficients of a 3D morphable model, which "
    "resembles facial palsy but lacks its droop at rest and its synkinesis.",
    "The asymmetry part is defined by the rule by which the control is matched; another measure of ‘equal intensity’ "
    "moves "
    "the border between IE and AE, never their sum.",
    "A test over sampled people speaks for the population that the face model samples from, and a test over photos for "
    "people like those in the photos.",
)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
