"""What a caller of ``fit`` may give: photos, emotions, landmarks in place of a detector. Wrong ones raise :class:`UsageError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from ..types import EMOTIONS
from .detectors import Detection, FileDetector
from .detectors.file import SUFFIXES
from .images import Photo
from .listing import Photos


def as_list(images: Any) -> Sequence[Any]:
    """What is to be fitted, one after the other; a sequence of paths that makes them when asked stays one."""
    if isinstance(images, Photos) and len(images):
        return images
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


def emotions_of(expression: str | Sequence[str | None] | None, count: int) -> list[str | None]:
    emotions = [expression] * count if expression is None or isinstance(expression, str) else list(expression)
    if len(emotions) != count:
        raise UsageError(f"expected one expression for all {count} photos or one each, got {len(emotions)}")
    for e in emotions:
        if e is not None and e not in EMOTIONS:
            raise UsageError(f"unknown expression {e!r}; expected one of {', '.join(EMOTIONS)}")
    return emotions


class _Given:
    """A detector that gives the landmarks it was made with; a file is read when its photo's turn comes."""

    name = "file"

    def __init__(self, source: Any) -> None:
        self._source = source

    def __call__(self, image: np.ndarray) -> list[Detection]:
        if isinstance(self._source, Detection):
            return [self._source]
        if isinstance(self._source, (str, Path)):
            return FileDetector(self._source)(image)
        return FileDetector.from_array(self._source)(image)


def landmark_sources(landmarks: Any, count: int) -> list[Any] | None:
    """One detector a photo, from files, arrays or detections; None when there are none.

    A file that is not there raises :class:`InputError`; what is wrong in one is a matter of its photo.
    """
    if landmarks is None:
        return None
    if isinstance(landmarks, (str, Path, Detection)) or (isinstance(landmarks, np.ndarray) and landmarks.ndim == 2):
        landmarks = [landmarks]
    sources = list(landmarks)
    if len(sources) != count:
        raise UsageError(f"expected landmarks for {count} photos, got {len(sources)}")
    for path in dict.fromkeys(s for s in sources if isinstance(s, (str, Path))):
        if not Path(path).expanduser().is_file():
            raise InputError(f"no landmark file {path}; expected one of {', '.join(SUFFIXES)}")
    return [_Given(s) for s in sources]
