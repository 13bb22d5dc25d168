"""``morphsym classifiers``: messages, exit codes, JSON."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from morphsym_cli import cli

from morphsym.classifiers import load_classifier
from morphsym.errors import ClassifierError

from .test_adapters import Hostile, Net


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))

    def call(*args):
        result = CliRunner().invoke(cli, ["classifiers", *args])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_list_and_show(run):
    rows = json.loads(run("list", "--json").output)
    assert len(rows) >= 30
    assert rows[0]["id"] == "mini_xception"
    assert "emonet_8" not in run("list", "--commercial-safe").output
    assert "morphsym classifiers get emonet_8" in run("show", "emonet_8").output
    assert json.loads(run("show", "ferplus", "--json").output)["emotions_in_order"][1] == "happiness"
    unknown = run("show", "emonet8")
    assert unknown.exit_code == 2
    assert "did you mean emonet_8" in unknown.stderr


def test_check_says_what_it_found(run, tmp_path):
    result = run("check", "face_expression_net")
    assert result.exit_code == 0
    assert "pass  expressions            1 of 1 score their own expression first" in result.output
    (tmp_path / "bad.yaml").write_text(
        "id: bad\nbackend: python\nfactory: code:score\nlabels: [sad, happy]\ninput_size: 32\n"
    )
    (tmp_path / "code.py").write_text(
        "import torch\ndef score(x):\n    return torch.softmax(x.mean((2, 3))[:, :2], 1)\n"
    )
    assert "added bad; next: morphsym classifiers check bad" in run("add", str(tmp_path / "bad.yaml")).output
    result = run("check", "bad", "--json")
    assert result.exit_code == 1
    verdicts = {r["check"]: r["verdict"] for r in json.loads(result.output)["bad"]}
    assert verdicts["softmax baked in"] == "fail"


def test_trust_is_given_once_and_can_be_taken_back(run, tmp_path):
    marker = tmp_path / "was-here"
    torch.save({"state_dict": Net().state_dict(), "x": Hostile(str(marker))}, tmp_path / "w.pth")
    (tmp_path / "p.yaml").write_text(
        "id: pickled\nbackend: torch\nfactory: tests.classifiers.test_adapters:Net\nsource: w.pth\n"
        "labels: [happy, sad]\ninput_size: 32\n"
    )
    run("add", str(tmp_path / "p.yaml"))
    with pytest.raises(ClassifierError, match="only with --trust"):
        load_classifier("pickled")
    assert not marker.exists()
    run("add", "--replace", "--trust", str(tmp_path / "p.yaml"))
    load_classifier("pickled@1.1")
    assert marker.exists()
    run("add", "--replace", str(tmp_path / "p.yaml"))
    with pytest.raises(ClassifierError, match="only with --trust"):
        load_classifier("pickled")


def test_get(run):
    assert "mini_xception.npz" in run("get", "mini_xception").output
    by_hand = run("get", "dan_rafdb")
    assert by_hand.exit_code == 2
    assert "cannot be fetched. Download the RAF-DB checkpoint" in by_hand.stderr
