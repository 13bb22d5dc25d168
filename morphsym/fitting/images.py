"""Photos from files and arrays: every kind of picture that people have, as upright sRGB uint8, or one clear error.

Pillow decodes; colour profiles go through LittleCMS (``PIL.ImageCms``). What was done to the pixels is said in
:attr:`Photo.note`, which ends up in ``fits.csv``. Nothing is repaired silently: a truncated file is an error.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..errors import InputError
from ..resources import sha256 as file_sha256

KINDS = "JPEG, PNG, TIFF, WebP, BMP or GIF"
"""What is expected, in messages."""

MAX_PIXELS = 50_000_000
"""Larger photos are reduced by a whole factor on load, so that a fit never needs gigabytes."""

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo, upright (EXIF rotation applied), in sRGB."""

    pixels: np.ndarray  # (H, W, 3) uint8, sRGB
    note: str  # what was done on loading, '; '-separated, '' when nothing
    sha256: str  # hex, of the file's bytes; of the pixels' bytes for arrays
    path: str = ""  # absolute; '' for arrays

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])


def load_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode the photo at ``path``.

    EXIF rotation is applied; transparency is laid over white; palette, greyscale, CMYK, 16-bit and float pictures
    become 8-bit sRGB (through the embedded colour profile where there is one); of several frames the first is taken;
    more than ``max_pixels`` pixels are reduced by a whole factor. All of that is said in ``note``.

    Raises :class:`InputError` for anything that is not a whole, readable picture.
    """
    path = Path(path)
    where = str(path)
    if path.is_dir():
        raise InputError(f"expected a photo, but {where} is a folder; give the photos in it")
    if not path.exists():
        raise InputError(f"no such photo: {where}; check the path")
    if not path.is_file():
        raise InputError(f"expected a photo, but {where} is not a regular file")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{where} is empty (0 bytes); copy or download it again")
        digest = file_sha256(path)
        with open(path, "rb") as f:
            head = f.read(32)
    except OSError as e:
        raise InputError(f"cannot read {where}: {e.strerror or e}") from e
    notes: list[str] = []
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        _register_heif(where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decompression bombs are dealt with here, odd metadata does not matter
            with Image.open(path) as image:
                pixels = _decode(image, notes, max_pixels, where)
    except InputError:
        raise
    except Image.DecompressionBombError as e:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(f"{where} is larger than {limit} megapixels; scale it down first") from e
    except UnidentifiedImageError as e:
        raise InputError(f"{where} is not a picture that can be read ({_looks_like(head)}); expected {KINDS}") from e
    except MemoryError as e:
        raise InputError(f"not enough memory to decode {where}; scale it down first") from e
    except Exception as e:  # Pillow's decoders raise almost anything on damaged files
        raise InputError(f"{where} is damaged or incomplete ({_line(e)}); copy or download it again") from e
    return Photo(pixels, "; ".join(notes), digest, str(path.absolute()))


def load_array(image: Any, max_pixels: int = MAX_PIXELS) -> Photo:
    """A photo from a ``PIL.Image`` or an array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with alpha.

    uint8 is taken as it is, uint16 is divided by 257, bool is black and white, floats must lie in [0, 1]. RGB order.
    Raises :class:`InputError` for other shapes, types and values.
    """
    notes: list[str] = []
    if isinstance(image, Image.Image):
        try:
            pixels = _decode(image, notes, max_pixels, "the image")
        except OSError as e:
            raise InputError(f"the image is damaged or incomplete ({_line(e)})") from e
    else:
        a = np.asarray(image)
        if a.ndim not in (2, 3) or (a.ndim == 3 and a.shape[2] not in (1, 3, 4)) or 0 in a.shape:
            hint = "; move the channels last" if a.ndim >= 3 and a.shape[-3] in (1, 3, 4) else ""
            raise InputError(f"expected an image of shape (H, W), (H, W, 3) or (H, W, 4), got {a.shape}{hint}")
        a = _to_uint8(a, notes, "the image")
        if a.ndim == 3 and a.shape[2] == 1:
            a = a[..., 0]
        pixels = _decode(Image.fromarray(a), notes, max_pixels, "the image")
    return Photo(pixels, "; ".join(notes), hashlib.sha256(pixels.data).hexdigest())


def _decode(image: Image.Image, notes: list[str], max_pixels: int, where: str) -> np.ndarray:
    """Upright sRGB pixels (H, W, 3) uint8 of an opened image; appends to ``notes``."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        image.seek(0)
        notes.append(f"first of {frames} frames")
    size = image.size
    factor = int(np.ceil(np.sqrt(size[0] * size[1] / max_pixels))) if size[0] * size[1] > max_pixels else 1
    drafted = next(d for d in (8, 4, 2, 1) if factor % d == 0)  # a JPEG decodes at 1/2, 1/4 or 1/8 at once
    if drafted > 1:
        image.draft(None, (size[0] // drafted, size[1] // drafted))
    tiles = getattr(image, "tile", [])
    deep = any(";16" in str(getattr(t, "args", "")) for t in tiles) and image.mode in ("RGB", "RGBA", "LA")
    image.load()
    image = _upright(image, notes)
    if deep:
        notes.append("16 bits a channel reduced to 8")
    icc = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_uint8(np.asarray(image), notes, where))
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = _over_white(image, notes)
    if icc:
        image = _to_srgb(image, icc, notes)
    elif image.mode == "CMYK":
        notes.append("CMYK without a colour profile: colours are approximate")
    if image.mode in ("L", "1"):
        notes.append("greyscale")
    if image.mode != "RGB":
        image = image.convert("RGB")
    if factor > 1:
        done = round(max(size) / max(image.size))  # what the decoder did by itself: 1 for all but JPEG
        if factor > done:
            image = image.reduce(factor // done)
        notes.append(f"reduced from {size[0]}×{size[1]} by {factor}")
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        orientation = image.getexif().get(0x0112, 1)
        if orientation not in range(2, 9):
            return image
        info = dict(image.info)
        image = ImageOps.exif_transpose(image)
        image.info.update({k: v for k, v in info.items() if k in ("icc_profile", "transparency")})
        notes.append(f"EXIF orientation {orientation} applied")
    except (SyntaxError, ValueError, KeyError, TypeError, OSError):
        notes.append("unreadable EXIF: orientation not applied")
    return image


def _to_uint8(a: np.ndarray, notes: list[str], where: str) -> np.ndarray:
    if a.dtype == np.uint8:
        return a
    if a.dtype == bool:
        return a.astype(np.uint8) * 255
    if a.dtype.kind in "iu":
        low, high = int(a.min()), int(a.max())
        if low < 0 or high > 65535 or (high < 256 and a.dtype.itemsize > 2):  # the last could be 8 or 16 bits
            raise InputError(f"expected uint8 or uint16 pixels, {where} has {a.dtype} from {low} to {high}; convert it")
        notes.append("16 bits reduced to 8" + (f", though nothing is above {high} of 65535" if high < 8192 else ""))
        return ((a.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if a.dtype.kind == "f":
        if not np.isfinite(a).all():
            raise InputError(f"expected float pixels in [0, 1], {where} has NaN or infinite values")
        if a.min() < 0 or a.max() > 1:
            raise InputError(f"expected float pixels in [0, 1], {where} has {a.min():.3g} to {a.max():.3g}; scale it")
        notes.append("floats reduced to 8 bits")
        return np.round(a * 255).astype(np.uint8)
    raise InputError(f"expected uint8, uint16 or float pixels, {where} has {a.dtype}")


def _over_white(image: Image.Image, notes: list[str]) -> Image.Image:
    alpha = np.asarray(image.getchannel("A"))
    seen = float((alpha < 255).mean())
    if seen == 0:
        return image.convert("RGB")
    notes.append(f"transparency over white ({100 * seen:.0f} % of the pixels)")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _to_srgb(image: Image.Image, icc: bytes, notes: list[str]) -> Image.Image:
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip() or "unnamed"
        if name.startswith("sRGB") and image.mode == "RGB":
            return image
        space = profile.profile.xcolor_space.strip()
        if {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L", "Lab": "LAB"}.get(space) != image.mode:
            notes.append(f"colour profile {name!r} does not fit the picture: ignored")
            return image
        srgb = ImageCms.createProfile("sRGB")
        out = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
        notes.append(("greyscale, " if image.mode == "L" else "") + f"colour profile {name!r} converted to sRGB")
        return out if out is not None else image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("unreadable colour profile: ignored")
        return image


def _register_heif(where: str) -> None:
    if importlib.util.find_spec("pillow_heif") is None:
        raise InputError(
            f"{where} is a HEIC/HEIF photo and no decoder is installed; pip install pillow-heif, or save it as JPEG"
        )
    import pillow_heif  # optional, asked for by the user's own file

    pillow_heif.register_heif_opener()


def _looks_like(head: bytes) -> str:
    if head.startswith(b"%PDF"):
        return "it is a PDF"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page"
    if head.lstrip().startswith((b"<svg", b"<?xml")):
        return "it is XML or SVG"
    if all(32 <= b < 127 or b in (9, 10, 13) for b in head):
        return "it looks like text"
    return f"it starts with {head[:8].hex(' ')}"


def _line(e: BaseException) -> str:
    return " ".join(str(e).split()) or type(e).__name__
