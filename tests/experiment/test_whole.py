"""A photo study in one go: fit, run, analyze; what is done already is left as it is."""

import dataclasses
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml

from morphsym import fitting
from morphsym.errors import FitError, StoreError
from morphsym.experiment import anonymous, demo, spec, warned, whole
from morphsym.experiment import fits as parts
from morphsym.experiment.engines.local import Threads
from morphsym.experiment.study import run_study
from morphsym.experiment.verify import verify


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


def test_a_study_can_be_moved_with_its_photos_and_fits(folder, tmp_path):
    """The photos' paths of the first place are gone; what is in them is checked by hash."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    shutil.move(folder / "photos", folder / "hidden")  # so that only the moved ones can be found
    shutil.move(folder / "fits", folder / "hidden fits")
    try:
        found = verify(moved / "results", sample=4)
        assert found.ok, found.problems
        assert found.identical == found.sampled
        assert found.pictures > 0
        before = (moved / "results" / "conditions.parquet").stat().st_mtime_ns
        whole.run_file(spec.load(moved / "study.yaml"), moved, analyze=False)
        assert (moved / "results" / "conditions.parquet").stat().st_mtime_ns == before
    finally:
        shutil.move(folder / "hidden", folder / "photos")
        shutil.move(folder / "hidden fits", folder / "fits")


def test_other_fits_of_the_same_photos_are_another_study(folder, tmp_path):
    shutil.copytree(folder / "fits", tmp_path / "fits")
    found = fitting.load_fits(tmp_path / "fits")
    changed = [dataclasses.replace(f, expression=f.expression * np.float32(0.9)) for f in found]
    fitting.save_fits(tmp_path / "fits", changed, overlays=False)
    study = dataclasses.replace(spec.load(folder / "study.yaml").study(folder), fits=str(tmp_path / "fits"))
    with pytest.raises(StoreError, match=r"another study \(fits: '?\w{12}'? there, '?\w{12}'? now"):
        run_study(study, folder / "results", resume=True)


def texts(path):
    """Everything a reader can see in a results folder: file names, tables, pages, the manifest."""
    for file in path.rglob("*"):
        yield str(file.relative_to(path))
        if file.suffix == ".parquet":
            yield pd.read_parquet(file).to_csv()
            yield str(pd.read_parquet(file).attrs)
        elif file.suffix in (".json", ".html", ".csv", ".svg"):
            yield file.read_text(encoding="utf-8")


def test_an_anonymous_study_names_nobody(folder):
    study = spec.load(folder / "study.yaml", ["anonymous=true", "people=null"])
    given = {"file": "eileen.yaml", "set": ["photos.paths=[photos/eileen.png]"], **study.model_dump()}
    results, _, report = whole.run_file(study, folder, folder / "nameless", given=given)
    assert report.is_file()
    photo = fitting.load_fits(folder / "fits")[0]
    alias = anonymous.alias("eileen")
    assert alias in set(results.conditions()["subject"])
    for text in texts(results.path):
        for secret in ("eileen", photo.photo_sha256, str(folder / "fits"), str(folder / "photos")):
            assert secret not in text
    found = verify(results.path, sample=4)  # the machine that made them can still render them again
    assert found.ok, found.problems
    # a warning about a photo, too
    with warned.gather() as told, anonymous.unnamed([photo.photo]):
        warnings.warn(f"{photo.photo}: 1 of 2 faces of eileen", stacklevel=1)
    assert list(told) == [f"{alias}: 1 of 2 faces of {alias}"]


@pytest.fixture
def photos(folder, tmp_path, monkeypatch):
    """Three photos, a part each, that are fitted from the landmarks of one."""
    for name in ("a", "b", "c"):
        shutil.copy(folder / "photos" / "eileen.png", tmp_path / f"{name}.png")
    honest = fitting.fit

    def with_landmarks(found, **options):
        asked.append(len(found))
        return honest(found, **(options | {"landmarks": [demo.sample_landmarks()] * len(found)}))

    asked: list[int] = []
    monkeypatch.setattr(fitting, "fit", with_landmarks)
    monkeypatch.setattr(parts, "PHOTOS_PER_PART", 1)
    return sorted(tmp_path.glob("*.png")), asked


def test_fitting_goes_on_where_it_was_stopped(photos, tmp_path, monkeypatch):
    found, asked = photos
    request = {"paths": ["*"]}
    whole_ = parts.fit_photos(found, tmp_path / "one", request, "makehuman", {}, Threads(1))
    asked.clear()
    honest, saved = fitting.save_fits, []

    def dies(where, *args, **kwargs):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(where)
        return honest(where, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(fitting, "save_fits", dies)
        with pytest.raises(KeyboardInterrupt):
            parts.fit_photos(found, tmp_path / "two", request, "makehuman", {}, Threads(1))
    assert not parts.fitted(tmp_path / "two", request)
    asked.clear()
    again = parts.fit_photos(found, tmp_path / "two", request, "makehuman", {}, Threads(2))
    assert len(asked) == 1  # only the part that was lost
    assert parts.fitted(tmp_path / "two", request)
    assert not (tmp_path / "two" / ".parts").exists()
    for a, b in zip(whole_, again, strict=True):
        assert (a.name, a.photo, a.nme) == (b.name, b.photo, b.nme)
        np.testing.assert_array_equal(a.expression, b.expression)
    for name in ("a.png", "a.npz", "c.png", "fits.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    # another request does not take the parts of this one for its own
    with pytest.raises(StoreError, match="fits of another request"):
        parts.fitted(tmp_path / "two", {"paths": ["other"]})


def test_fits_of_another_request_are_not_mistaken(folder):
    study = spec.load(folder / "study.yaml", ["photos.expression=anger"])
    with pytest.raises(StoreError, match=r"fits of another request \(expression\).*--overwrite"):
        whole.run_file(study, folder, folder / "elsewhere")


def test_photos_that_are_not_there(tmp_path):
    study = spec.parse({"photos": {"paths": ["nobody.jpg"], "landmarks": str(demo.sample_landmarks())}})
    with pytest.raises(FitError, match="none of 1 photos could be fitted.*fits.csv says why"):
        whole.run_file(study, tmp_path)
    assert not (tmp_path / "results").exists()
