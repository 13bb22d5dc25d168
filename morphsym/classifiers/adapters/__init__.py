"""One file a backend: each turns a spec into a callable from the preprocessed batch to whatever the network returns."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from ..base import Network
from ..spec import ClassifierSpec

_MODULES = {
    "torch": "torch_module",
    "torchscript": "torchscript",
    "onnx": "onnx",
    "keras": "keras_hdf5",
    "timm": "timm_model",
    "transformers": "transformers_model",
    "python": "python_callable",
    "http": "http",
}


def build_network(
    spec: ClassifierSpec, device: torch.device, folder: Path | None = None, trust: bool = False
) -> Network:
    """The network of ``spec`` on ``device``; relative paths are looked up in ``folder``. Packages load on use."""
    module = importlib.import_module(f".{_MODULES[spec.backend]}", __name__)
    network: Network = module.load(spec, device, folder, trust)
    return network
