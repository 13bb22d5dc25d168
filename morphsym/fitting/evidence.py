"""What a picture's residual says: how certain the pixels are, and how far their expression may be from the face's.

The noise, what neighbouring pixels share of it, and the loss that lets hands, hair and glasses go are of the picture. The
:func:`discrepancy` is of the coefficients: a model that cannot make a photo explains it best by an expression that the face does
not have, the more surely the more pixels there are, and no residual's noise tells that this is so. Only its size does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from .priors import REST_SIGMA
from .scene import Scene, Shot

ROBUST = 3.0
"""``k``: a pixel this many σ off pulls half as hard as a quadratic loss would let it."""

LEAST_TOGETHER = 6.0
"""Least ``c`` at the full size."""

WINDOW = 8
"""Errors of pixels farther apart than the view's size over this count as independent."""

LEAST_NOISE = 0.02
"""Least σ, sRGB units: five grey levels, of noise, JPEG and what the model of light leaves out."""

MADE = 3.4 / 255
"""What a picture may leave unexplained (:func:`misfit`, sRGB units) where the model can make the face. Refined renders leave 2.4
to 3.1 grey levels with the model that made them and 5.3 with the other one (medians of 48 renders with a seed of their own)."""


def spread_of(scene: Scene, shot: Shot, most: float = math.inf) -> tuple[float, float]:
    """σ (at most ``most``) of what a shape leaves unexplained, and how many neighbouring pixels err together.

    c is the sum of the residual's autocorrelation over a window: 1 for noise of single pixels, the area of a typical patch
    where the model lacks a shadow, a beard or a wrinkle. It keeps such patches from being taken for many independent witnesses.
    """
    residual = (scene.picture(shot) - scene.target)[shot.pixels]
    sigma = min(most, noise(residual))
    grid, mask = np.zeros(scene.size**2), np.zeros(scene.size**2)
    grid[shot.pixels] = residual.mean(1) * np.sqrt(robust(residual, sigma)[1])
    mask[shot.pixels] = 1
    n = 2 * scene.size
    f, m = (np.fft.rfft2(x.reshape(scene.size, -1), (n, n)) for x in (grid, mask))
    products, pairs = (np.fft.irfft2(np.abs(x) ** 2, (n, n)) for x in (f, m))
    reach = max(scene.size // WINDOW, 2)
    lag = np.abs(np.fft.fftfreq(n, 1 / n))
    near = (lag[:, None] ** 2 + lag[None] ** 2 <= reach**2) & (pairs > 0.5)
    together = float((products[near] / pairs[near]).sum() / (products[0, 0] / pairs[0, 0]))
    return sigma, max(together, LEAST_TOGETHER * (scene.size / 112) ** 2, 1.0)


def misfit(scene: Scene, shot: Shot) -> float:
    """What a shape leaves unexplained, sRGB units: mean absolute difference of pixels smoothed over 3 × 3.

    Neighbours share what the model lacks, but not the photo's noise.
    """
    residual, mask = np.zeros((scene.size**2, 3)), np.zeros((scene.size**2, 1))
    residual[shot.pixels], mask[shot.pixels] = (scene.picture(shot) - scene.target)[shot.pixels], 1.0
    summed, count = (
        uniform_filter(x.reshape(scene.size, scene.size, -1), (3, 3, 1), mode="constant").reshape(scene.size**2, -1)
        for x in (residual, mask)
    )
    return float(np.abs(summed[shot.pixels] / count[shot.pixels]).mean())


def discrepancy(left: float) -> float:
    """``D`` where a picture leaves so much unexplained (:func:`misfit`).

    0 up to :data:`MADE`. With twice its square the coefficients that make the picture are as far from the face's as if nothing
    were known of these: :data:`~.priors.REST_SIGMA`.
    """
    return REST_SIGMA * math.sqrt(max(0.0, (left / MADE) ** 2 - 1))


def displaced(matrix: Tensor, gradient: Tensor, of: slice, spread: float) -> tuple[Tensor, Tensor]:
    """Gauss–Newton matrix ``(P, P)`` and half the gradient ``(P,)`` of pixels that see the variables ``of`` displaced by ``u``.

    ``u ~ N(0, spread² I)`` is eliminated (Schur complement). The less ``spread`` is the less changes; with ∞ nothing is said of
    these variables.
    """
    if not spread:
        return matrix, gradient
    own = matrix[of, of] + torch.eye(len(gradient[of]), dtype=matrix.dtype) / spread**2
    solved = torch.linalg.solve(own, torch.cat([matrix[of], gradient[of, None]], 1))
    return matrix - matrix[:, of] @ solved[:, :-1], gradient - matrix[:, of] @ solved[:, -1]


def apart(matrix: Tensor, gradient: Tensor, of: slice, moved: Tensor, free: slice) -> tuple[Tensor, Tensor]:
    """Landmarks' equations ``(P, P)``, ``(P,)`` as two witnesses: of the variables ``of`` (K of them), and of all others.

    The first says where they were, ``moved (K,)`` ago, with the precision that is left when those of the others that are ``free``
    are eliminated.
    """
    others = torch.zeros(len(gradient), dtype=torch.bool)
    others[free], others[of] = True, False
    gone = others.nonzero()[:, 0]
    cross = matrix[of][:, gone]
    own = matrix[of, of] - cross @ torch.linalg.solve(matrix[gone][:, gone], cross.T)
    matrix, gradient = matrix.clone(), gradient.clone()
    matrix[of], matrix[:, of] = 0.0, 0.0
    matrix[of, of], gradient[of] = own, own @ moved
    return matrix, gradient


def noise(residual: np.ndarray) -> float:
    """σ of residuals (n, 3): from the median, which occlusion does not move; at least :data:`LEAST_NOISE`."""
    return max(LEAST_NOISE, 1.24 * float(np.median(np.sqrt((residual**2).mean(1)))))


def robust(residual: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Geman–McClure's loss (n,) of residuals (n, 3), and the weights of the reweighted least squares."""
    s = (residual**2).sum(1) / (3 * sigma**2)
    return s / (1 + s / ROBUST**2), 1 / (1 + s / ROBUST**2) ** 2
