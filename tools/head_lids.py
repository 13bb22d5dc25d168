"""Lids in a blink: kept in front of the eyeball on the whole population, not on the mean head only."""

from __future__ import annotations

from typing import Any

import numpy as np
from head_expression import ARKIT

MARGIN = 0.03  # cm between the outside of a closed lid and the eyeball that is asked of nearly everybody
LIMIT = 0.10  # cm, the most that a lid is pushed out
QUANTILE = 0.01  # share of the people who may stay below the margin


def clear_lids(
    mean: np.ndarray,
    basis: np.ndarray,
    scores: np.ndarray,
    expression: np.ndarray,
    skin: np.ndarray,
    mirror: np.ndarray,
    eyes: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, dict[str, Any]]:
    """The expression basis with both blinks pushed out of the eyeball, and what was measured.

    ``scores`` (n, Ki) of sampled people; ``skin`` (F, 3) triangles of the skin; ``eyes`` the left and right eyeball's vertices.
    For every outward-facing lid vertex of the closed left eye the clearance (distance from the person's eyeball centre
    less that eyeball's radius) is taken over the people; where its lower quantile falls short of :data:`MARGIN` the blink
    is pushed out along the radius. The right blink is the mirror image.
    """
    k = ARKIT.index("eyeBlinkLeft")
    closed = mean + expression[k]
    ball = eyes[0]
    pole, ring = ball[0], ball[-28:]
    centre = mean[ring].mean(0)
    radius = float(np.linalg.norm(mean[pole] - centre))
    tri = closed[skin]
    cross = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    normal = np.zeros_like(mean)
    for c in range(3):
        np.add.at(normal, skin[:, c], cross)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    radial = closed - centre
    distance = np.linalg.norm(radial, axis=1)
    radial /= distance[:, None] + 1e-12
    lid = np.unique(skin)
    lid = lid[(distance[lid] < radius + 0.35) & ((normal * radial).sum(1)[lid] > 0.3) & (radial[lid, 2] > 0.3)]

    def clearance(extra: np.ndarray) -> np.ndarray:
        where = np.concatenate([lid, ring, [pole]])
        people = (mean + extra)[where] + np.einsum("nk,kvd->nvd", scores, basis[:, where])
        middle = people[:, len(lid) : -1].mean(1)
        size = np.linalg.norm(people[:, -1] - middle, axis=1)
        return np.linalg.norm(people[:, : len(lid)] - middle[:, None], axis=2) - size[:, None]

    blink = np.zeros_like(mean)
    blink[lid] = expression[k][lid]
    before = clearance(blink)
    push = np.zeros(len(mean))
    push[lid] = np.clip(MARGIN - np.quantile(before, QUANTILE, axis=0), 0, LIMIT)
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    for _ in range(2):  # spread each push to the neighbours, so that no single vertex sticks out
        wide = push.copy()
        np.maximum.at(wide, edges[:, 0], 0.5 * push[edges[:, 1]])
        np.maximum.at(wide, edges[:, 1], 0.5 * push[edges[:, 0]])
        push = np.where(distance < radius + 0.6, wide, push)
    out = expression.copy()
    out[k] += push[:, None] * radial
    other = ARKIT.index("eyeBlinkRight")
    out[other] = out[k][mirror] * np.array([-1.0, 1.0, 1.0])
    blink[lid] = out[k][lid]
    after = clearance(blink)
    return out, {
        "lid_vertices": len(lid),
        "below_zero_before": float((before < 0).mean()),
        "below_zero_after": float((after < 0).mean()),
        "largest_push_cm": float(push.max()),
    }
