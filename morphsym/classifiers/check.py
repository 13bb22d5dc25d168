"""The self-test of a classifier (``morphsym classifiers check``): a table with verdicts.

It finds what makes wrong papers: a wrong label order (a smiling face must score happiness), a softmax baked in, a
swapped colour order, outputs that depend on the batch or change from run to run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..errors import MorphsymError
from ..faces.split import MIRROR68
from ..resources import asset
from ..types import EMOTIONS
from .base import Classifier
from .predict import centred
from .preprocess import preprocess

TOLERANCE = 1e-3
"""Largest difference of centred logits, relative to their spread, between a batch of one and of many, and between runs.

Probabilities would not do: a classifier that is sure gives 1.000 whatever happens to its logits."""


@dataclass(frozen=True)
class Verdict:
    """One row: ``verdict`` is pass, warn, fail or skip; ``value`` what was measured, in words."""

    check: str
    verdict: str
    value: str


@dataclass(frozen=True)
class Faces:
    """Pictures with known expressions: images (B, 3, H, W) in [0, 1], landmarks (B, 68, 2), canonical emotions (B)."""

    images: Tensor
    landmarks: Tensor
    emotions: tuple[str, ...]


def sample_faces() -> Faces:
    """The bundled sample: a smiling photo (NASA, public domain) with its stored landmarks."""
    from skimage import data

    points = np.asarray(json.loads(asset("sample/astronaut.json").read_text())["landmarks_68"], np.float32)
    image = torch.from_numpy(np.asarray(data.astronaut(), np.float32) / 255).permute(2, 0, 1)[None]
    return Faces(image.contiguous(), torch.from_numpy(points)[None], ("happiness",))


@cache
def rendered_faces(people: int = 6) -> Faces:
    """``people`` sampled people of the bundled head, each with every canonical emotion; the same at every call."""
    # the renderer and the people belong to other rooms: they are asked for only where they are needed
    from ..experiment.stages import forward
    from ..experiment.units import render_unit, sampled_units
    from ..faces import load_model

    model = load_model("makehuman")
    images, points, emotions = [], [], []
    for unit in sampled_units(model, people, EMOTIONS, seed=0):
        factual = unit.expression[None]
        images.append(render_unit(model, unit, forward(model, unit, factual), factual, "auto")[0])
        points.append(torch.as_tensor(unit.landmarks)[None])
        emotions.append(unit.emotion)
    return Faces(torch.cat(images), torch.cat(points), tuple(emotions))


def check_classifier(
    classifier: Classifier,
    faces: Faces | None = None,
    golden: Tensor | None = None,
    rendered: Faces | None = None,
) -> list[Verdict]:
    """Every check on ``faces`` (default: :func:`sample_faces`); ``golden`` (B, L) are known logits for them.

    ``golden`` defaults to the specification's for the sample. With ``rendered`` (:func:`rendered_faces`) the order of
    all labels is tested, not only happiness.
    """
    if faces is None and golden is None and classifier.spec.golden is not None:
        golden = torch.tensor([classifier.spec.golden])
    faces = faces or sample_faces()
    rows: list[Verdict] = []

    def row(check: str, test: Callable[[], tuple[str, str]]) -> None:
        try:
            rows.append(Verdict(check, *test()))
        except MorphsymError as error:
            rows.append(Verdict(check, "fail", str(error)))

    images, points = _four(faces)
    row("shape and finiteness", lambda: _shape(classifier, images, points))
    if rows[0].verdict == "fail":
        return rows
    logits = classifier(images, points)
    p = logits.softmax(1)
    row("softmax baked in", lambda: _softmax(classifier, images, points))
    row("one against many", lambda: _single(classifier, images, points, logits))
    row("repeatability", lambda: _repeat(classifier, images, points, logits))
    row("mirror image", lambda: _mirror(classifier, images, points, rendered))
    row("RGB against BGR", lambda: _colour(classifier, images, points, p))
    row("expressions", lambda: _expressions(classifier, faces))
    if rendered is not None:
        row("label order", lambda: _order(classifier, rendered))
    if classifier.spec.unsettled:
        rows.append(Verdict("what is unsettled", "warn", classifier.spec.unsettled))
    if golden is not None:
        row("golden vectors", lambda: _golden(classifier, faces, golden))
    return rows


def passed(rows: Sequence[Verdict]) -> bool:
    """Whether nothing failed."""
    return all(r.verdict != "fail" for r in rows)


def _four(faces: Faces) -> tuple[Tensor, Tensor]:
    """At least four pictures: the faces, also darker, mirrored and a little moved, so that batches differ."""
    moved = torch.roll(faces.images, (3, -5), (2, 3))
    images = torch.cat([faces.images, faces.images * 0.6, moved, faces.images.flip(3)])
    flipped = _mirror_points(faces.landmarks, faces.images.shape[3])
    return images, torch.cat([faces.landmarks, faces.landmarks, faces.landmarks, flipped])


def _mirror_points(points: Tensor, width: int) -> Tensor:
    mirrored = points[:, MIRROR68.tolist()].clone()
    mirrored[..., 0] = width - mirrored[..., 0]
    return mirrored


def _shape(c: Classifier, images: Tensor, points: Tensor) -> tuple[str, str]:
    logits = c(images, points)
    return "pass", f"{tuple(logits.shape)}, logits from {logits.min():.2f} to {logits.max():.2f}"


def _softmax(c: Classifier, images: Tensor, points: Tensor) -> tuple[str, str]:
    if c.spec.output.kind != "logits":
        return "pass", f"the specification says {c.spec.output.kind}, and the rows sum to one"
    logits = c(images, points)
    if float(logits.min()) >= 0 and float((logits.sum(1) - 1).abs().max()) < 1e-3:
        return "fail", "rows are not negative and sum to one: these are probabilities; set output.kind: probabilities"
    if float((logits.exp().sum(1) - 1).abs().max()) < 1e-3:
        return "warn", "exp(rows) sum to one: log-probabilities; set output.kind: log_probabilities"
    return "pass", "rows do not sum to one"


def _difference(a: Tensor, b: Tensor) -> tuple[str, str]:
    spread = float(centred(b).abs().max()) or 1.0
    value = float((centred(a) - centred(b)).abs().max()) / spread
    return ("pass" if value <= TOLERANCE else "fail"), f"logits differ by at most {value:.1e} of their range"


def _single(c: Classifier, images: Tensor, points: Tensor, logits: Tensor) -> tuple[str, str]:
    return _difference(torch.cat([c(images[i : i + 1], points[i : i + 1]) for i in range(len(images))]), logits)


def _repeat(c: Classifier, images: Tensor, points: Tensor, logits: Tensor) -> tuple[str, str]:
    return _difference(c(images, points), logits)


def _mirror(c: Classifier, images: Tensor, points: Tensor, rendered: Faces | None) -> tuple[str, str]:
    shown = [(images, points)]
    if rendered is not None:  # a classifier that is sure of the photo is not moved by its mirror image
        shown.append((rendered.images, rendered.landmarks))
    changes = []
    for x, at in shown:
        mirrored = c(x.flip(3), _mirror_points(at, x.shape[3])).softmax(1)
        changes.append((mirrored - c(x, at).softmax(1)).abs().amax(1))
    change = torch.cat(changes)
    verdict = "pass" if float(change.median()) < 0.5 else "warn"
    return (
        verdict,
        f"the mirror image moves probabilities by {change.mean():.3f} on average, {change.max():.3f} at most",
    )


def _colour(c: Classifier, images: Tensor, points: Tensor, p: Tensor) -> tuple[str, str]:
    swapped = c(images.flip(1), points).softmax(1)
    change = float((swapped - p).abs().max())
    happy = c.spec.emotion_index("happiness")
    if c.spec.colour == "grey" or happy is None:
        return "pass", f"swapping red and blue moves probabilities by up to {change:.3f}"
    first = slice(0, len(images) // 4)
    gain = float((swapped[first, happy] - p[first, happy]).mean())
    verdict = "warn" if gain > 0.2 else "pass"
    hint = "; happiness is clearer with red and blue swapped: is colour right?" if verdict == "warn" else ""
    return verdict, f"swapping red and blue moves probabilities by up to {change:.3f}{hint}"


def _expressions(c: Classifier, faces: Faces) -> tuple[str, str]:
    p = c(faces.images, faces.landmarks).softmax(1)
    asked = [(i, e) for i, e in enumerate(faces.emotions) if c.spec.emotion_index(e) is not None]
    if not asked:
        return "skip", "the classifier has no label for the expressions shown"
    wrong = []
    for i, emotion in asked:
        best = int(p[i].argmax())
        if c.spec.label_emotions[best] != emotion:
            wrong.append(f"{emotion} scores {c.spec.labels[best]} first ({float(p[i, best]):.2f})")
    if not wrong:
        return "pass", f"{len(asked)} of {len(asked)} score their own expression first"
    text = f"{len(asked) - len(wrong)} of {len(asked)} score their own expression first; {wrong[0]}: wrong label order?"
    return ("fail" if 2 * len(wrong) > len(asked) else "warn"), text


def _order(c: Classifier, faces: Faces) -> tuple[str, str]:
    """The stated order of the labels against all others, on faces whose expressions are known.

    The mean centred logit of every label on every emotion; rows and columns are centred too, which takes out a label
    that the classifier likes and an emotion that reads strongly. The best one-to-one assignment of labels to emotions
    (Kuhn 1955) is compared with the stated one. Two emotions that the classifier confuses cannot be told apart so.
    """
    emotions = [e for e in EMOTIONS if e in faces.emotions and e in c.spec.label_emotions]
    if len(emotions) < 3:
        return "skip", f"only {len(emotions)} of its labels have a known meaning"
    logits = centred(c(faces.images, faces.landmarks).cpu()).double().numpy()
    shown = np.array(faces.emotions)
    columns = [c.spec.label_emotions.index(e) for e in emotions]
    table = np.stack([logits[shown == e].mean(0)[columns] for e in emotions])
    table = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    rows, best = linear_sum_assignment(table, maximize=True)
    top = float(table[rows, best].sum())
    share = float(np.trace(table)) / top if top > 0 else 0.0
    if share >= 0.95:
        return (
            "pass",
            f"{len(faces.images)} rendered faces: of all orders the stated one fits best or nearly ({share:.2f})",
        )
    moved = ", ".join(
        f"{c.spec.labels[columns[b]]} behaves like {emotions[r]}" for r, b in zip(rows, best, strict=True) if r != b
    )
    text = (
        f"{len(faces.images)} rendered faces: another order fits better (this one reaches {share:.2f} of it): {moved}"
    )
    return ("warn" if share >= 0.7 else "fail"), text


def _golden(c: Classifier, faces: Faces, golden: Tensor) -> tuple[str, str]:
    logits = c(faces.images, faces.landmarks).cpu()
    change = float((centred(logits) - centred(golden)).abs().max())
    return _difference(logits, golden)[0], f"logits differ from the known ones by at most {change:.1e}"


def shown(classifier: Classifier, faces: Faces | None = None) -> Tensor:
    """(B, C, h, w): just what the network is given for ``faces``, for a look with one's own eyes."""
    faces = faces or sample_faces()
    return preprocess(faces.images, faces.landmarks, classifier.spec)
