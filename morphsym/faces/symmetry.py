"""The mirror map of a mesh, and bases made exactly symmetric with it.

A tool that measures asymmetry must not start from an asymmetric model: scanned and sculpted models are symmetric only up
to rounding and a few stray vertices, so loaders average every array with its mirror image and state the largest change.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from ..errors import ModelError

FLIP = np.array([-1.0, 1.0, 1.0], dtype=np.float32)
_CANDIDATES = 8


def find_mirror(
    mean: np.ndarray,
    tolerance: float = 0.05,
    midline: float = 1e-3,
    fields: np.ndarray | None = None,
    mirrored_fields: np.ndarray | None = None,
    source: str = "the mesh",
) -> np.ndarray:
    """The vertex at the mirrored place of every vertex: (V,) int64, its own inverse.

    Vertices within ``midline`` cm of x = 0 are their own mirror image; the others are matched one to one across, at the
    least total distance. ``fields`` (N, V, 3) and ``mirrored_fields`` (displacements and those of the mirror-image shapes)
    tell vertices apart that lie at the same place (lashes on lids). Raises :class:`ModelError` when the halves cannot be
    matched or a pair is more than ``tolerance`` cm off.
    """
    m = mean.astype(np.float64)
    left, right = np.flatnonzero(m[:, 0] >= midline), np.flatnonzero(m[:, 0] <= -midline)
    if len(left) != len(right):
        raise ModelError(
            f"{source}: mean: {len(left)} vertices on the left but {len(right)} on the right; no mirror map"
        )
    mirror = np.arange(len(m))
    if len(left) == 0:
        return mirror
    distance, near = cKDTree(m[right]).query(m[left] * FLIP, k=min(_CANDIDATES, len(right)))
    distance, near = distance.reshape(len(left), -1), near.reshape(len(left), -1)
    cost = distance + 1e-9  # an explicit zero would read as no edge
    if fields is not None and mirrored_fields is not None:
        # only pairs at about the same place compete; there the displacements decide
        close = distance <= tolerance
        rows, cols = np.nonzero(close)
        extra = np.zeros(len(rows))
        for f, g in zip(fields, mirrored_fields):
            extra += ((f[left[rows]] * FLIP - g[right[near[rows, cols]]]) ** 2).sum(axis=1)
        cost[rows, cols] += 0.1 * np.sqrt(extra)
        cost[~close] += 10.0
    rows = np.repeat(np.arange(len(left)), near.shape[1])
    graph = coo_matrix((cost.ravel(), (rows, near.ravel())), shape=(len(left), len(right))).tocsr()
    try:
        i, j = min_weight_full_bipartite_matching(graph)
    except ValueError as e:
        raise ModelError(f"{source}: mean: the left and right halves do not match vertex by vertex") from e
    mirror[left[i]], mirror[right[j]] = right[j], left[i]
    off = np.linalg.norm(m[mirror] * FLIP - m, axis=1)
    if off.max() > tolerance:
        raise ModelError(
            f"{source}: mean: vertex {int(off.argmax())} has no mirror image within {tolerance} cm (off by {off.max():.3g})"
        )
    return mirror


def mirrored(field: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The mirror image of positions or displacements (…, V, 3)."""
    return field[..., mirror, :] * FLIP.astype(field.dtype)


def symmetrize(field: np.ndarray, mirror: np.ndarray, partner: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """``field`` (V, 3), or shapes (N, V, 3) with their mirror ``partner`` (N,), averaged with its mirror image.

    Returns the exactly symmetric array (bit for bit) and the largest displacement, in cm, that this changed.
    """
    image = mirrored(field if partner is None else field[partner], mirror)
    out = (field + image) * np.asarray(0.5, dtype=field.dtype)
    return out, float(np.sqrt(((out - field) ** 2).sum(axis=-1)).max())


def symmetrize_modes(basis: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, float]:
    """Identity components (K, V, 3) that are each nearly symmetric or antisymmetric, made exactly so.

    A component that is neither (more than a tenth of its energy on either side) is left as it is. Returns the basis and the
    largest change in cm.
    """
    out = basis.copy()
    change = 0.0
    for k, b in enumerate(basis):
        image = mirrored(b, mirror)
        energy = float((b**2).sum())
        even = float(((b + image) ** 2).sum()) / 4
        if energy == 0 or 0.1 < even / energy < 0.9:
            continue
        out[k] = (b + image) * np.float32(0.5) if even > 0.5 * energy else (b - image) * np.float32(0.5)
        change = max(change, float(np.sqrt(((out[k] - b) ** 2).sum(axis=1)).max()))
    return out, change
