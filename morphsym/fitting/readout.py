"""Read the expression, left and right, from the pixels of the face: a small network of ours, with its own uncertainty.

Landmarks hardly see a brow that rises or a corner of the mouth that falls; the pixels do. The network looks at the crop of
:mod:`.crop` in grey and at MediaPipe's 478 points and scores, and says for every pair of mirror shapes what their mean and
their difference are, left minus right, each with a standard deviation. It was trained on renders of ICT-FaceKit and of the
bundled head (``tools/train_readout.py``); figures: ``docs/accuracy.md``.

**Both ways.** It reads the picture and the mirror image, and the mean of the two is taken with the sides exchanged: by
construction the mirror image of a face reads as the mirror image of what the face reads.

**What it was not trained on.** A second, smaller network sees the points and scores only. Where the two contradict each
other beyond what they do on renders, or the picture contradicts its mirror image, the standard deviations grow, and the
landmarks decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, linear, relu

from .. import resources
from ..errors import ModelError
from ..rendering.color import GREY
from . import crop as crops
from .detectors import Detection
from .detectors.mediapipe import _mirror_map, mirrored_scores
from .threads import one_each

ASSET = "readout/expression.npz"

LOCAL = 17
"""Side of the window over which the second channel is normalised, pixels."""

LEAST_CONTRAST = 2.0
"""Standard deviation of the crop's grey levels below which there is nothing to be seen."""

DOUBT = 2.0
"""The two networks may differ by so many of their standard deviations on renders before a value is doubted."""

USUAL_DOUBT = 0.06
"""Share of the values that is doubted on renders; where more are, the face is not like those that were trained on."""

DOUBTED_ALL = 10.0
"""Then all standard deviations grow, by this times what the share is more (a share of 0.16: twice)."""


@dataclass(frozen=True, eq=False)
class IdentityReading:
    """The identity of a face in one model's coefficients."""

    mean: np.ndarray  # (Ki,)
    sigma: np.ndarray  # (Ki,) standard deviation on renders that were not trained on
    lengths: (
        np.ndarray
    )  # (Ki,) cm: what every coefficient moves landmarks by, so that another file's identity is not mistaken


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read off one face; P pairs of shapes. The difference is left minus right."""

    left: tuple[str, ...]  # P names of sided shapes
    right: tuple[str, ...]  # P: their mirror partners
    mean: np.ndarray  # (P,) mean of the two coefficients
    difference: np.ndarray  # (P,)
    mean_sigma: np.ndarray  # (P,) standard deviations
    difference_sigma: np.ndarray  # (P,)
    doubt: float  # share of the P differences and means that the landmarks contradict
    identity: Mapping[str, IdentityReading] = field(default_factory=dict)  # by the model's name

    def mirrored(self) -> Reading:
        """The reading of the mirror image."""
        return replace(self, difference=-self.difference)

    def values(self) -> dict[str, float]:
        """The coefficients by name."""
        out = dict(zip(self.left, (self.mean + self.difference / 2).tolist(), strict=True))
        return out | dict(zip(self.right, (self.mean - self.difference / 2).tolist(), strict=True))


def channels(grey: Tensor) -> Tensor:
    """Frontal pictures ``grey (B, H, W)`` as the network sees them, ``(B, 2, H, W)``: contrast over all, and over a window."""
    x = grey[:, None]
    x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 4.0)
    mean = _window_mean(x)
    spread = (_window_mean(x * x) - mean * mean).clamp(min=0).sqrt()
    return torch.cat([x, (x - mean) / (spread + 0.15)], dim=1)


def halves(images: Tensor) -> Tensor:
    """``(B, 2, H, W)`` of :func:`channels` to ``(B, H W / 4)``: the second at half the size, the mean of its left and right half
    (one of them mirrored), then half their difference: what a linear map of the pixels can tell about means and differences."""
    small = avg_pool2d(images[:, 1:], 2)[:, 0]
    other = small.flip(2)
    half = small.shape[2] // 2
    return torch.cat([((small + s * other) / 2)[:, :, :half].flatten(1) for s in (1, -1)], dim=1)


def _window_mean(x: Tensor) -> Tensor:
    """The mean over :data:`LOCAL` × :data:`LOCAL` pixels, those that there are; rows, then columns."""
    pad = LOCAL // 2
    rows = avg_pool2d(x, (LOCAL, 1), 1, (pad, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, LOCAL), 1, (0, pad), count_include_pad=False)


def features(points: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """``(…, 956 + S)`` float32 of ``points (…, 478, 2)`` in the crop's pixels and scores ``(…, S)``: cm and scores."""
    cm = (np.asarray(points, dtype=np.float32) - crops.SIZE / 2) / crops.PER_CM
    return np.concatenate([cm.reshape(*cm.shape[:-2], -1), np.asarray(scores, dtype=np.float32)], axis=-1)


class Readout:
    """The network of a weights file, for inference: :meth:`read` one face, :meth:`outputs` of many crops."""

    def __init__(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as z:
                arrays = {k: z[k] for k in z.files}
            self.left, self.right = tuple(arrays["left"].tolist()), tuple(arrays["right"].tolist())
            self.score_names = tuple(arrays["score_names"].tolist())
            self._front = crops.Frontal(arrays["places"].astype(np.float64), arrays["depth"].astype(np.float64))
            self._strides = [int(s) for s in arrays["strides"]]
            self._w = {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items() if v.dtype.kind == "f"}
            for k in [
                k.removesuffix(".scale") for k in arrays if k.endswith(".scale")
            ]:  # kept in eight bits, row by row
                self._w[k] = torch.from_numpy(arrays[k].astype(np.float32)) * self._w.pop(f"{k}.scale")[:, None]
            self._models = tuple(arrays["models"].tolist())
            if self._w["calibration"].shape != (4, len(self.left)) or len(self.left) != len(self.right):
                raise ValueError("its shapes do not fit together")
        except (OSError, ValueError, KeyError, BadZipFile) as e:
            raise ModelError(
                f"the readout's weights {path} cannot be read ({e}); expected the file that tools/train_readout.py writes: "
                "install morphsym again"
            ) from None

    def outputs(self, images: Tensor, given: Tensor) -> Tensor:
        """``(B, 6, P)``: mean, difference, log of their standard deviations, and both as the points alone tell them.

        ``images (B, 2, H, W)`` of :func:`channels`, ``given (B, F)`` of :func:`features`.
        """
        w = self._w
        x = images
        for i, stride in enumerate(self._strides):
            kernel = w[f"conv{i}.w"]
            x = relu(conv2d(x, kernel, w[f"conv{i}.b"], stride, kernel.shape[-1] // 2))
        seen = relu(linear(x.flatten(1), w["image.w"], w["image.b"]))
        white = (given - w["mean"]) @ w["white"]
        known = relu(linear(white, w["points.w"], w["points.b"]))
        plain = halves(images) - w["halves_mean"]
        sketched = relu(linear(plain, w["sketch.w"], w["sketch.b"]))
        joined = relu(linear(torch.cat([seen, known, sketched], 1), w["joined.w"], w["joined.b"]))
        whole = linear(joined, w["out.w"], w["out.b"]).unflatten(1, (4, -1))
        whole[:, :2] += linear(white, w["straight.w"]).unflatten(1, (2, -1))
        whole[:, :2] += linear(plain, w["linear.w"]).unflatten(1, (2, -1))
        alone = linear(relu(linear(known, w["alone.w"], w["alone.b"])), w["alone_out.w"], w["alone_out.b"])
        return torch.cat([whole[:, :2], whole[:, 2:].clamp(-5, 1), alone.unflatten(1, (2, -1))], dim=1)

    def read(self, pixels: np.ndarray, detection: Detection) -> Reading | None:
        """The reading of a face in ``pixels (H, W, 3)`` uint8; None where there is nothing to read.

        That is without MediaPipe's points and scores, with points that are no face, and in a picture without contrast.
        """
        if detection.landmarks478 is None or not detection.blendshapes:
            return None
        similarity = crops.align(detection.landmarks478)
        if not 1e-3 < np.hypot(*similarity[:, 0]) < 1e3:
            return None
        with one_each():  # the last bits of a convolution depend on the number of threads
            crop = crops.grey_crop(pixels, similarity)
            if float(crop.std()) < LEAST_CONTRAST:
                return None
            return self.read_grey(crop, crops.moved(detection.landmarks478, similarity), detection.blendshapes)

    def read_crop(self, crop: np.ndarray, points: np.ndarray, scores: Mapping[str, float]) -> Reading:
        """The same of a crop ``(112, 112, 3)`` uint8 and points ``(478, 2)`` in its pixels."""
        return self.read_grey(torch.from_numpy(grey_of(crop)), points, scores)

    def read_grey(self, crop: Tensor, points: np.ndarray, scores: Mapping[str, float]) -> Reading:
        """The same of a crop's grey levels ``(112, 112)``."""
        images = channels(self._front(crop[None], torch.from_numpy(points)[None]))
        images = torch.cat([images, images.flip(3)])
        other = points[_mirror_map()] * (-1, 1) + (crops.SIZE, 0)
        given = features(
            np.stack([points, other]), np.stack([self._scores(scores), self._scores(mirrored_scores(scores))])
        )
        with torch.inference_mode():
            both = self.outputs(images, torch.from_numpy(given)).double().numpy()
        found = combine(both, self._w["calibration"].double().numpy(), self.left, self.right)
        return replace(found, identity=self._identity(images, torch.from_numpy(given), strangeness(found.doubt)))

    def _identity(self, images: Tensor, given: Tensor, strange: float) -> dict[str, IdentityReading]:
        """What is linear in the mean of picture and mirror image, ``(2, 2, H, W)`` and ``(2, F)``; ``strange``: factor of σ."""
        w = self._w
        even = halves(images[:1])[0] - w["halves_mean"]
        seen = torch.cat([
            (given.mean(0) - w["identity.points_mean"]) @ w["identity.points"],
            even[: len(even) // 2] @ w["identity.pixels"],
        ])  # fmt: skip
        found = {}
        for name in self._models:
            mean = seen @ w[f"identity.{name}.w"] + w[f"identity.{name}.b"]
            sigma = strange * w[f"identity.{name}.sigma"].numpy()
            found[name] = IdentityReading(mean.numpy(), sigma, w[f"identity.{name}.lengths"].numpy())
        return found

    def _scores(self, scores: Mapping[str, float]) -> np.ndarray:
        return np.array([scores.get(n, 0.0) for n in self.score_names], dtype=np.float32)


def grey_of(crop: np.ndarray) -> np.ndarray:
    """``(…, 3)`` uint8 to grey levels (ITU-R BT.601), float32."""
    return crop.astype(np.float32) @ np.array(GREY, dtype=np.float32)


def strangeness(share: float) -> float:
    """What standard deviations are multiplied by where this share of the values is doubted."""
    return 1 + DOUBTED_ALL * max(0.0, share - USUAL_DOUBT)


def combine(both: np.ndarray, calibration: np.ndarray, left: Sequence[str], right: Sequence[str]) -> Reading:
    """The mean of what the picture and its mirror image gave, ``both (2, 6, P)``, with calibrated standard deviations.

    ``calibration (4, P)``: what the network's standard deviations of mean and difference are to be multiplied by, and the
    standard deviations of how far the points alone are from it on renders.
    """
    sign = np.array([1.0, -1.0, 1.0, 1.0, 1.0, -1.0])[:, None]
    there = both[1] * sign
    mean = (both[0] + there) / 2
    apart = np.abs(both[0] - there)[:2] / 2
    sigma = np.sqrt((np.exp(2 * both[0, 2:4]) + np.exp(2 * there[2:4])) / 2) * calibration[:2]
    doubt = np.abs(mean[4:] - mean[:2]) / calibration[2:] / DOUBT
    share = float((doubt > 1).mean())
    sigma = np.sqrt(sigma**2 + np.maximum(apart - sigma, 0) ** 2) * np.maximum(1.0, doubt)
    sigma *= strangeness(share)
    return Reading(tuple(left), tuple(right), mean[0], mean[1], sigma[0], sigma[1], float((doubt > 1).mean()))


@cache
def bundled() -> Readout:
    """The readout that comes with morphsym."""
    return Readout(resources.asset(ASSET))
