"""Photo counterfactuals: the photo's own pixels carried along by an edited mesh.

A counterfactual is a *backward warp* of the photo: every pixel of the edited picture looks up where the fitted mesh
shows the same point of the skin. Where nothing moved the warp is exactly zero and the pixel is the photo's own, so
strength 0 gives the photo. Beside the moved skin (the background at an outline, the neck, teeth, eyeballs) the warp is
continued smoothly and fades out, so nothing is torn, doubled or left grey; what a photo never showed (an eye that was
shut, a closed mouth that opens) is filled from the mirror side or from the model's own parts. See
``docs/design/photos.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..errors import InputError, RenderError
from ..types import Cameras, FaceFit, Unit
from . import cameras as cams
from . import photo_fill, photo_folds, photo_lids
from . import photo_kernels as kernels
from .backends._compile import run
from .photo_layers import layers, register
from .render import rasterize

if TYPE_CHECKING:
    from ..faces import MorphableModel

VIEW = 1.7
"""Side of the working image over the longer side of the landmarks' box."""

MAX_SIZE = 512

TOLERANCE = 0.1
"""cm: how far behind the photo's front surface a point still counts as seen."""

LEAST = 0.02
"""Pixels: shorter displacements leave the pixel untouched."""

RIM = 0.2
"""cm: width of the face's rim, which follows the skin further inside."""

SWEEPS = 6
"""Of Laplace's equation, after a pyramid has given the warp beside the face its large shape."""

ONE_SIDED = 0.05
"""An edit that moves one half less than this share of the other is an edit of the other half."""

REACH_OUT, REACH_EYE, REACH_MOUTH = 1.0, 0.12, 0.22
"""cm: sigma with which the warp fades out beside the face, on the eyeballs and on the teeth."""


class PhotoImages(NamedTuple):
    """What :meth:`PhotoScene.render` gives."""

    images: Tensor  # (B, 3, H, W) float32 in [0, 1], sRGB
    coverage: np.ndarray  # (B,) float32, share of the pixels that the mesh covers
    leak: np.ndarray  # (B,) float32 in [0, 1], largest change of a pixel outside the edit's reach


@dataclass(frozen=True, eq=False)
class Leak:
    """Change outside the reach of an edit, per image, in [0, 1]."""

    largest: np.ndarray  # (B,) float32
    mean: np.ndarray  # (B,) float32, over the pixels outside the reach and the channels
    pixels: np.ndarray  # (B,) int64, how many pixels lie outside


def working_view(photo: Any, fit: FaceFit, size: int = 320) -> tuple[np.ndarray, Cameras]:
    """The square of the photo around a fitted face, resampled, and the camera that sees it.

    ``photo`` is a :class:`morphsym.fitting.images.Photo` or an array (H, W, 3) uint8. The square's side is
    :data:`VIEW` times the longer side of the landmarks' box; beyond the photo's border its edge pixels are repeated.
    Returns (size, size, 3) uint8, antialiased (Lanczos), and :class:`Cameras` with B = 1 in its pixels. ``size`` is at
    most 512. Raises :class:`InputError` where the fit is not of this photo.
    """
    pixels = np.asarray(getattr(photo, "pixels", photo))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise InputError(f"expected a photo of shape (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    if pixels.shape[:2] != (fit.height, fit.width):
        raise InputError(
            f"the fit {fit.name!r} belongs to a photo of {fit.width}×{fit.height} pixels, this one has "
            f"{pixels.shape[1]}×{pixels.shape[0]}; fit it again"
        )
    if not 1 <= size <= MAX_SIZE:
        raise InputError(f"the working size must be 1 to {MAX_SIZE} pixels, got {size}")
    marks = np.asarray(fit.landmarks, np.float64)
    if marks.shape != (68, 2) or not np.isfinite(marks).all():
        raise InputError(f"the fit {fit.name!r} has no 68 finite landmarks; fit the photo again")
    low, high = marks.min(0), marks.max(0)
    side = VIEW * float((high - low).max())
    if side < 8:
        raise InputError(f"the face of fit {fit.name!r} is only {side / VIEW:.1f} pixels large")
    # landmarks end at the brows: the forehead asks for a centre a little above theirs
    x0, y0 = (low + high) / 2 - side / 2 - [0, 0.06 * side]
    # Only what is needed, plus the Lanczos filter's support, is cut out of the photo (which may be huge) and padded.
    margin = int(np.ceil(3 * max(1.0, side / size))) + 1
    left, top = int(np.floor(x0)) - margin, int(np.floor(y0)) - margin
    right, bottom = int(np.ceil(x0 + side)) + margin, int(np.ceil(y0 + side)) + margin
    rows = np.clip(np.arange(top, bottom), 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(left, right), 0, pixels.shape[1] - 1)
    cut = Image.fromarray(np.ascontiguousarray(pixels[rows[:, None], columns[None]]))
    box = (x0 - left, y0 - top, x0 - left + side, y0 - top + side)
    view = np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS, box=box))
    s = size / side
    K = np.array([[s, 0, -s * x0], [0, s, -s * y0], [0, 0, 1]]) @ np.asarray(fit.K, np.float64)
    camera = Cameras(
        torch.from_numpy(K[None]).float(),
        torch.from_numpy(np.asarray(fit.R, np.float64)[None]).float(),
        torch.from_numpy(np.asarray(fit.t, np.float64)[None]).float(),
        size,
        size,
    )
    return np.ascontiguousarray(view), camera


class PhotoScene:
    """A fitted photo, ready to be rendered with edited meshes. What the edits share is computed once.

    ``unit`` needs ``photo``, ``camera``, ``identity``, ``expression`` and ``landmarks`` (see :func:`working_view`);
    ``model`` is the one that it was fitted with.
    """

    def __init__(self, unit: Unit, model: MorphableModel, backend: str = "auto") -> None:
        if unit.photo is None:
            raise RenderError(f"unit {unit.unit!r} has no photo; photo counterfactuals need a unit made from one")
        camera = cams.to(unit.camera, "cpu")
        if unit.photo.shape != (camera.height, camera.width, 3) or unit.photo.dtype != np.uint8:
            raise RenderError(
                f"unit {unit.unit!r}: expected a photo of ({camera.height}, {camera.width}, 3) uint8, "
                f"got {unit.photo.shape} {unit.photo.dtype}"
            )
        self.camera, self.backend, self.model = camera, backend, model
        self.photo = unit.photo.astype(np.float32) / np.float32(255)  # (H, W, 3), as Rendered.images
        identity = torch.as_tensor(unit.identity, dtype=torch.float32, device=model.mean.device)[None]
        shown = unit.expression  # what the photo shows; with `fit --symmetrize` the unit's factual arm is another
        if unit.fit is not None and unit.fit.expression_fitted is not None:
            shown = unit.fit.expression_fitted
        expression = torch.as_tensor(shown, dtype=torch.float32, device=model.mean.device)[None]
        self.fitted = model.forward(identity, expression)[0].detach().cpu()  # (V, 3)
        self.offset = torch.from_numpy(register(model, self.fitted.numpy(), unit))
        self._layers = layers(model)
        pixels, depth = self._project((self.fitted + self.offset)[None])
        self._fitted_pixels, self._fitted_z = pixels[0], np.ascontiguousarray(depth[0])
        fragments = self._rasterize(self.fitted[None])
        self._photo_triangle = fragments[0][0]
        self._photo_layer = kernels.layers_of(fragments[0][0], self._layers.layer)
        self._photo_depth = fragments[2][0]
        if not (self._photo_layer == kernels.FACE).any():
            raise RenderError(f"unit {unit.unit!r}: the fitted face is not in the working image; fit the photo again")
        focal = float(camera.K[0, 0, 0] + camera.K[0, 1, 1]) / 2
        seen = self._photo_layer == kernels.FACE
        self.pixels_per_cm = focal / float(np.median(self._photo_depth[seen]))
        beyond = {side: self._beyond(side) for side in ("left", "right", "both")}
        self._outside = {side: share > 1 for side, share in beyond.items()}
        # The continuation beside known skin ends, softly, two pixels before what an edit must leave alone.
        slack = 2 / (3 * REACH_MOUTH * self.pixels_per_cm + 2)
        self._taper = {
            side: np.clip((1 - slack - share) / 0.3, 0, 1).astype(np.float32)[..., None]
            for side, share in beyond.items()
        }
        self._folds = photo_folds.Folds(model, self._layers.faces, self, fragments[1][0], expression[0])
        self._fill = photo_fill.Filler(model, self._layers, self)
        self._lids = photo_lids.Lids(self._layers.faces, self._fill.albedo, self)

    def render(self, vertices: Tensor, expressions: Tensor | np.ndarray | None = None) -> PhotoImages:
        """Counterfactual pictures of edited ``vertices`` (B, V, 3) in the model's frame, cm.

        Their sided ``expressions`` (B, Ks) say which folds of the skin go; without them folds move but stay. The same
        vertices as fitted give the photo itself. Raises :class:`RenderError` for the wrong shape, for values
        that are not finite, and where an edited face leaves the picture.
        """
        vertices = self._check(vertices)
        images, coverage = self._images(vertices, expressions)
        leak = self.leak(images, vertices).largest
        return PhotoImages(torch.from_numpy(images), coverage, leak)

    def leak(self, images: np.ndarray | Tensor, vertices: Tensor) -> Leak:
        """How much ``images`` (B, 3, H, W) differ from the photo where the edit of ``vertices`` must not reach.

        An edit of the subject's left half may change pixels that show vertices with a left weight above 1 %, and,
        beside the face, what lies within the warp's reach of those.
        """
        images = np.asarray(images)
        photo = self.photo.transpose(2, 0, 1)
        largest, mean, count = (np.zeros(len(images), t) for t in (np.float32, np.float32, np.int64))
        for b, side in enumerate(self._sides(vertices)):
            outside = self._outside[side]
            change = np.abs(images[b] - photo)[:, outside]
            if change.size:
                largest[b], mean[b], count[b] = change.max(), change.mean(), outside.sum()
        return Leak(largest, mean, count)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _check(self, vertices: Tensor) -> Tensor:
        vertices = torch.as_tensor(vertices, dtype=torch.float32).detach().cpu()
        if vertices.ndim != 3 or vertices.shape[1:] != self.fitted.shape:
            raise RenderError(f"expected vertices of shape (B, {len(self.fitted)}, 3), got {tuple(vertices.shape)}")
        if bad := torch.nonzero(~torch.isfinite(vertices).all(-1).all(-1)).flatten().tolist():
            raise RenderError(f"vertices of image {bad[0]} hold a value that is not finite")
        return vertices

    def _project(self, vertices: Tensor) -> tuple[np.ndarray, np.ndarray]:
        pixels, depth = cams.project(self.camera, vertices)
        return pixels.numpy(), depth.numpy()

    def _rasterize(self, vertices: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Triangles, barycentrics and depth (B, H, W, …) of the registered mesh."""
        faces = torch.from_numpy(self._layers.faces)
        f = rasterize(vertices + self.offset, faces, cams.repeat(self.camera, len(vertices)), self.backend)
        return tuple(np.ascontiguousarray(x.cpu().numpy()) for x in (f.triangle, f.barycentric, f.depth))  # type: ignore[return-value]

    def _images(self, vertices: Tensor, expressions: Tensor | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        batch, height, width = len(vertices), self.camera.height, self.camera.width
        triangle, barycentric, _ = self._rasterize(vertices)
        pixels, _ = self._project(vertices + self.offset)
        shift = np.ascontiguousarray(self._fitted_pixels[None] - pixels, dtype=np.float32)
        images = np.empty((batch, 3, height, width), np.float32)
        sides = self._sides(vertices)
        skins = [self.photo] * batch if expressions is None else self._folds.flattened(expressions, batch)
        run(
            self._compose,
            [(triangle[b], barycentric[b], shift[b], sides[b], skins[b], images[b]) for b in range(batch)],
        )
        coverage = (triangle >= 0).mean((1, 2)).astype(np.float32)
        for b in range(batch):
            if not (coverage[b] > 0 and np.isfinite(images[b]).all()):
                raise RenderError(f"image {b} of the photo's counterfactuals shows no face or is not finite")
        return images, coverage

    def _compose(
        self,
        triangle: np.ndarray,
        barycentric: np.ndarray,
        shift: np.ndarray,
        side: str,
        skin: np.ndarray,
        image: np.ndarray,
    ) -> None:
        """One counterfactual into ``image`` (3, H, W); ``skin`` (H, W, 3) is the photo without the folds that go."""
        if not np.abs(shift).max() >= LEAST:
            image[:] = self.photo.transpose(2, 0, 1)
            return
        field, layer, hidden = self.warp(triangle, barycentric, shift, side)
        kernels.resample(skin, field, np.float32(LEAST), image)
        self._lids.apply(triangle, barycentric, layer, field, image)
        self._fill.apply(triangle, barycentric, layer, hidden, image)

    def warp(
        self, triangle: np.ndarray, barycentric: np.ndarray, shift: np.ndarray, side: str = "both"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The displacement (H, W, 2) of every pixel, px, the layers (H, W), and where skin shows that the photo hides."""
        shape = triangle.shape
        own, field = np.empty((*shape, 2), np.float32), np.empty((*shape, 2), np.float32)
        known, new = np.empty(shape, np.float32), np.empty(shape, np.float32)
        kernels.displacement(
            triangle, barycentric, self._layers.faces, self._layers.layer, shift, self._fitted_z,
            self._photo_layer, self._photo_depth, np.float32(TOLERANCE), own, known, new,
        )  # fmt: skip
        layer = kernels.layers_of(triangle, self._layers.layer)
        kernels.erode(known, layer, max(1, round(RIM * self.pixels_per_cm)))
        extended = own.copy()
        kernels.pull_push(extended, known, max(1, round(np.log2(2 * REACH_OUT * self.pixels_per_cm))))
        kernels.relax(extended, known, SWEEPS)
        radii = [max(1, round(reach * self.pixels_per_cm)) for reach in (REACH_OUT, REACH_EYE, REACH_MOUTH)]
        kernels.extend(own, layer, known, new, extended, *radii)
        # Skin that is known keeps what the mesh says even there: a model that moves the other half is to be found out.
        extended *= np.where(known[..., None] > 0, np.float32(1), self._taper[side])
        kernels.smooth(extended, field)
        return field, layer, (new > 0) & (layer == kernels.FACE)

    def _beyond(self, side: str) -> np.ndarray:
        """(H, W): how far a pixel is from what an edit of ``side`` moves, over the reach of the warp there.

        Above 1 lie the pixels that the edit must leave alone, whatever its strength.
        """
        left = np.asarray(self.model.hemiface_left)
        weight = {"left": left, "right": 1 - left, "both": np.ones_like(left)}[side]
        touched = weight[self._layers.faces].max(1) > 0.01
        face = self._photo_layer >= kernels.FACE
        edited = face & touched[np.maximum(self._photo_triangle, 0)]
        if not edited.any():
            return np.full(edited.shape, np.inf, np.float32)
        distance = distance_transform_edt(~edited)
        reach = 3 * REACH_OUT * self.pixels_per_cm + 4  # the blur's support, and the outline's own movement
        inner = 3 * REACH_MOUTH * self.pixels_per_cm + 2
        return (distance / np.where(self._photo_layer == kernels.FACE, inner, reach)).astype(np.float32)

    def _sides(self, vertices: Tensor) -> list[str]:
        """Which half each edit moves: 'left', 'right' or 'both'."""
        left = torch.as_tensor(np.asarray(self.model.hemiface_left))
        moved = (torch.as_tensor(vertices).cpu() - self.fitted).norm(dim=-1)
        on_left, on_right = moved[:, left > 0.99].sum(1), moved[:, left < 0.01].sum(1)
        both = (on_left >= ONE_SIDED * on_right) & (on_right >= ONE_SIDED * on_left)
        return ["both" if b else "left" if m else "right" for b, m in zip(both.tolist(), (on_left > on_right).tolist())]
