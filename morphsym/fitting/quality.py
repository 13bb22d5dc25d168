"""When landmarks can be fitted, how far each is trusted, and when a fit is good enough to be called one."""

from __future__ import annotations

import numpy as np

from ..types import FaceFit
from .detectors import Detection

MIN_EYE_DISTANCE = 24.0
"""Pixels between the outer eye corners (in the picture, along the face): below, a face has less than about 45 pixels."""

MAX_OUTSIDE = 0.1
"""Share of the 68 landmarks that may lie outside the picture."""

MAX_NME = 0.08
"""A larger mean error means that the landmarks are not those of a face that the model can make."""

DOUBTED = 0.25
"""A landmark that the robust loss believes less than this (over 4σ away) counts as not fitting."""

MAX_DOUBTED = 0.25
"""Share of a part's landmarks that may be doubted before the part is flagged."""

FAR_YAW, HIGH_NME, SMALL_FACE = 40.0, 0.035, 50.0
"""Degrees, share of the outer eye distance, pixels between the outer eye corners: beyond them a fit is flagged, not rejected."""

PARTS = {
    "contour": slice(0, 17), "right brow": slice(17, 22), "left brow": slice(22, 27), "nose": slice(27, 36),
    "right eye": slice(36, 42), "left eye": slice(42, 48), "mouth": slice(48, 68),
}  # fmt: skip

MAX_YAW = 65.0
"""Degrees; beyond it half of the landmarks are guesses."""

SIGMA_CM = {"contour": 0.37, "chin": 0.26, "brow": 0.22, "nose": 0.19, "eye": 0.15, "mouth": 0.14}
"""Standard deviation of a landmark in cm at the face: root mean square distance of MediaPipe's points from the best
place on the mesh, over 320 ICT-FaceKit renders with known geometry (tools/embed_mediapipe.py)."""


CORRELATED = 1.5
"""Neighbouring landmarks err together, so 68 of them are worth fewer: every standard deviation is larger by this. Chosen on
renders: more recovers smiles and blinks no better, less turns landmark bias into expression."""


def sigma68() -> np.ndarray:
    """``(68,)`` standard deviations that the solver uses, cm."""
    sigma = np.empty(68)
    sigma[0:17] = SIGMA_CM["contour"]
    sigma[6:11] = SIGMA_CM["chin"]
    sigma[17:27] = SIGMA_CM["brow"]
    sigma[27:36] = SIGMA_CM["nose"]
    sigma[36:48] = SIGMA_CM["eye"]
    sigma[48:68] = SIGMA_CM["mouth"]
    return CORRELATED * sigma


def landmark_sigma(detection: Detection) -> np.ndarray:
    """``(68,)`` standard deviations for one detection, cm; a small face's are larger by the size of half a pixel."""
    pixels_per_cm = face_size(detection.landmarks68) / 9.0  # 9 cm between the outer eye corners
    return np.hypot(sigma68(), 0.5 / pixels_per_cm)


def face_size(landmarks: np.ndarray) -> float:
    """Outer eye distance in pixels, made up for yaw by the face's height: 1.15 times brow to chin is about the same."""
    eyes = float(np.linalg.norm(landmarks[36] - landmarks[45]))
    height = float(np.linalg.norm(landmarks[27] - landmarks[8]))
    return max(eyes, 0.8 * height)


def check_detection(detection: Detection, width: int, height: int) -> str:
    """Why these landmarks cannot be fitted, or ''."""
    points = detection.landmarks68
    if not np.isfinite(points).all():
        return "the detector gave landmarks that are not finite"
    size = face_size(points)
    if size < MIN_EYE_DISTANCE:
        return (
            f"the face is too small: {size:.0f} pixels between the outer eye corners, "
            f"expected at least {MIN_EYE_DISTANCE:.0f}"
        )
    outside = float(((points < 0) | (points > (width, height))).any(axis=1).mean())
    if outside > MAX_OUTSIDE:
        return f"the face is cut off: {100 * outside:.0f} % of its landmarks lie outside the picture"
    return ""


def check_fit(fit: FaceFit) -> str:
    """Why this fit is not one, or ''."""
    if not np.isfinite(fit.nme) or not np.isfinite(fit.expression).all() or not np.isfinite(fit.t).all():
        return "the fit diverged"
    if fit.nme > MAX_NME:
        return (
            f"the model cannot explain the landmarks: mean error {100 * fit.nme:.1f} % of the outer eye distance, "
            f"expected at most {100 * MAX_NME:.0f} %"
        )
    if abs(fit.yaw) > MAX_YAW:
        return f"the head is turned too far: yaw {fit.yaw:.0f}°, expected at most {MAX_YAW:.0f}°"
    return ""


def quality_flag(fit: FaceFit, weight: np.ndarray) -> str:
    """'good', or what a person should look at before using this fit, '; '-separated.

    ``weight (68,)``: how far the solver believed each landmark in the end (1 fully; 0 not at all). Landmarks that do not fit
    the rest of the face are what a hand, hair or a mask before it leaves; a detector that *guesses* what is hidden
    consistently is not caught by this.
    """
    flags = []
    if not fit.converged:
        flags.append("the solver did not come to rest")
    for part, rows in PARTS.items():
        doubted = int((weight[rows] < DOUBTED).sum())
        if doubted >= max(2, round(MAX_DOUBTED * len(weight[rows]))):
            flags.append(f"{part}: {doubted} of {len(weight[rows])} landmarks do not fit; is something in front of it?")
    if abs(fit.yaw) > FAR_YAW:
        flags.append(f"the far side is hardly seen (yaw {fit.yaw:+.0f}°)")
    if fit.nme > HIGH_NME:
        flags.append(f"a large landmark error ({100 * fit.nme:.1f} %)")
    if fit.landmarks.shape == (68, 2) and (size := face_size(fit.landmarks)) < SMALL_FACE:
        flags.append(f"a small face ({size:.0f} pixels between the outer eye corners)")
    outside = float(((fit.landmarks < 0) | (fit.landmarks > (fit.width, fit.height))).any(axis=1).mean())
    if outside > 0:
        flags.append(f"cut off: {100 * outside:.0f} % of the landmarks lie outside the picture")
    return "; ".join(flags) or "good"
