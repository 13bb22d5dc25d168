"""A drawn face whose 68 landmarks are known exactly: no detector, no photo."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def landmarks(size: int = 224, batch: int = 1) -> Tensor:
    """(B, 68, 2): a frontal, mirror-symmetric face in the middle of a size² picture."""
    t = np.linspace(0, np.pi, 17)
    jaw = np.stack([-np.cos(t) * 0.5, np.sin(t) * 0.62 - 0.05], 1)
    brow = np.stack([np.linspace(-0.42, -0.12, 5), -0.33 + 0.05 * np.cos(np.linspace(-1, 1, 5) * 1.5) * -1], 1)
    nose = np.stack([np.zeros(4), np.linspace(-0.2, 0.08, 4)], 1)
    nostrils = np.stack([np.linspace(-0.1, 0.1, 5), [0.12, 0.14, 0.15, 0.14, 0.12]], 1)
    a = np.array([180, 240, 300, 0, 60, 120]) * np.pi / 180
    eye = np.stack([-0.25 + 0.09 * np.cos(a), -0.2 + 0.04 * np.sin(a)], 1)
    b = np.linspace(np.pi, 3 * np.pi, 13)[:12]
    lips = np.stack([0.2 * np.cos(b), 0.3 + 0.08 * np.sin(b)], 1)
    c = np.linspace(np.pi, 3 * np.pi, 9)[:8]
    inner = np.stack([0.15 * np.cos(c), 0.3 + 0.03 * np.sin(c)], 1)
    mirrored_eye = (eye * [-1, 1])[[3, 2, 1, 0, 5, 4]]
    points = np.concatenate([jaw, brow, (brow * [-1, 1])[::-1], nose, nostrils, eye, mirrored_eye, lips, inner])
    assert points.shape == (68, 2)
    out = points * size * 0.55 + size / 2
    return torch.from_numpy(out).float().repeat(batch, 1, 1)


MIRROR68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
"""New order of the 68 points of a mirrored picture."""


def picture(size: int = 224, batch: int = 1, seed: int = 0) -> Tensor:
    """(B, 3, size, size) smooth colourful noise in [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 16, 16, generator=g)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").clamp(0, 1)
