"""sRGB in one place (IEC 61966-2-1): light is added and averaged in linear RGB, pictures and albedos are encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
"""Weights of R, G and B (ITU-R BT.601) in the grey of an sRGB-encoded picture."""

TABLE_SIZE = 4096
"""Intervals of :func:`encode_table`; interpolating in it is within 2e-5 (1/200 of a grey level) of the formula."""


def srgb_to_linear(x: Tensor) -> Tensor:
    """sRGB-encoded values in [0, 1] -> linear light in [0, 1]; any shape, differentiable."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Linear light -> sRGB-encoded values in [0, 1]; light beyond [0, 1] is clipped. Any shape, differentiable."""
    return _Encode.apply(x)


class _Encode(torch.autograd.Function):
    """The slope comes from the encoded value, which saves the power that torch would raise once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        light = x.clamp(0, 1)
        y = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        slope = torch.where(x <= 0.0031308, 12.92, (y + 0.055) / (2.4 * x))
        return torch.where((x >= 0) & (x <= 1), gradients[0] * slope, 0.0)


def encode_table() -> np.ndarray:
    """``linear_to_srgb(i / TABLE_SIZE)`` for ``i`` in 0…TABLE_SIZE, and the last value once more; float32."""
    x = torch.arange(TABLE_SIZE + 2, dtype=torch.float64) / TABLE_SIZE
    return linear_to_srgb(x).float().numpy()
