"""Videos, frame by frame, through OpenCV's FFmpeg (MediaPipe brings OpenCV along, so no further package is needed).

Frames are read one after the other and never held. A frame is named by its index in the file, from 0. Seeking by index
is not exact in every container, so :func:`load_frame` compares the digest of the pixels with what the fit recorded, and
decodes from the start where they differ.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingDependencyError
from .images import Photo

SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".3gp", ".ogv", ".flv")
)
"""File name endings that are taken for videos."""

AHEAD = 200
"""Frames that are skipped by decoding; farther ahead, or back, the file is searched."""

MISSING_SHARE = 0.05
"""A file whose header promises more frames than it has by this share (and by two) is said to end early."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video."""

    photo: Photo  # sha256 is that of the pixels
    index: int  # in the file, from 0
    time: float  # seconds from the start


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether the ending of ``path`` is that of a video (an animated GIF counts as a photo)."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def count(path: str | os.PathLike[str], step: int = 1) -> int:
    """About how many frames :func:`frames` gives, by the file's header; 1 where that says nothing."""
    try:
        stated = _Reader(Path(path)).stated
    except InputError:
        return 1
    return max(1, -(-stated // step))


def frames(path: str | os.PathLike[str], step: int = 1) -> Iterator[Frame]:
    """Every ``step``-th frame of the video at ``path``, upright (rotation applied).

    Raises :class:`InputError` for a file that is not a readable video, and, after the last frame, for one that ends
    well before its header says.
    """
    path = Path(path)
    reader = _Reader(path)
    while True:
        wanted = reader.position % step == 0
        index = reader.position
        found = reader.read() if wanted else reader.skip()
        if found is None:
            break
        if isinstance(found, tuple):
            yield Frame(_photo(path, *found, index=index), index, found[1])
    read, stated = reader.position, reader.stated
    if read == 0:
        raise InputError(f"no frame of {path} can be decoded; is it a video? Convert it to mp4 (H.264)")
    if stated - read > max(2, MISSING_SHARE * stated):
        raise InputError(f"{path} ends after {read} of {stated} frames: it is damaged, or was not copied whole")


def load_frame(path: str | os.PathLike[str], index: int, sha256: str = "") -> Photo:
    """Frame ``index`` of the video at ``path``; ``sha256`` of its pixels where it is known.

    Raises :class:`InputError` where there is no such frame, or its pixels are others.
    """
    path = Path(path)
    reader = _cached(path)
    found = reader.at(index)
    photo = None if found is None else _photo(path, *found, index=index)
    if photo is None or (sha256 and photo.sha256 != sha256):
        reader = _fresh(path)  # the search went to another frame: count from the start
        while reader.position < index and reader.skip():
            pass
        found = reader.read() if reader.position == index else None
        if found is None:
            raise InputError(f"{path} has no frame {index}, it ends after {reader.position}; has it changed?")
        photo = _photo(path, *found, index=index)
        if sha256 and photo.sha256 != sha256:
            raise InputError(
                f"frame {index} of {path} is not the one that was fitted: the video, or the version of OpenCV that "
                "decodes it, has changed; fit it again"
            )
    return photo


class _Reader:
    """A video that is being read; ``position`` is the index of the frame that comes next."""

    def __init__(self, path: Path) -> None:
        self._cv2 = _opencv()
        if path.is_dir():
            raise InputError(f"expected a video, but {path} is a folder")
        if not path.exists():
            raise InputError(f"no such video: {path}; check the path")
        if not path.stat().st_size:
            raise InputError(f"{path} is empty (0 bytes); copy or download it again")
        self.path = path
        self.changed = path.stat().st_mtime_ns, path.stat().st_size
        self._capture = self._cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(f"{path} is not a video that can be read; convert it to mp4 (H.264)")
        self.stated = max(0, int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))
        rate = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        self._rate = rate if 0 < rate < 1000 else 25.0
        self._last = -1.0
        self.position = 0

    def skip(self) -> bool | None:
        """Go over one frame; None at the end."""
        if not self._capture.grab():
            return None
        self._note_time()
        return True

    def read(self) -> tuple[np.ndarray, float] | None:
        """The next frame ``(H, W, 3)`` RGB uint8 and its time in seconds; None at the end."""
        ok, pixels = self._capture.read()
        if not ok or pixels is None:
            return None
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        self._note_time()
        return np.ascontiguousarray(pixels[..., 2::-1]), self._last

    def _note_time(self) -> None:
        stamp = float(self._capture.get(self._cv2.CAP_PROP_POS_MSEC)) / 1000
        # Some containers have no time stamps: then the frame rate counts.
        if not np.isfinite(stamp) or stamp <= self._last or (self.position and stamp == 0):
            stamp = self.position / self._rate if self.position else max(0.0, stamp if np.isfinite(stamp) else 0.0)
            stamp = max(stamp, self._last + 0.5 / self._rate) if self.position else stamp
        self._last = stamp
        self.position += 1

    def at(self, index: int) -> tuple[np.ndarray, float] | None:
        """Frame ``index``, or what the container gives for it."""
        if not 0 <= index - self.position <= AHEAD:
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, index)
            self.position, self._last = index, -1.0
        while self.position < index:
            if not self.skip():
                return None
        return self.read()


_open = threading.local()


def _cached(path: Path) -> _Reader:
    """The reader of ``path`` of this thread; one video is open at a time."""
    reader: _Reader | None = getattr(_open, "reader", None)
    if reader is None or reader.path != path or reader.changed != (path.stat().st_mtime_ns, path.stat().st_size):
        return _fresh(path)
    return reader


def _fresh(path: Path) -> _Reader:
    _open.reader = None
    _open.reader = _Reader(path)
    return _open.reader  # type: ignore[no-any-return]


def _photo(path: Path, pixels: np.ndarray, time: float, index: int) -> Photo:
    digest = hashlib.sha256(pixels.data).hexdigest()
    return Photo(pixels, f"frame {index} at {time:.2f} s", digest, str(path.absolute()))


def _opencv() -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its C library writes to standard error by itself
    try:
        import cv2
    except ImportError:
        raise MissingDependencyError("videos need OpenCV; run `pip install opencv-contrib-python`") from None
    return cv2
