"""The checks that every face model passes before anybody uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import ModelError
from .split import FACE_REGIONS

if TYPE_CHECKING:
    from .model import Embedding, MorphableModel


def validate(model: MorphableModel) -> None:
    """Raise :class:`ModelError`, naming the file and the field, unless ``model`` is consistent."""

    def fail(field: str, message: str) -> None:
        raise ModelError(f"{model.source}: {field}: {message}")

    def shape(field: str, value: Any, want: tuple[int | None, ...]) -> None:
        got = tuple(value.shape)
        if len(got) != len(want) or any(w is not None and w != g for w, g in zip(want, got)):
            fail(field, f"expected shape ({', '.join('any' if w is None else str(w) for w in want)}), got {got}")
        if isinstance(value, Tensor):
            # a sum is finite unless an entry is not (or the values are absurd): one pass without a temporary mask
            if not bool(value.sum().isfinite()):
                fail(field, "holds NaN or infinite values")
        elif np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            fail(field, "holds NaN or infinite values")

    def indices(field: str, value: np.ndarray, size: int) -> None:
        if not np.issubdtype(value.dtype, np.integer):
            fail(field, f"expected integers, got {value.dtype}")
        if value.size and (value.min() < 0 or value.max() >= size):
            fail(field, f"indices must lie in 0…{size - 1}, got {value.min()}…{value.max()}")

    shape("mean", model.mean, (None, 3))
    v = model.mean.shape[0]
    if v == 0:
        fail("mean", "has no vertices")
    if not model.mean.is_floating_point():
        fail("mean", f"expected floating-point numbers, got {model.mean.dtype}")
    shape("identity_basis", model.identity_basis, (None, v, 3))
    shape("expression_basis", model.expression_basis, (None, v, 3))
    for field in ("identity_basis", "expression_basis"):
        basis = getattr(model, field)
        if basis.dtype != model.mean.dtype or basis.device != model.mean.device:
            fail(field, f"is {basis.dtype} on {basis.device}, but mean is {model.mean.dtype} on {model.mean.device}")
    ke = model.expression_basis.shape[0]
    if len(model.expression_names) != ke:
        fail("expression_names", f"expected {ke} names, one a shape, got {len(model.expression_names)}")
    if len(set(model.expression_names)) != ke:
        fail("expression_names", "two shapes have the same name")
    shape("expression_low", model.expression_low, (ke,))
    shape("expression_high", model.expression_high, (ke,))
    if (model.expression_low > model.expression_high).any():
        fail("expression_low", "is larger than expression_high somewhere")
    shape("faces", model.faces, (None, 3))
    indices("faces", model.faces, v)
    f = len(model.faces)
    shape("part", model.part, (f,))
    indices("part", model.part, len(model.part_names))
    if "skin" not in model.part_names:
        fail("part_names", f"expected a part called 'skin', got {', '.join(model.part_names)}")
    shape("mirror", model.mirror, (v,))
    indices("mirror", model.mirror, v)
    if not np.array_equal(model.mirror[model.mirror], np.arange(v)):
        fail("mirror", "is not its own inverse")
    shape("hemiface_left", model.hemiface_left, (v,))
    w = model.hemiface_left
    if w.min() < 0 or w.max() > 1 or not np.array_equal(w[model.mirror], 1 - w):
        fail("hemiface_left", "must lie in [0, 1] and be one minus itself at the mirrored vertex")
    if set(model.regions) != set(FACE_REGIONS):
        fail("regions", f"expected {', '.join(FACE_REGIONS)}, got {', '.join(model.regions)}")
    for r, mask in model.regions.items():
        shape(f"regions[{r}]", mask, (v,))
    if not np.allclose(sum(model.regions.values()), 1.0, atol=1e-5):
        fail("regions", "must sum to 1 at every vertex")
    shape("albedo", model.albedo, (v, 3))
    if model.albedo.min() < 0 or model.albedo.max() > 1:
        fail("albedo", "must lie in [0, 1] (sRGB)")
    _embedding(model, "landmarks68", model.landmarks68, (68,), shape, indices, fail)
    if model.landmarks478 is not None:
        _embedding(model, "landmarks478", model.landmarks478, (478, 468), shape, indices, fail)
    if (model.uv is None) != (model.faces_uv is None):
        fail("uv", "uv and faces_uv must come together")
    if model.uv is not None and model.faces_uv is not None:
        shape("uv", model.uv, (None, 2))
        shape("faces_uv", model.faces_uv, (f, 3))
        indices("faces_uv", model.faces_uv, len(model.uv))
    for name, place in model.joints.items():
        shape(f"joints[{name}]", place, (3,))
    for name, mask in model.paint.items():
        shape(f"paint[{name}]", mask, (v,))
        if mask.min() < 0 or mask.max() > 1:
            fail(f"paint[{name}]", "must lie in [0, 1]")


def _embedding(
    model: MorphableModel, field: str, e: Embedding, counts: tuple[int, ...], shape: Any, indices: Any, fail: Any
) -> None:
    if len(e.triangle) not in counts:
        fail(field, f"expected {' or '.join(map(str, counts))} points, got {len(e.triangle)}")
    n = len(e.triangle)
    shape(f"{field}.triangle", e.triangle, (n,))
    indices(f"{field}.triangle", e.triangle, len(model.faces))
    shape(f"{field}.barycentric", e.barycentric, (n, 3))
    if not np.allclose(e.barycentric.sum(axis=1), 1.0, atol=1e-4):
        fail(f"{field}.barycentric", "the three weights of a point must sum to 1")
