"""Rendered smiles are happiness to real classifiers: 200 people on the bundled head and on ICT-FaceKit."""

from __future__ import annotations

import pytest
import torch

from morphsym.classifiers import Classifier, catalogue, load_classifier, with_margins
from morphsym.classifiers.adapters import build_network
from morphsym.errors import ModelError

PEOPLE = 200
LOW = {
    ("makehuman", "mini_xception_119"): 0.88,  # 0.90 when written
    ("makehuman", "big_xception_54"): 0.30,  # 0.41
    ("ict", "big_xception_54"): 0.75,  # 0.85
}
"""Where 0.9 is not safely reached: big-XCEPTION reads the bundled head's smile as neutral whatever the crop."""


@pytest.fixture(scope="module", params=["makehuman", "ict"])
def smiles(request, shared_data):
    """(head, images (200, 3, 224, 224), landmarks) of smiling sampled people, one each."""
    from morphsym.experiment.stages import forward
    from morphsym.experiment.units import render_unit, sampled_units
    from morphsym.faces import load_model

    head = request.param
    try:
        model = load_model(head if head != "ict" else shared_data / "face_models/ict_facekit.npz")
    except ModelError as error:
        pytest.skip(f"no {head} head: {error}")
    images, points = [], []
    for unit in sampled_units(model, PEOPLE, ("happiness",), seed=0):
        images.append(render_unit(model, unit, forward(model, unit, unit.expression[None]), "auto")[0])
        points.append(torch.as_tensor(unit.landmarks)[None])
    return head, torch.cat(images), torch.cat(points)


def real(name: str, shared_data) -> Classifier:
    if name in ("mini_xception", "face_expression_net"):
        return load_classifier(name)
    spec = catalogue()[name].model_copy(update={"source": str(shared_data / f"classifiers/{name}.hdf5")})
    return Classifier(spec, build_network(spec, torch.device("cpu")))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["mini_xception", "face_expression_net", "mini_xception_119", "big_xception_54"])
def test_smiles_are_happiness(smiles, shared_data, name):
    head, images, points = smiles
    c = real(name, shared_data)
    first = (c(images, points).argmax(1) == c.spec.emotion_index("happiness")).float().mean().item()
    assert first >= LOW.get((head, name), 0.9), f"{name} on {head}: {first:.3f}"


@pytest.mark.slow
@pytest.mark.shared
def test_the_crop_is_not_what_decides(smiles):
    """From 0.9 to 1.3 of the margin, happiness stays first for most people."""
    _head, images, points = smiles
    for name in with_margins(["mini_xception"], [0.9, 1.0, 1.15, 1.3]):
        c = load_classifier(name)
        first = (c(images[:60], points[:60]).argmax(1) == c.spec.emotion_index("happiness")).float().mean().item()
        assert first >= 0.8, f"{name}: {first:.2f}"
