"""Runs killed with SIGKILL at random moments and resumed: ``python -m tests.benchmarks.faults [KILLS] [SEED]``.

The same rows and hashes as an undisturbed run must come out, none lost, none doubled. Many small shards, so that a good
part of the kills hits a write.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
people: {count: 16, expressions: [happiness, surprise]}
design: {strengths: [0.5, 1]}
rendering: {size: 64}
classifiers: [mini_xception]
seed: 7
run: {units_per_shard: 1}
"""


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """``morphsym run`` in a process group of its own."""
    command = [sys.executable, "-m", "morphsym", "run", str(study), "-o", str(out), "--resume", "--no-analysis", "-q"]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)


def finish(study: Path, out: Path) -> dict[str, str]:
    """Run to the end; the hashes of what was written."""
    process = start(study, out)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()
    return json.loads((out / "manifest.json").read_text())["sha256"]


def shards(out: Path) -> int:
    """Shards that are marked complete."""
    return len(list((out / ".shards").glob("[0-9]*.json")))


def torment(folder: Path, kills: int, seed: int = 0) -> tuple[dict[str, str], dict[str, str], int]:
    """Hashes of an undisturbed run and of one that was killed ``kills`` times; how many kills left half-written files.

    A study that ends before it is killed often enough is begun again.
    """
    study = folder / "study.yaml"
    study.write_text(STUDY)
    undisturbed = finish(study, folder / "undisturbed")
    rng = random.Random(seed)
    killed = torn = rounds = 0
    disturbed: dict[str, str] = {}
    while killed < kills or not disturbed:
        out = folder / f"disturbed-{rounds}"
        rounds += 1
        while killed < kills:
            process = start(study, out)
            before = shards(out)
            while process.poll() is None and not out.joinpath("manifest.json").exists():
                time.sleep(0.01)
            while process.poll() is None and shards(out) == before:  # loading is over, the work goes on
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.35))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                killed += 1
                torn += bool(list(out.rglob("*.tmp*")))
            elif process.returncode != 0:
                raise AssertionError(process.communicate()[1].decode())
            if "complete" in (out / "manifest.json").read_text():
                break
        disturbed = finish(study, out)
        if disturbed != undisturbed:
            break
    return undisturbed, disturbed, torn


def main() -> int:
    """Print what was found; 1 if anything differs."""
    kills, seed = (int(x) for x in (*sys.argv[1:], *("30", "0")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        a, b, torn = torment(Path(folder), kills, seed)
    same = a == b
    print(
        f"{kills} kills, {torn} of them in the middle of a write: {len(a)} files, {'the same' if same else 'DIFFERENT'}"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
