"""A population of adult heads: how MakeHuman's macro and head targets are combined, and its principal components.

MakeHuman multiplies the weights of its macro targets: `<ancestry>-<sex>-<age>` and `universal-<sex>-<age>-<muscle>-<weight>`,
each weight piecewise linear in its slider. Only adults are used (young to old). Height and body proportions are left
out; head-local targets are drawn independently, the same on both halves, so the identity basis is mirror symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from head_source import TARGETS, Source

ANCESTRIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("young", "old")
MUSCLES = ("minmuscle", "averagemuscle", "maxmuscle")
WEIGHTS = ("minweight", "averageweight", "maxweight")
YOUNG_YEARS, OLD_YEARS = 25.0, 90.0

MACROS = tuple(f"{r}-{s}-{a}" for r in ANCESTRIES for s in SEXES for a in AGES) + tuple(
    f"universal-{s}-{a}-{m}-{w}" for s in SEXES for a in AGES for m in MUSCLES for w in WEIGHTS
)

# Standard deviations of the local sliders (MakeHuman's range is -1..1). Shapes that look like an expression (mouth and
# brow angles, lip corners, jaw drop) get little, so that the prior keeps expression out of identity.
SPREAD = {"cheek": 0.24, "chin": 0.22, "ears": 0.22, "eyes": 0.17, "eyebrows": 0.18, "forehead": 0.20, "head": 0.17,
          "mouth": 0.17, "nose": 0.21, "neck": 0.14}  # fmt: skip
SPECIAL = {
    "chin-jaw-drop": 0.10, "chin-cleft": 0.15, "ear-flap": 0.15, "ear-wing": 0.20, "ear-shape-pointed": 0.03,
    "ear-shape-triangle": 0.08, "eye-height1": 0.10, "eye-height2": 0.10, "eye-height3": 0.10, "eye-scale": 0.15,
    "eye-push1": 0.15, "eye-push2": 0.15, "eye-corner1": 0.22, "eye-corner2": 0.22, "eye-trans-in-out": 0.22,
    "eye-trans-down-up": 0.20, "eye-epicanthus": 0.15, "eyebrows-angle": 0.10, "head-age": 0.15,
    "head-fat": 0.20, "mouth-angles": 0.07, "mouth-laugh-lines": 0.12, "mouth-lowerlip-ext": 0.07,
    "mouth-upperlip-ext": 0.07, "mouth-lowerlip-middle": 0.07, "mouth-upperlip-middle": 0.07, "mouth-dimples": 0.12,
    "mouth-trans-down-up": 0.17, "nose-trans-down-up": 0.16, "forehead-nubian": 0.15, "nose-compression": 0.2,
    "neck-double": 0.15,
}  # fmt: skip
# lateral or rigid movements: not part of a mirror-symmetric, head-aligned identity
EXCLUDED = (
    "head-trans",
    "head-angle",
    "nose-trans-in-out",
    "mouth-trans-in-out",
    "neck-trans-in-out",
    "measure-neck-height",
)
OPPOSITES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
             ("compress", "uncompress"))  # fmt: skip


@dataclass(frozen=True)
class Local:
    """One slider: targets for the negative and the positive side (either may be missing), and its spread."""

    name: str
    negative: tuple[str, ...]
    positive: tuple[str, ...]
    spread: float


def locals_of(source: Source) -> list[Local]:
    """The head-local sliders, left and right targets joined."""
    out = []
    for folder in SPREAD:
        stems: dict[str, list[str]] = {}
        for name in source.members(folder):
            if name.startswith("r-"):
                continue
            stems.setdefault(name, [f"{folder}/{name}"])
            if name.startswith("l-"):
                stems[name].append(f"{folder}/r-{name[2:]}")
        done = set()
        for name, members in sorted(stems.items()):
            if name in done:
                continue
            done.add(name)
            bare = name.removeprefix("l-").removeprefix("measure-")
            label = bare
            negative: tuple[str, ...] = ()
            positive: tuple[str, ...] = tuple(members)
            for low, high in OPPOSITES:
                stem, _, last = name.rpartition("-")
                if last in (low, high) and f"{stem}-{low}" in stems and f"{stem}-{high}" in stems:
                    done |= {f"{stem}-{low}", f"{stem}-{high}"}
                    negative, positive = tuple(stems[f"{stem}-{low}"]), tuple(stems[f"{stem}-{high}"])
                    label = stem.removeprefix("l-").removeprefix("measure-")
                    if last in ("in", "out", "down", "up") and stem.endswith("trans"):
                        label += f"-{low}-{high}"
                    break
            if any(label.startswith(x) or name.startswith(x) for x in EXCLUDED):
                continue
            spread = next((s for key, s in SPECIAL.items() if label.startswith(key)), SPREAD[folder])
            out.append(Local(label, negative, positive, spread))
    return out


def macro_weights(
    sex: np.ndarray, age: np.ndarray, ancestry: np.ndarray, weight: np.ndarray, muscle: np.ndarray
) -> np.ndarray:
    """Weights (n, 48) of :data:`MACROS`. ``sex`` 0 female to 1 male; ``age`` in years (below 25 counts as 25, above 90 as
    90); ``ancestry`` (n, 3) African, Asian, Caucasian, summing to one; ``weight`` and ``muscle`` in [0, 1], average 0.5.
    """
    s = np.stack([1 - sex, sex], 1)
    old = np.clip((age - YOUNG_YEARS) / (OLD_YEARS - YOUNG_YEARS), 0, 1)
    a = np.stack([1 - old, old], 1)

    def three(x: np.ndarray) -> np.ndarray:
        x = np.clip(x, 0, 1)
        return np.stack([np.clip(1 - 2 * x, 0, 1), 1 - np.abs(2 * x - 1), np.clip(2 * x - 1, 0, 1)], 1)

    first = np.einsum("nr,ns,na->nrsa", ancestry, s, a).reshape(len(sex), -1)
    second = np.einsum("ns,na,nm,nw->nsamw", s, a, three(muscle), three(weight)).reshape(len(sex), -1)
    return np.concatenate([first, second], 1)


def sample_attributes(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Attributes of ``n`` adults: even in sex, 18 to 90 years old, single and mixed ancestry."""
    return {
        "sex": np.where(rng.random(n) < 0.5, rng.beta(1.2, 12, n), rng.beta(12, 1.2, n)),
        "age": 18 + 72 * rng.beta(1.15, 1.7, n),
        "ancestry": rng.dirichlet((0.45, 0.45, 0.45), n),
        "weight": np.clip(rng.normal(0.5, 0.17, n), 0, 1),
        "muscle": np.clip(rng.normal(0.5, 0.15, n), 0, 1),
    }


def target_matrix(source: Source, sliders: list[Local]) -> tuple[np.ndarray, list[str]]:
    """Native displacement fields (K, N, 3): 48 macros, then a negative and a positive field for each slider."""
    fields, names = [], []
    for name in MACROS:
        fields.append(source.target(f"{TARGETS}macrodetails/{name}.target.gz"))
        names.append(name)
    zero = np.zeros_like(source.positions)
    for slider in sliders:
        for sign, members in (("-", slider.negative), ("+", slider.positive)):
            field = sum((source.target(f"{TARGETS}{m}.target.gz") for m in members), zero)
            fields.append(np.asarray(field))
            names.append(slider.name + sign)
    stack = np.stack(fields)
    return (stack + source.reflect(stack)) / 2, names


def sample_sliders(sliders: list[Local], n: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (n, 2 x sliders): a truncated normal value split into its negative and positive part."""
    spread = np.array([s.spread for s in sliders])
    two_sided = np.array([bool(s.negative) for s in sliders])
    z = np.clip(rng.standard_normal((n, len(sliders))), -2.5, 2.5) * spread
    z = np.where(two_sided, z, np.abs(z))
    return np.stack([np.where(two_sided, np.maximum(-z, 0), 0), np.maximum(z, 0)], 2).reshape(n, -1)


def principal_components(
    weights: np.ndarray, fields: np.ndarray, importance: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """PCA of the heads ``weights @ fields``.

    ``weights`` (n, K), ``fields`` (K, V, 3), ``importance`` (V,) weighs the vertices in the metric. Returns the
    basis (count, V, 3) for unit-variance scores, the projection ``scores = (weights - mean weights) @ P`` as P
    (K, count), and the share of the (weighted) variance that is kept.
    """
    mean = weights.mean(0)
    centred = weights - mean
    k = len(fields)
    flat = (fields * np.sqrt(importance)[None, :, None]).reshape(k, -1)
    gram = flat @ flat.T
    cov = centred.T @ centred / (len(weights) - 1)
    # eigenvectors of cov^(1/2) gram cov^(1/2), K x K: the same components as an SVD of all the sampled heads
    value, vector = np.linalg.eigh(cov)
    root = vector * np.sqrt(np.clip(value, 0, None))
    variance, axes = np.linalg.eigh(root.T @ gram @ root)
    order = np.argsort(variance)[::-1][:count]
    kept = float(variance[order].sum() / variance.sum())
    # whitened scores: project each head on the component's direction and divide by its standard deviation
    load = (root @ axes[:, order]).T  # (count, K): the component as a combination of fields, not yet unit
    projection = gram @ load.T / variance[order]
    projection = projection / np.sqrt(((cov @ projection) * projection).sum(0))
    basis = ((projection.T @ cov) @ fields.reshape(k, -1)).reshape(
        count, -1, 3
    )  # regression of the heads on the scores
    return basis, projection, kept
