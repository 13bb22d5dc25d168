"""The bundled head, written by tools/build_head.py from MakeHuman's CC0 data. Everything it needs is in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import ModelError
from ...resources import sha256
from ..model import Embedding, MorphableModel
from ..split import hemiface_weights, region_masks
from .npz import read_npz, strings

LICENCE = "CC0-1.0 (MakeHuman community)"

_KEYS = (
    "mean", "identity_basis", "expression_basis", "expression_names", "faces", "part", "part_names",
    "landmarks68_triangle", "landmarks68_barycentric", "mirror", "albedo", "paint_names", "paint",
)  # fmt: skip
_OPTIONAL = ("uv", "faces_uv", "landmarks478_triangle", "landmarks478_barycentric", "eye_centres")
_POPULATION = ("macro_names", "macro_scores", "macro_offset", "residual_cholesky")
"""What :mod:`morphsym.faces.people` draws plausible people from."""

EXPRESSION_GAIN = {
    "noseSneer": 1.8,
    "mouthShrugLower": 1.6,
    "mouthUpperUp": 1.5,
    "mouthFunnel": 1.35,
    "browInnerUp": 1.3,
    "browOuterUp": 1.3,
    "mouthLowerDown": 1.3,
}
"""Factors on shapes (both sides) that MakeHuman's face units move much less at coefficient 1 than ICT-FaceKit's of the same
name do (largest skin displacement, cm: noseSneer .46 against 1.03, mouthShrugLower .48 / 1.05, mouthUpperUp .56 / .91,
mouthFunnel .75 / 1.17, browInnerUp .48 / .63, browOuterUp .64 / .86, mouthLowerDown .46 / .60). With them a coefficient of 1
is the full movement in both models."""

LID_FOLLOWS = 0.25
"""Share of ``eyeBlink`` that is added to ``eyeLookDown`` of the same side. The upper lid goes down with the eye: its own muscle,
the levator, lets go, which a facial palsy does not reach. ICT-FaceKit's by 0.63 cm, MakeHuman's by 0.34 and with it by 0.63."""


def load_makehuman(path: Path) -> MorphableModel:
    """The head from ``path`` (``assets/heads/makehuman.npz``). Raises :class:`ModelError` naming the file and key."""
    data = read_npz(path, _KEYS, (*_OPTIONAL, *_POPULATION))

    def get(key: str, dtype: type) -> np.ndarray:
        try:
            return np.ascontiguousarray(data[key], dtype=dtype)
        except (TypeError, ValueError) as e:
            raise ModelError(f"{path}: {key}: expected numbers, got {data[key].dtype}") from e

    def embedding(key: str) -> Embedding | None:
        if f"{key}_triangle" not in data or f"{key}_barycentric" not in data:
            return None
        return Embedding(get(f"{key}_triangle", np.int64), get(f"{key}_barycentric", np.float32))

    mean, mirror, faces = get("mean", np.float32), get("mirror", np.int64), get("faces", np.int32)
    marks = embedding("landmarks68")
    assert marks is not None  # both keys are required
    v = len(mean) if mean.ndim else 0
    if mean.ndim != 2 or mean.shape[1] != 3:
        raise ModelError(f"{path}: mean: expected shape (any, 3), got {mean.shape}")
    for key, array, size in (
        ("mirror", mirror, v),
        ("faces", faces, v),
        ("landmarks68_triangle", marks.triangle, len(faces)),
    ):
        if array.size == 0 or array.min() < 0 or array.max() >= size:
            raise ModelError(f"{path}: {key}: indices must lie in 0…{size - 1}")
    if mirror.shape != (v,) or faces.ndim != 2 or faces.shape[1] != 3 or marks.barycentric.shape != (68, 3):
        raise ModelError(
            f"{path}: expected mirror ({v},), faces (any, 3) and landmarks68_barycentric (68, 3), got {mirror.shape}, "
            f"{faces.shape} and {marks.barycentric.shape}"
        )
    points = np.einsum("ncx,nc->nx", mean[faces[marks.triangle]], marks.barycentric)
    names = strings(data["expression_names"])
    expression = get("expression_basis", np.float32)
    if expression.ndim == 3 and len(expression) == len(names):  # else the record's own check says what is wrong
        gain = [EXPRESSION_GAIN.get(n.removesuffix("Left").removesuffix("Right"), 1.0) for n in names]
        expression = expression * np.array(gain, dtype=np.float32)[:, None, None]
        for side in ("Left", "Right"):
            if {f"eyeLookDown{side}", f"eyeBlink{side}"} <= set(names):
                expression[names.index(f"eyeLookDown{side}")] += (
                    LID_FOLLOWS * expression[names.index(f"eyeBlink{side}")]
                )
    paint = get("paint", np.float32)
    return MorphableModel(
        name="makehuman",
        source=str(path),
        licence=LICENCE,
        sha256=sha256(path),
        mean=mean,  # type: ignore[arg-type]
        identity_basis=get("identity_basis", np.float32),  # type: ignore[arg-type]
        expression_basis=expression,  # type: ignore[arg-type]
        expression_names=names,
        expression_low=np.zeros(len(names), dtype=np.float32),
        expression_high=np.ones(len(names), dtype=np.float32),
        faces=faces,
        part=get("part", np.uint8),
        part_names=strings(data["part_names"]),
        landmarks68=marks,
        mirror=mirror,
        hemiface_left=hemiface_weights(mean, mirror),
        regions=region_masks(mean, points, mirror),
        albedo=get("albedo", np.float32),
        landmarks478=embedding("landmarks478"),
        uv=get("uv", np.float32) if "uv" in data else None,
        faces_uv=get("faces_uv", np.int32) if "faces_uv" in data else None,
        paint=dict(zip(strings(data["paint_names"]), paint)),
        notes=(
            "expression shapes scaled at load: " + ", ".join(f"{k} {g}" for k, g in EXPRESSION_GAIN.items()),
            f"eyeLookDown takes {LID_FOLLOWS} of eyeBlink along",
        ),
        joints=dict(zip(("eye_left", "eye_right"), get("eye_centres", np.float32))) if "eye_centres" in data else {},
        attributes={k: data[k] for k in _POPULATION if k in data},
    )
