"""The engines of one machine: threads, and processes. Each worker computes on one thread."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ...errors import StoreError
from ...processes import begin_worker
from ...rendering.backends import _compile
from .. import warned
from ..run import one_thread
from . import Job, Recipe


def cores() -> int:
    """Cores that this process may use."""
    return _compile.threads()


class Threads:
    """Threads that share one job. The kernels and the networks run without Python's lock."""

    def __init__(self, workers: int | None = None, device: str = "cpu") -> None:
        # pictures are rendered on cores: several threads feed a GPU, each with a unit's pictures in its memory
        self.workers = workers or (cores() if device == "cpu" else min(8, cores()))

    def map(self, recipe: Recipe, shards: Iterable[int]) -> Iterator[Any]:
        """See :class:`morphsym.experiment.engines.Engine`."""
        with one_thread():
            job = recipe()

            def work(shard: int) -> Any:
                with _compile.limited(1):
                    return job(shard)

            with ThreadPoolExecutor(self.workers, thread_name_prefix="morphsym-worker") as pool:
                yield from _stream(pool, work, shards, self.workers)


class Processes:
    """Processes, started afresh (no fork). A worker that dies ends the run with a clear error; ``--resume`` goes on."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or cores()

    def map(self, recipe: Recipe, shards: Iterable[int]) -> Iterator[Any]:
        """See :class:`morphsym.experiment.engines.Engine`."""
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, initializer=_begin, initargs=(recipe,)) as pool:
            try:
                for result, found in _stream(pool, _work, shards, self.workers):
                    warned.again(found)
                    yield result
            except BrokenProcessPool:
                raise StoreError(
                    "a worker process died (killed, or out of memory); what was finished is kept: go on with --resume, "
                    "perhaps with fewer --workers"
                ) from None


_job: Job | None = None
_limits = contextlib.ExitStack()
_found: dict[str, int] = {}  # warnings of this process that were not sent yet


def _begin(recipe: Recipe) -> None:
    """Build this process' job."""
    global _job, _found
    begin_worker()
    _limits.enter_context(one_thread())  # for the life of the process
    _found = _limits.enter_context(warned.gather())
    _job = recipe()


def _work(shard: int) -> tuple[Any, dict[str, int]]:
    assert _job is not None
    result, found = _job(shard), dict(_found)
    _found.clear()
    return result, found


def _stream(pool: Executor, work: Any, shards: Iterable[int], workers: int) -> Iterator[Any]:
    """Results as they come, at most one shard a worker waiting. On Ctrl-C the shards at work are finished and given
    out, then :class:`KeyboardInterrupt` goes on; a second one does not wait."""
    todo = iter(shards)
    running: set[Future[Any]] = {pool.submit(work, k) for k in itertools.islice(todo, 2 * workers)}
    stopped: KeyboardInterrupt | None = None
    try:
        while running:
            try:
                done, running = wait(running, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt as e:
                if stopped is not None:
                    raise
                stopped = e
                running = {f for f in running if not f.cancel()}
                continue
            for future in done:
                yield future.result()
                if stopped is None:
                    running |= {pool.submit(work, k) for k in itertools.islice(todo, 1)}
        if stopped is not None:
            raise stopped
    finally:
        for f in running:
            f.cancel()


__all__ = ["Processes", "Threads", "cores"]
