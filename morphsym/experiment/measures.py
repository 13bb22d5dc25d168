"""What an edit did to the *picture*: how symmetric the face looks, and how far the picture is from the baseline's.

Both are read from one square crop a unit, upright on the unit's own landmarks (the crop's anchor, which is the same for
all arms), so the edit cannot move the window that measures it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..rendering.color import GREY

SIZE = 64  # pixels of the crop's side
WINDOW = 7  # pixels of the sliding window of the structural similarity
_WIDTH = 2.4  # side of the crop over the larger of the distances eye to eye and eyes to mouth


def face_crop(images: Tensor, landmarks: Tensor, size: int = SIZE) -> np.ndarray:
    """Grey crops (n, size, size) float64 in [0, 1] of ``images`` (n, 3, H, W) of one scene, whose face has ``landmarks``
    (68, 2) in pixels: eyes level, the midline between the eyes and the mouth in the middle."""
    height, width = images.shape[-2:]
    points = landmarks.double().cpu()
    right, left = points[36:42].mean(0), points[42:48].mean(0)
    eyes, mouth = (right + left) / 2, points[48:68].mean(0)
    across = functional.normalize(left - right, dim=0)  # to the right of the picture
    down = torch.stack([-across[1], across[0]])
    half = _WIDTH / 2 * torch.maximum((left - right).norm(), (mouth - eyes).norm())
    centre = eyes + ((mouth - eyes) @ down) / 2 * down
    steps = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    at = centre + half * (x[..., None] * across + y[..., None] * down)
    grid = (2 * at / torch.tensor([width, height], dtype=torch.float64) - 1).float()
    # one "channel" a picture and colour, so that the places are looked up once for all
    stack = images.detach().cpu().reshape(1, -1, height, width)
    found = functional.grid_sample(stack, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return np.asarray(found.reshape(-1, 3, size, size).double().numpy().transpose(0, 2, 3, 1) @ np.array(GREY))


def _means(x: np.ndarray) -> np.ndarray:
    """Means over all windows of (n, H, W): sums are differences of cumulative sums."""
    for axis in (1, 2):
        total = np.cumsum(x, axis=axis)
        zero = np.zeros_like(np.take(total, [0], axis=axis))
        total = np.concatenate([zero, total], axis=axis)
        n = total.shape[axis]
        x = np.take(total, range(WINDOW, n), axis=axis) - np.take(total, range(n - WINDOW), axis=axis)
    return x / WINDOW**2


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean structural similarity (n,) of grey pictures (n, H, W) in [0, 1] (Wang et al. 2004, IEEE TIP 13:600; a uniform
    window of 7 pixels, K1 = 0.01, K2 = 0.03): that of ``skimage.metrics.structural_similarity``."""
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    ma, mb = _means(a), _means(b)
    both = unbiased * (_means(a * a) + _means(b * b) - ma**2 - mb**2)
    together = unbiased * (_means(a * b) - ma * mb)
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * ma * mb + c1) * (2 * together + c2) / ((ma**2 + mb**2 + c1) * (both + c2))
    return np.asarray(found.mean(axis=(1, 2)))


def picture_measures(images: Tensor, landmarks: Tensor, baseline: int | None) -> tuple[np.ndarray, np.ndarray]:
    """``mirror_ssim`` (n,) in [−1, 1] and ``image_change`` (n,) in [0, 1] of ``images`` (n, 3, H, W) of one unit.

    The first is the structural similarity of each crop with its mirror image: 1 for a symmetric picture. The second is
    the mean absolute difference of the crop from that of the picture ``baseline``; NaN without one. Mirrored pictures
    are left to their originals: their symmetry is the same.
    """
    crops = face_crop(images, landmarks)
    change = np.full(len(crops), np.nan)
    if baseline is not None:
        change = np.abs(crops - crops[baseline]).mean(axis=(1, 2))
    return similarity(crops, crops[:, :, ::-1]), change
