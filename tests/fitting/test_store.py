"""The folder of fits: what is written comes back, and every damage is said in one line."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from morphsym import resources
from morphsym.errors import StoreError
from morphsym.faces import MorphableModel
from morphsym.fitting import FitsWriter, fit, load_fits, overlay, save_fits
from morphsym.fitting.overlay import LEFT, LEGEND, RIGHT
from morphsym.fitting.store import COLUMNS


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("photos") / "astronaut.png"
    Image.fromarray(astronaut).save(path)
    return path


@pytest.fixture(scope="module")
def fits(photo: Path, makehuman: MorphableModel, astronaut: np.ndarray) -> list[Any]:
    good = fit(photo, makehuman, landmarks=resources.asset("sample/astronaut.json"))
    bad = fit(astronaut, makehuman, landmarks=np.random.default_rng(0).uniform(100, 400, (68, 2)))
    missing = fit(photo.parent / "none.png", makehuman, landmarks=resources.asset("sample/astronaut.json"))
    return good + bad + missing


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return a == b or (isinstance(a, float) and np.isnan(a) and np.isnan(b))


def test_what_is_written_comes_back(tmp_path: Path, fits: list[Any]) -> None:
    stored = save_fits(tmp_path / "fits", fits)
    back = load_fits(tmp_path / "fits")
    assert len(back) == 3
    for before, after in zip(stored, back, strict=True):
        for field in fields(before):
            assert same(getattr(before, field.name), getattr(after, field.name)), field.name
    table = pd.read_csv(tmp_path / "fits" / "fits.csv")
    assert tuple(table.columns) == COLUMNS
    assert list(table["status"]) == ["ok", "failed", "failed"]
    assert table["nme"][0] == pytest.approx(fits[0].nme, rel=1e-4)
    assert "no such photo" in table["reason"][2]
    assert "no overlay" in table["note"][1]  # an array in memory
    assert (tmp_path / "fits" / "astronaut.png").is_file()
    assert not list((tmp_path / "fits").glob(".*"))  # nothing left aside


def test_names_that_collide_are_made_unique(tmp_path: Path, fits: list[Any]) -> None:
    stored = save_fits(tmp_path, [fits[0], replace(fits[0], name="Astronaut"), replace(fits[0], name="../../x")], False)
    assert [f.name for f in stored] == ["astronaut", "Astronaut-2", "x"]
    assert [f.name for f in load_fits(tmp_path)] == ["astronaut", "Astronaut-2", "x"]
    assert not (tmp_path.parent.parent / "x.npz").exists()


def test_the_same_fits_are_the_same_bytes(tmp_path: Path, fits: list[Any]) -> None:
    for folder in ("a", "b"):
        save_fits(tmp_path / folder, fits)
    for file in sorted((tmp_path / "a").iterdir()):
        if file.suffix != ".npz":  # a zip holds the time
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: [f.unlink() for f in d.iterdir()], "there is no fits.csv"),
        (lambda d: (d / "fits.csv").unlink(), "the fit was interrupted"),
        (lambda d: (d / "fits.csv").write_text(""), "is damaged"),
        (lambda d: (d / "fits.csv").write_text("a,b\n1,2\n"), "the column 'name' is missing"),
        (lambda d: (d / "fits.csv").write_text(",".join(COLUMNS) + "\n"), "lists no faces"),
        (lambda d: (d / "astronaut.npz").unlink(), "lists 'astronaut' but astronaut.npz is missing"),
        (lambda d: (d / "astronaut.npz").write_bytes((d / "astronaut.npz").read_bytes()[:900]), "npz is damaged"),
        (lambda d: (d / "fits.csv").write_text("name,status,format\n../x,ok,1\n"), "not a name that morphsym gives"),
    ],
)
def test_damage_is_said(tmp_path: Path, fits: list[Any], damage: Any, message: str) -> None:
    save_fits(tmp_path, fits[:1], overlays=False)
    damage(tmp_path)
    with pytest.raises(StoreError, match=message) as e:
        load_fits(tmp_path)
    assert "\n" not in str(e.value)
    assert "morphsym fit" in str(e.value) or "not a name" in str(e.value)


def test_newer_format_and_missing_folder(tmp_path: Path, fits: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        load_fits(tmp_path / "none")
    with monkeypatch.context() as patch:
        patch.setattr("morphsym.fitting.store.FORMAT", 2)
        save_fits(tmp_path, fits[:1], overlays=False)
    with pytest.raises(StoreError, match="newer morphsym.*format 2, this one reads 1"):
        load_fits(tmp_path)


def test_objects_are_not_unpickled(tmp_path: Path, fits: list[Any]) -> None:
    save_fits(tmp_path, fits[:1], overlays=False)
    np.savez(tmp_path / "astronaut.npz", header=np.array([{"format": 1}], dtype=object))
    with pytest.raises(StoreError, match="damaged"):
        load_fits(tmp_path)


def test_threads_write_the_same_files(
    tmp_path: Path, makehuman: MorphableModel, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes and the same order; an error in a thread ends it, with its own words and without fits.csv."""
    path = tmp_path / "photo.png"
    Image.fromarray(astronaut).save(path)
    made = fit([path] * 5, makehuman, landmarks=[resources.asset("sample/astronaut.json")] * 5)
    made.insert(2, fit(tmp_path / "absent.png", makehuman, landmarks=resources.asset("sample/astronaut.json"))[0])
    made[3] = replace(made[3], photo=str(tmp_path / "gone.png"))  # no overlay, which its note says
    save_fits(tmp_path / "one", made, model=makehuman)
    with FitsWriter(tmp_path / "many", model=makehuman) as writer:
        for one in made:
            writer.put(one)
    names = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert len(names) == 1 + 6 + 4
    assert names == sorted(p.name for p in (tmp_path / "many").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name

    def broken(folder: Path, fit: Any, *_: Any) -> Any:
        raise StoreError(f"cannot write {fit.name}")

    monkeypatch.setattr("morphsym.fitting.writer._save_overlay", broken)

    def written() -> None:
        with FitsWriter(tmp_path / "broken", model=makehuman) as writer:
            writer.put(made[0])

    with pytest.raises(StoreError, match="cannot write photo"):
        written()
    assert not (tmp_path / "broken" / "fits.csv").exists()


def test_the_overlay_colours_the_subjects_sides(
    fits: list[Any], makehuman: MorphableModel, astronaut: np.ndarray
) -> None:
    found = fits[0]
    grey = np.full_like(astronaut, 128)
    picture = overlay(found, grey, makehuman).astype(int)
    face = picture[:-LEGEND]
    h, w = face.shape[:2]
    assert max(h, w) == 720
    changed = np.abs(face - 128).sum(-1) > 12
    assert 0.2 < changed.mean() < 0.95
    blue, orange = face[..., 2] - face[..., 0] > 20, face[..., 0] - face[..., 2] > 20
    columns = np.arange(w)
    # The subject's left is on the right of the picture.
    assert (blue.sum(0) @ columns) / blue.sum() > (orange.sum(0) @ columns) / orange.sum() + w / 6
    assert LEFT[2] > LEFT[0]
    assert RIGHT[0] > RIGHT[2]
    # The photo shows through the mesh: 58 % of it, where no landmark is drawn.
    through = overlay(found, np.full_like(astronaut, 228), makehuman)[:-LEGEND].astype(int) - face
    assert np.isin(through[blue | orange], (57, 58, 59)).mean() > 0.95
    assert (through[~changed] == 100).mean() > 0.95


def test_the_overlay_of_a_failed_fit_shows_its_landmarks(fits: list[Any], astronaut: np.ndarray) -> None:
    picture = overlay(fits[1], astronaut)
    assert picture.dtype == np.uint8
    assert (picture[-LEGEND:].reshape(-1, 3) == (255, 120, 120)).all(axis=1).any()  # the reason, in red
