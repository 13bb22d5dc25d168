"""sRGB in one place (IEC 61966-2-1): light is added and averaged in linear RGB, pictures and albedos are encoded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TABLE_SIZE = 4096
"""Intervals of :func:`encode_table`; interpolating in it is within 2e-5 (1/200 of a grey level) of the formula."""


def srgb_to_linear(x: Tensor) -> Tensor:
    """sRGB-encoded values in [0, 1] -> linear light in [0, 1]; any shape, differentiable."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Linear light -> sRGB-encoded values in [0, 1]; light beyond [0, 1] is clipped. Any shape, differentiable."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def encode_table() -> np.ndarray:
    """``linear_to_srgb(i / TABLE_SIZE)`` for ``i`` in 0…TABLE_SIZE, and the last value once more; float32."""
    x = torch.arange(TABLE_SIZE + 2, dtype=torch.float64) / TABLE_SIZE
    return linear_to_srgb(x).float().numpy()
