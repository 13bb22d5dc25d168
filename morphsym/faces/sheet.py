"""A contact sheet of a face model, so that a person can look: identities × expressions × sides."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..errors import UsageError
from ..types import EMOTIONS
from .arkit import ARKIT_NAMES
from .furrows import depth_of, furrow_shade, furrowed
from .model import MorphableModel
from .people import sample_people
from .presets import emotion_preset

SIDES = ("none", "left", "right", "both")
_TITLE, _MARGIN = 18, 74  # pixels: above each column, left of each row
_DISTANCE = 75.0  # cm
_UNNAMED = 6  # leading components that are shown of a model without named shapes


def contact_sheet(
    model: MorphableModel,
    people: int = 6,
    emotions: Iterable[str] = EMOTIONS,
    sides: Iterable[str] = ("none", "left"),
    strength: float = 1.0,
    seed: int = 0,
    size: int = 160,
    yaw: float = 0.0,
) -> np.ndarray:
    """One picture, (H, W, 3) uint8 sRGB: a row for each of ``people``, a column for each expression × side.

    The people are those of :func:`sample_people`; expressions have natural variation; ``sides`` of :data:`SIDES` are the
    side weakened by ``strength``, 'none' the untouched face. A model without ARKit's names shows its leading expression
    components at two standard deviations (or at 1) in place of emotions. Raises :class:`UsageError` on values out of range.
    """
    from ..intervention import edit
    from ..rendering import default_lights, portrait_camera, render

    emotions, sides = tuple(emotions), tuple(sides)
    if people < 1 or not emotions or not sides:
        raise UsageError("a contact sheet needs at least one person, one expression and one side")
    if not 32 <= size <= 1024:
        raise UsageError(f"the size of a picture must lie between 32 and 1024 pixels, got {size}")
    for s in sides:
        if s not in SIDES:
            raise UsageError(f"side must be one of {', '.join(SIDES)}; got {s!r}")
    persons = sample_people(model, people, seed)
    named = any(n.split(".")[0] in ARKIT_NAMES and n != "jawOpen" for n in model.expression_names)
    columns = emotions if named else model.expression_names[:_UNNAMED] or ("neutral",)

    marks = model.landmarks(model.mean[None])[0].cpu().numpy()
    # from below the chin of an open mouth to above the hair of a large head
    low, top = float(marks[8, 1]) - 3.0, float(model.mean[:, 1].max()) + 1.5
    target = (0.0, 0.5 * (low + top), float(marks[36:48, 2].mean()) - 4.0)
    fov = float(np.degrees(2 * np.arctan(0.5 * max(top - low, 18.0) / _DISTANCE)))
    camera = portrait_camera(size=size, distance=_DISTANCE, fov=fov, yaw=yaw, target=target)
    sheet = np.full((_TITLE + people * size, _MARGIN + len(columns) * len(sides) * size, 3), 255, np.uint8)
    faces, lights = torch.as_tensor(model.faces), default_lights(1)
    for i, p in enumerate(persons):
        rows = []
        for k, column in enumerate(columns):
            if named:
                factual = emotion_preset(model, column, np.random.default_rng([seed, i, EMOTIONS.index(column)]))
            else:
                own = np.zeros(len(model.expression_names), dtype=np.float32)
                if len(own):
                    own[k] = min(1.0 if model.expression_high[k] <= 1 else 2.0, model.expression_high[k])
                factual = model.expand(own)
            rows += [factual if s == "none" else edit(model.sided, factual, s, strength) for s in sides]
        with torch.no_grad():
            vertices = model.forward(torch.as_tensor(p.identity)[None], torch.as_tensor(np.stack(rows)))
            shade = furrow_shade(model, torch.as_tensor(np.stack(rows)), depth_of(p.attributes))
            skin = furrowed(model, torch.as_tensor(p.albedo), shade)
            images, _ = render(vertices, faces, skin, camera, lights)
        tiles = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        sheet[_TITLE + i * size : _TITLE + (i + 1) * size, _MARGIN:] = np.concatenate(list(tiles), axis=1)
    return _labelled(sheet, [f"{c} {'' if s == 'none' else s}" for c in columns for s in sides], persons, size)


def _labelled(sheet: np.ndarray, titles: list[str], persons: list, size: int) -> np.ndarray:
    picture = Image.fromarray(sheet)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=11)
    for k, title in enumerate(titles):
        draw.text((_MARGIN + k * size + 4, 3), title, fill=(0, 0, 0), font=font)
    for i, p in enumerate(persons):
        a = p.attributes
        lines = [p.subject, str(a.get("sex", "")), f"{a['age']:.0f} years" if "age" in a else ""]
        lines += [str(a.get("ancestry", "")), f"skin {a['fitzpatrick']}" if "fitzpatrick" in a else ""]
        text = "\n".join(line for line in lines if line)
        draw.text((4, _TITLE + i * size + 6), text, fill=(0, 0, 0), font=font)
    return np.asarray(picture)
