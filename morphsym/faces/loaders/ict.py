"""ICT-FaceKit Light (MIT, USC Institute for Creative Technologies): our npz conversion, or the upstream OBJ folder.

Upstream: https://github.com/ICT-VGL/ICT-FaceKit, folder ``FaceXModel``. Units are centimetres, +X the subject's left.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ...resources import sha256
from ..arkit import mirror_name
from ..model import Embedding, MorphableModel
from ..split import hemiface_weights, region_masks
from ..symmetry import find_mirror, symmetrize, symmetrize_modes
from .ict_paint import paint_masks
from .npz import read_npz, strings

LICENCE = "MIT (c) 2020 USC Institute for Creative Technologies"

_PARTS = {
    "M_Face": "skin",
    "M_BackHead": "head",
    "M_GumsTongue": "gums_tongue",
    "M_Teeth": "teeth",
    "M_ScleraLeft": "eye_left",
    "M_ScleraRight": "eye_right",
}
"""Materials that are drawn. The iris lies behind the opaque sclera (which is painted instead); lacrimal fluid, eye blend
and eye occlusion are transparent shells, and the lashes cards with a transparent texture: shaded plainly they would be
grey rims and black slabs. A lash line is painted on the lids instead."""

_KEYS = (
    "mean",
    "identity",
    "expression",
    "faces",
    "face_material",
    "material_names",
    "expression_names",
    "landmarks68",
)


def arkit_name(name: str) -> str:
    """The name that this package uses for an ICT shape: ``mouthSmile_L`` is ``mouthSmileLeft``.

    ICT gives browInnerUp and cheekPuff sides, ARKit does not; they become ``browInnerUp.left``, the name that the split of an
    unsided shape has in every other model.
    """
    stem, suffix = name[:-2], name[-2:]
    if suffix not in ("_L", "_R"):
        return name
    if stem in ("browInnerUp", "cheekPuff"):
        return stem + (".left" if suffix == "_L" else ".right")
    return stem + ("Left" if suffix == "_L" else "Right")


def load_ict(path: Path) -> MorphableModel:
    """The model from ``ict_facekit.npz`` or from the upstream folder (or its ``FaceXModel``).

    Raises :class:`ModelError` naming the file and what is wrong with it.
    """
    if path.is_dir():
        return load_ict_folder(path)
    data = read_npz(path, _KEYS, ("uv", "faces_uv"))
    return build(data, path, sha256(path))


def build(data: dict[str, np.ndarray], path: Path, digest: str) -> MorphableModel:
    """The record from upstream's arrays (keys as in the npz); ``path`` is for messages."""
    try:
        mean, faces = data["mean"].astype(np.float32), data["faces"].astype(np.int32)
        identity, expression = data["identity"].astype(np.float32), data["expression"].astype(np.float32)
        materials, material = strings(data["material_names"]), data["face_material"]
        landmarks = data["landmarks68"].astype(np.int64)
    except (TypeError, ValueError) as e:
        raise ModelError(f"{path}: an array is of the wrong type ({e})") from e
    upstream = strings(data["expression_names"])
    names = tuple(arkit_name(n) for n in upstream)
    _check(path, mean, identity, expression, faces, material, materials, names, landmarks)

    index = {n: i for i, n in enumerate(names)}
    if lone := [n for n in names if mirror_name(n) not in index]:
        raise ModelError(f"{path}: expression_names: {lone[0]!r} has no mirror partner {mirror_name(lone[0])!r}")
    partner = np.array([index[mirror_name(n)] for n in names])
    mirror = find_mirror(mean, fields=expression, mirrored_fields=expression[partner], source=str(path))
    mean, d_mean = symmetrize(mean, mirror)
    expression, d_expression = symmetrize(expression, mirror, partner)
    identity, d_identity = symmetrize_modes(identity, mirror)

    drawn = np.array([m in _PARTS for m in materials])[material]
    faces = faces[drawn]
    part_names = tuple(_PARTS.values())
    part_of = np.array([part_names.index(_PARTS[m]) if m in _PARTS else 0 for m in materials], dtype=np.uint8)
    part = part_of[material[drawn]]
    points = mean[landmarks]
    masks = paint_masks(mean, faces, part, part_names, points, mirror)
    from ..appearance import DEFAULT, compose

    return MorphableModel(
        name="ict",
        source=str(path),
        licence=LICENCE,
        sha256=digest,
        mean=mean,  # type: ignore[arg-type]
        identity_basis=identity,  # type: ignore[arg-type]
        expression_basis=expression,  # type: ignore[arg-type]
        expression_names=names,
        expression_low=np.zeros(len(names), dtype=np.float32),
        expression_high=np.ones(len(names), dtype=np.float32),
        faces=faces,
        part=part,
        part_names=part_names,
        landmarks68=_at_vertices(faces, landmarks, path),
        mirror=mirror,
        hemiface_left=hemiface_weights(mean, mirror),
        regions=region_masks(mean, points, mirror),
        albedo=compose(masks, DEFAULT),
        uv=data["uv"].astype(np.float32) if "uv" in data else None,
        faces_uv=data["faces_uv"].astype(np.int32)[drawn] if "faces_uv" in data and "uv" in data else None,
        paint=masks,
        notes=(
            f"made exactly mirror symmetric: the mean moved by at most {d_mean:.3f} cm, an expression by "
            f"{d_expression:.3f} cm, an identity component by {d_identity:.3f} cm",
            "ICT's own names: " + ", ".join(f"{a}={u}" for a, u in zip(names, upstream) if a != u),
            "iris, lashes, lacrimal fluid, eye blend and eye occlusion meshes are not drawn; iris and lash line are painted",
        ),
    )


def _check(path: Path, mean: Any, identity: Any, expression: Any, faces: Any, material: Any, materials: Any,
           names: Any, landmarks: Any) -> None:  # fmt: skip
    def need(ok: bool, message: str) -> None:
        if not ok:
            raise ModelError(f"{path}: {message}")

    need(mean.ndim == 2 and mean.shape[1] == 3, f"mean: expected (V, 3), got {mean.shape}")
    v = len(mean)
    need(identity.ndim == 3 and identity.shape[1:] == (v, 3), f"identity: expected (K, {v}, 3), got {identity.shape}")
    need(
        expression.shape == (len(names), v, 3),
        f"expression: expected ({len(names)}, {v}, 3), got {expression.shape}",
    )
    need(faces.ndim == 2 and faces.shape[1] == 3, f"faces: expected (F, 3), got {faces.shape}")
    need(faces.size > 0 and faces.min() >= 0 and faces.max() < v, f"faces: indices must lie in 0…{v - 1}")
    need(material.shape == (len(faces),), f"face_material: expected ({len(faces)},), got {material.shape}")
    need(material.max() < len(materials), f"face_material: indices must lie in 0…{len(materials) - 1}")
    need("M_Face" in materials, f"material_names: expected M_Face among them, got {', '.join(materials)}")
    need(landmarks.shape == (68,), f"landmarks68: expected (68,), got {landmarks.shape}")
    need(landmarks.min() >= 0 and landmarks.max() < v, f"landmarks68: indices must lie in 0…{v - 1}")
    for field, value in (("mean", mean), ("identity", identity), ("expression", expression)):
        need(bool(np.isfinite(value.sum())), f"{field}: holds NaN or infinite values")


def _at_vertices(faces: np.ndarray, vertices: np.ndarray, path: Path) -> Embedding:
    """Landmarks at vertices as points of a triangle that has the vertex."""
    flat = faces.ravel()
    first = np.full(int(flat.max()) + 1, -1, dtype=np.int64)
    first[flat[::-1]] = np.arange(len(flat))[::-1]
    if vertices.max() >= len(first) or (first[vertices] < 0).any():
        raise ModelError(f"{path}: landmarks68: a landmark's vertex belongs to no drawn triangle")
    corner = first[vertices]
    return Embedding(corner // 3, np.eye(3, dtype=np.float32)[corner % 3])


# -- the upstream folder ----------------------------------------------------------------------------------------------
def load_ict_folder(folder: Path, partial: bool = False) -> MorphableModel:
    """The model from upstream's OBJ files (plain or gzipped).

    All identities and every expression that ``vertex_indices.json`` lists must be there, unless ``partial``. Takes some ten
    seconds; :func:`convert_folder` writes the npz that loads in one.
    """
    data, digest = read_folder(folder, partial)
    return build(data, folder, digest)


def convert_folder(folder: Path, out: Path) -> None:
    """Write the npz conversion of the upstream folder to ``out``: displacements as float16, as in our own file."""
    data, _ = read_folder(folder)
    data |= {k: data[k].astype(np.float16) for k in ("identity", "expression")}
    with open(out, "wb") as f:
        np.savez_compressed(f, **data)  # type: ignore[arg-type]


def read_folder(folder: Path, partial: bool = False) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of the upstream folder by the npz' keys, and the sha256 over its files' contents in order."""
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    digest = hashlib.sha256()

    def text(name: str) -> str | None:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                try:
                    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                except (OSError, EOFError) as e:
                    raise ModelError(f"{path}: cannot be read ({e})") from e
                digest.update(raw)
                return raw.decode("utf-8", errors="replace")
        return None

    def need(name: str) -> str:
        found = text(name)
        if found is None:
            raise ModelError(
                f"{folder}: expected the file {name}; this must be the folder FaceXModel of "
                "https://github.com/ICT-VGL/ICT-FaceKit"
            )
        return found

    neutral = read_obj(need("generic_neutral_mesh.obj"), f"{folder}/generic_neutral_mesh.obj")
    try:
        indices = json.loads(need("vertex_indices.json"))
        names, landmarks = list(indices["expressions"]), np.array(indices["idx_to_landmark_verts"], dtype=np.int64)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as e:
        raise ModelError(
            f"{folder}/vertex_indices.json: expected 'expressions' and 'idx_to_landmark_verts' ({e})"
        ) from e
    mean = neutral["v"]

    def displacement(name: str) -> np.ndarray | None:
        found = text(f"{name}.obj")
        if found is None:
            return None
        v = read_obj(found, f"{folder}/{name}.obj", topology=False)["v"]
        if v.shape != mean.shape:
            raise ModelError(f"{folder}/{name}.obj: expected {len(mean)} vertices, got {len(v)}")
        return v - mean

    identity: list[np.ndarray] = []
    while (d := displacement(f"identity{len(identity):03d}")) is not None:
        identity.append(d)
    if not identity:
        need("identity000.obj")
    found = {n: d for n in names if (d := displacement(n)) is not None}
    if (missing := [n for n in names if n not in found]) and not partial:
        need(f"{missing[0]}.obj")
    return {
        "mean": mean,
        "identity": np.stack(identity),
        "expression": np.stack(list(found.values())),
        "expression_names": np.array(list(found)),
        "landmarks68": landmarks,
        **{k: neutral[k] for k in ("faces", "uv", "faces_uv", "face_material", "material_names")},
    }, digest.hexdigest()


def read_obj(text: str, what: str, topology: bool = True) -> dict[str, np.ndarray]:
    """Vertices, uv, fanned triangles and the material of each, of a Wavefront OBJ; vertex order as in the file.

    Not trimesh, which reorders and merges vertices: displacements need the file's own order.
    """
    try:
        lines = text.splitlines()
        v = np.array([ln.split()[1:4] for ln in lines if ln.startswith("v ")], dtype=np.float64)
        if not len(v):
            raise ModelError(f"{what}: expected a Wavefront OBJ with vertices, found none")
        if not topology:
            return {"v": v.astype(np.float32)}
        uv = np.array([ln.split()[1:3] for ln in lines if ln.startswith("vt ")], dtype=np.float32).reshape(-1, 2)
        materials: list[str] = []
        faces, faces_uv, material = [], [], []
        current = 0
        for ln in lines:
            if ln.startswith("usemtl"):
                name = ln.split()[1]
                if name not in materials:
                    materials.append(name)
                current = materials.index(name)
            elif ln.startswith("f "):
                corners = [c.split("/") for c in ln.split()[1:]]
                a = [int(c[0]) - 1 for c in corners]
                t = [int(c[1]) - 1 if len(c) > 1 and c[1] else 0 for c in corners]
                for k in range(1, len(a) - 1):
                    faces.append((a[0], a[k], a[k + 1]))
                    faces_uv.append((t[0], t[k], t[k + 1]))
                    material.append(current)
    except (ValueError, IndexError) as e:
        raise ModelError(f"{what}: not a readable Wavefront OBJ ({e})") from e
    return {
        "v": v.astype(np.float32),
        "uv": uv,
        "faces": np.array(faces, dtype=np.int32).reshape(-1, 3),
        "faces_uv": np.array(faces_uv, dtype=np.int32).reshape(-1, 3),
        "face_material": np.array(material, dtype=np.uint8),
        "material_names": np.array(materials),
    }
