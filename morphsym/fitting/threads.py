"""Work in threads whose results do not depend on how many there are: every item is computed on one thread.

Torch's linear algebra on small matrices loses more by sharing one product among threads than it gains, and its last bits can
depend on how many share it. So items are shared out instead: torch releases the interpreter's lock while it computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")

_lock = threading.Lock()
_inside = 0  # callers for whom torch's threads are limited
_before = 1


@contextmanager
def one_each() -> Iterator[int]:
    """Torch computes on one thread in here; gives the number of threads that it had, for sharing work among.

    The setting is the process's: it is put back when the last of all who are in here leaves.
    """
    global _inside, _before
    with _lock:
        if not _inside:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _inside += 1
        allowed = _before
    try:
        yield allowed
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_before)


def in_threads(function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """``[function(i) for i in items]``, on as many threads as torch may use. The first error is raised."""
    with one_each() as allowed:
        workers = min(allowed, len(items))
        if workers < 2:
            return [function(i) for i in items]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(function, items))
