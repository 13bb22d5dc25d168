"""``fit`` from the command line: bad photos cost their rows; a symmetrized photo goes through the whole chain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from morphsym_cli import cli
from PIL import Image
from skimage import data

from morphsym import resources, weights


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MORPHSYM_HOME", str(found))
        weights.add("mediapipe", shared_data / "landmarks" / "face_landmarker.task")
    return found


def masked(image: np.ndarray, rows: slice, columns: slice, value: Any) -> np.ndarray:
    out = image.copy()
    out[rows, columns] = value
    return out


@pytest.mark.shared
def test_a_folder_of_bad_photos(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    face = np.ascontiguousarray(data.astronaut())
    box = json.loads(resources.asset("sample/astronaut.json").read_text())["landmarks_68"]
    x0, y0 = np.min(box, axis=0).astype(int)
    x1, y1 = np.max(box, axis=0).astype(int)
    h = y1 - y0
    pictures = {
        "good": face,
        "noface": np.random.default_rng(0).integers(90, 110, (200, 220, 3), dtype=np.uint8),
        "sunglasses": masked(face, slice(y0 + h // 8, y0 + h * 3 // 8), slice(x0 - 4, x1 + 4), 8),
        "mask": masked(face, slice(y0 + h // 2, y1 + 12), slice(x0 - 6, x1 + 6), (190, 210, 230)),
        "tiny": np.asarray(Image.fromarray(face[max(0, y0 - h) : y1 + h, max(0, x0 - h) : x1 + h]).resize((40, 40))),
        "profile": face[:, : (x0 + x1) // 2],  # half a face
        "cartoon": np.asarray(
            Image.fromarray(face).convert("P", palette=Image.Palette.ADAPTIVE, colors=4).convert("RGB")
        ),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    whole = folder / "whole.jpg"
    Image.fromarray(face).save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    whole.unlink()
    Image.fromarray(face).save(folder / "moving.gif", save_all=True, append_images=[Image.fromarray(face[::-1].copy())])
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 64)
    (folder / "film.mp4").write_bytes(b"no film")
    huge = Image.new("RGB", (9000, 6000), (120, 120, 120))  # 54 megapixels: reduced
    huge.paste(Image.fromarray(face).resize((4096, 4096)), (2000, 900))
    huge.save(folder / "huge.jpg", quality=70)
    done = run("fit", folder, "-q", "-o", "fits", "--sheet", "--json")
    assert done.exit_code == 3, done.output
    table = pd.read_csv("fits/fits.csv", keep_default_na=False).set_index("name")
    assert len(table) == 12
    assert (table["reason"] != "").equals(table["status"] == "failed")
    ok = table["status"] == "ok"
    assert ok["good"]
    assert ok["huge"]
    assert "reduced from" in table.loc["huge", "note"]
    assert ok["moving"]
    assert "first of 2 frames" in table.loc["moving", "note"]
    for name, reason in (
        ("noface", "no face found"), ("cut", "damaged or incomplete"), ("phone", "HEIC.*pillow-heif"), ("film", "not a video"),
        ("tiny", "too small|no face"), ("profile", "cut off|no face|turned too far"),
    ):  # fmt: skip
        assert not ok[name], name
        assert pd.Series([table.loc[name, "reason"]]).str.contains(reason).all(), table.loc[name, "reason"]
    assert table.loc["good", "quality"] == table.loc["huge", "quality"] == "good"
    for name in ("sunglasses", "mask"):  # a detector guesses what is hidden: the pixels must tell
        assert not ok[name] or table.loc[name, "quality"] != "good", table.loc[name].to_dict()
    told = json.loads(next(line for line in done.output.splitlines() if line.startswith("[")))
    assert {t["name"] for t in told} == set(table.index)
    assert Path("fits/_sheet-01.png").is_file()
    # None of them, one of them
    assert run("fit", folder / "noface.png", folder / "cut.jpg", "-q", "-o", "none").exit_code == 1
    assert run("fit", folder / "good.png", "-q", "-o", "one").exit_code == 0


@pytest.mark.shared
def test_a_model_given_by_its_path_has_overlays(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the registry, with an empty folder of the user's, does not know it by its name."""
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    Image.fromarray(data.astronaut()).save(tmp_path / "a.png")
    model = shared_data / "face_models" / "ict_facekit.npz"
    sample = resources.asset("sample/astronaut.json")
    done = run(
        "fit", tmp_path / "a.png", "--model", model, "--landmarks", sample, "-o", tmp_path / "fits", "--workers", 2
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "fits" / "a.png").is_file()
    assert pd.read_csv(tmp_path / "fits" / "fits.csv")["note"].isna().all()


@pytest.mark.shared
def test_a_symmetrized_photo_through_the_chain(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.astronaut()).save("patient.png")
    shutil.copy(resources.asset("sample/astronaut.json"), "marks.json")
    done = run("fit", "patient.png", "--landmarks", "marks.json", "--symmetrize", "--expression", "happiness", "-q")
    assert done.exit_code == 0, done.output
    arguments = ("--side", "left", "--strength", "1", "--photo-size", "128", "-q")
    assert run("intervene", *arguments).exit_code == 0
    table = pd.read_parquet("results/conditions.parquet").set_index("arm")
    assert table.loc["baseline", "realised_asymmetry"] < 1e-4 < table.loc["original", "realised_asymmetry"]
    assert table.loc["null", "realised_asymmetry"] == pytest.approx(
        table.loc["original", "realised_asymmetry"], rel=1e-6
    )
    assert table["observed_commissure_excursion_left_mm"].notna().all()
    done = run("analyze", "results", "-q", "--bootstrap", "99")
    assert done.exit_code == 0, done.output
    effects = pd.read_csv("results/analysis/effects.csv")
    null = effects[effects["contrast"] == "null_error"]["estimate"]
    assert len(null)
    assert null.abs().max() < 1e-5  # rendering alone changes nothing: the symmetry is in the baseline
    checks = next(Path("results/analysis").glob("*manipulation*"), None)
    if checks is not None and checks.suffix == ".csv":
        assert not (pd.read_csv(checks)["check"] == "failed").any()
