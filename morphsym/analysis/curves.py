"""Views of the cells for figures: dose–response curves, and TE, IE, AE side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

EFFECTS = ("TE", "IE", "AE")


def dose_response(base: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Estimates by strength, with what the edit realised on the mesh (mean over the cell's unilateral conditions)."""
    table = base[base["contrast"].isin(EFFECTS) & base["estimate"].notna()].copy()
    done = conditions[(conditions["arm"] == "unilateral") & (conditions["status"] == "ok")]
    for column in ("realised_asymmetry", "realised_intensity"):
        if column not in done.columns:
            table[column] = np.nan
            continue
        known: dict[tuple[Any, ...], float] = {}
        for over in ((), ("side",), ("emotion",), ("emotion", "side")):
            label = done[["source", "side", "strength", "region"]].assign(emotion=done["expression"])
            if "side" in over:
                label = label[label["side"].isin(["left", "right"])].assign(side="both")
            if "emotion" in over:
                label = label.assign(emotion="all")
            keys = [label[c].astype(object) for c in ("source", "emotion", "side", "strength", "region")]
            for key, value in done.loc[label.index, column].astype(float).groupby(keys).mean().items():
                known[(*key, "+".join(sorted(over)))] = float(value)  # type: ignore[misc]
        cell = table[["source", "emotion", "side", "strength", "region", "pooled"]]
        table[column] = [known.get(tuple(r), np.nan) for r in cell.itertuples(index=False)]
    columns = ["source", "classifier", "emotion", "side", "region", "outcome", "contrast", "strength",
               "realised_asymmetry", "realised_intensity", "estimate", "ci_low", "ci_high", "n_subjects", "n_units",
               "pooled"]  # fmt: skip
    return table[columns].sort_values(columns[:8]).reset_index(drop=True)


def decomposition(base: pd.DataFrame) -> pd.DataFrame:
    """TE, IE and AE side by side; the share AE / TE only where TE's interval does not hold zero."""
    key = ["source", "classifier", "emotion", "side", "strength", "region", "outcome", "pooled"]
    table = base[base["contrast"].isin(EFFECTS) & base["estimate"].notna()]
    out: pd.DataFrame | None = None
    for contrast in EFFECTS:
        part = table[table["contrast"] == contrast].rename(
            columns={"estimate": contrast, "ci_low": f"{contrast}_low", "ci_high": f"{contrast}_high"}
        )
        part = part[[*key, contrast, f"{contrast}_low", f"{contrast}_high", "n_subjects"]]
        out = part if out is None else out.merge(part, on=[*key, "n_subjects"], how="outer")
    assert out is not None
    clear = (out["TE_low"] > 0) | (out["TE_high"] < 0)
    out["asymmetry_share"] = (out["AE"] / out["TE"]).where(clear)
    return out.sort_values(key).reset_index(drop=True)
