"""Eyeballs: a fresh sphere with rings at the edges of pupil and iris in place of MakeHuman's coarse one (72 vertices).

Centre and radius follow MakeHuman's eyeball linearly (mean and least-squares scale of its vertices), so they are part of
the same linear bases; gaze rotates the sphere by the rotation that fits MakeHuman's own displacement.
"""

from __future__ import annotations

import numpy as np

SEGMENTS = 28
PUPIL, IRIS = 7.6, 22.5  # degrees from the optical axis: 4 mm and 11.5 mm across on a 15 mm eyeball
RINGS = (3.8, 7.0, 8.2, 11.5, 15.0, 18.5, 21.6, 23.4, 28.0, 34.0, 41.0, 50.0, 61.0, 74.0, 90.0)
TOE_IN = 1.5  # degrees: the resting gaze meets about a metre in front of the face


def sphere() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit directions (n, 3), triangles (m, 3) and angle from the axis (n,) in degrees of the subject's left eye.

    The axis is +Z turned in by :data:`TOE_IN`; triangles face outwards. The back of the ball is never seen and open.
    """
    angle = np.concatenate([[0.0], np.repeat(RINGS, SEGMENTS)])
    turn = np.concatenate([[0.0], np.tile(np.arange(SEGMENTS) * 2 * np.pi / SEGMENTS, len(RINGS))])
    a = np.deg2rad(angle)
    local = np.stack([np.sin(a) * np.cos(turn), np.sin(a) * np.sin(turn), np.cos(a)], 1)
    t = np.deg2rad(-TOE_IN)
    rotation = np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]])
    triangles = [[0, 1 + s, 1 + (s + 1) % SEGMENTS] for s in range(SEGMENTS)]
    for r in range(len(RINGS) - 1):
        for s in range(SEGMENTS):
            a0, a1 = 1 + r * SEGMENTS + s, 1 + r * SEGMENTS + (s + 1) % SEGMENTS
            triangles += [[a0, a0 + SEGMENTS, a1 + SEGMENTS], [a0, a1 + SEGMENTS, a1]]
    return local @ rotation.T, np.array(triangles, np.int32), angle


def native_frame(ball: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (3,), unit directions (n, 3) and radius of MakeHuman's eyeball vertices (n, 3) at rest."""
    centre = ball.mean(0)
    offset = ball - centre
    radius = float(np.linalg.norm(offset, axis=1).mean())
    return centre, offset / radius, radius


def follow(displacement: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, float]:
    """Linear change of centre (3,) and radius for a displacement (n, 3) of MakeHuman's eyeball."""
    shift = displacement.mean(0)
    grow = float(((displacement - shift) * directions).sum() / (directions**2).sum())
    return shift, grow


def rotation_of(displacement: np.ndarray, directions: np.ndarray, radius: float) -> np.ndarray:
    """The rotation (3, 3) that best maps the ball's rest to its displaced shape (Kabsch)."""
    shift = displacement.mean(0)
    target = directions * radius + displacement - shift
    u, _, vt = np.linalg.svd(target.T @ directions)
    d = np.sign(np.linalg.det(u @ vt))
    return np.asarray(u @ np.diag([1.0, 1.0, d]) @ vt)
