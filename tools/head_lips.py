"""Lips that touch at rest: on the mean head and on every identity.

MakeHuman's lips leave a gap at the corners, and macro targets open it further. The gap between the lower contour of the
upper lip and the upper contour of the lower lip is a linear functional of the vertices (two vertices per step of x), so
closing it is a linear operation that keeps the identity basis linear.
"""

from __future__ import annotations

import numpy as np

STEP = 0.14  # cm between samples of the contour
WINDOW = 0.12  # cm either side of a sample in which the contour's vertex is looked for
OVERLAP = 0.03  # cm by which the lips overlap in height at rest
CORNER = 0.09  # cm by which the last samples before the corner are closed at least: the lips part there
REACH = 0.9  # cm of height over which the displacement fades


class Seal:
    """Built on the mean head; applied to the mean and to identity displacements."""

    def __init__(self, mean: np.ndarray, lip: np.ndarray, jaw_open: np.ndarray, skin: np.ndarray) -> None:
        """``mean`` (V, 3); ``lip`` (V,) mask; ``jaw_open`` (V, 3) displacement; ``skin`` (V,) bool, skin and mouth cavity."""
        x = np.abs(mean[:, 0])
        candidate = np.flatnonzero((lip > 0.5) & skin & (mean[:, 0] > -1e-6) & (mean[:, 2] > 6.5))
        self.centres: list[float] = []
        upper: list[int] = []
        lower: list[int] = []
        limits: list[float] = []
        for low in np.arange(0.0, x[candidate].max(), STEP):
            here = candidate[np.abs(x[candidate] - low) <= WINDOW]
            if len(here) < 4:
                continue
            drop = jaw_open[here, 1]
            limit = (drop.min() + drop.max()) / 2
            if drop.max() - drop.min() < 0.3:
                continue  # the corner: the lips are one
            above, below = here[drop > limit], here[drop <= limit]
            top, bottom = above[np.argmin(mean[above, 1])], below[np.argmax(mean[below, 1])]
            if abs(mean[top, 1] - mean[bottom, 1]) > 0.15:
                continue  # not two contours that face each other: too near the corner to tell
            self.centres.append(float(low))
            limits.append(float(limit))
            upper.append(int(top))
            lower.append(int(bottom))
        self.upper, self.lower = np.array(upper), np.array(lower)
        corner = self.centres[-1] + 3 * STEP  # the last samples before the corner cannot be told apart: hold the gap
        seam = np.interp(x, self.centres, (mean[self.upper, 1] + mean[self.lower, 1]) / 2)
        is_upper = jaw_open[:, 1] > np.interp(x, self.centres, limits)
        fade = np.clip(1 - np.abs(mean[:, 1] - seam) / REACH, 0, 1)
        fade = fade * fade * (3 - 2 * fade)
        depth = np.clip((mean[:, 2] - 5.5) / 1.5, 0, 1)
        end = np.clip((corner + STEP - x) / (2 * STEP), 0, 1)
        self.weight = np.where(skin, fade * depth * end, 0.0) * np.where(is_upper, -0.5, 0.5)
        self.x = x

    def gap(self, field: np.ndarray) -> np.ndarray:
        """Height of the opening at the samples (…, n) of positions or displacements (…, V, 3)."""
        return np.asarray(field[..., self.upper, 1] - field[..., self.lower, 1])

    def close_displacement(self, field: np.ndarray) -> np.ndarray:
        """``field`` (K, V, 3) of displacements with its change of the gap taken away (linear)."""
        return self._shift(field, self.gap(field))

    def close_mean(self, mean: np.ndarray) -> np.ndarray:
        """Positions (V, 3) with the lips overlapping by :data:`OVERLAP`; lips that overlap more are left alone."""
        wanted = np.maximum(self.gap(mean) + OVERLAP, 0.0)
        wanted[-3:] = np.maximum(wanted[-3:], CORNER)
        return np.asarray(self._shift(mean[None], wanted[None])[0])

    def _shift(self, field: np.ndarray, amount: np.ndarray) -> np.ndarray:
        out = field.copy()
        for one, values in zip(out, amount, strict=True):
            one[:, 1] += np.interp(self.x, self.centres, values) * self.weight
        return out
