"""The real-photo arm: does measured asymmetry go with the output in untouched photos, intensity and pose held?

An association, not an effect: nobody intervened on these faces. It is shown beside the synthetic effect to ask whether
the real world is congruent with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .corrections import adjust
from .frames import Targets, target_values

COVARIATES = ("realised_intensity", "yaw", "pitch", "roll")
"""What is held: the measured intensity and the head pose, as fitted. Yaw and roll enter by their size."""

COLUMNS = (
    "classifier", "emotion", "outcome", "r", "ci_low", "ci_high", "n_subjects", "covariates", "strata", "test",
    "statistic", "p_value", "p_adjusted", "p_mc_error", "synthetic", "congruent", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Partial:
    """A partial rank correlation."""

    r: float
    p_value: float  # two-sided, Student's t with n − 2 − k degrees of freedom
    df: int
    x: np.ndarray  # (n,) residual ranks of x
    y: np.ndarray  # (n,) of y


def partial_rank_correlation(x: np.ndarray, y: np.ndarray, covariates: np.ndarray, groups: np.ndarray) -> Partial:
    """Spearman's correlation of ``x`` and ``y`` (n,) with ``covariates`` (n, k) held: the correlation of the residuals of
    their ranks on the covariates' ranks. ``groups`` (n,) int: strata, whose means are taken out, too (one: all zeros).

    Without strata this is ``pingouin.partial_corr(method='spearman')``.
    """
    n = len(x)
    design = np.column_stack([groups[:, None] == np.unique(groups), *[stats.rankdata(c) for c in covariates.T]])
    design = design.astype(float)
    k = int(np.linalg.matrix_rank(design)) - 1
    a, b = (r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in (stats.rankdata(x), stats.rankdata(y)))
    df = n - 2 - k
    size = float(np.sqrt((a @ a) * (b @ b)))
    if df < 1 or size < 1e-9 * n:
        return Partial(float("nan"), float("nan"), df, a, b)
    r = float(np.clip(a @ b / size, -1, 1))
    with np.errstate(divide="ignore"):
        t = r * np.sqrt(df / (1 - r * r))
    return Partial(r, float(2 * stats.t.sf(abs(t), df)), df, a, b)


def permute_within(x: np.ndarray, y: np.ndarray, groups: np.ndarray, permutations: int, seed: int) -> float:
    """Two-sided Monte Carlo p = (b + 1) / (m + 1) of the inner product of residuals, ``x`` being permuted within the
    strata ``groups`` (Freedman & Lane 1983, on ranks)."""
    rng = np.random.default_rng([seed, 3, len(x)])
    observed = abs(float(x @ y))
    count = 0
    for start in range(0, permutations, 1000):
        m = min(1000, permutations - start)
        shuffled = np.empty((m, len(x)))
        for g in np.unique(groups):
            where = np.flatnonzero(groups == g)
            shuffled[:, where] = rng.permuted(np.tile(x[where], (m, 1)), axis=1)
        count += int((np.abs(shuffled @ y) >= observed * (1 - 1e-12)).sum())
    return (count + 1) / (permutations + 1)


def associate(conditions: pd.DataFrame, predictions: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """:func:`associate_targets` from the tables of a results folder. Raises :class:`~morphsym.errors.InputError` for
    tables that cannot be used."""
    return associate_targets(target_values(conditions, predictions), **options)


def associate_targets(
    targets: Targets,
    effects: pd.DataFrame | None = None,
    covariates: Sequence[str] = COVARIATES,
    strata: str | None = "cohort",
    outcome: str = "logit",
    permutations: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """The association of the photos' own asymmetry (``realised_asymmetry`` of ``original``: the face as it was fitted) with the
    output on the ``original`` pixels, for each classifier, and for each emotion where there are several.

    Emotions are strata (their means are taken out, permutations stay within), and so are the values of the column
    ``strata``, where there is one (healthy, patient). ``effects``: those of :func:`~morphsym.analysis.analyze`; the
    primary AE (of sampled people, else of the photos) is shown as ``synthetic``, and ``congruent`` says whether the
    signs agree where both are established ('' else). Two rows a cell: test 'permutation' and test 't'. Rows without
    numbers say why in ``note``; without photos, or their measured asymmetry, the table is empty.
    """
    table = targets.conditions
    if "realised_asymmetry" not in table.columns:
        return pd.DataFrame(columns=list(COLUMNS))
    photos = table[(table["source"] == "photo") & (table["arm"] == "original")]
    if photos.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    held = [c for c in covariates if c in table.columns]
    own = photos[photos["status"] == "ok"].set_index("unit")[["realised_asymmetry", *held]].astype(float)
    frame = photos[["unit", "subject", "expression"]].assign(row=photos.index).join(own, on="unit")
    for c in ("yaw", "roll"):
        if c in held:
            frame[c] = frame[c].abs()
    by_cohort = strata if strata and strata in table.columns else None
    frame["stratum"] = frame["expression"].astype(str)
    if by_cohort:
        frame["stratum"] += "/" + table.loc[photos.index, by_cohort].astype(str)
    rows = []
    emotions = sorted(frame["expression"].unique())
    for k, name in enumerate(targets.classifiers):
        y = pd.Series(targets.values(outcome)[frame["row"].to_numpy(), k], index=frame.index)
        for emotion in ["all", *(emotions if len(emotions) > 1 else [])]:
            part = frame.assign(y=y)
            part = part if emotion == "all" else part[part["expression"] == emotion]
            rows += _cell(name, emotion, outcome, part.dropna(subset=["y", "realised_asymmetry", *held]), held,
                          by_cohort, permutations, seed, alpha)  # fmt: skip
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    p = out["p_value"].to_numpy(dtype=float)
    out["p_adjusted"] = adjust(p, out["test"] + (out["emotion"] == "all").map({True: "/all", False: "/each"}), "holm")
    return _beside_synthetic(out, effects, alpha)


def _cell(
    name: str,
    emotion: str,
    outcome: str,
    part: pd.DataFrame,
    held: list[str],
    strata: str | None,
    permutations: int,
    seed: int,
    alpha: float,
) -> list[dict[str, object]]:
    """Both rows of one classifier × emotion; one number a subject and stratum."""
    part = part.groupby(["subject", "stratum"], as_index=False, observed=True)[
        ["y", "realised_asymmetry", *held]
    ].mean()
    groups = pd.factorize(part["stratum"])[0]
    used = [c for c in held if part[c].nunique() > 1]
    n = len(part)
    row: dict[str, object] = {
        "classifier": name, "emotion": emotion, "outcome": outcome, "n_subjects": part["subject"].nunique(),
        "covariates": ", ".join(used), "strata": "emotion" + (f", {strata}" if strata else ""), "test": "none", "note": "",
    }  # fmt: skip
    alone = np.bincount(groups, minlength=1)
    if n and (alone == 1).any():  # a stratum of one says nothing: its mean is itself
        keep = alone[groups] > 1
        row["note"] = f"{int((~keep).sum())} photos alone in their stratum are left out"
        part, groups, n = part[keep], pd.factorize(part.loc[keep, "stratum"])[0], int(keep.sum())
        row["n_subjects"] = part["subject"].nunique()
    if n < 6:
        few = len(alone[alone > 0]) and int(alone.sum())
        return [row | {"note": f"{few} photo{'' if few == 1 else 's'}: too few for an association"}]
    x, y = part["realised_asymmetry"].to_numpy(), part["y"].to_numpy()
    result = partial_rank_correlation(x, y, part[used].to_numpy(dtype=float).reshape(n, -1), groups)
    if not np.isfinite(result.r):
        why = "too few photos for the covariates" if result.df < 1 else "no variation left beside the covariates"
        return [row | {"note": why}]
    z, half = np.arctanh(np.clip(result.r, -1 + 1e-12, 1 - 1e-12)), stats.norm.ppf(1 - alpha / 2)
    # Fisher's z with the variance of Spearman's coefficient by Bonett & Wright (2000), less one for each covariate
    se = np.sqrt((1 + result.r**2 / 2) / max(result.df - 1, 1))
    low, high = np.tanh([z - half * se, z + half * se])
    row |= {"r": result.r, "ci_low": low, "ci_high": high}
    p = permute_within(result.x, result.y, groups, permutations, seed)
    error = float(np.sqrt(p * (1 - p) / permutations))
    return [
        row | {"test": "permutation", "statistic": result.r, "p_value": p, "p_mc_error": error},
        row | {"test": "t", "statistic": result.r, "p_value": result.p_value, "p_mc_error": 0.0},
    ]


def _beside_synthetic(out: pd.DataFrame, effects: pd.DataFrame | None, alpha: float) -> pd.DataFrame:
    """Fill ``synthetic`` (primary AE) and ``congruent`` ('yes', 'no' or '' where either is not established)."""
    out["synthetic"], out["congruent"] = np.nan, ""
    if effects is None:
        return out
    primary = effects[effects["primary"] & (effects["contrast"] == "AE") & effects["test"].ne("tost")]
    primary = primary.sort_values("source", ascending=False).drop_duplicates("classifier").set_index("classifier")
    out["synthetic"] = out["classifier"].map(primary["estimate"])
    known = out["classifier"].map(primary["p_adjusted"]).lt(alpha) & out["p_adjusted"].lt(alpha)
    same = np.sign(out["r"].astype(float)) == np.sign(out["synthetic"])
    out["congruent"] = np.where(known, np.where(same, "yes", "no"), "")
    return out
