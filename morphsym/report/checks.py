"""Manipulation checks: did the pictures show what the design says, and nothing else? Read from ``conditions``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..types import ARMS
from . import formatting as f

_REST_MM = 1e-3  # a face whose mean displacement from rest is below this has no expression to weaken
_SAME = 0.01  # 'equal' amounts may differ by this share of the factual amount (float32, and the matching's tolerance)
_PAIR = ["unit", "side", "strength", "region"]


@dataclass(frozen=True)
class Check:
    """One check in words. ``passed`` is None where the columns that it needs are missing."""

    name: str
    passed: bool | None
    detail: str


def arm_table(conditions: pd.DataFrame) -> pd.DataFrame:
    """Mean realised asymmetry and intensity (mm) by arm and strength, over the conditions that are ok."""
    ok = conditions[conditions["status"] == "ok"]
    wanted = [c for c in ("realised_asymmetry", "realised_intensity") if c in ok.columns]
    if ok.empty or not wanted:
        return pd.DataFrame(columns=["arm", "strength", "images", *wanted])
    wanted += [c for c in ("displacement", "mirror_ssim", "image_change") if c in ok.columns]
    grouped = ok.groupby(["arm", "strength"], sort=True)
    table = grouped[wanted].mean()
    table.insert(0, "images", grouped.size())
    table = table.reset_index()
    order = ["original", "baseline", "null", "mirrored_baseline", "matched", "unilateral", "mirrored_unilateral"]
    order += [a for a in ARMS if a not in order]
    rank = {a: i for i, a in enumerate(order)}
    return table.sort_values(
        ["arm", "strength"], key=lambda c: c.map(rank) if c.name == "arm" else c, ignore_index=True
    )


def checks(conditions: pd.DataFrame) -> list[Check]:
    """All checks that the columns allow, of one source's conditions."""
    ok = conditions[conditions["status"] == "ok"]
    if "realised_asymmetry" not in ok.columns or "realised_intensity" not in ok.columns:
        return [Check("The edit is measured on the mesh", None, "the table has no realised asymmetry or intensity")]
    base = _baseline(ok, realised_asymmetry="asymmetry0", realised_intensity="intensity0")
    unilateral = ok[(ok["arm"] == "unilateral") & ok["side"].isin(["left", "right"])].merge(base, on="unit")
    moving = unilateral[(unilateral["intensity0"] > _REST_MM) & (unilateral["strength"] > 0)]
    matched = ok[ok["arm"] == "matched"].merge(base, on="unit")
    pairs = matched.merge(moving, on=_PAIR, suffixes=("", "_u"))
    found = [_manipulated(moving), _symmetric(pairs), _as_intense(pairs), _untouched(moving, ok)]
    found += [_placebo(ok), *_pictures(pairs), _covered(ok)]
    resting = unilateral["unit"].nunique() - moving["unit"].nunique()
    if resting and len(moving):
        text = f"{f.plural(resting, 'unit')} at rest (such as a neutral face): there is nothing to weaken"
        found.append(Check("Units at rest", None, text))
    return [c for c in found if c is not None]


def cells_check(table: pd.DataFrame) -> Check | None:
    """The analysis' own checks of one source's cells (arm × side × strength × region) in one line."""
    if table.empty or "check" not in table.columns:
        return None
    judged = table[(table["check"] != "") & table["asymmetry_change"].notna()]  # without a baseline nothing is judged
    if judged.empty:
        return None
    failed = judged[judged["check"] == "failed"]
    name = "Every cell of the design does what its arm is for"
    if failed.empty:
        return Check(name, True, f"all {f.plural(len(judged), 'cell')} (arm × side × strength × region) pass")
    worst = failed.sort_values("strength", ascending=False).iloc[0]
    cell = " ".join(f.clean(worst[c]) for c in ("arm", "side", "region") if worst[c] != "none")
    at = f" at strength {f.strength_text(worst['strength'])}" if worst["strength"] > 0 else ""
    detail = (
        f"{len(failed)} of {f.plural(len(judged), 'cell')} do not; for example {cell}{at}: {f.clean(worst['note'])}"
    )
    # a weak dose may legitimately do little; the strongest, and an edit of nothing, may not
    serious = (failed["strength"] == judged["strength"].max()) | (failed["arm"] == "null")
    return Check(name, False if serious.any() else None, detail)


def _baseline(ok: pd.DataFrame, **renamed: str) -> pd.DataFrame:
    """Columns of the baseline under other names, one row a unit."""
    return ok.loc[ok["arm"] == "baseline", ["unit", *renamed]].rename(columns=renamed)


def _manipulated(moving: pd.DataFrame) -> Check | None:
    name = "The weakness made the face asymmetric"
    if moving.empty:
        return Check(name, None, "no unilateral image of an expressive face to check")
    top = moving[moving["strength"] == moving["strength"].max()]
    more = top["realised_asymmetry"] > top["asymmetry0"] + _SAME * top["intensity0"]
    detail = (
        f"at strength {f.strength_text(top['strength'].iloc[0])}, realised asymmetry rose in {int(more.sum())} of "
        f"{f.plural(len(top), 'image')}, from {f.number(top['asymmetry0'].mean())} to "
        f"{f.number(top['realised_asymmetry'].mean())} mm on average"
    )
    # a natural asymmetry can be *lowered* by weakening the stronger side, so a few photos may go the other way
    return Check(name, bool(more.mean() > 0.5 and top["realised_asymmetry"].mean() > top["asymmetry0"].mean()), detail)


def _symmetric(pairs: pd.DataFrame) -> Check | None:
    if pairs.empty:
        return None
    excess = pairs["realised_asymmetry"] - pairs["asymmetry0"]
    allowed = _SAME * pairs["intensity0"]
    detail = (
        f"asymmetry of the matched face exceeds the factual face’s by at most {f.number(max(excess.max(), 0), 3)} mm "
        f"in {f.plural(len(pairs), 'image')}"
    )
    return Check("The matched control adds no asymmetry", bool((excess <= allowed).all()), detail)


def _as_intense(pairs: pd.DataFrame) -> Check | None:
    if pairs.empty:
        return None
    gap = (pairs["realised_intensity"] - pairs["realised_intensity_u"]).abs() / pairs["intensity0"]
    detail = f"largest difference {f.number(100 * gap.max(), 2)} % of the factual expression"
    return Check(
        "The matched control keeps as much expression as the weakened face", bool((gap <= _SAME).all()), detail
    )


def _untouched(moving: pd.DataFrame, ok: pd.DataFrame) -> Check | None:
    if moving.empty or not {"realised_left", "realised_right"} <= set(ok.columns):
        return None
    both = moving.merge(_baseline(ok, realised_left="left0", realised_right="right0"), on="unit")
    left = (both["side"] == "left").to_numpy()
    other = np.where(left, both["realised_right"] - both["right0"], both["realised_left"] - both["left0"])
    edited = np.where(left, both["realised_left"] - both["left0"], both["realised_right"] - both["right0"])
    share = np.abs(other).mean() / max(np.abs(edited).mean(), 1e-12)
    detail = (
        f"the other half changes by {f.number(np.abs(other).mean(), 3)} mm on average, {f.number(100 * share, 1)} % of "
        f"the change of the edited half ({f.number(np.abs(edited).mean(), 3)} mm); the blend at the midline included"
    )
    return Check("The untouched half stays as it was", bool(share < 0.15), detail)


def _placebo(ok: pd.DataFrame) -> Check | None:
    """Equal to the unilateral edit in what it moves, and to the baseline in everything else."""
    if not (ok["arm"] == "placebo").any() or "displacement" not in ok.columns:
        return None
    base = _baseline(ok, realised_asymmetry="asymmetry0", realised_intensity="intensity0")
    mine = ok[ok["arm"] == "placebo"].merge(base, on="unit")
    mine = mine.merge(ok[ok["arm"] == "unilateral"], on=_PAIR, suffixes=("", "_u"))
    size = (mine["displacement"] - mine["displacement_u"]).abs() / mine["displacement_u"].clip(lower=_REST_MM)
    kept = np.isclose(mine["realised_asymmetry"], mine["asymmetry0"], atol=_REST_MM) & np.isclose(
        mine["realised_intensity"], mine["intensity0"], atol=_REST_MM
    )
    detail = (
        f"it moves the skin by {f.number(mine['displacement'].mean())} mm on average, the weakness by "
        f"{f.number(mine['displacement_u'].mean())} mm, by turning the head {f.number(mine['head_turn'].abs().mean())}° "
        f"({f.number(mine['head_turn'].abs().max())}° at most)"
    )
    return Check(
        "The placebo is as large as the weakness and keeps the expression",
        bool((size <= _SAME).all() and kept.all()),
        detail,
    )


def _pictures(pairs: pd.DataFrame) -> list[Check]:
    """What the pictures themselves say, weakened beside matched, at the largest strength."""
    found = []
    top = pairs[pairs["strength"] == pairs["strength"].max()] if len(pairs) else pairs
    for column, sign, name, what in (
        ("mirror_ssim", -1, "The asymmetry can be seen: the weakened face is less like its mirror image than the matched",
         "structural similarity with the mirror image"),
        ("read_asymmetry", 1, "MediaPipe, which knows nothing of the mesh, reads more asymmetry in the weakened face",
         "mean left–right difference of its blendshapes"),
    ):  # fmt: skip
        if column not in top.columns or f"{column}_u" not in top.columns:
            continue
        gap = sign * (top[f"{column}_u"] - top[column])
        gap = gap[gap.notna()]
        if gap.empty:
            continue
        values = top.loc[gap.index]
        detail = (
            f"in {int((gap > 0).sum())} of {f.plural(len(gap), 'pair')} at strength "
            f"{f.strength_text(top['strength'].iloc[0])}; {what} {f.number(values[f'{column}_u'].mean(), 3)} weakened, "
            f"{f.number(values[column].mean(), 3)} matched"
        )
        found.append(Check(name, bool(gap.mean() > 0 and (gap > 0).mean() > 0.5), detail))
    return found


def _covered(ok: pd.DataFrame) -> Check | None:
    if "coverage" not in ok.columns or not len(values := f.finite(ok["coverage"])):
        return None
    detail = f"the face covers {f.number(100 * values.min(), 1)} to {f.number(100 * values.max(), 1)} % of the picture"
    return Check("Every picture shows the face", bool((values > 0).all()), detail)
