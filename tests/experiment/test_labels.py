"""A CSV file about the photos: joined by name, complete, and carried into the rows that are analysed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from morphsym.errors import InputError, StoreError, UsageError
from morphsym.experiment.demo import fit_sample
from morphsym.experiment.labels import read_labels
from morphsym.experiment.study import Study, Units, run_study
from morphsym.faces import load_model
from morphsym.fitting import load_fits, save_fits
from morphsym.intervention import Design
from morphsym.types import FaceFit

GOOD = """photo,subject,cohort,expression,age
a.png,anna,patient,sadness,54
b,ben,healthy,,47.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fits of the sample photo under two names."""
    where = tmp_path_factory.mktemp("fits")
    (fit,) = fit_sample(where)
    for file in where.iterdir():
        file.unlink()
    save_fits(where, [replace(fit, name=n) for n in ("a", "b")])
    return where


def fits(folder: Path) -> list[FaceFit]:
    return load_fits(folder)


def write(tmp_path: Path, text: str) -> str:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    return str(tmp_path / "labels.csv")


def test_rows_are_joined_by_the_photos_name(folder: Path, tmp_path: Path) -> None:
    found = read_labels(write(tmp_path, GOOD.replace("a.png", "a")), fits(folder))
    assert found == [
        {"subject": "anna", "cohort": "patient", "expression": "sadness", "age": 54.0},
        {"subject": "ben", "cohort": "healthy", "age": 47.5},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,cohort\na,x\n", "no column photo; its columns are name, cohort"),
        ("photo,cohort\na,x\n", "no row for the photo"),
        ("photo,cohort\na,x\nb,y\nc,z\n", "no fit is of the photo 'c'"),
        ("photo,cohort\na,x\na,y\nb,y\n", "two rows for the photo 'a'"),
        ("photo,expression\na,smile\nb,\n", "expression must be one of .*; a has 'smile'"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_labels(write(tmp_path, text), fits(folder))


def test_a_missing_file_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_labels(tmp_path / "none.csv", fits(folder))
    with pytest.raises(UsageError, match="there is no file"):
        Study(fits=str(folder), labels=str(tmp_path / "none.csv"))
    with pytest.raises(UsageError, match="labels are about photos"):
        Study(sample=1, labels=write(tmp_path, GOOD))


def test_labels_reach_the_rows(folder: Path, tmp_path: Path) -> None:
    labels = write(tmp_path, GOOD.replace("a.png", "a"))
    design = Design(sides=("left",), strengths=(1.0,))
    study = Study(fits=str(folder), labels=labels, design=design, photo_size=96)
    table = run_study(study, tmp_path / "results").conditions()
    one = table.drop_duplicates("unit").set_index("unit")
    emotion = fits(folder)[1].emotion
    assert list(one.index) == ["a.sadness", f"b.{emotion}"]
    assert one["subject"].tolist() == ["anna", "ben"]
    assert one["cohort"].tolist() == ["patient", "healthy"]
    assert one["age"].tolist() == [54.0, 47.5]
    assert (one["observed_realised_asymmetry_mm"] > 0).all()
    assert Study.from_dict(study.to_dict()) == study
    assert "labels" not in Study(sample=1).to_dict()
    hidden = list(Units(replace(study, anonymous=True), load_model("makehuman")))
    assert not {u.subject for u in hidden} & {"anna", "ben", "a", "b"}
    write(tmp_path, GOOD.replace("a.png", "a") + "\n")
    with pytest.raises(StoreError, match="has changed since"):
        Units(study, load_model("makehuman"))
