"""The edit itself: *do(weakness on one side = λ)* on the coefficients of a sided expression basis."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import UsageError
from ..types import NERVES, REGIONS, SIDES, SidedBasis


def reach(basis: SidedBasis, side: str, region: str = "all", include: Iterable[str] = ()) -> np.ndarray:
    """Which shapes a weakness reaches: ``(Ks,)`` bool.

    A shape is reached when it belongs to ``side`` (the subject's left or right, or both), to ``region`` ('all': any),
    and is moved by the facial nerve or by one of the nerves in ``include``. Raises :class:`UsageError` on an unknown
    side, region or nerve.
    """
    if side not in SIDES:
        raise UsageError(f"side must be one of {', '.join(SIDES)}; got {side!r}")
    if region not in REGIONS:
        raise UsageError(f"region must be one of {', '.join(REGIONS)}; got {region!r}")
    nerves = {"facial", *include}
    if unknown := nerves - set(NERVES):
        raise UsageError(f"include takes {', '.join(NERVES[1:])}; got {', '.join(sorted(unknown))}")
    reached = np.array([n in nerves for n in basis.nerve], dtype=bool)
    if side != "both":
        reached &= basis.side == (1 if side == "left" else -1)
    if region != "all":
        reached &= np.array([r == region for r in basis.region], dtype=bool)
    return reached


def weaken(coefficients: np.ndarray, reached: np.ndarray, strength: float) -> np.ndarray:
    """A copy of ``coefficients`` (…, Ks) with those that are ``reached`` (Ks,) scaled by ``1 - strength``.

    ``strength`` 0 gives the coefficients back bit for bit; 1 takes them to rest (0).
    """
    if not 0.0 <= strength <= 1.0:
        raise UsageError(f"strength must lie between 0 (no weakness) and 1 (no expression left), got {strength:g}")
    edited = np.array(coefficients, copy=True)
    if strength > 0.0:
        edited[..., reached] *= edited.dtype.type(1.0 - strength)
    return edited


def edit(
    basis: SidedBasis,
    coefficients: np.ndarray,
    side: str,
    strength: float,
    region: str = "all",
    include: Iterable[str] = (),
) -> np.ndarray:
    """The coefficients ``(…, Ks)`` after *do(weakness of* ``side`` *=* ``strength`` *)*; see :func:`reach`."""
    coefficients = np.asarray(coefficients)
    if coefficients.shape[-1] != len(basis):
        raise UsageError(f"expected {len(basis)} sided expression coefficients, got {coefficients.shape[-1]}")
    return weaken(coefficients, reach(basis, side, region, include), strength)
