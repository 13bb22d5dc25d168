"""Backend ``python``: any callable from the preprocessed batch to scores."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ...errors import ClassifierError
from ..base import Network
from ..spec import ClassifierSpec
from .torch_module import resolve


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """``factory`` itself; or, where it is a class or ``factory_args`` are given, what it builds from them."""
    who = f"classifier {spec.id}"
    assert spec.factory is not None
    target = resolve(spec.factory, who, folder)
    if isinstance(target, type) or spec.factory_args:
        try:
            target = target(**spec.factory_args)
        except Exception as error:
            raise ClassifierError(f"{who}: {spec.factory} failed: {type(error).__name__}: {error}") from error
    if isinstance(target, nn.Module):
        return target.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
    if not callable(target):
        raise ClassifierError(f"{who}: {spec.factory} gave a {type(target).__name__}, expected a callable")
    return target
