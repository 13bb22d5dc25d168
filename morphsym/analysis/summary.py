"""The machine-readable summary: what was asked, by which rules, and the answer."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import scipy
import statsmodels

from .frames import Targets
from .pairing import Pairs
from .records import AnalysisOptions
from .verdicts import RULES, k_of_n


def plain(value: Any) -> Any:
    """``value`` as json can hold it: NaN and infinities become None, numpy scalars Python's."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def summarise(
    effects: pd.DataFrame,
    verdict_table: pd.DataFrame,
    left_out: pd.DataFrame,
    pairs: Pairs,
    targets: Targets,
    primary: dict[str, dict[str, Any]],
    options: AnalysisOptions,
) -> dict[str, Any]:
    """A dictionary that ``json.dumps(…, allow_nan=False)`` takes."""
    sources: dict[str, Any] = {}
    for source in sorted(pairs.designed):
        mine, p = pairs.edited[pairs.edited["source"] == source], primary[source]
        rules = RULES.format(
            outcome=options.primary_outcome, strength=f"{p['strength']:g}", region=p["region"], alpha=options.alpha,
            sesoi=options.sesoi[options.primary_outcome], test=options.primary_test, correction=options.correction,
        )  # fmt: skip
        units = pairs.units[pairs.units["source"] == source]
        sources[source] = {
            **k_of_n(verdict_table, source),
            "n_subjects": units["subject"].nunique(),
            "n_units": len(units),
            "emotions": sorted(units["emotion"].unique()),
            "sides": sorted(mine["side"].unique()),
            "strengths": sorted(map(float, mine["strength"].unique())),
            "regions": sorted(mine["region"].unique()),
            "arms": sorted(pairs.designed[source]),
            "primary": p,
            "rules": rules,
            "verdicts": verdict_table[verdict_table["source"] == source].to_dict("records"),
        }
    tested = effects[effects["test"] != "none"]
    families = {str(name): {"n_tests": int(g["p_value"].notna().sum())} for name, g in tested.groupby("family")}
    reasons = left_out.groupby("reason", sort=False)["count"].sum().sort_values(ascending=False)
    out = {
        "question": "Does the classifier react to the symmetry of a face, and how strongly?",
        "answer": [sources[s]["sentence"] for s in sources],
        "sources": sources,
        "classifiers": list(targets.classifiers),
        "conditions": {
            "total": len(targets.conditions),
            "failed": int((targets.conditions["status"] == "failed").sum()),
        },
        "exclusions": {"rows": len(left_out), "reasons": {str(k): int(v) for k, v in reasons.head(20).items()}},
        "families": families,
        "correction": f"{options.correction} within each family; a family is one source, outcome and test",
        "options": asdict(options),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "scipy": scipy.__version__,
            "statsmodels": statsmodels.__version__,
        },
    }
    return plain(out)
