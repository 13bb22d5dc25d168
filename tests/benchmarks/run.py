"""``make bench``: run every benchmark, print a table, write ``build/bench.json``.

A benchmark is a module ``bench_*.py`` here with ``benches()``, which yields rows ``{name, value, unit, baseline, ratio,
command}``. Machines are noisy: a ``ratio`` to a ``baseline`` measured in the same run says more than a value.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KEYS = ("name", "value", "unit", "baseline", "ratio", "command")


def main(wanted: list[str]) -> int:
    """Run the benchmarks whose module name contains one of ``wanted`` (all without)."""
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    modules = sorted(p.stem for p in HERE.glob("bench_*.py"))
    for name in modules:
        if wanted and not any(w in name for w in wanted):
            continue
        print(f"— {name}", file=sys.stderr, flush=True)
        try:
            for row in importlib.import_module(f"tests.benchmarks.{name}").benches():
                rows.append({k: row.get(k) for k in KEYS})
                print("  " + line(rows[-1]), flush=True)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    out = ROOT / "build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(rows, indent=2) + "\n")
    width = max([len(str(r["name"])) for r in rows], default=0)
    print()
    for r in rows:
        print(line(r, width))
    print(f"\n{len(rows)} figures in {out}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def line(row: dict[str, Any], width: int = 0) -> str:
    """One row of the table."""

    def number(x: Any) -> str:
        return f"{x:,.4g}" if isinstance(x, int | float) else str(x)

    text = f"{row['name']:<{width}}  {number(row['value']):>10} {row['unit'] or ''}"
    if row["baseline"] is not None:
        text += f"   baseline {number(row['baseline'])}"
    if row["ratio"] is not None:
        text += f"   ratio {number(row['ratio'])}"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
