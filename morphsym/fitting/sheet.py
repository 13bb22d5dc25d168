"""Contact sheets: a whole folder of fits on few pictures, to see at a glance which fits to look at or to leave out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import MorphsymError
from ..experiment.atomic import writing
from ..types import FaceFit
from .overlay import LEGEND
from .sources import load_source

TILE, CAPTION, GAP = 220, 56, 8
COLUMNS, ROWS = 6, 8
"""Tiles of a page; a larger folder gets more pages, so that memory does not grow with it."""

COLOURS = {"good": (60, 160, 80), "look": (230, 160, 0), "failed": (200, 40, 40)}


def verdict(fit: FaceFit) -> str:
    """'good', 'look' (something is flagged) or 'failed'."""
    if not fit.ok:
        return "failed"
    return "good" if fit.quality in ("good", "") else "look"


def save_sheets(folder: str | Path, fits: Iterable[FaceFit]) -> list[Path]:
    """Write ``_sheet-01.png``, … to ``folder``, where the overlays of ``fits`` already are; the paths.

    No fit can have a name that begins with an underscore, so nothing is overwritten but older sheets.
    """
    folder = Path(folder)
    written = []
    for old in folder.glob("_sheet-*.png"):
        old.unlink()
    rest = iter(fits)
    for page in count(1):
        some = list(islice(rest, COLUMNS * ROWS))
        if not some:
            break
        path = folder / f"_sheet-{page:02d}.png"
        with writing(path) as aside:
            Image.fromarray(contact_sheet(folder, some)).save(aside, format="PNG")
        written.append(path)
    return written


def contact_sheet(folder: str | Path, fits: Sequence[FaceFit]) -> np.ndarray:
    """One page, ``(H, W, 3)`` uint8: the overlay of every fit with its name, its error and what is wrong with it."""
    columns = min(COLUMNS, max(len(fits), 1))
    rows = -(-len(fits) // columns) or 1
    size = (columns * (TILE + GAP) + GAP, rows * (TILE + CAPTION + GAP) + GAP)
    sheet = Image.new("RGB", size, (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for i, fit in enumerate(fits):
        x = GAP + (i % columns) * (TILE + GAP)
        y = GAP + (i // columns) * (TILE + CAPTION + GAP)
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=(225, 225, 225))
        picture = _picture(Path(folder), fit)
        if picture is not None:
            picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
        kind = verdict(fit)
        draw.rectangle((x, y, x + TILE - 1, y + TILE + CAPTION - 1), outline=COLOURS[kind], width=3)
        words = fit.reason if kind == "failed" else f"error {100 * fit.nme:.1f} %, yaw {fit.yaw:+.0f}°, {fit.emotion}"
        if kind == "look":
            words = fit.quality
        lines = [fit.name[:34], *textwrap.wrap(words, 36)][:4]
        for n, line in enumerate(lines):
            draw.text((x + 6, y + TILE + 1 + 13 * n), line, fill=COLOURS[kind] if n else (20, 20, 20), font=font)
    return np.asarray(sheet)


def _picture(folder: Path, fit: FaceFit) -> Image.Image | None:
    """The overlay without its legend; for a photo without one, the photo; None where neither can be read."""
    path = folder / f"{fit.name}.png"
    if path.is_file():
        with Image.open(path) as image:
            return image.convert("RGB").crop((0, 0, image.width, image.height - LEGEND))
    if not fit.photo:
        return None
    try:
        return Image.fromarray(load_source(fit).pixels)
    except MorphsymError:
        return None
