"""Backend ``torchscript``: a scripted or traced network in one file."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from ...errors import ClassifierError
from ..base import Network
from ..spec import ClassifierSpec
from .files import weights_path


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """The network of a ``torchscript`` spec, in evaluation mode. Such a file holds TorchScript, not Python pickles."""
    path = weights_path(spec, folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # torch.export is not meant for files that exist already
            network = torch.jit.load(str(path), map_location=device)
    except Exception as error:  # RuntimeError and others, depending on where the file breaks
        text = " ".join(str(error).split())[:200]
        raise ClassifierError(f"classifier {spec.id}: {path} is not a readable TorchScript file ({text})") from None
    return network.eval()
