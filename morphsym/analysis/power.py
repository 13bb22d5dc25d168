"""How many people? Planned from a pilot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

from ..errors import UsageError
from .tests import wilcoxon

MOST = 100_000  # people; beyond, say so


@dataclass(frozen=True)
class Plan:
    """``people`` needed for ``power`` at two-sided ``alpha``; None: more than 100,000. ``note`` says what it rests on."""

    effect_size: float  # dz
    alpha: float
    power: float
    people: int | None
    note: str = ""


def people_needed(effect_size: float, power: float = 0.9, alpha: float = 0.05) -> Plan:
    """The smallest number of people with which a paired t test of dz = ``effect_size`` has ``power``
    (``statsmodels.stats.power.TTestPower``). Wilcoxon's test needs some 5 % more for normal data, fewer for heavy tails.

    Raises :class:`UsageError` for an effect of zero, or levels outside (0, 1).
    """
    if not np.isfinite(effect_size) or effect_size == 0:
        raise UsageError(f"the effect size must be a number other than 0; got {effect_size}")
    for name, value in (("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            raise UsageError(f"{name} must lie between 0 and 1; got {value}")
    size = abs(effect_size)
    high = 2
    while power_of(high, size, alpha) < power:
        high *= 2
        if high > MOST:
            return Plan(effect_size, alpha, power, None, f"more than {MOST} people")
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        if power_of(middle, size, alpha) >= power:
            high = middle
        else:
            low = middle + 1
    return Plan(effect_size, alpha, power, low)


def power_of(people: int, effect_size: float, alpha: float = 0.05) -> float:
    """The power of a two-sided paired t test of dz = ``effect_size`` with ``people``.

    Far out in its tail the noncentral t distribution of scipy gives NaN; there the normal approximation is used (the
    power is then 1 to many digits).
    """
    power = float(TTestPower().power(abs(effect_size), people, alpha))
    if np.isfinite(power):
        return power
    return float(stats.norm.cdf(abs(effect_size) * np.sqrt(people) - stats.t.ppf(1 - alpha / 2, people - 1)))


def plan_from_pilot(effects: pd.DataFrame, power: float = 0.9, alpha: float | None = None) -> pd.DataFrame:
    """People needed for each classifier's primary TE and AE, from the dz of a pilot's ``effects``.

    A pilot's dz is uncertain, so beside the estimate there is a cautious plan: for the lower end of the 80 % interval of
    dz (normal approximation, variance 1/n + dz²/2n; Hedges & Olkin 1985). ``alpha`` is divided by the size of the
    primary family (Holm's first step); None: the analysis' own. Columns: source, classifier, contrast, pilot_people, dz,
    dz_cautious, alpha, people, people_cautious, note.
    """
    rows = []
    primary = effects[effects["primary"] & effects["contrast"].isin(["TE", "AE"])]
    primary = primary.drop_duplicates(["source", "classifier", "contrast"])
    for source, group in primary.groupby("source"):
        for r in group.itertuples(index=False):
            level = (float(r.alpha) if alpha is None else alpha) / max(1, len(group))  # type: ignore[arg-type]
            row: dict[str, object] = {"source": source, "classifier": r.classifier, "contrast": r.contrast,
                                      "pilot_people": r.n_subjects, "dz": r.effect_size, "alpha": level, "note": ""}  # fmt: skip
            d, n = float(r.effect_size), int(r.n_subjects)  # type: ignore[arg-type]
            if n < 3 or not np.isfinite(d) or d == 0:
                rows.append(row | {"note": "the pilot gives no effect size (too few people, or no variance)"})
                continue
            cautious = max(0.0, abs(d) - 1.2816 * np.sqrt(1 / n + d * d / (2 * n))) * np.sign(d)
            plan = people_needed(d, power, level)
            row |= {"dz_cautious": cautious, "people": plan.people}
            if cautious == 0:
                row["note"] = "the pilot is compatible with no effect: no cautious plan"
            else:
                row["people_cautious"] = people_needed(float(cautious), power, level).people
            rows.append(row)
    columns = ["source", "classifier", "contrast", "pilot_people", "dz", "dz_cautious", "alpha", "people",
               "people_cautious", "note"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"people": "Int64", "people_cautious": "Int64"})


def simulated_power(
    pilot: np.ndarray, people: int, alpha: float = 0.05, studies: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Power of Wilcoxon's test with ``people`` drawn with replacement from the pilot's subjects (n,), as they are: no
    distribution is assumed. Returns the power and its Monte Carlo standard error."""
    pilot = np.asarray(pilot, dtype=float)
    pilot = pilot[np.isfinite(pilot)]
    if len(pilot) < 3:
        raise UsageError(f"a pilot needs at least 3 people with a value; got {len(pilot)}")
    if people < 2:
        raise UsageError(f"people must be at least 2; got {people}")
    rng = np.random.default_rng([seed, 4, people])
    p = wilcoxon(pilot[rng.integers(0, len(pilot), (people, studies))]).p_value
    share = float((p < alpha).mean())
    return share, float(np.sqrt(share * (1 - share) / studies))
