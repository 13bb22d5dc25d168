"""The words of the report, with the numbers filled in."""

from __future__ import annotations

import math

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

TESTS = {
    "wilcoxon": "Wilcoxon signed-rank test",
    "paired_t": "paired t test",
    "sign_flip": "sign-flip permutation test",
    "sign": "sign test",
}
OUTCOMES = {"logit": "the centred logit of the shown emotion", "probability": "the probability of the shown emotion"}


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


def power(view: SourceView, options: AnalysisOptions) -> str:
    """A warning where so few subjects cannot give a significant result, whatever the effect; '' otherwise."""
    if not view.tested or options.primary_test not in ("wilcoxon", "sign_flip", "sign"):
        return ""
    least = 2.0 ** (1 - view.n_subjects)  # all signs equal: the smallest two-sided p of these tests
    family = 2 * len(view.classifiers)
    adjusted = min(1.0, least * family)  # Holm's first step; Benjamini and Hochberg can do better only together
    if options.correction != "holm" or adjusted < options.alpha:
        return ""
    people, test = f.plural(view.n_subjects, "subject"), TESTS[options.primary_test]
    return (
        f"With {people}, the smallest p that the {test} can give is {f.p_cell(least)}, or {f.p_cell(adjusted)} after "
        f"correction for {family} hypotheses: whatever the effect, nothing can be established. More people are needed."
    )


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
    noun = OUTCOMES[view.outcome]
    shares = abs(te) > 1e-9 and ie * te >= 0 and ae * te >= 0
    begin = f"{over}{noun} changes by {f.number(te, digits)} at strength {f.strength_text(view.strength)}"
    begin = begin[:1].upper() + begin[1:]
    if shares:
        return [
            f"{begin}: {f.number(ie, digits)} of it ({f.percent(ie / te)}) is lost intensity and "
            f"{f.number(ae, digits)} ({f.percent(ae / te)}) is asymmetry."
        ]
    return [
        f"{begin}: {f.number(ie, digits)} through lost intensity and {f.number(ae, digits)} through asymmetry, which "
        "differ in sign, so that neither is a share of the total."
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
