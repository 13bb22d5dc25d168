"""What every loader of an official model does after reading: units, axes, mirror map, masks, colours, the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ...errors import ModelError
from ...resources import sha256
from ..model import MorphableModel
from ..split import hemiface_weights, region_masks
from ..symmetry import FLIP, find_mirror, symmetrize, symmetrize_modes
from .landmarks import Known, check_needed, complete

EYE_DISTANCE = (7.0, 12.5)
"""cm between the outer corners of an adult's eyes (about 9), widely: tells centimetres from any other decimal unit."""

KEEP_VARIANCE, KEEP_AT_MOST = 0.995, 50
"""An unnamed expression basis is cut to its leading components: each becomes ten sided shapes."""

SCAN_TOLERANCE = 0.35
"""cm: how far the mirror partner of a vertex may be from its mirrored place in a model that was not built symmetric."""


@dataclass
class Parts:
    """What a loader read, in the file's own units and axes; :func:`build` makes the record of it."""

    name: str
    path: Path
    licence: str
    mean: np.ndarray  # (V, 3)
    identity: np.ndarray  # (Ki, V, 3), one standard deviation each
    expression: np.ndarray  # (Ke, V, 3)
    expression_names: tuple[str, ...]
    faces: np.ndarray  # (F, 3), from 0
    known: Known  # landmarks on the mean
    scale: float  # to centimetres
    low: float = -3.0
    high: float = 3.0
    colour: np.ndarray | None = None  # (V, 3) sRGB in [0, 1]
    uv: np.ndarray | None = None
    faces_uv: np.ndarray | None = None
    joints: dict[str, np.ndarray] = field(default_factory=dict)  # on the mean, in the file's units
    files: Sequence[Path] = ()  # others that were read, for the digest
    notes: list[str] = field(default_factory=list)


def require(ok: bool, path: Path, message: str) -> None:
    """Raise :class:`ModelError` naming ``path`` unless ``ok``."""
    if not ok:
        raise ModelError(f"{path}: {message}")


def numbers(path: Path, key: str, value: Any, shape: tuple[int | None, ...], dtype: type = np.float32) -> np.ndarray:
    """``value`` as an array of ``shape`` (None: any) without NaN. :class:`ModelError` names file, key and expectation."""
    try:
        array: np.ndarray = np.ascontiguousarray(value, dtype=dtype)
    except (TypeError, ValueError) as e:
        raise ModelError(f"{path}: {key}: expected numbers ({e})") from e
    want = f"({', '.join('any' if n is None else str(n) for n in shape)})"
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape)):
        raise ModelError(f"{path}: {key}: expected shape {want}, got {array.shape}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ModelError(f"{path}: {key}: holds NaN or infinite values")
    return array


def as_shapes(path: Path, key: str, basis: np.ndarray, v: int) -> np.ndarray:
    """A (3V, K) basis, vertex by vertex, as shapes (K, V, 3)."""
    basis = numbers(path, key, basis, (3 * v, None))
    return np.ascontiguousarray(basis.T.reshape(-1, v, 3))


def triangles(path: Path, key: str, faces: Any, v: int) -> np.ndarray:
    """Triangles (F, 3) int32 with every index in range; a transposed (3, F) list is turned."""
    found = np.asarray(faces)
    if found.ndim == 2 and found.shape[0] == 3 and found.shape[1] != 3:
        found = found.T
    found = numbers(path, key, found, (None, 3), np.int64)
    require(len(found) > 0, path, f"{key}: there are no triangles")
    require(
        found.min() >= 0 and found.max() < v,
        path,
        f"{key}: indices must lie in 0…{v - 1}, got {found.min()}…{found.max()}",
    )
    return found.astype(np.int32)


def build(p: Parts) -> MorphableModel:
    """The record: centimetres, +X the subject's left, checked by the landmarks; see docs/faces.md."""
    source = str(p.path)
    scale = np.float32(p.scale)
    mean, identity = p.mean.astype(np.float32) * scale, p.identity.astype(np.float32) * scale
    expression = p.expression.astype(np.float32) * scale
    known = {k: np.asarray(x, dtype=np.float64) * p.scale for k, x in p.known.items()}
    notes = list(p.notes)
    check_needed(known, source)
    _check_frame(p.path, known)
    expression, names = _leading(expression, p.expression_names, notes)

    # the mid-sagittal plane goes through the middle of the eyes' corners: x = 0 there
    shift = np.float32(np.mean([known[a][0] + known[b][0] for a, b in ((36, 45), (39, 42), (48, 54))]) / 2)
    if abs(shift) > 1e-4:
        mean[:, 0] -= shift
        known = {k: x - [float(shift), 0, 0] for k, x in known.items()}
        notes.append(f"moved by {-shift:.3f} cm in x, so that the mid-sagittal plane is x = 0")

    faces = _outward(mean, p.faces, known)
    mirror, exact = mirror_map(mean, faces, source, notes)
    if exact:
        mean, change = symmetrize(mean, mirror)
        identity, d = symmetrize_modes(identity, mirror)
        notes.append(
            f"made exactly mirror symmetric: the mean moved by at most {change:.3f} cm, an identity component by {d:.3f} cm"
        )
    marks, found = complete(known, mean, faces, source)
    if found:
        notes.append(
            f"{found} of the 68 landmarks are not in the file; they were carried over from the bundled head by a thin-plate "
            "spline through the others and lie at the nearest vertex: approximate"
        )
    points = np.einsum("ncx,nc->nx", mean[faces[marks.triangle]], marks.barycentric)
    part, part_names = label_parts(mean, faces, points)
    masks = {}
    albedo = p.colour
    if albedo is None:
        from ..appearance import DEFAULT, compose
        from .ict_paint import paint_masks

        masks = paint_masks(mean, faces, part, part_names, points, mirror)
        albedo = compose(masks, DEFAULT)
        notes.append("the file has no colours; skin, lips, brows and eyes are painted from the landmarks")
    else:
        notes.append("all people have the model's average colours")
    digest = sha256(p.path) if not p.files else _digest([p.path, *p.files])
    return MorphableModel(
        name=p.name,
        source=source,
        licence=p.licence,
        sha256=digest,
        mean=mean,  # type: ignore[arg-type]
        identity_basis=identity,  # type: ignore[arg-type]
        expression_basis=expression,  # type: ignore[arg-type]
        expression_names=names,
        expression_low=np.array([0.0 if n == "jawOpen" else p.low for n in names], dtype=np.float32),
        expression_high=np.array([1.0 if n == "jawOpen" else p.high for n in names], dtype=np.float32),
        faces=faces,
        part=part,
        part_names=part_names,
        landmarks68=marks,
        mirror=mirror,
        hemiface_left=hemiface_weights(mean, mirror),
        regions=region_masks(mean, points, mirror),
        albedo=np.clip(albedo, 0, 1).astype(np.float32),
        uv=p.uv,
        faces_uv=p.faces_uv,
        paint=masks,
        joints={k: (x * p.scale - [float(shift), 0, 0]).astype(np.float32) for k, x in p.joints.items()},
        native_sides=False,
        notes=tuple(notes),
    )


def unit_scale(path: Path, known: Known, expected: float | None = None) -> float:
    """The factor to centimetres, out of the decimal units, that makes the outer eye distance a person's.

    ``expected`` is the documented one: another answer raises :class:`ModelError`, for then the file is not what it
    seems."""
    if 36 not in known or 45 not in known:
        raise ModelError(f"{path}: the outer eye corners (landmarks 37 and 46) are needed to check the units")
    distance = float(np.linalg.norm(np.asarray(known[45]) - np.asarray(known[36])))
    fitting = [s for s in (100.0, 10.0, 1.0, 0.1, 1e-4) if EYE_DISTANCE[0] <= distance * s <= EYE_DISTANCE[1]]
    if not fitting or (expected is not None and expected not in fitting):
        raise ModelError(
            f"{path}: the outer eye corners are {distance:.4g} apart in the file's units; expected "
            f"{'a distance of a person' if expected is None else f'{9 / expected:.3g} or so'} (about 9 cm)"
        )
    return fitting[0]


def _check_frame(path: Path, known: Known) -> None:
    unit_scale(path, known, 1.0)
    left, right = known[45] - known[36], known[54] - known[48]
    if left[0] <= 0 or right[0] <= 0:
        raise ModelError(
            f"{path}: +X must point to the subject's left, but the landmarks of the left lie on the other side"
        )
    if known[36][1] <= known[48][1]:
        raise ModelError(f"{path}: +Y must point up, but the eyes lie below the mouth")
    if known[30][2] <= 0.5 * (known[36][2] + known[45][2]):
        raise ModelError(f"{path}: +Z must point out of the face, but the nose tip lies behind the eyes")


def _leading(basis: np.ndarray, names: tuple[str, ...], notes: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The leading shapes of an unnamed basis; named ones stay."""
    unnamed = [i for i, n in enumerate(names) if n.startswith("exp")]
    if len(unnamed) <= KEEP_AT_MOST:
        return basis, names
    energy = np.cumsum([(basis[i].astype(np.float64) ** 2).sum() for i in unnamed])
    keep = min(int(np.searchsorted(energy, KEEP_VARIANCE * energy[-1])) + 1, KEEP_AT_MOST)
    chosen = sorted([i for i in range(len(names)) if i not in set(unnamed)] + unnamed[:keep])
    share = energy[keep - 1] / energy[-1]
    notes.append(f"of {len(unnamed)} expression components the first {keep} are kept ({share:.2%} of the variance)")
    return np.ascontiguousarray(basis[chosen]), tuple(names[i] for i in chosen)


def _outward(mean: np.ndarray, faces: np.ndarray, known: Known) -> np.ndarray:
    """Triangles wound counter-clockwise seen from outside: those around the nose tip must face +Z."""
    corners = mean[faces].astype(np.float64)
    near = np.argsort(np.linalg.norm(corners.mean(axis=1) - known[30], axis=1))[:50]
    normal = np.cross(corners[near, 1] - corners[near, 0], corners[near, 2] - corners[near, 0]).sum(axis=0)
    return faces if normal[2] > 0 else np.ascontiguousarray(faces[:, ::-1])


def mirror_map(mean: np.ndarray, faces: np.ndarray, source: str, notes: list[str]) -> tuple[np.ndarray, bool]:
    """The mirror map (V,) and whether the mesh is built symmetric (its triangles mirror onto triangles)."""
    try:
        mirror = find_mirror(mean, tolerance=0.15, midline=5e-3, source=source)
        if _topology_agrees(faces, mirror):
            return mirror, True
    except ModelError:
        pass
    mirror, off = _nearest_mirror(mean)
    if off.max() > SCAN_TOLERANCE:
        raise ModelError(
            f"{source}: mean: vertex {int(off.argmax())} has no mirror image within {SCAN_TOLERANCE} cm (off by "
            f"{off.max():.3g}); is the model in its own frame, looking along +Z?"
        )
    notes.append(
        f"the mesh is not built symmetric: mirror partners are nearest vertices, {np.median(off):.3f} cm off in the median, "
        f"{off.max():.3f} cm at most; mirrored faces are approximate by that much"
    )
    return mirror, False


def _topology_agrees(faces: np.ndarray, mirror: np.ndarray) -> bool:
    own = {tuple(f) for f in np.sort(faces, axis=1).tolist()}
    image = {tuple(f) for f in np.sort(mirror[faces], axis=1).tolist()}
    return len(own & image) >= 0.99 * len(own)


def _nearest_mirror(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of mutually near vertices across the midline: an involution (V,), and how far each pair is off (V,), cm.

    Vertices are paired greedily by distance; one left over is its own partner, and its distance is counted.
    """
    m = mean.astype(np.float64)
    k = min(12, len(m))
    distance, near = cKDTree(m).query(m * FLIP, k=k)
    mirror = np.full(len(m), -1)
    order = np.argsort(distance.ravel(), kind="stable")
    for flat in order:
        i, j = flat // k, near.ravel()[flat]
        if mirror[i] < 0 and mirror[j] < 0:
            mirror[i], mirror[j] = j, i
    alone = mirror < 0
    mirror[alone] = np.flatnonzero(alone)
    return mirror, np.linalg.norm(m[mirror] * FLIP - m, axis=1)


def label_parts(mean: np.ndarray, faces: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which triangles are eyeballs: separate pieces centred at an eye and no larger than one. The rest is skin."""
    v = len(mean)
    edges = coo_matrix(
        (np.ones(len(faces) * 2), (np.r_[faces[:, 0], faces[:, 1]], np.r_[faces[:, 1], faces[:, 2]])), shape=(v, v)
    )
    count, label = connected_components(edges, directed=False)
    part = np.zeros(len(faces), dtype=np.uint8)
    names = ["skin"]
    if count == 1:
        return part, ("skin",)
    of_face = label[faces[:, 0]]
    for name, eye in (("eye_left", points[42:48].mean(axis=0)), ("eye_right", points[36:42].mean(axis=0))):
        chosen = []
        for c in np.unique(of_face):
            x = mean[label == c]
            size = np.ptp(x, axis=0).max()
            if 1.5 < size < 3.5 and np.linalg.norm((x.max(axis=0) + x.min(axis=0))[:2] / 2 - eye[:2]) < 1.0:
                chosen.append(c)
        if chosen:
            names.append(name)
            part[np.isin(of_face, chosen)] = len(names) - 1
    return part, tuple(names)


def _digest(paths: Sequence[Path]) -> str:
    import hashlib

    h = hashlib.sha256()
    for p in paths:
        h.update(sha256(p).encode())
    return h.hexdigest()
