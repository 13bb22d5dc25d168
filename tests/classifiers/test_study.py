"""Eight classifiers in one study: every picture is rendered once, and a classifier that fails takes nobody with it."""

from __future__ import annotations

import pandas as pd
import torch
from click.testing import CliRunner
from morphsym_cli import cli

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


def test_crop_margins_repeat_the_study(tmp_path):
    """``intervene --crop-margins`` and ``classify --crop-margins``: a classifier of its own for each factor."""
    out = tmp_path / "results"
    small = ["--sample", "1", "--expression", "happiness", "--side", "left", "--strength", "1", "--size", "96", "-q"]
    names = ["--classifier", "mini_xception", "--crop-margins", "0.9,1,1.3"]
    done = CliRunner().invoke(cli, ["intervene", *small, *names, "-o", str(out)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        cli, ["classify", str(out), "--classifier", "face_expression_net", "--crop-margins", "1.15", "-q"]
    )
    assert done.exit_code == 0, done.output
    table = pd.concat([pd.read_parquet(p) for p in sorted((out / "predictions").glob("*.parquet"))])
    assert set(table["classifier"]) == {
        "mini_xception@0.9", "mini_xception", "mini_xception@1.3", "face_expression_net@1.15",
    }  # fmt: skip
    happy = table[table["label"] == "happy"].groupby("classifier")["logit"].apply(list)
    assert happy["mini_xception@0.9"] != happy["mini_xception"]
    bad = CliRunner().invoke(cli, ["intervene", *small, "--crop-margins", "0.9,9", "-o", str(tmp_path / "no")])
    assert bad.exit_code == 2
    assert "factors must lie between 0.5 and 2" in bad.output


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
