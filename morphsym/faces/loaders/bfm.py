"""The Basel Face Models: 2009 (``01_MorphableModel.mat``), 2017 and 2019 (``model20….h5``), from the official files.

Layouts: 2009 is a MATLAB file with ``shapeMU`` (3V, 1), ``shapePC`` (3V, K), ``shapeEV`` (K, 1) standard deviations,
``tl`` (F, 3) from 1 and wound clockwise, ``texMU`` (3V, 1) in 0…255; micrometres (Paysan et al., AVSS 2009). 2017 and
2019 are statismo HDF5 files with ``/shape/model/{mean (3V,), pcaBasis (3V, K), pcaVariance (K,)}``,
``/shape/representer/cells`` (3, F), the same under ``/expression`` and ``/color``, and ``/metadata/landmarks/json``,
a list of ``{"id", "coordinates"}``; millimetres (Gerig et al., FG 2018). Left and right in the landmarks' names are
the subject's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from ...errors import ModelError
from ..model import MorphableModel
from .common import Parts, as_shapes, build, numbers, require, triangles, unit_scale
from .landmarks import Known, companion, read_landmarks
from .landmarks import require as require_landmarks

LICENCE_2009 = "BFM 2009 licence (University of Basel): non-commercial research only, not to be passed on"
LICENCE_2017 = "BFM 2017/2019 licence (University of Basel): non-commercial research only, not to be passed on"

NAMES = {
    "center.chin.tip": 8,
    "right.eyebrow.bend.upper": 19,
    "right.eyebrow.inner_upper": 21,
    "left.eyebrow.inner_upper": 22,
    "left.eyebrow.bend.upper": 24,
    "center.nose.tip": 30,
    "right.nose.wing.outer": 31,
    "center.nose.attachement_to_philtrum": 33,
    "left.nose.wing.outer": 35,
    "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "right.lips.philtrum_ridge": 50,
    "center.lips.upper.outer": 51,
    "left.lips.philtrum_ridge": 52,
    "left.lips.corner": 54,
    "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66,
}
"""The file's landmark names that are iBUG-68 points (counted from 0). Its spelling (``attachement``) is upstream's."""

_MM, _UM = 0.1, 1e-4  # to centimetres


def load_bfm_h5(path: Path) -> MorphableModel:
    """BFM 2017 or 2019. Raises :class:`ModelError` naming the file, the key and what was expected."""
    try:
        opened = h5py.File(path, "r")
    except OSError as e:
        raise ModelError(f"{path}: not a readable HDF5 file ({e})") from e
    with opened as f:
        mean = numbers(path, "shape/model/mean", _dataset(path, f, "shape/model/mean").ravel(), (None,))
        require(len(mean) % 3 == 0 and len(mean) > 0, path, f"shape/model/mean: expected 3V numbers, got {len(mean)}")
        v = len(mean) // 3
        faces = triangles(path, "shape/representer/cells", _dataset(path, f, "shape/representer/cells"), v)
        identity = _modes(path, f, "shape", v)
        if "expression/model/pcaBasis" not in f:
            raise ModelError(
                f"{path}: expected /expression/model/pcaBasis; this file has no expressions. Use model2017-1_bfm_nomouth.h5, "
                "model2017-1_face12_nomouth.h5, model2019_bfm.h5, model2019_face12.h5 or model2019_fullHead.h5"
            )
        expression = _modes(path, f, "expression", v)
        neutral = mean.reshape(v, 3)
        if "expression/model/mean" in f:  # the mean expression belongs to the rest face
            extra = numbers(path, "expression/model/mean", _dataset(path, f, "expression/model/mean").ravel(), (3 * v,))
            neutral = neutral + extra.reshape(v, 3)
        colour = None
        if "color/model/mean" in f:
            colour = numbers(path, "color/model/mean", _dataset(path, f, "color/model/mean").ravel(), (3 * v,)).reshape(
                v, 3
            )
            colour = colour / 255.0 if colour.max() > 1.5 else colour
        beside = companion(path)
        known = read_landmarks(beside, neutral, faces) if beside else _metadata(path, f, mean.reshape(v, 3), neutral)
        year = _year(path, f)
    names = tuple(f"exp{i:03d}" for i in range(len(expression)))
    unit_scale(path, known, _MM)
    return build(
        Parts(
            name=f"bfm{year}",
            path=path,
            licence=LICENCE_2017,
            mean=neutral,
            identity=identity,
            expression=expression,
            expression_names=names,
            faces=faces,
            known=known,
            scale=_MM,
            colour=colour,
            files=[beside] if beside else [],
        )
    )


def _dataset(path: Path, f: h5py.File, key: str) -> np.ndarray:
    found = f.get(key)
    if not isinstance(found, h5py.Dataset):
        has = ", ".join(sorted(f)) or "nothing"
        raise ModelError(f"{path}: expected /{key}, as in the official BFM 2017 and 2019 files; it has {has}")
    return np.asarray(found[()])


def _modes(path: Path, f: h5py.File, part: str, v: int) -> np.ndarray:
    basis = as_shapes(path, f"{part}/model/pcaBasis", _dataset(path, f, f"{part}/model/pcaBasis"), v)
    key = f"{part}/model/pcaVariance"
    variance = numbers(path, key, _dataset(path, f, key).ravel(), (len(basis),), np.float64)
    require(bool((variance >= 0).all()), path, f"{key}: variances must not be negative")
    return basis * np.sqrt(variance).astype(np.float32)[:, None, None]


def _year(path: Path, f: h5py.File) -> int:
    """2017 or 2019, by the file's name, else by the build time that it carries."""
    for year in (2017, 2019):
        if str(year) in path.name:
            return year
    built = f.get("shape/modelinfo/build-time")
    text = str(built[()]) if isinstance(built, h5py.Dataset) else ""
    return 2019 if any(str(y) in text for y in (2018, 2019, 2020)) else 2017


def _metadata(path: Path, f: h5py.File, mean: np.ndarray, neutral: np.ndarray) -> Known:
    found = f.get("metadata/landmarks/json")
    if not isinstance(found, h5py.Dataset):
        require_landmarks(path, "this file (no /metadata/landmarks/json)")
    try:
        raw = found[()]  # type: ignore[index]
        text = raw if isinstance(raw, (str, bytes)) else np.asarray(raw).tobytes()
        if isinstance(text, bytes):
            text = text.decode("utf-8").rstrip("\x00")
        parsed: Any = json.loads(text)
        pairs = parsed.items() if isinstance(parsed, dict) else [(m["id"], m["coordinates"]) for m in parsed]
        places = {str(n): np.asarray(x, dtype=np.float64).reshape(3) for n, x in pairs}
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise ModelError(f"{path}: /metadata/landmarks/json: expected a list of {{id, coordinates}} ({e})") from e
    from scipy.spatial import cKDTree

    known: Known = {}
    for name, k in NAMES.items():
        if name in places:  # given on the shape mean; the rest face is that plus the mean expression
            vertex = int(cKDTree(mean).query(places[name])[1])
            known[k] = neutral[vertex].astype(np.float64)
    return known


def load_bfm2009(path: Path) -> MorphableModel:
    """BFM 2009 (``PublicMM1/01_MorphableModel.mat``), which has no expressions and no landmarks.

    It needs a landmarks file beside it. Its people can be drawn and fitted, but there is nothing that an intervention
    on the expression could weaken. Raises :class:`ModelError`."""
    keys = ("shapeMU", "shapePC", "shapeEV", "tl")
    try:
        data = scipy.io.loadmat(path, variable_names=[*keys, "texMU"])
    except (OSError, ValueError, TypeError, NotImplementedError, KeyError) as e:
        raise ModelError(f"{path}: not a readable MATLAB file ({e})") from e
    for key in keys:
        require(
            key in data, path, f"expected the variable {key!r}, as in the official 01_MorphableModel.mat of BFM 2009"
        )
    mean = numbers(path, "shapeMU", np.ravel(data["shapeMU"]), (None,))
    require(len(mean) % 3 == 0 and len(mean) > 0, path, f"shapeMU: expected 3V numbers, got {len(mean)}")
    v = len(mean) // 3
    basis = as_shapes(path, "shapePC", data["shapePC"], v)
    deviation = numbers(
        path, "shapeEV", np.ravel(data["shapeEV"]), (len(basis),)
    )  # standard deviations, not eigenvalues
    faces = triangles(path, "tl", numbers(path, "tl", data["tl"], (None, 3), np.int64) - 1, v)
    colour = None
    if "texMU" in data:
        colour = numbers(path, "texMU", np.ravel(data["texMU"]), (3 * v,)).reshape(v, 3) / 255.0
    beside = require_landmarks(path, "BFM 2009")
    known = read_landmarks(beside, mean.reshape(v, 3), faces)
    unit_scale(path, known, _UM)
    return build(
        Parts(
            name="bfm2009",
            path=path,
            licence=LICENCE_2009,
            mean=mean.reshape(v, 3),
            identity=basis * deviation[:, None, None],
            expression=np.zeros((0, v, 3), dtype=np.float32),
            expression_names=(),
            faces=faces,
            known=known,
            scale=_UM,
            colour=colour,
            files=[beside],
            notes=["BFM 2009 has no expressions: there is nothing that an intervention could weaken"],
        )
    )
