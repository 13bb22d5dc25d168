"""Folds of the skin that go with the expression that made them.

A photo's nasolabial fold is in its pixels, and a warp only carries it along: a smile that is taken away would keep its fold.
Where a fold may lie, and how much of it an edit takes, is known from :mod:`morphsym.faces.furrows`. What is there is read
from the photo itself: a valley of each colour, the difference to its closing by a disk that is wider than a fold (folds are
redder than the skin about them, so brightness alone would leave a red line). The share of the valley that the edit takes
is filled. Where there is no valley nothing changes, so a fit that misses a fold by a millimetre draws no light line beside
it. Folds are never drawn or deepened.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, grey_closing
from skimage.morphology import disk
from torch import Tensor

from ..errors import RenderError
from . import photo_kernels as kernels
from .color import GREY

if TYPE_CHECKING:
    from ..faces import MorphableModel
    from ..faces.furrows import Furrows

RADIUS = 0.32
"""cm: of the disk; a valley twice as wide is skin, not a fold."""

SOFT = 0.06
"""cm: sigma that smooths the filled skin."""

DARKEST = (0.8, 1.3)
"""A valley that would have to be lightened by the first share counts less, by the second not at all: a nostril, a mole, a
hair. Folds of the skin are shallower."""

ZONE = 0.4
"""A furrow's depth, of one that is fully formed, from which all of a valley is taken for it."""

_WEIGHTS = np.array(GREY, np.float32)

_known: weakref.WeakKeyDictionary[MorphableModel, Furrows] = weakref.WeakKeyDictionary()


class Folds:
    """The folds of one :class:`morphsym.rendering.photos.PhotoScene`, whose expression is ``shown`` (Ks,)."""

    def __init__(
        self, model: MorphableModel, faces: np.ndarray, scene: Any, barycentric: np.ndarray, shown: Tensor
    ) -> None:
        from ..faces.furrows import furrows

        if model not in _known:
            _known[model] = furrows(model, folds_only=True)
        found = _known[model]
        self.photo = scene.photo
        self._fields = found.fields.cpu()
        self._shown = self._depth(shown.detach().cpu()[None])[0]
        self._rows, self._columns = np.nonzero(scene._photo_layer == kernels.FACE)
        place = np.full(model.n_vertices, -1)
        place[found.vertices] = np.arange(len(found.vertices))
        self._corners = place[faces[scene._photo_triangle[self._rows, self._columns]]]  # (P, 3), -1: no furrow
        self._barycentric = barycentric[self._rows, self._columns].astype(np.float32)
        self._lightening: np.ndarray | None = None
        self._scale = scene.pixels_per_cm

    def _depth(self, expressions: Tensor) -> np.ndarray:
        return (expressions @ self._fields).clamp(min=0).numpy()

    def flattened(self, expressions: Tensor | np.ndarray, batch: int) -> list[np.ndarray]:
        """For each of sided ``expressions`` (B, Ks) the photo (H, W, 3) without the folds that it has lost.

        It is the photo's own array where none is lost. Raises :class:`RenderError` on another shape."""
        rows = torch.as_tensor(expressions, dtype=torch.float32).detach().cpu()
        if tuple(rows.shape) != (batch, len(self._fields)):
            raise RenderError(f"expected expressions of shape {(batch, len(self._fields))}, got {tuple(rows.shape)}")
        return [self._without(depth) for depth in self._depth(rows)]

    def _without(self, depth: np.ndarray) -> np.ndarray:
        shown = self._shown
        lost = np.clip(1.0 - depth / np.maximum(shown, 1e-6), 0.0, 1.0) * np.clip(shown / ZONE, 0.0, 1.0)
        lost[lost < 1e-4] = 0.0  # the last bits of a product
        if not lost.any():
            return np.asarray(self.photo)
        padded = np.append(lost, 0.0).astype(np.float32)  # index -1
        share = (padded[self._corners] * self._barycentric).sum(1)
        if self._lightening is None:
            self._lightening = self._valleys()[self._rows, self._columns]
        out = self.photo.copy()
        out[self._rows, self._columns] += share[:, None] * self._lightening
        return np.asarray(out)

    def _valleys(self) -> np.ndarray:
        """(H, W, 3) float32: by how much each pixel would have to be lightened to fill its valley; 0 where it is none."""
        footprint = disk(max(2, round(RADIUS * self._scale)))[..., None]
        sigma = SOFT * self._scale
        around = gaussian_filter(grey_closing(self.photo, footprint=footprint), (sigma, sigma, 0))
        bright = self.photo @ _WEIGHTS
        share = (around @ _WEIGHTS) / np.maximum(bright, 1e-3) - 1.0
        low, high = DARKEST
        trust = np.clip((high - share) / (high - low), 0.0, 1.0)
        return np.asarray(np.maximum(around - self.photo, 0.0) * trust[..., None], np.float32)
