"""The Surrey Face Model and others in eos' formats: ``.bin`` (cereal) and ``.json``, with expression blendshapes.

Layout of the binary, little-endian, as cereal writes it (github.com/patrikhuber/eos, include/eos/morphablemodel,
Apache-2.0): a uint32 class version (1 to 4); the shape model, then the colour model, each mean, orthonormal basis,
eigenvalues (Eigen matrices: int32 rows, int32 columns, float32 column by column) and triangles (uint64 count, three
int32 each); from version 2 an optional expression model (a byte that is 1 where there is none, int32 0 for a PCA
model or 1 for blendshapes); from 3 optional landmark definitions; texture coordinates (uint64 count, two float64
each); from 4 texture triangles. Blendshapes: a uint64 count, then name and deformation each. eos itself writes no
model as JSON; the JSON read here has the same fields under cereal's names. Units are millimetres."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ..model import MorphableModel
from .common import Parts, as_shapes, build, numbers, require, triangles, unit_scale
from .landmarks import Known, companion, read_landmarks

LICENCE = (
    "Surrey Face Model licence (University of Surrey): the shape-only model sfm_shape_3448 is free for research and private use, "
    "not for commercial use; see github.com/patrikhuber/eos"
)
_MM = 0.1

SFM_68 = {
    8: 33, 17: 225, 18: 229, 19: 233, 20: 2086, 21: 157, 22: 590, 23: 2091, 24: 666, 25: 662, 26: 658, 27: 2842, 28: 379,
    29: 272, 30: 114, 31: 100, 32: 2794, 33: 270, 34: 2797, 35: 537, 36: 177, 37: 172, 38: 191, 39: 181, 40: 173, 41: 174,
    42: 614, 43: 624, 44: 605, 45: 610, 46: 607, 47: 606, 48: 398, 49: 315, 50: 413, 51: 329, 52: 825, 53: 736, 54: 812,
    55: 841, 56: 693, 57: 411, 58: 264, 59: 431, 61: 416, 62: 423, 63: 828, 65: 817, 66: 442, 67: 404,
}  # fmt: skip
"""iBUG-68 (from 0) as vertices of the 3448-vertex Surrey model: eos' documented list ibug_to_sfm.txt. Jaw line and inner
mouth corners are not on it."""
SFM_VERTICES = 3448


class _Cereal:
    """Reads a cereal binary archive; every length is checked against what is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.raw = path.read_bytes()
        except OSError as e:
            raise ModelError(f"{path}: cannot be read ({e.strerror or e})") from e
        self.at = 0

    def take(self, n: int, what: str) -> bytes:
        if n < 0 or self.at + n > len(self.raw):
            raise ModelError(
                f"{self.path}: {what}: expected {n} bytes at {self.at}, got {len(self.raw) - self.at}; truncated?"
            )
        found = self.raw[self.at : self.at + n]
        self.at += n
        return found

    def number(self, code: str, what: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0])

    def matrix(self, what: str) -> np.ndarray:
        rows, cols = self.number("i", what), self.number("i", what)
        if rows < 0 or cols < 0:
            raise ModelError(f"{self.path}: {what}: expected a matrix, got {rows} × {cols}; not an eos file?")
        raw = self.take(4 * rows * cols, what)
        return np.frombuffer(raw, dtype="<f4").reshape(cols, rows).T.copy()

    def table(self, code: str, what: str) -> np.ndarray:
        count, dtype = self.number("Q", what), np.dtype("<" + code)
        width = 3 if code == "i4" else 2
        raw = self.take(count * width * dtype.itemsize, what)
        return np.frombuffer(raw, dtype=dtype).reshape(count, width).copy()

    def text(self, what: str) -> str:
        return self.take(self.number("Q", what), what).decode("utf-8", errors="replace")

    def pca(self, what: str) -> dict[str, Any]:
        return {
            "mean": self.matrix(f"{what}.mean"),
            "orthonormal_pca_basis": self.matrix(f"{what}.orthonormal_pca_basis"),
            "eigenvalues": self.matrix(f"{what}.eigenvalues"),
            "triangle_list": self.table("i4", f"{what}.triangle_list"),
        }

    def blendshapes(self) -> list[dict[str, Any]]:
        count = self.number("Q", "blendshapes")
        if count > 10_000:
            raise ModelError(f"{self.path}: blendshapes: expected a few, got {count}; not an eos blendshape file?")
        return [{"name": self.text("name"), "deformation": self.matrix("deformation")} for _ in range(count)]

    def end(self) -> None:
        if self.at != len(self.raw):
            raise ModelError(
                f"{self.path}: {len(self.raw) - self.at} bytes are left over; not the eos format that it seemed"
            )


def read_bin(path: Path) -> dict[str, Any]:
    """The fields of an eos model by cereal's names. Raises :class:`ModelError` naming file and field."""
    c = _Cereal(path)
    version = c.number("I", "class version")
    if not 1 <= version <= 4:
        raise ModelError(
            f"{path}: class version: expected 1 to 4 of eos::morphablemodel::MorphableModel, got {version}"
        )
    found: dict[str, Any] = {"shape_model": c.pca("shape_model"), "color_model": c.pca("color_model")}
    if version >= 2 and not c.number("B", "expression_model"):
        kind = c.number("i", "expression_model")
        if kind not in (0, 1):
            raise ModelError(f"{path}: expression_model: expected 0 (PCA) or 1 (blendshapes), got {kind}")
        found["expression_model"] = c.pca("expression_model") if kind == 0 else c.blendshapes()
    if version >= 3 and not c.number("B", "landmark_definitions"):
        count = c.number("Q", "landmark_definitions")
        if count > 100_000:
            raise ModelError(f"{path}: landmark_definitions: expected a few, got {count}")
        found["landmark_definitions"] = {c.text("landmark"): c.number("i", "landmark") for _ in range(count)}
    found["texture_coordinates"] = c.table("f8", "texture_coordinates")
    if version >= 4:
        found["texture_triangle_indices"] = c.table("i4", "texture_triangle_indices")
    c.end()
    return found


def read_blendshapes(path: Path) -> list[dict[str, Any]]:
    """Name and deformation (3V, 1) of each shape in eos' ``expression_blendshapes_….bin`` (or a JSON list of the same)."""
    if path.suffix == ".json":
        raw = _json(path)
        raw = raw.get("value0", raw) if isinstance(raw, dict) else raw
        require(isinstance(raw, list) and all(isinstance(b, dict) and {"name", "deformation"} <= set(b) for b in raw),
                path, "expected a list of {name, deformation}")  # fmt: skip
        return list(raw)
    c = _Cereal(path)
    found = c.blendshapes()
    c.end()
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ModelError(f"{path}: not readable JSON ({e})") from e


def is_json_model(path: Path) -> bool:
    """Whether the JSON file holds an eos model."""
    raw = _json(path)
    return isinstance(raw, dict) and "shape_model" in raw.get("value0", raw)


def load_eos(path: Path) -> MorphableModel:
    """The Surrey Face Model (or another model that eos wrote) from ``.bin`` or ``.json``.

    Expressions come from the file itself, or from ``expression_blendshapes_<V>.bin`` (or ``.json``) in its folder.
    Landmarks come from a landmarks file, the file's own definitions where they are named 1 to 68, or, for the
    3448-vertex Surrey model, eos' documented list. Raises :class:`ModelError`."""
    if path.suffix == ".json":
        raw = _json(path)
        data = raw.get("value0", raw) if isinstance(raw, dict) else {}
        require("shape_model" in data, path, "expected the field 'shape_model' of an eos model")
    else:
        data = read_bin(path)
    shape = data["shape_model"]
    for key in ("mean", "orthonormal_pca_basis", "eigenvalues", "triangle_list"):
        require(isinstance(shape, dict) and key in shape, path, f"expected the field shape_model.{key}")
    mean = numbers(path, "shape_model.mean", np.ravel(np.asarray(shape["mean"], dtype=object)), (None,))
    require(len(mean) % 3 == 0 and len(mean) > 0, path, f"shape_model.mean: expected 3V numbers, got {len(mean)}")
    v = len(mean) // 3
    identity = _pca(path, "shape_model", shape, v)
    faces = triangles(path, "shape_model.triangle_list", shape["triangle_list"], v)
    neutral, files, notes = mean.reshape(v, 3), [], []
    model = data.get("expression_model")
    low, high = -3.0, 3.0
    if isinstance(model, dict) and "mean" in model:
        expression = _pca(path, "expression_model", model, v)
        extra = numbers(path, "expression_model.mean", np.ravel(np.asarray(model["mean"], dtype=object)), (3 * v,))
        neutral = neutral + extra.reshape(v, 3)
        names = tuple(f"exp{i:03d}" for i in range(len(expression)))
    else:
        shapes = model
        if not shapes:
            beside = [path.parent / f"expression_blendshapes_{v}{s}" for s in (".bin", ".json")]
            there = next((p for p in beside if p.is_file()), None)
            if there is None:
                notes.append(f"there is no {beside[0].name} beside the file: no expressions, nothing to weaken")
                shapes = []
            else:
                files.append(there)
                shapes = read_blendshapes(there)
        expression = np.zeros((len(shapes), v, 3), dtype=np.float32)
        for k, b in enumerate(shapes):
            where = files[0] if files else path
            flat = np.ravel(np.asarray(b["deformation"], dtype=object))
            expression[k] = numbers(where, f"blendshape {b['name']!r}", flat, (3 * v,)).reshape(v, 3)
        names = tuple(str(b["name"]) for b in shapes)
        low, high = 0.0, 1.0
    known, source = _landmarks(path, data, neutral, faces)
    files += [source] if source else []
    colour = None
    colours = data.get("color_model") or {}
    if isinstance(colours, dict) and np.size(colours.get("mean", ())):
        flat = np.ravel(np.asarray(colours["mean"], dtype=object))
        colour = numbers(path, "color_model.mean", flat, (3 * v,)).reshape(v, 3)
        colour = colour / 255.0 if colour.max() > 1.5 else colour
    unit_scale(path, known, _MM)
    uv = np.asarray(data.get("texture_coordinates", ()), dtype=np.float32)
    own_uv = uv.shape == (v, 2)
    return build(
        Parts(
            name="sfm" if v == SFM_VERTICES else "eos",
            path=path,
            licence=LICENCE if v == SFM_VERTICES else "that of the model in the file",
            mean=neutral,
            identity=identity,
            expression=expression,
            expression_names=names,
            faces=faces,
            known=known,
            scale=_MM,
            low=low,
            high=high,
            colour=colour,
            uv=uv if own_uv else None,
            faces_uv=faces if own_uv else None,
            files=files,
            notes=notes,
        )
    )


def _pca(path: Path, what: str, model: dict[str, Any], v: int) -> np.ndarray:
    basis = as_shapes(path, f"{what}.orthonormal_pca_basis", model["orthonormal_pca_basis"], v)
    flat = np.ravel(np.asarray(model["eigenvalues"], dtype=object))
    variance = numbers(path, f"{what}.eigenvalues", flat, (len(basis),))
    require(bool((variance >= 0).all()), path, f"{what}.eigenvalues: must not be negative")
    return basis * np.sqrt(variance)[:, None, None]


def _landmarks(path: Path, data: dict[str, Any], mean: np.ndarray, faces: np.ndarray) -> tuple[Known, Path | None]:
    beside = companion(path)
    if beside is not None:
        return read_landmarks(beside, mean, faces), beside
    own = data.get("landmark_definitions") or {}
    numbered = {
        int(k) - 1: int(i) for k, i in own.items() if str(k).isdigit() and 1 <= int(k) <= 68 and 0 <= int(i) < len(mean)
    }
    if len(numbered) >= 20:
        return {k: mean[i].astype(np.float64) for k, i in numbered.items()}, None
    if len(mean) == SFM_VERTICES:
        return {k: mean[i].astype(np.float64) for k, i in SFM_68.items()}, None
    from .landmarks import require as require_landmarks

    beside = require_landmarks(path, "this eos model")
    return read_landmarks(beside, mean, faces), beside
