"""The commands one after another on a small study, as a person would call them."""

import json
import re

import pandas as pd
import pytest
from click.testing import CliRunner
from morphsym_cli import cli


def call(*args):
    """Run a command in this process; the exit status, standard output and standard error."""
    done = CliRunner().invoke(cli, [str(a) for a in args])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("chain") / "results"
    code, told, errors = call(
        "intervene", "--sample", 3, "--expression", "happiness", "--side", "left", "--side", "right", "--strength", 1,
        "--size", 96, "-o", out, "-q", "--json",
    )  # fmt: skip
    assert code == 0, errors
    assert json.loads(told)["failed"] == 0
    return out


def test_analyze_gate_power(results):
    code, told, errors = call("gate", results, "--max-asymmetry-effect", 0.3)
    assert code == 1
    assert "has not been analyzed; run: morphsym analyze" in errors
    code, told, errors = call("analyze", results, "-q")
    assert code == 0, errors
    assert "mini_xception" in told
    assert "nan" not in told
    effects = pd.read_csv(results / "analysis" / "effects.csv")
    te, ie, ae = (
        effects.query("contrast == @c and primary and outcome == 'logit'")
        .drop_duplicates("classifier")["estimate"]
        .to_numpy()
        for c in ("TE", "IE", "AE")
    )
    if len(ie):
        assert te == pytest.approx(ie + ae, abs=1e-6)
    page = (results / "analysis" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"\b(nan|None)\b", re.sub(r"<[^>]*>|data:[^\"]*", "", page))
    assert call("gate", results, "--max-asymmetry-effect", 1000, "-q")[0] == 0
    code, told, errors = call("gate", results, "--max-asymmetry-effect", 1e-9)
    assert code == 1
    assert "face_expression_net (sampled): the asymmetry effect is" in errors
    code, told, errors = call("power", results, "--json")
    assert code == 0, errors
    assert {r["contrast"] for r in json.loads(told)} == {"TE", "AE"}


def test_the_same_study_is_done_once(results):
    same = ("intervene", "--sample", 3, "--expression", "happiness", "--side", "left", "--side", "right",
            "--strength", 1, "--size", 96, "-o", results, "-q")  # fmt: skip
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.name != ".lock"}
    assert call(*same)[0] == 0
    assert call(*same, "--resume")[0] == 0
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.name != ".lock"} == before
    for how in ((), ("--resume",)):
        code, _, errors = call(*same, "--seed", 5, *how)
        assert code == 1
        assert "another study (seed: 0 there, 5 now)" in errors


def test_doctor_says_what_to_do():
    code, told, _ = call("doctor", "--json")
    checks = {c["name"]: c for c in json.loads(told)}
    assert checks["morphsym"]["status"] == "ok"
    assert checks["renderer numba"]["status"] == "ok"
    assert checks["bundled head"]["status"] == "ok"
    for c in checks.values():
        assert c["status"] == "ok" or c["advice"] or c["name"].startswith("renderer"), c
    assert code == (1 if any(c["status"] == "missing" for c in checks.values()) else 0)


def test_weights_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))
    (tmp_path / "wrong.task").write_bytes(b"not the weights")
    code, _, errors = call("weights", "add", "mediapipe", tmp_path / "wrong.task")
    assert code == 1
    assert "expected sha256" in errors
    code, told, _ = call("weights", "list", "--json")
    assert code == 0
    assert {r["name"]: r["state"] for r in json.loads(told)}["mediapipe"] == "missing"
