"""``fit``: from photos to :class:`~morphsym.types.FaceFit` records, one a face, in the order of the photos.

A photo that cannot be used gives a record with ``status='failed'`` and the reason; the others go on. What the user asked
wrongly (an unknown model, a landmark file that does not exist) raises at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
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
from .priors import expression_prior
from .quality import check_detection, check_fit, landmark_sigma, quality_flag
from .same_person import solve_same_person
from .solver import Problem, Solution, solve

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
) -> list[FaceFit]:
    """Fit ``model`` to the faces in ``images``.

    ``images``: one or more paths, :class:`Photo` records or arrays ``(H, W, 3)``. ``detector``: a name of
    :data:`morphsym.fitting.detectors.NAMES` or a :class:`Detector`. ``landmarks``: instead of a detector, for each photo
    (or for the only one) a file, a :class:`Detection` or an array ``(68 or 478, 2)`` of pixels. ``face``: 'largest' or
    'all'. ``expression``: the canonical emotion, one for all or one a photo; without it the emotion whose preset is
    nearest to the fitted expression is taken, and ``emotion_source`` says so.

    ``same_person``: the photos all show one person, who gets one identity and an expression and pose a photo.
    ``symmetrize``: ``expression`` becomes the average of the fitted one and its mirror image, the factual arm of a person who
    is asymmetric already; the fitted one is kept as ``expression_fitted``, and the measures are of it.

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

    names = Names()
    results: list[FaceFit] = []
    waiting: list[_Face] = []

    def flush() -> None:
        results.extend(_finish(f, the_model, symmetrize) for f in _solve_all(waiting, the_model, device, same_person))
        waiting.clear()

    for i, source in enumerate(photos):
        faces = _find(source, i, given[i] if given else finder, face, the_model, emotions[i], names)
        waiting.extend(faces)
        if len(waiting) >= BATCH and not same_person:
            flush()
        if progress is not None:
            progress(i + 1, len(photos), faces[-1].blank.name)
    flush()
    return results


def _find(
    source: Any, position: int, finder: Any, face: str, model: MorphableModel, emotion: str | None, names: Names
) -> list[_Face]:
    """The faces of one photo, or one failed record."""
    blank = _blank(source, position, model, emotion)
    try:
        photo = source if isinstance(source, Photo) else _load(source)
        blank = replace(
            blank, photo=photo.path or blank.photo, photo_sha256=photo.sha256, height=photo.height, width=photo.width,
            note=photo.note,
        )  # fmt: skip
        found = finder(photo.pixels)
        if not found:
            raise InputError("no face found; expected one that is at least a tenth of the picture, from frontal to 60°")
    except MorphsymError as e:
        blank = replace(blank, name=names.unique(blank.name))
        return [_Face(replace(blank, status="failed", reason=str(e)), blank)]
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
        faces.append(_Face(replace(one, status="failed", reason=reason) if reason else None, one, detection))
    return faces


def _solve_all(faces: Sequence[_Face], model: MorphableModel, device: str, same_person: bool) -> list[FaceFit]:
    """Solve the faces that have not failed, in batches of one kind of landmarks; order is kept."""
    results: dict[int, FaceFit] = {i: f.failed for i, f in enumerate(faces) if f.failed is not None}
    found = {i: f.detection for i, f in enumerate(faces) if f.failed is None and f.detection is not None}
    kinds = [k for k in KINDS if any(d.kind == k for d in found.values())]
    if same_person and len(kinds) > 1:
        raise UsageError("the photos of one person need landmarks of one kind; these are from different detectors")
    for kind in kinds:
        todo = [i for i in found if found[i].kind == kind]
        parts = [todo[start : start + BATCH] for start in range(0, len(todo), BATCH)]
        basis = landmark_basis(model, kind == "mediapipe").to(device)
        blanks = [[faces[i].blank for i in part] for part in parts]
        problems = [
            _problem(blank, [found[i] for i in part], model, kind, device)
            for blank, part in zip(blanks, parts, strict=True)
        ]
        solutions = solve_same_person(basis, problems) if same_person else [solve(basis, p) for p in problems]
        for part, blank, problem, solution in zip(parts, blanks, problems, solutions, strict=True):
            results.update(zip(part, _records(blank, model, basis, problem, solution), strict=True))
    return [results[i] for i in range(len(faces))]


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
    from ..faces import nearest_emotion

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
            emotion, source = nearest_emotion(model, coefficients)[0], "nearest_preset"
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
        done = replace(done, quality=reason or quality_flag(done, weight[i]))
        fits.append(replace(done, status="failed", reason=reason) if reason else done)
    return fits


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


def _blank(source: Any, position: int, model: MorphableModel, emotion: str | None) -> FaceFit:
    """A record of which nothing is known yet but what was asked."""
    path = source.path if isinstance(source, Photo) else str(source) if isinstance(source, (str, Path)) else ""
    none = np.zeros(0, dtype=np.float32)
    return FaceFit(
        name=clean_name(Path(path).stem) if path else f"image{position:04d}",
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
