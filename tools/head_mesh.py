"""The bundled head's mesh, as one linear operator from MakeHuman's native vertices to ours.

Everything (mean, identity targets, expressions) goes through the same matrix, so the bases stay linear and exactly
mirror symmetric: only the subject's left half is built, and the right half is its image under MakeHuman's mirror table.
Steps: choose the head's quads; subdivide the front of the face once (Catmull-Clark weights inside the region, plain
midpoints on its rim, so there are no cracks); subdivide the teeth; cut the neck with a plane; triangulate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from head_source import Source

Row = dict[int, float]  # weights of native vertices
Corner = tuple[int, tuple[float, ...]]  # (row, (u, v, u', v')): u', v' belong to the mirrored corner
Polygon = list[Corner]

CUT_HEIGHT, CUT_DEPTH, CUT_SLOPE = 59.0, 2.5, 0.28  # neck plane: y + slope (z - depth) = height, native cm


@dataclass
class Mesh:
    """The assembled mesh. ``operator`` maps native vertices (N) to ours (V); eyeballs are appended by the build."""

    operator: sp.csr_matrix  # (V, N)
    mirror: np.ndarray  # (V,) int64
    faces: np.ndarray  # (F, 3) int32
    uv: np.ndarray  # (Vt, 2)
    faces_uv: np.ndarray  # (F, 3) int32
    part: np.ndarray  # (F,) uint8
    vertex_uv: np.ndarray  # (V, 2): one of the vertex's texture coordinates


class Builder:
    """Rows of the operator. ``rest`` (N, 3) is the native mesh's mean adult: where cuts and diagonals are decided."""

    def __init__(self, source: Source, rest: np.ndarray) -> None:
        self.source = source
        self.rest = rest
        self.rows: list[Row] = []
        self.index: dict[tuple[tuple[int, float], ...], int] = {}

    def add(self, row: Row) -> int:
        """Index of ``row``, added if new."""
        key = tuple(sorted((k, round(w, 9)) for k, w in row.items() if abs(w) > 1e-12))
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append(dict(row))
        return self.index[key]

    def reflected(self, row: Row) -> Row:
        return {int(self.source.mirror[k]): w for k, w in row.items()}

    def position(self, i: int) -> np.ndarray:
        row = self.rows[i]
        return np.asarray(sum(w * self.rest[k] for k, w in row.items()))

    def blend(self, parts: list[tuple[float, int]]) -> int:
        """The row of a weighted sum of rows."""
        out: Row = {}
        for weight, i in parts:
            for k, w in self.rows[i].items():
                out[k] = out.get(k, 0.0) + weight * w
        return self.add(out)


def polygons_of(source: Source, builder: Builder, group: str) -> list[Polygon]:
    """Left-half quads (centroid x > 0) of a group; each corner carries its own and its mirror image's uv."""
    lookup = {frozenset(v for v, _ in quad): dict(quad) for quad in source.groups[group]}
    out = []
    for quad in source.groups[group]:
        if source.positions[[v for v, _ in quad], 0].mean() <= 0:
            continue
        twin = lookup.get(frozenset(int(source.mirror[v]) for v, _ in quad))
        if twin is None:  # one-sided group: its twin has another name
            other = group.replace("-l-", "-r-")
            twin = next(
                dict(q) for q in source.groups[other] if {v for v, _ in q} == {int(source.mirror[v]) for v, _ in quad}
            )
        corners: Polygon = []
        for v, t in quad:
            uv = (*source.uv[t], *source.uv[twin[int(source.mirror[v])]])
            corners.append((builder.add({v: 1.0}), tuple(float(x) for x in uv)))
        out.append(corners)
    return out


def _mean_uv(uvs: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(float(x) for x in np.mean(uvs, axis=0))


def subdivide(builder: Builder, polygons: list[Polygon], chosen: np.ndarray) -> list[Polygon]:
    """One Catmull-Clark step of the ``chosen`` quads of the left half.

    A vertex all of whose quads are chosen (on both halves: the mid-sagittal line is interior) moves to the
    Catmull-Clark position; others stay. Neighbours of the region receive the rim's midpoints as extra corners.
    """
    mirror_row: dict[int, int] = {}

    def twin(i: int) -> int:
        if i not in mirror_row:
            mirror_row[i] = builder.add(builder.reflected(builder.rows[i]))
        return mirror_row[i]

    # faces of both halves, as vertex loops; the right half only lends its weights
    loops = [[c[0] for c in p] for p in polygons] + [[twin(c[0]) for c in p][::-1] for p in polygons]
    flags = np.concatenate([chosen, chosen])
    at_vertex: dict[int, list[int]] = {}
    at_edge: dict[tuple[int, int], list[int]] = {}
    for f, loop in enumerate(loops):
        for a, b in zip(loop, loop[1:] + loop[:1], strict=True):
            at_vertex.setdefault(a, []).append(f)
            at_edge.setdefault((min(a, b), max(a, b)), []).append(f)
    neighbours: dict[int, list[int]] = {}
    for a, b in at_edge:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    centre: dict[int, int] = {}

    def face_point(f: int) -> int:
        if f not in centre:
            loop = loops[f]
            centre[f] = builder.blend([(1 / len(loop), v) for v in loop])
        return centre[f]

    def edge_point(a: int, b: int) -> int | None:
        faces = at_edge[(min(a, b), max(a, b))]
        if not any(flags[f] for f in faces):
            return None
        if len(faces) == 2 and all(flags[f] for f in faces):
            return builder.blend([(0.25, a), (0.25, b), (0.25, face_point(faces[0])), (0.25, face_point(faces[1]))])
        return builder.blend([(0.5, a), (0.5, b)])

    def vertex_point(v: int) -> int:
        faces = at_vertex[v]
        closed = all(len(at_edge[(min(v, w), max(v, w))]) == 2 for w in neighbours[v])
        if not closed or not all(flags[f] for f in faces):
            return v
        n = len(faces)
        parts = [((n - 2) / n, v)]
        parts += [(1 / n**2, w) for w in neighbours[v]]
        parts += [(1 / n**2, face_point(f)) for f in faces]
        return builder.blend(parts)

    moved = {v: vertex_point(v) for v in at_vertex}
    out: list[Polygon] = []
    for f, polygon in enumerate(polygons):
        count = len(polygon)
        mids: list[Corner | None] = []
        for k in range(count):
            (a, ua), (b, ub) = polygon[k], polygon[(k + 1) % count]
            row = edge_point(a, b)
            mids.append(None if row is None else (row, _mean_uv([ua, ub])))
        corners: Polygon = [(moved[v], t) for v, t in polygon]
        if chosen[f]:
            mid: Corner = (face_point(f), _mean_uv([t for _, t in polygon]))
            for k in range(count):
                before, after = mids[k - 1], mids[k]
                assert before is not None
                assert after is not None
                out.append([corners[k], after, mid, before])
        else:
            ring: Polygon = []
            for k in range(count):
                ring.append(corners[k])
                extra = mids[k]
                if extra is not None:
                    ring.append(extra)
            out.append(ring)
    return out


def cut(builder: Builder, polygons: list[Polygon]) -> list[Polygon]:
    """Keep what lies above the neck plane; polygons that cross it are clipped, so that the edge is even."""

    def height(i: int) -> float:
        x = builder.position(i)
        return float(x[1] + CUT_SLOPE * (x[2] - CUT_DEPTH) - CUT_HEIGHT)

    out = []
    for polygon in polygons:
        h = [height(v) for v, _ in polygon]
        if min(h) >= 0:
            out.append(polygon)
            continue
        if max(h) <= 0:
            continue
        kept: Polygon = []
        for k in range(len(polygon)):
            j = (k + 1) % len(polygon)
            if h[k] >= 0:
                kept.append(polygon[k])
            if (h[k] >= 0) != (h[j] >= 0):
                # from the kept end, so that both neighbours of an edge get the same row
                (i0, i1) = (k, j) if h[k] >= 0 else (j, k)
                t = h[i0] / (h[i0] - h[i1])
                (a, ua), (b, ub) = polygon[i0], polygon[i1]
                uv = tuple(float((1 - t) * x + t * y) for x, y in zip(ua, ub, strict=True))
                kept.append((builder.blend([(1 - t, a), (t, b)]), uv))
        if len(kept) >= 3:
            out.append(kept)
    return out


def triangulate(builder: Builder, polygon: Polygon) -> list[Polygon]:
    """The triangulation with the shortest edges (a quad's shorter diagonal) that has no degenerate triangle.

    Polygons beside the subdivided region have corners in the middle of an edge, so an ear may be flat: the minimum is
    taken over all triangulations (dynamic programming over corner ranges; at most nine corners).
    """
    if len(polygon) == 3:
        return [polygon]
    points = [builder.position(v) for v, _ in polygon]

    def cost(i: int, j: int, k: int) -> float:
        a, b, c = points[i], points[j], points[k]
        around = float(np.linalg.norm(a - b) + np.linalg.norm(b - c) + np.linalg.norm(c - a))
        flat = float(np.linalg.norm(np.cross(b - a, c - a))) < 2e-3 * around * around
        return around + 1e3 * flat

    count = len(polygon)
    best: dict[tuple[int, int], tuple[float, int]] = {(i, i + 1): (0.0, -1) for i in range(count - 1)}
    for span in range(2, count):
        for i in range(count - span):
            j = i + span
            options = [(round(best[i, m][0] + best[m, j][0] + cost(i, m, j), 9), m) for m in range(i + 1, j)]
            best[i, j] = min(options)
    out, todo = [], [(0, count - 1)]
    while todo:
        i, j = todo.pop()
        m = best[i, j][1]
        if m >= 0:
            out.append([polygon[i], polygon[m], polygon[j]])
            todo += [(i, m), (m, j)]
    return out


def assemble(builder: Builder, polygons: list[tuple[int, Polygon]]) -> Mesh:
    """Triangles of both halves from the left half's (part, polygon) list, with only the rows that are used."""
    left = [(part, tri) for part, polygon in polygons for tri in triangulate(builder, polygon)]
    used: dict[int, int] = {}

    def number(row: int) -> int:
        return used.setdefault(row, len(used))

    faces, corner_uv, parts = [], [], []
    for part, tri in left:
        faces.append([number(v) for v, _ in tri])
        corner_uv.append([t[:2] for _, t in tri])
        parts.append(part)
    half = len(faces)
    for part, tri in left:
        image = [(number(builder.add(builder.reflected(builder.rows[v]))), t[2:]) for v, t in tri][::-1]
        faces.append([v for v, _ in image])
        corner_uv.append([t for _, t in image])
        parts.append(part)
    assert half * 2 == len(faces)
    rows = [r for r, _ in sorted(used.items(), key=lambda item: item[1])]
    mirror = np.array([used[builder.add(builder.reflected(builder.rows[r]))] for r in rows])
    i, j, w = zip(*[(k, c, x) for k, r in enumerate(rows) for c, x in builder.rows[r].items()], strict=True)
    operator = sp.csr_matrix((w, (i, j)), shape=(len(rows), len(builder.source.positions)))
    table, inverse = np.unique(np.round(np.array(corner_uv).reshape(-1, 2), 6), axis=0, return_inverse=True)
    faces_array = np.array(faces, np.int32)
    faces_uv = inverse.reshape(-1, 3).astype(np.int32)
    vertex_uv = np.zeros((len(rows), 2))
    vertex_uv[faces_array.ravel()] = table[faces_uv.ravel()]
    return Mesh(operator, mirror, faces_array, table, faces_uv, np.array(parts, np.uint8), vertex_uv)
