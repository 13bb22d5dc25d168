"""The split of a face model into hemifaces and regions.

The hemiface weight of a vertex depends on its x on the neutral mesh alone: ``w_left = S((x + h) / 2h)`` with the
quintic smoothstep S (twice continuously differentiable, so shading has no kink) and the half-width h of
:data:`HALF_WIDTH`; ``w_right = 1 - w_left`` exactly, and the weight of a mirrored vertex is one minus the vertex'
own, exactly.

A shape without a side is multiplied by the weights. A natively sided pair (L, R) moves vertices beyond the midline too:
mouthSmileLeft of ICT-FaceKit by up to 0.22 cm at 0.8 cm on the other side. So that an untouched half really does not
move, what L does beyond the blend zone is handed to R and the other way round, and L fades out between the midline
and the zone's end::

    L' = a L + (1 - a*) R      a = S((x + h) / h), a* = a at the mirrored vertex
    R' = a* R + (1 - a) L      L' + R' = L + R everywhere

L' keeps the native shape at the midline (a one-sided smile pulls the philtrum to its side), is zero where w_left is
zero, and both together are the unsplit expression. docs/design/faces.md has the alternatives and the measured crease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from .arkit import ARKIT_NAMES, DIRECTIONS, mirror_name, nerve_of, region_of, side_of

HALF_WIDTH = 1.2
"""cm: the blend zone reaches this far to either side of the midline."""

FACE_REGIONS = ("brow", "eye", "nose", "cheek", "mouth")
_REGION_SOFTNESS = 0.6  # cm: distance over which one region gives way to the next by a factor e

MIRROR68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
"""iBUG-68: which landmark is whose mirror image."""


def smoothstep(t: np.ndarray) -> np.ndarray:
    """The quintic ``6t⁵ - 15t⁴ + 10t³`` on [0, 1], 0 below and 1 above: value, slope and curvature are continuous."""
    t = np.clip(t, 0.0, 1.0)
    return t**3 * (t * (6.0 * t - 15.0) + 10.0)


def hemiface_weights(mean: np.ndarray, mirror: np.ndarray, half_width: float = HALF_WIDTH) -> np.ndarray:
    """``w_left`` (V,) float32 from the neutral mesh ``mean`` (V, 3) cm and the mirror map (V,).

    Exactly 0 or 1 outside ±``half_width``; ``w[mirror] == 1 - w`` bit for bit.
    """
    x = 0.5 * (mean[:, 0].astype(np.float64) - mean[mirror, 0])  # a residual asymmetry of the mesh cancels
    upper = smoothstep((np.abs(x) + half_width) / (2.0 * half_width)).astype(np.float32)  # in [0.5, 1]
    return np.where(x >= 0, upper, np.float32(1.0) - upper).astype(np.float32)  # 1 - upper is exact there


def fade_weights(mean: np.ndarray, mirror: np.ndarray, half_width: float = HALF_WIDTH) -> np.ndarray:
    """How much a natively left shape keeps of itself: (V,) float32, 1 on its own half, 0 beyond the blend zone."""
    x = 0.5 * (mean[:, 0].astype(np.float64) - mean[mirror, 0])
    fade = smoothstep((x + half_width) / half_width).astype(np.float32)
    fade[hemiface_weights(mean, mirror, half_width) == 0] = 0.0  # where the weight rounds to 0 nothing may move
    return fade


@dataclass(frozen=True, eq=False)
class Split:
    """The arrays of a :class:`morphsym.types.SidedBasis`, and how to get there from the model's own coefficients."""

    names: tuple[str, ...]  # Ks
    basis: np.ndarray  # (Ks, V, 3) float32
    side: np.ndarray  # (Ks,) int8
    partner: np.ndarray  # (Ks,) int64
    source: np.ndarray  # (Ks,) int64
    nerve: tuple[str, ...]  # Ks
    region: tuple[str, ...]  # Ks


def split_named(
    names: Sequence[str], basis: np.ndarray, w_left: np.ndarray, fade: np.ndarray, mirror: np.ndarray
) -> Split:
    """Give every shape of an ARKit-named basis (Ke, V, 3) a side.

    ``mouthSmileLeft`` keeps its name; ``mouthPucker`` becomes ``mouthPucker.left`` and ``mouthPucker.right``. Raises
    :class:`ModelError` when a sided shape lacks its partner.
    """
    names = list(names)
    index = {n: i for i, n in enumerate(names)}
    wl, wr = w_left[:, None], w_left[mirror][:, None]
    a, a_mirror = fade[:, None], fade[mirror][:, None]
    found: list[tuple[str, int]] = []
    for i, name in enumerate(names):
        if side_of(name):
            if mirror_name(name) not in index:
                raise ModelError(f"the shape {name!r} has no mirror partner {mirror_name(name)!r} in this model")
            found.append((name, i))
        else:
            if name in DIRECTIONS and mirror_name(name) not in index:
                raise ModelError(f"the shape {name!r} has no mirror partner {mirror_name(name)!r} in this model")
            found += [(f"{name}.left", i), (f"{name}.right", i)]
    sided = np.empty((len(found), *basis.shape[1:]), dtype=np.float32)
    for k, (name, i) in enumerate(found):
        own = basis[i]
        if side_of(names[i]) == 0:
            sided[k] = own * (wl if side_of(name) > 0 else wr)
        else:
            other = basis[index[mirror_name(name)]]
            keep, lost = (a, a_mirror) if side_of(name) > 0 else (a_mirror, a)
            sided[k] = own * keep + other * (1.0 - lost)
    where = {n: k for k, (n, _) in enumerate(found)}
    return Split(
        names=tuple(where),
        basis=sided,
        side=np.array([side_of(n) for n in where], dtype=np.int8),
        partner=np.array([where[mirror_name(n)] for n in where], dtype=np.int64),
        source=np.array([i for _, i in found], dtype=np.int64),
        nerve=tuple(nerve_of(n) for n in where),
        region=tuple(region_of(n) for n in where),
    )


def split_unnamed(
    names: Sequence[str],
    basis: np.ndarray,
    w_left: np.ndarray,
    mirror: np.ndarray,
    regions: dict[str, np.ndarray],
) -> Split:
    """Split global shapes without anatomical names (FLAME, BFM) by side × region: ``exp000.mouth.left``.

    ``regions`` (V,) masks must sum to one at every vertex, or the parts would not add up to the shape: else
    :class:`ModelError`. All parts count as facial (the model's jaw, if it has one, is a joint and not a shape). The
    partner is the same region of the same shape on the other side; it is the exact mirror image only where the shape
    itself is symmetric."""
    total = np.sum([regions[r] for r in regions], axis=0)
    if not np.allclose(total, 1.0, atol=1e-5):
        raise ModelError(
            f"the region masks must sum to 1 at every vertex; they sum to {total.min():.4g} to {total.max():.4g}"
        )
    parts = [(f"{n}.{r}.{s}", i, r, s) for i, n in enumerate(names) for r in regions for s in ("left", "right")]
    masks = {
        (r, s): (regions[r] * (w_left if s == "left" else w_left[mirror]))[:, None].astype(np.float32)
        for r in regions
        for s in ("left", "right")
    }
    sided = np.empty((len(parts), *basis.shape[1:]), dtype=np.float32)
    for k, (_, i, r, s) in enumerate(parts):
        np.multiply(basis[i], masks[r, s], out=sided[k])
    return Split(
        names=tuple(p[0] for p in parts),
        basis=sided,
        side=np.array([1 if p[3] == "left" else -1 for p in parts], dtype=np.int8),
        partner=np.arange(len(parts), dtype=np.int64) ^ 1,  # left and right alternate
        source=np.array([p[1] for p in parts], dtype=np.int64),
        nerve=("facial",) * len(parts),
        region=tuple(p[2] for p in parts),
    )


def split_mixed(
    names: Sequence[str],
    basis: np.ndarray,
    w_left: np.ndarray,
    fade: np.ndarray,
    mirror: np.ndarray,
    regions: dict[str, np.ndarray],
) -> Split:
    """A basis without anatomical names in which a few shapes have ARKit's (FLAME's jaw as ``jawOpen``).

    Those go through :func:`split_named`, the others through :func:`split_unnamed`; both in the order of ``names``
    within their kind."""
    named = [i for i, n in enumerate(names) if n in ARKIT_NAMES]
    other = [i for i, n in enumerate(names) if n not in ARKIT_NAMES]
    first = split_named([names[i] for i in named], basis[named], w_left, fade, mirror)
    second = split_unnamed([names[i] for i in other], basis[other], w_left, mirror, regions)
    if not named:
        return second
    return Split(
        names=first.names + second.names,
        basis=np.concatenate([first.basis, second.basis]),
        side=np.concatenate([first.side, second.side]),
        partner=np.concatenate([first.partner, second.partner + len(first.names)]),
        source=np.concatenate([np.array(named)[first.source], np.array(other, dtype=np.int64)[second.source]]),
        nerve=first.nerve + second.nerve,
        region=first.region + second.region,
    )


def region_masks(mean: np.ndarray, landmarks: np.ndarray, mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Smooth, mirror-symmetric masks (V,) float32 for brow, eye, nose, cheek and mouth; they sum to one everywhere.

    ``landmarks`` (68, 3) are the neutral mesh's. Each region has anchor points among or between them; a region's share
    at a vertex is its mean of ``exp(-distance / 0.6 cm)`` over the anchors, normalised over the regions.
    """
    p = landmarks.astype(np.float64)
    p = 0.5 * (p + p[MIRROR68] * [-1.0, 1.0, 1.0])
    up = np.array([0.0, 0.8, 0.0])
    brow = p[17:27]
    below = [p[[40, 41]].mean(0) - up, p[[46, 47]].mean(0) - up]
    cheek = [q for eye, corner in ((below[0], p[48]), (below[1], p[54])) for q in (0.7 * eye + 0.3 * corner,)]
    cheek += [0.5 * (c + jaw) for c, jaws in ((cheek[0], (2, 3, 4)), (cheek[1], (12, 13, 14))) for jaw in p[list(jaws)]]
    anchors = {
        "brow": np.concatenate([brow, brow + up, brow + 3 * up, brow + 6 * up - [0, 0, 0.5]]),
        "eye": np.concatenate([p[36:48], p[36:42].mean(0)[None], p[42:48].mean(0)[None]]),
        "nose": p[27:36],
        "cheek": np.concatenate([np.array(cheek), p[[1, 2, 3, 4, 5, 11, 12, 13, 14, 15]]]),
        "mouth": np.concatenate([p[48:68], p[6:11], 0.5 * (p[[57]] + p[[8]])]),
    }
    v = mean.astype(np.float64)
    shares = np.empty((len(FACE_REGIONS), len(v)))
    distances = [
        np.sqrt(((v[:, None] - anchors[r][None]) ** 2).sum(-1) + 0.01) / _REGION_SOFTNESS for r in FACE_REGIONS
    ]
    nearest = np.min([d.min(axis=1) for d in distances], axis=0)[:, None]  # keeps the exponentials in range
    for k, d in enumerate(distances):
        shares[k] = np.exp(nearest - d).mean(axis=1)
    shares = 0.5 * (shares + shares[:, mirror])
    shares /= shares.sum(axis=0)
    return {r: shares[k].astype(np.float32) for k, r in enumerate(FACE_REGIONS)}
