"""The engine of many machines: Ray actors, each with one core (or a GPU), fed one shard at a time.

An actor builds the job once. At most two shards an actor are out at a time, so neither the driver's memory nor the object
store grows with the study; results are fetched one by one, written, and let go. A lost worker is replaced and its shards
are computed again: they are the same bytes whoever computes them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import ray

from ...errors import MorphsymError, StoreError
from .. import warned
from ..run import one_thread
from . import Recipe

RETRIES = 3
"""How often a shard is given to another worker after the one that held it was lost."""


LOST = (
    ray.exceptions.RayActorError,  # the process died, or cannot be reached
    ray.exceptions.ObjectLostError,  # the machine that held the finished rows died before they were fetched
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
)
"""What a lost worker looks like from here."""

WORKERS_PER_GPU = 8
"""Actors that share a GPU, at most: each renders on a core of its own, and one core cannot feed a GPU."""


def shares(workers: int | None, cpus: int, gpus: int, on_gpu: bool) -> tuple[int, float]:
    """How many actors, and each one's share of a GPU. Raises :class:`StoreError` where there is no GPU but one is needed."""
    if not on_gpu:
        return workers or max(1, cpus), 0.0
    if gpus < 1:
        raise StoreError("the study asks for a GPU and the Ray cluster has none; use device: cpu")
    count = workers or gpus * max(1, min(WORKERS_PER_GPU, cpus // gpus))
    each = -(-count // gpus)  # as many on every GPU, so that none is asked for more than it has
    return count, int(10_000 / each) / 10_000


class Worker:
    """What runs in an actor."""

    def __init__(self, recipe: Recipe) -> None:
        self.limits = contextlib.ExitStack()
        self.limits.enter_context(one_thread())  # for the life of the actor
        self.found = self.limits.enter_context(warned.gather())
        self.job = recipe()

    def shard(self, number: int) -> tuple[Any, MorphsymError | None, dict[str, int]]:
        """The job's rows, or the error that a person can act on, as it is; and the warnings that came."""
        try:
            rows, error = self.job(number), None
        except MorphsymError as e:
            rows, error = None, e
        found = dict(self.found)
        self.found.clear()
        return rows, error, found

    def process(self) -> int:
        """The process id, for tests that kill it."""
        return os.getpid()


class Ray:
    """Actors of a cluster. Without ``address`` a cluster on this machine is started, and ended with the study."""

    def __init__(self, workers: int | None = None, address: str | None = None, device: str = "cpu") -> None:
        self.workers, self.address, self.on_gpu = workers, address, device != "cpu"
        self.gpu_share = 0.0
        self.actors: list[Any] = []

    def map(self, recipe: Recipe, shards: Iterable[int]) -> Iterator[Any]:
        """See :class:`morphsym.experiment.engines.Engine`."""
        mine = not ray.is_initialized()
        if mine:
            self._connect()
        try:
            have = ray.cluster_resources()
            count, self.gpu_share = shares(self.workers, int(have.get("CPU", 1)), int(have.get("GPU", 0)), self.on_gpu)
            self.actors = [self._actor(recipe) for _ in range(count)]
            yield from self._stream(recipe, iter(shards))
        finally:
            for actor in self.actors:
                with contextlib.suppress(Exception):
                    ray.kill(actor)
            if mine:
                ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        try:
            if self.address:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(
                    num_cpus=self.workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
                )
        except (ConnectionError, RuntimeError, ValueError) as e:
            raise StoreError(f"no Ray cluster at {self.address or 'this machine'}: {str(e).splitlines()[0]}") from None

    def _actor(self, recipe: Recipe) -> Any:
        kind = ray.remote(num_cpus=1, num_gpus=self.gpu_share, max_restarts=0)(Worker)
        return kind.remote(recipe)

    def _stream(self, recipe: Recipe, todo: Iterator[int]) -> Iterator[Any]:
        out: dict[Any, tuple[int, int, int]] = {}  # reference -> shard, index of the actor, times tried

        def give(shard: int, actor: int, tried: int = 0) -> None:
            out[self.actors[actor].shard.remote(shard)] = (shard, actor, tried)

        for k, shard in enumerate(itertools.islice(todo, 2 * len(self.actors))):
            give(shard, k % len(self.actors))
        stopped: KeyboardInterrupt | None = None
        while out:
            try:
                done, _ = ray.wait(list(out), num_returns=1)
            except KeyboardInterrupt as e:
                if stopped is not None:
                    raise
                stopped = e
                continue
            reference = done[0]
            shard, actor, tried = out.pop(reference)
            try:
                rows, error, found = ray.get(reference)
            except LOST as e:
                if tried >= RETRIES:
                    raise StoreError(
                        f"shard {shard} lost its worker {tried + 1} times ({str(e).splitlines()[0]}); what was finished is "
                        "kept: go on with --resume, perhaps with fewer workers"
                    ) from None
                with contextlib.suppress(Exception):  # one that cannot be reached may still live
                    ray.kill(self.actors[actor])
                lost = [r for r, (_, a, _) in out.items() if a == actor]
                self.actors[actor] = self._actor(recipe)
                give(shard, actor, tried + 1)
                for r in lost:
                    number, _, before = out.pop(r)
                    give(number, actor, before + 1)
                continue
            except ray.exceptions.RayTaskError as e:
                raise e.as_instanceof_cause() from None
            del reference, done
            warned.again(found)
            if error is not None:
                raise error
            yield rows
            if stopped is None:
                for shard in itertools.islice(todo, 1):
                    give(shard, actor)
        if stopped is not None:
            raise stopped
