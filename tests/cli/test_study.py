"""``init``, ``run`` and ``verify`` as a person uses them: the real program, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .test_errors import morphsym, one_line

SMALL = ("--set", "people.count=2", "--set", "people.expressions=[happiness]", "--set", "rendering.size=64")
SMALL += ("--set", "design.strengths=[1]", "--set", "classifiers=[mini_xception]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished study."""
    path = tmp_path_factory.mktemp("study")
    assert morphsym("init", cwd=path).returncode == 0
    done = morphsym("run", "study.yaml", *SMALL, "--no-analysis", "--json", cwd=path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in done.stdout.splitlines()]
    assert lines[-1]["event"] == "done"
    assert lines[-1]["conditions"] == 18
    assert lines[-2]["event"] == "progress"
    assert lines[-2]["done"] == lines[-2]["total"] == 18
    assert done.stderr == ""
    return path


def test_init_keeps_what_is_there(folder):
    before = (folder / "study.yaml").read_text()
    assert "is there already" in one_line(morphsym("init", cwd=folder))
    assert (folder / "study.yaml").read_text() == before
    assert json.loads(morphsym("init", "--schema", cwd=folder).stdout)["title"] == "morphsym study"


def test_a_dry_run_writes_nothing(tmp_path):
    morphsym("init", cwd=tmp_path)
    done = morphsym("run", "study.yaml", *SMALL, "--set", "people.count=1000", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9000 pictures of 1000 units, 1 classifiers" in done.stdout
    assert "measured just now" in done.stdout
    assert os.listdir(tmp_path) == ["study.yaml"]


def test_a_finished_study_is_left_alone(folder):
    before = {p: p.stat().st_mtime_ns for p in (folder / "results").rglob("*") if p.name != ".lock"}
    done = morphsym("run", "study.yaml", *SMALL, "--no-analysis", "-q", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {p: p.stat().st_mtime_ns for p in (folder / "results").rglob("*") if p.name != ".lock"} == before


def test_a_changed_study_is_refused(folder):
    done = morphsym("run", "study.yaml", *SMALL, "--set", "seed=3", cwd=folder)
    assert done.returncode == 1
    assert "holds results of another study (seed: 0 there, 3 now)" in one_line(done)


@pytest.mark.slow
def test_the_engine_changes_nothing(folder):
    done = morphsym("run", "study.yaml", *SMALL, "--no-analysis", "-q", "--engine", "processes", "--workers", 2,
                    "-o", "other", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((folder / n / "manifest.json").read_text()) for n in ("results", "other"))
    assert one["sha256"] == other["sha256"]


def test_mistakes_cost_one_line(folder):
    done = morphsym("run", "study.yaml", "--set", "people.cuont=3", cwd=folder)
    assert done.returncode == 2
    assert "unknown key 'people.cuont'; did you mean 'people.count'?" in one_line(done)
    assert "morphsym init" in one_line(morphsym("run", "nothing.yaml", cwd=folder))


def test_verify(folder, tmp_path):
    import shutil

    done = morphsym("verify", "results", "--sample", 1, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "9 conditions rendered again, 9 identical" in done.stdout
    shutil.copytree(folder / "results", tmp_path / "results")
    (tmp_path / "results" / "predictions" / "part-00000.parquet").write_bytes(b"no")
    done = morphsym("verify", "results", "-q", cwd=tmp_path)
    assert done.returncode == 1
    assert "part-00000.parquet has been altered" in one_line(done)


@pytest.mark.slow
def test_ctrl_c_stops_at_a_shard_and_resume_goes_on(folder, tmp_path):
    study = (folder / "study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(study)
    many = (*SMALL, "--set", "people.count=60", "--set", "run.units_per_shard=2", "--no-analysis", "-q")
    process = subprocess.Popen(
        [sys.executable, "-m", "morphsym", "run", "study.yaml", *many], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    marks = tmp_path / "results" / ".shards"
    while len(list(marks.glob("[0-9]*.json"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip() == "morphsym: stopped; what was finished is kept, go on with --resume"
    assert 2 <= len(list(marks.glob("[0-9]*.json"))) < 30
    assert not list((tmp_path / "results").rglob("*.tmp*"))
    assert "--resume" in one_line(morphsym("run", "study.yaml", *many, cwd=tmp_path))
    done = morphsym("run", "study.yaml", *many, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results" / "manifest.json").read_text())["counts"]["conditions"] == 540
