"""MediaPipe as an independent reading of the pictures: what is read of its scores, and a study's pictures read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from morphsym.experiment.instrument import COLUMNS, read_blendshapes, read_score
from morphsym.experiment.study import Study, run_study
from morphsym.fitting.detectors import Detection
from morphsym.intervention import Design


def test_left_and_right_are_those_of_the_names() -> None:
    scores = {
        "mouthSmileLeft": 0.8, "mouthSmileRight": 0.2, "browDownLeft": 0.1, "browDownRight": 0.3, "jawOpen": 0.9,
        "mouthLeft": 0.5, "mouthRight": 0.0, "jawLeft": 0.4, "jawRight": 0.0, "eyeLookInLeft": 1.0, "eyeLookInRight": 0.0,
    }  # fmt: skip
    left, right, gap = read_score(scores)
    assert (left, right, gap) == pytest.approx((0.45, 0.25, 0.4))
    assert np.isnan(read_score({})).all()


class Brightness:
    """In MediaPipe's place: the subject's left is the right of the picture."""

    name = "brightness"

    def __call__(self, image: np.ndarray) -> list[Detection]:
        half = image.shape[1] // 2
        right, left = image[:, :half].mean() / 255, image[:, half:].mean() / 255
        shapes = {"mouthSmileLeft": float(left), "mouthSmileRight": float(right)}
        return [Detection(np.zeros((68, 2)), np.zeros(4), 1.0, self.name, blendshapes=shapes)]


def test_a_studys_pictures_are_made_again_and_read(tmp_path: Path) -> None:
    design = Design(sides=("left",), strengths=(1.0,))
    run_study(Study(sample=2, expressions=("happiness",), design=design, size=64), tmp_path / "results")
    read = read_blendshapes(tmp_path / "results", sample=1, detector=Brightness())
    assert list(read.columns) == list(COLUMNS)
    assert read["unit"].nunique() == 1
    assert set(read["arm"]) == {"baseline", "null", "unilateral", "matched"}  # mirror images are left out
    by = read.set_index("arm")["read_asymmetry"]
    assert by["baseline"] == by["null"]
    assert by["unilateral"] != by["baseline"]
    assert read["seen"].all()
