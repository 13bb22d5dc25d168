"""A study whose pictures cost nothing: what is left is the driver."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from morphsym.experiment import engines
from morphsym.experiment.run import ShardRows, Timing, execute
from morphsym.experiment.store import Results
from morphsym.experiment.tables import _FLOAT32, _FLOAT64, Answers, condition_table, encode, prediction_table
from morphsym.intervention import Design
from morphsym.types import EMOTIONS

FLOATS = (*_FLOAT32, *_FLOAT64)

UNITS = 40
"""Units a shard."""


@dataclass(frozen=True)
class Trivial:
    """A recipe: constant logits for one classifier, plausible rows for every condition."""

    design: Design = field(default_factory=Design)

    def __call__(self) -> Callable[[int], ShardRows]:
        spec: Any = SimpleNamespace(id="constant", labels=EMOTIONS, label_emotions=EMOTIONS)

        def job(shard: int) -> ShardRows:
            begin = time.perf_counter()
            columns, answers = [], []
            for u in range(shard * UNITS, (shard + 1) * UNITS):
                cs = self.design.conditions(f"s{u:07d}.happiness", "sampled")
                n = len(cs)
                columns.append(
                    {k: [getattr(c, k) for c in cs] for k in ("condition", "unit", "arm", "side", "strength", "region")}
                    | {"subject": [f"s{u:07d}"] * n, "source": ["sampled"] * n, "expression": ["happiness"] * n}
                    | {"status": ["ok"] * n, "reason": [""] * n, "image": [None] * n, "scene": ["0" * 16] * n}
                    | {k: np.zeros(n) for k in set(FLOATS) - {"strength"}}
                )
                answers.append(Answers(spec, [c.condition for c in cs], np.full((n, 8), 0.5, np.float32)))
            rows = encode(condition_table(columns)), encode(prediction_table(answers))
            seconds = time.perf_counter() - begin
            return ShardRows(shard, *rows, None, Timing(other=seconds, conditions=sum(len(c["unit"]) for c in columns)))

        return job


@cache
def per_shard() -> int:
    """Conditions of one shard."""
    return Design().count(0, UNITS)


def simulate(out: Path, conditions: int, engine: str) -> dict[str, float]:
    """Run about so many conditions; seconds of the driver (processor time of its main thread and writes), peak MB."""
    results = Results.create(out, {"spec_sha256": "x", "classifiers": {"constant": {}}})
    where = engines.get(engine, 2)
    shards = -(-conditions // per_shard())
    timing, begin, mine = Timing(), time.perf_counter(), time.thread_time()
    execute(results, shards, lambda todo: where.map(Trivial(), todo), timing=timing)
    return {
        "conditions": timing.conditions,
        "driver": time.thread_time() - mine,
        "seconds": time.perf_counter() - begin,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "pid": os.getpid(),
    }
