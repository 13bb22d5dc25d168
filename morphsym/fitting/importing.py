"""Fits from coefficients that another program made: they are taken as they are; only pose and camera are found here.

SMIRK, DECA and EMOCA look at a crop of the face and give a scaled orthographic camera *of that crop*; none of them saves
where the crop was. So the landmarks of the photo are detected again, and the head pose and the perspective camera are
those that put the imported face onto them. That also keeps an experiment on imported coefficients comparable with one
on our own fits. Where the file has the head's rotation, a disagreement of more than :data:`ROTATION_DOUBT` degrees is
flagged in ``quality``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError, UsageError
from ..faces.loaders.flame import JAW
from ..types import FaceFit
from . import detectors
from .arguments import landmark_sources
from .basis import landmark_basis
from .codes import Code
from .detectors import Detector
from .finding import About, find
from .naming import Names
from .pose import so3_exp
from .records import finish, nearest, records
from .solver import solve
from .solving import problem_of
from .sources import Source, sources
from .video import is_video

if TYPE_CHECKING:
    from ..faces import MorphableModel

ROTATION_DOUBT = 15.0
"""Degrees between the imported and the found head rotation that a person should look at."""


def import_fits(
    codes: Sequence[Code],
    photos: Sequence[Any],
    model: MorphableModel,
    detector: str | Detector = "mediapipe",
    landmarks: Any = None,
    expression: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    offline: bool = False,
    symmetrize: bool = False,
    frame_step: int = 1,
) -> Iterator[FaceFit]:
    """One record a photo (or frame), its coefficients from ``codes``, in the photos' order.

    ``codes`` are matched to the photos by name, or, where no code has a name, by order. EMOCA cuts a photo's name at its
    first dot and numbers its faces (``smile00`` belongs to ``smile.left.jpg``), and a video's frames from 1 (``000001_000``).
    A photo without coefficients is a failed record. Raises :class:`UsageError` where nothing can be matched or the model
    cannot take the coefficients.
    """
    for c in codes[:1]:
        coefficients(c, model)  # the wrong model is said before any work
    given = landmark_sources(landmarks, len(photos))
    finder = detectors.get(detector, offline) if given is None and isinstance(detector, str) else detector
    match = _matcher(codes, photos)

    def each() -> Iterator[FaceFit]:
        names = Names()
        for k, source in enumerate(sources(photos, frame_step)):
            marks = given[source.item] if given else finder
            yield _one(source, k, match, marks, model, expression, names, symmetrize)
            if progress is not None:
                progress(k + 1, max(len(photos), k + 1), Path(source.path).stem)

    return each()


def coefficients(code: Code, model: MorphableModel) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Identity ``(Ki,)`` and sided expression ``(Ks,)`` of ``code`` in ``model``, and what could not be taken over.

    Raises :class:`UsageError` for the wrong kind of model.
    """
    identity = np.zeros(model.n_identity, dtype=np.float32)
    own = list(model.expression_names)
    notes = []
    if code.format == "blendshapes":
        known = {s.removesuffix("Left").removesuffix("Right") for s in own}
        if not {"jawOpen", "mouthPucker"} <= known | set(own):
            raise UsageError(f"blendshapes need a model with ARKit's shapes (makehuman, ict); {model.name} has not")
        expression = model.coefficients(code.scores, strict=False)
        lacking = [k for k in code.scores if k not in own and k not in model.sided.names]
        if lost := [k for k in lacking if code.scores[k] > 0.05]:
            notes.append(f"the model has no {', '.join(lost)}")
        return identity, expression.astype(np.float32), notes
    if not {"exp000", "jawOpen"} <= set(own):
        raise UsageError(f"{code.format} parameters are FLAME's; use --model flame (or the path of a FLAME file)")
    assert code.shape is not None
    assert code.exp is not None
    if len(code.shape) > model.n_identity:
        raise InputError(f"{code.source}: {len(code.shape)} shape components; the model has {model.n_identity}")
    identity[: len(code.shape)] = code.shape
    values = np.zeros(len(own), dtype=np.float32)
    dropped = 0.0
    for k, v in enumerate(code.exp):
        if f"exp{k:03d}" in own:
            values[own.index(f"exp{k:03d}")] = v
        else:
            dropped = max(dropped, abs(float(v)))
    if dropped > 0.1:
        notes.append(f"expression components beyond the model's {len(own) - 1} left out (largest {dropped:.2f})")
    if code.jaw is not None:
        values[own.index("jawOpen")] = code.jaw[0] / JAW
        if np.abs(code.jaw[1:]).max() > 0.02:
            sideways = float(np.degrees(np.abs(code.jaw[1:]).max()))
            notes.append(f"the jaw's sideways turn of {sideways:.0f}° has no shape in the model and is left out")
    if "2023" in Path(str(model.source)).name:
        notes.append(f"{code.format} uses FLAME 2020's components, {Path(str(model.source)).name} has others")
    if "eyelid_params" in code.left_out:
        notes.append("SMIRK's two eyelid shapes are not FLAME's and are left out")
    return identity, np.asarray(model.expand(values), dtype=np.float32), notes


def _matcher(codes: Sequence[Code], photos: Sequence[Any]) -> Callable[[str, int, int], Code | None]:
    """``match(name of the picture, its number, its frame in a video or -1)``.

    Whether names are those of photos or of EMOCA's faces is settled for all of them at once: the first face of img1 is
    called img100, as is the photo img100.
    """
    if not codes:
        raise UsageError("there are no coefficients to import")
    named = {c.name: c for c in codes if c.name}
    if len(named) < len(codes):
        if named:
            raise UsageError("some of the coefficients have names and some have not, or two have the same name")
        return lambda name, number, frame: codes[number] if number < len(codes) else None

    def as_it_is(name: str) -> str:
        return name

    def cut(name: str) -> str:
        return name.split(".")[0]

    def face(name: str) -> str:
        return f"{cut(name)}00"

    stems = [Path(p).stem for p in photos if isinstance(p, (str, Path)) and not is_video(p)]
    ways = (as_it_is, cut, face)
    best = max(ways, key=lambda way: sum(way(stem) in named for stem in stems))  # the first of equals

    def match(name: str, number: int, frame: int) -> Code | None:
        if frame >= 0:
            return named.get(name) or named.get(f"{frame + 1:06d}_000")
        return named.get(best(name))

    return match


def _one(
    source: Source, number: int, match: Callable[[str, int, int], Code | None], finder: Any, model: MorphableModel,
    emotion: str | None, names: Names, symmetrize: bool,
) -> FaceFit:  # fmt: skip
    (face,) = find(source, finder, "largest", About.of(model), emotion, names)
    if face.failed is not None:
        return face.failed
    blank, detection = replace(face.blank, expression_prior=""), face.detection
    assert detection is not None
    stem = Path(source.path).stem if source.path else blank.name
    code = match(blank.name if source.frame >= 0 else stem, number, source.frame if is_video(source.path) else -1)
    if code is None:
        reason = "no coefficients for this photo among those that were imported"
        return replace(blank, status="failed", reason=reason)
    try:
        identity, expression, notes = coefficients(code, model)
    except InputError as e:
        return replace(blank, status="failed", reason=str(e))
    basis = landmark_basis(model, detection.kind == "mediapipe")
    problem = problem_of([blank], [detection], model, detection.kind, "cpu")
    tie = problem.prior.tie
    reduced = torch.from_numpy(identity.astype(np.float64)) @ basis.to_identity
    variables = (torch.from_numpy(expression.astype(np.float64)) @ tie) / tie.sum(dim=0)
    problem = replace(problem, identity=reduced[None], variables=variables[None])
    (fit,) = records([blank], model, basis, problem, solve(basis, problem))
    notes.insert(0, f"coefficients from {Path(code.source).name} ({code.format}), pose from the landmarks")
    fit = replace(fit, identity=identity, expression=expression, note="; ".join(n for n in (fit.note, *notes) if n))
    if fit.emotion_source != "given":
        named, how = nearest(model, expression)
        fit = replace(fit, emotion=named, emotion_source=how)
    if fit.ok and code.rotation is not None:
        there = np.diag([1.0, -1.0, -1.0]) @ so3_exp(torch.from_numpy(code.rotation)).numpy()
        angle = float(np.degrees(np.arccos(np.clip((np.trace(there.T @ fit.R) - 1) / 2, -1, 1))))
        if angle > ROTATION_DOUBT:
            doubt = f"the imported head rotation is {angle:.0f}° from the landmarks'"
            fit = replace(fit, quality=doubt if fit.quality == "good" else f"{fit.quality}; {doubt}")
    return finish([fit], model, symmetrize)[0]
