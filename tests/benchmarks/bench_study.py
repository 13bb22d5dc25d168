"""Studies: speed, memory at ten times the size, how time grows, and what the driver of a cluster costs.

The issue's study is 200 people × 2 emotions × 2 sides × 4 doses × 4 shared classifiers: the two that are bundled and, where
``../shared/data`` is, the two XCEPTIONs that are there. ``MORPHSYM_BENCH_PEOPLE`` makes it smaller.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphsym.classifiers import bundled
from morphsym.classifiers.adapters.files import weights_folder
from morphsym.classifiers.registry import catalogue
from morphsym.resources import home as user_home

COMMAND = "python -m tests.benchmarks.run study"
PEOPLE = int(os.environ.get("MORPHSYM_BENCH_PEOPLE", "200"))

SHARED = {"mini_xception_119": "mini_xception_119.hdf5", "big_xception_54": "big_xception_54.hdf5"}
"""Name of a shared classifier and its file."""

STUDY = """
import json, resource, sys, tempfile, time
from pathlib import Path
from morphsym.experiment.run import Timing
from morphsym.experiment.study import Study, run_study
people, classifiers = int(sys.argv[1]), tuple(sys.argv[2].split(","))
with tempfile.TemporaryDirectory() as folder:
    run_study(Study(sample=1, expressions=("happiness",), classifiers=classifiers), Path(folder) / "warm")
    timing, begin, work = Timing(), time.perf_counter(), time.process_time()
    study = Study(sample=people, expressions=("happiness", "surprise"), classifiers=classifiers)
    run_study(study, Path(folder) / "r", timing=timing)
    seconds, work = time.perf_counter() - begin, time.process_time() - work
    size = sum(p.stat().st_size for p in (Path(folder) / "r").rglob("*.parquet"))
print(json.dumps({"seconds": seconds, "work": work, "conditions": timing.conditions, "rendering": timing.rendering, "bytes": size,
    "classifying": timing.classifying, "other": timing.other, "busy": timing.busy,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

DRIVER = """
import json, resource, sys, tempfile, time
from pathlib import Path
from tests.benchmarks.trivial import simulate
conditions, engine = int(sys.argv[1]), sys.argv[2]
with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(simulate(Path(folder) / "r", conditions, engine)))
"""


def child(program: str, *args: object, home: str | None = None) -> dict[str, Any]:
    """Run ``program`` in a process of its own, so that its peak memory is its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).resolve().parents[2], env=os.environ | ({"MORPHSYM_HOME": home} if home else {}),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def four(home: str) -> tuple[str, ...]:
    """The bundled classifiers, and the shared ones where they are, put into the folder ``home``."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "classifiers"
    if not folder.is_dir():
        print("  ../shared/data is not here: the two bundled classifiers only")
        return bundled()
    for name, file in SHARED.items():
        spec = catalogue()[name]
        wanted = Path(home) / weights_folder(spec).relative_to(user_home()) / (spec.source or spec.weights.file)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.symlink_to(folder / file)
    return (*bundled(), *SHARED)


def row(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """A row of the table."""
    return {"name": name, "value": value, "unit": unit, "baseline": None, "ratio": None, "command": COMMAND} | more


def benches() -> Iterator[dict[str, Any]]:
    """End to end at full size and a tenth of it; then a million conditions of nothing, for the driver alone."""
    with tempfile.TemporaryDirectory() as home:
        names = ",".join(four(home))
        small, large = (child(STUDY, n, names, home=home) for n in (max(PEOPLE // 10, 1), PEOPLE))
    yield row("study: classifiers", names.count(",") + 1, f"({names})")
    yield row("study: end to end", large["conditions"] / large["seconds"], "conditions/s")
    yield row("study: rendering", 1000 * large["rendering"] / large["conditions"], "ms of a core a condition")
    yield row("study: classifying", 1000 * large["classifying"] / large["conditions"], "ms of a core a condition")
    yield row("study: everything else", 100 * large["other"] / large["busy"], "% (aim <= 15)")
    yield row("study: tables", large["bytes"] / large["conditions"], "bytes a condition")
    yield row("study: peak memory", large["peak"], "MB", baseline=small["peak"], ratio=large["peak"] / small["peak"])
    grown = math.log(large["work"] / small["work"]) / math.log(large["conditions"] / small["conditions"])
    yield row("study: processor time grows with exponent", grown, "(aim <= 1.05)")
    for engine in ("local", "ray"):
        if engine == "ray" and importlib.util.find_spec("ray") is None:
            print("  skipped: ray is not installed")
            continue
        tenth, full = (child(DRIVER, n, engine) for n in (100_000, 1_000_000))
        yield row(
            f"driver ({engine}): overhead", 1e6 * full["driver"] / full["conditions"], "µs a condition (aim < 100)"
        )
        yield row(f"driver ({engine}): peak memory at 10⁶", full["peak"], "MB", baseline=tenth["peak"],
                  ratio=full["peak"] / tenth["peak"])  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory():
        for r in benches():
            print(r["name"], r["value"], r["unit"], r["ratio"])
