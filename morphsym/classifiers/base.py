"""The one contract of all classifiers: pictures and landmarks in, float32 logits out, everything checked.

An adapter brings a ``network``: any callable from the preprocessed batch to whatever it returns. What it returns is
looked at here, in one place, so that no adapter can let a wrong number through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ClassifierError
from .preprocess import check_images, preprocess
from .spec import ClassifierSpec

Network = Callable[[Tensor], Any]

TINY = float(np.finfo(np.float32).tiny)
"""Below this a float32 softmax has underflowed; its logarithm is taken here (−87.3) and no lower."""


class NoFaceFound(ClassifierError):
    """A classifier that brings its own detector found no face in the *rendered* picture: an outcome of its own.

    Adapters and users' callables raise it; the runner records its text as the reason of that condition.
    """

    def __init__(self, classifier: str) -> None:
        super().__init__(f"classifier {classifier}: its own detector found no face")


class Classifier:
    """A classifier that is ready to run. ``spec`` says what it is; calling it gives (B, labels) float32 logits.

    Images are (B, 3, H, W) float32 sRGB in [0, 1]; landmarks are the unit's 68 points in pixels of those images. Work
    is split into batches of ``spec.batch_limit``. Probabilities are returned as centred log-probabilities.
    """

    def __init__(self, spec: ClassifierSpec, network: Network, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self.network = network
        self.device = torch.device(device)

    def __repr__(self) -> str:
        return f"Classifier({self.spec.id!r}, backend={self.spec.backend!r}, device='{self.device}')"

    @torch.inference_mode()
    def __call__(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """(B, labels) float32 logits on the CPU or device of the classifier. See :class:`Classifier`."""
        check_images(images, landmarks)
        out = []
        for start in range(0, len(images), self.spec.batch_limit):
            stop = start + self.spec.batch_limit
            batch = images[start:stop].to(self.device)
            out.append(self.from_input(preprocess(batch, landmarks[start:stop].to(self.device), self.spec)))
        return torch.cat(out) if out else torch.empty(0, len(self.spec.labels), device=self.device)

    @torch.inference_mode()
    def from_input(self, x: Tensor) -> Tensor:
        """Logits from an already preprocessed batch (at most ``batch_limit``), checked."""
        try:
            with exact_convolutions(self.device):
                raw = self.network(x)
        except ClassifierError:
            raise
        except Exception as error:  # anybody's code runs in there; its own words are the best reason
            raise ClassifierError(
                f"classifier {self.spec.id}: failed on a batch of shape {tuple(x.shape)}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            ) from error
        return checked_logits(raw, self.spec, len(x)).to(self.device)

    def with_crop_margin(self, factor: float) -> Classifier:
        """The same network shown ``factor`` times as much of the face; the id gets ``@factor``."""
        return Classifier(self.spec.with_crop_margin(factor), self.network, self.device)


def exact_convolutions(device: torch.device) -> AbstractContextManager[Any]:
    """On CUDA: convolutions in full float32 and by repeatable algorithms, restored afterwards; elsewhere nothing.

    cuDNN's default rounds convolutions' inputs to TF32 (10 bits), which moves probabilities by some 1e-3.
    """
    if device.type != "cuda":
        return nullcontext()
    flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def checked_logits(raw: Any, spec: ClassifierSpec, batch: int) -> Tensor:
    """``raw`` as finite (B, labels) float32 logits; :class:`ClassifierError` naming the classifier otherwise."""
    who = f"classifier {spec.id}"
    value = raw
    for step in spec.output.select:
        value = _select(value, step, who)
    if isinstance(value, (tuple, list)):
        raise ClassifierError(
            f"{who}: gave a {type(value).__name__} of {len(value)}; say which one with output.select: "
            f"0 to {len(value) - 1}"
        )
    if isinstance(value, Mapping):
        raise ClassifierError(f"{who}: gave a dict with keys {list(value)[:8]}; say which one with output.select: KEY")
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise ClassifierError(f"{who}: gave a {type(value).__name__}; expected a ({batch}, {len(spec.labels)}) array")
    if value.dtype not in (torch.float32, torch.float64):
        raise ClassifierError(
            f"{who}: gave {str(value.dtype).removeprefix('torch.')}; expected float32 (half precision moves "
            "probabilities by up to 0.006; integers are not scores)"
        )
    expected = (batch, len(spec.labels))
    if tuple(value.shape) != expected:
        raise ClassifierError(f"{who}: gave shape {tuple(value.shape)}, expected {expected}{_why(value, expected)}")
    value = value.detach().to(torch.float32)
    finite = torch.isfinite(value)
    if spec.output.kind == "log_probabilities":
        finite |= value == -torch.inf  # an underflowed log-softmax
    if not bool(finite.all()):
        row, column = (~finite).nonzero()[0].tolist()
        raise ClassifierError(
            f"{who}: gave {value[row, column].item()} for label {spec.labels[column]!r} of image {row} of the batch"
        )
    return value if spec.output.kind == "logits" else _from_probabilities(value, spec, who)


def _select(value: Any, step: Any, who: str) -> Any:
    try:
        if isinstance(step, tuple):
            return value[..., step[0] : step[1]]
        if isinstance(step, int):
            return value[step]
        return value[step] if isinstance(value, Mapping) else getattr(value, step)
    except (KeyError, IndexError, AttributeError, TypeError):
        have = f"keys {list(value)[:8]}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
        raise ClassifierError(f"{who}: output.select {step!r} does not fit what it gave ({have})") from None


def _why(value: Tensor, expected: tuple[int, int]) -> str:
    shape = tuple(value.shape)
    if value.ndim == 2 and shape[0] == expected[0]:
        return f": {shape[1]} scores for {expected[1]} labels"
    if shape == expected[1:] or (value.ndim >= 1 and expected[0] > 1 and shape[0] == 1):
        return ": it lost the batch dimension"
    return ""


def _from_probabilities(value: Tensor, spec: ClassifierSpec, who: str) -> Tensor:
    if spec.output.kind == "log_probabilities":
        p, log_p = value.exp(), value.clamp_min(float(np.log(TINY)))
    else:
        if float(value.amin()) < 0:
            raise ClassifierError(f"{who}: output.kind is probabilities, but it gave negative values; are they logits?")
        p, log_p = value, value.clamp_min(TINY).log()
    error = (p.sum(1) - 1).abs()
    if float(error.amax()) > 1e-3:
        row = int(error.argmax())
        raise ClassifierError(
            f"{who}: output.kind is {spec.output.kind}, but the row of image {row} sums to {float(p[row].sum()):.4g}"
        )
    return log_p - log_p.mean(1, keepdim=True)
