"""Smiling sampled people: the share whose rendered face scores happiness first, for the four real classifiers.

Run as ``python -m tests.benchmarks.bench_happiness [PEOPLE]`` (200 by default). ``baseline`` is the aim, 0.9. The two
XCEPTIONs that are not bundled and ICT-FaceKit are read from ``../shared/data``; without it they are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from morphsym.classifiers import Classifier, bundled, catalogue, load_classifier
from morphsym.classifiers.adapters import build_network

COMMAND = "python -m tests.benchmarks.bench_happiness"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PEOPLE = 200
HEADS = ("makehuman", "ict")


def real(name: str, shared: Path = SHARED) -> Classifier:
    """A classifier that really classifies, the XCEPTIONs of the shared folder included."""
    if name in bundled():
        return load_classifier(name)
    spec = catalogue()[name].model_copy(update={"source": str(shared / f"classifiers/{name}.hdf5")})
    return Classifier(spec, build_network(spec, torch.device("cpu")))


def smiles(head: str, people: int, shared: Path = SHARED) -> tuple[torch.Tensor, torch.Tensor]:
    """(images (N, 3, 224, 224), landmarks (N, 68, 2)) of ``people`` sampled smiling people on ``head``."""
    from morphsym.experiment.stages import forward
    from morphsym.experiment.units import render_unit, sampled_units
    from morphsym.faces import load_model

    model = load_model(shared / "face_models/ict_facekit.npz" if head == "ict" else head)
    images, points = [], []
    for unit in sampled_units(model, people, ("happiness",), seed=0):
        factual = unit.expression[None]
        images.append(render_unit(model, unit, forward(model, unit, factual), factual, "auto")[0])
        points.append(torch.as_tensor(unit.landmarks)[None])
    return torch.cat(images), torch.cat(points)


def share(classifier: Classifier, images: torch.Tensor, points: torch.Tensor) -> float:
    """The share of the pictures that score happiness first."""
    first = classifier(images, points).argmax(1) == classifier.spec.emotion_index("happiness")
    return int(first.sum()) / len(first)


def benches(people: int = PEOPLE) -> Iterator[dict[str, Any]]:
    """Rows {name, value, unit, baseline, ratio, command}."""
    names = [*bundled(), *(("mini_xception_119", "big_xception_54") if SHARED.is_dir() else ())]
    for head in HEADS if SHARED.is_dir() else HEADS[:1]:
        images, points = smiles(head, people)
        values = {name: share(real(name), images, points) for name in names}
        for name, value in {**values, "all of them together": sum(values.values()) / len(values)}.items():
            yield {"name": f"happiness first: {name}, {head}, {people} people", "value": value, "unit": "of people",
                   "baseline": 0.9, "ratio": value / 0.9, "command": COMMAND}  # fmt: skip


if __name__ == "__main__":
    for row in benches(*map(int, sys.argv[1:2])):
        print(json.dumps(row))
