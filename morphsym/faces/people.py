"""Drawing plausible people: identity coefficients, colours and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import UsageError
from ..types import Person
from .appearance import Appearance, compose, fitzpatrick, melanin_of, sample_appearance, skin_colour
from .closing import nearest_closed
from .model import MorphableModel

IDENTITY_LIMIT = 2.5
"""Coefficients drawn from N(0, 1) are cut here, where a linear model still looks like a person."""

ANCESTRIES = ("african", "asian", "caucasian")
_MELANIN = {"african": 0.18, "asian": 0.045, "caucasian": 0.022}
"""Typical volume share of melanin (light 1.3–6.3 %, moderate 11–16 %, dark 18–43 %: Jacques 1998). Mixed ancestry mixes the
logarithms; people vary around it."""


@dataclass(frozen=True)
class Population:
    """Whom the bundled head's sampler draws. The default is even in sex and ancestry, 18 to 90 years.

    ``female`` is the share of women; ``age`` the youngest and oldest in years; ``ancestry`` the expected shares of
    :data:`ANCESTRIES`, which every person mixes (Dirichlet). Raises :class:`UsageError` on a value out of range."""

    female: float = 0.5
    age: tuple[float, float] = (18.0, 90.0)
    ancestry: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(ANCESTRIES, 1 / 3))

    def __post_init__(self) -> None:
        if not 0.0 <= self.female <= 1.0:
            raise UsageError(f"the share of women must lie between 0 and 1, got {self.female:g}")
        if not 18.0 <= self.age[0] <= self.age[1] <= 90.0:
            raise UsageError(f"ages must be two numbers from 18 to 90, the younger first; got {self.age}")
        if set(self.ancestry) - set(ANCESTRIES) or not self.ancestry:
            raise UsageError(f"ancestry must name {', '.join(ANCESTRIES)}; got {', '.join(self.ancestry) or 'nothing'}")
        shares = list(self.ancestry.values())
        if min(shares) < 0 or not np.isclose(sum(shares), 1.0):
            raise UsageError(f"the shares of ancestry must not be negative and sum to 1, got {shares}")


EVERYBODY = Population()
_CONCENTRATION = 1.35  # of the Dirichlet: below the number of ancestries, so most people are mostly of one


def paint(model: MorphableModel, appearance: Appearance) -> np.ndarray:
    """The colour of every vertex, (V, 3) float32 sRGB in [0, 1]; the model's average where it has no paint masks."""
    return compose(model.paint, appearance) if model.paint else model.albedo.copy()


def sample_people(model: MorphableModel, n: int, seed: int, population: Population = EVERYBODY) -> list[Person]:
    """``n`` people, reproducible from ``seed``; person i is the same whatever ``n`` is.

    The bundled head knows its population: ``attributes`` has ``sex`` (female, male), ``age`` (years, 18 to 90),
    ``ancestry`` (the largest share) and each share, ``weight`` and ``muscle`` (0 to 1, average 0.5) and ``fitzpatrick``
    (I to VI by ITA°, see :mod:`.appearance`). Other models state no such thing: identities are N(0, 1) cut at ±2.5, moved to the
    nearest whose lips and lids close where the model has a blink (see :mod:`.closing`), skin
    tones cover I to VI, and ``attributes`` has only ``fitzpatrick`` and the melanin that make the picture.

    ``population`` sets the mix that the bundled head draws from. Raises :class:`UsageError` for a negative ``n`` or seed,
    or a population of a model that knows none.
    """
    if n < 0:
        raise UsageError(f"the number of people must not be negative, got {n}")
    if seed < 0:
        raise UsageError(f"the seed must not be negative, got {seed}")
    if population != EVERYBODY and "macro_scores" not in model.attributes:
        raise UsageError(f"the face model {model.name!r} knows no sex, age or ancestry; only the bundled head does")
    return [sample_person(model, i, seed, population=population) for i in range(n)]


def sample_person(
    model: MorphableModel, index: int, seed: int, skin: str | None = None, population: Population = EVERYBODY
) -> Person:
    """Person ``index`` (from 0) of :func:`sample_people`, without drawing those before.

    ``skin`` (I to VI) gives them the melanin of that type in place of their own; nothing else changes."""
    return _person(model, index, np.random.default_rng(np.random.SeedSequence([seed, index])), population, skin)


def _person(
    model: MorphableModel, index: int, rng: np.random.Generator, population: Population, tone: str | None
) -> Person:
    attributes: dict[str, Any] = {}
    if "macro_scores" in model.attributes:
        identity, attributes = _from_population(model, rng, population)
        shares = np.array([attributes[f"ancestry_{a}"] for a in ANCESTRIES])
        centre = float(np.exp(shares @ np.log([_MELANIN[a] for a in ANCESTRIES])))
        look = sample_appearance(rng, centre, attributes["age"])
    else:
        identity = np.clip(rng.standard_normal(model.n_identity), -IDENTITY_LIMIT, IDENTITY_LIMIT)
        identity = nearest_closed(model, identity)
        look = sample_appearance(rng)
    if tone is not None:
        look = replace(look, melanin=melanin_of(tone, look.haemoglobin, look.eumelanin))
    skin = skin_colour(look.melanin, look.haemoglobin, look.eumelanin)
    attributes |= {"fitzpatrick": fitzpatrick(skin), "melanin": round(look.melanin, 4)}
    return Person(f"s{index + 1:04d}", identity.astype(np.float32), paint(model, look), attributes)


def _from_population(
    model: MorphableModel, rng: np.random.Generator, population: Population
) -> tuple[np.ndarray, dict[str, Any]]:
    """Identity scores of a person of the bundled head's population, given drawn attributes.

    The file holds the scores of every macro shape, so that the mean of a person's identity follows from sex, age,
    ancestry, weight and muscle, and the Cholesky factor of what varies beside them.
    """
    a = model.attributes
    male = rng.random() < 1.0 - population.female
    sex = float(rng.beta(12, 1.2) if male else rng.beta(1.2, 12))
    youngest, oldest = population.age
    age = float(youngest + (oldest - youngest) * rng.beta(1.15, 1.7))
    ancestry = rng.dirichlet([max(_CONCENTRATION * population.ancestry.get(a, 0.0), 1e-9) for a in ANCESTRIES])
    weight, muscle = (float(np.clip(rng.normal(0.5, s), 0, 1)) for s in (0.17, 0.15))
    weights = macro_weights(tuple(str(n) for n in a["macro_names"]), sex, age, ancestry, weight, muscle)
    rest = np.clip(rng.standard_normal(model.n_identity), -IDENTITY_LIMIT, IDENTITY_LIMIT)
    identity = weights @ a["macro_scores"] + a["macro_offset"] + a["residual_cholesky"] @ rest
    return identity, {
        "sex": "male" if male else "female",
        "age": round(age, 1),
        "ancestry": ANCESTRIES[int(np.argmax(ancestry))],
        **{f"ancestry_{n}": round(float(s), 3) for n, s in zip(ANCESTRIES, ancestry)},
        "weight": round(weight, 3),
        "muscle": round(muscle, 3),
    }


def macro_weights(
    names: tuple[str, ...], sex: float, age: float, ancestry: np.ndarray, weight: float, muscle: float
) -> np.ndarray:
    """Weights (len(names),) of MakeHuman's macro shapes for one person.

    ``sex`` 0 female to 1 male; ``age`` in years; ``ancestry`` (3,) African, Asian, Caucasian; ``weight`` and ``muscle`` in
    [0, 1]. A name is ``<ancestry>-<sex>-<age>`` or ``universal-<sex>-<age>-<muscle>-<weight>``; its weight is the product of
    its words', each piecewise linear in its slider (young is 25 years, old 90).
    """
    old = float(np.clip((age - 25.0) / 65.0, 0.0, 1.0))
    words = {"universal": 1.0, "female": 1.0 - sex, "male": sex, "young": 1.0 - old, "old": old}
    words |= dict(zip(ANCESTRIES, map(float, ancestry)))
    for label, x in (("weight", weight), ("muscle", muscle)):
        low, high = float(np.clip(1 - 2 * x, 0, 1)), float(np.clip(2 * x - 1, 0, 1))
        words |= {f"min{label}": low, f"average{label}": 1.0 - low - high, f"max{label}": high}
    return np.array([np.prod([words[w] for w in n.split("-")]) for n in names])
