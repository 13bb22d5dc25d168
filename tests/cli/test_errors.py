"""A user's mistake costs one clear line on standard error and the right exit status: never a traceback.

Cases of options run the whole program in this process; the others the real one, in a process of its own.
"""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from morphsym_cli import cli


def morphsym(*args, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", "morphsym", *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"MORPHSYM_HOME": str(cwd / "home"), "COLUMNS": "100"} | env,
    )


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """The same in this process: loading torch once is enough."""

    def call(*args):
        done = CliRunner().invoke(cli, [str(a) for a in args])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    return call


def one_line(done):
    lines = [x for x in done.stderr.splitlines() if x.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert lines[0].startswith("morphsym: ")
    return lines[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["intervene", "--sample", 1, "--strength", "1.5"], "strength must lie between 0 .* and 1 .*got 1.5"),
        (["intervene", "--sample", 1, "--strength", "much"], "'much' is not a valid float"),
        (["intervene", "--sample", 1, "--side", "up"], "'up' is not one of 'left', 'right', 'both'"),
        (["intervene", "--sample", 1, "--region", "ear"], "'ear' is not one of"),
        (["intervene", "--sample", 1, "--include", "teeth"], "include must be one of jaw, gaze, tongue; got 'teeth'"),
        (["intervene", "--sample", 1, "--classifier", "mini_xeption"], "mini.xception"),
        (["intervene", "--sample", 1, "--model", "nobody"], "nobody"),
        (["intervene", "--sample", 1, "--renderer", "crayon"], "renderer must be one of"),
        (["intervene", "--sample", 1, "--device", "abacus"], "device must be auto, cpu, cuda"),
        (["intervene", "--sample", "-3"], "-3 is not in the range"),
        (["fit"], "Missing argument 'PHOTO"),
        (["fly"], "No such command 'fly'"),
        (["weights", "get", "nothing"], "unknown weights 'nothing'"),
        (["analyze", "--alpha", "7"], "alpha must lie between 0 and 1"),
    ],
)
def test_usage(inside, tmp_path, args, message):
    done = inside(*args)
    assert re.search(message, one_line(done)), done.stderr
    assert done.returncode == 2
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["analyze", "nowhere"], "there is no folder nowhere; make one with: morphsym intervene -o nowhere"),
        (["classify", "nowhere", "--classifier", "mini_xception"], "there is no folder nowhere"),
        (["intervene"], "fits"),
        (["weights", "add", "mediapipe", "missing.task"], "no file missing.task"),
    ],
)
def test_work_that_cannot_be_done(inside, tmp_path, args, message):
    done = inside(*args)
    assert message in one_line(done)
    assert done.returncode == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jpg", None, "missing.jpg"),
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"this is no picture", "text.jpg"),
    ],
)
def test_photos(inside, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    landmarks = tmp_path / "points.csv"
    landmarks.write_text("x,y\n" + "\n".join(f"{i},{i % 7}" for i in range(68)))
    done = inside("fit", name, "--landmarks", landmarks, "-q")
    assert done.returncode == 1
    assert message in one_line(done)
    assert not list(tmp_path.glob("fits/*.png"))
    if content is not None:
        assert ",failed," in (tmp_path / "fits" / "fits.csv").read_text()
        then = inside("intervene", "--fits", "fits", "-q")
        assert then.returncode == 1
        assert "no usable fit" in one_line(then)


def test_folder_without_pictures(inside, tmp_path):
    (tmp_path / "photos").mkdir()
    done = inside("fit", "photos")
    assert "photos" in one_line(done)
    assert done.returncode in (1, 2)


def test_weights_that_are_not_there_are_named(tmp_path):
    done = morphsym("fit", _photo(), "--offline", "-q", cwd=tmp_path)
    assert done.returncode == 1
    assert "morphsym weights" in done.stderr
    assert "mediapipe" in done.stderr
    assert "Traceback" not in done.stderr


def _photo():
    from morphsym.experiment.demo import sample_photo

    return sample_photo()


def test_foreign_and_half_written_results(inside, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    assert "is empty" in one_line(inside("analyze", "results"))
    (results / "manifest.json").write_text(
        json.dumps({"format": "morphsym.results", "version": 1, "status": "running"})
    )
    assert "half written" in one_line(inside("analyze", "results"))
    (results / "manifest.json").write_text(json.dumps({"format": "morphsym.results", "version": 99}))
    assert "newer morphsym" in one_line(inside("analyze", "results"))


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "results").write_text("mine")
    done = morphsym("intervene", "--sample", 1, "-q", cwd=tmp_path)
    assert "a file is in the way" in one_line(done)
    assert (tmp_path / "results").read_text() == "mine"


def test_version_and_help(tmp_path):
    import morphsym as package

    assert package.__version__ in morphsym("--version", cwd=tmp_path).stdout
    told = morphsym("--help", cwd=tmp_path)
    assert told.returncode == 0
    for command in ("fit", "intervene", "classify", "analyze", "demo", "weights", "doctor"):
        assert command in told.stdout
