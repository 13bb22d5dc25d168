"""Manipulation checks in numbers: did the edit do what it says, and only that?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..errors import MorphsymError

MATCH = 0.05  # tolerated relative difference of the realised intensities of matched and unilateral (mean over units)
RULES = (
    "unilateral: more asymmetry than the baseline, on average and in at least half of the units",
    "matched: at most a fifth of the asymmetry that unilateral adds",
    f"matched: the intensity of unilateral within {MATCH:.0%}",
    "null: the asymmetry and intensity of the photo as fitted, of a sampled person's baseline",
    "placebo: the baseline's asymmetry and intensity, and as much displacement as unilateral within 1 %",
)


def manipulation(conditions: pd.DataFrame) -> pd.DataFrame:
    """What each arm realised on the mesh, by source × arm × side × strength × region.

    Columns: the key, n_units, asymmetry, intensity (means), asymmetry_change, intensity_change (means of the paired
    differences from the baseline), share_more_asymmetric, displacement (mm from the baseline's mesh), mirror_ssim_change
    (of the face's similarity with its mirror image in the picture), image_change (from the baseline's picture; the last
    three NaN where they are not recorded), check ('ok', 'failed', or '' where no rule applies), note.
    Empty where ``realised_asymmetry`` and ``realised_intensity`` are not recorded.
    """
    key = ["source", "arm", "side", "strength", "region"]
    columns = [*key, "n_units", "asymmetry", "intensity", "asymmetry_change", "intensity_change",
               "share_more_asymmetric", "displacement", "mirror_ssim_change", "image_change", "check",
               "note"]  # fmt: skip
    if not {"realised_asymmetry", "realised_intensity"} <= set(conditions.columns):
        return pd.DataFrame(columns=columns)
    ok = conditions[(conditions["status"] == "ok") & ~conditions["arm"].astype(str).str.startswith(("mirror", "orig"))]
    for column in ("displacement", "mirror_ssim", "image_change"):
        if column not in ok.columns:
            ok = ok.assign(**{column: np.nan})
    measured = ["realised_asymmetry", "realised_intensity", "mirror_ssim"]
    ok = ok.astype(dict.fromkeys((*measured, "displacement", "image_change"), float))
    base = ok[ok["arm"] == "baseline"].set_index("unit")[measured]
    change = ok.join(base.add_suffix("_baseline"), on="unit")
    # A photo's null arm is what the photo shows; its baseline is another face where the fit was symmetrized.
    shown = conditions[(conditions["status"] == "ok") & (conditions["arm"] == "original")].set_index("unit")
    for name in ("realised_asymmetry", "realised_intensity"):
        photo = change["unit"].map(shown[name].astype(float)).where(change["arm"] == "null")
        change[f"{name}_baseline"] = photo.fillna(change[f"{name}_baseline"])
    change["asymmetry_change"] = change["realised_asymmetry"] - change["realised_asymmetry_baseline"]
    change["intensity_change"] = change["realised_intensity"] - change["realised_intensity_baseline"]
    change["mirror_ssim_change"] = change["mirror_ssim"] - change["mirror_ssim_baseline"]
    change["more"] = (change["asymmetry_change"] > 0).where(change["asymmetry_change"].notna())
    groups = change.groupby(key, observed=True)
    out = groups.agg(
        n_units=("unit", "nunique"), asymmetry=("realised_asymmetry", "mean"), intensity=("realised_intensity", "mean"),
        asymmetry_change=("asymmetry_change", "mean"), intensity_change=("intensity_change", "mean"),
        share_more_asymmetric=("more", lambda x: float(x.astype(float).mean())),
        displacement=("displacement", "mean"), mirror_ssim_change=("mirror_ssim_change", "mean"),
        image_change=("image_change", "mean"),
    ).reset_index()  # fmt: skip
    arms = out.set_index(key)
    verdicts = [_check(row, arms) for row in out.itertuples(index=False)]
    out["check"], out["note"] = [v[0] for v in verdicts], [v[1] for v in verdicts]
    return out[columns]


def _check(row: Any, arms: pd.DataFrame) -> tuple[str, str]:
    """The rules of :data:`RULES`, for one row of the table."""
    if row.arm == "null":
        same = abs(row.asymmetry_change) < 1e-6 and abs(row.intensity_change) < 1e-6 * max(1.0, row.intensity)
        return ("ok", "") if same else ("failed", "the null edit moved the face")
    if row.arm == "unilateral" and row.strength > 0 and row.side in ("left", "right"):
        if row.share_more_asymmetric >= 0.5 and row.asymmetry_change > 0:
            return "ok", ""
        return "failed", (
            f"{row.share_more_asymmetric:.0%} of the units became more asymmetric (mean change {row.asymmetry_change:.3g})"
        )
    key = (row.source, "unilateral", row.side, row.strength, row.region)
    if row.arm == "placebo":
        notes = []
        if abs(row.asymmetry_change) > 1e-6 or abs(row.intensity_change) > 1e-6 * max(1.0, row.intensity):
            notes.append("the placebo changed the expression")
        wanted = float(arms.loc[key, "displacement"]) if key in arms.index else np.nan  # type: ignore[arg-type]
        if abs(row.displacement - wanted) > 0.01 * wanted:
            notes.append(f"displacement {row.displacement:.3g} mm, unilateral {wanted:.3g} mm")
        return ("failed", "; ".join(notes)) if notes else ("ok", "")
    if row.arm == "matched" and row.side in ("left", "right") and key in arms.index:
        other = arms.loc[key, :]
        asymmetry, intensity = float(other["asymmetry_change"]), float(other["intensity"])  # type: ignore[arg-type]
        notes = []
        if abs(row.asymmetry_change) > 0.2 * abs(asymmetry):
            notes.append(f"asymmetry changed by {row.asymmetry_change:.3g}, unilateral by {asymmetry:.3g}")
        if abs(row.intensity - intensity) > MATCH * max(abs(intensity), 1e-12):
            notes.append(f"intensity {row.intensity:.3g}, unilateral {intensity:.3g}")
        return ("failed", "; ".join(notes)) if notes else ("ok", "")
    return "", ""


def require_manipulation(table: pd.DataFrame) -> None:
    """Raise :class:`~morphsym.errors.MorphsymError` if the manipulation did not happen: at a source's largest strength no
    unilateral cell passed, or the null edit moved the face.

    Smaller doses, and regions that an emotion does not use, may legitimately do little; their failed checks stay in the
    table for the report.
    """
    if table.empty:
        return
    largest = table.groupby("source", observed=True)["strength"].transform("max")
    top = table[(table["strength"] == largest) & (table["arm"] == "unilateral") & (table["check"] != "")]
    none = top.groupby("source", observed=True)["check"].transform(lambda x: (x == "failed").all()).astype(bool)
    bad = pd.concat([table[(table["check"] == "failed") & (table["arm"] == "null")], top[none]])
    if len(bad):
        r = bad.iloc[0]
        raise MorphsymError(
            f"the manipulation did not happen: {r['source']}, {r['arm']}, side {r['side']}, strength {r['strength']:g}, "
            f"region {r['region']}: {r['note']}; look at the pictures (--save-images) before any statistics"
        )


def null_summary(units: pd.DataFrame) -> pd.DataFrame:
    """The null error by source × classifier × outcome × contrast (null_error, rerender): mean, mean of the absolute
    value, and the largest absolute value over units."""
    part = units[units["contrast"].isin(["null_error", "rerender"])]
    groups = part.groupby(["source", "classifier", "outcome", "contrast"], observed=True)["value"]
    return groups.agg(
        n_units="size",
        mean="mean",
        mean_absolute=lambda x: float(np.abs(x).mean()),
        largest=lambda x: float(np.abs(x).max()),
    ).reset_index()
