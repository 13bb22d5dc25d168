"""Engines: the same bytes wherever the work runs, bounded queues, lost workers, Ctrl-C at a shard."""

import dataclasses
import importlib.util
import os
import signal
import threading
import time
import warnings

import pytest

from morphsym.errors import ClassifierError, MissingDependencyError, StoreError, UsageError
from morphsym.experiment import engines, warned
from morphsym.experiment.engines.local import Processes, Threads
from morphsym.experiment.study import run_study

from .test_run import STUDY, same_rows

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (pip install 'morphsym[ray]')"
)


@dataclasses.dataclass(frozen=True)
class Trivial:
    """A recipe whose job squares; it can wait for, die at or fail at a shard."""

    dies_at: int | None = None
    fails_at: int | None = None
    warns: bool = False
    once: str = ""  # a file that is made before dying, so that it happens once

    def __call__(self):
        def job(shard):
            if self.warns:
                warnings.warn(f"a shard that is {'odd' if shard % 2 else 'even'}", stacklevel=1)
            if shard == self.dies_at and not os.path.exists(self.once):
                open(self.once, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            if shard == self.fails_at:
                raise ClassifierError("net: gave NaN")
            return shard * shard

        return job


@pytest.mark.parametrize("engine", [Threads(1), Threads(4), Processes(1)])
def test_every_shard_once_and_workers_warnings_reach_the_driver(engine):
    with warned.gather() as found:
        assert sorted(engine.map(Trivial(warns=True), range(50))) == [k * k for k in range(50)]
    assert set(found) == {"a shard that is even", "a shard that is odd"}


def test_an_error_of_the_job_comes_out_as_it_is():
    for engine in (Threads(2), Processes(1)):
        with pytest.raises(ClassifierError, match="net: gave NaN"):
            list(engine.map(Trivial(fails_at=3), range(10)))


def test_shards_are_asked_for_only_when_workers_are_free():
    """Back-pressure: a driver that is slow to write is not run over."""
    asked = []

    def shards():
        for k in range(100):
            asked.append(k)
            yield k

    stream = Threads(2).map(Trivial(), shards())
    next(stream)
    time.sleep(0.2)
    assert len(asked) <= 6
    stream.close()


def test_a_process_that_dies_ends_the_run_clearly(tmp_path):
    with pytest.raises(StoreError, match=r"a worker process died.*--resume"):
        list(Processes(1).map(Trivial(dies_at=2, once=str(tmp_path / "died")), range(6)))


def test_ctrl_c_finishes_the_shards_at_work():
    def recipe():
        def job(shard):
            time.sleep(0.3)
            return shard

        return job

    threading.Timer(0.45, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    got = []

    def take():
        for k in Threads(2).map(recipe, range(1000)):
            got.append(k)

    with pytest.raises(KeyboardInterrupt):
        take()
    assert sorted(got) == list(range(len(got)))  # nothing in between was dropped
    assert 2 <= len(got) <= 6


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("slurm",), "engine must be one of local, processes, ray; got 'slurm'"),
        (("local", 0), "workers must be at least 1"),
        (("local", None, "auto"), "an address is for the engine ray"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(UsageError, match=message):
        engines.get(*args)


def test_without_ray(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'morphsym\[ray\]'"):
        engines.get("ray")


@needs_ray
def test_shares_of_gpus():
    from morphsym.experiment.engines.ray import shares

    assert shares(None, 16, 0, False) == (16, 0.0)
    assert shares(3, 16, 2, False) == (3, 0.0)
    for workers, cpus, gpus, count in ((None, 128, 8, 64), (None, 4, 4, 4), (None, 1, 2, 2), (5, 64, 2, 5)):
        n, share = shares(workers, cpus, gpus, True)
        assert n == count
        each = int(1 / share)  # Ray packs so many on a GPU
        assert each * gpus >= n
    with pytest.raises(StoreError, match="the Ray cluster has none"):
        shares(None, 8, 0, True)


@needs_ray
@pytest.mark.slow
def test_ray_gives_the_same_bytes_although_a_worker_is_killed_in_mid_study(tmp_path, monkeypatch):
    """A local two-worker cluster: the files of a study are byte for byte those of the engine of threads."""
    import ray

    from morphsym.experiment.engines.ray import Ray
    from morphsym.experiment.store import Results

    study = dataclasses.replace(STUDY, sample=5, size=64)
    here = run_study(study, tmp_path / "threads", units_per_shard=1)
    honest_actor, honest_write = Ray._actor, Results.write_shard
    pids, killed = [], []

    def actor(self, recipe):
        made = honest_actor(self, recipe)
        pids.append(made.process.remote())  # answered before its first shard
        return made

    def write(self, shard, *rows):
        honest_write(self, shard, *rows)
        if not killed:
            killed.append(ray.get(pids[1]))
            os.kill(killed[0], signal.SIGKILL)

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with monkeypatch.context() as m:
            m.setattr(Ray, "_actor", actor)
            m.setattr(Results, "write_shard", write)
            there = run_study(study, tmp_path / "ray", units_per_shard=1, engine="ray", workers=2)
        assert len(killed) == 1
        assert len(pids) == 3  # a third one in the place of the second
        same_rows(there, here)
        assert there.manifest["sha256"] == here.manifest["sha256"]
        with warned.gather() as found, pytest.raises(ClassifierError, match="net: gave NaN"):
            list(engines.get("ray", 1).map(Trivial(fails_at=3, warns=True), range(10)))
        assert set(found) == {"a shard that is even", "a shard that is odd"}
    finally:
        ray.shutdown()


def test_the_drivers_benchmark_fills_every_column(tmp_path):
    from tests.benchmarks.trivial import simulate

    assert simulate(tmp_path / "r", 1000, "local")["conditions"] >= 1000
