"""The faces of one picture: loaded, detected, checked, and the beginning of their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, MorphsymError
from ..types import FaceFit
from .detectors import Detection
from .detectors.mediapipe import ONCE
from .images import Photo, load_array, load_photo
from .naming import Names, clean_name
from .occlusion import covered, nothing_seen
from .quality import check_detection
from .readout import Reading, Readout
from .sources import Source
from .video import is_video
from .view import View, view_of

if TYPE_CHECKING:
    from ..faces import MorphableModel


@dataclass(frozen=True, eq=False)
class Face:
    """A face that was detected and is to be solved, or that failed before."""

    failed: FaceFit | None
    blank: FaceFit
    detection: Detection | None = None
    sequence: int = -1  # the video that it is a frame of
    view: View | None = None  # what the refinement looks at, where it is asked for
    reading: Reading | None = None  # the expression as the pixels tell it


@dataclass(frozen=True)
class About:
    """What a record says of its model."""

    name: str
    sha256: str
    shapes: tuple[str, ...]  # of the sided basis

    @classmethod
    def of(cls, model: MorphableModel) -> About:
        return cls(model.name, model.sha256, tuple(model.sided.names))


def of_subject(face: Face, subject: str) -> Face:
    failed = None if face.failed is None else replace(face.failed, subject=subject)
    return replace(face, failed=failed, blank=replace(face.blank, subject=subject))


def named(faces: Sequence[Face], names: Names) -> list[Face]:
    """``faces`` with names that no other face has."""
    out = []
    for f in faces:
        name = names.unique(f.blank.name)
        failed = None if f.failed is None else replace(f.failed, name=name)
        out.append(replace(f, failed=failed, blank=replace(f.blank, name=name)))
    return out


def find(
    source: Source, finder: Any, face: str, about: About, emotion: str | None, names: Names,
    refine: bool = False, readout: Readout | None = None,
) -> list[Face]:  # fmt: skip
    """The faces of one photo, or one failed record. ``refine``: keep what the refinement looks at; ``readout`` reads them."""
    blank = blank_record(source, about, emotion)
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
        return [Face(replace(blank, status="failed", reason=str(e)), blank, sequence=source.sequence)]
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
        hidden = [] if reason else covered(photo.pixels, detection.landmarks68)
        if ONCE in detection.note and nothing_seen(hidden):  # a doubtful find, and nothing to be seen of it
            reason = "neither the eyes nor the mouth can be seen where the detector has them; is it a face?"
        one = replace(one, quality="" if reason else "; ".join(hidden))
        failed = replace(one, status="failed", reason=reason) if reason else None
        view = view_of(photo.pixels, detection.landmarks68) if refine and not reason else None
        reading = readout.read(photo.pixels, detection) if readout is not None and not reason else None
        if not set(about.shapes).isdisjoint(reading.left if reading else detection.blendshapes or ()):
            one = replace(one, expression_prior="readout" if reading else "scores")
        faces.append(Face(failed, one, detection, source.sequence, view, reading))
    return faces


def blank_record(source: Source, about: About, emotion: str | None) -> FaceFit:
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
        model=about.name,
        model_sha256=about.sha256,
        identity=none,
        expression=none,
        expression_names=about.shapes,
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


def _load(source: Any) -> Photo:
    if isinstance(source, MorphsymError):
        raise source
    if isinstance(source, (str, Path)):
        return load_photo(source)
    return load_array(source)
