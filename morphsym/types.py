"""Records that cross stages. Frozen; every field states its shape, unit, range and frame.

Symbols: B batch, V vertices, F triangles, Ki identity components, Ke expression shapes of the model, Ks sided
expression shapes (see :class:`SidedBasis`), L labels, H×W pixels. World frame: +X the subject's left, +Y up, +Z out of
the face; centimetres. Images: RGB, float32 in [0, 1] (sRGB-encoded), ``(B, 3, H, W)``; pixel centres at half-integers,
origin top left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""The canonical emotion names. Each classifier maps its own labels to these."""

SIDES = ("left", "right", "both")
"""The subject's anatomical sides. The subject's left is on the right of a frontal picture."""

REGIONS = ("all", "brow", "eye", "nose", "cheek", "mouth")
NERVES = ("facial", "jaw", "gaze", "tongue")
"""Which muscles move a shape. An intervention reaches ``facial`` unless others are asked for."""

ARMS = ("original", "baseline", "null", "unilateral", "matched", "mirrored_baseline", "mirrored_unilateral",
        "placebo", "unilateral_droop", "matched_mesh", "matched_coefficients", "matched_landmarks")  # fmt: skip
"""The first seven are rendered unless told otherwise; the others are asked for. See :class:`intervention.Design`."""

Side = Literal["left", "right", "both"]
Source = Literal["photo", "sampled"]


@dataclass(frozen=True, eq=False)
class Cameras:
    """A batch of OpenCV pinhole cameras: ``x_cam = R @ x_world + t``, ``pixel = (K @ x_cam)[:2] / x_cam[2]``.

    The camera frame is +x right, +y down, +z forward (depth, cm). A frontal view of a head at the world's origin has
    ``R = diag(1, -1, -1)`` and ``t = (0, 0, distance)``. A head pose is expressed in ``R`` and ``t``: the world is the
    head's own frame.
    """

    K: Tensor  # (B, 3, 3) float32, pixels
    R: Tensor  # (B, 3, 3) float32, a rotation
    t: Tensor  # (B, 3) float32, cm
    height: int  # pixels
    width: int  # pixels

    def __len__(self) -> int:
        return int(self.K.shape[0])

    def __getitem__(self, index: Any) -> Cameras:
        """The cameras at ``index`` (an int keeps the batch dimension)."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return Cameras(self.K[index], self.R[index], self.t[index], self.height, self.width)


@dataclass(frozen=True, eq=False)
class Lights:
    """A batch of lights, in linear RGB: ``radiance = albedo * (ambient + environment + directional + points) + shine``.

    Positions and directions are in the *camera* frame (+x right, +y down, +z forward), seen from the face: a light
    above and behind the camera has the direction ``(0, -0.5, -0.87)``. ``directional`` is ``intensity * max(0, n·l)``;
    a point light gives the same times ``(100 cm / distance)**2``. ``sh`` are the environment's radiance in real
    orthonormal spherical harmonics; a constant environment of radiance c is ``sh[0] = c * sqrt(4 pi)`` and lights like
    an ``ambient`` of c. ``specular`` scales a Blinn–Phong skin highlight of the directional and the point lights.
    See :mod:`morphsym.rendering.lights`.
    """

    ambient: Tensor  # (B, 3) float32, linear, >= 0
    direction: Tensor  # (B, 3) float32, unit length
    intensity: Tensor  # (B, 3) float32, linear, >= 0
    specular: Tensor  # (B,) float32, >= 0
    sh: Tensor | None = None  # (B, 9, 3) float32, linear; order (l, m) = 00, 1-1, 10, 11, 2-2, 2-1, 20, 21, 22
    position: Tensor | None = None  # (B, P, 3) float32, cm
    power: Tensor | None = None  # (B, P, 3) float32, linear, >= 0: a point light's intensity at 100 cm

    def __len__(self) -> int:
        return int(self.ambient.shape[0])


@dataclass(frozen=True, eq=False)
class Fragments:
    """What a rasteriser knows of every pixel. Every backend fills the same record.

    ``triangle`` is the index into the mesh's faces (not packed over the batch), -1 on the background.
    ``barycentric`` are perspective-correct weights of the triangle's three vertices (they sum to one; 0 on the
    background). ``depth`` is the view-space z in cm (+inf on the background).
    """

    triangle: Tensor  # (B, H, W) int32
    barycentric: Tensor  # (B, H, W, 3) float32
    depth: Tensor  # (B, H, W) float32


@dataclass(frozen=True, eq=False)
class SidedBasis:
    """The expression basis of a model with every shape given a side: what a hemiface intervention edits.

    A shape with a native side (``mouthSmileLeft``) keeps its name. A shape without one (``mouthPucker``; also
    ``mouthLeft``, whose name is a direction) is split by the hemiface weights into ``mouthPucker.left`` and
    ``mouthPucker.right``, whose sum is the unsplit shape.
    """

    names: tuple[str, ...]  # Ks
    basis: Tensor  # (Ks, V, 3) float32, cm per unit coefficient
    side: np.ndarray  # (Ks,) int8: +1 the subject's left, -1 the right
    partner: np.ndarray  # (Ks,) int64: the shape that is its mirror image
    source: np.ndarray  # (Ks,) int64: the unsplit shape in the model's own basis
    nerve: tuple[str, ...]  # Ks of NERVES
    region: tuple[str, ...]  # Ks of REGIONS without 'all'
    low: np.ndarray  # (Ks,) float32, smallest plausible coefficient
    high: np.ndarray  # (Ks,) float32, largest plausible coefficient

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Person:
    """One sampled identity."""

    subject: str  # 's0001'
    identity: np.ndarray  # (Ki,) float32, standard-normal coefficients
    albedo: np.ndarray  # (V, 3) float32, sRGB in [0, 1], per-vertex colour
    attributes: Mapping[str, Any] = field(default_factory=dict)  # sex, age, ancestry, fitzpatrick, …: plain values


@dataclass(frozen=True, eq=False)
class FaceFit:
    """A 3DMM fitted to one face of one photo; what ``fits/<name>.npz`` holds.

    ``status`` is 'ok' or 'failed'; a failed fit has a ``reason`` and may lack arrays (empty). Pixel coordinates are
    those of the photo after EXIF rotation.
    """

    name: str  # stem of the files in fits/, unique in the folder
    photo: str  # path as given, made absolute
    photo_sha256: str
    face: int  # index of the face in the photo, by size, 0 the largest
    status: str
    reason: str
    model: str  # MorphableModel.name
    model_sha256: str
    identity: np.ndarray  # (Ki,) float32
    expression: np.ndarray  # (Ks,) float32, in the sided basis
    expression_names: tuple[str, ...]  # Ks
    K: np.ndarray  # (3, 3) float64, pixels
    R: np.ndarray  # (3, 3) float64
    t: np.ndarray  # (3,) float64, cm
    height: int  # of the photo, pixels
    width: int
    landmarks: np.ndarray  # (68, 2) float32, pixels: what was fitted to
    nme: float  # mean landmark error / outer eye distance (landmarks 37-46)
    yaw: float  # degrees; positive when the subject turns to the subject's left
    pitch: float  # degrees; positive when the subject looks up
    roll: float  # degrees; positive when the head tilts towards the subject's left shoulder
    detector: str = ""  # 'mediapipe', 'face-alignment', 'file', …
    emotion: str = ""  # canonical emotion of the unit; see fitting
    emotion_source: str = ""  # 'given' or 'nearest_preset'
    landmarks_478: np.ndarray | None = None  # (478, 2) float32, pixels
    blendshapes: Mapping[str, float] | None = None  # MediaPipe's scores by ARKit name
    note: str = ""  # what was done on loading and detecting, '; '-separated
    converged: bool | None = None  # whether the solver came to rest; None where it did not run
    quality: str = ""  # 'good', or what a person should look at, '; '-separated
    measures: Mapping[str, float] | None = None  # fitting.measures, of the expression as it was fitted, mm
    expression_fitted: np.ndarray | None = None  # (Ks,) float32 as fitted, where `expression` is its symmetric average
    subject: str = ""  # whose face, where photos of one person or frames of one video share it; '': the name
    frame: int = -1  # index of the video's frame, from 0; -1 for a photo
    time: float = float("nan")  # seconds from the video's start
    refined: bool | None = None  # whether the pixels changed the landmark fit; None where that was not asked for
    pixel_error_start: float | None = None  # mean difference of picture and photo before, grey levels (0 to 255)
    pixel_error: float | None = None  # and after, over the same pixels
    expression_prior: str = ""  # what the expression was expected to be: 'readout' of the pixels, 'scores', '' (rest)

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True, eq=False)
class Unit:
    """One subject with one expression: the thing that is paired. All its arms share everything listed here."""

    unit: str  # 's0001.happiness', 'astronaut.happiness'
    subject: str
    source: Source
    emotion: str  # of EMOTIONS: the unit's target
    identity: np.ndarray  # (Ki,) float32
    expression: np.ndarray  # (Ks,) float32: the factual coefficients
    camera: Cameras  # B = 1, at the size that is rendered
    landmarks: np.ndarray  # (68, 2) float32, pixels of that camera: the one crop's anchor for every arm
    lights: Lights | None = None  # B = 1; sampled people only
    albedo: np.ndarray | None = None  # (V, 3) float32 sRGB; sampled people only
    background: tuple[float, float, float] = (0.5, 0.5, 0.5)  # sRGB; sampled people only
    furrows: float = 0.0  # how deep the furrows are that come with the expression; sampled people only
    fit: FaceFit | None = None  # photos only
    photo: np.ndarray | None = None  # (H, W, 3) uint8: the working image that `camera` sees; photos only
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """Unit × arm × side × strength × region: one image. ``side`` is 'none' and ``strength`` 0 where nothing is edited.

    A ``matched``, ``mirrored_unilateral``, ``placebo`` or ``unilateral_droop`` condition carries the side, strength and
    region of the ``unilateral`` it belongs to, so that pairs are joined by equality. ``region`` may be the name of a
    clinical pattern.
    """

    condition: str  # unique: '<unit>/<arm>/<side>/<strength>/<region>'
    unit: str
    arm: str
    side: str
    strength: float
    region: str


def as_tensor(x: Any, device: torch.device | str = "cpu") -> Tensor:
    """``x`` as a float32 tensor on ``device``, without a copy where possible."""
    return torch.as_tensor(x, dtype=torch.float32, device=device)
