"""MediaPipe's Face Landmarker: 478 points and 52 ARKit-named blendshape scores. The default detector.

Weights: ``morphsym weights get mediapipe``. The model's own face finder sees a face that is about a tenth of the
picture or larger and not turned far in the plane; where it finds none, the picture is searched again in overlapping enlarged
crops, then turned by quarters, and the detection's ``note`` says so.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ... import weights
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

CROP_SIDE = 640
"""Crops of a second search are enlarged to at least this."""


class MediaPipeDetector:
    """``image (H, W, 3)`` uint8 RGB to detections. ``max_faces`` limits how many faces are looked for."""

    name = "mediapipe"

    def __init__(self, task: str | Path | None = None, max_faces: int = 20, offline: bool = False) -> None:
        self._task = str(task if task is not None else weights.path("mediapipe", offline))
        self._max_faces = max_faces
        self._landmarker: Any = None

    def __call__(self, image: np.ndarray) -> list[Detection]:
        check_image(image)
        height, width = image.shape[:2]
        shrink = min(1.0, LARGEST_SIDE / max(height, width))
        working, shrunk = _resized(image, shrink)
        found = self._detect(working, "")
        if not found:
            found = self._search_crops(working)
        if not found:
            found = self._search_turned(working)
        return by_size([_mapped(d, lambda p: p / shrunk) for d in found])

    def _detect(self, image: np.ndarray, note: str) -> list[Detection]:
        import mediapipe as mp

        if self._landmarker is None:
            with _quiet():
                self._landmarker = _create(self._task, self._max_faces)
            # MediaPipe's own __del__ fails noisily when the interpreter is already going down.
            weakref.finalize(self, self._landmarker.close)
        result = self._landmarker.detect(
            mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        )
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

    def _search_crops(self, image: np.ndarray) -> list[Detection]:
        """Search overlapping crops of a half and of a quarter of the picture's size, enlarged."""
        height, width = image.shape[:2]
        for parts in (2, 4):
            h, w = max(height // parts, 32), max(width // parts, 32)
            found: list[Detection] = []
            for top in _starts(height, h):
                for left in _starts(width, w):
                    crop = image[top : top + h, left : left + w]
                    enlarge = max(1.0, CROP_SIDE / max(crop.shape[:2]))
                    offset = np.array([left, top], dtype=np.float64)
                    note = f"found in an enlarged crop ({crop.shape[1]}×{crop.shape[0]} pixels)"
                    enlarged, factor = _resized(crop, enlarge)
                    for d in self._detect(enlarged, note):
                        found.append(_mapped(d, lambda p, e=factor, o=offset: p / e + o))
            if found:
                return _distinct(found)
        return []

    def _search_turned(self, image: np.ndarray) -> list[Detection]:
        """Search the picture turned by quarters; the points are turned back."""
        height, width = image.shape[:2]
        back = {
            1: lambda p: np.stack([width - p[:, 1], p[:, 0]], axis=-1),
            2: lambda p: np.stack([width - p[:, 0], height - p[:, 1]], axis=-1),
            3: lambda p: np.stack([p[:, 1], height - p[:, 0]], axis=-1),
        }
        for quarters in (1, 3, 2):
            found = self._detect(np.rot90(image, quarters), f"found in the picture turned by {90 * quarters}°")
            if found:
                return [_mapped(d, back[quarters]) for d in found]
        return []


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
