"""Conditions a second end to end with both bundled classifiers, and where the time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from morphsym.experiment.run import Timing
from morphsym.experiment.study import Study, run_study

COMMAND = "python -m tests.benchmarks.run pipeline"
PEOPLE = 24


def benches() -> Iterator[dict[str, Any]]:
    """24 people × 6 emotions × both sides × 4 strengths × all arms, 224², written to disk."""
    with tempfile.TemporaryDirectory() as folder:
        run_study(Study(sample=1, expressions=("happiness",)), Path(folder) / "warm")  # compiles and loads
        timing = Timing()
        begin = time.perf_counter()
        run_study(Study(sample=PEOPLE), Path(folder) / "r", timing=timing)
        total = time.perf_counter() - begin

    def row(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "value": value, "unit": unit, "baseline": None, "ratio": None, "command": COMMAND} | more

    yield row("end to end", timing.conditions / total, "conditions/s")
    yield row("share rendering", 100 * timing.rendering / timing.busy, "% of the workers' time")
    yield row("share classifying", 100 * timing.classifying / timing.busy, "% of the workers' time")
    yield row("share everything else", 100 * timing.other / timing.busy, "% (aim <= 15)")
