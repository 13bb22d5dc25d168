"""The deterministic rule by which parameters and inputs are filled for parity with the official implementations.

Each array of the state dict is filled from ``numpy.random.RandomState`` (a stream that numpy keeps for ever) seeded
with the CRC-32 of its name; u is uniform on [−1, 1), in the array's C order:

- ``…running_var``: 1 + 0.2 |u|; ``…running_mean``: 0.1 u; ``…bias``: 0.1 u; integers stay as built;
- one-dimensional ``…weight`` (norms, PReLU): 1 + 0.2 u; other one-dimensional arrays: 0.5 + 0.2 u;
- all others: u · sqrt(3 / fan_in), fan_in the product of all but the first dimension.

Inputs: u of shape (2, C, H, W) from ``RandomState(7)``, in the network's own normalised range.
"""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import torch


def fill(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``state`` with every floating-point array filled by the rule."""
    out = {}
    for name, value in state.items():
        if not value.dtype.is_floating_point:
            out[name] = value
            continue
        shape = tuple(value.shape)
        u = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape).astype(np.float32) * 2 - 1
        if name.endswith("running_var"):
            u = 1 + 0.2 * np.abs(u)
        elif name.endswith(("running_mean", "bias")):
            u = 0.1 * u
        elif len(shape) == 1:
            u = (1.0 if name.endswith("weight") else 0.5) + 0.2 * u
        else:
            u = u * np.sqrt(3 / max(1, int(np.prod(shape[1:]))))
        out[name] = torch.from_numpy(np.asarray(u, np.float32).reshape(shape))
    return out


def inputs(channels: int, size: int) -> torch.Tensor:
    """(2, channels, size, size) float32 in [−1, 1)."""
    return torch.from_numpy(
        np.random.RandomState(7).random_sample((2, channels, size, size)).astype(np.float32) * 2 - 1
    )


def layout(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the sorted lines ``name shape``: equal exactly when all keys and shapes are."""
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
