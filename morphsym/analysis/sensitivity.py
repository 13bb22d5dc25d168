"""Does the answer hang on how `matched` was matched?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..errors import UsageError
from .corrections import adjust
from .records import Analysis, AnalysisOptions
from .verdicts import state

MATCHING_RULES = ("mesh", "coefficients", "landmarks")
"""Mesh displacement (the default), sum of coefficients, displacement of the 68 landmarks."""


def matching_sensitivity(analyses: Mapping[str, Analysis]) -> pd.DataFrame:
    """The primary IE and AE under each rule by which ``matched`` was matched; ``analyses`` by rule, of the same units.

    TE does not depend on the rule, and must be equal: else the runs are not comparable (:class:`UsageError`). One row a
    source × classifier × rule: source, classifier, rule, TE, IE, IE_low, IE_high, AE, AE_low, AE_high, p_adjusted,
    verdict (of the asymmetry), asymmetry_share, and on every row of a classifier: agree (all rules give the same
    verdict), AE_range (largest minus smallest).
    """
    if len(analyses) < 2:
        raise UsageError(f"a sensitivity table needs at least two matching rules; got {', '.join(analyses) or 'none'}")
    rows = []
    for rule, analysis in analyses.items():
        e = analysis.effects
        e = e[e["primary"] & e["test"].isin((analysis.options.primary_test, "none"))]
        for (source, classifier), group in e.groupby(["source", "classifier"], sort=False):
            table = analysis.verdicts
            said = table[(table["source"] == source) & (table["classifier"] == classifier)].iloc[0]
            by = group.set_index("contrast")
            row: dict[str, object] = {"source": source, "classifier": classifier, "rule": rule}
            for contrast in ("TE", "IE", "AE"):
                there = contrast in by.index
                row[contrast] = by.loc[contrast, "estimate"] if there else np.nan
                if contrast != "TE":
                    row[f"{contrast}_low"] = by.loc[contrast, "ci_low"] if there else np.nan
                    row[f"{contrast}_high"] = by.loc[contrast, "ci_high"] if there else np.nan
            row["p_adjusted"] = by.loc["AE", "p_adjusted"] if "AE" in by.index else np.nan
            row["verdict"] = said["asymmetry"]
            row["asymmetry_share"] = said["asymmetry_share"]
            rows.append(row)
    out = pd.DataFrame(rows)
    groups = out.groupby(["source", "classifier"], sort=False)
    spread = groups["TE"].transform(lambda x: x.max() - x.min())
    if (spread > 1e-4).any():
        bad = out[spread > 1e-4].iloc[0]
        raise UsageError(
            f"the total effect of {bad['classifier']!r} differs between the matching rules by {spread.max():.3g}; "
            "it cannot depend on them, so these are not the same units: run all rules with one seed and design"
        )
    out["agree"] = groups["verdict"].transform("nunique") == 1
    out["AE_range"] = groups["AE"].transform(lambda x: x.max() - x.min())
    return out.sort_values(["source", "classifier"], kind="stable").reset_index(drop=True)


COLUMNS = (
    "source", "classifier", "rule", "given", "strength", "TE", "IE", "IE_low", "IE_high", "AE", "AE_low", "AE_high",
    "p_adjusted", "verdict", "asymmetry_share", "agree", "AE_range", "n_subjects",
)  # fmt: skip


def rule_sensitivity(effects: pd.DataFrame, options: AnalysisOptions) -> pd.DataFrame:
    """IE and AE of one run under the rules by which ``matched`` can be matched (``Design(matched_sensitivity=True)``).

    One row a source × classifier × rule, at the primary cell but for the strength, which is the largest: there the run
    has all controls. ``given`` marks the rule of the run's own ``matched`` arm. Verdicts are by the rules of the primary
    ones, each rule with a family of its own (TE and AE of every classifier). ``agree``: all rules give the same
    verdict; ``AE_range``: largest minus smallest AE. Empty where the run has one control.
    """
    others = [r for r in MATCHING_RULES if (effects["contrast"] == f"AE_{r}").any()]
    primary = effects[effects["primary"] & (effects["contrast"] == "TE")]
    if not others or primary.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    given = [r for r in MATCHING_RULES if r not in others]
    rows: list[dict[str, object]] = []
    for source, cell in primary.drop_duplicates("source").set_index("source").iterrows():
        mine = effects[(effects["source"] == source) & (effects["outcome"] == options.primary_outcome)]
        for column in ("region", "side", "pooled", "emotion"):
            mine = mine[mine[column] == cell[column]]
        mine = mine[mine["strength"] == mine.loc[mine["contrast"] == f"AE_{others[0]}", "strength"].max()]
        for rule in (*(given[:1] if len(given) == 1 else ["given"]), *others):
            rows += _rule(mine, str(source), rule, "" if rule not in others else f"_{rule}", options)
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    groups = out.groupby(["source", "classifier"], sort=False)
    out["agree"] = groups["verdict"].transform("nunique") == 1
    out["AE_range"] = groups["AE"].transform(lambda x: x.max() - x.min())
    return out.sort_values(["source", "classifier"], kind="stable").reset_index(drop=True)


def _rule(
    cells: pd.DataFrame, source: str, rule: str, suffix: str, options: AnalysisOptions
) -> list[dict[str, object]]:
    """The rows of one rule: TE, IE and AE of every classifier, with AE corrected in the family {TE, AE} × classifier."""
    tested = cells[cells["test"].isin((options.primary_test, "none"))]
    names = {c: f"{c}{suffix}" for c in ("IE", "AE")} | {"TE": "TE"}
    by = {
        c: tested[tested["contrast"] == n].drop_duplicates("classifier").set_index("classifier")
        for c, n in names.items()
    }
    tost = {
        c: cells[(cells["contrast"] == n) & (cells["test"] == "tost")].set_index("classifier") for c, n in names.items()
    }

    def corrected(tables: dict[str, pd.DataFrame], method: str) -> dict[str, float]:
        p = pd.concat([tables[c]["p_value"].astype(float) for c in ("TE", "AE")], keys=("TE", "AE"))
        done = adjust(p.to_numpy(), pd.Series([""] * len(p)), method)
        return {str(name): float(v) for (part, name), v in zip(p.index, done) if part == "AE"}

    p, q = corrected(by, options.correction), corrected(tost, "holm")
    out: list[dict[str, object]] = []
    parts = {c: t.to_dict("index") for c, t in by.items()}
    for name, total in parts["TE"].items():
        row: dict[str, object] = {"source": source, "classifier": name, "rule": rule, "given": not suffix,
                                  "strength": total["strength"], "TE": total["estimate"]}  # fmt: skip
        for c in ("IE", "AE"):
            if name in parts[c]:
                r = parts[c][name]
                row |= {c: r["estimate"], f"{c}_low": r["ci_low"], f"{c}_high": r["ci_high"]}
        if name in parts["AE"]:
            r = parts["AE"][name] | {"p_adjusted": p.get(str(name), np.nan)}
            row |= {"p_adjusted": r["p_adjusted"], "n_subjects": r["n_subjects"]}
            row["verdict"] = state(pd.Series(r), q.get(str(name), np.nan), options.alpha)
            clear = total["ci_low"] > 0 or total["ci_high"] < 0
            row["asymmetry_share"] = r["estimate"] / total["estimate"] if clear else np.nan
        out.append(row)
    return out
