"""Lights for synthetic portraits: a plain studio default, spherical harmonics, point lights, and random variety.

Directions point from the face to the light in the *camera* frame (+x right in the picture, +y down, +z away from the
camera), so a light stays where it is when the head turns. Colours are linear RGB. The sum of all light is near 1, so
that a surface that faces it shows about its albedo.

**Spherical harmonics** (Ramamoorthi & Hanrahan 2001, *An Efficient Representation for Irradiance Environment Maps*).
``Lights.sh`` are the coefficients ``L_lm`` of the environment's radiance in the real orthonormal harmonics ``Y_lm`` of
:func:`basis`, so that ``L_lm = integral of radiance * Y_lm``. A surface of normal n reflects ``albedo / pi`` of the
irradiance ``E(n) = sum A_l L_lm Y_lm(n)`` with ``A = pi, 2 pi / 3, pi / 4`` (their eq. 8), clipped at 0, which an
expansion of order 2 may miss by some percent. Hence a constant environment of radiance c (``L_00 = c sqrt(4 pi)``)
is an ``ambient`` of c. Highlights come from the directional and the point lights only: order 2 holds none.

**Point lights** fall off with the square of the distance: ``power`` is what a directional light's ``intensity`` would
be at 100 cm. A light nearer than 1 cm to the skin gets no brighter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import RenderError
from ..types import Lights

FIELDS = ("ambient", "direction", "intensity", "specular")
OPTIONAL = ("sh", "position", "power")

_Y0, _Y1 = 0.5 / math.sqrt(math.pi), math.sqrt(3 / (4 * math.pi))
_Y2, _Y20, _Y22 = (math.sqrt(k / math.pi) / d for k, d in ((15, 2), (5, 4), (15, 4)))
NORMS = torch.tensor([_Y0, _Y1, _Y1, _Y1, _Y2, _Y2, _Y20, _Y2, _Y22], dtype=torch.float64)
"""``Y_lm`` over the polynomials 1, y, z, x, xy, yz, 3 z² - 1, xz, x² - y²: 0.282, 0.489, 1.093, 0.315, 0.546."""
SCALES = NORMS * torch.tensor([1.0] + 3 * [2 / 3] + 5 * [1 / 4], dtype=torch.float64)
"""What turns ``L_lm`` into reflected light over albedo, as coefficients of the polynomials: ``A_l / pi * NORMS``."""
_MIRROR = torch.tensor([1, 1, 1, -1, -1, 1, 1, -1, 1], dtype=torch.float64)  # harmonics that are odd in x


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


# -- spherical harmonics -------------------------------------------------------------------------------------------------
def polynomials(directions: Tensor) -> Tensor:
    """1, y, z, x, xy, yz, 3 z² - 1, xz, x² - y² of unit ``directions`` (..., 3): (..., 9); differentiable."""
    x, y, z = directions.unbind(-1)
    one = torch.ones_like(x)
    return torch.stack([one, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], -1)


def basis(directions: Tensor) -> Tensor:
    """The nine real orthonormal harmonics ``Y_lm`` (..., 9) of unit ``directions`` (..., 3) in the camera frame.

    In the order (l, m) = 00, 1-1, 10, 11, 2-2, 2-1, 20, 21, 22.
    """
    return polynomials(directions) * NORMS.to(directions)


def environment_light(normals: Tensor, sh: Tensor) -> Tensor:
    """What an environment ``sh`` (B, 9, 3) adds to the light on ``normals`` (B, V, 3), camera frame: (B, V, 3)."""
    return (polynomials(normals) @ (sh * SCALES.to(sh)[:, None]).to(normals)).clamp(min=0)


def project_environment(radiance: Tensor | np.ndarray) -> Tensor:
    """Coefficients (9, 3) float32 of an environment map (H, W, 3) of linear radiance.

    Equirectangular, as seen from the face: the middle column looks at the camera, columns to the right lie to the right
    of the picture, the top row is above. Raises :class:`RenderError` for another shape or values that are not finite.
    """
    image = torch.as_tensor(radiance, dtype=torch.float64)
    if image.ndim != 3 or image.shape[2] != 3 or not image.numel():
        raise RenderError(f"an environment map must have shape (H, W, 3), got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise RenderError("the environment map holds a value that is not finite")
    height, width = image.shape[:2]
    azimuth, elevation = _grid(height, width)
    d = light_direction(azimuth, elevation).double()
    rows = np.linspace(math.pi / 2, -math.pi / 2, height + 1)
    area = torch.as_tensor(-np.diff(np.sin(rows)) * 2 * math.pi / width)  # solid angle of a pixel of each row
    return torch.einsum("hw,hwk,hwc->kc", area[:, None].expand(height, width), basis(d), image).float()


def lobe(direction: Tensor, intensity: Tensor, width: float = 0.0) -> Tensor:
    """Coefficients (..., 9, 3) of a lamp at unit ``direction`` (..., 3) with ``intensity`` (..., 3), spread over a disc.

    ``width`` degrees is the disc's angular radius, 0 to 90 (a point to a hemisphere). The lamp's radiance is constant
    in the disc and its total is that of a directional light of ``intensity``, which a narrow one approaches to within
    0.094 of it (order 2 is that soft). Zonal harmonics, rotated (Ramamoorthi & Hanrahan 2001, section 3).
    """
    if not 0 <= width <= 90:
        raise RenderError(f"the width of a lamp must be 0 to 90 degrees, got {width:g}")
    c = math.cos(math.radians(width))
    # mean of the Legendre polynomials over the disc
    mean = (1.0, (1 + c) / 2, c * (1 + c) / 2)
    soft = torch.tensor([mean[0]] + 3 * [mean[1]] + 5 * [mean[2]], dtype=torch.float64).to(direction)
    return (math.pi * basis(direction) * soft)[..., None] * intensity[..., None, :]


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation, degrees, of the pixels' centres."""
    azimuth = (np.arange(width) + 0.5) / width * 360 - 180
    elevation = 90 - (np.arange(height) + 0.5) / height * 180
    return np.broadcast_to(azimuth, (height, width)), np.broadcast_to(elevation[:, None], (height, width))


# -- random variety ------------------------------------------------------------------------------------------------------
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


PLACES = {"front": (0.0, 20.0), "left": (60.0, 20.0), "right": (-60.0, 20.0), "above": (0.0, 60.0)}
"""Azimuth and elevation in degrees of a key light in a swept place; left and right are those of a frontal subject."""


def placed(lights: Lights, place: str) -> Lights:
    """``lights`` with the key light in one of :data:`PLACES`, as strong and as coloured as before; ``soft``: in front, and
    four fifths of all light come from everywhere, as under a clouded sky."""
    if place not in (*PLACES, "soft"):
        raise RenderError(f"a light stands at one of {', '.join(PLACES)}, soft; got {place!r}")
    direction = light_direction(*PLACES["front" if place == "soft" else place]).repeat(len(lights), 1)
    if place != "soft":
        return replace(lights, direction=direction)
    total = lights.ambient + lights.intensity
    return replace(lights, ambient=0.8 * total, intensity=0.2 * total, direction=direction)


def sample_environments(rng: np.random.Generator, n: int) -> Lights:
    """``n`` soft surroundings as spherical harmonics: a ceiling or sky, a floor, and one or two windows.

    Windows at azimuths within ±110° (both sides equally likely) and elevations −5 to 50°, 15 to 45° in radius, together
    0.35 to 0.7 of a total of 0.9 to 1.15; the rest is constant light with a ceiling up to 0.3 brighter and a floor up
    to 0.3 darker than it. Colours as :func:`sample_lights`. No directional light, so no highlights.
    """
    total, share = rng.uniform(0.9, 1.15, n), rng.uniform(0.35, 0.7, n)
    warmth, slope = rng.uniform(-0.07, 0.07, n), rng.uniform(0.0, 0.3, n)
    second = rng.uniform(0.0, 0.6, n) * (rng.random(n) < 0.5)  # the second window over the first
    azimuth, elevation = rng.uniform(-110, 110, (n, 2)), rng.uniform(-5, 50, (n, 2))
    radius = rng.uniform(15, 45, (n, 2))
    tint = torch.as_tensor(np.stack([1 + warmth, np.ones(n), 1 - warmth], -1))
    sh = torch.zeros(n, 9, 3, dtype=torch.float64)
    for i in range(n):
        rest = total[i] * (1 - share[i]) * (1 - (tint[i] - 1) / 2)
        sh[i, 0] = rest * math.sqrt(4 * math.pi)
        # a radiance of rest * (1 + slope * upwards): upwards is -y, and the integral of y * Y_1-1 is sqrt(4 pi / 3)
        sh[i, 1] = -rest * slope[i] * math.sqrt(4 * math.pi / 3)
        for k, weight in enumerate((1.0, second[i])):
            intensity = total[i] * share[i] * weight / (1 + second[i]) * tint[i]
            direction = light_direction(azimuth[i, k], elevation[i, k]).double()
            sh[i] += lobe(direction, intensity, float(radius[i, k]))
    return Lights(
        ambient=torch.zeros(n, 3),
        direction=light_direction(np.zeros(n), 0.0 * azimuth[:, 0]),
        intensity=torch.zeros(n, 3),
        specular=torch.zeros(n),
        sh=sh.float(),
    )


def sample_point_lights(rng: np.random.Generator, n: int, distance: float = 75.0) -> Lights:
    """``n`` scenes with one lamp near the head, in ambient light.

    ``distance`` of the head from the camera, cm. The lamp is 40 to 120 cm from the head, azimuth within ±60°, elevation
    −5 to 60°; totals, shares, colours and highlights as :func:`sample_lights`.
    """
    far = sample_lights(rng, n)
    reach = torch.as_tensor(rng.uniform(40, 120, n), dtype=torch.float32)[:, None]
    head = torch.tensor([0.0, 0.0, distance])
    return Lights(
        ambient=far.ambient,
        direction=far.direction,
        intensity=torch.zeros(n, 3),
        specular=far.specular,
        position=(head + reach * far.direction)[:, None],
        power=(far.intensity * (reach / 100) ** 2)[:, None],
    )


SAMPLERS: dict[str, Callable[[np.random.Generator, int], Lights]] = {
    "lamp": sample_lights,
    "surroundings": sample_environments,
    "point": sample_point_lights,
}
"""Kinds of light of sampled people: a far lamp, an environment of spherical harmonics, a lamp near the head."""


# -- batches -------------------------------------------------------------------------------------------------------------
def mirrored(lights: Lights) -> Lights:
    """The lights of the mirror image: left and right of the picture exchanged."""
    flip = torch.tensor([-1.0, 1.0, 1.0])
    return Lights(
        lights.ambient,
        lights.direction * flip.to(lights.direction),
        lights.intensity,
        lights.specular,
        None if lights.sh is None else lights.sh * _MIRROR.to(lights.sh)[:, None],
        None if lights.position is None else lights.position * flip.to(lights.position),
        lights.power,
    )


def join(lights: Sequence[Lights]) -> Lights:
    """One batch out of several. Those without an environment or with fewer point lights get dark ones."""
    if not lights:
        raise RenderError("there are no lights to join")
    ambient, direction, intensity, specular = (torch.cat([getattr(x, k) for x in lights]) for k in FIELDS)
    sh = position = power = None
    if any(x.sh is not None for x in lights):
        sh = torch.cat([torch.zeros(len(x), 9, 3) if x.sh is None else x.sh for x in lights])
    most = max(0 if x.position is None else x.position.shape[1] for x in lights)
    if most:
        position, power = (torch.cat([_padded(x, getattr(x, k), most) for x in lights]) for k in ("position", "power"))
    return Lights(ambient, direction, intensity, specular, sh, position, power)


def _padded(lights: Lights, value: Tensor | None, most: int) -> Tensor:
    value = torch.zeros(len(lights), 0, 3) if value is None else value
    return torch.cat([value, value.new_zeros(len(value), most - value.shape[1], 3)], 1)


def select(lights: Lights, index: Tensor | np.ndarray | list[int] | slice) -> Lights:
    """The lights at ``index``, which keeps the batch dimension."""
    optional = {k: None if getattr(lights, k) is None else getattr(lights, k)[index] for k in OPTIONAL}
    return Lights(
        lights.ambient[index], lights.direction[index], lights.intensity[index], lights.specular[index], **optional
    )


def validate(lights: Lights, batch: int) -> None:
    """Raise :class:`RenderError` unless finite, non-negative, with unit directions, and 1 or ``batch`` of them."""
    n = len(lights)
    if n not in (1, batch):
        raise RenderError(f"expected 1 or {batch} lights, one a mesh, got {n}")
    shapes = {"ambient": (n, 3), "direction": (n, 3), "intensity": (n, 3), "specular": (n,)}
    if lights.sh is not None:
        shapes["sh"] = (n, 9, 3)
    if (lights.position is None) != (lights.power is None):
        raise RenderError("lights.position and lights.power belong together: give both, or neither")
    if lights.position is not None:
        count = lights.position.shape[1] if lights.position.ndim == 3 else 1
        shapes |= {"position": (n, count, 3), "power": (n, count, 3)}
    for key, shape in shapes.items():
        value = getattr(lights, key)
        if tuple(value.shape) != shape:
            raise RenderError(f"lights.{key} must have shape {shape}, got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise RenderError(f"lights.{key} holds a value that is not finite")
        if key not in ("direction", "sh", "position") and bool((value < 0).any()):
            raise RenderError(f"lights.{key} must not be negative, got {value.min().item():g}")
    if lights.sh is not None and bool((lights.sh[:, 0] < 0).any()):
        raise RenderError(
            f"lights.sh[:, 0], the mean of the environment, must not be negative, got {lights.sh[:, 0].min().item():g}"
        )
    length = lights.direction.norm(dim=-1)
    if bool(((length - 1).abs() > 1e-3).any()):
        raise RenderError(
            f"lights.direction must have unit length, got {length.min().item():g}…{length.max().item():g}"
        )
