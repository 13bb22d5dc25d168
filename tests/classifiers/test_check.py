"""The self-test finds the mistakes that it is there for."""

from __future__ import annotations

import pytest
import torch

from morphsym.classifiers import Classifier, load_classifier
from morphsym.classifiers.check import Faces, check_classifier, passed, rendered_faces, sample_faces, shown
from morphsym.types import EMOTIONS

from .faces import landmarks, picture


def verdicts(classifier, **more) -> dict[str, str]:
    return {r.check: r.verdict for r in check_classifier(classifier, **more)}


def altered(network=None, **spec) -> Classifier:
    """FaceExpressionNet with another network or specification (no golden logits, which would fail too)."""
    c = load_classifier("face_expression_net")
    return Classifier(c.spec.model_copy(update={"golden": None, **spec}), network or c.network)


def test_wrong_label_order():
    rows = check_classifier(altered(labels=("happy", "neutral", "sad", "angry", "fearful", "disgusted", "surprised")))
    row = next(r for r in rows if r.check == "expressions")
    assert row.verdict == "fail"
    assert "happiness scores neutral first" in row.value
    assert "wrong label order?" in row.value
    assert not passed(rows)


def test_softmax_baked_in():
    c = load_classifier("face_expression_net")
    rows = check_classifier(altered(lambda x: c.network(x).softmax(1)))
    assert next(r for r in rows if r.check == "softmax baked in").verdict == "fail"
    assert verdicts(altered(lambda x: c.network(x).log_softmax(1)))["softmax baked in"] == "warn"


def test_batch_dependence_and_randomness():
    c = load_classifier("face_expression_net")
    assert verdicts(altered(lambda x: c.network(x) - c.network(x).mean(0)))["one against many"] == "fail"
    assert verdicts(altered(lambda x: c.network(x) + torch.randn(7)))["repeatability"] == "fail"


def test_lost_batch_stops_the_check():
    rows = check_classifier(altered(lambda x: torch.zeros(7)))
    assert [r.verdict for r in rows] == ["fail"]
    assert "lost the batch dimension" in rows[0].value


def test_swapped_colours():
    """A network that sees happiness in red: with the wrong colour order the check warns."""

    def network(x):
        out = torch.zeros(len(x), 7)
        out[:, 1] = 20 * (x[:, 0] - x[:, 2]).mean((1, 2))
        return out

    image = torch.zeros(1, 3, 224, 224)
    image[:, 0] = 1.0
    faces = Faces(image, landmarks(), ("happiness",))
    assert verdicts(altered(network), faces=faces)["RGB against BGR"] == "pass"
    assert verdicts(altered(network, colour="bgr"), faces=faces)["RGB against BGR"] == "warn"


def test_expressions_a_classifier_lacks_are_skipped():
    faces = Faces(picture(), landmarks(), ("contempt",))
    assert verdicts(load_classifier("mini_xception"), faces=faces)["expressions"] == "skip"


def test_golden_vectors():
    """Known logits, also those of the specification for the sample; a constant added to all of them is nothing."""
    c = load_classifier("mini_xception")
    assert verdicts(c)["golden vectors"] == "pass"
    faces = sample_faces()
    known = c(faces.images, faces.landmarks) + 7
    assert verdicts(c, golden=known)["golden vectors"] == "pass"
    assert verdicts(c, golden=known.roll(1, 1))["golden vectors"] == "fail"
    moved = c.spec.model_copy(update={"golden": tuple(v + 0.1 * (i == 2) for i, v in enumerate(c.spec.golden))})
    assert verdicts(Classifier(moved, c.network))["golden vectors"] == "fail"


def test_the_order_of_all_labels():
    """Rendered people with every expression: the stated order fits best; two labels swapped are found and named."""
    rendered = rendered_faces()
    assert set(rendered.emotions) == set(EMOTIONS)
    right = next(r for r in check_classifier(altered(), rendered=rendered) if r.check == "label order")
    assert right.verdict == "pass", right
    labels = list(load_classifier("face_expression_net").spec.labels)
    i, j = labels.index("surprised"), labels.index("sad")
    labels[i], labels[j] = labels[j], labels[i]
    row = next(
        r for r in check_classifier(altered(labels=tuple(labels)), rendered=rendered) if r.check == "label order"
    )
    assert row.verdict in ("warn", "fail")
    assert "surprised behaves like sadness" in row.value
    assert "sad behaves like surprise" in row.value
    alphabetical = tuple(sorted(labels))
    rows = check_classifier(altered(labels=alphabetical), rendered=rendered)
    assert next(r for r in rows if r.check == "label order").verdict == "fail"


def test_what_is_unsettled_is_warned_of():
    assert verdicts(altered(unsettled="the label order: nobody knows"))["what is unsettled"] == "warn"


@pytest.mark.parametrize(("name", "channels", "size"), [("mini_xception", 1, 64), ("face_expression_net", 3, 112)])
def test_what_is_shown(name, channels, size):
    assert shown(load_classifier(name)).shape == (1, channels, size, size)
