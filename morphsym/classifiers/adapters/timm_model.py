"""Backend ``timm``: an architecture of PyTorch Image Models, with a checkpoint or weights from the hub."""

from __future__ import annotations

from pathlib import Path

import torch

from ...errors import ClassifierError, MissingDependencyError
from ..base import Network
from ..spec import ClassifierSpec
from .files import weights_path
from .torch_module import find_state, load_checkpoint, load_state, strip


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """``source`` is timm's model name (or ``hf-hub:owner/name``); ``weights.file`` a checkpoint, loaded strictly.

    Without ``weights.file`` timm fetches the pretrained weights of a ``hf-hub:`` name; a plain architecture without a
    checkpoint is refused, as its head would be random.
    """
    who = f"classifier {spec.id}"
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not fit this torch
        raise MissingDependencyError(
            f"{who}: needs timm, which needs a torchvision that fits the installed torch: pip install "
            f"'morphsym[timm]' ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from None
    from_hub = spec.source.startswith("hf-hub:") and not spec.weights.file
    if not from_hub and not spec.weights.file:
        raise ClassifierError(f"{who}: a timm model needs weights.file, or a source 'hf-hub:owner/name'")
    if not from_hub:
        path = weights_path(spec, folder)
    try:
        extra = {} if from_hub else {"num_classes": len(spec.labels)}
        network = timm.create_model(spec.source, pretrained=from_hub, **extra, **spec.factory_args)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ClassifierError(f"{who}: timm cannot build {spec.source!r} ({type(error).__name__}: {text})") from error
    if network.num_classes != len(spec.labels):
        raise ClassifierError(f"{who}: {spec.source} has {network.num_classes} classes for {len(spec.labels)} labels")
    if not from_hub:
        state = find_state(load_checkpoint(path, who, trust, spec.inert_globals), spec.state_key, who)
        load_state(network, strip(state, spec.state_prefix), who)
    return network.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
