"""People whose lips meet at rest and whose eyes shut in a blink, of a model that does not see to it itself.

A linear model adds the same blink to every identity: drawn at random, a person with large eyes keeps them open, and one
whose lips lie apart shows teeth at rest. Both gaps are linear in the identity's coefficients, so the drawn person is
moved to the nearest one (in standard deviations) whose gaps are a little less than the mean head's: a small quadratic programme,
solved exactly by the least-distance method of Lawson & Hanson (Solving Least Squares Problems, 1974, chapter 23)."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from scipy.optimize import nnls

from .model import MorphableModel

LIPS, LIDS = 0.05, 0.03
"""cm by which a person's lips at rest and lids in a blink lie closer together than the mean head's (ICT-FaceKit's mean head
shows a line of its teeth, and its blink just closes)."""

_LIPS = ((61, 67), (62, 66), (63, 65))  # iBUG-68, from 0: inner upper and lower lip
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))  # upper and lower lid

_known: weakref.WeakKeyDictionary[MorphableModel, tuple[np.ndarray, np.ndarray]] = weakref.WeakKeyDictionary()


def constraints(model: MorphableModel) -> tuple[np.ndarray, np.ndarray]:
    """``a`` (M, Ki) and ``b`` (M,): identities with ``a @ c <= b`` close their lips at rest and their lids in a blink.

    Height of the upper over the lower point, in cm, less the mean head's; the blink is the same for everybody, so it drops
    out but for the mean head. M is 0 for a model without blinks."""
    if model not in _known:
        pairs = (*_LIPS, *_LIDS) if {"eyeBlinkLeft", "eyeBlinkRight"} <= set(model.expression_names) else ()
        with torch.no_grad():
            y = model.landmarks(model.identity_basis)[..., 1].cpu().numpy().astype(np.float64)  # (Ki, 68)
        rows = [y[:, upper] - y[:, lower] for upper, lower in pairs]
        _known[model] = (
            np.reshape(rows, (len(rows), model.n_identity)),
            np.array([-LIPS] * 3 + [-LIDS] * 4)[: len(rows)],
        )
    return _known[model]


def nearest_closed(model: MorphableModel, identity: np.ndarray) -> np.ndarray:
    """The identity (Ki,) nearest to ``identity`` that keeps to :func:`constraints`; itself where it does already."""
    a, b = constraints(model)
    excess = a @ identity - b
    if not len(b) or excess.max() <= 0:
        return identity
    # least distance: min |y| with -a y >= excess
    e = np.vstack([-a.T, excess])
    target = np.zeros(len(e))
    target[-1] = 1.0
    u, _ = nnls(e, target)
    r = e @ u - target
    return identity - r[:-1] / r[-1]
