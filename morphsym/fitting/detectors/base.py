"""What every landmark detector returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ...errors import InputError

Kind = Literal["mediapipe", "visible", "anatomical"]
"""What 68 points mean: a subset of MediaPipe's mesh; or Multi-PIE/iBUG points whose contour (0–16) follows the silhouette
that is seen, or the jaw itself."""

KINDS: tuple[Kind, ...] = ("mediapipe", "visible", "anatomical")


@dataclass(frozen=True, eq=False)
class Detection:
    """The landmarks of one face. Pixels; centres at half-integers, origin top left; the subject's right jaw is point 0."""

    landmarks68: np.ndarray  # (68, 2) float64, Multi-PIE/iBUG order
    box: np.ndarray  # (4,) float64: x0, y0, x1, y1, pixels
    score: float  # 0 to 1; nan where the detector gives none
    detector: str  # 'mediapipe', 'face-alignment', 'file', …
    landmarks478: np.ndarray | None = None  # (478, 2) float64, MediaPipe's order
    blendshapes: Mapping[str, float] | None = None  # MediaPipe's scores by ARKit name
    kind: Kind = "visible"  # what the 68 points are; see Kind
    note: str = ""  # what had to be done to find it ('found in an enlarged crop')


class Detector(Protocol):
    """Finds faces: ``detector(image)`` with ``image (H, W, 3)`` uint8 RGB gives detections, the largest first."""

    name: str

    def __call__(self, image: np.ndarray) -> list[Detection]: ...


def check_image(image: np.ndarray) -> None:
    """Raise :class:`InputError` unless ``image`` is a ``(H, W, 3)`` uint8 array."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"expected an RGB image (H, W, 3) of uint8, got {image.shape} of {image.dtype}")


def box_of(points: np.ndarray) -> np.ndarray:
    """The box ``(4,)`` around ``points (N, 2)``."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def by_size(detections: list[Detection]) -> list[Detection]:
    """The largest box first; equal boxes keep their order."""
    return sorted(detections, key=lambda d: -float(np.prod(d.box[2:] - d.box[:2])))
