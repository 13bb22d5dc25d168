"""MediaPipe's Face Landmarker: 478 points and 52 ARKit-named blendshape scores. The default detector.

Weights: ``morphsym weights get mediapipe``. The model's own face finder sees a face that is about a tenth of the
picture or larger. Where it finds none, the picture is searched again turned by quarters, then in overlapping enlarged
crops; the detection's ``note`` says so. A face that lies on its side is looked at again upright, since MediaPipe's
points are then wrong by a tenth of the eye distance.

**Both ways.** MediaPipe answers a picture and its mirror image differently: a network has no left–right symmetry built in.
Asymmetry measured with it would hold the network's own. So every face is looked at in the mirror image too, and the
two answers are averaged, which makes the detector exactly mirror-symmetric.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ... import resources, weights
from .base import Detection, box_of, by_size, check_image

SUBSET_68 = (
    *(127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356),  # jaw, subject's right first
    *(70, 63, 105, 66, 107),  # the subject's right brow, outer to inner
    *(336, 296, 334, 293, 300),  # left brow, inner to outer
    *(168, 197, 5, 4),  # bridge of the nose, to the tip
    *(98, 97, 2, 326, 327),  # under the nose
    *(33, 160, 158, 133, 153, 144),  # the subject's right eye, from the outer corner
    *(362, 385, 387, 263, 373, 380),  # left eye, from the inner corner
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips, from the subject's right corner
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
"""MediaPipe's vertex for each iBUG-68 landmark; `docs/design/fitting.md` shows them on a photo."""

LARGEST_SIDE = 1920
"""Larger pictures are shrunk first: the network looks at a 256² crop of the face anyway."""

CROPS = (2, 4, 8)
"""Crops of a further search are this part of the picture, one after the other until a face is found."""

CROP_SIDE = 640
"""Crops are enlarged to at least this."""

SMALLEST_CROP = 96
"""Pixels; a face in a smaller crop would be too small to fit."""

ONCE = "found in the picture or its mirror image only"
"""Begins the note of a face that the face finder did not see both ways."""

SAME_FACE = 0.5
"""Boxes of the picture and of its mirror image that overlap by more show one face."""


class MediaPipeDetector:
    """``image (H, W, 3)`` uint8 RGB to detections. ``max_faces`` limits how many faces are looked for.

    ``thorough`` also searches crops when the whole picture showed a face, for the small ones of a group.
    ``both_ways`` averages what is found in the picture and in its mirror image; without it the network's own
    asymmetry stays in (it is twice as fast).
    """

    name = "mediapipe"

    def __init__(
        self, task: str | Path | None = None, max_faces: int = 20, offline: bool = False, thorough: bool = False,
        both_ways: bool = True,
    ) -> None:  # fmt: skip
        self._task = str(task if task is not None else weights.path("mediapipe", offline))
        self._max_faces = max_faces
        self._thorough = thorough
        self._both_ways = both_ways
        self._landmarker: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """To another process: the network is opened there."""
        return self.__dict__ | {"_landmarker": None}

    def __call__(self, image: np.ndarray) -> list[Detection]:
        check_image(image)
        height, width = image.shape[:2]
        working, shrunk = _resized(image, min(1.0, LARGEST_SIDE / max(height, width)))
        first = [self._upright(working, d) for d in self._detect(working, "", always=True)]
        # A face that only the picture or only its mirror image shows is doubtful: perhaps it stands on its head.
        found = [d for d in first if ONCE not in d.note]
        if not found:
            for quarters in (1, 3, 2):
                turned = self._detect_turned(working, quarters, f"found in the picture turned by {90 * quarters}°")
                upright = [self._upright(working, d) for d in turned]
                if found := [d for d in upright if ONCE not in d.note]:
                    break
        if not found:
            found = first or next((f for parts in CROPS if (f := self._search_crops(working, parts))), [])
        elif self._thorough:
            found = _distinct(found + self._search_crops(working, CROPS[0]))
        return by_size([_mapped(d, lambda p: p / shrunk) for d in found])

    def _detect(self, image: np.ndarray, note: str, always: bool = False) -> list[Detection]:
        """The faces of ``image``, averaged with those of its mirror image.

        ``always``: look into the mirror image also where the picture itself shows no face; a search of many crops
        does not, which would take twice as long.
        """
        found = self._detect_once(image, note)
        if not self._both_ways or not (found or always):
            return found
        width, flipped = image.shape[1], image[:, ::-1]
        others = [mirrored_detection(d, width) for d in self._detect_once(flipped, note)]
        both = []
        for d in found:
            twin = _twin(d, others)
            if twin is not None:
                others.remove(twin)
            else:  # the face finder missed it: the points are looked for where the face must be
                again = self._detect_near(flipped, mirrored_detection(d, width).box)
                twin = _twin(d, [mirrored_detection(m, width) for m in again])
                d = _found_once(d, twin)
            both.append(d if twin is None else averaged(d, twin))
        for m in others:
            twin = _twin(m, self._detect_near(image, m.box))
            m = _found_once(m, twin)
            both.append(m if twin is None else averaged(m, twin))
        return both

    def _detect_near(self, image: np.ndarray, box: np.ndarray) -> list[Detection]:
        """The faces in the square of twice the size of ``box``."""
        centre, half = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        low = np.maximum(np.floor(centre - half), 0).astype(int)
        high = np.minimum(np.ceil(centre + half), image.shape[1::-1]).astype(int)
        if (high - low < 8).any():
            return []
        crop, factor = _resized(
            np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]), max(1.0, CROP_SIDE / (2 * half))
        )
        return [_mapped(d, lambda p: p / factor + low) for d in self._detect_once(crop, "")]

    def _detect_once(self, image: np.ndarray, note: str) -> list[Detection]:
        import mediapipe as mp

        if self._landmarker is None:
            with _quiet():
                self._landmarker = _create(self._task, self._max_faces)
            # MediaPipe's own __del__ fails noisily when the interpreter is already going down.
            weakref.finalize(self, self._landmarker.close)
        result = self._landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
        height, width = image.shape[:2]
        detections = []
        for points, scores in zip(result.face_landmarks, result.face_blendshapes, strict=True):
            xy = np.array([[p.x * width, p.y * height] for p in points], dtype=np.float64)
            shapes = {c.category_name: float(c.score) for c in scores if c.category_name != "_neutral"}
            subset = xy[list(SUBSET_68)]
            detections.append(
                Detection(subset, box_of(xy), float("nan"), self.name, xy, shapes, kind="mediapipe", note=note)
            )
        return detections

    def _search_crops(self, image: np.ndarray, parts: int) -> list[Detection]:
        """Search overlapping crops of a ``parts``-th of the picture's size, enlarged."""
        height, width = image.shape[:2]
        h, w = height // parts, width // parts
        if max(h, w) < SMALLEST_CROP:
            return []
        found: list[Detection] = []
        for top in _starts(height, h):
            for left in _starts(width, w):
                crop, factor = _resized(image[top : top + h, left : left + w], max(1.0, CROP_SIDE / max(h, w)))
                offset = np.array([left, top], dtype=np.float64)
                for d in self._detect(crop, f"found in an enlarged crop ({w}×{h} pixels)"):
                    upright = self._upright(crop, d)
                    found.append(_mapped(upright, lambda p, e=factor, o=offset: p / e + o))
        return _distinct(found)

    def _detect_turned(self, image: np.ndarray, quarters: int, note: str) -> list[Detection]:
        """Search the picture turned by quarters (counter-clockwise); the points are turned back."""
        height, width = image.shape[:2]
        back = {
            1: lambda p: np.stack([width - p[:, 1], p[:, 0]], axis=-1),
            2: lambda p: np.stack([width - p[:, 0], height - p[:, 1]], axis=-1),
            3: lambda p: np.stack([p[:, 1], height - p[:, 0]], axis=-1),
        }[quarters]
        return [_mapped(d, back) for d in self._detect(np.rot90(image, quarters), note)]

    def _upright(self, image: np.ndarray, seen: Detection) -> Detection:
        """The same face detected again in the picture turned so that it stands upright, where it lies on its side."""
        right, left = seen.landmarks68[36:42].mean(axis=0), seen.landmarks68[42:48].mean(axis=0)
        tilt = np.degrees(np.arctan2(left[1] - right[1], left[0] - right[0]))  # clockwise in the picture
        quarters = round(tilt / 90) % 4
        if quarters == 0:
            return seen
        again = self._detect_turned(image, quarters, f"looked at in the picture turned by {90 * quarters}°")
        return max(again, key=lambda d: _overlap(d.box, seen.box), default=seen)


@cache
def _mirror_map() -> np.ndarray:
    """``(478,)``: the point that is each point's mirror image, as measured on renders and their mirror images."""
    with np.load(resources.asset("heads/ict_mediapipe.npz"), allow_pickle=False) as z:
        return np.asarray(z["mirror"])


def mirrored_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Blendshape scores of the mirror image: ``…Left`` and ``…Right`` trade places, sides and directions alike."""
    swap = {"Left": "Right", "Right": "Left"}
    return {next((k.removesuffix(a) + b for a, b in swap.items() if k.endswith(a)), k): v for k, v in scores.items()}


def mirrored_detection(detection: Detection, width: int) -> Detection:
    """The detection as it would be in the mirror image of its picture of ``width`` pixels."""
    assert detection.landmarks478 is not None
    points = detection.landmarks478[_mirror_map()] * (-1, 1) + (width, 0)
    scores = None if detection.blendshapes is None else mirrored_scores(detection.blendshapes)
    return replace(
        detection, landmarks68=points[list(SUBSET_68)], box=box_of(points), landmarks478=points, blendshapes=scores
    )


def averaged(one: Detection, other: Detection) -> Detection:
    """The mean of two detections of one face, points and scores."""
    assert one.landmarks478 is not None
    assert other.landmarks478 is not None
    points = (one.landmarks478 + other.landmarks478) / 2
    scores = None
    if one.blendshapes is not None and other.blendshapes is not None:
        scores = {k: (v + other.blendshapes[k]) / 2 for k, v in one.blendshapes.items()}
    return replace(
        one, landmarks68=points[list(SUBSET_68)], box=box_of(points), landmarks478=points, blendshapes=scores
    )


def _twin(detection: Detection, others: list[Detection]) -> Detection | None:
    """The one of ``others`` that shows the same face."""
    best = max(others, key=lambda m: _overlap(m.box, detection.box), default=None)
    return best if best is not None and _overlap(best.box, detection.box) >= SAME_FACE else None


def _found_once(detection: Detection, twin: Detection | None) -> Detection:
    note = f"{ONCE}, " + ("looked at in both" if twin is not None else "so the detector's own asymmetry is in it")
    return replace(detection, note="; ".join(n for n in (detection.note, note) if n))


def _create(task: str, max_faces: int) -> Any:
    import mediapipe as mp

    options = mp.tasks.vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=task), output_face_blendshapes=True, num_faces=max_faces
    )
    return mp.tasks.vision.FaceLandmarker.create_from_options(options)


@contextlib.contextmanager
def _quiet() -> Any:
    """MediaPipe's C++ log lines go to nowhere while its graph starts."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _resized(image: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """``image`` scaled by about ``factor``, antialiased, uint8; and the exact factors of x and y, ``(2,)``."""
    if factor == 1.0:
        return image, np.ones(2)
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    return scaled, np.array(size) / (width, height)


def _starts(length: int, window: int) -> list[int]:
    """Where windows that overlap by a half begin."""
    if window >= length:
        return [0]
    count = int(np.ceil((length - window) / (window / 2))) + 1
    return [int(s) for s in np.linspace(0, length - window, count)]


def _mapped(detection: Detection, back: Any) -> Detection:
    """The detection with its points taken back to the picture that was asked about."""
    points = back(detection.landmarks478)
    return Detection(
        points[list(SUBSET_68)], box_of(points), detection.score, detection.detector, points,
        detection.blendshapes, detection.kind, detection.note,
    )  # fmt: skip


def _distinct(found: list[Detection]) -> list[Detection]:
    """One detection a face: of boxes that overlap by more than 40 % the largest stays."""
    kept: list[Detection] = []
    for d in by_size(found):
        if all(_overlap(d.box, k.box) < 0.4 for k in kept):
            kept.append(d)
    return kept


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over the smaller box."""
    size = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(np.prod(size) / max(min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])), 1e-9))
