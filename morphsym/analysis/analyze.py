"""The analysis as one function from tables to tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..errors import UsageError
from . import causal, checks
from .association import associate_targets
from .corrections import adjust
from .crosschecks import heterogeneity, mixed_models
from .curves import EFFECTS, decomposition, dose_response
from .dose import SLOPES, flips, page, slopes
from .effectsizes import dz, g_av, rank_biserial
from .estimands import BY_SIDE, Cells, cells, contrasts, unit_table
from .frames import NO_EMOTION, Targets, target_values
from .intervals import bootstrap_mean
from .pairing import Pairs, exclusions, pair
from .records import EFFECT_COLUMNS, Analysis, AnalysisOptions
from .sensitivity import rule_sensitivity
from .summary import plain, summarise
from .tests import TestResult, mcnemar, run, tost
from .verdicts import differing, verdicts

CONTROLS = ("null_error", "rerender")
EQUIVALENCE = (*BY_SIDE, "side_bias", "mirror_bias")


def analyze(conditions: pd.DataFrame, predictions: pd.DataFrame, options: AnalysisOptions | None = None) -> Analysis:
    """Paired analysis of a results folder's tables (columns of DESIGN.md section 5).

    Deterministic for ``options.seed``. Photos and sampled people are analysed apart. What cannot be computed gets a row
    without numbers and a ``note``; only tables that cannot be used at all raise
    :class:`~morphsym.errors.InputError`.
    """
    options = options or AnalysisOptions()
    targets = target_values(conditions, predictions)
    shared = causal.check_conditions(targets.conditions)
    pairs = pair(targets)
    left_out = exclusions(targets, pairs)
    per_outcome = {o: contrasts(targets, pairs, o) for o in options.outcomes}
    for blocks in per_outcome.values():
        blocks += slopes(blocks)
    primary = _primary(pairs, options)
    tables = []
    for source in sorted(pairs.designed):
        for blocks in per_outcome.values():
            if not any(len(b.rows) and b.rows["source"].iloc[0] == source for b in blocks):
                continue
            part = cells(blocks, targets.classifiers, source)
            part.table["primary"] = _is_primary(part.table, primary[source], options)
            tables.append(_statistics(part, targets, options))
    base = pd.concat([*tables, _not_computed(targets, pairs, primary, options)], ignore_index=True)
    effects = _with_tests(base, options)
    units = unit_table([b for blocks in per_outcome.values() for b in blocks], targets.classifiers)
    manipulation = checks.manipulation(targets.conditions)
    wanted = options.cross_checks
    nothing = pd.DataFrame()
    mixed = mixed_models(units, effects) if wanted else nothing
    by_people = heterogeneity(units, effects, targets.conditions, seed=options.seed) if wanted else nothing
    verdict_table = differing(verdicts(effects, options), by_people, options.alpha)
    photos = (
        associate_targets(
            targets,
            effects,
            outcome=options.primary_outcome,
            permutations=options.permutations,
            alpha=options.alpha,
            seed=options.seed,
        )
        if wanted
        else nothing
    )
    summary = summarise(effects, verdict_table, left_out, pairs, targets, primary, options)
    summary["causal_model"] = causal.dag() | {"identified": causal.identified(), "checked": shared["column"].tolist()}
    summary["manipulation"] = {
        "rules": list(checks.RULES),
        "failed": plain(manipulation[manipulation["check"] == "failed"].to_dict("records")),
        "checked": int((manipulation["check"] != "").sum()),
    }
    return Analysis(
        effects=effects,
        units=units,
        verdicts=verdict_table,
        exclusions=left_out,
        dose_response=dose_response(base, targets.conditions),
        decomposition=decomposition(base),
        flips=flips(targets, pairs),
        checks=manipulation,
        mixed=mixed,
        heterogeneity=by_people,
        association=photos,
        matching=rule_sensitivity(effects, options),
        summary=summary,
        options=options,
    )


def _primary(pairs: Pairs, options: AnalysisOptions) -> dict[str, dict[str, Any]]:
    """By source: the strength and region of the primary estimand, and whether it averages over both sides."""
    out: dict[str, dict[str, Any]] = {}
    for source, rows in pairs.edited.groupby("source"):
        regions, strengths = list(dict.fromkeys(rows["region"])), sorted(set(rows["strength"]))
        sides = set(rows["side"])
        region = options.primary_region or ("all" if "all" in regions else regions[0])
        strength = options.primary_strength if options.primary_strength is not None else strengths[-1]
        for what, value, known in (("primary_strength", strength, strengths), ("primary_region", region, regions)):
            if value not in known:
                raise UsageError(f"{what} {value!r} is not in this run ({source}: {', '.join(map(str, known))})")
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


def _statistics(part: Cells, targets: Targets, options: AnalysisOptions) -> pd.DataFrame:
    """Everything about a cell that does not depend on the test, and each test's result as columns '<test>.…'."""
    table, d = part.table, part.values
    n = (~np.isnan(d)).sum(axis=0)
    table["estimate"] = np.where(n > 0, np.nansum(d, axis=0) / np.maximum(n, 1), np.nan)
    interval = bootstrap_mean(d, options.bootstrap, options.confidence, options.interval, options.seed)
    table["ci_low"], table["ci_high"], table["interval"] = interval.low, interval.high, interval.kind
    table["effect_size"], table["g_av"] = dz(d), g_av(part.first, part.second)
    table["rank_biserial"] = rank_biserial(d)
    table.loc[table["contrast"].isin(SLOPES), "g_av"] = np.nan  # a slope is no difference of two arms
    table["note"] = _notes(table, interval.note, targets)
    table["null_error_size"] = _null_error(table, d)
    table["below_null_error"] = (
        (table["estimate"].abs() < table["null_error_size"]) & table["contrast"].isin(EQUIVALENCE) & (n > 0)
    )
    small = table["below_null_error"]
    table.loc[small, "note"] = _append(table.loc[small, "note"], "smaller than the null error: not reported as found")
    results = [
        run(name, d, permutations=options.permutations, seed=options.seed, zero_method=options.zero_method)
        for name in options.tests
    ]
    outcome = str(table["outcome"].iloc[0])
    extra = [(tost(d, options.sesoi[outcome]), table["contrast"].isin(EQUIVALENCE).to_numpy())]
    if table["contrast"].isin(SLOPES).any():
        extra.append((page(table, d), table["contrast"].isin(SLOPES).to_numpy()))
    if outcome == "top1":  # independent pairs of 0 and 1: one unit a subject, nothing averaged
        single = (table["pooled"] == "") & (table["n_units"] == table["n_subjects"]) & table["contrast"].isin(EFFECTS)
        extra.append((mcnemar(d), single.to_numpy()))
    for result, applies in [*((r, np.ones(len(n), dtype=bool)) for r in results), *extra]:
        _add(table, result, applies)
    return table


def _add(table: pd.DataFrame, result: TestResult, applies: np.ndarray) -> None:
    name = result.test
    table[f"{name}.applies"] = applies
    table[f"{name}.statistic"], table[f"{name}.p_value"] = result.statistic, result.p_value
    table[f"{name}.p_mc_error"], table[f"{name}.note"] = result.mc_error, result.note


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
    check = table["contrast"].isin(CONTROLS).to_numpy()
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
    kind = np.where(base["contrast"].isin(CONTROLS), "checks", kind)
    # what is asked for beside the default arms does not change the correction of anything else
    kind = np.where(base["contrast"].isin(BY_SIDE) & ~base["contrast"].isin(EFFECTS), "controls", kind)
    own = [c for c in base.columns if "." not in c]
    names = [*options.tests, *(x for x in ("mcnemar", "tost", "page") if f"{x}.p_value" in base)]
    parts = []
    for name in names:
        part = base[own].copy()
        tested = part["n_subjects"] >= 2
        for column in ("statistic", "p_value", "p_mc_error"):
            part[column] = base[f"{name}.{column}"].astype(float) if f"{name}.{column}" in base else np.nan
        if f"{name}.applies" in base:
            more = base[f"{name}.note"].fillna("").where(tested, "")  # with fewer, the cell's own note says it
            part["note"] = [_merge(a, b) for a, b in zip(part["note"], more)]
            tested &= base[f"{name}.applies"].eq(True)
        part["test"] = np.where(part["n_subjects"] >= 2, name, "none")
        part["family"] = part["source"] + "/" + part["outcome"] + "/" + name + "/" + kind
        # a cell without a test is there once, as 'none'
        parts.append(part[tested | (part["n_subjects"] < 2)] if name == names[0] else part[tested])
    effects = pd.concat(parts, ignore_index=True)
    p = effects["p_value"].to_numpy(dtype=float)
    effects["p_holm"], effects["p_bh"] = (adjust(p, effects["family"], m) for m in ("holm", "fdr_bh"))
    effects["p_adjusted"] = effects["p_holm" if options.correction == "holm" else "p_bh"]
    effects["alpha"] = options.alpha
    effects["family"] = effects["family"].where(effects["test"] != "none", "")
    effects["p_mc_error"] = effects["p_mc_error"].where(effects["test"] != "none")
    order = [
        effects["source"], ~effects["primary"].astype(bool), effects["outcome"], effects["classifier"],
        effects["contrast"].map({c: i for i, c in enumerate(EFFECTS)}).fillna(9), effects["contrast"],
        effects["pooled"].map({"emotion+side": 0, "emotion": 1, "side": 2, "": 3}), effects["emotion"],
        effects["region"], effects["side"], effects["strength"],
        effects["test"].map({t: i for i, t in enumerate(names)}).fillna(-1),
    ]  # fmt: skip
    rank = np.lexsort([pd.factorize(x, sort=True)[0] for x in reversed(order)])
    effects = effects.iloc[rank].reset_index(drop=True)
    effects["primary"] = effects["primary"].astype(bool)
    effects["below_null_error"] = effects["below_null_error"].astype(bool)
    return effects[list(EFFECT_COLUMNS)]


def _merge(a: str, b: str) -> str:
    return a if not b or b in a else (f"{a}; {b}" if a else b)
