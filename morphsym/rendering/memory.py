"""How much memory pictures take, how many are rendered at once, and what is done when there was less than expected.

The number of pictures in a batch changes no bit of them (tested): every backend draws each picture by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ..errors import RenderError, UsageError
from .render import SAMPLES

T = TypeVar("T")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

# Bytes a vertex, a triangle, a sample and a pixel of one picture, while it is being made: measured (test_memory.py).
_BYTES = {
    "numba": (150, 0, 0, 13),
    "triton": (390, 16, 8, 16),
    "pytorch3d": (460, 100, 560, 40),  # shaded from fragments by torch's operations, of 8 candidates a sample
    "torch": (460, 60, 300, 40),
}


def parse(text: str) -> int:
    """``'4GB'``, ``'500 MB'``, ``'2GiB'`` or a number of bytes -> bytes. Raises :class:`UsageError`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(text), re.IGNORECASE)
    value = int(float(found[1]) * _UNITS[(found[2] or "").lower()]) if found else 0
    if value < 1:
        raise UsageError(f"--memory must be an amount such as 500MB or 4GB; got {text!r}")
    return value


def words(count: float) -> str:
    """A number of bytes for people: ``'4.2 GB'``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def picture_bytes(backend: str, vertices: int, faces: int, height: int, width: int, samples: int = SAMPLES) -> int:
    """Bytes that ``backend`` needs for each picture of a batch, while it renders it and for the picture itself."""
    a, b, c, d = _BYTES[backend]
    pixels = height * width
    return a * vertices + b * faces + c * pixels * samples + d * pixels


def kept_bytes(pictures: int, vertices: int, height: int, width: int) -> int:
    """Bytes of a unit's meshes and pictures, which are held until it is classified (the pictures twice: as they are
    made, and as the one block that classifiers are given)."""
    return pictures * (12 * vertices + 24 * height * width)


@dataclass(frozen=True)
class Memory:
    """What a study's rendering needs. All in bytes; each of ``workers`` renders one unit at a time."""

    pictures: int  # of the largest unit
    kept: int  # for that unit, by each worker
    each: int  # more for each picture of a batch
    workers: int
    budget: int | None  # of all workers; None: not limited
    batch: int  # pictures that a worker renders at once

    @property
    def needed(self) -> int:
        """Of all workers together."""
        return self.workers * (self.kept + self.batch * self.each)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {**vars(self), "needed": self.needed}

    def __str__(self) -> str:
        limit = "" if self.budget is None else f" of {words(self.budget)}"
        return (
            f"rendering takes about {words(self.needed)}{limit}: {self.workers} workers, each with {words(self.kept)} for "
            f"a unit of {self.pictures} pictures and {words(self.each)} for each of {self.batch} rendered at once"
        )


def plan(
    budget: int | None,
    workers: int,
    backend: str,
    pictures: int,
    vertices: int,
    faces: int,
    height: int,
    width: int,
) -> Memory:
    """The largest batches that fit ``budget``. Raises :class:`UsageError` where not even one picture does."""
    kept = kept_bytes(pictures, vertices, height, width)
    each = picture_bytes(backend, vertices, faces, height, width)
    batch = pictures
    if budget is not None:
        batch = min(pictures, int((budget / workers - kept) // each))
        if batch < 1:
            least = workers * (kept + each)
            raise UsageError(
                f"--memory {words(budget)} is too little: {workers} workers with a unit of {pictures} pictures each need at "
                f"least {words(least)}; give more, or fewer --workers, or smaller pictures"
            )
    return Memory(pictures, kept, each, workers, budget, max(batch, 1))


def free(device: torch.device | str) -> int | None:
    """Bytes that may be used on a CUDA device, leaving a fifth for the classifiers; None on a CPU (not limited)."""
    if torch.device(device).type != "cuda":
        return None
    return int(0.8 * torch.cuda.mem_get_info(device)[0])


def is_exhausted(error: BaseException | None) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def in_batches(
    draw: Callable[[int, int], T], count: int, batch: int | None = None, say: Callable[[str], Any] = lambda text: None
) -> list[T]:
    """``[draw(0, n), draw(n, 2 n), …]`` up to ``count``, ``n = batch`` (None: all at once).

    Where memory runs out the batch is halved, ``say`` is told, and the work goes on. Raises :class:`RenderError` where
    a single one is too much.
    """
    done: list[T] = []
    start, size = 0, max(1, batch or count)
    while start < count:
        stop = min(start + size, count)
        try:
            done.append(draw(start, stop))
            start = stop
            continue
        except Exception as error:
            if not is_exhausted(error):
                raise
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        # Outside the handler, where the failed batch is no longer held by the error's traceback
        if stop - start == 1:
            raise RenderError(
                f"a single picture does not fit into memory ({reason}); use smaller pictures or fewer workers"
            )
        size = (stop - start + 1) // 2
        say(f"out of memory with {stop - start} pictures at once: went on with {size}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return done
