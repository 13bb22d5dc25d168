"""Lights for synthetic portraits: a plain studio default, and plausible random variety.

Directions point from the face to the light in the *camera* frame (+x right in the picture, +y down, +z away from the
camera), so a light stays where it is when the head turns. Colours are linear RGB. The sum of ambient and directional
light is near 1, so that a surface that faces the light shows about its albedo.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import RenderError
from ..types import Lights

FIELDS = ("ambient", "direction", "intensity", "specular")


def light_direction(azimuth: float | np.ndarray, elevation: float | np.ndarray) -> Tensor:
    """Unit directions (..., 3) float32 of lights seen from the face; degrees.

    ``azimuth`` 0 is at the camera, positive to the right of the picture; ``elevation`` is positive above.
    """
    a, e = np.deg2rad(np.asarray(azimuth, float)), np.deg2rad(np.asarray(elevation, float))
    d = np.stack([np.sin(a) * np.cos(e), -np.sin(e), -np.cos(a) * np.cos(e)], -1)
    return torch.as_tensor(d, dtype=torch.float32)


def default_lights(batch: int = 1) -> Lights:
    """A soft key light above the camera, on its vertical axis: it adds no asymmetry of its own to a frontal face."""
    return Lights(
        ambient=torch.full((batch, 3), 0.35),
        direction=light_direction(0.0, 35.0).repeat(batch, 1),
        intensity=torch.full((batch, 3), 0.75),
        specular=torch.full((batch,), 0.06),
    )


def sample_lights(rng: np.random.Generator, n: int) -> Lights:
    """``n`` plausible indoor and outdoor lights.

    Azimuth within ±60° (both sides equally likely), elevation −5 to 60°, ambient share 0.25 to 0.65 of a total of
    0.9 to 1.15, colour temperature from warm to cool (±7 % red against blue), specular 0.02 to 0.12.
    """
    azimuth = rng.uniform(-60, 60, n)
    elevation = rng.uniform(-5, 60, n)
    total = rng.uniform(0.9, 1.15, n)
    share = rng.uniform(0.25, 0.65, n)
    warmth = rng.uniform(-0.07, 0.07, n)
    tint = np.stack([1 + warmth, np.ones(n), 1 - warmth], -1)
    return Lights(
        # Sky light is cooler where the sun is warmer: half the tint, the other way round.
        ambient=torch.as_tensor((total * share)[:, None] * (1 - (tint - 1) / 2), dtype=torch.float32),
        direction=light_direction(azimuth, elevation),
        intensity=torch.as_tensor((total * (1 - share))[:, None] * tint, dtype=torch.float32),
        specular=torch.as_tensor(rng.uniform(0.02, 0.12, n), dtype=torch.float32),
    )


def join(lights: list[Lights]) -> Lights:
    """One batch out of several."""
    if not lights:
        raise RenderError("there are no lights to join")
    return Lights(*(torch.cat([getattr(x, k) for x in lights]) for k in FIELDS))


def select(lights: Lights, index: Tensor | np.ndarray | list[int] | slice) -> Lights:
    """The lights at ``index``, which keeps the batch dimension."""
    return Lights(lights.ambient[index], lights.direction[index], lights.intensity[index], lights.specular[index])


def validate(lights: Lights, batch: int) -> None:
    """Raise :class:`RenderError` unless finite, non-negative, with unit directions, and 1 or ``batch`` of them."""
    n = len(lights)
    if n not in (1, batch):
        raise RenderError(f"expected 1 or {batch} lights, one a mesh, got {n}")
    for key, shape in (("ambient", (n, 3)), ("direction", (n, 3)), ("intensity", (n, 3)), ("specular", (n,))):
        value = getattr(lights, key)
        if tuple(value.shape) != shape:
            raise RenderError(f"lights.{key} must have shape {shape}, got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise RenderError(f"lights.{key} holds a value that is not finite")
        if key != "direction" and bool((value < 0).any()):
            raise RenderError(f"lights.{key} must not be negative, got {value.min().item():g}")
    length = lights.direction.norm(dim=-1)
    if bool(((length - 1).abs() > 1e-3).any()):
        raise RenderError(
            f"lights.direction must have unit length, got {length.min().item():g}…{length.max().item():g}"
        )
