"""Lids that an edit shuts over an eye that the photo shows open.

The photo hides most of an upper lid in its fold. Carrying along what it shows stretches a rim of lashes and shadow over
the whole eye. The lid is instead made from what is there: the colour of the skin around the eye, continued smoothly,
with the model's own tint of lid and lash line, and with the grain of the cheek below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, binary_opening, gaussian_filter

from . import photo_kernels as kernels

OPEN, SHUT = 0.35, 0.75
"""Share of an eye's visible area that an edit covers: up to the first the warp is good, from the second on the lid is
made anew, in between both are mixed."""

STRETCH = 0.4
"""Photo area a pixel area of the edit from which below skin counts as smeared."""

LASHES = 0.06
"""Lash line over skin, linear light."""

GRAIN = 0.05
"""Largest deviation of the grain from its mean, sRGB."""


class Lids:
    """Shuts eyes in counterfactuals of one :class:`morphsym.rendering.photos.PhotoScene`."""

    def __init__(self, faces: np.ndarray, albedo: np.ndarray, scene: Any) -> None:
        self.faces, self.albedo = faces, albedo  # linear
        self.photo_layer, self.scale = scene._photo_layer, scene.pixels_per_cm
        self.area = {e: int((self.photo_layer == e).sum()) for e in (kernels.EYE_RIGHT, kernels.EYE_LEFT)}

    def weight(self, eye: int, area: int) -> float:
        """How much of the lid is to be made anew, 0 to 1, where ``area`` pixels of the eye stay visible."""
        if self.area[eye] < 4:
            return 0.0
        return float(np.clip((1 - area / self.area[eye] - OPEN) / (SHUT - OPEN), 0.0, 1.0))

    def apply(
        self,
        triangle: np.ndarray,
        barycentric: np.ndarray,
        layer: np.ndarray,
        field: np.ndarray,
        image: np.ndarray,
    ) -> None:
        """Repair ``image`` (3, H, W) in place; ``field`` (H, W, 2) is the warp that made it."""
        for eye in self.area:
            weight = self.weight(eye, int((layer == eye).sum()))
            if weight > 0:
                self._shut(eye, weight, triangle, barycentric, layer, field, image)

    def _shut(
        self,
        eye: int,
        weight: float,
        triangle: np.ndarray,
        barycentric: np.ndarray,
        layer: np.ndarray,
        field: np.ndarray,
        image: np.ndarray,
    ) -> None:
        def px(cm: float) -> int:
            return max(1, round(cm * self.scale))

        eyeball = self.photo_layer == eye
        # what is left of the eye between the lids: a line, drawn as lashes
        slit = (layer == eye) & ~binary_opening(layer == eye, iterations=px(0.08))
        face = (layer == kernels.FACE) | slit
        swept = eyeball & face
        if not swept.any():
            return
        near = binary_dilation(eyeball, iterations=px(0.6))
        # area in the photo of a pixel of the picture: the determinant of the warp's derivative
        (xy, xx), (yy, yx) = np.gradient(field[..., 0]), np.gradient(field[..., 1])
        smeared = (1 + xx) * (1 + yy) - xy * yx < STRETCH
        core = binary_dilation(swept, iterations=px(0.2))  # with the lashes of both lids
        region = binary_closing(core | (smeared & near), iterations=px(0.3)) & face
        picture = np.ascontiguousarray(image.transpose(1, 2, 0))
        skin = picture.copy()
        around = self._skin(region, core, image.mean(0), face, px).astype(np.float32)
        kernels.pull_push(skin, around, 6)
        kernels.relax(skin, around, 12)
        skin = skin + self._grain(skin, px(1.2))
        tint = self._tint(triangle, barycentric, region, core, slit)
        alpha = (
            weight * np.clip(2 * kernels.blur(region.astype(np.float32), px(0.06)) - 0.5, 0, 1) * face
        )  # soft at the border
        made = np.clip(skin * tint, 0, 1)
        image += (alpha[..., None] * (made - picture)).transpose(2, 0, 1)

    def _skin(
        self, region: np.ndarray, core: np.ndarray, grey: np.ndarray, face: np.ndarray, px: Callable[[float], int]
    ) -> np.ndarray:
        """(H, W) bool: skin that can be continued over the lid; no brows, lashes or highlights.

        The measure is the skin below the eye, which has neither.
        """
        below = np.zeros_like(core)
        for down in (px(0.7), px(1.0), px(1.3)):
            below[down:] |= core[:-down]
        below &= face & ~region
        usual = float(np.median(grey[below if below.any() else face & ~region]))
        apart = ~binary_dilation(region, iterations=px(0.06))  # the border itself is smeared a little
        good: np.ndarray = face & apart & (grey > 0.8 * usual) & (grey < 1.25 * usual)
        return good

    def _tint(
        self, triangle: np.ndarray, barycentric: np.ndarray, region: np.ndarray, core: np.ndarray, slit: np.ndarray
    ) -> np.ndarray:
        """The model's own colour of the lid over that of its skin, and lashes in the slit, (H, W, 3), for sRGB."""
        rows, columns = np.nonzero(region & ~slit)
        corners = self.faces[triangle[rows, columns]]
        own = (self.albedo[corners] * barycentric[rows, columns][..., None]).sum(1)
        tint = np.ones((*region.shape, 3), np.float32)
        if len(own):
            tint[rows, columns] = np.clip(own / np.maximum(np.median(own, 0), 1e-3), 0.1, 1.0)
        where = gaussian_filter(core.astype(np.float32), 0.05 * self.scale)[..., None]
        tint = 1 + where * (tint - 1)
        tint[slit & region] = LASHES
        smooth: np.ndarray = gaussian_filter(tint, (0.7, 0.7, 0)) ** (1 / 2.4)
        return smooth

    def _grain(self, skin: np.ndarray, down: int) -> np.ndarray:
        """Fine structure (H, W, 3) of the skin ``down`` rows below; ``skin`` is continued over lashes and brows."""
        sigma = max(1.0, 0.06 * self.scale)
        fine = np.clip(skin - gaussian_filter(skin, (sigma, sigma, 0)), -GRAIN, GRAIN)
        moved = np.zeros_like(fine)
        moved[: len(fine) - down] = fine[down:]
        return moved
