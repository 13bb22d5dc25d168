"""Designs through the commands: counted before they run, refused in one line, and the same as from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from morphsym_cli import cli

from morphsym.experiment import spec
from morphsym.experiment.study import Study
from morphsym.intervention import DEFAULT_ARMS, Design

ASKED = ["--clinical", "temporal", "--region", "mouth", "--placebo", "--rest-droop", "0.5", "--matched-sensitivity",
         "--side", "left", "--strength", "1", "--sweep-yaw", "-10,10", "--sweep-light", "left"]  # fmt: skip
WANTED = Design(
    sides=("left",), strengths=(1.0,), regions=("mouth",), clinical=("temporal",), arms=(*DEFAULT_ARMS, "placebo"),
    rest_droop=0.5, matched_sensitivity=True, yaw=(-10, 10), light=("left",),
)  # fmt: skip


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["intervene", "--sample", "3", "--expression", "anger", "--size", "64", *ASKED, "--dry-run", "--json"]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output.splitlines()[-1])
    assert told["units"] == 6
    assert told["images"] == 6 * len(WANTED.conditions("u", "sampled"))
    assert told["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_file_says_the_same() -> None:
    design = {
        "sides": ["left"], "strengths": [1.0], "regions": ["mouth"], "clinical": ["temporal"], "placebo": True,
        "rest_droop": 0.5, "matched_sensitivity": True,
    }  # fmt: skip
    values = {"people": {"count": 3}, "design": design, "sweep": {"yaw": [-10.0, 10.0], "light": ["left"]}}
    made = spec.parse(values).study(Path())
    assert made.design == WANTED
    assert Study.from_dict(made.to_dict()).design == WANTED
    options = spec.parse(values | {"analysis": {"sesoi": 0.2, "primary_region": "temporal"}}).options()
    assert options.sesoi["logit"] == 0.2
    assert options.primary_region == "temporal"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"design": {"clinical": ["house-brackman-4"]}}, "did you mean 'house-brackmann-4'"),
        ({"design": {"regions": []}}, "both empty"),
        ({"sweep": {"light": ["disco"]}}, "must be"),
        ({"people": None, "fits": "fits", "sweep": {"yaw": [0, 10]}}, "over sampled people"),
        ({"labels": "people.csv"}, "labels are about photos"),
        ({"analysis": {"primary_region": "temporal"}}, "none of design.regions"),
    ],
)
def test_what_cannot_be_is_said(values: dict, message: str) -> None:
    from morphsym.errors import UsageError

    with pytest.raises(UsageError, match=message):
        spec.parse({"people": {"count": 3}} | values)
