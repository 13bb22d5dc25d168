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
from torch.nn.functional import conv2d, linear, relu

from .. import resources
from ..errors import ModelError
from ..rendering.color import GREY
from . import crop as crops
from .detectors import Detection
from .detectors.mediapipe import _mirror_map, mirrored_scores
from .gradients import halves, mirrored, oriented
from .threads import one_each

ASSET = "readout/expression.npz"

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
    covariance: np.ndarray  # (Ki, Ki) of what is off on renders that were not trained on
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
            self._reach = int(arrays["reach"])
            self._w = {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items() if v.dtype.kind == "f"}
            for k in [
                k.removesuffix(".scale") for k in arrays if k.endswith(".scale")
            ]:  # kept in eight bits, row by row
                scale = self._w.pop(f"{k}.scale")
                self._w[k] = torch.from_numpy(arrays[k].astype(np.float32)) * scale.reshape(
                    -1, *[1] * (arrays[k].ndim - 1)
                )
            self._models = tuple(arrays["models"].tolist())
            if self._w["calibration"].shape != (4, len(self.left)) or len(self.left) != len(self.right):
                raise ValueError("its shapes do not fit together")
        except (OSError, ValueError, KeyError, BadZipFile) as e:
            raise ModelError(
                f"the readout's weights {path} cannot be read ({e}); expected the file that tools/train_readout.py writes: "
                "install morphsym again"
            ) from None

    def outputs(self, fine: Tensor, coarse: Tensor, given: Tensor) -> Tensor:
        """``(2, B, 6, P)``, of the pictures and of their mirror images: mean, difference, log of their standard deviations, and
        both as the points alone tell them.

        ``fine`` and ``coarse`` maps of B frontal pictures (:func:`.gradients.oriented`), ``given (2, B, F)`` :func:`features` of
        them and of their mirror images.
        """
        w = self._w
        even, odd = halves(coarse)
        white = (given - w["mean"]) @ w["white"]
        means = (white[0] + white[1]) / 2 @ w["points_even"] + (even - w["even_mean"]) @ w["even"] + w["means"]
        differences = (white[0] - white[1]) / 2 @ w["points_odd"] + odd @ w["odd"]
        x = sides(fine, self._reach)
        for i, stride in enumerate(self._strides):
            kernel = w[f"conv{i}.w"]
            y = relu(conv2d(x, kernel, w[f"conv{i}.b"], stride, kernel.shape[-1] // 2))
            x = x + y if x.shape == y.shape else y
        seen = relu(linear(x.flatten(1), w["image.w"], w["image.b"]))
        known = relu(linear(white.flatten(0, 1), w["points.w"], w["points.b"]))
        joined = relu(linear(torch.cat([seen, known], 1), w["joined.w"], w["joined.b"]))
        whole = linear(joined, w["out.w"], w["out.b"]).unflatten(1, (4, -1)).unflatten(0, (2, -1))
        whole[:, :, 0] += means
        whole[:, :, 1] += torch.stack([differences, -differences])
        alone = linear(relu(linear(known, w["alone.w"], w["alone.b"])), w["alone_out.w"], w["alone_out.b"])
        return torch.cat(
            [whole[:, :, :2], whole[:, :, 2:].clamp(-5, 1), alone.unflatten(1, (2, -1)).unflatten(0, (2, -1))], dim=2
        )

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
        fine, coarse = oriented(self._front(crop[None], torch.from_numpy(points)[None]))
        other = points[_mirror_map()] * (-1, 1) + (crops.SIZE, 0)
        given = features(
            np.stack([points, other]), np.stack([self._scores(scores), self._scores(mirrored_scores(scores))])
        )
        with torch.inference_mode():
            both = self.outputs(fine, coarse, torch.from_numpy(given)[:, None])[:, 0].double().numpy()
        found = combine(both, self._w["calibration"].double().numpy(), self.left, self.right)
        return replace(found, identity=self._identity(coarse, torch.from_numpy(given), strangeness(found.doubt)))

    def _identity(self, coarse: Tensor, given: Tensor, strange: float) -> dict[str, IdentityReading]:
        """What is the same in the mirror image tells, of coarse maps ``(1, …)`` and features ``given (2, F)``.

        Every kind of render has a linear map of its own, and a share by how much the picture is like it: the mean of the
        mixture and its covariance. ``strange`` is what standard deviations are multiplied by; here it counts twice, because an
        identity is told by what renders look like more than an expression is.
        """
        w = self._w
        even = halves(coarse)[0][0] - w["even_mean"]
        seen = torch.cat([
            (given.mean(0) - w["identity.points_mean"]) @ w["identity.points"],
            even @ w["identity.pixels"],
        ])  # fmt: skip
        share = torch.softmax(seen @ w["identity.kind.w"] + w["identity.kind.b"], 0)
        found = {}
        for name in self._models:
            b = w[f"identity.{name}.b"]
            means = (seen @ w[f"identity.{name}.w"].unflatten(0, (len(b), -1))) + b  # (kinds, Ki)
            mean = share @ means
            apart = means - mean
            covariance = torch.einsum("k,kij->ij", share, w[f"identity.{name}.covariance"]) + (share * apart.T) @ apart
            found[name] = IdentityReading(
                mean.numpy(), strange**4 * covariance.double().numpy(), w[f"identity.{name}.lengths"].numpy()
            )
        return found

    def _scores(self, scores: Mapping[str, float]) -> np.ndarray:
        return np.array([scores.get(n, 0.0) for n in self.score_names], dtype=np.float32)


def sides(fine: Tensor, reach: int) -> Tensor:
    """``(2 B, 2 DIRECTIONS, H, reach)``: a side's half of the maps of :func:`.gradients.oriented`, ``reach`` columns wide, laid
    over the other side's, mirrored. First the left side's (at the picture's right) of all pictures, then the right side's."""
    both = torch.cat([fine, mirrored(fine)])[..., -reach:]
    return torch.cat([both, both.roll(len(fine), 0)], dim=1)


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
