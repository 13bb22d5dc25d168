"""Pixels that a photo never showed: an eye that was shut, the inside of a mouth that was closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from . import photo_kernels as kernels
from .photo_layers import Layers

if TYPE_CHECKING:
    from ..faces import MorphableModel

APERTURES = (kernels.EYE_RIGHT, kernels.EYE_LEFT, kernels.MOUTH)

ENOUGH = {kernels.EYE_RIGHT: 0.5, kernels.EYE_LEFT: 0.5, kernels.MOUTH: 0.75}
LITTLE = {kernels.EYE_RIGHT: 0.2, kernels.EYE_LEFT: 0.2, kernels.MOUTH: 0.6}
"""Visible area in the photo over the area in the edit: above the first the photo's own pixels are stretched, below the
second all is filled, in between both are mixed. Teeth look wrong sooner than the white of an eye when stretched."""

SHADE = {kernels.EYE_RIGHT: 0.75, kernels.EYE_LEFT: 0.75, kernels.MOUTH: 0.55}
"""How much darker than skin in the same light: eyeballs lie under brow and lid, teeth and tongue in the mouth."""

SHADOW = {kernels.EYE_RIGHT: (0.45, 0.1), kernels.EYE_LEFT: (0.45, 0.1), kernels.MOUTH: (0.6, 0.25)}
"""The shadow of lids and lips on what lies behind them: its depth at their edge, and the cm in which it fades."""


class Filler:
    """Fills the apertures of counterfactuals of one :class:`morphsym.rendering.photos.PhotoScene`."""

    def __init__(self, model: MorphableModel, layers: Layers, scene: Any) -> None:
        self.layers, self.photo = layers, scene.photo
        seen = scene._photo_layer
        self.area = {a: int((seen == a).sum()) for a in APERTURES}
        self.near = max(2, round(0.9 * scene.pixels_per_cm))  # px, how far beside an aperture skin may be hidden
        self.rim = max(2, round(0.3 * scene.pixels_per_cm))  # px, the line of lashes about it
        self.lip = max(1, round(0.12 * scene.pixels_per_cm))  # px, where a fit that misses leaves a rim of teeth
        self.least = max(4.0, 0.02 * scene.pixels_per_cm**2)  # px: smaller apertures are left to the warp
        albedo = np.asarray(model.albedo, np.float32)
        face = seen == kernels.FACE
        corners = layers.faces[scene._photo_triangle[face]]
        # linear gain from painted skin to the photo's skin: the photo's light and exposure, seen on the skin
        gain = np.median(_linear(self.photo[face]), 0) / np.maximum(np.median(_linear(albedo[corners]), (0, 1)), 1e-3)
        self.light = np.clip(gain.mean() * np.array([1, 1, 1]) * 0.5 + 0.5 * gain, 0.05, 4.0)
        self.albedo = _linear(albedo)
        self.scale = scene.pixels_per_cm
        mirror = np.asarray(model.mirror)
        self.mirror_pixels = scene._fitted_pixels[mirror]  # (V, 2): where the mirror vertex is in the photo
        self.photo_layer = seen

    def weight(self, aperture: int, area: int) -> float:
        """How much of an aperture of ``area`` pixels in the edit is to be filled, 0 to 1."""
        if area <= self.least:
            return 0.0
        most, least = ENOUGH[aperture], LITTLE[aperture]
        return float(np.clip((most - self.area[aperture] / area) / (most - least), 0.0, 1.0))

    def apply(
        self,
        triangle: np.ndarray,
        barycentric: np.ndarray,
        layer: np.ndarray,
        hidden: np.ndarray,
        image: np.ndarray,
    ) -> None:
        """Fill ``image`` (3, H, W) in place where its apertures show what the photo does not.

        ``hidden`` (H, W) is skin that the photo does not show, as a lower lid under the upper one of a shut eye.
        """
        for aperture in APERTURES:
            inside = layer == aperture
            weight = self.weight(aperture, int(inside.sum()))
            if weight == 0:
                continue
            self._skin(inside, hidden, weight, image)
            rows, columns = np.nonzero(inside)
            corners = self.layers.faces[triangle[rows, columns]]
            b = barycentric[rows, columns][..., None]
            colour = _encode((self.albedo[corners] * b).sum(1) * self.light * SHADE[aperture])
            if aperture != kernels.MOUTH:
                other = kernels.EYE_LEFT if aperture == kernels.EYE_RIGHT else kernels.EYE_RIGHT
                if self.area[other] > self.least:
                    self._from_mirror(corners, b, other, colour)
            colour = self._soften(colour, inside, aperture)
            soft = kernels.blur(inside.astype(np.float32), 1)[rows, columns]
            edge = np.clip(2.0 * soft - 0.7, 0.0, 1.0)
            alpha = (weight * edge)[:, None]
            image[:, rows, columns] += ((colour - image[:, rows, columns].T) * alpha).T.astype(np.float32)

    def _soften(self, colour: np.ndarray, inside: np.ndarray, aperture: int) -> np.ndarray:
        """``colour`` (N, 3) of the pixels ``inside``, without the steps of single samples, in the shadow of the edge."""
        depth, width = SHADOW[aperture]
        picture = np.zeros((*inside.shape, 3), np.float32)
        picture[inside] = colour
        sigma = (0.7, 0.7, 0)
        share = gaussian_filter(inside.astype(np.float32), 0.7)[inside][:, None]
        distance = distance_transform_edt(inside)[inside] - 0.5
        dark = 1 - depth * np.exp(-distance / max(width * self.scale, 0.5))
        return gaussian_filter(picture, sigma)[inside] / np.maximum(share, 1e-3) * dark[:, None] ** (1 / 2.4)

    def _skin(self, inside: np.ndarray, hidden: np.ndarray, weight: float, image: np.ndarray) -> None:
        """Inpaint hidden skin beside an aperture smoothly from the skin around it."""
        near = binary_dilation(inside, iterations=self.near)
        gap = binary_dilation(hidden & near, iterations=self.rim) | binary_dilation(inside, iterations=self.lip)
        gap &= ~inside
        if not gap.any():
            return
        around = (~(gap | inside)).astype(np.float32)
        filled = np.ascontiguousarray(image.transpose(1, 2, 0))
        kernels.pull_push(filled, around, 5)
        kernels.relax(filled, around, 8)
        image[:, gap] += weight * (filled[gap].T - image[:, gap])

    def _from_mirror(self, corners: np.ndarray, b: np.ndarray, other: int, colour: np.ndarray) -> None:
        """Take the colours of pixels whose mirror point is seen in the photo from there."""
        points = (self.mirror_pixels[corners] * b).sum(1) - 0.5
        height, width = self.photo.shape[:2]
        x, y = np.rint(points).astype(int).T
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        seen &= self.photo_layer[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] == other
        colour[seen] = self.photo[y[seen], x[seen]]


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encode(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
