"""Where the work runs. An engine maps a job over shards: same shards, same job, same bytes, on any of them.

A job is a function from a shard's number to its :class:`~morphsym.experiment.run.ShardRows`. Engines take a *recipe*, a
function without arguments that builds the job once in every worker (models, networks), and yield what comes, in any
order, with a bounded number of shards at work: the driver's memory does not grow with the study.

======== =========================================================== ============================================
name     workers                                                     for
======== =========================================================== ============================================
local    threads of this process; models are shared                  one machine; the kernels let go of Python's lock
processes processes of this machine; each loads its own models       many cores
ray      actors of a Ray cluster, each with a core or a GPU          many machines
======== =========================================================== ============================================
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ...errors import MissingDependencyError, UsageError

NAMES = ("local", "processes", "ray")

Job = Callable[[int], Any]
Recipe = Callable[[], Job]


class Engine(Protocol):
    """What every engine can do."""

    def map(self, recipe: Recipe, shards: Iterable[int]) -> Iterator[Any]:
        """The job's results for ``shards``, in any order. An error of the job ends the run."""
        ...


def get(name: str, workers: int | None = None, address: str | None = None, device: str = "cpu") -> Engine:
    """The engine called ``name`` with so many ``workers`` (None: what the machine has).

    Raises :class:`UsageError` for an unknown name or a wrong number, :class:`MissingDependencyError` without Ray.
    """
    if name not in NAMES:
        raise UsageError(f"engine must be one of {', '.join(NAMES)}; got {name!r}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    if address is not None and name != "ray":
        raise UsageError(f"an address is for the engine ray, not {name}")
    if name == "ray":
        if importlib.util.find_spec("ray") is None:
            raise MissingDependencyError("the engine ray needs the package ray: pip install 'morphsym[ray]'")
        from .ray import Ray

        return Ray(workers, address, device)
    from .local import Processes, Threads

    return Threads(workers, device) if name == "local" else Processes(workers)
