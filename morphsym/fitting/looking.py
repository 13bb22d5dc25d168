"""The faces of many pictures, looked for in this process or in several, in the pictures' order and with the same results.

A worker process loads a picture, detects and reads its faces, and sends back what it found, without pixels. Photos travel as
paths; frames of videos, which must be decoded one after the other, as pixels, a few at a time.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import FitError, MorphsymError, UsageError
from ..processes import begin_worker
from ..rendering.backends import _compile
from .finding import About, Face, find
from .naming import Names
from .readout import Readout, bundled
from .sources import Source

AHEAD = 64
"""Pictures that may be looked at before what was found in them is taken: workers go on while a batch is solved and written."""

MOST = 8
"""Worker processes, unless more are asked for: each takes some 500 MB."""

WORTH = 64
"""Pictures a worker, below which starting it takes longer than it saves: it imports torch and MediaPipe anew."""


@dataclass(frozen=True, eq=False)
class Look:
    """How to look at a picture; plain values and a detector, so that it can be sent to a worker process."""

    finder: Any  # a Detector
    face: str
    about: About
    refine: bool
    readout: bool | Readout  # True: the bundled one

    def __call__(self, source: Source, emotion: str | None, finder: Any = None) -> list[Face]:
        """The faces of one picture; their names are not unique yet. ``finder``: another for this picture."""
        reader = bundled() if self.readout is True else self.readout or None
        given = self.finder if finder is None else finder
        return find(source, given, self.face, self.about, emotion, Names(), self.refine, reader)


def usual_workers(pictures: int) -> int:
    """How many processes are worth starting for so many pictures; 1 is this one alone, as it always is on two cores: threads
    that write files (:meth:`.FitsWriter.put`) use the second."""
    cores = _compile.threads()
    return 1 if cores < 3 else max(1, min(cores - 1, MOST, pictures // WORTH))


def in_processes(
    look: Look, found: Iterator[Source], emotions: Any, workers: int
) -> Iterator[tuple[Source, list[Face]]]:  # fmt: skip
    """Each of ``found``, without its pixels, and its faces, as ``workers`` processes find them; ``emotions`` by item.

    At most :data:`AHEAD` pictures are asked for or wait to be taken, and ``2 workers`` of those whose pixels this process holds.
    Raises :class:`UsageError` for a detector that cannot be sent, :class:`FitError` when a worker dies.
    """
    try:
        pickle.dumps(look)
    except Exception as e:
        raise UsageError(
            f"this detector cannot be sent to worker processes ({' '.join(str(e).split())}); use workers=1"
        ) from None
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(look,))
    asked: queue.SimpleQueue[tuple[Source, Future[list[Face]]] | BaseException | None] = queue.SimpleQueue()
    room, pixels, stopped = threading.Semaphore(AHEAD), threading.Semaphore(2 * workers), threading.Event()

    def feed() -> None:
        try:
            for source in found:
                held = not isinstance(source.image, (str, Path, MorphsymError))
                room.acquire()
                if held:
                    pixels.acquire()
                if stopped.is_set():
                    return
                future = pool.submit(_work, source, emotions[source.item])
                if held:
                    future.add_done_callback(lambda _: pixels.release())
                asked.put((replace(source, image=None), future))
            asked.put(None)
        except BaseException as e:  # told to whom it concerns
            asked.put(e)

    feeder = threading.Thread(target=feed, name="morphsym-feeder", daemon=True)
    feeder.start()
    name = ""
    try:
        while (got := asked.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            source, future = got
            name = source.path or f"image {source.item}"
            faces = future.result()
            room.release()
            yield source, faces
    except BrokenProcessPool:
        raise FitError(
            f"a worker process died (killed, or out of memory) at {name or 'the first picture'} or soon after it; what was "
            "finished is kept: go on with --resume, perhaps with fewer --workers"
        ) from None
    finally:
        stopped.set()
        room.release()
        pixels.release()
        pool.shutdown(cancel_futures=True)
        feeder.join()


_look: Look | None = None


def _begin(look: Look) -> None:
    """Of a worker's life: it computes on one thread, there are others."""
    global _look
    import threadpoolctl
    import torch

    begin_worker()
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    _look = look


def _work(source: Source, emotion: str | None) -> list[Face]:
    assert _look is not None
    return _look(source, emotion)
