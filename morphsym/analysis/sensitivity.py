"""Does the answer hang on how `matched` was matched?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..errors import UsageError
from .records import Analysis

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
