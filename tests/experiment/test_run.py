"""The runner: the same rows whatever the shards and interruptions, and nothing lost."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from morphsym import faces, pipeline
from morphsym.analysis import AnalysisOptions
from morphsym.classifiers import load_classifier
from morphsym.errors import ClassifierError, StoreError, UsageError
from morphsym.experiment import run as runner
from morphsym.experiment import stages
from morphsym.experiment.store import Results
from morphsym.experiment.study import Study, Units, add_classifiers, run_study
from morphsym.experiment.units import FailedUnit, sampled_units
from morphsym.intervention import Design, unit_conditions
from morphsym.report.examples import target_logits

DESIGN = Design(sides=("left", "right"), strengths=(0.0, 1.0))
STUDY = Study(sample=2, expressions=("happiness", "surprise"), design=DESIGN, classifiers=("mini_xception",), size=96)


@pytest.fixture(scope="module")
def model():
    return faces.load_model("makehuman")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run_study(STUDY, tmp_path_factory.mktemp("study") / "results")


def test_rows(done):
    conditions, predictions = done.conditions(), done.predictions()
    assert len(conditions) == DESIGN.count(0, 4) == len(conditions["condition"].unique())
    assert set(conditions["status"]) == {"ok"}
    assert len(predictions) == len(conditions) * 7
    assert set(predictions["condition"]) == set(conditions["condition"])
    sums = predictions.groupby("condition")["probability"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert (predictions["logit"].dtype, predictions["probability"].dtype) == (np.float32, np.float32)
    assert (conditions["coverage"] > 0.05).all()
    manifest = json.loads((done.path / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["counts"]["subjects"] == 2
    assert manifest["spec"]["resolved"]["design"]["strengths"] == [0.0, 1.0]
    assert Study.from_dict(manifest["spec"]["resolved"]) == dataclasses.replace(STUDY)


def test_the_analysis_reads_categories_as_it_reads_text(done):
    slim, text = done.predictions(categories=True), done.predictions()
    assert all(isinstance(slim[c].dtype, pd.CategoricalDtype) for c in ("condition", "classifier", "label", "emotion"))
    for name in text:
        assert slim[name].tolist() == text[name].tolist()
    assert slim.memory_usage(deep=True).sum() < 0.6 * text.memory_usage(deep=True).sum()
    few = AnalysisOptions(permutations=99, bootstrap=99)
    analyses = [pipeline.analyze(pipeline.Tables(done.conditions(), p), few) for p in (slim, text)]
    pd.testing.assert_frame_equal(analyses[0].effects, analyses[1].effects, check_exact=True)
    pd.testing.assert_frame_equal(
        *(
            target_logits(done.conditions(), p).reset_index(drop=True).astype({"classifier": object})
            for p in (slim, text)
        )
    )


def target(done, arm, side="none", strength=0.0):
    rows = done.conditions().query("arm == @arm and side == @side and strength == @strength")
    joined = rows.merge(done.predictions(), on="condition").query("emotion == expression")
    return joined.set_index("unit")["logit"]


def test_zero_dose_changes_nothing(done):
    """The same numbers, bit for bit: what was not edited was not touched."""
    baseline = target(done, "baseline")
    for arm, side in (("null", "none"), ("unilateral", "left"), ("matched", "right")):
        pd.testing.assert_series_equal(target(done, arm, side), baseline, check_exact=True)


def test_full_dose_changes_something(done):
    assert (target(done, "unilateral", "left", 1.0) - target(done, "baseline")).abs().min() > 1e-3


def test_mirrored_pictures_are_mirror_images(model):
    unit = next(sampled_units(model, 1, ["happiness"], seed=3, size=64))
    rendered = stages.render_plan(model, unit_conditions(model, unit, DESIGN), "numba")
    at = {(c.arm, c.side, c.strength): k for k, c in enumerate(rendered.plan.conditions)}
    a, b = at["unilateral", "left", 1.0], at["mirrored_unilateral", "left", 1.0]
    assert torch.equal(rendered.images[a].flip(-1), rendered.images[b])
    # the crop's anchor is mirrored along: the subject's outer eye corners change names and places
    np.testing.assert_allclose(rendered.landmarks[b][36, 0], 64 - rendered.landmarks[a][45, 0], atol=1e-4)
    np.testing.assert_allclose(rendered.landmarks[b][:, 1].mean(), rendered.landmarks[a][:, 1].mean(), atol=1e-4)


def test_one_crop_for_all_arms(model):
    unit = next(sampled_units(model, 1, ["surprise"], seed=3, size=64))
    rendered = stages.render_plan(model, unit_conditions(model, unit, DESIGN), "numba")
    upright = [k for k, c in enumerate(rendered.plan.conditions) if not c.arm.startswith("mirrored")]
    for k in upright:
        assert torch.equal(rendered.landmarks[k], rendered.landmarks[upright[0]])


def test_crop_anchor_is_the_neutral_mesh(model):
    """Two expressions of one person share the anchor."""
    a, b = sampled_units(model, 1, ["happiness", "surprise"], seed=1, size=64)
    np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert a.lights is b.lights
    assert a.camera is b.camera


def test_people_do_not_depend_on_how_many(model):
    few = list(sampled_units(model, 1, ["fear"], seed=5, size=64))
    more = list(sampled_units(model, 3, ["fear", "anger"], seed=5, size=64))
    np.testing.assert_array_equal(few[0].expression, more[0].expression)
    np.testing.assert_array_equal(few[0].identity, more[0].identity)
    assert few[0].background == more[0].background


def rows_of(results):
    return (
        results.conditions().sort_values("condition", ignore_index=True),
        results.predictions().sort_values(["condition", "label"], ignore_index=True),
    )


def same_rows(a, b):
    for x, y in zip(rows_of(a), rows_of(b), strict=True):
        pd.testing.assert_frame_equal(x, y, check_exact=True)


def test_an_interrupted_run_goes_on_and_ends_the_same(done, tmp_path, monkeypatch):
    original, calls = Results.write_shard, []

    def dies(self, shard, *rows):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(shard)
        original(self, shard, *rows)

    monkeypatch.setattr(Results, "write_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, tmp_path / "r", units_per_shard=1)
    with pytest.raises(StoreError, match="half written"):
        Results.open(tmp_path / "r")
    monkeypatch.setattr(Results, "write_shard", original)
    with pytest.raises(StoreError, match=r"already holds results \(running\).*--resume"):
        run_study(STUDY, tmp_path / "r", rerun=True)
    made = []
    monkeypatch.setattr(Results, "write_shard", lambda self, k, *rows: (made.append(k), original(self, k, *rows))[1])
    again = run_study(STUDY, tmp_path / "r", resume=True)
    assert sorted(calls + made) == [0, 1, 2, 3]
    same_rows(again, done)
    assert again.manifest["counts"] == done.manifest["counts"]
    assert not list(again.path.rglob("*.tmp*"))


@pytest.mark.parametrize(
    "how", [{"workers": 1}, {"workers": 3, "units_per_shard": 1}, {"engine": "processes", "workers": 2}]
)
def test_rows_do_not_hang_on_how_the_work_is_cut(done, tmp_path, how):
    same_rows(run_study(STUDY, tmp_path / "r", **({"units_per_shard": 2} | how)), done)


def test_a_finished_study_is_left_alone(done):
    before = (done.path / "conditions.parquet").stat().st_mtime_ns
    assert run_study(STUDY, done.path, resume=True).complete
    assert (done.path / "conditions.parquet").stat().st_mtime_ns == before


def test_adding_a_classifier_renders_the_same_pictures(done, tmp_path):
    import shutil

    shutil.copytree(done.path, tmp_path / "r")
    assert add_classifiers(tmp_path / "r", ["face_expression_net", "mini_xception"]) == ["face_expression_net"]
    both = run_study(
        dataclasses.replace(STUDY, classifiers=("mini_xception", "face_expression_net")), tmp_path / "both"
    )
    keys = ["classifier", "condition", "label"]
    a, b = (r.predictions().sort_values(keys, ignore_index=True) for r in (Results.open(tmp_path / "r"), both))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    assert add_classifiers(tmp_path / "r", ["face_expression_net"]) == []


def test_two_studies_begun_at_the_same_moment_do_not_mix(tmp_path, monkeypatch):
    """Both saw an empty folder; the manifest of the later one stands, and the earlier must not fill it."""
    original = Results.create.__func__

    def late(cls, path, manifest, *args, **kwargs):
        made = original(cls, path, manifest, *args, **kwargs)
        theirs = made.manifest["spec"]["resolved"] | {"seed": 9}
        other = made.manifest | {"spec_sha256": "another", "spec": {"resolved": theirs}}
        Results(made.path, other).write_manifest()
        return made

    monkeypatch.setattr(Results, "create", classmethod(late))
    with pytest.raises(StoreError, match=r"another run has just begun another study .*seed: 9 there, 0 now"):
        run_study(STUDY, tmp_path / "r")
    assert not (tmp_path / "r" / "predictions").exists()


def test_progress_counts_what_failed_and_what_was_there(model, tmp_path):
    good = list(sampled_units(model, 1, ["happiness"], seed=0, size=64))
    bad = FailedUnit("gone.happiness", "gone", "photo", "happiness", "gone.jpg vanished")
    told = []
    runner.compute(0, [*good, bad], model, DESIGN, [load_classifier("mini_xception")],
                   progress=lambda n, failed=0: told.append((n, failed)))  # fmt: skip
    lost = len(DESIGN.conditions("gone", "photo"))
    assert told == [(len(DESIGN.conditions("u", "sampled")), 0), (lost, lost)]


def test_a_study_that_goes_on_with_other_versions_says_so(tmp_path, monkeypatch):
    from .test_faults import begin

    begin(tmp_path / "r", monkeypatch, shards=1)
    file = tmp_path / "r" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match=r"other versions than it was begun with: torch 1.0 there"):
        done = run_study(STUDY, tmp_path / "r", resume=True)
    assert done.manifest["resumed"][0]["versions"]["torch"] != "1.0"


def test_failed_units_are_counted_not_replaced(model, tmp_path):
    good = list(sampled_units(model, 1, ["happiness"], seed=0, size=64))
    bad = FailedUnit("gone.happiness", "gone", "photo", "happiness", "gone.jpg has changed since it was fitted")
    results = Results.create(tmp_path / "r", {"spec_sha256": "x", "classifiers": {}})
    runner.run([*good, bad], model, DESIGN, [load_classifier("mini_xception")], results)
    conditions = results.conditions()
    failed = conditions[conditions["status"] == "failed"]
    assert len(failed) == len(DESIGN.conditions("gone", "photo"))
    assert set(failed["reason"]) == {bad.reason}
    assert not set(failed["condition"]) & set(results.predictions()["condition"])
    assert runner.summary(conditions)["reasons"] == {bad.reason: len(failed)}


def test_a_classifier_that_fails_stops_the_run_by_name(model, tmp_path):
    classifier = load_classifier("mini_xception")

    class Broken:
        spec = classifier.spec

        def __call__(self, images, landmarks):
            raise ClassifierError("mini_xception: gave NaN")

    results = Results.create(tmp_path / "r", {"spec_sha256": "x", "classifiers": {}})
    with pytest.raises(ClassifierError, match="mini_xception"):
        runner.run(sampled_units(model, 1, ["fear"], 0, 64), model, DESIGN, [Broken()], results)
    assert not results.complete


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "nobody to intervene on"),
        ({"sample": 1, "classifiers": ()}, "at least one classifier"),
        ({"sample": 1, "device": "abacus"}, "device must be"),
    ],
)
def test_refuses(kwargs, message):
    with pytest.raises(UsageError, match=message):
        Study(**kwargs)


def test_examples_are_different_people_and_emotions(model):
    study = dataclasses.replace(STUDY, sample=5, expressions=("anger", "happiness", "surprise"))
    units = Units(study, model)
    chosen = units.is_example()
    kept = [(u.subject, u.emotion) for u in units if chosen(u)]
    assert kept == [("s0001", "happiness"), ("s0002", "surprise"), ("s0003", "anger")]


def test_a_picture_that_lacks_a_part_of_the_mesh_is_recorded(model, monkeypatch):
    """A rasteriser that loses triangles, as PyTorch3D can, must not pass for a face."""
    from morphsym import rendering
    from morphsym.experiment import units

    honest = rendering.render

    def loses_faces(vertices, faces, *args, **kwargs):
        return honest(vertices, faces[: len(faces) // 2], *args, **kwargs)

    unit = next(iter(sampled_units(model, 1, ["happiness"], seed=3, size=64)))
    monkeypatch.setattr(units.rendering, "render", loses_faces)
    rendered = stages.render_plan(model, unit_conditions(model, unit, DESIGN), "numba")
    assert not rendered.rendered.any()
    assert "the mesh covers" in rendered.reasons[0]
    assert len(rendered.images) == 0
