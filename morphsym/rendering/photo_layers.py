"""What a photo counterfactual needs to know of a model and a fit: the mesh's layers, its registration to the photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ..errors import RenderError
from ..types import Unit
from . import cameras as cams
from .photo_kernels import EYE_LEFT, EYE_RIGHT, FACE, MOUTH, STILL

if TYPE_CHECKING:
    from ..faces import Embedding, MorphableModel

MISFIT = 0.25
"""Mean landmark error over the outer eye distance from which a fit is not one of this photo."""

INSIDE = 0.6
"""cm behind the lips from where skin near the mouth counts as the inside of the mouth."""

LIPS_LIDS_BROWS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),  # outer lips
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),  # inner lips
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),  # the subject's right eye
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),  # left eye
    *(70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276),  # brows
)
"""MediaPipe's landmarks that sit on something that can be seen."""

_DROPPED = ("lash", "hair", "brow", "occlusion", "blend", "lacrimal", "cornea")
_MOUTH = ("teeth", "tooth", "tongue", "gum", "mouth")


@dataclass(frozen=True, eq=False)
class Layers:
    """The triangles of a model that take part in a photo, and the layer of each."""

    faces: np.ndarray  # (F', 3) int32, without lashes, hair and transparent shells
    layer: np.ndarray  # (F',) int8, see photo_kernels
    triangle: np.ndarray  # (F',) int64, index into the model's own faces


_cache: WeakKeyDictionary[MorphableModel, Layers] = WeakKeyDictionary()


def layers(model: MorphableModel) -> Layers:
    """The :class:`Layers` of ``model``, made once. Eyeballs and mouth parts are known by the names of the parts."""
    if model not in _cache:
        _cache[model] = _layers(model)
    return _cache[model]


def _layers(model: MorphableModel) -> Layers:
    mean = _numpy(model.mean)
    faces = np.asarray(model.faces, dtype=np.int32)
    names = [n.lower() for n in model.part_names]
    part = np.asarray(model.part)
    keep = ~np.isin(part, [k for k, n in enumerate(names) if any(d in n for d in _DROPPED)])
    triangle = np.flatnonzero(keep)
    faces, part = np.ascontiguousarray(faces[keep]), part[keep]
    layer = np.where(_front(model, mean)[faces].all(1), FACE, STILL).astype(np.int8)
    eye = np.isin(part, [k for k, n in enumerate(names) if "eye" in n])
    left = mean[faces, 0].mean(1) > 0
    layer[eye & left], layer[eye & ~left] = EYE_LEFT, EYE_RIGHT
    mouth = np.isin(part, [k for k, n in enumerate(names) if any(m in n for m in _MOUTH)])
    layer[mouth | (~eye & _inside_mouth(model, mean)[faces].all(1))] = MOUTH
    return Layers(faces, layer, triangle)


def _front(model: MorphableModel, mean: np.ndarray) -> np.ndarray:
    """(V,) bool: above the chin's underside and in front of the ears.

    What a shape pulls along of neck, ears and scalp is left where it is: in a photo hair and clothes cover it, and the
    warp beside the face reaches it anyway.
    """
    marks = _points(mean, model.faces, model.landmarks68)
    return (mean[:, 1] > marks[8, 1] - 1.0) & (mean[:, 2] > marks[[0, 16], 2].mean() - 0.5)


def _inside_mouth(model: MorphableModel, mean: np.ndarray) -> np.ndarray:
    """(V,) bool: skin behind the lips, the lining of the mouth."""
    cavity = model.paint.get("mouth_cavity")
    if cavity is not None:
        return np.asarray(cavity) > 0.5
    lips = _points(mean, model.faces, model.landmarks68)[48:68]
    corners = lips[[0, 6]]
    low, high = lips.min(0), lips.max(0)
    inner = lips[12:]
    # the lips' inner rim seen from the front; the corners lie further back than its middle
    x = (mean[:, 0] - corners[:, 0].mean()) / (0.5 * abs(corners[1, 0] - corners[0, 0]))
    rim = np.interp(np.abs(x), [0, 1], [inner[[2, 6], 2].mean(), inner[[0, 4], 2].mean()])
    near = (np.abs(x) < 1.05) & (mean[:, 1] > low[1] - 1.5) & (mean[:, 1] < high[1] + 1.5)
    behind_skin = mean[:, 2] < np.minimum(rim, mean[:, 2].max()) - INSIDE
    return near & behind_skin & (mean[:, 2] > low[2] - 8.0)


def _points(vertices: np.ndarray, faces: np.ndarray, embedding: Embedding) -> np.ndarray:
    """(N, 3): the embedded points of vertices (V, 3)."""
    triangle, barycentric = embedding
    corners = np.asarray(faces)[np.asarray(triangle)]
    return (vertices[corners] * np.asarray(barycentric)[..., None]).sum(1)


def register(model: MorphableModel, vertices: np.ndarray, unit: Unit) -> np.ndarray:
    """World offsets (V, 3) float32 that put the fitted mesh's landmarks onto those of the unit's photo.

    A fit leaves some percent of the eye distance between the mesh's lips and lids and those of the photo, enough to
    take a strip of lip for teeth. The offsets are parallel to the picture, smooth on the face (Gaussian radial basis
    functions, from broad to narrow, with a ridge), fade out away from it, and are added to the fitted and to every
    edited mesh alike: they move where texture is taken from, not what the edit does. MediaPipe's lips, lids and brows
    are used where the fit and the model have them, else the 68 landmarks; the outline's 17 landmarks slide along a
    face, so only their distance across the outline counts, and only broadly. Raises :class:`RenderError` where mesh and
    landmarks are far apart.
    """
    camera = unit.camera
    marks = np.asarray(unit.landmarks, np.float64)
    points, targets = _points(vertices, model.faces, model.landmarks68), marks
    inner = slice(17, None)
    if model.landmarks478 is not None and unit.fit is not None and unit.fit.landmarks_478 is not None:
        mesh = _points(vertices, model.faces, model.landmarks478)
        photo = np.asarray(unit.fit.landmarks_478, np.float64)[:, :2]
        index = [i for i in LIPS_LIDS_BROWS if i < min(len(mesh), len(photo))]
        scale = float(camera.K[0, 0, 0]) / unit.fit.K[0, 0]
        shift = camera.K[0, :2, 2].numpy() - scale * unit.fit.K[:2, 2]
        points = np.concatenate([points[:17], points[27:36], mesh[index]])
        targets = np.concatenate([targets[:17], targets[27:36], photo[index] * scale + shift])
    pixels, _ = cams.project(camera, torch.from_numpy(points.astype(np.float32))[None])
    residual = targets - pixels[0].numpy()
    eyes = float(np.linalg.norm(marks[36] - marks[45]))
    error = float(np.linalg.norm(residual[17:], axis=1).mean())
    if not error < MISFIT * eyes:
        raise RenderError(
            f"unit {unit.unit!r}: the fitted face is {error:.0f} pixels off its landmarks, more than {MISFIT:.0%} of "
            "the distance between the eyes; fit the photo again"
        )
    along = np.gradient(marks[:17], axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], -1) / np.maximum(np.linalg.norm(along, axis=1), 1e-6)[:, None]
    residual[:17] = (residual[:17] * across).sum(1, keepdims=True) * across
    offset = np.zeros((len(vertices), 2))
    for sigma, ridge, used in ((2.5, 0.5, slice(None)), (0.9, 0.1, inner), (0.4, 0.1, inner)):
        kernel = _gauss(points, points[used], sigma)
        coefficients = np.linalg.solve(kernel[used] + ridge * np.eye(len(points[used])), residual[used])
        residual = residual - kernel @ coefficients
        offset += _gauss(vertices, points[used], sigma) @ coefficients
    depth = cams.to_camera(camera, torch.from_numpy(vertices)[None])[0, :, 2].numpy()
    K, R = camera.K[0].numpy(), camera.R[0].numpy()
    move = np.zeros((len(vertices), 3))
    move[:, 0], move[:, 1] = offset[:, 0] * depth / K[0, 0], offset[:, 1] * depth / K[1, 1]
    return (move @ R).astype(np.float32)  # R takes world to camera; its transpose applied to rows is @ R


def _gauss(a: np.ndarray, b: np.ndarray, sigma: float) -> np.ndarray:
    d2 = ((a[:, None] - b[None]) ** 2).sum(-1)
    return np.exp(-0.5 * d2 / sigma**2)


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()
