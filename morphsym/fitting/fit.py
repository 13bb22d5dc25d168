"""``fit``: from photos to :class:`~morphsym.types.FaceFit` records, one a face, in the order of the photos.

A photo that cannot be used gives a record with ``status='failed'`` and the reason; the others go on. What the user asked
wrongly (an unknown model, a landmark file that does not exist) raises at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..types import FaceFit
from . import detectors, solving
from .arguments import as_list, emotions_of, landmark_sources
from .detectors import Detector
from .finding import About, Face, named, of_subject
from .looking import Look, in_processes
from .naming import Names
from .readout import Readout, bundled
from .records import finish
from .sources import Source, count, sources
from .threads import in_threads
from .video import is_video

if TYPE_CHECKING:
    from ..faces import MorphableModel

Progress = Callable[[int, int, str], None]
"""Called with how many photos are done, of how many, and the name of the last one."""


def fit(
    images: Any,
    model: str | Path | MorphableModel = "makehuman",
    detector: str | Detector = "mediapipe",
    landmarks: Any = None,
    face: str = "largest",
    expression: str | Sequence[str | None] | None = None,
    progress: Progress | None = None,
    *,
    device: str = "cpu",
    offline: bool = False,
    same_person: bool = False,
    symmetrize: bool = False,
    frame_step: int = 1,
    fps: float | None = None,
    smooth: float = 0.0,
    refine: bool = False,
    readout: bool | Readout = True,
    workers: int = 1,
) -> list[FaceFit]:
    """Fit ``model`` to the faces in ``images``: :func:`fit_each` as a list."""
    return list(
        fit_each(
            images, model, detector, landmarks, face, expression, progress, device=device, offline=offline,
            same_person=same_person, symmetrize=symmetrize, frame_step=frame_step, fps=fps, smooth=smooth,
            refine=refine, readout=readout, workers=workers,
        )
    )  # fmt: skip


def fit_each(
    images: Any,
    model: str | Path | MorphableModel = "makehuman",
    detector: str | Detector = "mediapipe",
    landmarks: Any = None,
    face: str = "largest",
    expression: str | Sequence[str | None] | None = None,
    progress: Progress | None = None,
    *,
    device: str = "cpu",
    offline: bool = False,
    same_person: bool = False,
    symmetrize: bool = False,
    frame_step: int = 1,
    fps: float | None = None,
    smooth: float = 0.0,
    refine: bool = False,
    readout: bool | Readout = True,
    workers: int = 1,
    start: int = 0,
    taken: Iterable[str] = (),
    settled: Callable[[int], object] | None = None,
) -> Iterator[FaceFit]:
    """Fit ``model`` to the faces in ``images``, one record after the other in their order; pictures are not held.

    ``images``: one or more paths (photos or videos), :class:`Photo` records or arrays ``(H, W, 3)``. ``detector``: a name of
    :data:`morphsym.fitting.detectors.NAMES` or a :class:`Detector`. ``landmarks``: instead of a detector, for each photo
    (or for the only one) a file, a :class:`Detection` or an array ``(68 or 478, 2)`` of pixels. ``face``: 'largest' or
    'all'. ``expression``: the canonical emotion, one for all or one a photo; without it the emotion whose preset is
    nearest to the fitted expression is taken, and ``emotion_source`` says so.

    ``same_person``: the photos all show one person, who gets one identity and an expression and pose a photo.
    ``symmetrize``: ``expression`` becomes the average of the fitted one and its mirror image, the factual arm of a person who
    is asymmetric already; the fitted one is kept as ``expression_fitted``, and the measures are of it.
    ``frame_step``: every how many frames of a video one is fitted. ``fps``: the photos of each folder are the frames of one
    video, so many a second. ``smooth``: seconds over which the expression in a video is smoothed (0: not; see
    :mod:`.smoothing`). Frames of one video, and photos with ``same_person``, share a ``subject``.

    ``refine``: correct the landmark fit by the pixels (:mod:`.refine`; about a second a face, on the CPU). ``refined``,
    ``pixel_error_start`` and ``pixel_error`` of the record say what was gained; a face that would not get better stays as it
    was, and its ``note`` says why.

    ``readout``: read the expression from the pixels (:mod:`.readout`; some milliseconds a face) where MediaPipe's points and
    scores are known, as what the landmark fit expects; ``expression_prior`` of the record says whether it was. A
    :class:`Readout` of other weights may be given.

    ``workers``: how many processes detect faces; 1: this one. The records are the same, bit for bit. Processes are started
    anew (no fork), so a script needs ``if __name__ == "__main__":``; they pay with hundreds of pictures
    (``docs/fitting.md``). With ``landmarks`` nothing is detected, and threads do the rest.

    To go on after an interruption: ``settled(k)`` is called when all records of the first k photos are out and nothing is held
    back; another call with the same arguments, ``start=k`` and the names of those records as ``taken`` gives the rest,
    bit for bit.

    Raises :class:`UsageError` for wrong arguments; whatever is wrong with a single photo is a failed record.
    """
    from ..faces import load_model

    photos = as_list(images)
    if same_person and face != "largest":
        raise UsageError("same_person takes the largest face of every photo; face='all' would mix people")
    if face not in ("largest", "all"):
        raise UsageError(f"face must be 'largest' or 'all', got {face!r}")
    emotions = emotions_of(expression, len(photos))
    given = landmark_sources(landmarks, len(photos))
    the_model = load_model(model) if isinstance(model, (str, Path)) else model
    finder: Detector | None = None
    if given is None:
        thorough = face == "all"
        finder = detectors.get(detector, offline, thorough) if isinstance(detector, str) else detector

    if workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    if frame_step < 1 or smooth < 0 or (fps is not None and not fps > 0):
        raise UsageError("frame_step must be at least 1, fps above 0 and smooth at least 0 seconds")
    if smooth and face != "largest":
        raise UsageError("smooth takes the largest face of every frame; face='all' would mix people")
    if smooth and refine:
        raise UsageError("smooth and refine do not go together: the pixels of each frame would undo the smoothing")
    if given is not None and any(isinstance(p, (str, Path)) and is_video(p) for p in photos):
        raise UsageError("landmarks from files are for photos; the frames of a video need a detector")

    if readout is True:
        bundled()  # what is wrong with it is told now
    look = Look(finder, face, About.of(the_model), refine, readout)

    def looked() -> Iterator[tuple[Source, list[Face]]]:
        found = sources(photos, frame_step, fps, start)
        if given is not None:
            while some := list(islice(found, solving.BATCH)):
                read = in_threads(lambda source: look(source, emotions[source.item], given[source.item]), some)
                yield from zip(some, read, strict=True)
        elif workers > 1:
            yield from in_processes(look, found, emotions, workers)
        else:
            yield from ((source, look(source, emotions[source.item])) for source in found)

    def each() -> Iterator[FaceFit]:
        names = Names(taken)
        waiting: list[Face] = []
        total = count(photos, frame_step) if progress is not None else 0
        previous, subject, item = -1, "", start
        for done, (source, faces) in enumerate(looked(), 1 + start):
            same_video = source.sequence >= 0 and source.sequence == previous
            full = len(waiting) >= solving.BATCH and not (same_video and smooth > 0)  # a video is smoothed as a whole
            if waiting and not same_person and (full or source.sequence != previous):
                yield from _finish_all(waiting, the_model, device, same_person, symmetrize, smooth, refine)
                waiting = []
                if settled is not None and source.item != item:
                    settled(source.item)
            previous, item = source.sequence, source.item
            faces = named(faces, names)
            if same_person:
                subject = subject or faces[0].blank.subject or faces[0].blank.name
                faces = [of_subject(f, subject) for f in faces]
            waiting.extend(faces)
            if progress is not None:
                progress(done, max(done, total), faces[-1].blank.name)
        if waiting:
            yield from _finish_all(waiting, the_model, device, same_person, symmetrize, smooth, refine)
        if settled is not None:
            settled(len(photos))

    return each()


def _finish_all(
    waiting: Sequence[Face], model: MorphableModel, device: str, same_person: bool, symmetrize: bool, smooth: float,
    refine: bool,
) -> Iterator[FaceFit]:  # fmt: skip
    yield from finish(solving.solve_all(waiting, model, device, same_person, smooth, refine), model, symmetrize)
