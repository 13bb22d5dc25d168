"""The contact sheet and the command: the picture has its rows and columns, and a weakened side looks it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from morphsym_cli import cli
from PIL import Image

from morphsym.errors import UsageError
from morphsym.faces import load_model
from morphsym.faces.sheet import contact_sheet

from . import official


def test_rows_columns_and_sides() -> None:
    model = load_model()
    size = 96
    picture = contact_sheet(model, 2, ["neutral", "happiness"], ["none", "left", "right"], size=size)
    assert picture.dtype == np.uint8
    tiles = picture[-2 * size :, -6 * size :].astype(int).reshape(2, size, 6, size, 3).swapaxes(1, 2)
    for row in tiles:
        np.testing.assert_array_equal(row[0], row[1])  # neutral has nothing to weaken
        assert np.abs(row[3] - row[0]).max() > 50
        for weakened, moved in ((row[4], slice(size // 2, None)), (row[5], slice(0, size // 2))):
            change = np.abs(weakened - row[3]).sum(axis=(0, 2))
            assert change[moved].sum() > 4 * (change.sum() - change[moved].sum())  # the subject's left is on our right
    for bad, message in (
        ({"sides": ["up"]}, "side must be one of"),
        ({"size": 4}, "between 32 and 1024"),
        ({"people": 0}, "at least"),
    ):
        with pytest.raises(UsageError, match=message):
            contact_sheet(model, **bad)  # type: ignore[arg-type]


def test_a_model_without_named_shapes(tmp_path: Path) -> None:
    src = official.source()
    path = official.bfm_h5(tmp_path / "model2019.h5", src)
    picture = contact_sheet(load_model(path), 1, sides=["none", "right"], size=64)
    assert picture.shape == (18 + 64, 74 + 2 * 2 * 64, 3)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))
    run = CliRunner()
    listed = run.invoke(cli, ["faces", "list"])
    assert listed.exit_code == 0
    assert "there    bundled head" in listed.output
    assert "flame.is.tue.mpg.de" in listed.output
    names = [e["name"] for e in json.loads(run.invoke(cli, ["faces", "list", "--json"]).output)]
    assert names == ["makehuman", "ict", "flame", "bfm2009", "bfm2017", "bfm2019", "sfm", "gnm"]
    shown = json.loads(run.invoke(cli, ["faces", "show", "--json"]).output)
    assert shown["expression shapes"] == 52
    assert shown["sided shapes"] == len(load_model().sided)
    src = official.source()
    path = official.eos_bin(tmp_path / "m.bin", src, names=["happy", "pucker"])
    added = run.invoke(cli, ["faces", "add", "sfm", str(path)])
    assert added.exit_code == 0, added.output
    assert (tmp_path / "faces" / "sfm.bin").read_bytes() == path.read_bytes()
    out = tmp_path / "deep" / "sheet.png"
    args = ["sheet", "-o", str(out), "--people", "1", "--size", "64", "--expression", "surprise", "--side", "both"]
    assert run.invoke(cli, ["faces", *args]).exit_code == 0
    assert Image.open(out).size == (74 + 64, 18 + 64)
