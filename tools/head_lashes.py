"""Lashes: short tapered blades anchored on the lid's skin, in place of MakeHuman's opaque guide strips.

Each blade moves with the point of skin that it grows from, so it follows every expression and identity linearly.
MakeHuman's strips only say where the lash line is and which way it points.
"""

from __future__ import annotations

import numpy as np
from head_source import Source

LENGTH = {
    "helper-l-eyelashes-2": 0.34
}  # cm; the upper lid's. The lower lid's are too fine for triangles: they are painted
BLADES_PER_COLUMN = 3
ROOT_SHARE = 0.22  # along a strip's column: the foot of this point on the skin is the rim of the lid
LIFT = 0.015  # cm in front of the skin, against z-fighting


def columns(source: Source, group: str, skin: np.ndarray) -> list[list[int]]:
    """Vertices of a strip as columns from the lid outwards. ``skin`` (n, 3) decides which long side is the lid's."""
    quads = [[v for v, _ in q] for q in source.groups[group]]
    edges: dict[tuple[int, int], int] = {}
    near: dict[int, set[int]] = {}
    for q in quads:
        for a, b in zip(q, q[1:] + q[:1], strict=True):
            edges[(min(a, b), max(a, b))] = edges.get((min(a, b), max(a, b)), 0) + 1
            near.setdefault(a, set()).add(b)
            near.setdefault(b, set()).add(a)
    rim = {v for e, c in edges.items() if c == 1 for v in e}
    corners = sorted(v for v in near if len(near[v]) == 2)
    sides = []
    for start in corners:
        for first in sorted(near[start] & rim):
            path = [start, first]
            while path[-1] not in corners:
                here = path[-1]
                path.append(
                    next(w for w in sorted(near[here]) if w != path[-2] and edges[(min(w, here), max(w, here))] == 1)
                )
            sides.append(path)
    longest = max(len(s) for s in sides)

    def gap(path: list[int]) -> float:
        return float(np.linalg.norm(source.positions[path][:, None] - skin[None], axis=2).min(1).mean())

    row = min((s for s in sides if len(s) == longest), key=lambda s: (round(gap(s), 9), s))
    rows, seen = [row], set(row)
    while True:
        following = [next((w for w in sorted(near[v]) if w not in seen), -1) for v in rows[-1]]
        if -1 in following:
            break
        rows.append(following)
        seen |= set(following)
    return [[r[k] for r in rows] for k in range(len(row))]


def closest_points(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each point (n, 3) the index of the nearest triangle (n,) and the barycentric weights (n, 3) of its foot."""
    import trimesh

    tri = vertices[triangles]
    index, weights = [], []
    for p in points:
        feet = trimesh.triangles.closest_point(tri, np.broadcast_to(p, (len(tri), 3)))
        k = int(((feet - p) ** 2).sum(1).round(12).argmin())
        b = np.clip(trimesh.triangles.points_to_barycentric(tri[k : k + 1], feet[k : k + 1])[0], 0, 1)
        index.append(k)
        weights.append(b / b.sum())
    return np.array(index), np.array(weights)


def grow(
    source: Source, native_mean: np.ndarray, skin: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The left eye's lashes on the mean head.

    ``native_mean`` (N, 3) and ``skin`` (V, 3) in the same frame, ``triangles`` (F, 3) of the skin near the eye. Returns offsets
    (n, 3) from the anchor, triangles (m, 3), and the anchors: triangle index (n,) and weights (n, 3).
    """
    body = source.positions[source.vertices_of("body")]
    roots, directions, lengths = [], [], []
    for group, length in LENGTH.items():
        polylines = np.array([native_mean[c] for c in columns(source, group, body)])  # (columns, rows, 3)
        at = ROOT_SHARE * (polylines.shape[1] - 1)
        k = int(at)
        root = polylines[:, k] * (1 - (at - k)) + polylines[:, min(k + 1, polylines.shape[1] - 1)] * (at - k)
        way = polylines[:, -1] - polylines[:, 0]
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        way = way + np.array([0.0, 0.45, 0.25])  # curl up and towards the viewer
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        fine = np.linspace(0, len(root) - 1, (len(root) - 1) * BLADES_PER_COLUMN + 1)
        lower = np.minimum(fine.astype(int), len(root) - 2)
        share = (fine - lower)[:, None]
        roots.append(root[lower] * (1 - share) + root[lower + 1] * share)
        directions.append(way[lower] * (1 - share) + way[lower + 1] * share)
        taper = np.sin(np.pi * np.clip(np.linspace(0.12, 0.95, len(fine)), 0, 1)) ** 0.5
        lengths.append(length * taper)
    offsets: list[np.ndarray] = []
    anchors_at: list[np.ndarray] = []
    faces: list[list[int]] = []
    for root, way, reach in zip(roots, directions, lengths, strict=True):
        for k in range(len(root) - 1):
            first = len(offsets)
            a, b = root[k], root[k + 1]  # foot to foot: gaps would read as a row of stitches
            tip = (way[k] + way[k + 1]) / 2 * (reach[k] + reach[k + 1]) / 2
            middle = (a + b) / 2
            offsets += [np.zeros(3), np.zeros(3), tip]
            anchors_at += [a, b, middle]
            faces.append([first, first + 1, first + 2])
    index, weights = closest_points(np.array(anchors_at), skin, triangles)
    corner = triangles[index]
    cross = np.cross(skin[corner[:, 1]] - skin[corner[:, 0]], skin[corner[:, 2]] - skin[corner[:, 0]])
    normal = cross / np.linalg.norm(cross, axis=1, keepdims=True)
    return np.array(offsets) + LIFT * normal, np.array(faces, np.int32), index, weights


def fold(offset: np.ndarray, name: str) -> np.ndarray:
    """What a blink adds to the lashes' offsets (n, 3) at coefficient 1: they point down on a closed eye. 0 otherwise."""
    if not name.startswith("eyeBlink"):
        return np.zeros_like(offset)
    return np.maximum(offset[:, 1:2] - LIFT, 0.0) * np.array([0.0, -1.6, 0.3])
