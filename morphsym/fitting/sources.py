"""What is fitted, one picture after the other: photos, arrays, and the frames of videos; nothing is held."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..types import FaceFit
from . import video
from .images import Photo, load_photo


@dataclass(frozen=True, eq=False)
class Source:
    """One picture to look for a face in."""

    image: Any  # a path, a Photo, an array, or the InputError that stands in its place
    item: int  # which of the user's photos it belongs to
    path: str = ""  # '' for an array
    subject: str = ""  # whose face it is, where several pictures show one
    sequence: int = -1  # frames of one video share it; -1: a photo
    frame: int = -1  # of the video, from 0
    time: float = math.nan  # seconds


def sources(photos: Sequence[Any], frame_step: int = 1, fps: float | None = None, start: int = 0) -> Iterator[Source]:
    """The pictures of ``photos``: files, Photo records and arrays as they are; every ``frame_step``-th frame of videos.

    ``fps``: the photos of each folder are the frames of one video, ``fps`` of them a second, in the order given.
    ``start``: the first so many photos are left out, and the others come as they would have after them.
    """
    folders: dict[Path, list[int]] = {}
    subjects: dict[Path, str] = {}

    def subject(of: Path, name: str) -> str:
        """``name``, once: anna/smile.mp4 and ben/smile.mp4 are two people."""
        if of not in subjects:
            taken, count = {s.casefold() for s in subjects.values()}, 1
            subjects[of] = name
            while subjects[of].casefold() in taken:
                count += 1
                subjects[of] = f"{name}-{count}"
        return subjects[of]

    for i, given in enumerate(photos):
        path = given.path if isinstance(given, Photo) else str(given) if isinstance(given, (str, Path)) else ""
        if path and not isinstance(given, Photo) and video.is_video(path):
            whose = subject(Path(path).absolute(), Path(path).stem)
            if i >= start:
                yield from _frames(Path(path), i, frame_step, whose)
        elif fps is not None:
            folder = Path(path).absolute().parent if path else Path()
            seen = folders.setdefault(folder, [i, 0])
            index, seen[1] = seen[1], seen[1] + 1
            if index % frame_step == 0 and i >= start:
                yield Source(given, i, path, subject(folder, folder.name or "frames"), seen[0], index, index / fps)
        elif i >= start:
            yield Source(given, i, path)


def _frames(path: Path, item: int, step: int, subject: str) -> Iterator[Source]:
    try:
        for f in video.frames(path, step):
            yield Source(f.photo, item, str(path), subject, item, f.index, f.time)
    except InputError as e:  # no video, or one that ends early: a row of its own, and the others go on
        yield Source(e, item, str(path), subject, item)


def count(photos: Sequence[Any], frame_step: int = 1) -> int:
    """About how many pictures :func:`sources` gives."""
    return sum(video.count(p, frame_step) if isinstance(p, (str, Path)) and video.is_video(p) else 1 for p in photos)


def load_source(fit: FaceFit) -> Photo:
    """The picture that ``fit`` is of: its photo, or the frame of its video. Raises :class:`InputError`."""
    if fit.frame >= 0 and video.is_video(fit.photo):
        return video.load_frame(fit.photo, fit.frame, fit.photo_sha256)
    return load_photo(fit.photo)
