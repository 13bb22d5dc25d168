"""``fit``: from photos to :class:`~morphsym.types.FaceFit` records, one a face, in the order of the photos.

A photo that cannot be used gives a record with ``status='failed'`` and the reason; the others go on. What the user asked
wrongly (an unknown model, a landmark file that does not exist) raises at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError, MorphsymError, UsageError
from ..rendering.cameras import rotation_to_euler
from ..types import EMOTIONS, FaceFit
from . import detectors
from .basis import LandmarkBasis, landmark_basis
from .detectors import KINDS, Detection, Detector, FileDetector
from .images import Photo, load_array, load_photo
from .measures import measures, symmetrized
from .occlusion import covered
from .priors import expression_prior
from .quality import check_detection, check_fit, landmark_sigma, quality_flag
from .refine import LOOSER, on_cpu
from .refine import refine as refine_solution
from .same_person import common_directions, solve_same_person
from .smoothing import smooth
from .solver import Problem, Solution, solve
from .sources import Source, count, sources
from .video import is_video
from .view import View, view_of

if TYPE_CHECKING:
    from ..faces import MorphableModel

BATCH = 64
"""Faces solved together; memory does not grow with the number of photos beyond this."""

OUTER_EYES = (36, 45)
"""The outer eye corners (landmarks 37 and 46 in the one-based numbering)."""

Progress = Callable[[int, int, str], None]
"""Called with how many photos are done, of how many, and the name of the last one."""


@dataclass(frozen=True, eq=False)
class _Face:
    """A face that was detected and is to be solved, or that failed before."""

    failed: FaceFit | None
    blank: FaceFit
    detection: Detection | None = None
    sequence: int = -1  # the video that it is a frame of
    view: View | None = None  # what the refinement looks at, where it is asked for


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
) -> list[FaceFit]:
    """Fit ``model`` to the faces in ``images``: :func:`fit_each` as a list."""
    return list(
        fit_each(
            images, model, detector, landmarks, face, expression, progress, device=device, offline=offline,
            same_person=same_person, symmetrize=symmetrize, frame_step=frame_step, fps=fps, smooth=smooth,
            refine=refine,
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

    Raises :class:`UsageError` for wrong arguments; whatever is wrong with a single photo is a failed record.
    """
    from ..faces import load_model

    photos = _as_list(images)
    if same_person and face != "largest":
        raise UsageError("same_person takes the largest face of every photo; face='all' would mix people")
    if face not in ("largest", "all"):
        raise UsageError(f"face must be 'largest' or 'all', got {face!r}")
    emotions = _emotions(expression, len(photos))
    given = _landmark_sources(landmarks, len(photos))
    the_model = load_model(model) if isinstance(model, (str, Path)) else model
    finder: Detector | None = None
    if given is None:
        thorough = face == "all"
        finder = detectors.get(detector, offline, thorough) if isinstance(detector, str) else detector

    if frame_step < 1 or smooth < 0 or (fps is not None and not fps > 0):
        raise UsageError("frame_step must be at least 1, fps above 0 and smooth at least 0 seconds")
    if smooth and face != "largest":
        raise UsageError("smooth takes the largest face of every frame; face='all' would mix people")
    if smooth and refine:
        raise UsageError("smooth and refine do not go together: the pixels of each frame would undo the smoothing")
    if given is not None and any(isinstance(p, (str, Path)) and is_video(p) for p in photos):
        raise UsageError("landmarks from files are for photos; the frames of a video need a detector")

    def each() -> Iterator[FaceFit]:
        names = Names()
        waiting: list[_Face] = []
        total = count(photos, frame_step) if progress is not None else 0
        previous, subject = -1, ""
        for done, source in enumerate(sources(photos, frame_step, fps), 1):
            same_video = source.sequence >= 0 and source.sequence == previous
            full = len(waiting) >= BATCH and not (same_video and smooth > 0)  # a video is smoothed as a whole
            if waiting and not same_person and (full or source.sequence != previous):
                yield from _finish_all(waiting, the_model, device, same_person, symmetrize, smooth, refine)
                waiting = []
            previous = source.sequence
            marks = given[source.item] if given else finder
            faces = _find(source, marks, face, the_model, emotions[source.item], names, refine)
            if same_person:
                subject = subject or faces[0].blank.subject or faces[0].blank.name
                faces = [_of_subject(f, subject) for f in faces]
            waiting.extend(faces)
            if progress is not None:
                progress(done, max(done, total), faces[-1].blank.name)
        if waiting:
            yield from _finish_all(waiting, the_model, device, same_person, symmetrize, smooth, refine)

    return each()


def _of_subject(face: _Face, subject: str) -> _Face:
    failed = None if face.failed is None else replace(face.failed, subject=subject)
    return replace(face, failed=failed, blank=replace(face.blank, subject=subject))


def _finish_all(
    waiting: Sequence[_Face], model: MorphableModel, device: str, same_person: bool, symmetrize: bool, smooth: float,
    refine: bool,
) -> Iterator[FaceFit]:  # fmt: skip
    for f in _solve_all(waiting, model, device, same_person, smooth, refine):
        yield _finish(f, model, symmetrize)


def _find(
    source: Source, finder: Any, face: str, model: MorphableModel, emotion: str | None, names: Names,
    refine: bool = False,
) -> list[_Face]:  # fmt: skip
    """The faces of one photo, or one failed record."""
    blank = _blank(source, model, emotion)
    try:
        photo = source.image if isinstance(source.image, Photo) else _load(source.image)
        blank = replace(
            blank, photo=photo.path or blank.photo, photo_sha256=photo.sha256, height=photo.height, width=photo.width,
            note=photo.note,
        )  # fmt: skip
        found = finder(photo.pixels)
        if not found:
            raise InputError("no face found; expected one that is at least a tenth of the picture, from frontal to 60°")
    except MorphsymError as e:
        blank = replace(blank, name=names.unique(blank.name))
        return [_Face(replace(blank, status="failed", reason=str(e)), blank, sequence=source.sequence)]
    faces = []
    stem = blank.name
    for index, detection in enumerate(found if face == "all" else found[:1]):
        notes = [blank.note, detection.note]
        if face == "largest" and len(found) > 1:
            notes.append(f"{len(found)} faces found, the largest taken")
        one = replace(
            blank,
            name=names.unique(stem if index == 0 else f"{stem}-face{index + 1}"),
            face=index,
            detector=detection.detector,
            landmarks=detection.landmarks68.astype(np.float32),
            landmarks_478=None if detection.landmarks478 is None else detection.landmarks478.astype(np.float32),
            blendshapes=detection.blendshapes,
            note="; ".join(n for n in notes if n),
        )
        reason = check_detection(detection, blank.width, blank.height)
        one = replace(one, quality="" if reason else "; ".join(covered(photo.pixels, detection.landmarks68)))
        failed = replace(one, status="failed", reason=reason) if reason else None
        view = view_of(photo.pixels, detection.landmarks68) if refine and not reason else None
        faces.append(_Face(failed, one, detection, source.sequence, view))
    return faces


def _solve_all(
    faces: Sequence[_Face],
    model: MorphableModel,
    device: str,
    same_person: bool,
    seconds: float = 0.0,
    refine: bool = False,
) -> list[FaceFit]:
    """Solve the faces that have not failed, in batches of one kind of landmarks; order is kept."""
    results: dict[int, FaceFit] = {i: f.failed for i, f in enumerate(faces) if f.failed is not None}
    found = {i: f.detection for i, f in enumerate(faces) if f.failed is None and f.detection is not None}
    kinds = [k for k in KINDS if any(d.kind == k for d in found.values())]
    # 'visible' and 'anatomical' points have one basis: they differ in whether the contour slides.
    both = {m: landmark_basis(model, m).to(device) for m in dict.fromkeys(k == "mediapipe" for k in kinds)}
    if same_person and both:
        both = dict(zip(both, common_directions(list(both.values())), strict=True))
    bases = {k: both[k == "mediapipe"] for k in kinds}
    parts = _batches(list(found), [f.sequence for f in faces], {i: d.kind for i, d in found.items()}, seconds > 0)
    blanks = [[faces[i].blank for i in part] for part in parts]
    part_kinds = [found[part[0]].kind for part in parts]
    part_bases = [bases[k] for k in part_kinds]
    problems = [
        _problem(blank, [found[i] for i in part], model, kind, device)
        for blank, part, kind in zip(blanks, parts, part_kinds, strict=True)
    ]
    if same_person:
        solutions = solve_same_person(part_bases, problems) if parts else []
    else:
        solutions = [solve(b, p) for b, p in zip(part_bases, problems, strict=True)]
    if seconds > 0:
        held = [replace(p, identity=s.identity) if same_person else p for p, s in zip(problems, solutions, strict=True)]
        for one in dict.fromkeys(faces[part[0]].sequence for part in parts):
            rows = [k for k, part in enumerate(parts) if faces[part[0]].sequence == one]
            if one < 0:
                continue
            times = torch.tensor([faces[i].blank.time for k in rows for i in parts[k]], dtype=torch.float64)
            smoothed = smooth(
                [part_bases[k] for k in rows], [held[k] for k in rows], [solutions[k] for k in rows],
                times.to(device), seconds,
            )  # fmt: skip
            for k, solution in zip(rows, smoothed, strict=True):
                solutions[k] = solution
    for part, blank, basis, problem, solution in zip(parts, blanks, part_bases, problems, solutions, strict=True):
        if refine:
            blank, solution = _refined([faces[i] for i in part], model, basis, problem, solution, same_person)
        results.update(zip(part, _records(blank, model, basis, problem, solution), strict=True))
    return [results[i] for i in range(len(faces))]


def _batches(rows: Sequence[int], sequences: Sequence[int], kinds: dict[int, str], in_order: bool) -> list[list[int]]:
    """``rows`` in batches of at most :data:`BATCH` of one kind of landmarks.

    ``in_order``: batches are consecutive and of one video, as smoothing needs them; else as few as can be.
    """
    if not in_order:
        parts = []
        for kind in dict.fromkeys(kinds[i] for i in rows):
            todo = [i for i in rows if kinds[i] == kind]
            parts += [todo[start : start + BATCH] for start in range(0, len(todo), BATCH)]
        return parts
    batches: list[list[int]] = []
    for i in rows:
        last = batches[-1] if batches else []
        if last and len(last) < BATCH and (kinds[last[0]], sequences[last[0]]) == (kinds[i], sequences[i]):
            last.append(i)
        else:
            batches.append([i])
    return batches


def _refined(
    faces: Sequence[_Face], model: MorphableModel, basis: LandmarkBasis, problem: Problem, solution: Solution,
    same_person: bool,
) -> tuple[list[FaceFit], Solution]:  # fmt: skip
    """The faces' records with what the pixels gained, and the refined solution (on the CPU)."""
    looser = expression_prior(model, [f.blank.blendshapes for f in faces], LOOSER).precision
    views = [f.view for f in faces if f.view is not None]
    solution, gains = refine_solution(
        model, basis.to("cpu"), on_cpu(problem), on_cpu(solution), views, looser, hold_identity=same_person
    )
    blanks = [
        replace(
            f.blank, refined=g.accepted, pixel_error_start=g.error_start, pixel_error=g.error,
            note="; ".join(n for n in (f.blank.note, g.reason and f"not refined: {g.reason}") if n),
        )
        for f, g in zip(faces, gains, strict=True)
    ]  # fmt: skip
    return blanks, solution


def _problem(
    blanks: Sequence[FaceFit], found: Sequence[Detection], model: MorphableModel, kind: str, device: str
) -> Problem:
    return Problem(
        pixels=torch.from_numpy(np.stack([d.landmarks68 for d in found])).to(device),
        sigma=torch.from_numpy(np.stack([landmark_sigma(d) for d in found])).to(device),
        size=torch.tensor([[b.width, b.height] for b in blanks], dtype=torch.float64, device=device),
        focal=torch.full((len(blanks),), torch.nan, dtype=torch.float64, device=device),
        prior=expression_prior(model, [d.blendshapes for d in found]).to(device),
        slide=kind == "visible",
    )


def _records(
    blanks: Sequence[FaceFit], model: MorphableModel, basis: LandmarkBasis, problem: Problem, solution: Solution
) -> list[FaceFit]:
    identity = (solution.identity @ basis.to_identity.T).cpu().numpy()
    expression = (solution.variables @ problem.prior.tie.T).cpu().numpy()
    error = (solution.projected - problem.pixels).norm(dim=-1).mean(dim=-1)
    eyes = (problem.pixels[:, OUTER_EYES[0]] - problem.pixels[:, OUTER_EYES[1]]).norm(dim=-1)
    nme = (error / eyes).cpu().numpy()
    yaw, pitch, roll = (a.cpu().numpy() for a in rotation_to_euler(solution.R))
    R, t, focal = solution.R.cpu().numpy(), solution.t.cpu().numpy(), solution.focal.cpu().numpy()
    weight, converged = solution.weight.cpu().numpy(), solution.converged.cpu().numpy()
    fits = []
    for i, blank in enumerate(blanks):
        coefficients = expression[i].astype(np.float32)
        emotion, source = blank.emotion, blank.emotion_source
        if not emotion:
            emotion, source = nearest(model, coefficients)
        done = replace(
            blank,
            status="ok",
            identity=identity[i].astype(np.float32),
            expression=coefficients,
            K=np.array([[focal[i], 0, blank.width / 2], [0, focal[i], blank.height / 2], [0, 0, 1]]),
            R=R[i],
            t=t[i],
            nme=float(nme[i]),
            yaw=float(yaw[i]),
            pitch=float(pitch[i]),
            roll=float(roll[i]),
            emotion=emotion,
            emotion_source=source,
            converged=bool(converged[i]),
        )
        reason = check_fit(done)
        flags = [blank.quality, quality_flag(done, weight[i])]
        done = replace(done, quality=reason or "; ".join(f for f in flags if f not in ("", "good")) or "good")
        fits.append(replace(done, status="failed", reason=reason) if reason else done)
    return fits


def nearest(model: MorphableModel, expression: np.ndarray) -> tuple[str, str]:
    """The emotion whose preset is nearest to ``expression`` and 'nearest_preset'; '' twice where the model has no presets."""
    from ..faces import nearest_emotion

    try:
        return nearest_emotion(model, expression)[0], "nearest_preset"
    except UsageError:  # the shapes have no ARKit names (FLAME, BFM): only the user knows
        return "", ""


def _finish(fit: FaceFit, model: MorphableModel, symmetrize: bool) -> FaceFit:
    """The measures, of what was fitted; then the symmetric average, where that is asked for."""
    if not fit.ok:
        return fit
    fit = replace(fit, measures=measures(fit, model))
    if not symmetrize:
        return fit
    average = symmetrized(fit.expression, model.sided.partner)
    note = "; ".join(n for n in (fit.note, "expression averaged over both sides") if n)
    return replace(fit, expression=average, expression_fitted=fit.expression, note=note)


def _blank(source: Source, model: MorphableModel, emotion: str | None) -> FaceFit:
    """A record of which nothing is known yet but what was asked."""
    path = source.path
    name = clean_name(Path(path).stem) if path else f"image{source.item:04d}"
    if source.sequence >= 0 and source.frame >= 0 and is_video(path):
        name = f"{name}-{source.frame:06d}"
    none = np.zeros(0, dtype=np.float32)
    return FaceFit(
        name=name,
        photo=str(Path(path).absolute()) if path else "",
        photo_sha256="",
        face=0,
        status="failed",
        reason="",
        model=model.name,
        model_sha256=model.sha256,
        identity=none,
        expression=none,
        expression_names=model.sided.names,
        K=np.zeros((0, 0)),
        R=np.zeros((0, 0)),
        t=np.zeros(0),
        height=0,
        width=0,
        landmarks=np.zeros((0, 2), dtype=np.float32),
        nme=float("nan"),
        yaw=float("nan"),
        pitch=float("nan"),
        roll=float("nan"),
        emotion=emotion or "",
        emotion_source="given" if emotion else "",
        subject=clean_name(source.subject) if source.subject else "",
        frame=source.frame,
        time=source.time,
    )


class Names:
    """Gives every face a name of its own, also on file systems that ignore case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, name: str) -> str:
        """``name``, or ``name-2``, ``name-3``, … when it is taken."""
        candidate, count = name, 1
        while candidate.casefold() in self._taken:
            count += 1
            candidate = f"{name}-{count}"
        self._taken.add(candidate.casefold())
        return candidate


def clean_name(stem: str) -> str:
    """``stem`` as a file name that every system takes: letters, digits, ``. _ -``; at most 100 characters."""
    return re.sub(r"[^\w.\-]+", "_", stem).strip("._")[:100] or "photo"


def _load(source: Any) -> Photo:
    if isinstance(source, MorphsymError):
        raise source
    if isinstance(source, (str, Path)):
        return load_photo(source)
    return load_array(source)


def _as_list(images: Any) -> list[Any]:
    if isinstance(images, (str, Path, Photo)):
        return [images]
    if isinstance(images, np.ndarray):
        if images.ndim in (2, 3):
            return [images]
        return list(images)
    if isinstance(images, Iterable):
        photos = list(images)
        if photos:
            return photos
    raise UsageError("no photos to fit; give paths, Photo records or arrays (H, W, 3)")


def _emotions(expression: str | Sequence[str | None] | None, count: int) -> list[str | None]:
    emotions = [expression] * count if expression is None or isinstance(expression, str) else list(expression)
    if len(emotions) != count:
        raise UsageError(f"expected one expression for all {count} photos or one each, got {len(emotions)}")
    for e in emotions:
        if e is not None and e not in EMOTIONS:
            raise UsageError(f"unknown expression {e!r}; expected one of {', '.join(EMOTIONS)}")
    return emotions


class _Given:
    """A detector that gives what it was made with."""

    name = "file"

    def __init__(self, detection: Detection) -> None:
        self._detection = detection

    def __call__(self, image: np.ndarray) -> list[Detection]:
        return [self._detection]


def _landmark_sources(landmarks: Any, count: int) -> list[Any] | None:
    """One detector a photo, from files, arrays or detections; None when there are none."""
    if landmarks is None:
        return None
    if isinstance(landmarks, (str, Path, Detection)) or (isinstance(landmarks, np.ndarray) and landmarks.ndim == 2):
        landmarks = [landmarks]
    sources = list(landmarks)
    if len(sources) != count:
        raise UsageError(f"expected landmarks for {count} photos, got {len(sources)}")
    return [_landmark_source(s) for s in sources]


def _landmark_source(source: Any) -> Any:
    if isinstance(source, Detection):
        return _Given(source)
    if isinstance(source, (str, Path)):
        return FileDetector(source)
    return FileDetector.from_array(source)
