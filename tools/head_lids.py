"""Lids kept in front of the eyeball on the whole population, not on the mean head only: in a blink and in a squint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from head_expression import ARKIT

from morphsym.faces.loaders.makehuman import EXPRESSION_GAIN

MARGIN = 0.03  # cm between the outside of a lid and the eyeball that is asked of nearly everybody
LIMIT = {"blink": 0.10, "squint": 0.30}  # cm, the most that a lid is pushed out
QUANTILE = 0.01  # share of the people who may stay below the margin

BLINK = ("eyeBlink",)
SQUINT = ("cheekSquint", "eyeSquint", "noseSneer", "mouthSmile", "mouthUpperUp")
"""Shapes that press the lower lid and the cheek against the eyeball; mended so that all of them together, at coefficient 1
and with the loader's gain, leave it in front."""


class Population:
    """People's left eyeballs and the skin around them, for any displacement of the mean head."""

    def __init__(self, mean: np.ndarray, basis: np.ndarray, scores: np.ndarray, skin: np.ndarray, ball: np.ndarray):
        """``scores`` (n, Ki) of sampled people; ``skin`` (F, 3) triangles; ``ball`` the left eyeball's vertices."""
        self.mean, self.basis, self.scores, self.skin = mean, basis, scores, skin
        self.pole, self.ring = ball[0], ball[-28:]
        self.centre = mean[self.ring].mean(0)
        self.radius = float(np.linalg.norm(mean[self.pole] - self.centre))

    def lid(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outward-facing skin over the ball on the displaced mean (V, 3): indices, and all vertices' radial directions
        (V, 3) and distances (V,)."""
        tri = moved[self.skin]
        cross = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
        normal = np.zeros_like(moved)
        for c in range(3):
            np.add.at(normal, self.skin[:, c], cross)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        radial = moved - self.centre
        distance = np.linalg.norm(radial, axis=1)
        radial /= distance[:, None] + 1e-12
        lid = np.unique(self.skin)
        over = (distance[lid] < self.radius + 0.35) & ((normal * radial).sum(1)[lid] > 0.3) & (radial[lid, 2] > 0.3)
        return lid[over], radial, distance

    def clearance(self, moved: np.ndarray, lid: np.ndarray) -> np.ndarray:
        """(n, len(lid)): distance from each person's eyeball centre less that eyeball's radius, cm."""
        where = np.concatenate([lid, self.ring, [self.pole]])
        rest = np.concatenate([moved[lid], self.mean[self.ring], self.mean[[self.pole]]])
        people = rest + np.einsum("nk,kvd->nvd", self.scores, self.basis[:, where])
        middle = people[:, len(lid) : -1].mean(1)
        size = np.linalg.norm(people[:, -1] - middle, axis=1)
        return np.linalg.norm(people[:, : len(lid)] - middle[:, None], axis=2) - size[:, None]


def clear_lids(
    mean: np.ndarray,
    basis: np.ndarray,
    scores: np.ndarray,
    expression: np.ndarray,
    skin: np.ndarray,
    mirror: np.ndarray,
    ball: np.ndarray,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The expression basis with blinks and squints pushed out of the eyeball, and what was measured.

    For every outward-facing lid vertex of the left eye the clearance is taken over the people, with all shapes of
    :data:`BLINK` (or :data:`SQUINT`) at 1; where its lower quantile falls short of :data:`MARGIN` the shapes are pushed out
    along the radius, each by its share of the inward movement. The right side is the mirror image.
    """
    people = Population(mean, basis, scores, skin, ball)
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    out, report = expression.copy(), {}
    for kind, stems in (("blink", BLINK), ("squint", SQUINT)):
        gains = {s: EXPRESSION_GAIN.get(s, 1.0) for s in stems}
        moved = mean + _together(out, gains)
        lid, radial, distance = people.lid(moved)
        before = people.clearance(moved, lid)
        push = np.zeros(len(mean))
        push[lid] = np.clip(MARGIN - np.quantile(before, QUANTILE, axis=0), 0, LIMIT[kind])
        for _ in range(2):  # spread each push to the neighbours, so that no single vertex sticks out
            wide = push.copy()
            np.maximum.at(wide, edges[:, 0], 0.5 * push[edges[:, 1]])
            np.maximum.at(wide, edges[:, 1], 0.5 * push[edges[:, 0]])
            push = np.where(distance < people.radius + 0.6, wide, push)
        inward = np.stack(
            [np.maximum(-(g * out[ARKIT.index(s + "Left")] * radial).sum(1), 1e-4) for s, g in gains.items()]
        )
        share = inward / inward.sum(0)
        for (stem, gain), part in zip(gains.items(), share, strict=True):
            k, other = ARKIT.index(stem + "Left"), ARKIT.index(stem + "Right")
            out[k] += (push * part / gain)[:, None] * radial
            out[other] = out[k][mirror] * np.array([-1.0, 1.0, 1.0])
        after = people.clearance(mean + _together(out, gains), lid)
        report[kind] = {
            "lid_vertices": len(lid),
            "below_zero_before": float((before < 0).mean()),
            "below_zero_after": float((after < 0).mean()),
            "largest_push_cm": float(push.max()),
        }
    return out, report


def _together(expression: np.ndarray, gains: Mapping[str, float]) -> np.ndarray:
    """The left shapes of those stems at coefficient 1, summed: (V, 3)."""
    return np.sum([g * expression[ARKIT.index(s + "Left")] for s, g in gains.items()], axis=0)
