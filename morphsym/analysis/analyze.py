"""The analysis as one function from tables to tables."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import scipy
import statsmodels

from .corrections import adjust
from .effectsizes import dz, g_av, rank_biserial
from .estimands import Block, Cells, cells, contrasts, unit_table
from .frames import NO_EMOTION, Targets, target_values
from .intervals import bootstrap_mean
from .pairing import Pairs, exclusions, pair
from .records import EFFECT_COLUMNS, Analysis, AnalysisOptions
from .tests import run, tost
from .verdicts import RULES, k_of_n, verdicts

CHECKS = ("null_error", "rerender")
EFFECTS = ("TE", "IE", "AE")


def analyze(conditions: pd.DataFrame, predictions: pd.DataFrame, options: AnalysisOptions | None = None) -> Analysis:
    """Paired analysis of a results folder's tables (columns of DESIGN.md section 5).

    Deterministic for ``options.seed``. Photos and sampled people are analysed apart. What cannot be computed gets a row
    without numbers and a ``note``; only tables that cannot be used at all raise
    :class:`~morphsym.errors.InputError`.
    """
    options = options or AnalysisOptions()
    targets = target_values(conditions, predictions)
    pairs = pair(targets)
    left_out = exclusions(targets, pairs)
    per_outcome = {o: contrasts(targets, pairs, o) for o in options.outcomes}
    primary = _primary(pairs, options)
    tables, equivalence = [], []
    for source in sorted(pairs.designed):
        for blocks in per_outcome.values():
            if not any(len(b.rows) and b.rows["source"].iloc[0] == source for b in blocks):
                continue
            part = cells(blocks, targets.classifiers, source)
            part.table["primary"] = _is_primary(part.table, primary[source], options)
            table, q = _statistics(part, targets, options)
            tables.append(table)
            equivalence.append(q)
    base = pd.concat([*tables, _not_computed(targets, pairs, primary, options)], ignore_index=True)
    effects = _with_tests(base, options)
    base["equivalence_p"] = np.concatenate([*equivalence, np.full(len(base) - sum(map(len, equivalence)), np.nan)])
    verdict_table = _verdicts(effects, base, options)
    units = unit_table([b for blocks in per_outcome.values() for b in blocks], targets.classifiers)
    dose = _dose_response(base, targets.conditions)
    parts = _decomposition(base)
    summary = _summary(effects, verdict_table, left_out, pairs, targets, primary, options)
    return Analysis(effects, units, verdict_table, left_out, dose, parts, summary, options)


def _primary(pairs: Pairs, options: AnalysisOptions) -> dict[str, dict[str, Any]]:
    """By source: the strength and region of the primary estimand, and whether it averages over both sides."""
    out: dict[str, dict[str, Any]] = {}
    for source, rows in pairs.edited.groupby("source"):
        regions, strengths = list(dict.fromkeys(rows["region"])), sorted(set(rows["strength"]))
        sides = set(rows["side"])
        region = options.primary_region or ("all" if "all" in regions else regions[0])
        strength = options.primary_strength if options.primary_strength is not None else strengths[-1]
        pooled = "emotion+side" if {"left", "right"} <= sides else "emotion"
        side = "both" if pooled == "emotion+side" else next(s for s in ("left", "right", "both", "none") if s in sides)
        out[str(source)] = {"region": region, "strength": float(strength), "pooled": pooled, "side": side}
    for source in pairs.designed:
        out.setdefault(source, {"region": "all", "strength": np.nan, "pooled": "emotion", "side": "none"})
    return out


def _is_primary(table: pd.DataFrame, primary: dict[str, Any], options: AnalysisOptions) -> pd.Series:
    return (
        table["contrast"].isin(EFFECTS)
        & (table["outcome"] == options.primary_outcome)
        & (table["pooled"] == primary["pooled"])
        & (table["side"] == primary["side"])
        & (table["strength"] == primary["strength"])
        & (table["region"] == primary["region"])
    )


def _statistics(part: Cells, targets: Targets, options: AnalysisOptions) -> tuple[pd.DataFrame, np.ndarray]:
    """Everything about a cell that does not depend on the test, and the tests' results as columns; and TOST's p."""
    table, d = part.table, part.values
    n = (~np.isnan(d)).sum(axis=0)
    table["estimate"] = np.where(n > 0, np.nansum(d, axis=0) / np.maximum(n, 1), np.nan)
    interval = bootstrap_mean(d, options.bootstrap, options.confidence, options.interval, options.seed)
    table["ci_low"], table["ci_high"], table["interval"] = interval.low, interval.high, interval.kind
    table["effect_size"], table["g_av"] = dz(d), g_av(part.first, part.second)
    table["rank_biserial"] = rank_biserial(d)
    table["note"] = _notes(table, interval.note, targets)
    table["null_error_size"] = _null_error(table, d)
    table["below_null_error"] = (
        (table["estimate"].abs() < table["null_error_size"]) & ~table["contrast"].isin(CHECKS) & (n > 0)
    )
    small = table["below_null_error"]
    table.loc[small, "note"] = _append(table.loc[small, "note"], "smaller than the null error: not reported as found")
    for name in options.tests:
        result = run(name, d, permutations=options.permutations, seed=options.seed, zero_method=options.zero_method)
        table[f"{name}.statistic"], table[f"{name}.p_value"] = result.statistic, result.p_value
        table[f"{name}.p_mc_error"], table[f"{name}.note"] = result.mc_error, result.note
    q = tost(d, options.sesoi[str(table["outcome"].iloc[0])]).p_value
    return table, q


def _append(notes: pd.Series, more: str) -> pd.Series:
    return notes.map(lambda x: f"{x}; {more}" if x else more)


def _notes(table: pd.DataFrame, interval: np.ndarray, targets: Targets) -> list[str]:
    """Why a cell is empty, or what to know of its interval."""
    lacking = {
        (name, emotion)
        for c, name in enumerate(targets.classifiers)
        for emotion in targets.conditions.loc[targets.reason[:, c] == NO_EMOTION, "expression"].unique()
    }
    out = []
    for name, emotion, n, note in zip(table["classifier"], table["emotion"], table["n_subjects"], interval):
        if n == 0 and (name, emotion) in lacking:
            note = f"the classifier has no label for {emotion}"
        elif n == 0:
            note = "no complete pair: see the exclusions"
        elif n == 1:
            note = "one subject: no test"
        out.append(str(note))
    return out


def _null_error(table: pd.DataFrame, d: np.ndarray) -> np.ndarray:
    """(K,) what rendering alone does, for each cell's classifier and emotion: mean over subjects of the absolute null
    error (photos) or of the absolute difference of a second rendering, whichever is larger. NaN without such arms."""
    n = (~np.isnan(d)).sum(axis=0)
    size = np.where(n > 0, np.nansum(np.abs(d), axis=0) / np.maximum(n, 1), np.nan)
    check = table["contrast"].isin(CHECKS).to_numpy()
    known = pd.Series(size[check], index=pd.MultiIndex.from_frame(table.loc[check, ["classifier", "emotion"]]))
    largest = known.groupby(level=[0, 1]).max()
    return largest.reindex(pd.MultiIndex.from_frame(table[["classifier", "emotion"]])).to_numpy(dtype=float)


def _not_computed(
    targets: Targets, pairs: Pairs, primary: dict[str, dict[str, Any]], options: AnalysisOptions
) -> pd.DataFrame:
    """A row without numbers for each primary contrast that the design lacks an arm for."""
    needs = {"TE": ("unilateral", "baseline"), "IE": ("matched", "baseline"), "AE": ("unilateral", "matched")}
    rows = []
    for source, arms in pairs.designed.items():
        for contrast, needed in needs.items():
            lacking = [a for a in needed if a not in arms]
            for name in targets.classifiers if lacking else ():
                p = primary[source]
                rows.append(
                    {
                        "classifier": name, "emotion": "all", "contrast": contrast, "side": p["side"],
                        "strength": p["strength"], "region": p["region"], "source": source,
                        "outcome": options.primary_outcome, "pooled": p["pooled"], "primary": True, "n_units": 0,
                        "n_subjects": 0, "n_excluded": int((pairs.units["source"] == source).sum()),
                        "interval": "none", "below_null_error": False,
                        "note": f"not computed: the run has no {' and no '.join(map(repr, lacking))} arm",
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _with_tests(base: pd.DataFrame, options: AnalysisOptions) -> pd.DataFrame:
    """One row a cell × test, corrected within families, in the columns and order of ``effects.csv``."""
    kind = np.where(base["primary"] & base["contrast"].isin(("TE", "AE")), "primary", "secondary")
    kind = np.where(base["contrast"].isin(CHECKS), "checks", kind)
    own = [c for c in base.columns if "." not in c]
    parts = []
    for name in options.tests:
        part = base[own].copy()
        for column in ("statistic", "p_value", "p_mc_error"):
            part[column] = base[f"{name}.{column}"].astype(float) if f"{name}.{column}" in base else np.nan
        more = base[f"{name}.note"].fillna("") if f"{name}.note" in base else pd.Series("", index=base.index)
        more = more.where(part["n_subjects"] >= 2, "")  # with fewer, the cell's own note says it
        part["note"] = [_merge(a, b) for a, b in zip(part["note"], more)]
        part["test"] = np.where(part["n_subjects"] >= 2, name, "none")
        part["family"] = part["source"] + "/" + part["outcome"] + "/" + name + "/" + kind
        if name != options.tests[0]:
            part = part[part["n_subjects"] >= 2]  # 'none' is said once
        parts.append(part)
    effects = pd.concat(parts, ignore_index=True)
    p = effects["p_value"].to_numpy(dtype=float)
    effects["p_holm"], effects["p_bh"] = (adjust(p, effects["family"], m) for m in ("holm", "fdr_bh"))
    effects["p_adjusted"] = effects["p_holm" if options.correction == "holm" else "p_bh"]
    effects["alpha"] = options.alpha
    effects["family"] = effects["family"].where(effects["test"] != "none", "")
    effects["p_mc_error"] = effects["p_mc_error"].where(effects["test"] != "none")
    order = [
        effects["source"], ~effects["primary"].astype(bool), effects["outcome"], effects["classifier"],
        effects["contrast"].map({c: i for i, c in enumerate(("TE", "IE", "AE"))}).fillna(9), effects["contrast"],
        effects["pooled"].map({"emotion+side": 0, "emotion": 1, "side": 2, "": 3}), effects["emotion"],
        effects["region"], effects["side"], effects["strength"],
        effects["test"].map({t: i for i, t in enumerate(options.tests)}).fillna(-1),
    ]  # fmt: skip
    rank = np.lexsort([pd.factorize(x, sort=True)[0] for x in reversed(order)])
    effects = effects.iloc[rank].reset_index(drop=True)
    effects["primary"] = effects["primary"].astype(bool)
    effects["below_null_error"] = effects["below_null_error"].astype(bool)
    return effects[list(EFFECT_COLUMNS)]


def _merge(a: str, b: str) -> str:
    return a if not b or b in a else (f"{a}; {b}" if a else b)


def _verdicts(effects: pd.DataFrame, base: pd.DataFrame, options: AnalysisOptions) -> pd.DataFrame:
    """Join the primary rows of the primary test with their TOST p, Holm-corrected over TE and AE of each source."""
    rows = base[base["primary"].astype(bool) & base["contrast"].isin(("TE", "AE"))].reset_index(drop=True)
    rows["q"] = adjust(rows["equivalence_p"].to_numpy(dtype=float), rows["source"], "holm")
    primary = effects[effects["primary"] & effects["test"].isin((options.primary_test, "none"))]
    primary = primary.merge(rows[["source", "classifier", "contrast", "q"]], how="left")
    return verdicts(primary, primary["q"].to_numpy(dtype=float), options)


def _dose_response(base: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
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


def _decomposition(base: pd.DataFrame) -> pd.DataFrame:
    """TE, IE and AE side by side; the share AE / TE only where TE's interval does not hold zero."""
    key = ["source", "classifier", "emotion", "side", "strength", "region", "outcome", "pooled"]
    table = base[base["contrast"].isin(EFFECTS) & base["estimate"].notna()]
    out: pd.DataFrame | None = None
    for contrast in EFFECTS:
        part = table[table["contrast"] == contrast].rename(
            columns={"estimate": contrast, "ci_low": f"{contrast}_low", "ci_high": f"{contrast}_high"}
        )
        part = part[[*key, contrast, f"{contrast}_low", f"{contrast}_high", *(("n_subjects",) if out is None else ())]]
        out = part if out is None else out.merge(part, on=key, how="left")
    assert out is not None
    clear = (out["TE_low"] > 0) | (out["TE_high"] < 0)
    out["asymmetry_share"] = (out["AE"] / out["TE"]).where(clear)
    return out.sort_values(key).reset_index(drop=True)


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


def _summary(
    effects: pd.DataFrame,
    verdict_table: pd.DataFrame,
    left_out: pd.DataFrame,
    pairs: Pairs,
    targets: Targets,
    primary: dict[str, dict[str, Any]],
    options: AnalysisOptions,
) -> dict[str, Any]:
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


__all__ = ["Block", "analyze", "plain"]
