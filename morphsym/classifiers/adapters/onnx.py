"""Backend ``onnx``: ONNX Runtime, on the CPU or, where its CUDA provider is installed, on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ClassifierError, MissingDependencyError
from ..base import Network
from ..spec import ClassifierSpec
from .files import weights_path


class OnnxNetwork:
    """One session. Gives the only output as a tensor, or all outputs by name.

    A file exported with a fixed batch of one is run image by image; one with another fixed batch is refused on loading.
    """

    def __init__(self, session: Any, batch: int | None) -> None:
        self.session = session
        self.batch = batch
        self.input = session.get_inputs()[0].name
        self.outputs = [o.name for o in session.get_outputs()]

    def __call__(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        array = x.cpu().numpy()
        parts = [array] if self.batch is None else [array[i : i + 1] for i in range(len(array))]
        runs = [self.session.run(None, {self.input: part}) for part in parts]
        joined = [torch.cat([torch.from_numpy(run[i]) for run in runs]) for i in range(len(self.outputs))]
        return joined[0] if len(joined) == 1 else dict(zip(self.outputs, joined, strict=True))


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """The session of an ``onnx`` spec, its input checked against the spec's size, channels and layout."""
    who = f"classifier {spec.id}"
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            f"{who}: needs ONNX Runtime: pip install 'morphsym[onnx]' (or onnxruntime-gpu for CUDA)"
        ) from None
    path = weights_path(spec, folder)
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider",) if device.type == "cuda" and p in available]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own family of exceptions
        text = " ".join(str(error).split())[:200]
        raise ClassifierError(f"{who}: {path} is not a usable ONNX file ({text})") from None
    inputs = list(session.get_inputs())
    if len(inputs) != 1:
        raise ClassifierError(f"{who}: {path.name} has {len(inputs)} inputs ({[i.name for i in inputs]}); expected one")
    if inputs[0].type != "tensor(float)":
        raise ClassifierError(f"{who}: {path.name} expects {inputs[0].type}, morphsym gives float32: export it so")
    return OnnxNetwork(session, _check_shape(list(inputs[0].shape), spec, f"{who}: {path.name}"))


def _check_shape(shape: list[Any], spec: ClassifierSpec, who: str) -> int | None:
    """1 where the batch is fixed to one, None where free; :class:`ClassifierError` where the input does not fit."""
    h, w = spec.input_size
    c = spec.input_channels
    wanted = (h, w, c) if spec.layout == "NHWC" else (c, h, w)
    given = tuple(shape[1:])
    if len(shape) != 4 or any(isinstance(g, int) and g != v for g, v in zip(given, wanted, strict=False)):
        raise ClassifierError(
            f"{who} expects an input of shape {tuple(shape)}, the specification gives {('B', *wanted)}; "
            "see input_size, channels, layout"
        )
    if isinstance(shape[0], int):
        if shape[0] != 1:
            raise ClassifierError(
                f"{who} was exported for batches of exactly {shape[0]}; export it with a dynamic batch dimension"
            )
        return 1
    return None
