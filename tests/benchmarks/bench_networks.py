"""How far each network's output is from the official implementation's, with the parameters filled by one stated rule.

Run as ``python -m tests.benchmarks.bench_networks [NAME…]``. The rule and the inputs' rule are in
``tests/classifiers/rule.py``, the official outputs with their commits in ``tests/golden/classifiers``. The tests run the
quick ones; here are all, the large ones too. ``baseline`` is what is allowed: 1e-4.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from tests.classifiers.networks import BUILD, difference, golden, same_layout

COMMAND = "python -m tests.benchmarks.bench_networks"


def benches(names: tuple[str, ...] = tuple(BUILD)) -> Iterator[dict[str, Any]]:
    """Rows {name, value, unit, baseline, ratio, command}: the largest difference, relative to the largest output."""
    for name in names:
        assert same_layout(name), f"{name}: names or shapes differ from the official ones"
        value = difference(name)
        where = f"{golden(name)['upstream'].removeprefix('https://github.com/')}@{golden(name)['commit'][:7]}"
        yield {"name": f"parity: {name} against {where}", "value": value, "unit": "of the largest output",
               "baseline": 1e-4, "ratio": value / 1e-4, "command": COMMAND}  # fmt: skip


if __name__ == "__main__":
    for row in benches(tuple(sys.argv[1:]) or tuple(BUILD)):
        print(json.dumps(row))
