"""The picture that lets a person judge a fit at a glance: mesh, landmarks, and the subject's sides in two colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..types import Cameras, FaceFit
from .correspondence import places

if TYPE_CHECKING:
    from ..faces import MorphableModel

SIDE = 720
"""Pixels of the overlay's longer side, without the legend."""

MARGIN = 0.45
"""How much of the landmarks' box is shown around it."""

LEFT, RIGHT = (np.array(rgb, dtype=np.float32) for rgb in ((0, 114, 178), (230, 120, 0)))
"""Blue and orange (Okabe and Ito): told apart with any colour vision."""

LEGEND = 66

ALPHA = 0.42
"""How much of the mesh is in its pixels; the rest is the photo."""


def overlay(
    fit: FaceFit, photo: Any, model: MorphableModel | None = None, vertices: np.ndarray | None = None
) -> np.ndarray:
    """The photo around the face with the fitted mesh over it; ``(H, W, 3)`` uint8.

    The subject's left half is blue, the right half orange; rings are the detected landmarks, a line leads from each to where
    the fit puts it. ``photo``: a :class:`~morphsym.fitting.images.Photo` or an array ``(H, W, 3)`` uint8. ``model`` is
    loaded by ``fit.model`` when not given. ``vertices``: :func:`mesh` of both, where it is at hand. A failed fit shows its
    landmarks and its reason.
    """
    pixels = np.asarray(getattr(photo, "pixels", photo))
    origin, scale, size = _window(fit, pixels)
    width, height = size
    end = np.minimum(origin + np.array(size) / scale, pixels.shape[1::-1])
    canvas = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=(*origin, *end))
    fitted = None
    if len(fit.expression):
        if model is None:
            from ..faces import load_model

            model = load_model(fit.model)
        canvas, fitted = _draw_mesh(
            canvas, fit, model, mesh(fit, model) if vertices is None else vertices, origin, scale
        )
    picture = Image.new("RGB", (width, height + LEGEND), (24, 24, 24))
    picture.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(picture)
    seen = (fit.landmarks - origin) * scale
    for i, point in enumerate(seen):
        if fitted is not None:
            draw.line([tuple(point), tuple((fitted[i] - origin) * scale)], fill=(255, 255, 0), width=2)
        x, y = point
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline=(0, 0, 0), width=3)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), outline=(255, 255, 255), width=1)
    draw.rectangle((0, height, width, height + LEGEND), fill=(24, 24, 24))
    _legend(draw, fit, width, height)
    return np.asarray(picture)


def _window(fit: FaceFit, pixels: np.ndarray) -> tuple[np.ndarray, float, tuple[int, int]]:
    """Top left corner (pixels of the photo), pixels of the overlay per pixel of the photo, and the size (w, h)."""
    if len(fit.landmarks):
        low, high = fit.landmarks.min(axis=0), fit.landmarks.max(axis=0)
    else:
        low, high = np.zeros(2), np.array(pixels.shape[1::-1], dtype=np.float64)
    reach = MARGIN * (high - low).max()
    low, high = low - reach, high + reach
    low[1] -= 0.3 * reach  # the landmarks end at the brows
    low = np.maximum(low, 0)
    high = np.minimum(high, pixels.shape[1::-1])
    scale = SIDE / float((high - low).max())
    width, height = np.maximum(np.round((high - low) * scale), 1).astype(int)
    return low, scale, (int(width), int(height))


def mesh(fit: FaceFit, model: MorphableModel) -> np.ndarray:
    """The fitted face's vertices ``(V, 3)`` float32, in the head's frame."""
    identity = torch.as_tensor(fit.identity, dtype=torch.float32)[None]
    expression = torch.as_tensor(fit.expression, dtype=torch.float32)[None]
    return model.forward(identity, expression)[0].numpy()


def _draw_mesh(
    canvas: Image.Image, fit: FaceFit, model: MorphableModel, vertices: np.ndarray, origin: np.ndarray, scale: float
) -> tuple[Image.Image, np.ndarray]:
    """The canvas with the shaded mesh over it, and where the model's landmarks are in the photo ``(68, 2)``."""
    from ..rendering import rasterize

    width, height = canvas.size
    K = np.array(fit.K, dtype=np.float64)
    K[:2, 2] -= origin
    K[:2] *= scale
    K_, R_, t_ = (torch.as_tensor(np.asarray(a), dtype=torch.float32)[None] for a in (K, fit.R, fit.t))
    fragments = rasterize(
        torch.from_numpy(vertices)[None], torch.as_tensor(model.faces), Cameras(K_, R_, t_, height, width)
    )
    faces = np.asarray(model.faces)
    triangle = np.asarray(fragments.triangle[0]).ravel()
    at = np.flatnonzero(triangle >= 0)
    triangle = triangle[at]
    weights = np.asarray(fragments.barycentric[0]).reshape(-1, 3)[at]
    left = np.einsum("nk,nk->n", np.asarray(model.hemiface_left)[faces][triangle], weights)
    corners = (vertices @ np.asarray(fit.R, dtype=np.float32).T)[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    shade = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9)
    light = np.float32(ALPHA) * (0.1 + 0.9 * shade**1.5)[triangle]
    mixed = np.array(canvas)
    flat = mixed.reshape(-1, 3)
    for c in range(3):
        tone = light * (64 + 0.75 * (RIGHT[c] + left * (LEFT[c] - RIGHT[c])))  # at most 237
        flat[at, c] = flat[at, c] * np.float32(1 - ALPHA) + tone + 0.5
    corners68, weights68, _ = places(model, fit.landmarks_478 is not None)
    points = np.einsum("nkc,nk->nc", vertices[corners68], weights68) @ np.asarray(fit.R).T + fit.t
    projected = points @ np.asarray(fit.K).T
    return Image.fromarray(mixed), projected[:, :2] / projected[:, 2:]


def _legend(draw: ImageDraw.ImageDraw, fit: FaceFit, width: int, height: int) -> None:
    font = ImageFont.load_default(size=15)
    y = height + 6
    if not fit.ok:
        draw.text((10, y), f"failed: {fit.reason}", fill=(255, 120, 120), font=font)
        y += 20
    x = 10
    for colour, text in ((RIGHT, "subject's right"), (LEFT, "subject's left")):
        draw.rectangle((x, y + 3, x + 14, y + 15), fill=tuple(int(c) for c in colour))
        draw.text((x + 20, y), text, fill="white", font=font)
        x += 150
    draw.ellipse((x, y + 4, x + 9, y + 13), outline="white")
    draw.line((x + 9, y + 8, x + 24, y + 8), fill=(255, 255, 0), width=2)
    draw.text((x + 30, y), "detected, fitted", fill="white", font=font)
    if fit.ok:
        text = (
            f"{fit.name}   error {100 * fit.nme:.1f} %   yaw {fit.yaw:+.0f}°  pitch {fit.pitch:+.0f}°  "
            f"roll {fit.roll:+.0f}°   {fit.emotion} ({fit.emotion_source.replace('_', ' ')})   {fit.model}"
        )
        draw.text((10, y + 24), text, fill="white", font=font)
