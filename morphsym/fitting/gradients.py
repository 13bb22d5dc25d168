"""What the readout looks at: how much of every edge direction there is, place by place, in a frontal picture of the face.

Histograms of oriented gradients (Dalal & Triggs 2005) in two sizes of cells. They do not change with brightness, contrast and
slow shadows, and a brow or a corner of the mouth that lies elsewhere moves weight from one cell to the next: what a linear map
can tell from them is already most of what can be told. Directions are signed, and the maps of the mirror image are the
mirrored maps (:func:`mirrored`), so that what the left half has more than the right half is exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

LOCAL = 17
"""Side of the window over which contrast is normalised, pixels."""

DIRECTIONS = 8
"""Signed directions of the gradient: multiples of 45°; even, so that the mirror image has the same."""


def oriented(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures ``grey (B, H, W)`` to maps ``(B, DIRECTIONS, H / 2, W / 2)`` and ``(B, DIRECTIONS, H / 4, W / 4)``.

    H and W are multiples of 4. Cells of 2 pixels; cells of 4 pixels that reach 2 into their neighbours.
    """
    x = _contrast(grey)
    gx = _between(pad(x, (1, 1, 0, 0), mode="replicate"), 3)
    gy = _between(pad(x, (0, 0, 1, 1), mode="replicate"), 2)
    size = (gx * gx + gy * gy + 1e-4).sqrt()
    turn = torch.arange(DIRECTIONS, dtype=grey.dtype) * (2 * math.pi / DIRECTIONS)
    along = torch.relu(gx * turn.cos()[:, None, None] + gy * turn.sin()[:, None, None])
    fine = avg_pool2d(along.square().div(size), 2)  # soft: a gradient counts with its cosine squared
    coarse = (avg_pool2d(pad(fine, (1, 1, 1, 1), mode="replicate"), 4, 2) + avg_pool2d(fine, 2)) / 2
    return _normalised(fine), _normalised(coarse)


def mirrored(maps: Tensor) -> Tensor:
    """The maps ``(B, DIRECTIONS, H, W)`` of the mirror image."""
    return maps.flip(3)[:, [(DIRECTIONS // 2 - k) % DIRECTIONS for k in range(DIRECTIONS)]]


def halves(maps: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, DIRECTIONS, H, W)`` to ``(B, DIRECTIONS H W / 2)`` twice: the mean of the left and the mirrored right half, and
    half their difference."""
    other, half = mirrored(maps), maps.shape[3] // 2
    return ((maps + other) / 2)[..., :half].flatten(1), ((maps - other) / 2)[..., :half].flatten(1)


def _between(x: Tensor, axis: int) -> Tensor:
    """Central differences along an axis that was made longer by one at both ends."""
    n = x.shape[axis]
    return (x.narrow(axis, 2, n - 2) - x.narrow(axis, 0, n - 2)) / 2


def _contrast(grey: Tensor) -> Tensor:
    """``(B, 1, H, W)``: differences from the mean of a window, in its standard deviations."""
    x = grey[:, None]
    x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 4.0)
    mean = _window_mean(x)
    spread = (_window_mean(x * x) - mean * mean).clamp(min=0).sqrt()
    return (x - mean) / (spread + 0.15)


def _window_mean(x: Tensor) -> Tensor:
    """The mean over :data:`LOCAL` × :data:`LOCAL` pixels, those that there are; rows, then columns."""
    half = LOCAL // 2
    rows = avg_pool2d(x, (LOCAL, 1), 1, (half, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, LOCAL), 1, (0, half), count_include_pad=False)


def _normalised(maps: Tensor) -> Tensor:
    """By how much there is of all directions in the cell and its neighbours."""
    around = avg_pool2d(maps.sum(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    return maps / (2 * around / DIRECTIONS + 0.05)
