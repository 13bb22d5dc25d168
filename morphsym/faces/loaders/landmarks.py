"""Where a model's 68 landmarks are: files beside the model, partial lists completed from the bundled head's geometry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from ...errors import ModelError
from ..model import Embedding

SUFFIXES = (".landmarks.json", ".landmarks.txt", ".landmarks.npz")
"""``model.h5`` may have ``model.landmarks.json`` beside it."""

NEEDED = {30, 36, 39, 42, 45, 48, 54}
"""The fewest landmarks (from 0) that pin a face down: nose tip, eye corners, mouth corners. Others may be missing."""

Known = dict[int, np.ndarray]
"""Landmark (0 to 67) → its place on the mean, (3,)."""


def companion(path: Path) -> Path | None:
    """The landmarks file beside a model file, if there is one."""
    for suffix in SUFFIXES:
        found = path.with_name(path.name.split(".")[0] + suffix)
        if found.is_file():
            return found
    return None


def require(path: Path, what: str) -> Path:
    """:func:`companion`, or a :class:`ModelError` that says what to write."""
    found = companion(path)
    if found is None:
        raise ModelError(
            f"{path}: {what} comes without 68 landmarks; put them beside it as "
            f"{path.name.split('.')[0]}.landmarks.json: a list of 68 vertex indices (iBUG order), an object "
            '{"9": 33, …} from landmark number (1 to 68) to vertex, or {"triangle": […], "barycentric": [[…]]}. At least the '
            "landmarks " + ", ".join(str(i + 1) for i in sorted(NEEDED)) + " are needed"
        )
    return found


def read_landmarks(path: Path, mean: np.ndarray, faces: np.ndarray) -> Known:
    """Landmark positions on ``mean`` (V, 3) from a landmarks file.

    JSON as in :func:`require`; also ``{"indices": (68, 3), "weights": (68, 3)}`` (vertices and weights, as GNM writes
    them); text lines ``37 = 2602`` or ``37 177`` as in eos' ibug_to_….txt (``#`` and ``;`` begin comments); npz with
    ``triangle`` and ``barycentric``, or ``lmk_face_idx`` and ``lmk_b_coords`` of 68 or the inner 51 points (FLAME)."""
    try:
        if path.suffix == ".npz":
            from .npz import keys_of, read_npz

            keys = keys_of(path)
            names = next((p for p in _PAIRS if set(p) <= keys), _PAIRS[0])
            found: Any = read_npz(path, names)
            return from_pairs(path, found, mean, faces)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            raw = json.loads(text)
            if isinstance(raw, dict) and any(set(p) <= set(raw) for p in _PAIRS):
                return from_pairs(path, {k: np.asarray(v) for k, v in raw.items()}, mean, faces)
            if isinstance(raw, list):
                if len(raw) != 68:
                    raise ModelError(f"{path}: expected a list of 68 vertex indices, got {len(raw)}")
                return _at(path, {k: int(v) for k, v in enumerate(raw)}, mean)
            return _at(path, {int(k) - 1: int(v) for k, v in raw.items()}, mean)
        pairs: dict[int, int] = {}
        for line in text.splitlines():
            words = line.split("#")[0].split(";")[0].replace("=", " ").split()
            if len(words) == 2 and all(w.isdigit() for w in words):
                pairs[int(words[0]) - 1] = int(words[1])
        return _at(path, pairs, mean)
    except ModelError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise ModelError(f"{path}: not a readable landmarks file ({e})") from e


_PAIRS = (("triangle", "barycentric"), ("lmk_face_idx", "lmk_b_coords"), ("indices", "weights"))


def from_pairs(path: Path, found: Mapping[str, np.ndarray], mean: np.ndarray, faces: np.ndarray) -> Known:
    names = next(p for p in _PAIRS if set(p) <= set(found))
    where, weights = np.asarray(found[names[0]]), np.asarray(found[names[1]], dtype=np.float64)
    corners = where.astype(np.int64) if names[0] == "indices" else None
    if corners is None:
        where = where.astype(np.int64).ravel()
        if len(where) and (where.min() < 0 or where.max() >= len(faces)):
            raise ModelError(f"{path}: triangles must lie in 0…{len(faces) - 1}, got {where.min()}…{where.max()}")
        corners = faces[where]
    n = len(corners)
    if n not in (51, 68) or corners.shape != (n, 3) or weights.shape != (n, 3):
        raise ModelError(f"{path}: expected 68 (or the inner 51) points with three weights each, got {weights.shape}")
    if corners.min() < 0 or corners.max() >= len(mean):
        raise ModelError(f"{path}: vertices must lie in 0…{len(mean) - 1}, got {corners.min()}…{corners.max()}")
    if not np.isfinite(weights).all() or not np.allclose(weights.sum(axis=1), 1, atol=1e-3):
        raise ModelError(f"{path}: the three weights of a point must sum to 1")
    points = np.einsum("ncx,nc->nx", mean[corners], weights)
    return dict(enumerate(points, start=68 - n))


def _at(path: Path, pairs: Mapping[int, int], mean: np.ndarray) -> Known:
    for k, v in pairs.items():
        if not 0 <= k < 68:
            raise ModelError(f"{path}: landmark numbers must lie in 1…68, got {k + 1}")
        if not 0 <= v < len(mean):
            raise ModelError(
                f"{path}: landmark {k + 1}: vertex {v} is not in 0…{len(mean) - 1}; is it for another model?"
            )
    return {k: mean[v].astype(np.float64) for k, v in pairs.items()}


def check_needed(known: Known, source: str) -> None:
    """Raise :class:`ModelError` unless the landmarks that place a face are among ``known``."""
    if lacking := sorted(NEEDED - set(known)):
        raise ModelError(
            f"{source}: the landmarks {', '.join(str(k + 1) for k in lacking)} are missing (1 to 68, iBUG order); without "
            "the nose tip and the corners of eyes and mouth the face cannot be placed"
        )


def complete(known: Known, mean: np.ndarray, faces: np.ndarray, source: str) -> tuple[Embedding, int]:
    """All 68 landmarks as points of triangles of ``mean`` (V, 3), and how many of them had to be found.

    Missing ones come from the bundled head: a thin-plate spline carries its landmarks over by those that are known, and
    the nearest vertex of the surface is taken.
    """
    points = np.full((68, 3), np.nan)
    for k, p in known.items():
        points[k] = p
    missing = np.flatnonzero(np.isnan(points[:, 0]))
    if len(missing):
        from ..registry import load_model

        head = load_model("makehuman")
        own = head.landmarks(head.mean[None])[0].numpy().astype(np.float64)
        have = np.array(sorted(known))
        warp = RBFInterpolator(own[have], points[have], kernel="thin_plate_spline", degree=1)
        points[missing] = warp(own[missing])
    used = np.unique(faces)
    vertex = used[cKDTree(mean[used].astype(np.float64)).query(points)[1]]
    embedding = at_vertices(faces, vertex)
    exact = np.array(sorted(known))
    _refine(embedding, points, exact, mean, faces)
    return embedding, len(missing)


def at_vertices(faces: np.ndarray, vertices: np.ndarray) -> Embedding:
    """Points at vertices as points of a triangle that has the vertex (each must be part of one)."""
    flat = faces.ravel()
    first = np.full(int(flat.max()) + 1, -1, dtype=np.int64)
    first[flat[::-1]] = np.arange(len(flat))[::-1]
    corner = first[vertices]
    return Embedding(corner // 3, np.eye(3, dtype=np.float32)[corner % 3])


def _refine(e: Embedding, points: np.ndarray, which: np.ndarray, mean: np.ndarray, faces: np.ndarray) -> None:
    """Known points lie on the surface but not always at a vertex: the best triangle around the nearest vertex, in place."""
    for k in which:
        vertex = faces[e.triangle[k], int(e.barycentric[k].argmax())]
        if np.abs(mean[vertex] - points[k]).max() < 1e-6:
            continue
        best: tuple[float, int, np.ndarray] | None = None
        for t in np.flatnonzero((faces == vertex).any(axis=1)):
            a, b, c = mean[faces[t]].astype(np.float64)
            w = np.linalg.lstsq(np.stack([b - a, c - a], axis=1), points[k] - a, rcond=None)[0]
            w = np.clip([1 - w.sum(), *w], 0, None)
            w /= w.sum()
            off = float(np.linalg.norm(w @ np.stack([a, b, c]) - points[k]))
            if best is None or off < best[0]:
                best = off, int(t), w
        if best is not None:
            e.triangle[k], e.barycentric[k] = best[1], best[2].astype(np.float32)
