"""Rendered smiles are happiness to real classifiers, on the bundled head and on ICT-FaceKit.

The aim is 0.9, for 200 people in ``python -m tests.benchmarks.bench_happiness``; here are forty. Where it is known to be
missed, a floor guards what there is, and the test counts as an expected failure with the share that was found.
"""

from __future__ import annotations

import pytest

from morphsym.classifiers import load_classifier, with_margins
from tests.benchmarks.bench_happiness import real, share, smiles


@pytest.fixture(scope="module", params=["makehuman", "ict"])
def faces(request, shared_data):
    """(images, landmarks) of forty smiling people."""
    return smiles(request.param, 40, shared_data)


AIM = 0.9
MISSED = {"big_xception_54": 0.8}
"""Floor on the bundled head, where .85 of the forty were happy when written, and .905 of two hundred."""


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mini_xception", "face_expression_net", "mini_xception_119", "big_xception_54"])
def test_smiles_are_happiness(faces, shared_data, name, request):
    found = share(real(name, shared_data), *faces)
    bundled_head = request.node.callspec.params["faces"] == "makehuman"
    if bundled_head and name in MISSED and found < AIM:
        assert found >= MISSED[name], f"{name}: {found:.3f}"
        pytest.xfail(f"{name} on the bundled head: {found:.3f}, aim {AIM}")
    assert found >= AIM, f"{name}: {found:.3f}"


@pytest.mark.shared
def test_the_crop_is_not_what_decides(faces):
    """From 0.9 to 1.3 of the margin, happiness stays first for most people."""
    for name in with_margins(["mini_xception"], [0.9, 1.0, 1.15, 1.3]):
        found = share(load_classifier(name), *faces)
        assert found >= 0.8, f"{name}: {found:.2f}"
