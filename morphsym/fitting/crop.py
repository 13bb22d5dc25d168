"""The face as the readout of the expression sees it: a crop of fixed size and scale, upright, from MediaPipe's points.

A similarity (turn, scale, shift; no reflection) takes anchors that an expression hardly moves, the corners of the eyes, the
bridge and the base of the nose, to their places on a mean face. The anchors' places are symmetric, and so are the
windows that pixels are averaged over: the crop of the mirror image is the mirror image of the crop.

The crop of a turned head is then made frontal (:class:`Frontal`): a mean face's surface is laid over it with the affine camera
that takes places which an expression hardly moves to their points, and looked at from the front. What is left of differences
between left and right is the face's own, not the pose's.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, grid_sample

from ..rendering.color import GREY

ANCHORS = (33, 133, 362, 263, 168, 6, 98, 327, 2)
"""MediaPipe's points that the crop is aligned by: eye corners (the subject's right first), bridge, wings and base of the nose."""

PLACES = (
    (-4.31, -0.12), (-1.62, 0.11), (1.62, 0.11), (4.31, -0.12),
    (0.0, -0.46), (0.0, 0.32), (-1.52, 4.29), (1.52, 4.29), (0.0, 4.37),
)  # fmt: skip
"""Where they lie on the mean of ICT-FaceKit's and the bundled head's mean faces: cm, x to the right of the picture, y down,
from the middle of the eye corners."""

SIZE = 112
"""Side of a crop, pixels."""

PER_CM = 6.2
"""Pixels a cm of the mean face."""

CENTRE = (0.0, 3.0)
"""What is in the middle of the crop, in the frame of :data:`PLACES`."""


def align(points: np.ndarray) -> np.ndarray:
    """The similarity ``(2, 3)`` from the picture to the crop, in pixels, by the anchors of ``points (478, 2)``; least squares."""
    x = np.asarray(points, dtype=np.float64)[list(ANCHORS)] @ (1, 1j)
    y = ((np.array(PLACES) - CENTRE) * PER_CM + SIZE / 2) @ (1, 1j)
    centred = x - x.mean()
    a = (centred.conj() @ (y - y.mean())) / max(float((np.abs(centred) ** 2).sum()), 1e-12)
    b = y.mean() - a * x.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def moved(points: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """``points (N, 2)`` through ``similarity (2, 3)``."""
    return np.asarray(points, dtype=np.float64) @ similarity[:, :2].T + similarity[:, 2]


def crop(pixels: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """The crop ``(SIZE, SIZE, 3)`` uint8 of ``pixels (H, W, 3)`` uint8; beyond the picture its border goes on.

    Pixels are averaged where the picture is finer than the crop: by whole factors first, then four samples a pixel.
    """
    part, where = _near(pixels, similarity)
    fine = _sampled(torch.from_numpy(part).permute(2, 0, 1).float(), where)
    return (fine + 0.5).clamp(0, 255).byte().permute(1, 2, 0).numpy()


def grey_crop(pixels: np.ndarray, similarity: np.ndarray) -> torch.Tensor:
    """The grey levels ``(SIZE, SIZE)`` float32 (ITU-R BT.601) of :func:`crop`, but for its rounding; a third of the work."""
    part, where = _near(pixels, similarity)
    return _sampled(torch.from_numpy(part.astype(np.float32) @ np.array(GREY, dtype=np.float32))[None], where)[0]


def _near(pixels: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """The part of ``pixels`` that the crop shows, reduced by a whole factor, and where in it the crop's samples are, two by two
    a pixel: ``(2 SIZE, 2 SIZE, 2)`` as :func:`grid_sample` wants them."""
    height, width = pixels.shape[:2]
    linear = np.linalg.inv(similarity[:, :2])
    offset = -linear @ similarity[:, 2]
    corners = np.array([(0, 0), (SIZE, 0), (0, SIZE), (SIZE, SIZE)], dtype=np.float64) @ linear.T + offset
    finer = float(np.sqrt(abs(np.linalg.det(linear))))  # pixels of the picture a pixel of the crop
    factor = max(1, int(finer))
    margin = 2 * factor
    low = np.clip(np.floor(corners.min(axis=0)) - margin, 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + margin, low + 1, (width, height)).astype(int)
    part = np.array(pixels[low[1] : high[1], low[0] : high[0]], order="C")
    if factor > 1:
        part = np.array(Image.fromarray(part).reduce(factor))
    # An affine map of a grid is the sum of what its columns and its rows give.
    scale = 2 / factor / np.array(part.shape[1::-1])
    steps = (np.arange(2 * SIZE) + 0.5) / 2
    columns, rows = (steps[:, None] * linear[:, k] * scale for k in (0, 1))
    where = columns[None].astype(np.float32) + (rows + (offset - low) * scale - 1)[:, None].astype(np.float32)
    return part, torch.from_numpy(where)


def _sampled(image: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """``image (C, H, W)`` at four places a pixel, averaged: ``(C, SIZE, SIZE)``."""
    fine = grid_sample(image[None], where[None], mode="bilinear", padding_mode="border", align_corners=False)
    return avg_pool2d(fine, 2)[0]


STEADY = (
    33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358,
    10, 151, 109, 338, 67, 297, 127, 356, 234, 454, 93, 323, 162, 389, 21, 251,
)  # fmt: skip
"""MediaPipe's points that tell the pose: eye corners, nose, upper forehead, temples and sides; closed under mirroring."""

SEEN = 88
"""Side of the frontal picture, pixels; as many a cm as the crop, about the same centre."""


class Frontal:
    """The mean face's surface: ``places (S, 3)`` of :data:`STEADY` and ``depth (SEEN, SEEN)`` of the frontal picture's pixels.

    cm; x to the right of the picture, y down, z towards the camera, from the middle of the eye corners. Both symmetric.
    """

    def __init__(self, places: np.ndarray, depth: np.ndarray) -> None:
        steps = (np.arange(SEEN) + 0.5 - SEEN / 2) / PER_CM
        x, y = np.meshgrid(steps + CENTRE[0], steps + CENTRE[1])
        surface = np.stack([x, y, depth, np.ones_like(x)], -1).reshape(-1, 4)
        known = np.concatenate([places, np.ones((len(places), 1))], axis=1)
        self.weights = torch.from_numpy(surface @ np.linalg.pinv(known)).float()  # (SEEN², S): of the points, by pixel

    def __call__(self, images: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """``images (B, SIZE, SIZE)`` of any values and their ``points (B, 478, 2)`` to frontal pictures ``(B, SEEN, SEEN)``."""
        where = torch.einsum("ps,bsc->bpc", self.weights, points[:, list(STEADY)].float()) / SIZE * 2 - 1
        seen = grid_sample(
            images[:, None].float(), where.reshape(-1, SEEN, SEEN, 2), padding_mode="border", align_corners=False
        )
        return seen[:, 0]
