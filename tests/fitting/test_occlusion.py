"""Covered parts are flagged from the pixels, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from morphsym.faces import MorphableModel
from morphsym.fitting import fit
from morphsym.fitting.occlusion import covered
from morphsym.rendering import default_lights, portrait_camera, project, render


def band(image: np.ndarray, points: np.ndarray, top: float, bottom: float, colour: Any) -> np.ndarray:
    out = image.copy()
    left, right = points[:, 0].min(), points[:, 0].max()
    out[max(0, int(top)) : int(bottom), max(0, int(left)) : int(right)] = colour
    return out


def glasses(image: np.ndarray, p: np.ndarray) -> np.ndarray:
    e = np.linalg.norm(p[36] - p[45])
    return band(image, p, p[36:48, 1].min() - 0.12 * e, p[36:48, 1].max() + 0.15 * e, 12)


@pytest.fixture(scope="module")
def points(sample: dict) -> np.ndarray:
    return np.array(sample["landmarks_68"])


def test_the_sample_is_not_covered_at_any_size(astronaut: np.ndarray, points: np.ndarray) -> None:
    for size in (256, 512, 1500):
        image = np.asarray(Image.fromarray(astronaut).resize((size, size), Image.Resampling.LANCZOS))
        assert covered(image, points * size / 512) == []
    dark = (astronaut * 0.5).astype(np.uint8)
    assert covered(dark, points) == []
    assert covered(np.repeat(astronaut.mean(-1, keepdims=True), 3, -1).astype(np.uint8), points) == []  # greyscale


@pytest.mark.parametrize("colour", [(170, 205, 225), (25, 25, 28), (240, 240, 240), (60, 150, 90)])
def test_a_mask(astronaut: np.ndarray, points: np.ndarray, colour: Any) -> None:
    image = band(astronaut, points, points[30, 1], points[:, 1].max() + 4, colour)
    assert any("mask" in c for c in covered(image, points))


def test_dark_glasses_and_one_hidden_eye(astronaut: np.ndarray, points: np.ndarray) -> None:
    assert any("eye" in c for c in covered(glasses(astronaut, points), points))
    one = astronaut.copy()
    (x0, y0), (x1, y1) = points[42:48].min(0) - 12, points[42:48].max(0) + 12
    one[int(y0) : int(y1), int(x0) : int(x1)] = (120, 90, 80)
    (flag,) = covered(one, points)
    assert flag.startswith("left eye")
    assert covered(astronaut[:1, :1], points) == []  # nothing to look at


def test_a_fit_is_flagged(makehuman: MorphableModel, astronaut: np.ndarray, points: np.ndarray) -> None:
    plain, hidden = fit([astronaut, glasses(astronaut, points)], makehuman, landmarks=[points, points])
    assert plain.quality == "good"
    assert hidden.ok
    assert "nothing of it can be seen" in hidden.quality


def test_people_of_any_skin_are_not_flagged(makehuman: MorphableModel) -> None:
    from morphsym.faces import sample_people

    people = sample_people(makehuman, 24, 4)
    camera = portrait_camera(320, 90.0, 24.0, 15.0)
    for person in people:
        v = makehuman.forward(torch.as_tensor(person.identity)[None], torch.zeros(1, len(makehuman.sided)))
        picture, _ = render(
            v, torch.as_tensor(makehuman.faces), torch.as_tensor(person.albedo), camera, default_lights(1)
        )
        marks = project(camera, makehuman.landmarks(v))[0][0].numpy().astype(np.float64)
        pixels = (picture[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
        assert covered(pixels, marks) == [], person.attributes
