"""A fit that is killed goes on where it stopped, with the same rows and records; settings are never mixed."""

from __future__ import annotations

import errno
import io
import json
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from morphsym_cli import cli
from PIL import Image

from morphsym import fitting
from morphsym.errors import StoreError
from morphsym.faces import MorphableModel, load_model
from morphsym.fitting import Detection, FitsWriter, each_fit, fit_each, load_fits
from morphsym.fitting.detectors import FileDetector
from morphsym.fitting.sources import sources
from morphsym.fitting.store import COLUMNS
from morphsym.resources import asset

PHOTOS, BATCH = 11, 4


class Jittered:
    """A detector that sees the sample's landmarks, each time a little elsewhere by the picture's first pixel; two faces in
    every third picture, none in the fifth; ``dies``: the call at which the process is killed."""

    name = "test"

    def __init__(self, dies: int = 0) -> None:
        self._whole = FileDetector(asset("sample/astronaut.json"))
        self._left = dies

    def die(self) -> None:
        signal.raise_signal(signal.SIGKILL)

    def __call__(self, image: np.ndarray) -> list[Detection]:
        self._left -= 1
        if self._left == 0:
            self.die()
        number = int(image[0, 0, 0])
        (sample,) = self._whole(np.zeros((512, 512, 3), dtype=np.uint8))
        if number == 5:
            return []
        noise = np.random.default_rng(number).normal(size=(68, 2))
        found = [
            Detection(sample.landmarks68 + s * noise, sample.box, 1.0, "test", None, None, "mediapipe") for s in (1, 2)
        ]
        return found if number % 3 == 0 else found[:1]


def run(folder: Path, out: Path, dies: int = 0, resume: bool = False, model: Any = None, **other: Any) -> FitsWriter:
    """What ``morphsym fit`` does, with the detector above and small batches."""
    fitting.fit_each.__globals__["solving"].BATCH = BATCH
    model = load_model("makehuman") if model is None else model
    photos = fitting.find_photos([folder])
    options = {"face": "all", **other}
    request = fitting.request(photos, model, **options)
    with FitsWriter(out, overlays=False, request=request, resume=resume) as writer:
        if not writer.finished:
            for one in fit_each(photos, model, Jittered(dies), start=writer.start, taken=writer.taken,
                                settled=writer.settled, **options):  # fmt: skip
                writer.add(one)
    return writer


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(PHOTOS):
        picture = np.full((512, 512, 3), 120, dtype=np.uint8)
        picture[0, 0, 0] = i
        name = f"p{i}.png" if i % 4 else f"P{i // 8}.{'png' if i else 'PNG'}"  # P0.png twice, but for the case
        Image.fromarray(picture).save(folder / name, format="PNG")
    return folder


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting.fit_each.__globals__["solving"], "BATCH", BATCH)  # put back afterwards


def test_a_killed_fit_goes_on(photos: Path, tmp_path: Path, makehuman: MorphableModel, batches: None) -> None:
    run(photos, tmp_path / "whole", model=makehuman)
    code = "import sys; from pathlib import Path; from tests.fitting.test_resume import run; run(*map(Path, sys.argv[1:]), 8)"
    command = [sys.executable, "-c", code, photos, tmp_path / "fits"]
    done = subprocess.run(command, check=False, cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    out = tmp_path / "fits"
    with pytest.raises(StoreError, match="the fit was interrupted.*--resume"):
        load_fits(out)
    with pytest.raises(StoreError, match=r"interrupted fit \(\d photos done\).*--resume.*--overwrite"):
        run(photos, out, model=makehuman)
    with pytest.raises(StoreError, match=r"made otherwise \(symmetrize\).*same photos and options"):
        run(photos, out, resume=True, model=makehuman, symmetrize=True)
    calls: list[int] = []
    before = Jittered.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jittered, "__call__", lambda self, image: calls.append(0) or before(self, image))
        writer = run(photos, out, resume=True, model=makehuman)
    assert 0 < writer.start < PHOTOS
    assert len(calls) == PHOTOS - writer.start
    assert (out / "fits.csv").read_bytes() == (tmp_path / "whole" / "fits.csv").read_bytes()
    assert not (out / ".unfinished").exists()
    for a, b in zip(load_fits(out), each_fit(tmp_path / "whole"), strict=True):
        for field in fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y or x != x, field.name
    assert run(photos, out, resume=True, model=makehuman).finished
    with pytest.raises(StoreError, match="made otherwise"):
        run(photos, out, resume=True, model=makehuman, frame_step=2)
    run(photos, out, model=makehuman)  # a finished folder is replaced, as ever
    table = pd.read_csv(out / "fits.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["name"].str.lower().is_unique


@pytest.mark.usefixtures("batches")
def test_from_the_command_line(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Jittered):
        def die(self) -> None:
            raise KeyboardInterrupt

    detector: Jittered = Stopped(8)
    monkeypatch.setattr(fitting.detectors, "get", lambda *_: detector)

    def told(*more: str) -> Result:
        return CliRunner().invoke(cli, ["fit", str(photos), "-o", str(tmp_path / "fits"), "-q", "--face", "all", *more])

    done = told()
    assert (done.exit_code, "go on with --resume" in done.output) == (130, True)
    detector = Jittered()
    assert "go on with the same command and --resume" in told().output
    assert "made otherwise (symmetrize)" in told("--resume", "--symmetrize").output
    done = told("--resume", "--json")
    assert done.exit_code == 3, done.output  # one photo shows nobody
    (line,) = (line for line in done.output.splitlines() if line.startswith("["))
    assert len(json.loads(line)) == len(load_fits(tmp_path / "fits")) > PHOTOS
    first = (tmp_path / "fits" / "fits.csv").stat().st_mtime_ns
    assert told("--resume").exit_code == 3
    assert (tmp_path / "fits" / "fits.csv").stat().st_mtime_ns == first
    detector = Stopped(8)
    assert told().exit_code == 130
    detector = Jittered()
    assert told("--overwrite").exit_code == 3


@pytest.mark.usefixtures("batches")
def test_what_was_not_settled_is_made_again(photos: Path, tmp_path: Path, makehuman: MorphableModel) -> None:
    """An error leaves what was settled; a journal that was cut short is no journal; two at once are refused."""
    out = tmp_path / "fits"
    model = makehuman
    found = fitting.find_photos([photos])
    request = fitting.request(found, model)

    def stops() -> None:
        with FitsWriter(out, False, request=request) as writer:
            for i, one in enumerate(fit_each(found, model, Jittered(), settled=writer.settled)):
                writer.add(one)
                if i == 5:
                    with pytest.raises(StoreError, match="another run is writing"):
                        FitsWriter(out, request=request, resume=True)
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stops()
    assert not (out / "fits.csv").exists()
    with FitsWriter(out, False, request=request, resume=True) as writer:
        assert writer.start == BATCH
        assert len(writer.taken) == BATCH
        for one in fit_each(found, model, Jittered(), start=writer.start, taken=writer.taken, settled=writer.settled):
            writer.add(one)
    names = [f.name for f in load_fits(out)]
    assert len(names) == PHOTOS
    FitsWriter(out, False).add(load_fits(out)[0])  # stopped: the old fits.csv is not of what is in the folder now
    rows = out / ".unfinished" / "rows.csv"
    (out / ".unfinished" / "done.json").write_text('{"photos": 4, "bytes": 100000}')
    (out / ".unfinished" / "request.json").write_text(json.dumps(request))
    assert rows.is_file()
    with pytest.raises(StoreError, match="rows.csv is damaged"):
        FitsWriter(out, request=request, resume=True)


def test_a_full_disk_is_one_line(photos: Path, tmp_path: Path, makehuman: MorphableModel) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    (one,) = fitting.fit(next(photos.iterdir()), makehuman, landmarks=asset("sample/astronaut.json"))

    def written() -> None:
        with FitsWriter(tmp_path / "fits", overlays=False) as writer:
            writer.add(one)
            writer._rows = Full()  # type: ignore[assignment]
            writer.add(one)

    with pytest.raises(StoreError, match=r"cannot write .*rows.csv: No space left on device"):
        written()
    assert not (tmp_path / "fits" / "fits.csv").exists()


def test_what_comes_after_a_start_is_what_would_have_come() -> None:
    """The same subjects of videos of one name, and the same frames of folders, as without what was done before."""
    photos = ["a/smile.mp4", "x.jpg", "b/smile.mp4", "c/1.png", "d/1.png", "c/2.png", "b/smile.mp4", "c/3.png"]

    def shown(start: int, **options: Any) -> list[tuple[Any, ...]]:
        found = sources(photos, start=start, **options)
        return [(s.item, s.path, s.subject, s.sequence, s.frame, repr(s.time)) for s in found]

    for options in ({}, {"fps": 25.0}, {"fps": 25.0, "frame_step": 2}):
        whole = shown(0, **options)
        assert {s[2] for s in whole} >= {"smile", "smile-2"}
        for start in range(len(photos) + 1):
            assert shown(start, **options) == [s for s in whole if s[0] >= start]
