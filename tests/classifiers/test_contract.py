"""What a network may not give: every wrong answer is an error that names the classifier, never a number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym.classifiers import Classifier, parse_spec
from morphsym.classifiers.base import exact_convolutions
from morphsym.errors import ClassifierError

from .faces import landmarks, picture

BASE = {"id": "mine", "backend": "onnx", "labels": ["happy", "sad", "neutral"], "input_size": 32}


def run(network, batch=4, **more):
    return Classifier(parse_spec({**BASE, **more}), network)(picture(batch=batch), landmarks(batch=batch))


GOOD = torch.arange(12.0).reshape(4, 3)


def nan(x):
    out = GOOD.clone()
    out[2, 1] = torch.nan
    return out


def explode(x):
    raise RuntimeError("CUDA out of\nmemory")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nan, "mine: gave nan for label 'sad' of image 2 of the batch"),
        (lambda x: GOOD / 0.0, "mine: gave (nan|inf)"),
        (lambda x: GOOD[:, :2], r"gave shape \(4, 2\), expected \(4, 3\): 2 scores for 3 labels"),
        (lambda x: GOOD[0], r"gave shape \(3,\), expected \(4, 3\): it lost the batch dimension"),
        (lambda x: GOOD[:1], r"gave shape \(1, 3\), expected \(4, 3\): it lost the batch dimension"),
        (lambda x: (GOOD, GOOD), "gave a tuple of 2; say which one with output.select: 0 to 1"),
        (lambda x: {"logits": GOOD}, r"gave a dict with keys \['logits'\]; say which one with output.select: KEY"),
        (lambda x: GOOD.half(), "gave float16; expected float32"),
        (lambda x: GOOD.long(), "gave int64; expected float32"),
        (lambda x: "happy", "gave a str; expected a .4, 3. array"),
        (lambda x: None, "gave a NoneType"),
        (explode, "mine: failed on a batch of shape .4, 3, 32, 32.: RuntimeError: CUDA out of memory"),
    ],
)
def test_refused(network, message):
    with pytest.raises(ClassifierError, match=message):
        run(network)


def test_convolutions_are_exact_on_cuda_only_while_they_run():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    with exact_convolutions(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before


def test_numpy_and_float64_are_taken():
    assert torch.equal(run(lambda x: GOOD.double().numpy()), GOOD)


class Answer:
    scores = (GOOD + 1, torch.cat([GOOD, GOOD], 1))


@pytest.mark.parametrize(
    ("select", "network"),
    [
        (1, lambda x: (GOOD * 0, GOOD)),
        ("logits", lambda x: {"logits": GOOD}),
        ([[2, 5]], lambda x: torch.cat([GOOD[:, :2] * 0, GOOD], 1)),
        (["scores", 1, [0, 3]], lambda x: Answer()),
    ],
)
def test_select(select, network):
    assert torch.equal(run(network, output={"select": select}), GOOD)


def test_select_that_does_not_fit():
    with pytest.raises(ClassifierError, match=r"output.select 'b' does not fit what it gave \(keys \['a'\]\)"):
        run(lambda x: {"a": GOOD}, output={"select": "b"})
    with pytest.raises(ClassifierError, match="output.select 3 does not fit"):
        run(lambda x: (GOOD,), output={"select": 3})


def test_probabilities_become_centred_logits():
    p = torch.softmax(GOOD, 1)
    for kind, value in (("probabilities", p), ("log_probabilities", p.log())):
        got = run(lambda x, v=value: v, output={"kind": kind})
        assert torch.allclose(got, GOOD - GOOD.mean(1, keepdim=True), atol=1e-5)
        assert torch.allclose(torch.softmax(got, 1), p, atol=1e-6)


def test_an_underflowed_probability_stays_finite():
    p = torch.tensor([[1.0, 0.0, 0.0]])
    for kind, value in (("probabilities", p), ("log_probabilities", p.log())):
        got = run(lambda x, v=value: v, batch=1, output={"kind": kind})
        assert torch.isfinite(got).all()
        assert (got[0, 0] - got[0, 1]).item() == pytest.approx(-np.log(np.finfo(np.float32).tiny), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("probabilities", GOOD, "is probabilities, but the row of image 3 sums to 30"),
        ("probabilities", GOOD - 3, "gave negative values; are they logits"),
        ("log_probabilities", GOOD, "but the row of image"),
    ],
)
def test_not_probabilities(kind, value, message):
    with pytest.raises(ClassifierError, match=message):
        run(lambda x: value, output={"kind": kind})


def test_what_the_network_sees():
    """Colour order, scale, mean and std in the network's own channel order; layout; grey weights."""
    seen = {}

    def look(x):
        seen["x"] = x.clone()
        return GOOD

    image = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1).expand(4, 3, 224, 224).contiguous()

    def shown(**more):
        Classifier(parse_spec({**BASE, **more}), look)(image, landmarks(batch=4))
        return seen["x"]

    norm = {"scale": 255.0, "mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 8.0]}
    assert torch.allclose(shown(**norm)[0, :, 9, 9], torch.tensor([25.0, 25.0, 201 / 8]), atol=1e-3)
    assert torch.allclose(shown(colour="bgr", **norm)[0, :, 9, 9], torch.tensor([101.5, 25.0, 6.0]), atol=1e-3)
    grey = 0.2 * 0.299 + 0.4 * 0.587 + 0.8 * 0.114
    assert shown(colour="grey").shape == (4, 1, 32, 32)
    assert shown(colour="grey")[0, 0, 9, 9].item() == pytest.approx(grey, abs=1e-6)
    assert shown(colour="grey", channels=3, mean=[0.1, 0.2, 0.3])[0, :, 9, 9].tolist() == pytest.approx(
        [grey - 0.1, grey - 0.2, grey - 0.3], abs=1e-6
    )
    assert shown(layout="NHWC").shape == (4, 32, 32, 3)
    assert shown(layout="NHWC").is_contiguous()
