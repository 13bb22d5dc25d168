"""Example pictures: strips of one unit by dose, as small self-contained images with their readings beneath."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from ..experiment import places
from . import formatting as f

PIXELS = 200
"""Longest edge of an embedded picture; screens show it at half of that or less."""
READINGS = 6
"""At most so many classifiers are written beneath a strip."""


class Frame(NamedTuple):
    """One picture of a strip."""

    arm: str
    side: str  # left | right | both | none
    strength: float
    image: np.ndarray  # (H, W, 3) uint8 RGB
    readings: Mapping[str, float]  # classifier: centred logit of the unit's emotion


@dataclass(frozen=True, eq=False)
class ExampleStrip:
    """The pictures of one unit. ``frames`` are :class:`Frame` or plain tuples in its order."""

    unit: str
    emotion: str
    source: str
    frames: Sequence[Frame | tuple[str, str, float, np.ndarray, Mapping[str, float]]]


@dataclass(frozen=True)
class Cell:
    """One picture as the page shows it."""

    uri: str
    alt: str
    heading: str
    readings: tuple[str, ...]  # one a classifier of the strip, '' where there is none


@dataclass(frozen=True)
class Row:
    """One arm of a strip, by rising strength."""

    title: str
    side: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class StripView:
    """A strip as the page shows it."""

    unit: str
    emotion: str
    source: str
    classifiers: tuple[str, ...]
    hidden: int  # classifiers that are not written out
    rows: tuple[Row, ...]


_ARMS = {
    "unilateral": "{side} half weakened",
    "matched": "both halves weakened equally, to the same total as above",
}


def strip_view(strip: ExampleStrip) -> StripView:
    """Lay a strip out: one row an arm and side, each beginning with the factual face."""
    frames = [Frame(*item) for item in strip.frames]
    classifiers = list(dict.fromkeys(name for fr in frames for name in fr.readings))
    shown = classifiers[:READINGS]
    emotion = f.clean(strip.emotion)
    start = [fr for fr in frames if fr.arm in ("original", "baseline")]
    # the picture that effects are measured from; the untouched photo stands before it
    start.sort(key=lambda fr: fr.arm != "original")
    rows = []
    for arm, side in dict.fromkeys((fr.arm, fr.side) for fr in frames if fr.arm in ("unilateral", "matched")):
        edited = sorted((fr for fr in frames if (fr.arm, fr.side) == (arm, side)), key=lambda fr: fr.strength)
        title = _ARMS[arm].format(side=f"the subject’s {f.clean(side)}" if arm == "unilateral" else f.clean(side))
        rows.append(
            Row(
                title[:1].upper() + title[1:],
                f.clean(side),
                tuple(_cell(fr, emotion, shown) for fr in (*start, *edited)),
            )
        )
    if not rows and start:
        rows.append(Row("Factual face", "none", tuple(_cell(fr, emotion, shown) for fr in start)))
    return StripView(
        f.clean(strip.unit, 60), emotion, strip.source, tuple(f.labels(shown, 24).values()),
        len(classifiers) - len(shown), tuple(rows),
    )  # fmt: skip


def _cell(frame: Frame, emotion: str, classifiers: Sequence[str]) -> Cell:
    heading = {"original": "photo", "baseline": "factual"}.get(frame.arm, f.strength_text(frame.strength))
    strength = f.strength_text(frame.strength)
    told = {
        "original": f"The untouched photo, {emotion}",
        "baseline": f"Factual face, {emotion}",
        "unilateral": f"{emotion}, {frame.side} half weakened, strength {strength}",
        "matched": f"{emotion}, both halves weakened equally, matched to {frame.side} strength {strength}",
    }[frame.arm]
    readings = tuple(f.number(frame.readings.get(c)) if c in frame.readings else "" for c in classifiers)
    return Cell(image_uri(frame.image), told, heading, readings)


def image_uri(image: np.ndarray, pixels: int = PIXELS, quality: int = 88) -> str:
    """``image`` (H, W, 3) uint8 as a JPEG data URI, its longest edge at most ``pixels``."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f"an example image is uint8 (H, W, 3); got {array.dtype} {array.shape}")
    picture = Image.fromarray(array)
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def target_logits(conditions: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Centred logit of the unit's emotion: columns condition, classifier, value."""
    rows = predictions[predictions["condition"].isin(conditions["condition"])]
    rows = rows.astype(dict.fromkeys(("condition", "classifier", "emotion"), object))  # the few rows as plain text
    mean = rows.groupby(["condition", "classifier"], sort=False)["logit"].transform("mean")
    rows = rows.assign(value=rows["logit"] - mean).merge(conditions[["condition", "expression"]], on="condition")
    rows = rows[rows["emotion"] == rows["expression"]]
    # a classifier with several labels of one emotion has no one target value: as in the analysis, it gets none
    return rows[~rows.duplicated(["condition", "classifier"], keep=False)][["condition", "classifier", "value"]]


def examples_from_results(
    results: Path, conditions: pd.DataFrame, predictions: pd.DataFrame, limit: int = 4
) -> list[ExampleStrip]:
    """Strips of up to ``limit`` units whose pictures were kept in ``results/images``: photos first.

    Pictures outside the results folder and unreadable files are left out: the table is only a claim about files.
    """
    kept = conditions[(conditions["status"] == "ok") & conditions["image"].notna()] if "image" in conditions else None
    if kept is None or kept.empty:
        return []
    kept = kept[kept["arm"].isin(["original", "baseline", "unilateral", "matched"])]
    edited = kept[kept["arm"] == "unilateral"].drop_duplicates("unit")
    units = edited.sort_values("source", key=lambda s: s != "photo", kind="stable")["unit"].head(limit)
    values = target_logits(kept[kept["unit"].isin(units)], predictions)
    readings = {c: dict(zip(g["classifier"], g["value"], strict=True)) for c, g in values.groupby("condition")}
    root = places.place(results)
    strips = []
    for unit in units:
        rows = kept[kept["unit"] == unit]
        region = rows.loc[rows["arm"] == "unilateral", "region"].iloc[0]
        rows = rows[rows["region"].isin([region, "none"])]
        frames = [
            Frame(r.arm, r.side, float(r.strength), image, readings.get(r.condition, {}))
            for r in _named(rows)
            if (image := _read(root, r.image)) is not None
        ]
        if any(fr.arm == "unilateral" for fr in frames):
            first = rows.iloc[0]
            strips.append(ExampleStrip(str(unit), str(first["expression"]), str(first["source"]), frames))
    return strips


def _named(rows: pd.DataFrame) -> Iterable[Any]:
    return rows[["condition", "arm", "side", "strength", "image"]].itertuples(index=False)


def _read(root: Path, relative: Any) -> np.ndarray | None:
    parts = PurePosixPath(str(relative)).parts
    if not parts or ".." in parts or PurePosixPath(str(relative)).is_absolute():
        return None
    path = root.joinpath(*parts)
    if not places.is_remote(root) and not path.resolve().is_relative_to(root.resolve()):  # a link that leads outside
        return None
    try:
        with path.open("rb") as f, Image.open(f) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
