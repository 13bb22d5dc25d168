"""Pictures on disk: uint8 RGB PNG, written atomically, without metadata."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from .atomic import write_bytes


def to_uint8(image: Tensor) -> np.ndarray:
    """A float picture (3, H, W) in [0, 1] as uint8 (H, W, 3), rounded to nearest."""
    return (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as the bytes of a PNG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", optimize=False, compress_level=6)
    return out.getvalue()


def save_image(path: Path, image: Tensor) -> None:
    """Write a float picture (3, H, W) as a PNG."""
    write_bytes(path, encode_png(to_uint8(image)))
