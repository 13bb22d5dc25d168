"""How fast the statistics are: 17 classifiers × 7 emotions × 10 doses × 1,000 people.

Run as ``python -m tests.benchmarks.bench_analysis``. The baseline is a loop over ``scipy.stats.permutation_test`` (and
``scipy.stats.bootstrap``) on a sample of the same cells, in the same run, because absolute times depend on who else
uses the machine; of either side the shortest time counts. The p values of the sample are compared, too: a fast wrong
answer is no answer.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import stats

from morphsym.analysis.intervals import bootstrap_mean
from morphsym.analysis.tests import paired_t, sign_flip, wilcoxon

COMMAND = "python -m tests.benchmarks.bench_analysis"
CLASSIFIERS, EMOTIONS, DOSES, PEOPLE, DRAWS = 17, 7, 10, 1000, 10_000
SAMPLE = 5


def people(seed: int = 0) -> np.ndarray:
    """(1000, 1190): subject-level contrasts, from no effect to clear ones, heavy-tailed, correlated between cells."""
    rng = np.random.default_rng(seed)
    k = CLASSIFIERS * EMOTIONS * DOSES
    own = rng.standard_t(4, size=(PEOPLE, k)) + rng.normal(size=(PEOPLE, 1))
    return own + np.tile(np.linspace(0, 0.12, DOSES), k // DOSES)


def best(f: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """The result of ``f`` and its shortest time: what other users of the machine add is no property of the code."""
    result, wall, _ = timed(f, repeats)
    return result, wall


def timed(f: Callable[[], Any], repeats: int = 3) -> tuple[Any, float, float]:
    """The result of ``f``, its shortest wall time and its shortest processor time (of all threads together)."""
    walls, spent = [], []
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        result = f()
        walls.append(time.perf_counter() - start)
        spent.append(time.process_time() - busy)
    return result, min(walls), min(spent)


def benches() -> Iterator[dict[str, Any]]:
    """Rows {name, value, unit, baseline, ratio, command}; 'baseline' is what scipy takes for the same cells."""
    d = people()
    cells = d.shape[1]
    picked = np.linspace(0, cells - 1, SAMPLE).astype(int)
    sign_flip(d[:, :8], 200)  # wake the BLAS threads
    ours, flips, flips_cpu = timed(lambda: sign_flip(d, DRAWS))
    interval, boots, boots_cpu = timed(lambda: bootstrap_mean(d, DRAWS, kind="bca"))
    _, rest, rest_cpu = timed(lambda: (wilcoxon(d), paired_t(d)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    reference, ends, one_flip, one_boot, one_flip_cpu = [], [], [], [], []
    for k in picked:
        result, seconds, busy = timed(
            lambda k=k: stats.permutation_test(
                (d[:, k],), np.mean, permutation_type="samples", n_resamples=DRAWS, vectorized=True, axis=-1,
                rng=np.random.default_rng(1),
            ), 1
        )  # fmt: skip
        reference.append(result.pvalue)
        one_flip.append(seconds)
        one_flip_cpu.append(busy)
        result, seconds = best(
            lambda k=k: stats.bootstrap(
                (d[:, k],), np.mean, n_resamples=DRAWS, method="BCa", rng=np.random.default_rng(1)
            ),
            1,
        )
        ends.append(result)
        one_boot.append(seconds)
    scipy_flips, scipy_boots = min(one_flip) * cells, min(one_boot) * cells
    p, q = ours.p_value[picked], np.array(reference)
    # scipy doubles a one-sided p, so its error is that of 2 × Binomial(q / 2); ours counts both tails
    middle = (p + q) / 2
    variance = (middle * (1 - middle) + 4 * (middle / 2) * (1 - middle / 2)) / DRAWS
    z = np.abs(p - q) / np.sqrt(np.maximum(variance, 1 / DRAWS**2))
    width = interval.high[picked] - interval.low[picked]
    off = max(
        np.abs(interval.low[picked] - [e.confidence_interval.low for e in ends]).max() / width.min(),
        np.abs(interval.high[picked] - [e.confidence_interval.high for e in ends]).max() / width.min(),
    )
    what = f"{cells} cells × {PEOPLE} people"

    def row(name: str, value: float, unit: str, baseline: float | None = None, ratio: float | None = None) -> dict:
        return {
            "name": f"analysis: {name}", "value": value, "unit": unit, "baseline": baseline, "ratio": ratio,
            "command": COMMAND,
        }  # fmt: skip

    yield row(f"sign flips, {DRAWS} permutations, {what}", flips, "s", scipy_flips, scipy_flips / flips)
    yield row(f"BCa intervals, {DRAWS} replicates, {what}", boots, "s", scipy_boots, scipy_boots / boots)
    yield row(f"Wilcoxon and t, {what}", rest, "s")
    yield row(
        f"permutations, intervals, Wilcoxon and t together, {what}", flips + boots + rest, "s",
        scipy_flips + scipy_boots, (scipy_flips + scipy_boots) / (flips + boots + rest),
    )  # fmt: skip
    cpu = min(one_flip_cpu) * cells
    yield row(f"sign flips, processor time, {what}", flips_cpu, "s", cpu, cpu / flips_cpu)
    yield row(f"all of these, processor time, {what}", flips_cpu + boots_cpu + rest_cpu, "s")
    yield row("largest difference from scipy's p, in Monte Carlo standard errors", float(z.max()), "SE", 4.0)
    yield row("largest difference from scipy's BCa ends, share of the width", float(off), "", 0.05)
    yield row("peak memory", peak, "GiB", 2.0)


if __name__ == "__main__":
    for line in benches():
        print(json.dumps(line, ensure_ascii=False))
