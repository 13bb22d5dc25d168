"""Covered parts are flagged from the pixels, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from skimage.draw import polygon

from morphsym.faces import MorphableModel
from morphsym.fitting import Detection, fit, occlusion
from morphsym.fitting.detectors.base import box_of
from morphsym.fitting.detectors.mediapipe import ONCE
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


def test_a_drawing(points: np.ndarray) -> None:
    """Flat colours and lines, as a drawing program makes them."""
    picture = Image.new("RGB", (512, 512), (250, 250, 250))
    draw = ImageDraw.Draw(picture)

    def ring(rows: slice, **colours: Any) -> None:
        draw.polygon([tuple(p) for p in points[rows]], **colours)

    draw.ellipse((*(points.min(0) - (8, 40)), *(points.max(0) + 8)), fill=(255, 220, 180), outline=(0, 0, 0), width=3)
    for rows in (slice(36, 42), slice(42, 48)):
        ring(rows, fill=(255, 255, 255), outline=(0, 0, 0))
        centre = points[rows].mean(0)
        draw.ellipse((*(centre - 4), *(centre + 4)), fill=(0, 0, 0))
    for rows in (slice(17, 22), slice(22, 27), slice(27, 31)):
        draw.line([tuple(p) for p in points[rows]], fill=(0, 0, 0), width=4)
    ring(slice(48, 60), fill=(200, 30, 40))
    assert "the cheeks have no shading; a drawing?" in covered(np.asarray(picture), points)


class Once:
    """A detector in doubt: it saw the face in the picture or its mirror image only."""

    name = "test"

    def __init__(self, points: np.ndarray, note: str) -> None:
        self._found = [Detection(points, box_of(points), 1.0, "test", kind="mediapipe", note=note)]

    def __call__(self, image: np.ndarray) -> list[Detection]:
        return self._found


def test_a_doubtful_face_of_which_nothing_is_seen_is_none(
    makehuman: MorphableModel, astronaut: np.ndarray, points: np.ndarray
) -> None:
    nothing = np.full_like(astronaut, 120)
    (found,) = fit(nothing, makehuman, Once(points, f"{ONCE}, looked at in both"))
    assert not found.ok
    assert "is it a face?" in found.reason
    assert fit(nothing, makehuman, Once(points, ""))[
        0
    ].ok  # flagged: landmarks are believed where nothing speaks against
    assert fit(astronaut, makehuman, Once(points, ONCE))[0].ok


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


def test_the_pixels_inside_an_outline_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    image = np.arange(40 * 50 * 3).reshape(40, 50, 3)
    for n in (3, 4, 6, 7):
        for _ in range(20):
            outline = rng.uniform(-10, 60, (n, 2))  # also beyond the picture, and crossing itself
            rows, columns = polygon(outline[:, 1], outline[:, 0], image.shape[:2])
            assert np.array_equal(occlusion._inside(image, outline), image[rows, columns])
    assert len(occlusion._inside(image, np.array([[60.0, 1], [70, 1], [65, 9]]))) == 0
