"""What is asked: sides, strengths, regions and arms, declared in one place and counted before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UsageError
from ..types import NERVES, REGIONS, SIDES, Condition

MATCHED_RULES = ("mesh", "coefficients", "landmarks")
"""By what the symmetric control is matched to the unilateral weakness; see :mod:`.matching`."""

DEFAULT_ARMS = ("original", "baseline", "null", "unilateral", "matched", "mirrored_baseline", "mirrored_unilateral")


@dataclass(frozen=True)
class Design:
    """The interventions on every unit: the product of ``sides``, ``strengths`` and ``regions``, in all ``arms``.

    ``sides`` of the subject, each of left, right, both; ``strengths`` in [0, 1]; ``regions`` of
    :data:`morphsym.types.REGIONS`; ``include`` names nerves beside the facial one (jaw, gaze, tongue) whose muscles the
    weakness reaches too. ``matched_by`` is the rule of the symmetric control. A weakness of *both* sides is itself
    symmetric, so it has no ``matched`` control. Raises :class:`UsageError` on an unknown or missing value.
    """

    sides: tuple[str, ...] = ("left", "right")
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    regions: tuple[str, ...] = ("all",)
    include: tuple[str, ...] = ()
    arms: tuple[str, ...] = field(default=DEFAULT_ARMS)
    matched_by: str = "mesh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sides", _choices("side", self.sides, SIDES))
        object.__setattr__(self, "regions", _choices("region", self.regions, REGIONS))
        object.__setattr__(self, "include", _choices("include", self.include, NERVES[1:], empty=True))
        object.__setattr__(self, "arms", _choices("arm", self.arms, DEFAULT_ARMS))
        _choices("matched-by", (self.matched_by,), MATCHED_RULES)
        strengths = tuple(dict.fromkeys(float(s) for s in self.strengths))
        for s in strengths:
            if not (math.isfinite(s) and 0.0 <= s <= 1.0):
                raise UsageError(f"strength must lie between 0 (no weakness) and 1 (no expression left), got {s:g}")
        if not strengths:
            raise UsageError("at least one strength is needed, between 0 and 1")
        object.__setattr__(self, "strengths", strengths)
        if "baseline" not in self.arms:
            raise UsageError("the baseline arm is what every other arm is compared with; add it")
        if "mirrored_unilateral" in self.arms and "unilateral" not in self.arms:
            raise UsageError("the arm mirrored_unilateral needs the arm unilateral")

    def conditions(self, unit: str, source: str) -> list[Condition]:
        """Every condition of one unit, in a fixed order. Only photos have an ``original``."""
        found = [
            condition(unit, arm)
            for arm in ("original", "baseline", "null", "mirrored_baseline")
            if arm in self.arms and not (arm == "original" and source != "photo")
        ]
        for region in self.regions:
            for side in self.sides:
                for strength in self.strengths:
                    for arm in ("unilateral", "matched", "mirrored_unilateral"):
                        if arm in self.arms and not (arm == "matched" and side == "both"):
                            found.append(condition(unit, arm, side, strength, region))
        return found

    def count(self, n_photos: int, n_sampled: int) -> int:
        """How many images a study of so many units makes."""
        return n_photos * len(self.conditions("u", "photo")) + n_sampled * len(self.conditions("u", "sampled"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def condition(unit: str, arm: str, side: str = "none", strength: float = 0.0, region: str = "none") -> Condition:
    """A condition with its name, ``<unit>/<arm>/<side>/<strength>/<region>``."""
    return Condition(f"{unit}/{arm}/{side}/{strength:g}/{region}", unit, arm, side, strength, region)


def _choices(what: str, given: Iterable[str], known: tuple[str, ...], empty: bool = False) -> tuple[str, ...]:
    found = tuple(dict.fromkeys((given,) if isinstance(given, str) else given))
    for value in found:
        if value not in known:
            raise UsageError(f"{what} must be one of {', '.join(known)}; got {value!r}")
    if not found and not empty:
        raise UsageError(f"at least one {what} is needed, of {', '.join(known)}")
    return found
