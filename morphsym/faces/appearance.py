"""Skin, hair and eye colours: a continuous pigment model, and paint on a face model.

Skin follows the two-layer pigment model of Donner & Jensen, 'A Spectral BSSRDF for Shading Human Skin' (EGSR 2006):
eumelanin and pheomelanin absorb in the epidermis, oxy- and deoxyhaemoglobin in the dermis; absorption and reduced
scattering as published there, haemoglobin's extinction from S. Prahl's compilation (omlc.org/spectra/hemoglobin). The
epidermis is a thin layer that absorbs and scatters (Kubelka & Munk 1931, with the coefficients K = 2 σa, S = ¾ σs'); the
dermis below it reflects like a semi-infinite medium (total diffuse reflectance of Jensen et al., SIGGRAPH 2001, eq. 15).
Without the light that the epidermis sends back itself dark skin comes out orange. The spectrum becomes sRGB through the CIE
1931 observer in the analytic form of Wyman, Sloan & Shirley (JCGT 2013), with a perfect white reflector as white.

Skin types I to VI are assigned from the individual typology angle, ITA° = atan((L* − 50) / b*), with the limits 55, 41,
28, 10, −30 of Chardon et al. (1991) and Del Bino & Bernerd (2013). That is a colour scale; Fitzpatrick's own types ask how
skin reacts to the sun.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UsageError

_NM = np.arange(400.0, 701.0, 10.0)
# Molar extinction, 1/(cm M), at _NM (Prahl). Oxygenated and deoxygenated haemoglobin.
# Written down from knowledge of that table and not yet compared with it entry by entry: a colour model, not an oximeter.
_OXY = np.array(
    [
        266232,
        466840,
        480360,
        246072,
        102580,
        62816,
        44480,
        33209,
        26629,
        23684,
        20933,
        20035,
        24202,
        39957,
        53236,
        43016,
    ]
    + [32613, 44496, 50104, 14400, 3200, 1506, 942, 610, 442, 368, 320, 294, 278, 276, 290],
    dtype=np.float64,
)
_DEOXY = np.array(
    [
        223296,
        303956,
        407560,
        528600,
        413280,
        103292,
        23389,
        16156,
        14550,
        16684,
        20862,
        25774,
        31590,
        39037,
        46592,
        53412,
    ]
    + [53788, 45072, 37020, 28325, 14677, 9444, 6510, 5149, 4345, 3750, 3227, 2795, 2408, 2052, 1794],
    dtype=np.float64,
)
_PER_MM = 2.303 * 150.0 / 64500.0 / 10.0  # 150 g/l of haemoglobin (64,500 g/mol) in whole blood; 1/cm to 1/mm
_EPIDERMIS_MM = 0.06
_EPIDERMAL_SCATTER = 0.4
"""Share of the published scattering that the epidermis has. Ours, so that L*, a*, b* of the skin types come out where
colorimeters find facial skin (Xiao et al. 2017, Skin Research and Technology 23:21-29: L* 70 to 38, b* 11 to 20)."""
_SURFACE = 0.02  # what the rough surface sends back, white: about the Fresnel reflectance of n = 1.4 less its highlight
_FITZPATRICK = ((55.0, "I"), (41.0, "II"), (28.0, "III"), (10.0, "IV"), (-30.0, "V"))

MELANIN_RANGE = (0.006, 0.43)
"""Volume share of melanosomes in the epidermis: 1.3–6.3 % in lightly, 11–16 % in moderately, 18–43 % in darkly pigmented
adults (Jacques 1998)."""
HAEMOGLOBIN_RANGE = (0.002, 0.05)
"""Volume share of blood in the dermis (Donner & Jensen 2006 use 0.1 to 10 %)."""

IRIS_COLOURS = {
    "brown": (0.23, 0.13, 0.07),
    "dark brown": (0.12, 0.07, 0.04),
    "hazel": (0.36, 0.25, 0.11),
    "green": (0.33, 0.38, 0.22),
    "blue": (0.33, 0.46, 0.58),
    "grey": (0.42, 0.46, 0.49),
}
HAIR_COLOURS = {
    "black": (0.055, 0.048, 0.045),
    "dark brown": (0.14, 0.095, 0.065),
    "brown": (0.27, 0.175, 0.11),
    "blond": (0.57, 0.46, 0.32),
    "red": (0.42, 0.22, 0.13),
    "grey": (0.60, 0.59, 0.57),
}


@dataclass(frozen=True)
class Appearance:
    """Everything that colours a face. Colours are sRGB in [0, 1]; pigments are volume shares."""

    melanin: float = 0.05
    haemoglobin: float = 0.015
    eumelanin: float = 0.8  # of the melanin; the rest is pheomelanin
    iris: tuple[float, float, float] = IRIS_COLOURS["brown"]
    hair: tuple[float, float, float] = HAIR_COLOURS["dark brown"]
    brow: tuple[float, float, float] = HAIR_COLOURS["dark brown"]
    brow_density: float = 0.9  # 0…1
    lip_blood: float = 3.0  # the lips' haemoglobin relative to the skin's
    flush: float = 1.6  # the cheeks' and the nose's
    hair_density: float = 1.0  # 0: shaved


DEFAULT = Appearance()


def skin_colour(melanin: float, haemoglobin: float, eumelanin: float = 0.8) -> np.ndarray:
    """Diffuse colour of skin: (3,) sRGB in [0, 1]. Arguments as in :class:`Appearance`; source in the module's head."""
    nm = _NM
    base = 0.0244 + 8.53 * np.exp(-(nm - 154.0) / 66.2)  # 1/mm
    melanins = eumelanin * 6.6e10 * nm**-3.33 + (1.0 - eumelanin) * 2.9e14 * nm**-4.75
    epidermis = melanin * melanins + (1.0 - melanin) * base
    blood = _PER_MM * (0.75 * _OXY + 0.25 * _DEOXY)
    dermis = haemoglobin * blood + (1.0 - haemoglobin) * base
    scatter = 14.74 * nm**-0.22 + 2.2e11 * nm**-4.0
    albedo = scatter / (scatter + dermis)
    eta = 1.4
    inner = -1.440 / eta**2 + 0.710 / eta + 0.668 + 0.0636 * eta  # internal diffuse Fresnel reflectance
    a = (1.0 + inner) / (1.0 - inner)
    root = np.sqrt(3.0 * (1.0 - albedo))
    reflectance = 0.5 * albedo * (1.0 + np.exp(-4.0 / 3.0 * a * root)) * np.exp(-root)
    back, through = _layer(2.0 * epidermis, 0.75 * _EPIDERMAL_SCATTER * scatter)
    reflectance = back + through**2 * reflectance / (1.0 - back * reflectance)  # to and fro between the layers
    reflectance = _SURFACE + (1.0 - _SURFACE) * reflectance
    return encode_srgb(np.clip(reflectance @ _TO_LINEAR, 0.0, 1.0))


def _layer(k: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse reflectance and transmittance of the epidermis alone (Kubelka & Munk); coefficients in 1/mm."""
    a = 1.0 + k / s
    b = np.sqrt(a * a - 1.0)
    x = b * s * _EPIDERMIS_MM
    below = a * np.sinh(x) + b * np.cosh(x)
    return np.sinh(x) / below, b / below


def ita(srgb: np.ndarray) -> float:
    """Individual typology angle of a colour (3,) in degrees: high is light."""
    lab = _lab(srgb)
    return float(np.degrees(np.arctan2(lab[0] - 50.0, lab[2])))


def fitzpatrick(srgb: np.ndarray) -> str:
    """'I' to 'VI' from :func:`ita`."""
    angle = ita(srgb)
    return next((t for limit, t in _FITZPATRICK if angle > limit), "VI")


_MIDDLES = {"I": 58.0, "II": 48.0, "III": 34.5, "IV": 19.0, "V": -10.0, "VI": -40.0}
"""ITA° in the middle of each type."""


def melanin_of(skin_type: str, haemoglobin: float, eumelanin: float) -> float:
    """The volume share of melanin that gives skin of ``skin_type`` (I to VI), in its middle, with this much blood.

    ITA° falls as melanin rises, so it is found by bisection. Raises :class:`UsageError` for an unknown type."""
    if skin_type not in _MIDDLES:
        raise UsageError(f"skin must be one of {', '.join(_MIDDLES)}; got {skin_type!r}")
    low, high = 1e-4, 0.6
    for _ in range(50):
        middle = float(np.sqrt(low * high))
        darker = ita(skin_colour(middle, haemoglobin, eumelanin)) < _MIDDLES[skin_type]
        low, high = (low, middle) if darker else (middle, high)
    return float(np.clip(np.sqrt(low * high), 1e-4, 0.6))


def sample_appearance(
    rng: np.random.Generator, melanin_centre: float | None = None, age: float | None = None
) -> Appearance:
    """A plausible colouring. ``melanin_centre`` (volume share) sets around what skin tone; without it all tones from I to
    VI are drawn about equally. ``age`` in years greys the hair. Light eyes and hair occur with light skin only."""
    low, high = np.log(MELANIN_RANGE)
    if melanin_centre is None:
        log_melanin = rng.uniform(low, high)
    else:
        log_melanin = np.log(melanin_centre) + 0.45 * rng.standard_normal()
    melanin = float(np.exp(np.clip(log_melanin, low, high)))
    haemoglobin = float(np.clip(0.015 * np.exp(0.3 * rng.standard_normal()), *HAEMOGLOBIN_RANGE))
    light = 1.0 / (1.0 + (melanin / 0.035) ** 3)  # 1 for very light skin, 0 for dark
    irises = {"blue": 0.32, "grey": 0.1, "green": 0.13, "hazel": 0.15, "brown": 0.3}
    dark_irises = {"dark brown": 0.75, "brown": 0.25}
    hairs = {"blond": 0.25, "brown": 0.35, "dark brown": 0.28, "red": 0.05, "black": 0.07}
    dark_hairs = {"black": 0.72, "dark brown": 0.28}
    iris = IRIS_COLOURS[_draw(rng, irises if rng.random() < light else dark_irises)]
    hair_name = _draw(rng, hairs if rng.random() < light else dark_hairs)
    grey = rng.random()  # drawn always, so that the stream does not depend on the age
    share = 0.0 if age is None else float(np.clip((age - 35.0) / 40.0, 0.0, 1.0)) * grey
    hair = _mix(HAIR_COLOURS[hair_name], HAIR_COLOURS["grey"], share)
    brow = _mix(HAIR_COLOURS[hair_name], (0.1, 0.07, 0.05), 0.35)
    brow = _mix(brow, HAIR_COLOURS["grey"], 0.6 * share)
    jitter = 1.0 + 0.12 * rng.standard_normal(3)
    return replace(
        DEFAULT,
        melanin=melanin,
        haemoglobin=haemoglobin,
        iris=_scaled(iris, float(jitter[0])),
        hair=_scaled(hair, float(jitter[1])),
        brow=_scaled(brow, float(jitter[2])),
        brow_density=float(rng.uniform(0.8, 1.0)),
        lip_blood=float(rng.uniform(2.2, 4.0)),
        flush=float(rng.uniform(1.2, 2.0)),
    )


def compose(paint: Mapping[str, np.ndarray], appearance: Appearance) -> np.ndarray:
    """Per-vertex colour (V, 3) float32 sRGB from material masks (V,) in [0, 1] and an appearance.

    Materials are laid over each other in linear light: skin, flush, lid, lip, brow, scalp_hair, mouth_cavity, tongue, gum,
    teeth, mouth_shadow, sclera, iris, pupil, catch_light, lash; those that a model lacks are left out.
    """
    a = appearance

    def skin(blood: float, melanin: float = 1.0) -> np.ndarray:
        return decode_srgb(skin_colour(min(a.melanin * melanin, 0.6), min(a.haemoglobin * blood, 0.12), a.eumelanin))

    base = skin(1.0)
    lip = skin(a.lip_blood, 1.15) * np.array([0.97, 0.80, 0.82])  # thin epithelium: blood shows, and it is moister
    sclera = decode_srgb(np.array([0.86, 0.83, 0.80]))
    colours: dict[str, tuple[np.ndarray, float]] = {
        "blush": (skin(a.flush), 1.0),
        "nostril": (skin(3.0, 1.5) * 0.25, 1.0),
        "lid": (skin(1.5, 1.25) * 0.92, 1.0),
        "lip": (lip, 0.9),
        "brow": (decode_srgb(np.array(a.brow)), a.brow_density),
        "scalp_hair": (decode_srgb(np.array(a.hair)), a.hair_density),
        "mouth_cavity": (decode_srgb(np.array([0.22, 0.06, 0.06])), 1.0),
        "tongue": (decode_srgb(np.array([0.62, 0.31, 0.30])), 1.0),
        "gum": (decode_srgb(np.array([0.55, 0.27, 0.27])), 1.0),
        "teeth": (decode_srgb(np.array([0.82, 0.79, 0.72])), 1.0),
        "mouth_shadow": (decode_srgb(np.array([0.12, 0.04, 0.04])), 0.85),
        "sclera": (sclera, 1.0),
        "iris": (decode_srgb(np.array(a.iris)), 1.0),
        "pupil": (np.array([0.003, 0.003, 0.003]), 1.0),
        "catch_light": (np.array([0.9, 0.9, 0.9]), 1.0),
        "lashline": (decode_srgb(np.array(a.brow)) * 0.35, 0.8),
        "lash": (decode_srgb(np.array(a.brow)) * 0.35, 1.0),
    }
    size = len(next(iter(paint.values())))
    linear = np.repeat(base[None], size, axis=0)
    for name, (colour, density) in colours.items():
        if name in paint:
            w = (paint[name] * density)[:, None]
            linear += w * (colour - linear)
    return encode_srgb(np.clip(linear, 0.0, 1.0)).astype(np.float32)


def decode_srgb(srgb: np.ndarray) -> np.ndarray:
    """sRGB-encoded values to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB-encoded values (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)


def _lab(srgb: np.ndarray) -> np.ndarray:
    xyz = _RGB_TO_XYZ @ decode_srgb(np.asarray(srgb, dtype=np.float64)) / _RGB_TO_XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _draw(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    p = np.array(list(shares.values()))
    return list(shares)[int(np.searchsorted(np.cumsum(p / p.sum()), rng.random(), side="right").clip(0, len(p) - 1))]


def _mix(a: tuple[float, ...], b: tuple[float, ...], share: float) -> tuple[float, float, float]:
    x = (1.0 - share) * np.array(a) + share * np.array(b)
    return float(x[0]), float(x[1]), float(x[2])


def _scaled(a: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    x = np.clip(np.array(a) * factor, 0.0, 1.0)
    return float(x[0]), float(x[1]), float(x[2])


_RGB_TO_XYZ = np.array(
    [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]]
)


def _spectrum_to_linear() -> np.ndarray:
    """(31, 3): reflectance at 400…700 nm to linear sRGB, a perfect reflector giving (1, 1, 1)."""

    def lobe(centre: float, below: float, above: float) -> np.ndarray:
        t = (_NM - centre) * np.where(centre > _NM, below, above)
        return np.exp(-0.5 * t * t)

    x = 1.056 * lobe(599.8, 0.0264, 0.0323) + 0.362 * lobe(442.0, 0.0624, 0.0374) - 0.065 * lobe(501.1, 0.0490, 0.0382)
    y = 0.821 * lobe(568.8, 0.0213, 0.0247) + 0.286 * lobe(530.9, 0.0613, 0.0322)
    z = 1.217 * lobe(437.0, 0.0845, 0.0278) + 0.681 * lobe(459.0, 0.0385, 0.0725)
    rgb = np.linalg.solve(_RGB_TO_XYZ, np.stack([x, y, z])).T
    return rgb / rgb.sum(axis=0)


_TO_LINEAR = _spectrum_to_linear()
