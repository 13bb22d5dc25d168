"""Results in an object store: the same files in the same order, one run at a time, whole or not at all."""

import dataclasses
import importlib
import json
import time
import uuid

import pytest

from morphsym import pipeline
from morphsym.analysis import AnalysisOptions
from morphsym.errors import MissingDependencyError, StoreError, UsageError
from morphsym.experiment import locks, places
from morphsym.experiment.store import Results
from morphsym.experiment.study import add_classifiers, run_study
from morphsym.experiment.verify import verify

from .test_faults import begin
from .test_run import STUDY, same_rows
from .test_store import MANIFEST, finished, rows_of

pytest.importorskip("upath", reason="universal-pathlib is not installed (pip install 'morphsym[stores]')")


@pytest.fixture
def bucket():
    return places.place(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run_study(STUDY, tmp_path_factory.mktemp("places") / "r", units_per_shard=1)


def names(path):
    """All files below ``path``, relative to it."""
    if places.is_remote(path):
        root = places.key(path)
        return {x.removeprefix(root).lstrip("/") for x in places.store(path).find(root)}
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def test_a_store_gets_the_bytes_that_a_folder_gets(done, bucket):
    there = run_study(STUDY, bucket / "study", units_per_shard=1)
    assert there.manifest["sha256"] == done.manifest["sha256"]
    assert names(there.path) | {".lock"} == names(done.path)
    for name in names(there.path) - {"manifest.json"}:
        assert (there.path / name).read_bytes() == (done.path / name).read_bytes()
    same_rows(Results.open(str(there.path)), done)
    found = verify(there.path, sample=1)
    assert found.ok, found.problems
    assert found.identical == found.sampled > 0
    again = run_study(STUDY, str(there.path), rerun=True)
    assert again.complete
    with pytest.raises(StoreError, match="another study .seed: 0 there, 5 now"):
        run_study(dataclasses.replace(STUDY, seed=5), there.path, rerun=True)
    assert add_classifiers(there.path, ["face_expression_net"]) == ["face_expression_net"]
    assert verify(there.path, sample=1).ok
    _, report = pipeline.analyze_results(there.path, AnalysisOptions(permutations=99, bootstrap=99))
    assert str(report) == f"{there.path}/analysis/report.html"
    assert b"data:image" in report.read_bytes()  # the example pictures came along
    assert len(pipeline.effects_of(there.path))


def test_an_interrupted_run_in_a_store_goes_on(done, bucket, monkeypatch):
    written = begin(bucket, monkeypatch)
    part = bucket / "predictions" / f"part-{written[0]:05d}.parquet"
    part.write_bytes(part.read_bytes()[:-9])  # somebody's hand
    assert not (bucket / ".lock").exists()
    with pytest.raises(StoreError, match=r"already holds results \(running\).*--resume"):
        run_study(STUDY, bucket)
    again = run_study(STUDY, bucket, resume=True)
    assert again.manifest["sha256"] == done.manifest["sha256"]
    assert not names(bucket / ".shards")


def test_two_runs_in_one_store(bucket, monkeypatch):
    results = Results.create(bucket, MANIFEST)
    with results.acquire_lock():
        with (
            pytest.raises(StoreError, match=r"another run is writing to memory:.*given up after 120 s"),
            Results(bucket, {}).acquire_lock(),
        ):
            pass
        for how in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(StoreError, match=r"another"):
                run_study(STUDY, bucket, **how)
    with results.acquire_lock():  # it was let go
        pass


def test_the_hold_of_a_dead_run_ends(bucket):
    (bucket / ".lock").write_text(json.dumps({"run": "dead", "renewed": time.time() - locks.LEASE - 1}))
    with locks.hold(bucket):
        assert json.loads((bucket / ".lock").read_text())["run"] != "dead"
    assert not (bucket / ".lock").exists()


def test_a_hold_is_renewed(bucket, monkeypatch):
    monkeypatch.setattr(locks, "LEASE", 0.2)
    with locks.hold(bucket):
        first = json.loads((bucket / ".lock").read_text())["renewed"]
        time.sleep(0.3)
        with pytest.raises(StoreError, match="another run"), locks.hold(bucket):
            pass
        assert json.loads((bucket / ".lock").read_text())["renewed"] > first


def test_create_only_where_there_is_none(bucket):
    assert places.create(bucket / "a", b"1")
    assert not places.create(bucket / "a", b"2")
    assert (bucket / "a").read_bytes() == b"1"


def test_a_store_that_refuses_says_so(bucket, monkeypatch):
    def refuses(*args, **kwargs):
        raise PermissionError("Access Denied")

    results = Results.create(bucket, MANIFEST)
    monkeypatch.setattr(type(places.store(bucket)), "pipe_file", refuses)
    with pytest.raises(StoreError, match="cannot use memory:.*Access Denied"):
        results.write_shard(0, *rows_of("u1"))


def test_overwriting_in_a_store(bucket):
    finished(bucket)
    assert not Results.create(bucket, MANIFEST, overwrite=True).complete
    assert names(bucket) == {"manifest.json"}


def test_a_file_url_is_a_folder(tmp_path):
    assert places.place(f"file://{tmp_path}/r") == tmp_path / "r"
    assert finished(f"file://{tmp_path}/r").complete


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("ftp://host/r", "results cannot be kept at ftp://host/r; expected a folder, or an object store: s3://"),
        ("s3://", "names no bucket; expected for example s3://bucket/study"),
    ],
)
def test_what_is_no_store(where, message):
    with pytest.raises(UsageError, match=message):
        places.place(where)


def test_a_store_whose_package_is_missing(monkeypatch):
    def missing(name):
        raise ImportError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"s3:// needs the package universal-pathlib: pip install 'morph"):
        places.place("s3://bucket/study")
