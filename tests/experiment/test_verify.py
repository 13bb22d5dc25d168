"""``verify`` finds what was changed behind the manifest's back."""

import json
import shutil

import pandas as pd
import pytest

from morphsym.experiment.store import Results
from morphsym.experiment.study import add_classifiers, run_study
from morphsym.experiment.verify import verify
from morphsym.resources import sha256

from .test_run import STUDY


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run_study(STUDY, tmp_path_factory.mktemp("verify") / "r", units_per_shard=2)


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done.path, tmp_path / "r")
    return tmp_path / "r"


def sign(path, name):
    """Make the manifest agree with a file that was tampered with: only its content can give it away."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][name] = sha256(path / name)
    (path / "manifest.json").write_text(json.dumps(manifest))


def rewrite(path, name, change):
    frame = pd.read_parquet(path / name)
    change(frame).to_parquet(path / name, index=False)
    sign(path, name)


def test_good_results(done):
    found = verify(done.path, sample=2)
    assert found.ok, found.problems
    assert (found.files, found.conditions) == (3, len(done.conditions()))
    assert found.predictions == len(done.predictions())
    assert found.sampled == found.identical == len(done.conditions()) // 2
    assert found.largest == 0


def test_good_results_with_a_classifier_added(copy):
    add_classifiers(copy, ["face_expression_net"])
    found = verify(copy, sample=1)
    assert found.ok, found.problems
    assert found.largest == 0
    assert Results.open(copy).failures().empty


PART = "predictions/part-00001.parquet"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / PART).unlink(), r"part-00001.parquet is missing"),
        (lambda p: (p / PART).write_bytes((p / PART).read_bytes()[:-1]), "has been altered or damaged"),
        (
            lambda p: shutil.copy(p / PART, p / "predictions" / "part-00009.parquet"),
            "part-00009.parquet is not of this",
        ),
        (lambda p: rewrite(p, PART, lambda f: f.iloc[7:]), "1 conditions are missing predictions, for example"),
        (lambda p: rewrite(p, PART, lambda f: pd.concat([f, f.iloc[:7]])), "have doubled predictions"),
        (lambda p: rewrite(p, "conditions.parquet", lambda f: pd.concat([f, f.iloc[:1]])), "is there twice"),
        (lambda p: rewrite(p, "conditions.parquet", lambda f: f.iloc[1:]), "which is no condition of the study"),
        (lambda p: rewrite(p, PART, lambda f: f.assign(logit=f["logit"] + 0.01)), "logits of the sample differ"),
        (
            lambda p: rewrite(p, "conditions.parquet", lambda f: f.assign(expression="fear")),
            "expression is 'fear', and '(happiness|surprise)' again",
        ),
    ],
)
def test_tampered_results(copy, damage, message):
    damage(copy)
    found = verify(copy, sample=4)
    assert not found.ok
    import re

    assert re.search(message, "\n".join(found.problems)), found.problems
