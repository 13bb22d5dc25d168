"""Signs in the pixels that a part of the face is covered, where the landmarks alone do not show it.

A detector that has learned faces puts eyes behind sunglasses and a mouth behind a mask, at plausible places, so the landmarks
fit well. The pixels tell: an eye has lids, lashes and an iris, hence edges, and the skin around it is as bright as the cheek;
the lower face has the colour of the forehead. These are rules of thumb for a flag that a person
looks at, never for a rejection by themselves: dark glasses, masks and hands are meant; make-up, beards and hard shadows can
raise it too. A face that the detector was in doubt about, and of which neither eye nor the mouth can be seen
(:func:`nothing_seen`), is none.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

SIDE = 64
"""Pixels between the outer eye corners after resampling (less is enlarged): so that edges mean the same in all photos."""

FLAT_EYE = 6.0
"""Standard deviation of lightness (CIELAB, 0 to 100) below which nothing of an eye can be seen."""

FLAT_SKIN = 0.1
"""The same of mouth and chin, as a share of their lightness: dark skin has less contrast, and must not be flagged for it."""

DARK_EYES = 0.5
"""Lightness of the ring around the eyes, as a share of the cheeks'."""

OTHER_COLOUR = 28.0
"""CIELAB distance, without lightness, between mouth and chin and the upper face."""

NO_SHADING = 1.5
"""Standard deviation of lightness below which a cheek is a flat patch. Photos have 3.7 or more, our plain renders 2.2."""

EYES = {"right eye": slice(36, 42), "left eye": slice(42, 48)}


def covered(pixels: np.ndarray, landmarks: np.ndarray) -> list[str]:
    """What may be covered, in words; [] where nothing looks it. ``pixels (H, W, 3)`` uint8, ``landmarks (68, 2)``."""
    small, points = _around(pixels, landmarks)
    if small is None:
        return []
    outlines = [
        *(points[list(rows)] for rows in ((1, 31, 48, 3), (15, 35, 54, 13))),  # cheeks
        *(_grown(points[rows], 1.9) for rows in EYES.values()),
        np.concatenate([points[[39, 42]], points[[35, 31]]]),  # the bridge of the nose
        points[[48, 54, 10, 9, 8, 7, 6]], points[[31, 35, 54, 48]],
    ]  # fmt: skip
    inside = [_inside(small, outline) for outline in outlines]
    lab = np.split(rgb2lab(np.concatenate(inside)), np.cumsum([len(i) for i in inside])[:-1])
    cheeks, upper, lower = np.concatenate(lab[0:2]), lab[4], np.concatenate(lab[5:7])
    found = []
    if all(len(c) > 50 and c[:, 0].std() < NO_SHADING for c in lab[0:2]):
        found.append("the cheeks have no shading; a drawing?")
    rings = []
    for name, ring in zip(EYES, lab[2:4], strict=True):
        if len(ring) < 20:
            continue
        rings.append(ring)
        if ring[:, 0].std() < FLAT_EYE:
            found.append(f"{name}: nothing of it can be seen; is something in front of it?")
    if rings and len(cheeks) > 50:
        light = np.median(np.concatenate(rings)[:, 0]) / max(float(np.median(cheeks[:, 0])), 1.0)
        if light < DARK_EYES and not any("eye" in f for f in found):
            found.append("the eyes are much darker than the cheeks; dark glasses?")
    if len(upper) > 50 and len(lower) > 50:
        distance = float(np.linalg.norm(np.median(upper[:, 1:], axis=0) - np.median(lower[:, 1:], axis=0)))
        smooth = lower[:, 0].std() < min(FLAT_EYE, FLAT_SKIN * float(np.median(lower[:, 0])))
        if distance > OTHER_COLOUR or smooth:
            found.append("mouth and chin do not look like the rest of the face; a mask?")
    return found


def nothing_seen(found: list[str]) -> bool:
    """Whether :func:`covered` found neither an eye nor the mouth: what the detector took for a face may be none."""
    return all(any(f.startswith(part) for f in found) for part in (*EYES, "mouth"))


def _around(pixels: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The face's pixels, resampled, and the landmarks there."""
    height, width = pixels.shape[:2]
    eyes = float(np.linalg.norm(landmarks[36] - landmarks[45]))
    low = np.floor(landmarks.min(axis=0) - 0.3 * eyes).astype(int)
    high = np.ceil(landmarks.max(axis=0) + 0.3 * eyes).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, (width, height))
    if (high - low < 8).any() or eyes < 4:
        return None, landmarks
    scale = SIDE / eyes
    size = np.maximum(np.round((high - low) * scale), 8).astype(int)
    if size.max() > 8 * SIDE:
        return None, landmarks
    cut = Image.fromarray(np.ascontiguousarray(pixels[low[1] : high[1], low[0] : high[0]]))
    small = np.asarray(cut.resize((int(size[0]), int(size[1])), Image.Resampling.BILINEAR))
    return small, (landmarks - low) * (size / (high - low))


def _inside(image: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """The pixels ``(N, 3)`` inside a polygon of points (x, y): those from which a ray crosses it an odd number of times."""
    height, width = image.shape[:2]
    low = np.maximum(np.ceil(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.floor(outline.max(axis=0)).astype(int), (width - 1, height - 1)) + 1
    if (high <= low).any():
        return image[:0, 0]
    (x0, y0), (x1, y1) = outline.T[:, :, None], np.roll(outline, -1, axis=0).T[:, :, None]
    y = np.arange(low[1], high[1])
    crossed = (y0 <= y) != (y1 <= y)  # (edges, rows)
    at = np.where(crossed, x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0), -np.inf)
    odd = np.logical_xor.reduce(np.arange(low[0], high[0]) < at[..., None], axis=0)
    return np.asarray(image[low[1] : high[1], low[0] : high[0]][odd])


def _grown(outline: np.ndarray, factor: float) -> np.ndarray:
    centre = outline.mean(axis=0)
    grown = centre + (outline - centre) * factor
    # Eyes are flat: as much is added above and below as at the corners.
    grown[:, 1] = centre[1] + (outline[:, 1] - centre[1]) * (factor + 0.6)
    return grown
