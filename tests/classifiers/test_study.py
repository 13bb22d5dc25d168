"""Eight classifiers in one study: every picture is rendered once, and a classifier that fails takes nobody with it."""

from __future__ import annotations

import torch

from morphsym.classifiers import Classifier, NoFaceFound, bundled, catalogue, load_classifier, with_margins


def pictures():
    from morphsym.experiment import stages
    from morphsym.experiment.units import sampled_units
    from morphsym.faces import load_model
    from morphsym.intervention import Design

    model = load_model("makehuman")
    units = list(sampled_units(model, 1, ("happiness",), seed=0, size=128))
    plans = list(stages.intervene(units, model, Design(sides=("left",), strengths=(1.0,))))
    return model, plans, stages


def test_every_picture_is_rendered_once(monkeypatch):
    model, plans, stages = pictures()
    from morphsym import rendering

    seen = []
    whole = rendering.render

    def counting(vertices, *args, **kwargs):
        seen.append(len(vertices))
        return whole(vertices, *args, **kwargs)

    monkeypatch.setattr(rendering, "render", counting)
    rendered = [stages.render_plan(model, plan, "auto") for plan in plans]
    classifiers = [load_classifier(n) for n in with_margins(bundled(), [0.9, 1.0, 1.15, 1.3])]
    assert len(classifiers) == 8
    before = list(seen)
    table = stages.classify(rendered, classifiers)
    assert seen == before, "classifying renders nothing"
    assert len(before) == len(plans)
    assert set(table["classifier"]) == {c.spec.id for c in classifiers}
    assert len(table) == 8 * 7 * sum(len(r.names) for r in rendered)


def test_a_detector_that_fails_is_recorded_as_its_own_outcome():
    model, plans, stages = pictures()
    rendered = stages.render_plan(model, plans[0], "auto")
    spec = catalogue()["mini_xception"].model_copy(update={"id": "own_detector"})
    good = load_classifier("mini_xception")

    def network(x):
        if len(x) > 1 or float(x.std()) > 0:
            raise NoFaceFound("own_detector")
        return torch.zeros(len(x), 7)

    answers, failures = stages.ask(rendered, [Classifier(spec, network), good])
    assert {a.spec.id for a in answers} == {"mini_xception"}
    assert len(failures) == len(rendered.names)
    assert all(f.reason == "classifier own_detector: its own detector found no face" for f in failures)
