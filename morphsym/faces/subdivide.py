"""A finer mesh for close-ups: every triangle becomes four, and everything that a model has goes along.

New vertices lie on the butterfly surface (Dyn, Levin & Gregory, ACM Transactions on Graphics 9, 1990), which leaves the old
vertices where they are: landmarks, masks and the mirror map stay what they were. The scheme is linear in the vertices, so
the bases are subdivided like the mean, and a finer face is the subdivided face, for every identity and expression.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix

from ..errors import UsageError
from .arkit import mirror_name
from .model import Embedding, MorphableModel
from .split import hemiface_weights
from .symmetry import symmetrize, symmetrize_modes

SUFFIX = "-subdivided"
"""``load_model("makehuman-subdivided")``; also part of the name of the finer model."""


LIMIT = 0.15
"""Of an edge's length: a circle's middle is that far from its chord for an arc of 68 degrees."""


def subdivide(model: MorphableModel) -> MorphableModel:
    """``model`` with four times the triangles. Vertices 0…V-1 are the old ones, in their old places.

    Raises :class:`UsageError` for a mesh whose triangles are not mirror images of each other (scanned models)."""
    faces = model.faces.astype(np.int64)
    v = model.n_vertices
    finer, edges, opposite = _split_triangles(faces, v)
    mirror = _mirrored(edges, model.mirror, v, model.name)
    smooth, straight = _operators(edges, opposite, model.mean.cpu().numpy())

    mean, _ = symmetrize(_apply(smooth, model.mean.cpu().numpy()[None])[0], mirror)
    identity, _ = symmetrize_modes(_apply(smooth, model.identity_basis.cpu().numpy()), mirror)
    expression = _apply(smooth, model.expression_basis.cpu().numpy())
    if model.native_sides:
        index = {n: i for i, n in enumerate(model.expression_names)}
        partner = np.array([index[mirror_name(n)] for n in model.expression_names], dtype=np.int64)
        expression, _ = symmetrize(expression, mirror, partner)

    def mask(value: np.ndarray) -> np.ndarray:
        """Colours and shares go in a straight line between neighbours, so they keep their range and sum."""
        return np.clip(straight @ value.astype(np.float64), 0.0, 1.0).astype(np.float32)

    uv, faces_uv = model.uv, model.faces_uv
    if uv is not None and faces_uv is not None:
        faces_uv, ends, _ = _split_triangles(faces_uv.astype(np.int64), len(uv))
        uv = np.concatenate([uv, 0.5 * (uv[ends[:, 0]] + uv[ends[:, 1]])]).astype(np.float32)
        faces_uv = faces_uv.astype(np.int32)
    device = model.device
    return replace(
        model,
        name=model.name + SUFFIX,
        mean=torch.from_numpy(mean).to(device),
        identity_basis=torch.from_numpy(identity).to(device),
        expression_basis=torch.from_numpy(expression).to(device),
        faces=finer.astype(np.int32),
        part=np.repeat(model.part, 4),
        landmarks68=_finer(model.landmarks68),
        landmarks478=None if model.landmarks478 is None else _finer(model.landmarks478),
        mirror=mirror,
        hemiface_left=hemiface_weights(mean, mirror),
        regions={k: mask(m) for k, m in model.regions.items()},
        albedo=mask(model.albedo),
        paint={k: mask(m) for k, m in model.paint.items()},
        uv=uv,
        faces_uv=faces_uv,
        notes=(*model.notes, f"subdivided once (butterfly): {v} vertices became {len(mean)}"),
    )


def _split_triangles(faces: np.ndarray, v: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four triangles (4F, 3) for each of ``faces`` (F, 3), corners first and the middle last; the edges (E, 2), edge e's
    middle being vertex v + e; and the corners opposite to each edge (E, 2), -1 where it has one triangle (or more
    than two)."""
    ends = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, index = np.unique(ends, axis=0, return_inverse=True)
    index = index.reshape(-1)
    a, b, c = faces.T
    ab, bc, ca = (v + index.reshape(-1, 3)).T
    finer = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    opposite = np.full((len(edges), 2), -1)
    corner = faces[:, [2, 0, 1]].reshape(-1)
    order = np.argsort(index, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(index[order]) > 0])
    count = np.diff(np.r_[first, len(order)])
    two = first[count == 2]
    opposite[count == 2] = np.stack([corner[order[two]], corner[order[two + 1]]], axis=1)
    return finer, edges, opposite


def _mirrored(edges: np.ndarray, mirror: np.ndarray, v: int, name: str) -> np.ndarray:
    """The mirror map of the finer mesh: an edge's middle goes to the middle of the mirrored edge."""
    key = edges[:, 0] * v + edges[:, 1]  # sorted, because the edges are
    image = np.sort(mirror[edges], axis=1)
    wanted = image[:, 0] * v + image[:, 1]
    at = np.searchsorted(key, wanted).clip(0, len(key) - 1)
    if not np.array_equal(key[at], wanted):
        raise UsageError(
            f"the mesh of the face model {name!r} is not built mirror symmetric, so it cannot be subdivided; use the "
            "bundled head or ICT-FaceKit for close-ups"
        )
    return np.concatenate([mirror, v + at])


def _operators(edges: np.ndarray, opposite: np.ndarray, mean: np.ndarray) -> tuple[csr_matrix, csr_matrix]:
    """(V + E, V): butterfly and plain midpoints. The butterfly needs both triangles of an edge and their four outer
    neighbours; at rims, and where it would go further than :data:`LIMIT` from the edge on the mean (folds of lips and
    lids), the middle stays in the straight line."""
    e, v = len(edges), len(mean)
    middle = np.arange(e)
    key = edges[:, 0] * v + edges[:, 1]

    def wing(p: np.ndarray, q: np.ndarray, inner: np.ndarray) -> np.ndarray:
        """The corner beyond the edge (p, q) seen from ``inner``; -1 without one."""
        low, high = np.minimum(p, q), np.maximum(p, q)
        at = np.searchsorted(key, low * v + high).clip(0, e - 1)
        both = opposite[at]
        found = np.where(both[:, 0] == inner, both[:, 1], both[:, 0])
        return np.where((key[at] == low * v + high) & (both >= 0).all(axis=1), found, -1)

    a, b = edges.T
    left, right = opposite.T
    wings = np.stack([wing(a, left, b), wing(b, left, a), wing(a, right, b), wing(b, right, a)], axis=1)
    full = (opposite >= 0).all(axis=1) & (wings >= 0).all(axis=1)
    x = mean.astype(np.float64)
    bulge = 0.125 * x[opposite].sum(axis=1) - 0.0625 * x[wings].sum(axis=1)
    full &= np.linalg.norm(bulge, axis=1) <= LIMIT * np.linalg.norm(x[a] - x[b], axis=1)
    rows = [np.arange(v), v + middle, v + middle]
    cols, values = [np.arange(v), a, b], [np.ones(v), np.full(e, 0.5), np.full(e, 0.5)]
    straight = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(v + e, v))
    for corner, weight in (*((o, 0.125) for o in opposite.T), *((w, -0.0625) for w in wings.T)):
        rows.append(v + middle[full])
        cols.append(corner[full])
        values.append(np.full(int(full.sum()), weight))
    smooth = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(v + e, v))
    return smooth.tocsr(), straight.tocsr()


def _apply(operator: csr_matrix, fields: np.ndarray) -> np.ndarray:
    """``fields`` (K, V, 3) on the finer mesh, float32."""
    out = np.empty((len(fields), operator.shape[0], 3), dtype=np.float32)
    for k, field in enumerate(fields):
        out[k] = operator @ field.astype(np.float64)
    return out


def _finer(e: Embedding) -> Embedding:
    """The same points in the four times finer triangles."""
    w = e.barycentric.astype(np.float64)
    n = np.arange(len(w))
    big = w.argmax(axis=1)
    corner = w[n, big] >= 0.5
    inside = 1.0 - 2.0 * w[:, [2, 0, 1]]  # in the middle triangle (ab, bc, ca)
    outside = 2.0 * w
    outside[n, big] -= 1.0
    # children hold their corners in the order of the parent's: (a, ab, ca), (ab, b, bc), (ca, bc, c)
    return Embedding(
        4 * e.triangle + np.where(corner, big, 3),
        np.where(corner[:, None], outside, inside).astype(np.float32),
    )
