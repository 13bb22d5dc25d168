"""The stages between a unit and its rows: intervene, render, classify. Pure: records in, records out."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..classifiers import Classifier
from ..errors import ClassifierError, MorphsymError
from ..faces import MorphableModel
from ..intervention import MIRROR68, Design, UnitConditions, turned, unit_conditions
from ..rendering import backends, leakage, memory
from ..types import Unit
from .measures import picture_measures
from .tables import Answers, Failure, prediction_table
from .units import FailedUnit, unit_renderer


@dataclass(frozen=True, eq=False)
class Rendered:
    """The pictures of one unit's N conditions, of which n could be rendered."""

    plan: UnitConditions
    images: Tensor  # (n, 3, H, W) float32 in [0, 1], sRGB; in the order of the conditions
    landmarks: Tensor  # (n, 68, 2) float32, pixels: the unit's one crop anchor, mirrored for the mirrored arms
    rendered: np.ndarray  # (N,) bool
    reasons: tuple[str, ...]  # N, '' where rendered
    coverage: np.ndarray  # (N,) share of the pixels that show the mesh; NaN where nothing was rendered
    leak: np.ndarray  # (N,) largest change outside the edit's reach, in [0, 1]; NaN where not measured
    mirror_ssim: (
        np.ndarray
    )  # (N,) similarity of the face with its mirror image; see :mod:`.measures`. NaN where not rendered
    image_change: np.ndarray  # (N,) difference from the baseline's picture; the same
    notes: tuple[str, ...] = ()  # what a person should know of how they were made: batches that were halved

    @property
    def names(self) -> list[str]:
        """The n conditions that could be rendered."""
        return [self.plan.conditions[i].condition for i in np.flatnonzero(self.rendered)]


def intervene(
    units: Iterable[Unit | FailedUnit], model: MorphableModel, design: Design
) -> Iterator[UnitConditions | FailedUnit]:
    """The conditions of every unit; units that could not be made pass through, to be counted."""
    for unit in units:
        if isinstance(unit, FailedUnit):
            yield replace(unit, conditions=tuple(design.conditions(unit.unit, unit.source)))
        else:
            yield unit_conditions(model, unit, design)


def render(
    plans: Iterable[UnitConditions | FailedUnit],
    model: MorphableModel,
    renderer: str = "auto",
    device: str = "cpu",
    batch: int | None = None,
) -> Iterator[Rendered | FailedUnit]:
    """The pictures of every unit, one unit at a time, rendered ``batch`` at once (default: all) on ``device``."""
    placed = model.to(backends.place(backends.get(renderer, device).name, device))
    for plan in plans:
        yield plan if isinstance(plan, FailedUnit) else render_plan(model, plan, renderer, placed, batch)


def render_plan(
    model: MorphableModel,
    plan: UnitConditions,
    renderer: str,
    placed: MorphableModel | None = None,
    batch: int | None = None,
) -> Rendered:
    """The pictures of a unit's conditions. A picture that is another's mirror image is flipped, not rendered.

    ``placed`` is the model on the device that renders (default: ``model``); the pictures stay there. ``batch`` is how
    many are rendered at once (default: all); it changes no bit of them. Where memory runs out it is halved, with a
    warning and a note.
    """
    unit, n = plan.unit, len(plan.conditions)
    reasons = list(plan.reasons)
    coverage, leak = np.full(n, np.nan), np.full(n, np.nan)
    arms = [c.arm for c in plan.conditions]
    todo = [i for i in range(n) if not (reasons[i] or plan.mirrored[i] or arms[i] == "original")]
    images: dict[int, Tensor] = {}
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        warnings.warn(f"{unit.unit}: {text}", RuntimeWarning, stacklevel=2)

    try:
        vertices = turned(model, forward(placed or model, unit, plan.coefficients[todo]), plan.turn[todo])
        draw = unit_renderer(model, unit, vertices, plan.coefficients[todo], renderer)
        which = iter(todo)
        for pictures, cover, leaked, wrong in memory.in_batches(draw, len(todo), batch, say):
            for k, i in zip(range(len(pictures)), which):
                coverage[i], leak[i], reasons[i] = float(cover[k]), float(leaked[k]), wrong[k]
                if not wrong[k]:
                    images[i] = pictures[k]
        if unit.source != "photo":
            _measure_leak(model, plan, dict(zip(todo, vertices)), images, leak, reasons, renderer)
    except MorphsymError as e:
        reasons = [r or str(e) for r in reasons]
    if unit.photo is not None and "original" in arms:
        original = arms.index("original")
        images[original] = torch.tensor(unit.photo).permute(2, 0, 1).float() / 255.0
    anchor = torch.as_tensor(unit.landmarks, dtype=torch.float32)
    # x → W − x, and every landmark takes the name of its mirror partner
    flipped = anchor[torch.as_tensor(MIRROR68)] * torch.tensor([-1.0, 1.0]) + torch.tensor([unit.camera.width, 0.0])
    chosen: list[int] = []
    rendered = np.zeros(n, dtype=bool)
    for i in range(n):
        source = int(plan.picture[i])
        if not reasons[i] and source not in images:
            reasons[i] = reasons[source] or "the picture that it mirrors failed"
        if reasons[i]:
            continue
        rendered[i] = True
        coverage[i], leak[i] = coverage[source], leak[source]
        chosen.append(i)
    # One block, each picture copied into it once
    device = next(iter(images.values())).device if images else "cpu"
    block = torch.empty(len(chosen), 3, unit.camera.height, unit.camera.width, device=device)
    anchors = torch.empty(len(chosen), 68, 2)
    for k, i in enumerate(chosen):
        picture = images[int(plan.picture[i])]
        block[k] = picture.flip(-1) if plan.mirrored[i] else picture
        anchors[k] = flipped if plan.mirrored[i] else anchor
    symmetry, change = np.full(n, np.nan), np.full(n, np.nan)
    seen = [k for k, i in enumerate(chosen) if not plan.mirrored[i]]
    if seen:
        own = [chosen[k] for k in seen]
        baseline = next((k for k, i in enumerate(own) if arms[i] == "baseline"), None)
        symmetry[own], change[own] = picture_measures(block[seen], anchor, baseline)
    return Rendered(
        plan,
        block,
        anchors,
        rendered,
        tuple(reasons),
        coverage,
        leak,
        symmetry,
        change,
        tuple(notes),
    )


def _measure_leak(
    model: MorphableModel,
    plan: UnitConditions,
    vertices: dict[int, Tensor],
    images: dict[int, Tensor],
    leak: np.ndarray,
    reasons: list[str],
    renderer: str,
) -> None:
    """Fill ``leak`` of the rendered ``images`` (by condition), and the reasons of those that changed where they must not."""
    base = next((i for i in images if plan.conditions[i].arm == "baseline"), None)
    if base is None:
        return
    found = [i for i in images if not plan.turn[i]]  # a turn of the head moves every pixel of it
    # a matched condition carries its unilateral's side, but weakens both
    sides = ["both" if plan.conditions[i].arm.startswith("matched") else plan.conditions[i].side for i in found]
    leaked = leakage.measure(
        [images[i] for i in found],
        [vertices[i] for i in found],
        sides,
        images[base],
        vertices[base],
        model,
        plan.unit.camera,
        renderer,
    )
    for i, x in zip(found, leaked):
        leak[i] = x
        if x > leakage.LARGEST:
            reasons[i] = f"the edit changed pixels outside its reach by {x:.3f}"
            del images[i]


def forward(model: MorphableModel, unit: Unit, coefficients: np.ndarray) -> Tensor:
    """Vertices (N, V, 3) of one identity with N expressions (N, Ks): the identity is added once."""
    device = model.sided.basis.device
    identity = torch.as_tensor(unit.identity, dtype=torch.float32, device=device)[None]
    neutral = model.forward(identity, torch.zeros(1, len(model.sided), device=device))
    active = np.flatnonzero(np.any(coefficients != 0, axis=0))
    if len(active) == 0:
        return neutral.expand(len(coefficients), -1, -1).contiguous()
    c = torch.as_tensor(np.ascontiguousarray(coefficients[:, active]), device=device)
    basis = model.sided.basis[torch.as_tensor(active, device=device)]
    return neutral + (c @ basis.reshape(len(active), -1)).reshape(len(c), -1, 3)


def classify(rendered: Sequence[Rendered], classifiers: Sequence[Classifier]) -> pd.DataFrame:
    """Predictions of all pictures by all classifiers: one row a condition × classifier × label.

    Raises :class:`ClassifierError` for the first picture that a classifier cannot answer; :func:`ask` records it.
    """
    answers: list[Answers] = []
    for r in rendered:
        found, failures = ask(r, classifiers)
        if failures:
            raise ClassifierError(f"{failures[0].condition}: {failures[0].reason}")
        answers += found
    return prediction_table(answers).to_pandas(strings_to_categorical=False).astype(_TEXT)


_TEXT = dict.fromkeys(("condition", "classifier", "label", "emotion"), "str")


def ask(rendered: Rendered, classifiers: Sequence[Classifier]) -> tuple[list[Answers], list[Failure]]:
    """The answers of all classifiers to one unit's pictures, and where a classifier failed.

    The batch is the unit, always: a network's last bits hang on the size of its batch, and must not hang on how the
    work is cut. A classifier that fails on the batch is asked again picture by picture.
    """
    names = rendered.names
    answers: list[Answers] = []
    failures: list[Failure] = []
    if not names:
        return answers, failures
    for c in classifiers:
        try:
            answers.append(Answers(c.spec, names, _logits(c, rendered.images, rendered.landmarks)))
        except ClassifierError as error:
            good: list[str] = []
            rows: list[np.ndarray] = []
            if memory.is_exhausted(error.__cause__):
                warnings.warn(
                    f"{c.spec.id}: out of memory with {len(names)} pictures at once: asked again one by one, which may "
                    "change the last bits of its logits",
                    RuntimeWarning,
                    stacklevel=2,
                )
            for i, name in enumerate(names):
                try:
                    rows.append(_logits(c, rendered.images[i : i + 1], rendered.landmarks[i : i + 1]))
                    good.append(name)
                except ClassifierError as e:
                    failures.append(Failure(name, c.spec.id, " ".join(str(e).split())))
            if good:
                answers.append(Answers(c.spec, good, np.concatenate(rows)))
    return answers, failures


_alone = threading.Lock()


def _logits(classifier: Classifier, images: Tensor, landmarks: Tensor) -> np.ndarray:
    # Somebody's own Python function is not asked to be safe under several threads
    with _alone if getattr(classifier.spec, "backend", "") == "python" else nullcontext():
        return classifier(images, landmarks).detach().cpu().numpy()
