"""Small files in the official layouts of models that may not be shipped, made from the bundled head's skin.

The head's own mean, two identities and two expressions are written in each model's units, axes, index base and winding, so
that a loader that gets any of them wrong does not give the head back.
"""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from morphsym.faces import load_model
from morphsym.faces.loaders.bfm import NAMES


@dataclass
class Source:
    mean: np.ndarray  # (V, 3) cm
    identity: np.ndarray  # (2, V, 3)
    expression: np.ndarray  # (2, V, 3)
    faces: np.ndarray
    vertices68: np.ndarray  # the vertex nearest to each landmark


def source() -> Source:
    """The skin of the bundled head with only the vertices in use."""
    head = load_model()
    faces = head.faces[head.part == head.part_names.index("skin")]
    used, inverse = np.unique(faces, return_inverse=True)
    mean = head.mean.numpy()[used]
    names = list(head.expression_names)
    smile = head.expression_basis[names.index("mouthSmileLeft")] + head.expression_basis[names.index("mouthSmileRight")]
    pucker = head.expression_basis[names.index("mouthPucker")]
    marks = head.landmarks(head.mean[None])[0].numpy()
    vertices = np.linalg.norm(mean[None] - marks[:, None], axis=2).argmin(axis=1)
    expression = np.stack([smile.numpy()[used], pucker.numpy()[used]])
    return Source(mean, head.identity_basis.numpy()[:2, used], expression, inverse.reshape(faces.shape), vertices)


def modes(shapes: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit-norm columns (3V, K) and standard deviations, in the file's unit."""
    flat = shapes.reshape(len(shapes), -1).T * scale
    sd = np.linalg.norm(flat, axis=0)
    return (flat / sd).astype(np.float32), sd.astype(np.float32)


def landmarks_json(path: Path, s: Source) -> Path:
    out = path.with_name(path.name.split(".")[0] + ".landmarks.json")
    out.write_text(json.dumps(s.vertices68.tolist()))
    return out


def bfm_h5(path: Path, s: Source, **changes: object) -> Path:
    """statismo layout, millimetres, (3, F) cells, landmarks as JSON on the shape mean."""
    extra = 0.3 * s.expression[1]  # a mean expression, which belongs to the rest face
    shape_mean = (s.mean - extra) * 10
    ib, isd = modes(s.identity, 10)
    eb, esd = modes(s.expression, 10)
    marks = [{"id": n, "coordinates": shape_mean[s.vertices68[k]].astype(float).tolist()} for n, k in NAMES.items()]
    marks.append({"id": "left.ear.lobule.attachement", "coordinates": [0.0, 0.0, 0.0]})
    data: dict[str, object] = {
        "shape/model/mean": shape_mean.ravel(),
        "shape/model/pcaBasis": ib,
        "shape/model/pcaVariance": isd**2,
        "shape/representer/cells": s.faces.T.astype(np.int32),
        "expression/model/mean": (extra * 10).ravel(),
        "expression/model/pcaBasis": eb,
        "expression/model/pcaVariance": esd**2,
        "color/model/mean": np.tile([0.7, 0.5, 0.4], len(s.mean)),
        "metadata/landmarks/json": json.dumps(marks),
    }
    data |= changes
    with h5py.File(path, "w") as f:
        for key, value in data.items():
            if value is not None:
                f[key] = value
    return path


def bfm2009(path: Path, s: Source, **changes: object) -> Path:
    """MATLAB layout, micrometres, indices from 1, wound clockwise, standard deviations in shapeEV, colours 0…255."""
    basis, sd = modes(s.identity, 1e4)
    data = {
        "shapeMU": (s.mean * 1e4).reshape(-1, 1).astype(np.float32),
        "shapePC": basis,
        "shapeEV": sd[:, None],
        "tl": (s.faces[:, ::-1] + 1).astype(np.float64),
        "texMU": np.tile([178.5, 127.5, 102.0], len(s.mean))[:, None].astype(np.float32),
    }
    data |= changes  # type: ignore[arg-type]
    scipy.io.savemat(path, {k: v for k, v in data.items() if v is not None})
    return path


def _matrix(a: np.ndarray) -> bytes:
    a = np.asarray(a, dtype="<f4").reshape(len(a), -1)
    return struct.pack("<ii", *a.shape) + a.T.tobytes()


def _pca(mean: np.ndarray, basis: np.ndarray, variance: np.ndarray, faces: np.ndarray) -> bytes:
    table = struct.pack("<Q", len(faces)) + np.asarray(faces, dtype="<i4").tobytes()
    return _matrix(mean) + _matrix(basis) + _matrix(variance) + table


def blendshapes_bin(shapes: np.ndarray, names: list[str]) -> bytes:
    out = struct.pack("<Q", len(names))
    for name, shape in zip(names, shapes):
        out += struct.pack("<Q", len(name)) + name.encode() + _matrix(shape.reshape(-1, 1))
    return out


def eos_bin(path: Path, s: Source, version: int = 4, names: list[str] | None = None) -> Path:
    """cereal binary of eos' MorphableModel, millimetres; blendshapes inside from version 2 where ``names`` are given."""
    basis, sd = modes(s.identity, 10)
    empty = struct.pack("<ii", 0, 1) + struct.pack("<ii", 0, 0) + struct.pack("<ii", 0, 1) + struct.pack("<Q", 0)
    raw = struct.pack("<I", version) + _pca(s.mean.ravel() * 10, basis, sd**2, s.faces) + empty
    if version >= 2:
        raw += (
            struct.pack("<B", 0) + struct.pack("<i", 1) + blendshapes_bin(s.expression * 10, names) if names else b"\1"
        )
    if version >= 3:
        marks = {str(k + 1): int(v) for k, v in enumerate(s.vertices68)}
        raw += struct.pack("<BQ", 0, len(marks))
        for k, v in marks.items():
            raw += struct.pack("<Q", len(k)) + k.encode() + struct.pack("<i", v)
    raw += struct.pack("<Q", 0)
    if version >= 4:
        raw += struct.pack("<Q", 0)
    path.write_bytes(raw)
    return path


def eos_json(path: Path, s: Source) -> Path:
    basis, sd = modes(s.identity, 10)
    model = {
        "cereal_class_version": 4,
        "shape_model": {
            "mean": (s.mean.ravel() * 10).tolist(),
            "orthonormal_pca_basis": basis.tolist(),
            "eigenvalues": (sd**2).tolist(),
            "triangle_list": s.faces.tolist(),
        },
        "expression_model": [
            {"name": n, "deformation": (e.ravel() * 10).tolist()} for n, e in zip(("happy", "pucker"), s.expression)
        ],
        "landmark_definitions": {str(k + 1): int(v) for k, v in enumerate(s.vertices68)},
    }
    path.write_text(json.dumps({"value0": model}))
    return path


# -- chumpy, which is not installed: classes of its name and layout, so that real pickles can be written --------------
class Ch:
    def __init__(self, x: np.ndarray) -> None:
        self.x = x


Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"


def flame_dict(s: Source) -> dict[str, object]:
    """FLAME's dict, metres; the jaw moves what lies below the mouth."""
    v = len(s.mean)
    shapes = np.zeros((v, 3, 400), dtype=np.float32)
    shapes[:, :, :2] = np.moveaxis(s.identity, 0, 2) / 100
    shapes[:, :, 300:302] = np.moveaxis(s.expression, 0, 2) / 100
    weights = np.zeros((v, 5))
    lips = s.mean[s.vertices68[66], 1]
    weights[:, 2] = (s.mean[:, 1] < lips) & (s.mean[:, 2] > s.mean[s.vertices68[0], 2])
    weights[:, 1] = 1 - weights[:, 2]
    regressor = np.zeros((5, v))
    regressor[2, s.vertices68[[2, 14]]] = 0.5  # the jaw turns about the points below the ears
    regressor[[0, 1, 3, 4], 0] = 1
    return {
        "v_template": s.mean.astype(np.float64) / 100,
        "f": s.faces.astype(np.uint32),
        "shapedirs": shapes,
        "posedirs": np.zeros((v, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "weights": weights,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.int64),
        "bs_type": "lrotmin",
        "J": regressor @ s.mean / 100,
    }


def flame_pkl(path: Path, data: object, protocol: int = 2, chumpy: bool = True) -> Path:
    """A pickle as the official one: chumpy arrays, a scipy matrix, numpy arrays."""
    import sys
    import types

    if chumpy and isinstance(data, dict) and isinstance(data.get("shapedirs"), np.ndarray):
        data = {**data, "shapedirs": Ch(data["shapedirs"]), "v_template": Ch(data["v_template"])}
    module = types.ModuleType("chumpy.ch")
    module.Ch = Ch  # type: ignore[attr-defined]
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = types.ModuleType("chumpy"), module
    try:
        path.write_bytes(pickle.dumps(data, protocol=protocol))
    finally:
        del sys.modules["chumpy.ch"], sys.modules["chumpy"]
    return path


def flame_embedding(path: Path, s: Source) -> Path:
    """flame_static_embedding.pkl: the inner 51 points, triangle and weights."""
    triangle, weights = [], []
    for v in s.vertices68[17:]:
        f, c = np.argwhere(s.faces == v)[0]
        triangle.append(f)
        weights.append(np.eye(3)[c])
    raw = {"lmk_face_idx": np.array(triangle, dtype=np.uint32), "lmk_b_coords": np.array(weights)}
    path.write_bytes(pickle.dumps(raw, protocol=2))
    return path


def gnm_npz(path: Path, s: Source, **changes: object) -> Path:
    v = len(s.mean)
    names = [f"left_eye_region_{i:03d}" for i in range(2)] + [f"right_eye_region_{i:03d}" for i in range(2)]
    names += [f"lower_face_region_{i:03d}" for i in range(2)] + ["tongue_000", "pupils_000"]
    basis = np.zeros((len(names), v, 3), dtype=np.float32)
    basis[4:6] = s.expression
    data: dict[str, object] = {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": s.mean / 100,
        "vertex_identity_basis": s.identity / 100,
        "expression_basis": basis / 100,
        "triangles": s.faces.astype(np.int32),
        "identity_names": np.array(["head_000", "head_001"]),
        "expression_names": np.array(names),
    }
    data |= changes
    with open(path, "wb") as f:
        np.savez(f, **{k: a for k, a in data.items() if a is not None})  # type: ignore[arg-type]
    return path
