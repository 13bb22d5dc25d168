"""What a photo of a face can show of a model: its front, what it is painted with, and which shapes move far-apart places.

Computed once for a model and kept with it. The paint is a set of materials (skin, brow, lip, iris, …) of which every vertex has
shares that sum to one; a face's albedo is ``shares @ colours`` in linear light. The same shares on the left and on the right are
what makes an asymmetric expression visible: a brow that is higher on one side cannot be explained by colour.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy.spatial import cKDTree
from torch import Tensor

from ..faces.appearance import decode_srgb
from ..rendering.photo_kernels import MOUTH
from ..rendering.photo_layers import layers

if TYPE_CHECKING:
    from ..faces import MorphableModel
    from .basis import LandmarkBasis

DEPTH = 4.5
"""cm behind the lips from where the inside of the mouth is left out."""

SHALLOW = 0.5
"""cm behind the corners of the lips up to where the inside of the mouth is always drawn."""

ORDER = (
    "blush", "flush", "nostril", "lid", "lip", "brow", "scalp_hair", "mouth_cavity", "tongue", "gum", "teeth",
    "mouth_shadow", "sclera", "iris", "pupil", "catch_light", "lashline", "lash",
)  # fmt: skip
"""Materials as :func:`morphsym.faces.appearance.compose` lays them over the skin."""

DENSITY = {"lip": 0.9, "brow": 0.9, "mouth_shadow": 0.85, "lashline": 0.8}
"""How much of what lies below these cover at most."""

SHARE, APART = 0.04, 0.2
"""A shape's place is where it moves the mesh by this share of its largest movement; two places are apart by this many cm."""


@dataclass(frozen=True, eq=False)
class Front:
    """V' vertices, F' triangles, M materials, P = Kr + Kd shape coefficients as the landmark solver has them."""

    rows: np.ndarray  # (V',) int64, vertices of the model
    faces: np.ndarray  # (F', 3) int32 into rows, counter-clockwise from outside
    inner: np.ndarray  # (F',) bool: eyeballs and the inside of the mouth
    teeth: np.ndarray  # (F',) bool: of those, what an opening mouth shows first
    mean: np.ndarray  # (V', 3) float32, cm
    shape: np.ndarray  # (P, V', 3) float32, cm per unit
    paint: np.ndarray  # (V', M) float32: shares of the materials, sum 1
    texture: np.ndarray  # (V', 3) float32: factor of the albedo that no material explains; 1 for painted models
    colour: np.ndarray  # (M, 3) float32: the materials' average colours, linear
    groups: tuple[tuple[np.ndarray, np.ndarray], ...]  # expression variables of far-apart places, and the nearest (V',)


def front(model: MorphableModel, basis: LandmarkBasis, tie: Tensor) -> Front:
    """The front of ``model`` with shape coefficients along ``basis``'s identity directions and ``tie``'s variables."""
    key = hashlib.sha256(basis.to_identity.cpu().numpy().tobytes()).hexdigest()
    cached: dict[str, Front] = vars(model).setdefault("_front", {})
    if key not in cached:
        cached[key] = _front(model, basis.to_identity.cpu().numpy(), tie.cpu().numpy())
    return cached[key]


def _front(model: MorphableModel, rotate: np.ndarray, tie: np.ndarray) -> Front:
    part = layers(model)
    mean = model.mean.detach().cpu().numpy()
    lips = model.landmarks(model.mean.detach().cpu()[None])[0].numpy()[48:]
    deep = mean[part.faces][:, :, 2].max(1) < lips[:, 2].min() - DEPTH
    keep = (part.layer > 0) & ~((part.layer == MOUTH) & deep)
    rows, index = np.unique(part.faces[keep], return_inverse=True)
    faces = np.ascontiguousarray(index.reshape(-1, 3).astype(np.int32))
    inner = part.layer[keep] > 1
    near_lips = mean[part.faces[keep]][:, :, 2].max(1) > lips[12:, 2].min() - SHALLOW
    teeth = (part.layer[keep] == MOUTH) & near_lips
    own = model.identity_basis.detach().cpu().numpy()[:, rows]
    sided = model.sided.basis.detach().cpu().numpy()[:, rows]
    identity = np.tensordot(rotate.T.astype(np.float32), own, 1)
    expression = np.tensordot(tie.T.astype(np.float32), sided, 1)
    paint, texture, colour = _materials(model, rows, faces, part.layer[keep])
    shape = np.ascontiguousarray(np.concatenate([identity, expression]))
    groups = _groups(mean[rows], expression)
    return Front(rows, faces, inner, teeth, mean[rows], shape, paint, texture, colour, groups)


def _materials(
    model: MorphableModel, rows: np.ndarray, faces: np.ndarray, layer: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares (V', M), texture (V', 3) and average colours (M, 3).

    Without paint masks the average albedo's pattern is the texture, and skin, eyeballs and mouth are the materials.
    """
    albedo = decode_srgb(model.albedo[rows].astype(np.float64))
    names = [n for n in ORDER if n in model.paint and model.paint[n][rows].max() > 0.02]
    if names:
        shares = [np.ones(len(rows))]
        for name in names:
            over = np.clip(model.paint[name][rows].astype(np.float64), 0, 1) * DENSITY.get(name, 1.0)
            shares = [s * (1 - over) for s in shares] + [over]
        texture = np.ones((len(rows), 3))
    else:
        kinds = [np.isin(layer, k) for k in ((1,), (2, 3), (4,))]
        shares = [np.zeros(len(rows)) for _ in kinds]
        for share, kind in zip(shares[1:], kinds[1:], strict=True):
            share[faces[kind]] = 1.0
        shares[0] = 1.0 - shares[1] - shares[2]
        texture = albedo / np.maximum(np.median(albedo, 0), 1e-3)
    paint = np.stack(shares, 1)
    paint = paint[:, paint.max(0) > 0.02]
    paint /= paint.sum(1, keepdims=True)
    start = np.median(albedo, 0)
    gram = paint.T @ paint + 1e-3 * np.eye(paint.shape[1])
    colour = start + np.linalg.solve(gram, paint.T @ (albedo / np.maximum(texture, 1e-3) - start))
    return paint.astype(np.float32), texture.astype(np.float32), np.clip(colour, 0.003, 1.0).astype(np.float32)


def _groups(points: np.ndarray, expression: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Expression variables (Kd, V', 3) whose places lie apart, so that one picture shows the derivatives by all of them.

    Greedy colouring, the largest places first. With every group comes the variable whose place is nearest to each vertex.
    """
    size = np.linalg.norm(expression, axis=2)
    place = size > SHARE * size.max(1, keepdims=True)
    pairs = cKDTree(points).query_pairs(APART, output_type="ndarray")
    n = len(points)
    i, j = np.concatenate([pairs, pairs[:, ::-1], np.repeat(np.arange(n)[:, None], 2, 1)]).T
    near = scipy.sparse.coo_matrix((np.ones(len(i), np.float32), (i, j)), (n, n)).tocsr()
    grown = (near @ place.T.astype(np.float32)).T > 0
    touch = grown.astype(np.float32) @ place.T.astype(np.float32) > 0
    groups: list[list[int]] = []
    for k in np.argsort(-place.sum(1), kind="stable"):
        home = next((g for g in groups if not touch[k, g].any()), None)
        if home is None:
            groups.append([int(k)])
        else:
            home.append(int(k))
    found = []
    for g in groups:
        nearest = np.full(n, g[0], dtype=np.int64)
        if len(g) > 1:
            at = np.concatenate([np.flatnonzero(place[k]) for k in g])
            owner = np.repeat(g, [place[k].sum() for k in g])
            nearest = owner[cKDTree(points[at]).query(points)[1]]
        found.append((np.array(g), nearest))
    return tuple(found)
