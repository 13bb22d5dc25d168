"""Beyond the headline: for whom it holds, whether it hangs on how it was made, and whether real photos agree.

Rows for the page's tables, looked up in the analysis; nothing is computed again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pandas as pd

from ..analysis import Analysis
from . import formatting as f
from .figures import pooled_row
from .view import Estimate, SourceView, select

MOST_ROWS = 40
"""Of the table of differences between people; all are in heterogeneity.csv."""

NAMES = {
    "emotion": "emotion", "sex": "sex", "age": "age", "ancestry": "ancestry", "fitzpatrick": "skin type",
    "weight": "weight", "muscle": "muscle", "yaw": "pose (yaw)", "pitch": "pose (pitch)", "roll": "pose (roll)",
    "light": "light", "skin": "skin type (swept)", "cohort": "cohort",
}  # fmt: skip
TESTS = {
    "kruskal_wallis": "Kruskal–Wallis", "spearman": "Spearman", "friedman": "Friedman, within people",
    "wilcoxon": "Wilcoxon, within people",
}  # fmt: skip
RULES = {"mesh": "skin displacement", "coefficients": "sum of coefficients", "landmarks": "landmark displacement"}


@dataclass(frozen=True)
class Control:
    """One classifier's response to an edit that is not the question: the placebo, or the droop at rest."""

    label: str
    te: Estimate | None
    placebo: Estimate | None
    droop: Estimate | None


@dataclass(frozen=True)
class Beyond:
    """Everything that stands beyond the headline of one source."""

    people: list[dict[str, str]] = field(default_factory=list)
    people_text: str = ""
    controls: list[Control] = field(default_factory=list)
    has_placebo: bool = False
    has_droop: bool = False
    matching: list[dict[str, str]] = field(default_factory=list)
    matching_text: str = ""
    mixed_text: str = ""
    photos: list[dict[str, str]] = field(default_factory=list)
    photos_text: str = ""

    @property
    def any_robust(self) -> bool:
        return bool(self.controls or self.matching or self.mixed_text)


def beyond(analysis: Analysis, view: SourceView) -> Beyond:
    """The rows of one source; empty lists where the run has nothing to say of it."""
    people, people_text = _people(analysis, view)
    controls = _controls(analysis, view)
    matching, matching_text = _matching(analysis, view)
    photos, photos_text = _photos(analysis, view)
    return Beyond(
        people, people_text, controls, any(c.placebo for c in controls), any(c.droop for c in controls),
        matching, matching_text, _mixed(analysis, view), photos, photos_text,
    )  # fmt: skip


def _labels(view: SourceView) -> dict[str, str]:
    return {c.name: c.label for c in view.classifiers}


def _people(analysis: Analysis, view: SourceView) -> tuple[list[dict[str, str]], str]:
    table = select(analysis.heterogeneity, source=view.source)
    if table.empty:
        return [], ""
    tests = table[table["p_value"].notna()]
    if tests.empty:
        notes = [n for n in dict.fromkeys(table["note"].map(f.clean)) if n]
        return [], f"No comparison could be made: {f.join_words(notes[:3])}." if notes else ""
    alpha = analysis.options.alpha
    found = tests[tests["p_adjusted"] < alpha]
    swept = tests[tests["test"].isin(["wilcoxon", "friedman"]) & (tests["attribute"] != "emotion")]
    shown = pd.concat([found, swept]).drop_duplicates().sort_values("p_adjusted", kind="stable").head(MOST_ROWS)
    names, digits = _labels(view), 2 if view.outcome == "logit" else 3
    rows = []
    for r in shown.to_dict("records"):
        levels = select(table, classifier=r["classifier"], contrast=r["contrast"], attribute=r["attribute"])
        levels = levels[(levels["level"] != "") & levels["estimate"].notna()]
        if len(levels):
            told = ", ".join(f"{_level(x.level)}: {f.number(x.estimate, digits)}" for x in levels.itertuples())
        else:
            told = f"rank correlation {f.number(r['estimate'])}"
        rows.append(
            {
                "classifier": names.get(str(r["classifier"]), f.clean(r["classifier"], 60)),
                "effect": f.clean(r["contrast"]),
                "by": NAMES.get(str(r["attribute"]), f.clean(r["attribute"])),
                "levels": told,
                "test": TESTS.get(str(r["test"]), f.clean(r["test"])),
                "p": f.p_cell(r["p_adjusted"]),
            }
        )
    looked = f.join_words(NAMES.get(a, f.clean(a)) for a in dict.fromkeys(tests["attribute"]))
    text = (
        f"{f.plural(len(tests), 'comparison')} of TE and AE between people, or within people between conditions, by {looked}: "
        f"{f.count(len(found)) if len(found) else 'none'} below {alpha:g} after Holm’s correction."
    )
    if len(shown) < len(found):
        text += f" The first {MOST_ROWS} are shown."
    return rows, text + " All are in heterogeneity.csv."


def _level(name: object) -> str:
    """A level as a person reads it: numbers with a true minus sign."""
    text = f.clean(name)
    return f.MINUS + text[1:] if re.fullmatch(r"-\d+(\.\d+)?", text) else text


def _controls(analysis: Analysis, view: SourceView) -> list[Control]:
    rows = []
    for c in view.classifiers:
        placebo, droop = (pooled_row(analysis, view, c.name, k) for k in ("placebo", "droop"))
        if placebo is not None or droop is not None:
            rows.append(Control(c.label, c.parts.get("TE"), placebo, droop))
    return rows


def _matching(analysis: Analysis, view: SourceView) -> tuple[list[dict[str, str]], str]:
    table = select(analysis.matching, source=view.source)
    if table.empty:
        return [], ""
    names, digits = _labels(view), 2 if view.outcome == "logit" else 3
    words = {"equivalent": "no effect", "untested": "not tested"}
    rows = [
        {
            "classifier": names.get(str(r["classifier"]), f.clean(r["classifier"], 60)),
            "rule": RULES.get(str(r["rule"]), "given") + (" (this run’s)" if r["given"] else ""),
            "ie": f.number(r["IE"], digits),
            "ae": f.number(r["AE"], digits),
            "ci": f.interval(r["AE_low"], r["AE_high"], digits),
            "p": f.p_cell(r["p_adjusted"]),
            "verdict": words.get(str(r["verdict"]), f.clean(r["verdict"])),
        }
        for r in table.to_dict("records")
    ]
    each = table.drop_duplicates("classifier")
    agree = int(each["agree"].sum())
    between = f.number(each["AE_range"].max(), digits)
    if not view.tested:
        return rows, f"Between the three rules AE differs by up to {between}. TE does not depend on the rule."
    return rows, (
        f"The verdict on asymmetry is the same under all three rules for {agree} of {f.plural(len(each), 'classifier')}; "
        f"between the rules AE differs by up to {between} (strength "
        f"{f.strength_text(table['strength'].iloc[0])}). TE does not depend on the rule."
    )


def _mixed(analysis: Analysis, view: SourceView) -> str:
    table = select(analysis.mixed, source=view.source)
    fitted = table[table["estimate"].notna()] if len(table) else table
    if fitted.empty:
        return ""
    agree = int(fitted["agrees"].eq(True).sum())
    return (
        f"Cross-check: linear mixed models with a random intercept for each subject give the same TE and AE within one "
        f"standard error in {agree} of {f.plural(len(fitted), 'model')} (mixed_models.csv)."
    )


def _photos(analysis: Analysis, view: SourceView) -> tuple[list[dict[str, str]], str]:
    table = analysis.association
    if view.source != "photo" or table.empty:
        return [], ""
    pooled = table[(table["emotion"] == "all") & table["test"].isin(["permutation", "none"])]
    names = _labels(view)
    done = pooled[pooled["r"].notna()]
    if done.empty:
        notes = f.join_words(dict.fromkeys(f.clean(n) for n in pooled["note"] if n))
        return [], f"The association could not be computed: {notes}." if notes else ""
    words = {"yes": "congruent", "no": "opposite", "": "not established"}
    rows = [
        {
            "classifier": names.get(str(r["classifier"]), f.clean(r["classifier"], 60)),
            "r": f.number(r["r"]),
            "ci": f.interval(r["ci_low"], r["ci_high"]),
            "n": f.count(r["n_subjects"]),
            "p": f.p_cell(r["p_adjusted"]),
            "synthetic": f.number(r["synthetic"]),
            "congruent": words.get(str(r["congruent"]), f.MISSING),
            "note": f.clean(r["note"]),
        }
        for r in pooled.to_dict("records")
    ]
    first = done.iloc[0]
    held = f.clean(first["covariates"]).replace("_", " ") or "nothing else"
    return rows, (
        f"In the untouched photos nobody intervened, so this is an association: the partial rank correlation of the "
        f"asymmetry measured on the fitted faces with the output, with {held} held, within strata of "
        f"{f.clean(first['strata'])}; p from permutations within the strata. Negative: more asymmetric faces get a lower "
        "output. ‘Congruent’: both this and the synthetic AE are established, and have the same sign."
    )
