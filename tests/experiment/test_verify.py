"""``verify`` finds what was changed behind the manifest's back."""

import json
import shutil

import numpy as np
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


def test_the_same_machine_must_give_the_same_bits_and_another_nearly(copy):
    """One bit of one logit is a change here; from another processor it is not."""
    name = "predictions/part-00000.parquet"

    def nudge(frame):
        frame["logit"] = np.nextafter(frame["logit"].to_numpy(), np.float32(9))
        return frame

    rewrite(copy, name, nudge)
    found = verify(copy, sample=4)
    assert not found.ok
    assert "logits of the sample differ" in found.problems[0]
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["machine"]["processor"] = "an older one"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    found = verify(copy, sample=4)
    assert found.ok, found.problems
    assert any("made elsewhere, compared within 0.001" in n for n in found.notes)


def test_kept_pictures_are_compared(copy):
    from PIL import Image

    file = next((copy / "images").rglob("unilateral-left-1-all.png"))
    unit = file.parent.name
    found = verify(copy, sample=4)
    assert found.ok
    assert found.pictures > 0
    Image.new("RGB", Image.open(file).size).save(file)
    assert any(f"{unit}/unilateral-left-1-all.png is another picture" in p for p in verify(copy, sample=4).problems)
    file.unlink()
    assert any("1 of" in p and "kept pictures are missing" in p for p in verify(copy, sample=0).problems)


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
