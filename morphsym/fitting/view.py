"""The part of a photo that the photometric fit looks at: the face, resampled to a working size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZE = 112
"""Pixels of the working view's side; smaller faces keep their own size."""

MARGIN = 1.35
"""Side of the view over the longer side of the landmarks' box."""

UP = 0.08
"""The view's centre lies above the box's by this share of its side: landmarks end at the brows."""


@dataclass(frozen=True, eq=False)
class View:
    """A square cut out of a photo."""

    pixels: np.ndarray  # (S, S, 3) float32 sRGB in [0, 1]
    crop: np.ndarray  # (3, 3) float64: homogeneous pixels of the photo to those of the view

    def halved(self) -> View:
        """Half the size, each pixel the mean of four; the size must be even."""
        s = len(self.pixels) // 2
        pixels = self.pixels.reshape(s, 2, s, 2, 3).mean((1, 3))
        return View(np.ascontiguousarray(pixels), np.diag([0.5, 0.5, 1.0]) @ self.crop)


def view_of(photo: np.ndarray, landmarks: np.ndarray, size: int = SIZE) -> View:
    """The view of the face with ``landmarks (68, 2)`` in ``photo (H, W, 3)`` uint8; beyond the border its pixels repeat.

    Resampled as it is and as its mirror image, and averaged: the mirror image's view is the view's mirror image.
    """
    low, high = landmarks.min(0), landmarks.max(0)
    side = MARGIN * max(float((high - low).max()), 1.0)
    x0, y0 = (low + high) / 2 - side / 2 - [0, UP * side]
    size = max(16, min(size, round(side)) // 4 * 4)
    margin = int(np.ceil(3 * max(1.0, side / size))) + 1  # the filter's support
    left, top = int(np.floor(x0)) - margin, int(np.floor(y0)) - margin
    right, bottom = int(np.ceil(x0 + side)) + margin, int(np.ceil(y0 + side)) + margin
    rows = np.clip(np.arange(top, bottom), 0, photo.shape[0] - 1)
    columns = np.clip(np.arange(left, right), 0, photo.shape[1] - 1)
    cut = np.ascontiguousarray(photo[rows[:, None], columns[None]])
    x, y = x0 - left, y0 - top
    here = _resampled(cut, (x, y, x + side, y + side), size)
    x = right - x0 - side
    there = _resampled(np.ascontiguousarray(cut[:, ::-1]), (x, y, x + side, y + side), size)
    pixels = (here + there[:, ::-1]) / 510
    s = size / side
    return View(pixels, np.array([[s, 0, -s * x0], [0, s, -s * y0], [0, 0, 1]]))


def _resampled(picture: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The box of a picture, ``(size, size, 3)`` float32, 0 to 255."""
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS, box=box), np.float32)
