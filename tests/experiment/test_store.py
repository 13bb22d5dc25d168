"""The results folder: atomic, resumable, and clear about what is wrong with it."""

import json

import pandas as pd
import pytest

from morphsym.errors import StoreError
from morphsym.experiment.atomic import write_text, writing
from morphsym.experiment.store import CONDITION_COLUMNS, VERSION, Results, check_name

MANIFEST = {"spec_sha256": "a", "spec": {"resolved": {"seed": 0}}, "classifiers": {"c": {}}}


def rows_of(unit):
    frame = pd.DataFrame({c: ["x"] for c in CONDITION_COLUMNS})
    frame["condition"], frame["status"] = f"{unit}/baseline/none/0/none", "ok"
    frame["unit"] = frame["subject"] = unit
    predictions = pd.DataFrame(
        {
            "condition": frame["condition"],
            "classifier": "c",
            "label": "l",
            "emotion": "fear",
            "logit": 0.0,
            "probability": 1,
        }
    )
    return frame, predictions


def finished(path):
    results = Results.create(path, MANIFEST)
    results.write_shard(0, *rows_of("u1"))
    results.write_shard(1, *rows_of("u2"))
    results.finish(2)
    return results


def test_round_trip(tmp_path):
    finished(tmp_path / "r")
    results = Results.open(tmp_path / "r")
    assert results.conditions()["unit"].tolist() == ["u1", "u2"]
    assert len(results.predictions()) == 2
    assert not list((tmp_path / "r").rglob("*.tmp*"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")

    def killed_in_the_middle():
        with writing(tmp_path / "a") as aside:
            aside.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        killed_in_the_middle()
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_half_written(tmp_path):
    results = Results.create(tmp_path / "r", MANIFEST)
    results.write_shard(0, *rows_of("u1"))
    with pytest.raises(StoreError, match="half written.*--resume"):
        Results.open(tmp_path / "r")
    again = Results.create(tmp_path / "r", MANIFEST, resume=True)
    assert again.has_shard(0)
    assert not again.has_shard(1)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: None, "there is no folder.*morphsym intervene"),
        (lambda p: p.mkdir(), "is empty.*morphsym intervene"),
        (lambda p: p.write_text("x"), "is a file"),
        (lambda p: (p.mkdir(), (p / "note.txt").write_text("x")), "holds no manifest.json"),
        (lambda p: (p.mkdir(), (p / "manifest.json").write_text("{")), "cannot be read"),
        (lambda p: (p.mkdir(), (p / "manifest.json").write_text("[]")), "not a manifest"),
    ],
)
def test_what_is_not_results(tmp_path, prepare, message):
    prepare(tmp_path / "r")
    with pytest.raises(StoreError, match=message):
        Results.open(tmp_path / "r")


def test_newer_version(tmp_path):
    results = finished(tmp_path / "r")
    text = json.loads((results.path / "manifest.json").read_text()) | {"version": VERSION + 1}
    (results.path / "manifest.json").write_text(json.dumps(text))
    with pytest.raises(StoreError, match="newer morphsym.*update morphsym"):
        Results.open(results.path)


def test_existing_results_are_not_overwritten_by_accident(tmp_path):
    finished(tmp_path / "r")
    with pytest.raises(StoreError, match="already holds results.*--resume.*--overwrite"):
        Results.create(tmp_path / "r", MANIFEST)
    other = MANIFEST | {"spec_sha256": "b", "spec": {"resolved": {"seed": 1}}}
    with pytest.raises(StoreError, match="another study .seed: 0 there, 1 now"):
        Results.create(tmp_path / "r", other, resume=True)
    assert Results.create(tmp_path / "r", MANIFEST, resume=True).complete
    assert not Results.create(tmp_path / "r", other, overwrite=True).complete


def test_foreign_files_are_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="not empty and holds no morphsym results"):
        Results.create(tmp_path, MANIFEST, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_truncated_part(tmp_path):
    results = finished(tmp_path / "r")
    part = results.path / "predictions" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"part-00001.parquet cannot be read"):
        Results.open(results.path).predictions()


def test_two_runs_on_one_folder(tmp_path):
    results = finished(tmp_path / "r")
    with (
        results.acquire_lock(),
        pytest.raises(StoreError, match="another run is writing"),
        Results(results.path, {}).acquire_lock(),
    ):
        pass


def test_doubled_subjects_are_refused(tmp_path):
    results = Results.create(tmp_path / "r", MANIFEST)
    results.write_shard(0, *rows_of("u1"))
    results.write_shard(1, *rows_of("u1"))
    with pytest.raises(StoreError, match="computed twice"):
        results.finish(2)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a:b", ".hidden"])
def test_names_that_are_no_file_names(name):
    with pytest.raises(Exception, match="cannot be used as a file name"):
        check_name("subject", name)
