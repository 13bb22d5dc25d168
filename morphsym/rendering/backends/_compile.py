"""How the CPU kernels are compiled and run on several cores.

Kernels are compiled by numba with ``nogil`` and run by a pool of plain Python threads, not by numba's own ``prange``:
that works under any caller (numba's threading layers abort when two threads enter them, or after a fork) and leaves no
choice of layer that could change results. ``fastmath`` stays off: the fill rule relies on ``a*b - c*d`` being the exact
negative of ``c*d - a*b``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process id, threads, pool


def kernel(function: F) -> F:
    """Compile ``function`` on first use; keep the code on disk where a folder can be written, else in memory."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no writable cache folder (a read-only install without a home)
        return cast(F, numba.njit(**options)(function))


_limit = threading.local()


@contextlib.contextmanager
def limited(n: int) -> Iterator[None]:
    """Use ``n`` threads for kernels that the calling thread starts: for callers that are many threads themselves."""
    before = getattr(_limit, "threads", None)
    _limit.threads = n
    try:
        yield
    finally:
        _limit.threads = before


def threads() -> int:
    """Threads used: what :func:`limited` says, else ``$MORPHSYM_THREADS``, else the cores that this process may run on.
    Results do not depend on it."""
    limit = getattr(_limit, "threads", None)
    if limit:
        return int(limit)
    given = os.environ.get("MORPHSYM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def run(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
    """``[function(*task) for task in tasks]``, on :func:`threads` threads; the results keep the order of the tasks."""
    global _pool
    n = threads()
    if n == 1 or len(tasks) <= 1:
        return [function(*task) for task in tasks]
    if _pool is None or _pool[:2] != (os.getpid(), n):  # threads do not survive a fork
        _pool = (os.getpid(), n, ThreadPoolExecutor(n, thread_name_prefix="morphsym"))
    return list(_pool[2].map(lambda task: function(*task), tasks))
