"""A photo study in one go: fit, run, analyze; what is done already is left as it is."""

import shutil

import pytest
import yaml

from morphsym.errors import FitError, StoreError
from morphsym.experiment import demo, spec, whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    (path / "photos").mkdir()
    shutil.copy(demo.sample_photo(), path / "photos" / "eileen.png")
    values = {
        "photos": {"paths": ["photos/eileen.png"], "landmarks": str(demo.sample_landmarks())},
        "people": {"count": 3, "expressions": ["happiness"]},
        "design": {"strengths": [1]},
        "rendering": {"size": 64, "photo_size": 96},
        "classifiers": ["mini_xception"],
        "analysis": {"permutations": 99, "bootstrap": 99},
    }
    (path / "study.yaml").write_text(yaml.safe_dump(values))
    return path


def test_in_one_go_and_never_twice(folder):
    study = spec.load(folder / "study.yaml")
    plan = whole.plan(study, folder)
    assert (plan.units, plan.photos_to_fit) == (4, 1)
    assert not (folder / "fits").exists()
    results, analysis, report = whole.run_file(study, folder)
    assert report == folder / "results" / "analysis" / "report.html"
    assert report.is_file()
    assert set(analysis.effects["source"]) == {"photo", "sampled"}
    assert plan.images == len(results.conditions()) == results.manifest["counts"]["conditions"]
    assert set(results.conditions()["status"]) == {"ok"}
    assert results.manifest["machine"]["cores"] >= 1
    assert "resumed" not in results.manifest
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    _, nothing, same = whole.run_file(study, folder)
    assert (nothing, same) == (None, report)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"} == before
    assert whole.plan(study, folder).photos_to_fit == 0


def test_other_analysis_options_analyze_again_without_rendering(folder):
    study = spec.load(folder / "study.yaml", ["analysis.alpha=0.01"])
    part = next((folder / "results" / "predictions").glob("*.parquet"))
    before = part.stat().st_mtime_ns
    _, analysis, _ = whole.run_file(study, folder)
    assert set(analysis.effects["alpha"]) == {0.01}
    assert part.stat().st_mtime_ns == before


def test_fits_of_another_request_are_not_mistaken(folder):
    study = spec.load(folder / "study.yaml", ["photos.expression=anger"])
    with pytest.raises(StoreError, match=r"fits of another request \(expression\).*--overwrite"):
        whole.run_file(study, folder, folder / "elsewhere")


def test_photos_that_are_not_there(tmp_path):
    study = spec.parse({"photos": {"paths": ["nobody.jpg"], "landmarks": str(demo.sample_landmarks())}})
    with pytest.raises(FitError, match="none of 1 photos could be fitted.*fits.csv says why"):
        whole.run_file(study, tmp_path)
    assert not (tmp_path / "results").exists()
