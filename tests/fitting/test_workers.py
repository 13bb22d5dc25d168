"""Faces found by worker processes: the same records in the same order, little memory, and an end in every case."""

from __future__ import annotations

import multiprocessing
import os
import time
from copy import deepcopy
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from morphsym.errors import FitError, UsageError
from morphsym.faces import MorphableModel
from morphsym.fitting import Detection, fit, fit_each, looking
from morphsym.fitting.detectors.mediapipe import MediaPipeDetector
from morphsym.fitting.finding import About
from morphsym.fitting.looking import AHEAD, Look, in_processes, usual_workers
from morphsym.fitting.sources import Source

from .test_resume import PHOTOS, Jittered


class Slow(Jittered):
    """The first pictures take longest, so that answers would come in another order than was asked; and one ends it."""

    def __call__(self, image: np.ndarray) -> list[Detection]:
        number = int(image[0, 0, 0])
        time.sleep(0.2 if number == 0 else 0)
        if number == 200:
            os._exit(9)
        return super().__call__(image)


def picture(number: int) -> np.ndarray:
    pixels = np.full((512, 512, 3), 120, dtype=np.uint8)
    pixels[0, 0, 0] = number
    return pixels


def numbered(*numbers: int) -> list[Source]:
    return [Source(picture(n), i) for i, n in enumerate(numbers)]


def test_two_workers_find_what_one_process_finds(tmp_path: Path, makehuman: MorphableModel) -> None:
    """Photos, arrays, what is no photo and folders of frames; several faces or none; names that are taken."""
    photos: list[Any] = []
    for i in range(PHOTOS):
        photos.append(tmp_path / str(i % 2) / f"p{i // 2}.png")
        photos[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(picture(i)).save(photos[-1])
    photos.insert(3, tmp_path / "absent.jpg")
    (tmp_path / "text.jpg").write_text("no photo")
    photos += [tmp_path / "text.jpg", picture(7), picture(8), tmp_path / "absent.mp4"]
    emotions = [("happiness", None)[i % 2] for i in range(len(photos))]
    told: list[list[tuple[int, str]]] = [[], []]

    def fitted(workers: int) -> list[Any]:
        return list(
            fit_each(photos, makehuman, Slow(), face="all", expression=emotions, workers=workers, taken=["p1"],
                     progress=lambda done, _, name: told[workers - 1].append((done, name)))
        )  # fmt: skip

    alone, shared = fitted(1), fitted(2)
    assert [f.name for f in alone] == [f.name for f in shared]
    assert {f.status for f in alone} == {"ok", "failed"}
    for a, b in zip(alone, shared, strict=True):
        for field in fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y or x != x, field.name
    assert told[0] == told[1]
    assert not multiprocessing.active_children()


def look_with(detector: Any, model: MorphableModel) -> Look:
    return Look(detector, "largest", About.of(model), False, False)


def test_a_worker_that_dies_is_one_line(makehuman: MorphableModel) -> None:
    found = in_processes(look_with(Slow(), makehuman), iter(numbered(1, 200, *range(2, 30))), [None] * 30, 1)
    with pytest.raises(
        FitError, match=r"a worker process died .* at image [0-3] or soon after it.*--resume.*fewer --workers"
    ):
        list(found)
    assert not multiprocessing.active_children()


def test_who_stops_early_leaves_no_process(makehuman: MorphableModel) -> None:
    """And pictures are taken from the source a few ahead only."""
    taken: list[int] = []

    def endless() -> Any:
        for i in count():
            taken.append(i)
            yield Source(picture(1), i)

    emotions: list[None] = [None] * 100_000
    found = in_processes(look_with(Slow(), makehuman), endless(), emotions, 1)
    first, faces = next(found)
    assert (first.item, first.image, len(faces)) == (0, None, 1)
    time.sleep(1.0)  # answers wait: no more is asked than may wait
    assert len(taken) <= AHEAD + 2
    before = len(taken)
    found.close()
    assert not multiprocessing.active_children()
    assert len(taken) <= before + 1


def test_what_cannot_be_sent_and_how_many(makehuman: MorphableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Jittered):
        pass

    with pytest.raises(UsageError, match=r"cannot be sent to worker processes .*workers=1"):
        fit(picture(1), makehuman, Local(), workers=2)
    with pytest.raises(UsageError, match="workers must be at least 1, got 0"):
        fit(picture(1), makehuman, Jittered(), workers=0)
    monkeypatch.setattr(looking._compile, "threads", lambda: 16)
    assert [usual_workers(n) for n in (0, 1, 127, 128, 300, 10**6)] == [1, 1, 1, 2, 4, 8]
    for cores, expected in ((1, 1), (2, 1), (3, 2), (4, 3)):
        monkeypatch.setattr(looking._compile, "threads", lambda n=cores: n)
        assert usual_workers(10**6) == expected


@pytest.mark.usefixtures("with_mediapipe")
def test_a_detector_that_was_used_can_be_sent(astronaut: np.ndarray) -> None:
    detector = MediaPipeDetector(offline=True)
    (here,) = detector(astronaut)
    (there,) = deepcopy(detector)(astronaut)
    np.testing.assert_array_equal(here.landmarks478, there.landmarks478)
    assert here.blendshapes == there.blendshapes
