"""A second opinion on the primary effects (mixed model), and for whom they hold (heterogeneity)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM

from .corrections import adjust
from .intervals import bootstrap_mean
from .tests import wilcoxon

ATTRIBUTES = ("sex", "age", "ancestry", "fitzpatrick", "weight", "muscle", "yaw", "pitch", "roll", "light", "skin",
              "cohort")  # fmt: skip
"""Columns of conditions.parquet that heterogeneity is looked for in, where they are recorded."""

MOST_LEVELS = 12  # of a factor that is swept within people

MOST_UNITS = 3000  # of one mixed model
PRIMARY = ("source", "classifier", "contrast")


def primary_units(units: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """The unit-level contrasts behind the primary TE and AE rows: ``units`` rows at the primary outcome, strength and
    region, of the left and right side where both were averaged."""
    rows = effects[effects["primary"] & effects["contrast"].isin(["TE", "AE"])]
    rows = rows.drop_duplicates([*PRIMARY])
    parts = []
    for source, contrast, outcome, strength, region, side, pooled in dict.fromkeys(
        rows[["source", "contrast", "outcome", "strength", "region", "side", "pooled"]].itertuples(
            index=False, name=None
        )
    ):
        where = (units["source"] == source) & (units["contrast"] == contrast) & (units["outcome"] == outcome)
        where &= (units["strength"] == strength) & (units["region"] == region)
        where &= units["side"].isin(["left", "right"]) if "side" in pooled else units["side"] == side
        parts.append(units[where])
    out = pd.concat(parts, ignore_index=True) if parts else units.iloc[:0]
    return out.astype(dict.fromkeys(("source", "classifier", "contrast", "unit", "subject", "emotion", "side"), str))


def mixed_models(units: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Linear mixed models (statsmodels, REML) of the primary contrasts: value ~ 1 + emotion + side (sum coding, so that
    the intercept is the average over them), a random intercept for each subject.

    Columns: source, classifier, contrast, estimate, se, ci_low, ci_high, z, p_value, subject_means (the primary
    estimate), agrees (|difference| < 1 standard error), n_units, n_subjects, note.
    """
    rows = []
    means = effects[effects["primary"]].drop_duplicates([*PRIMARY]).set_index([*PRIMARY])["estimate"].to_dict()
    for key, group in primary_units(units, effects).groupby([*PRIMARY], sort=False):
        row: dict[str, object] = dict(zip(PRIMARY, key))
        row |= {"subject_means": float(means[key]), "n_units": len(group), "n_subjects": group["subject"].nunique()}
        row |= _mixed(group)
        se, estimate = row.get("se", np.nan), row.get("estimate", np.nan)
        row["agrees"] = bool(abs(estimate - row["subject_means"]) < se) if np.isfinite(se) else None  # type: ignore[operator, call-overload]
        rows.append(row)
    columns = [*PRIMARY, "estimate", "se", "ci_low", "ci_high", "z", "p_value", "subject_means", "agrees", "n_units",
               "n_subjects", "note"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _mixed(group: pd.DataFrame) -> dict[str, object]:
    """One model; a note instead of numbers where it cannot be fitted."""
    y = group["value"].to_numpy(dtype=float)
    n_subjects = group["subject"].nunique()
    if n_subjects < 3 or len(group) <= n_subjects:
        return {"note": "one value a subject, or fewer than three subjects: no mixed model"}
    if len(group) > MOST_UNITS:
        return {"note": f"more than {MOST_UNITS} units: the mixed model is left out, it would take minutes"}
    if np.ptp(y) <= 1e-12 * max(1e-300, np.abs(y).max()):
        return {"note": "zero variance: no mixed model"}
    columns = [np.ones(len(group))]
    for factor in ("emotion", "side"):
        levels = sorted(group[factor].unique())
        for level in levels[:-1]:  # sum coding
            columns.append((group[factor] == level).astype(float) - (group[factor] == levels[-1]).astype(float))
    scale, design = y.std(), np.column_stack(columns)
    estimate, se, note = np.nan, np.nan, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = MixedLM(y / scale, design, groups=group["subject"].to_numpy()).fit(
                reml=True, method=["lbfgs", "powell"]
            )
            estimate, se = float(fit.fe_params[0]) * scale, float(fit.bse_fe[0]) * scale
            note = "" if fit.converged else "did not converge"
        except np.linalg.LinAlgError:
            pass
    boundary = any("boundary" in str(w.message) or "singular" in str(w.message) for w in caught)
    if boundary or not np.isfinite(se):
        fit = OLS(y / scale, design).fit()
        estimate, se = float(fit.params[0]) * scale, float(fit.bse[0]) * scale
        note = "no variance between subjects: the mixed model is ordinary least squares"
    z = estimate / se
    return {
        "estimate": estimate, "se": se, "ci_low": estimate - 1.959964 * se, "ci_high": estimate + 1.959964 * se, "z": z,
        "p_value": float(2 * stats.norm.sf(abs(z))), "note": note,
    }  # fmt: skip


def heterogeneity(
    units: pd.DataFrame,
    effects: pd.DataFrame,
    conditions: pd.DataFrame,
    attributes: Sequence[str] = ATTRIBUTES,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Do the primary TE and AE differ between people, or between emotions? One number a subject.

    Text attributes: means with bootstrap intervals by level, and a Kruskal–Wallis test. Numbers (age, pose): Spearman's
    correlation with the effect. ``emotion``, and what a sweep varies within people (pose, light, skin): means by level,
    and Friedman's test (of two levels: Wilcoxon's) within the subjects that have all of them: an average over levels may
    hide effects of opposite sign. Holm over all attributes and classifiers of a
    source × contrast. Sources with fewer than four subjects get one row that says so. Columns: source,
    classifier, contrast, attribute, level ('' for the row of the test), n_subjects, estimate (mean, or rho), ci_low,
    ci_high, test, statistic, p_value, p_adjusted, note.
    """
    columns = [*PRIMARY, "attribute", "level", "n_subjects", "estimate", "ci_low", "ci_high", "test", "statistic",
               "p_value", "p_adjusted", "note"]  # fmt: skip
    known = [a for a in attributes if a in conditions.columns]
    rows: list[dict[str, object]] = []
    about = conditions.groupby("subject", observed=True)[known].agg(_one) if known else pd.DataFrame()
    about.index = about.index.astype(str)
    by_unit = conditions.drop_duplicates("unit").set_index("unit")
    by_unit.index = by_unit.index.astype(str)
    for key, group in primary_units(units, effects).groupby([*PRIMARY], sort=False):
        value = group.groupby("subject")["value"].mean()
        own = dict(zip(PRIMARY, key))
        if len(value) < 4:
            note = f"{len(value)} subject{'' if len(value) == 1 else 's'}: too few to compare people"
            rows.append(own | {"attribute": "", "level": "", "n_subjects": len(value), "test": "none", "note": note})
            continue
        rows += [own | {"attribute": "emotion"} | r for r in _within(group, "emotion", bootstrap, seed)]
        swept = _swept(by_unit.loc[group["unit"].unique()], known)
        for attribute in known:
            if attribute == "fitzpatrick" and "skin" in swept:
                continue  # the same, measured
            if attribute in swept:
                level = by_unit.loc[group["unit"], attribute].map(_level).to_numpy()
                part = _within(group.assign(**{attribute: level}), attribute, bootstrap, seed)
                rows += [own | {"attribute": attribute} | r for r in part]
                continue
            if about[attribute].reindex(value.index).isna().all():
                continue  # not recorded for this source
            level = about[attribute].reindex(value.index)
            there = level.notna()
            rows += [own | {"attribute": attribute} | r for r in _by(value[there], level[there], bootstrap, seed)]
    out = pd.DataFrame(rows, columns=columns)
    if len(out):
        family = out["source"] + "/" + out["contrast"]
        out["p_adjusted"] = adjust(out["p_value"].to_numpy(dtype=float), family, "holm")
    return out


def _swept(units: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Which attributes are designed factors: every subject and emotion has the same few levels, more than one."""
    found = []
    groups = units.groupby([units["subject"].astype(str), units["expression"].astype(str)])
    for a in attributes:
        levels = units[a].dropna().unique()
        if 2 <= len(levels) <= MOST_LEVELS and (groups[a].nunique() == len(levels)).all():
            found.append(a)
    return found


def _level(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _within(group: pd.DataFrame, factor: str, bootstrap: int, seed: int) -> list[dict[str, object]]:
    """Means by the levels of a factor within people (one number a subject and level), and a test of their equality."""
    table = group.pivot_table(index="subject", columns=factor, values="value", aggfunc="mean", observed=True)
    if table.shape[1] < 2:
        return []
    if all(_is_number(c) for c in table.columns):
        table = table[sorted(table.columns, key=lambda c: float(str(c)))]
    interval = bootstrap_mean(table.to_numpy(), bootstrap, seed=seed)
    rows: list[dict[str, object]] = [
        {"level": e, "n_subjects": int(table[e].notna().sum()), "estimate": float(table[e].mean()),
         "ci_low": interval.low[k], "ci_high": interval.high[k], "test": "none", "note": interval.note[k]}
        for k, e in enumerate(table.columns)
    ]  # fmt: skip
    full = table.dropna()
    two = table.shape[1] == 2
    test: dict[str, object] = {
        "level": "",
        "n_subjects": len(full),
        "test": "wilcoxon" if two else "friedman",
        "note": "",
    }
    if len(full) < 3 or np.ptp(full.to_numpy()) == 0:
        why = "no variation" if len(full) and np.ptp(full.to_numpy()) == 0 else "needs three subjects with every level"
        return [*rows, test | {"test": "none", "note": why}]
    if two:
        if factor == "emotion":
            return [*rows, test | {"test": "none", "note": "needs three emotions in three subjects"}]
        result = wilcoxon((full.iloc[:, 0] - full.iloc[:, 1]).to_numpy()[:, None])
        return [*rows, test | {"statistic": float(result.statistic[0]), "p_value": float(result.p_value[0])}]
    result = stats.friedmanchisquare(*full.to_numpy().T)
    return [*rows, test | {"statistic": float(result.statistic), "p_value": float(result.pvalue)}]


def _is_number(text: object) -> bool:
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def _one(x: pd.Series) -> object:
    """A subject's value: what all its conditions share; the mean of numbers that differ between its units (pose)."""
    values = x.dropna()
    if values.empty:
        return np.nan
    return float(values.mean()) if pd.api.types.is_numeric_dtype(values) else values.iloc[0]


def _by(value: pd.Series, level: pd.Series, bootstrap: int, seed: int) -> list[dict[str, object]]:
    n = len(value)
    if n < 4 or level.nunique() < 2:
        return [{"level": "", "n_subjects": n, "test": "none",
                 "note": "fewer than four subjects" if n < 4 else "every subject has the same value"}]  # fmt: skip
    if pd.api.types.is_numeric_dtype(level.infer_objects()):
        if value.nunique() < 2:
            return [{"level": "", "n_subjects": n, "test": "none", "note": "the effect is the same for everybody"}]
        rho = stats.spearmanr(level.astype(float), value)
        return [{"level": "", "n_subjects": n, "estimate": float(rho.statistic), "test": "spearman",
                 "statistic": float(rho.statistic), "p_value": float(rho.pvalue), "note": ""}]  # fmt: skip
    rows: list[dict[str, object]] = []
    groups = {str(k): g.to_numpy() for k, g in value.groupby(level.astype(str))}
    for name, g in groups.items():
        interval = bootstrap_mean(g[:, None], bootstrap, seed=seed)
        rows.append({"level": name, "n_subjects": len(g), "estimate": float(g.mean()), "ci_low": interval.low[0],
                     "ci_high": interval.high[0], "test": "none", "note": interval.note[0]})  # fmt: skip
    large = [g for g in groups.values() if len(g) >= 2]
    test: dict[str, object] = {"level": "", "n_subjects": n, "test": "kruskal_wallis", "note": ""}
    if len(large) < 2 or value.nunique() < 2:
        return [*rows, test | {"test": "none", "note": "no two levels with two subjects, or no variation"}]
    h = stats.kruskal(*large)
    if len(large) < len(groups):
        test["note"] = "levels with one subject are not in the test"
    return [*rows, test | {"statistic": float(h.statistic), "p_value": float(h.pvalue)}]
