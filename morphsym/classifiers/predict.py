"""Many classifiers on the same pictures, and the scales on which they may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..errors import UsageError
from .base import Classifier


def centred(logits: Tensor) -> Tensor:
    """Logits minus their mean over the labels: what a softmax leaves undetermined is taken out. (…, L) → (…, L)."""
    return logits - logits.mean(-1, keepdim=True)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the labels. (…, L) → (…, L), rows sum to one."""
    return torch.softmax(logits, -1)


def classify(
    images: Tensor, landmarks: Tensor, classifiers: Iterable[Classifier] | Mapping[str, Classifier]
) -> dict[str, Tensor]:
    """Logits (B, L) float32 on the CPU for every classifier, by its id.

    ``images`` (B, 3, H, W) float32 in [0, 1], ``landmarks`` (B, 68, 2) the units' crop anchors in pixels.
    :class:`UsageError` when two classifiers share an id; :class:`ClassifierError` when one of them fails.
    """
    chosen = list(classifiers.values()) if isinstance(classifiers, Mapping) else list(classifiers)
    ids = [c.spec.id for c in chosen]
    if len(set(ids)) != len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise UsageError(f"the classifier {', '.join(twice)} was given twice; give each its own id")
    return {c.spec.id: c(images, landmarks).cpu() for c in chosen}
