"""FLAME 2019, 2020 and 2023 from the official ``.pkl`` (or ``.npz``), which the user brings after registration.

Read here with the restricted unpickler, not by the package body-models: that one loads the same file with the
ordinary pickle reader, which runs what is in it. Layout: ``v_template`` (V, 3) metres, ``f`` (F, 3), ``shapedirs``
(V, 3, 400: 300 identity components of unit variance, then 100 expression components), ``posedirs`` (V, 3, 36),
``J_regressor`` (5, V), ``weights`` (V, 5), ``kintree_table`` (2, 5); joints root, neck, jaw, left eye, right eye (Li
et al., SIGGRAPH Asia 2017).

The jaw, the eyes and the neck are joints, which a facial palsy does not reach. The neck is the head's pose, which
belongs to the camera here. The eyes stay at rest. The jaw's rotation by :data:`JAW` radians becomes the shape
``jawOpen`` (nerve: jaw), linear in its coefficient, so that an open mouth can be fitted; an intervention leaves it
alone unless the jaw is included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ..model import MorphableModel
from .common import Parts, build, numbers, require, triangles, unit_scale
from .landmarks import Known, companion, from_pairs, read_landmarks
from .landmarks import require as require_landmarks
from .npz import read_npz
from .pickles import read_pickle

LICENCE = "FLAME licence (Max Planck Society): non-commercial research only; FLAME 2023 Open is CC-BY-4.0; not to be passed on"
JAW = 0.4
"""Radians (23°) that the jaw joint is open at jawOpen = 1."""
N_IDENTITY, N_EXPRESSION = 300, 100
JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
_METRES = 100.0
_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")
EMBEDDING = "flame_static_embedding.pkl"
"""FLAME's own 51 landmarks (all but the jaw line), which its downloads have."""


def load_flame(path: Path) -> MorphableModel:
    """FLAME; landmarks from a landmarks file beside it, or FLAME's own ``flame_static_embedding.pkl`` in its folder.

    Raises :class:`ModelError` naming the file, the key and what was expected. Nothing in the file is run.
    """
    data = read_npz(path, _KEYS) if path.suffix == ".npz" else read_pickle(path)
    require(isinstance(data, dict), path, f"expected a dict with {', '.join(_KEYS)}, got a {type(data).__name__}")
    for key in _KEYS:
        require(key in data, path, f"expected the key {key!r}, as in FLAME's official files; it has {_some(data)}")
    mean = numbers(path, "v_template", data["v_template"], (None, 3), np.float64)
    v = len(mean)
    faces = triangles(path, "f", data["f"], v)
    shapes = numbers(path, "shapedirs", data["shapedirs"], (v, 3, None), np.float64)
    require(
        shapes.shape[2] == N_IDENTITY + N_EXPRESSION,
        path,
        f"shapedirs: expected (V, 3, {N_IDENTITY + N_EXPRESSION}), FLAME's 300 identity and 100 expression components, got "
        f"{shapes.shape}" + ("; this looks like SMPL or an older, cut file" if shapes.shape[2] < 100 else ""),
    )
    known, files = _landmarks(path, mean, faces)
    unit_scale(path, known, _METRES)
    jaw = jaw_open(path, data, mean)
    places = numbers(path, "J_regressor", data["J_regressor"], (5, v), np.float64) @ mean
    basis = np.moveaxis(shapes, 2, 0)
    names = ("jawOpen", *(f"exp{i:03d}" for i in range(N_EXPRESSION)))
    return build(
        Parts(
            name="flame",
            path=path,
            licence=LICENCE,
            mean=mean.astype(np.float32),
            identity=basis[:N_IDENTITY].astype(np.float32),
            expression=np.concatenate([jaw[None], basis[N_IDENTITY:]]).astype(np.float32),
            expression_names=names,
            faces=faces,
            known=known,
            scale=_METRES,
            joints=dict(zip(JOINTS, places, strict=True)),
            files=files,
            notes=[
                f"the jaw joint's rotation by {JAW:g} rad is the shape jawOpen, linear in its coefficient, at the mean "
                "identity; eyes and neck stay at rest"
            ],
        )
    )


def jaw_open(path: Path, data: dict[str, Any], mean: np.ndarray) -> np.ndarray:
    """Displacement (V, 3) of the mean by the jaw joint's rotation about +X, linear blend skinning with pose correctives."""
    v = len(mean)
    weights = numbers(path, "weights", data["weights"], (v, 5), np.float64)
    regressor = numbers(path, "J_regressor", data["J_regressor"], (5, v), np.float64)
    correctives = numbers(path, "posedirs", data["posedirs"], (v, 3, 36), np.float64)
    joint = regressor[2] @ mean
    c, s = np.cos(JAW), np.sin(JAW)
    rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    pose = np.zeros((4, 3, 3))
    pose[1] = rotation - np.eye(3)  # joints 1 to 4: neck, jaw, left eye, right eye
    rest = mean + correctives @ pose.ravel()
    moved = (rest - joint) @ rotation.T + joint
    w = weights[:, 2:3]
    return (1 - w) * rest + w * moved - mean


def _landmarks(path: Path, mean: np.ndarray, faces: np.ndarray) -> tuple[Known, list[Path]]:
    beside = companion(path)
    if beside is not None:
        return read_landmarks(beside, mean, faces), [beside]
    there = path.with_name(EMBEDDING)
    if there.is_file():
        raw = read_pickle(there)
        require(isinstance(raw, dict) and {"lmk_face_idx", "lmk_b_coords"} <= set(raw), there,
                    "expected a dict with lmk_face_idx and lmk_b_coords")  # fmt: skip
        return from_pairs(there, raw, mean, faces), [there]
    try:
        require_landmarks(path, "FLAME")
    except ModelError as e:
        raise ModelError(
            f"{e}. FLAME's own flame_static_embedding.pkl (51 points) in the same folder does as well"
        ) from e
    raise AssertionError


def _some(data: dict[Any, Any]) -> str:
    return ", ".join(sorted(str(k) for k in data)[:12]) or "nothing"
