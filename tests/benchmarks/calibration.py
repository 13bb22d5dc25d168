"""Does the analysis stay silent when there is nothing, and speak when there is something?

Run as ``python -m tests.benchmarks.calibration`` (some minutes). Part one draws
subject- and unit-level contrasts and asks the tests and intervals directly; part two sends whole tables of conditions
and predictions through :func:`morphsym.analysis.analyze`, every simulated study being a classifier of its own.
Monte Carlo standard error of a rate of 0.05: 0.002 over the 10,000 studies of part one, 0.005 over the 2,000 of part two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from morphsym.analysis import AnalysisOptions, analyze
from morphsym.analysis.corrections import holm
from morphsym.analysis.intervals import bootstrap_mean
from morphsym.analysis.tests import run
from tests.analysis.factory import Planted, tables

COMMAND = "python -m tests.benchmarks.calibration"
RUNS, SUBJECTS = 10_000, 50  # part one
STUDIES = 2000  # part two, through analyze()
TESTS = ("wilcoxon", "paired_t", "sign_flip", "sign")
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def normal(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """Differences of two exchangeable normal arms."""
    return rng.normal(size=(n, runs)) - rng.normal(size=(n, runs))


def clustered(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """1 to 7 units a subject, correlated within it (a subject's own random effect, mean 0), averaged to the subject."""
    units = rng.integers(1, 8, n)
    own = rng.normal(size=(n, runs))
    noise = rng.normal(size=(n, runs)) / np.sqrt(units)[:, None]
    return own + noise


def skewed(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """Both arms lognormal (skewness 2.9) and exchangeable, with a shared subject level."""
    level = 0.5 * rng.normal(size=(n, runs))
    return np.exp(level + 0.5 * rng.normal(size=(n, runs))) - np.exp(level + 0.5 * rng.normal(size=(n, runs)))


def very_skewed(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """The same with a skewness of 9: kurtosis of the difference in the hundreds. Where intervals of a mean must fail."""
    level = rng.normal(size=(n, runs))
    return np.exp(level + 0.7 * rng.normal(size=(n, runs))) - np.exp(level + 0.7 * rng.normal(size=(n, runs)))


def heavy_tailed(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, size=(n, runs))


def tied(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """Rounded to halves: about one in five differences is zero, most others are tied."""
    return np.round(2 * rng.normal(size=(n, runs))) / 2


def skewed_effect(rng: np.random.Generator, n: int, runs: int) -> np.ndarray:
    """An effect whose size itself is skewed between people: exponential, here with its mean of 1 taken off."""
    return rng.exponential(size=(n, runs)) - 1.0


NULLS: dict[str, Draw] = {
    "normal": normal, "clustered": clustered, "skewed": skewed, "heavy-tailed": heavy_tailed, "tied": tied,
    "very skewed": very_skewed,
}  # fmt: skip


def row(name: str, value: float, unit: str, aim: float | None) -> dict[str, Any]:
    return {"name": f"calibration: {name}", "value": value, "unit": unit, "baseline": aim, "ratio": None,
            "command": COMMAND}  # fmt: skip


def false_positives(rng: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    """Share of null studies with p < 0.05. The Monte Carlo test draws its own sign vectors in 20 batches."""
    for name, draw in NULLS.items():
        d = draw(rng, n, RUNS)
        for test in TESTS:
            p = [
                run(test, part, permutations=2000, seed=i, zero_method="wilcox").p_value
                for i, part in enumerate(np.array_split(d, 20, axis=1))
            ]
            yield row(
                f"false positives, {test}, {name}, {n} people", float((np.concatenate(p) < 0.05).mean()), "", 0.05
            )


def coverage(rng: np.random.Generator, n: int) -> Iterator[dict[str, Any]]:
    """Share of 95 % intervals that hold the true mean, 0."""
    for name, draw in {**NULLS, "skewed effect": skewed_effect}.items():
        d = draw(rng, n, RUNS)
        for kind in ("percentile", "bca"):
            hits = []
            for i, part in enumerate(np.array_split(d, 20, axis=1)):
                interval = bootstrap_mean(part, 4000, kind=kind, seed=i)
                hits.append((interval.low <= 0) & (interval.high >= 0))
            yield row(f"coverage, {kind}, {name}, {n} people", float(np.concatenate(hits).mean()), "", 0.95)


def family_wise(rng: np.random.Generator, n: int, classifiers: int = 17) -> Iterator[dict[str, Any]]:
    """Share of null studies in which Holm lets anything through: TE and AE of 17 classifiers that share their people."""
    person = rng.normal(size=(n, STUDIES, 1))
    ie, ae = (rng.normal(size=(n, STUDIES, classifiers)) + 0.7 * person for _ in range(2))
    d = np.concatenate([ie + ae, ae], axis=2).reshape(n, -1)  # (n, studies × 34)
    for test in ("wilcoxon", "sign_flip"):
        parts = np.array_split(d, 10, axis=1) if test == "sign_flip" else [d]
        p = np.concatenate(
            [run(test, x, permutations=10_000, seed=i, zero_method="wilcox").p_value for i, x in enumerate(parts)]
        )
        found = [(holm(x) < 0.05).any() for x in p.reshape(STUDIES, -1)]
        yield row(
            f"family-wise error after Holm, {test}, {2 * classifiers} hypotheses", float(np.mean(found)), "", 0.05
        )


def pipeline(n: int, planted: Planted, seed: int, batch: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Primary Wilcoxon p of TE and AE and the asymmetry verdicts of STUDIES studies of ``n`` people, through analyze()."""
    te, ae, verdict = [], [], []
    for start in range(0, STUDIES, batch):
        many = {f"study{start + i:05d}": planted for i in range(batch)}
        conditions, predictions = tables(
            n, emotions=("happiness",), sides=("left",), strengths=(1.0,), classifiers=many, seed=seed + start
        )
        options = AnalysisOptions(
            permutations=99, bootstrap=99, outcomes=("logit",), tests=("wilcoxon",), correction="holm"
        )
        a = analyze(conditions, predictions, options)
        e = a.effects[a.effects["primary"] & (a.effects["test"] == "wilcoxon")].sort_values("classifier")
        te.append(e.loc[e["contrast"] == "TE", "p_value"].to_numpy())
        ae.append(e.loc[e["contrast"] == "AE", "p_value"].to_numpy())
        verdict.append(a.verdicts.sort_values("classifier")["asymmetry"].to_numpy())
    return np.concatenate(te), np.concatenate(ae), np.concatenate(verdict)


def dz_of_asymmetry(dz: float) -> Planted:
    """A classifier with an asymmetry effect of standardised size ``dz`` over subjects, and some intensity effect.

    AE of a subject = ae·(1 + between·N) + noise·(N − N); SD² = (between·ae)² + 2 noise².
    """
    ae, between = -0.4, 0.5
    noise = float(np.sqrt(((ae / dz) ** 2 - (between * ae) ** 2) / 2))
    return Planted(ie=-1.0, ae=ae, noise=noise, between=between, labels=("happiness", "sadness", "neutral"))


def planted(n: int = 50) -> Iterator[dict[str, Any]]:
    two = ("happiness", "sadness", "neutral")
    te, ae, verdict = pipeline(n, Planted(ie=-0.8, ae=0.0, noise=0.3, labels=two), 1000)
    yield row(f"planted intensity only, {n} people: TE found", float((te < 0.05).mean()), "", 1.0)
    yield row(f"planted intensity only, {n} people: AE found", float((ae < 0.05).mean()), "", 0.06)
    wrong = np.isin(verdict, ("lowers", "raises")).mean()
    yield row(f"planted intensity only, {n} people: verdict claims asymmetry", float(wrong), "", 0.06)
    te, ae, verdict = pipeline(n, dz_of_asymmetry(0.5), 2000)
    yield row(f"planted asymmetry dz 0.5, {n} people: AE found", float((ae < 0.05).mean()), "", 0.90)


def benches() -> Iterator[dict[str, Any]]:
    """Rows {name, value, unit, baseline (the aim), ratio (none), command}."""
    rng = np.random.default_rng(20240611)
    yield from false_positives(rng, SUBJECTS)
    yield from false_positives(rng, 12)
    yield from coverage(rng, SUBJECTS)
    yield from coverage(rng, 12)
    yield from family_wise(rng, SUBJECTS)
    yield from planted()


DEMANDED = ("clustered", "skewed", "heavy-tailed", "tied")
"""Data for which the bounds must hold, with SUBJECTS people; the others show where they end."""


def bounds(name: str) -> tuple[float, float] | None:
    """What a rate must lie between; None where nothing is demanded. The sign test is no primary test: with 50 people its
    exact level is 0.033."""
    name = name.removeprefix("calibration: ")
    ends = tuple(f"{d}, {SUBJECTS} people" for d in DEMANDED)
    if name.startswith(tuple(f"false positives, {t}, " for t in ("wilcoxon", "paired_t", "sign_flip"))):
        return (0.04, 0.06) if name.split(", ", 2)[2] in ends else None
    if name.startswith("coverage, percentile, "):
        return (0.935, 0.965) if name.split(", ", 2)[2] in ends else None
    if name.startswith("family-wise"):
        return (0.0, 0.06)
    for end, limits in (("TE found", (0.95, 1.0)), ("only, 50 people: AE found", (0.0, 0.06)),
                        ("claims asymmetry", (0.0, 0.06)), ("0.5, 50 people: AE found", (0.9, 1.0))):  # fmt: skip
        if name.endswith(end):
            return limits
    return None


def main() -> int:
    """Print every figure; 1 where any misses its bounds."""
    judged = missed = 0
    for line in benches():
        limits = bounds(line["name"])
        if limits is not None:
            judged += 1
            missed += not limits[0] <= line["value"] <= limits[1]
            line |= {"bounds": limits, "holds": limits[0] <= line["value"] <= limits[1]}
        print(json.dumps(line, ensure_ascii=False))
        sys.stdout.flush()
    print(json.dumps(row("bounds missed", missed, f"of {judged}", 0), ensure_ascii=False))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
