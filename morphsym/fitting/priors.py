"""What a face may look like before its landmarks are seen: the prior on the expression, and what measures it.

Identity is ``N(0, I)`` by the model's own scaling. Expression coefficients lie in the model's box; within it the prior
is Gaussian around the detector's blendshape scores where it has them (MediaPipe), else around rest. A shape without a
native side (``mouthFunnel``) is split by the hemiface weights; its halves are one unknown where the muscle or the bone has no
sides (jaw, tongue), and are pulled together elsewhere, so that noise does not become asymmetry. DESIGN.md
section 8 says why: without this, expression leaks into identity and into unsided shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..faces import MorphableModel
    from ..types import SidedBasis
    from .basis import LandmarkBasis
    from .readout import Reading

TIED_NERVES = ("jaw", "tongue")
"""Unsided shapes of these move both halves as one: a bone and a midline muscle cannot be weak on one side."""

REST_SIGMA = 0.3
"""Prior standard deviation of a coefficient that no detector measured (range 0 to 1)."""

TIE_SIGMA = 0.15
"""Standard deviation of the left–right difference of a split shape that is not tied."""

TRUST = 0.25
"""The standard deviations of a reading are multiplied by this: it has looked at the landmarks, which count once more beside it.
Of 1, 0.5 and 0.25 the best on 192 renders with seeds of their own."""

TRUST_IDENTITY = 1.0
"""The same of the identity, whose covariance is that of renders kept out: with 0.7 the shape is 0.02 mm nearer on renders, and
photos' landmarks are followed less (docs/design/fitting.md)."""

LEAST_SIGMA = 0.02
"""No reading of the pixels is trusted more closely than this."""

BLENDSHAPE_SIGMA: Mapping[str, float] = {
    "eyeBlink": 0.16,
    "eyeLook": 0.05,  # landmarks hardly see gaze: what MediaPipe read stays
    "eyeSquint": 0.28,
    "eyeWide": 0.24,
    "jaw": 0.1,
    "jawOpen": 0.07,
    "mouth": 0.2,
    "mouthLeft": 0.1,
    "mouthRight": 0.1,
    "mouthSmile": 0.13,
    "mouthFrown": 0.22,
    "": 0.25,
}
"""How far MediaPipe's score is trusted, by the longest matching prefix of the shape's ARKit name: standard deviation of
coefficient minus score on 200 ICT-FaceKit renders with known coefficients (docs/design/fitting.md)."""

UNTRUSTED = ("brow", "cheekSquint", "noseSneer")
"""Shapes whose score says little (|r| < 0.2 with the true coefficient) or is biased (browInnerUp reads 0.5 too high on
renders): they are left to the landmarks."""


@dataclass(frozen=True, eq=False)
class ExpressionPrior:
    """Gaussian prior on ``Kd`` free expression variables and their box; ``expression = tie @ variables``."""

    tie: Tensor  # (Ks, Kd) zeros and ones
    low: Tensor  # (Kd,)
    high: Tensor  # (Kd,)
    mean: Tensor  # (B, Kd)
    precision: Tensor  # (B, Kd, Kd)

    def to(self, device: torch.device | str) -> ExpressionPrior:
        """The same on ``device``."""
        return ExpressionPrior(*(v.to(device) for v in vars(self).values()))


def arkit_name(name: str) -> str:
    """A sided or unsided shape's name as MediaPipe would call it: ``mouthPucker.left`` is half of ``mouthPucker``."""
    return re.sub(r"\.(left|right)$", "", name)


def blendshape_values(
    sided: SidedBasis, source_names: Sequence[str], scores: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe's scores by sided shape: values ``(Ks,)`` and which shapes have one, ``(Ks,)`` bool.

    Shapes of :data:`UNTRUSTED` count as not measured.
    A shape that MediaPipe measures without a side (``browInnerUp``, ``cheekPuff``) gives its score to both halves.
    """
    values, known = np.zeros(len(sided)), np.zeros(len(sided), dtype=bool)
    for k, name in enumerate(sided.names):
        if name.startswith(UNTRUSTED):
            continue
        for candidate in (name, source_names[int(sided.source[k])], arkit_name(name), _without_side(name)):
            if candidate in scores:
                values[k], known[k] = float(scores[candidate]), True
                break
    return values, known


def _without_side(name: str) -> str:
    return re.sub(r"(Left|Right|_L|_R)$", "", name)


def _trust(name: str) -> float:
    fitting = [p for p in BLENDSHAPE_SIGMA if name.startswith(p)]
    return BLENDSHAPE_SIGMA[max(fitting, key=len)]


def expression_prior(
    model: MorphableModel,
    scores: Sequence[Mapping[str, float] | None],
    looser: float = 0.0,
    readings: Sequence[Reading | None] | None = None,
) -> ExpressionPrior:
    """The prior of B faces with MediaPipe's ``scores`` (None where the detector has none) and ``readings`` of the pixels.

    Where a face was read (:mod:`.readout`), the shapes that the readout knows have its values and standard deviations; the
    others, and faces that were not read, have the scores. ``looser`` is added in squares to the standard deviation of the
    scores: for the photometric refinement, which measures anew.
    """
    readings = readings if readings is not None else [None] * len(scores)
    sided = model.sided
    names = list(model.expression_names)
    tie = _tie_matrix(sided)
    owner = tie.argmax(axis=1)  # variable of each shape
    count = tie.sum(axis=0)
    low = np.full(tie.shape[1], -np.inf)
    high = np.full(tie.shape[1], np.inf)
    np.maximum.at(low, owner, np.asarray(sided.low, dtype=np.float64))
    np.minimum.at(high, owner, np.asarray(sided.high, dtype=np.float64))

    split = [(left, right) for left, right in _split_pairs(sided) if owner[left] != owner[right]]

    mean = np.zeros((len(scores), tie.shape[1]))
    precision = np.zeros((len(scores), tie.shape[1], tie.shape[1]))
    trusted = np.hypot([_trust(name) for name in sided.names], looser)
    for b, given in enumerate(scores):
        values, known = blendshape_values(sided, names, given or {})
        sigma = np.where(known, trusted, REST_SIGMA)
        mean[b] = np.clip((tie.T @ values) / count, low, high)
        own = np.diag(1.0 / sigma**2)
        reading = readings[b]
        read = np.zeros(len(sided), dtype=bool)
        if reading is not None:
            read = _take_in(reading, sided, values, own)
            mean[b] = np.clip((tie.T @ values) / count, low, high)
        for left, right in split:
            if not (read[left] and read[right]):
                own[[left, left, right, right], [left, right, left, right]] += np.array([1, -1, -1, 1]) / TIE_SIGMA**2
        # The two halves of a tied shape say one thing: each counts half.
        precision[b] = (tie.T @ own @ tie) / np.sqrt(np.outer(count, count))
    f = torch.from_numpy
    return ExpressionPrior(f(tie), f(low), f(high), f(mean), f(precision))


def identity_prior(
    model: MorphableModel, basis: LandmarkBasis, readings: Sequence[Reading | None]
) -> tuple[Tensor, Tensor, np.ndarray] | None:
    """Mean ``(B, Kr)`` and precision ``(B, Kr, Kr)`` of the identity along ``basis``'s directions, and the rest ``(B, Ki)``.

    Where a face was read in this model's coefficients; else ``N(0, 1)``. The rest is what the reading says of directions that
    the landmarks do not see. None where no face was read, or the readout knows another model by this name.
    """
    known = [None if r is None else r.identity.get(model.name) for r in readings]
    given = next((r for r in known if r is not None), None)
    if given is None or not _same_identity(model, given.lengths):
        return None
    turn = basis.to_identity.cpu().numpy()
    means = np.stack([np.zeros(len(turn)) if r is None else r.mean.astype(np.float64) for r in known])
    precision = np.repeat(np.eye(turn.shape[1])[None], len(known), axis=0)
    for b, r in enumerate(known):
        if r is not None:
            precision[b] = np.linalg.inv(TRUST_IDENTITY**2 * turn.T @ r.covariance @ turn)
    along = means @ turn
    return torch.from_numpy(along), torch.from_numpy(precision), means - along @ turn.T


def identity_lengths(model: MorphableModel) -> np.ndarray:
    """What each identity coefficient moves the 68 landmarks by: root mean square, ``(Ki,)`` cm. Cached on the model."""
    cache: dict[str, np.ndarray] = vars(model).setdefault("_identity_lengths", {})
    if "rms" not in cache:
        moved = model.embed(model.identity_basis, model.landmarks68).double()
        cache["rms"] = moved.square().sum(-1).mean(-1).sqrt().cpu().numpy()
    return cache["rms"]


def _same_identity(model: MorphableModel, lengths: np.ndarray) -> bool:
    own = identity_lengths(model)
    return own.shape == lengths.shape and bool(np.allclose(own, lengths, rtol=0.02, atol=1e-3))


def _take_in(reading: Reading, sided: SidedBasis, values: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Put a reading's means into ``values (Ks,)`` and its precision into ``precision (Ks, Ks)``; which shapes those are, bool."""
    row = {name: k for k, name in enumerate(sided.names)}
    read = np.zeros(len(sided), dtype=bool)
    for p, names in enumerate(zip(reading.left, reading.right, strict=True)):
        if not all(n in row for n in names):
            continue
        left, right = (row[n] for n in names)
        values[left] = reading.mean[p] + reading.difference[p] / 2
        values[right] = reading.mean[p] - reading.difference[p] / 2
        mean = 1 / max(TRUST * float(reading.mean_sigma[p]), LEAST_SIGMA) ** 2
        difference = 1 / max(TRUST * float(reading.difference_sigma[p]), LEAST_SIGMA) ** 2
        precision[[left, right], [left, right]] = mean / 4 + difference
        precision[[left, right], [right, left]] = mean / 4 - difference
        read[[left, right]] = True
    return read


def _split_pairs(sided: SidedBasis) -> list[tuple[int, int]]:
    """The (left, right) halves of every shape that has no side of its own.

    Not mirror partners: ``jawLeft.left`` belongs to ``jawLeft.right``, though its mirror image is ``jawRight.right``.
    """
    halves: dict[int, list[int]] = {}
    for k, source in enumerate(np.asarray(sided.source)):
        halves.setdefault(int(source), []).append(k)
    pairs = []
    for both in halves.values():
        if len(both) == 2:
            left, right = both if sided.side[both[0]] > 0 else both[::-1]
            pairs.append((left, right))
    return pairs


def _tie_matrix(sided: SidedBasis) -> np.ndarray:
    """``(Ks, Kd)``: the halves of an unsided jaw or tongue shape share a variable."""
    follows = {right: left for left, right in _split_pairs(sided) if sided.nerve[left] in TIED_NERVES}
    free = [k for k in range(len(sided)) if k not in follows]
    variable = {k: i for i, k in enumerate(free)}
    tie = np.zeros((len(sided), len(free)))
    for k in range(len(sided)):
        tie[k, variable[follows.get(k, k)]] = 1.0
    return tie
