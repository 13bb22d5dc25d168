"""What is asked: sides, strengths, regions, clinical patterns, controls and nuisance sweeps, declared in one place and
counted before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..types import ARMS, NERVES, REGIONS, SIDES, Condition
from .clinical import clinical_presets, rest_droop, strengths

if TYPE_CHECKING:
    from ..faces import MorphableModel

MATCHED_RULES = ("mesh", "coefficients", "landmarks")
"""By what the symmetric control is matched to the unilateral weakness; see :mod:`.matching`."""

DEFAULT_ARMS = ARMS[:7]

UNIT_ARMS = ("original", "baseline", "null", "mirrored_baseline")
"""Arms of which a unit has one condition; all others have one for each side, strength and region."""

ONE_SIDED = ("matched", "placebo", "unilateral_droop", *(f"matched_{r}" for r in MATCHED_RULES))
"""Arms that a weakness of both sides at once does not have."""

LIGHTS = ("front", "left", "right", "above", "soft")
"""Levels of a sweep over light: where the person's own key light stands (the subject's left and right), or none."""

SKINS = ("I", "II", "III", "IV", "V", "VI")
"""Levels of a sweep over skin: types by ITA°, see :mod:`morphsym.faces.appearance`."""

SWEEPS = ("yaw", "pitch", "light", "skin")
MOST_TURN = 60.0  # degrees; beyond, half of the face is hidden


@dataclass(frozen=True)
class Level:
    """One cell of the sweep over nuisances; None where a factor is not swept and stays the person's own."""

    yaw: float | None = None  # degrees, positive to the subject's left
    pitch: float | None = None  # degrees, positive up
    light: str | None = None  # of LIGHTS
    skin: str | None = None  # of SKINS

    @property
    def name(self) -> str:
        """Part of the unit's name, ``yaw+20.light-left``; '' where nothing is swept."""
        words = [f"{k}{v:+g}" for k in ("yaw", "pitch") if (v := getattr(self, k)) is not None]
        words += [f"{k}-{v}" for k in ("light", "skin") if (v := getattr(self, k)) is not None]
        return ".".join(words)


@dataclass(frozen=True)
class Design:
    """The interventions on every unit: the product of ``sides``, ``strengths`` and ``regions``, in all ``arms``.

    ``sides`` of the subject, each of left, right, both; ``strengths`` in [0, 1]; ``regions`` of
    :data:`morphsym.types.REGIONS`; ``include`` names nerves beside the facial one (jaw, gaze, tongue) whose muscles the
    weakness reaches too. ``clinical`` names patterns of :mod:`.clinical` (House–Brackmann grades, branches), which
    stand beside the regions: the strength is then the share of the whole pattern. ``matched_by`` is the rule of the
    symmetric control. A weakness of *both* sides is itself symmetric, so it has no ``matched`` control.

    Asked for beside the default arms: ``placebo``, a head turn that moves the skin as far as the weakness does;
    ``rest_droop`` in (0, 1], the share of the droop at rest that a whole weakness brings, in an arm of its own,
    ``unilateral_droop``; ``matched_sensitivity``, the controls by the other two rules, at the largest strength.

    ``yaw`` and ``pitch`` (degrees), ``light`` (:data:`LIGHTS`) and ``skin`` (:data:`SKINS`) sweep nuisances over
    sampled people: every unit is made once for each combination, everything else equal. Pairs stay within a level.

    Raises :class:`UsageError` on an unknown or missing value.
    """

    sides: tuple[str, ...] = ("left", "right")
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    regions: tuple[str, ...] = ("all",)
    include: tuple[str, ...] = ()
    arms: tuple[str, ...] = field(default=DEFAULT_ARMS)
    matched_by: str = "mesh"
    clinical: tuple[str, ...] = ()
    rest_droop: float = 0.0
    matched_sensitivity: bool = False
    yaw: tuple[float, ...] = ()
    pitch: tuple[float, ...] = ()
    light: tuple[str, ...] = ()
    skin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("clinical", _choices("clinical preset", self.clinical, clinical_presets(), empty=True))
        put("sides", _choices("side", self.sides, SIDES))
        put("regions", _choices("region", self.regions, REGIONS, empty=bool(self.clinical)))
        put("include", _choices("include", self.include, NERVES[1:], empty=True))
        put("strengths", _numbers("strength", self.strengths, 0.0, 1.0, "0 (no weakness) and 1 (no expression left)"))
        if not self.strengths:
            raise UsageError("at least one strength is needed, between 0 and 1")
        _choices("matched-by", (self.matched_by,), MATCHED_RULES)
        if not (math.isfinite(self.rest_droop) and 0.0 <= self.rest_droop <= 1.0):
            raise UsageError(f"the droop at rest must lie between 0 (none) and 1 (full), got {self.rest_droop:g}")
        put("rest_droop", float(self.rest_droop))
        arms = _choices("arm", self.arms, ARMS)
        if self.rest_droop > 0:
            arms += ("unilateral_droop",)
        if self.matched_sensitivity:
            arms += tuple(f"matched_{r}" for r in MATCHED_RULES if r != self.matched_by)
        put("arms", tuple(dict.fromkeys(arms)))
        for name in ("yaw", "pitch"):
            angles = f"-{MOST_TURN:g} and {MOST_TURN:g} degrees"
            put(name, _numbers(name, getattr(self, name), -MOST_TURN, MOST_TURN, angles))
        put("light", _choices("light", self.light, LIGHTS, empty=True))
        put("skin", _choices("skin", self.skin, SKINS, empty=True))
        self._check_arms()

    def _check_arms(self) -> None:
        if "baseline" not in self.arms:
            raise UsageError("the baseline arm is what every other arm is compared with; add it")
        for arm in ("mirrored_unilateral", "placebo", "unilateral_droop"):
            if arm in self.arms and "unilateral" not in self.arms:
                raise UsageError(f"the arm {arm} needs the arm unilateral")
        if "unilateral_droop" in self.arms and self.rest_droop == 0:
            raise UsageError("the arm unilateral_droop needs rest_droop, the size of the droop at rest, above 0")
        for rule in MATCHED_RULES:
            arm = f"matched_{rule}"
            if arm in self.arms and not {"unilateral", "matched"} <= set(self.arms):
                raise UsageError(f"the arm {arm} is compared with the arms unilateral and matched; add them")
            if arm in self.arms and rule == self.matched_by:
                raise UsageError(f"the arm {arm} is the arm matched, whose rule is {rule}; leave it out")

    def areas(self) -> tuple[str, ...]:
        """What the weakness reaches: regions, then clinical patterns. The column ``region`` of a condition."""
        return (*self.regions, *self.clinical)

    def levels(self) -> tuple[Level, ...]:
        """The combinations of the nuisances that are swept; one, with nothing set, where none is."""
        swept = [[(k, v) for v in getattr(self, k)] or [(k, None)] for k in SWEEPS]
        return tuple(Level(**dict(cell)) for cell in itertools.product(*swept))

    @property
    def sweeps(self) -> bool:
        """Whether any nuisance is swept."""
        return any(getattr(self, k) for k in SWEEPS)

    def conditions(self, unit: str, source: str) -> list[Condition]:
        """Every condition of one unit, in a fixed order. Only photos have an ``original``."""
        found = [
            condition(unit, arm)
            for arm in UNIT_ARMS
            if arm in self.arms and not (arm == "original" and source != "photo")
        ]
        edited = ("unilateral", *(a for a in ARMS if a not in (*UNIT_ARMS, "unilateral")))
        for region in self.areas():
            for side in self.sides:
                for strength in self.strengths:
                    for arm in edited:
                        if arm not in self.arms or (side == "both" and arm in ONE_SIDED):
                            continue
                        if arm.startswith("matched_") and strength < max(self.strengths):
                            continue
                        found.append(condition(unit, arm, side, strength, region))
        return found

    def count(self, n_photos: int, n_sampled: int) -> int:
        """How many images a study of so many units makes. A sampled unit is counted once a level of the sweep."""
        return n_photos * len(self.conditions("u", "photo")) + n_sampled * len(self.conditions("u", "sampled"))

    def check(self, model: MorphableModel) -> None:
        """Raise :class:`UsageError` where ``model`` cannot be edited as asked (a pattern by shapes it lacks)."""
        for name in self.clinical:
            strengths(model.sided, name, "both")
        if self.rest_droop > 0:
            rest_droop(model.sided, "both", self.rest_droop)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest. What was added to the format later is left out where it is not used."""
        later = {f.name: f.default for f in fields(self) if f.name in _LATER}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in plain.items() if k not in later or getattr(self, k) != later[k]}


_LATER = ("clinical", "rest_droop", "matched_sensitivity", *SWEEPS)


def condition(unit: str, arm: str, side: str = "none", strength: float = 0.0, region: str = "none") -> Condition:
    """A condition with its name, ``<unit>/<arm>/<side>/<strength>/<region>``."""
    return Condition(f"{unit}/{arm}/{side}/{strength:g}/{region}", unit, arm, side, strength, region)


def _numbers(what: str, given: Iterable[float], low: float, high: float, between: str) -> tuple[float, ...]:
    found = tuple(dict.fromkeys(float(s) + 0.0 for s in given))
    for s in found:
        if not (math.isfinite(s) and low <= s <= high):
            raise UsageError(f"{what} must lie between {between}, got {s:g}")
    return found


def _choices(what: str, given: Iterable[str], known: tuple[str, ...], empty: bool = False) -> tuple[str, ...]:
    found = tuple(dict.fromkeys((given,) if isinstance(given, str) else given))
    for value in found:
        if value not in known:
            raise UsageError(f"{what} must be one of {', '.join(known)}; got {value!r}")
    if not found and not empty:
        raise UsageError(f"at least one {what} is needed, of {', '.join(known)}")
    return found
