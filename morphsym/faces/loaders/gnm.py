"""GNM Head v3 (Google, Apache-2.0) from its official ``gnm_head.npz``.

The file is a plain npz, so it is read here directly; the package body-models can download it (``body-models download
gnm``) and poses the same arrays. Layout: ``version``, ``variant``, ``template_vertex_positions`` (V, 3),
``vertex_identity_basis`` (253, V, 3), ``expression_basis`` (383, V, 3), ``triangles``, ``identity_names``,
``expression_names`` (left and right eye region, lower face, tongue, pupils or iris). Joints (neck, head, eyes) stay
at rest, the tongue's and the pupils' shapes are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..model import MorphableModel
from .common import Parts, build, numbers, require, triangles, unit_scale
from .landmarks import read_landmarks
from .landmarks import require as require_landmarks
from .npz import read_npz, strings

LICENCE = "Apache-2.0 (Google LLC)"
_KEYS = (
    "version", "variant", "template_vertex_positions", "vertex_identity_basis", "expression_basis", "triangles",
    "identity_names", "expression_names",
)  # fmt: skip
_KEPT = {"left_eye": 20, "right_eye": 20, "lower_face": 40, "mouth": 40}
"""How many leading components of each group are kept (each becomes ten sided shapes)."""


def load_gnm(path: Path) -> MorphableModel:
    """GNM Head v3; it needs a landmarks file beside it (its repository's HEAD_SPARSE_68: ``indices`` and ``weights``)."""
    data = read_npz(path, _KEYS)
    version, variant = str(data["version"]), str(data["variant"])
    right = version.startswith("3.") and variant == "head"
    require(right, path, f"expected GNM Head 3.x, got variant {variant!r}, version {version!r}")
    mean = numbers(path, "template_vertex_positions", data["template_vertex_positions"], (None, 3))
    v = len(mean)
    identity = numbers(path, "vertex_identity_basis", data["vertex_identity_basis"], (None, v, 3))
    expression = numbers(path, "expression_basis", data["expression_basis"], (None, v, 3))
    names = strings(data["expression_names"])
    require(
        len(names) == len(expression), path, f"expression_names: expected {len(expression)} names, got {len(names)}"
    )
    faces = triangles(path, "triangles", data["triangles"], v)
    beside = require_landmarks(path, "GNM Head")
    known = read_landmarks(beside, mean, faces)
    chosen: list[int] = []
    for prefix, count in _KEPT.items():
        chosen += [i for i, n in enumerate(names) if n.startswith(prefix)][:count]
    has = ", ".join(names[:4])
    require(bool(chosen), path, f"expression_names: expected names that begin with {', '.join(_KEPT)}, got {has}")
    return build(
        Parts(
            name="gnm",
            path=path,
            licence=LICENCE,
            mean=mean,
            identity=identity,
            expression=np.ascontiguousarray(expression[chosen]),
            expression_names=tuple(names[i] for i in chosen),
            faces=faces,
            known=known,
            scale=unit_scale(path, known),
            files=[beside],
            notes=[
                f"of {len(names)} expression components {len(chosen)} are kept, the leading ones of each part of the face; the "
                "tongue's and the pupils' are left out; the joints stay at rest"
            ],
        )
    )
