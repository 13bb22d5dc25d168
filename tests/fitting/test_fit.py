"""``fit`` on the sample photo, on renders with known truth, and on photos that cannot be fitted."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from morphsym import resources
from morphsym.errors import InputError, UsageError
from morphsym.faces import MorphableModel
from morphsym.fitting import Detection, fit, load_photo
from morphsym.fitting.correspondence import places
from morphsym.rendering import default_lights, portrait_camera, render

SAMPLE = "sample/astronaut.json"


def expression(found: Any) -> dict[str, float]:
    return dict(zip(found.expression_names, map(float, found.expression), strict=True))


@pytest.fixture(scope="module")
def fitted(makehuman: MorphableModel, astronaut: np.ndarray) -> Any:
    return fit(astronaut, makehuman, landmarks=resources.asset(SAMPLE))[0]


def check_sample(found: Any) -> None:
    assert found.ok, found.reason
    assert found.nme < 0.02
    shapes = expression(found)
    assert shapes["mouthSmileLeft"] > 0.6
    assert shapes["mouthSmileRight"] > 0.6
    assert shapes["eyeBlinkLeft"] < 0.3
    assert abs(found.yaw) < 8
    assert -25 < found.pitch < 0  # she looks slightly down
    assert 0 < found.roll < 8
    assert np.linalg.norm(found.identity) / np.sqrt(len(found.identity)) < 1
    assert found.emotion == "happiness"
    assert found.emotion_source == "nearest_preset"
    assert found.width == found.height == 512


def test_the_sample_photo_with_the_bundled_head(fitted: Any) -> None:
    check_sample(fitted)


@pytest.mark.shared
def test_the_sample_photo_with_ict(ict: MorphableModel, astronaut: np.ndarray) -> None:
    check_sample(fit(astronaut, ict, landmarks=resources.asset(SAMPLE))[0])


def test_nme_is_that_of_the_mesh(fitted: Any, makehuman: MorphableModel) -> None:
    """Project the mesh of the returned coefficients by hand: the same error."""
    vertices = makehuman.forward(torch.from_numpy(fitted.identity)[None], torch.from_numpy(fitted.expression)[None])[0]
    corners, w, slides = places(makehuman, mediapipe=True)
    assert not slides
    seen = (np.einsum("nkc,nk->nc", vertices.numpy()[corners], w) @ fitted.R.T + fitted.t) @ fitted.K.T
    error = np.linalg.norm(seen[:, :2] / seen[:, 2:] - fitted.landmarks, axis=1).mean()
    eyes = np.linalg.norm(fitted.landmarks[36] - fitted.landmarks[45])
    assert error / eyes == pytest.approx(fitted.nme, abs=2e-4)
    assert np.allclose(fitted.R @ fitted.R.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(fitted.R) == pytest.approx(1)


def test_68_points_alone_do(makehuman: MorphableModel, astronaut: np.ndarray, sample: dict) -> None:
    found = fit(astronaut, makehuman, landmarks=np.array(sample["landmarks_68"]))[0]
    assert found.ok
    assert found.nme < 0.05
    assert expression(found)["mouthSmileLeft"] > 0.3


def test_mirrored_photo_gives_mirrored_coefficients(
    makehuman: MorphableModel, astronaut: np.ndarray, sample: dict, fitted: Any
) -> None:
    with np.load(resources.asset("heads/ict_mediapipe.npz"), allow_pickle=False) as z:
        swap = z["mirror"]
    points = np.array(sample["landmarks_478"])[swap, :2] * [-1, 1] + [512, 0]
    scores = {
        k.replace("Left", "#").replace("Right", "Left").replace("#", "Right"): v
        for k, v in sample["blendshapes"].items()
    }
    from morphsym.fitting.detectors.base import box_of
    from morphsym.fitting.detectors.mediapipe import SUBSET_68

    detection = Detection(points[list(SUBSET_68)], box_of(points), 1.0, "file", points, scores, kind="mediapipe")
    found = fit(np.ascontiguousarray(astronaut[:, ::-1]), makehuman, landmarks=[detection])[0]
    assert np.abs(makehuman.mirror_expression(found.expression) - fitted.expression).max() < 0.05
    assert found.yaw == pytest.approx(-fitted.yaw, abs=0.5)
    assert found.roll == pytest.approx(-fitted.roll, abs=0.5)


def rendered(model: MorphableModel, count: int, seed: int) -> tuple[list[np.ndarray], list[dict]]:
    """Portraits of random people with random smiles, brows and jaws; and what they are."""
    rng = np.random.default_rng(seed)
    names = list(model.sided.names)
    pictures, truth = [], []
    for _ in range(count):
        coefficients = np.zeros(len(names), dtype=np.float32)
        for shape in ("mouthSmile", "eyeBlink", "browOuterUp"):
            for side in ("Left", "Right"):
                coefficients[names.index(shape + side)] = rng.uniform(0, 0.9)
        coefficients[[names.index(f"jawOpen.{s}") for s in ("left", "right")]] = rng.uniform(0, 0.4)
        identity = (rng.normal(size=model.n_identity) * 0.7).astype(np.float32)
        yaw, pitch, roll = rng.uniform(-30, 30), rng.uniform(-12, 12), rng.uniform(-15, 15)
        camera = portrait_camera(320, 90.0, 24.0, yaw, pitch, roll)
        vertices = model.forward(torch.from_numpy(identity)[None], torch.from_numpy(coefficients)[None])
        picture, _ = render(
            vertices, torch.as_tensor(model.faces), torch.as_tensor(model.albedo), camera, default_lights(1)
        )
        pictures.append((picture[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
        truth.append({"expression": coefficients, "yaw": yaw, "pitch": pitch, "roll": roll})
    return pictures, truth


@pytest.mark.shared
@pytest.mark.parametrize("which", ["ict", "makehuman"])
def test_renders_with_known_truth(which: str, request: pytest.FixtureRequest, with_mediapipe: Path) -> None:
    model: MorphableModel = request.getfixturevalue(which)
    pictures, truth = rendered(model, 24, 5)
    found = fit(pictures, model)
    assert [f.status for f in found] == ["ok"] * 24
    nme = np.array([f.nme for f in found])
    assert nme.mean() < 0.025
    assert nme.max() < 0.035
    for angle, allowed in (("yaw", 6), ("pitch", 8), ("roll", 3)):
        error = np.array([getattr(f, angle) - t[angle] for f, t in zip(found, truth, strict=True)])
        assert np.abs(error).mean() < allowed, angle
    names = list(model.sided.names)
    for shape, least in (("mouthSmile", 0.7), ("eyeBlink", 0.7)):
        left, right = names.index(f"{shape}Left"), names.index(f"{shape}Right")
        true = [t["expression"][left] - t["expression"][right] for t in truth]
        seen = [f.expression[left] - f.expression[right] for f in found]
        assert np.corrcoef(true, seen)[0, 1] > least, shape


@pytest.mark.shared
def test_one_bad_photo_does_not_stop_the_others(
    makehuman: MorphableModel, astronaut: np.ndarray, with_mediapipe: Path, tmp_path: Path
) -> None:
    files = {
        "good.png": Image.fromarray(astronaut),
        "empty.png": Image.new("RGB", (200, 200), "grey"),
        "tiny.png": Image.fromarray(astronaut).resize((96, 96), Image.Resampling.LANCZOS),
        "cut.png": Image.fromarray(astronaut[:, 225:]),
    }
    for name, picture in files.items():
        picture.save(tmp_path / name)
    (tmp_path / "text.jpg").write_text("not a picture")
    photos = [tmp_path / n for n in ("text.jpg", *files, "missing.jpg")]
    seen: list[tuple[int, int, str]] = []
    found = fit(photos, makehuman, progress=lambda *a: seen.append(a))
    by_name = {f.name: f for f in found}
    assert [f.name for f in found] == ["text", "good", "empty", "tiny", "cut", "missing"]
    assert by_name["good"].ok
    assert by_name["good"].photo_sha256 == load_photo(tmp_path / "good.png").sha256
    for name, reason in (
        ("text", "text.jpg"), ("missing", "no such photo"), ("empty", "no face found"), ("tiny", "too small|no face"),
    ):  # fmt: skip
        assert not by_name[name].ok
        assert re.search(reason, by_name[name].reason), by_name[name].reason
    assert not by_name["cut"].ok
    assert seen[-1] == (6, 6, "missing")


@pytest.mark.shared
def test_faces_largest_or_all(makehuman: MorphableModel, astronaut: np.ndarray, with_mediapipe: Path) -> None:
    small = np.asarray(Image.fromarray(astronaut).resize((340, 340), Image.Resampling.LANCZOS))
    both = np.zeros((512, 852, 3), np.uint8)
    both[:340, :340], both[:, 340:] = small, astronaut
    (one,) = fit(both, makehuman)
    assert one.ok
    assert one.landmarks[:, 0].min() > 340
    first, second = fit(both, makehuman, face="all")
    assert (first.face, second.face) == (0, 1)
    assert first.name != second.name
    assert np.linalg.norm(first.landmarks[36] - first.landmarks[45]) > np.linalg.norm(
        second.landmarks[36] - second.landmarks[45]
    )


def test_names_are_unique_and_clean(makehuman: MorphableModel, astronaut: np.ndarray, tmp_path: Path) -> None:
    paths = []
    for folder, name in (("a", "Face.png"), ("b", "face.png"), ("c", "face#1?.png")):
        (tmp_path / folder).mkdir()
        Image.fromarray(astronaut).save(tmp_path / folder / name)
        paths.append(tmp_path / folder / name)
    found = fit(paths, makehuman, landmarks=[resources.asset(SAMPLE)] * 3)
    assert [f.name for f in found] == ["Face", "face-2", "face_1"]


def test_order_and_values_do_not_depend_on_the_batch(
    makehuman: MorphableModel, astronaut: np.ndarray, sample: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.array(sample["landmarks_478"])[:, :2]
    rng = np.random.default_rng(0)
    many = [points + rng.normal(size=points.shape) for _ in range(7)]
    many[3] = np.array(sample["landmarks_68"])  # another kind in the middle
    whole = fit([astronaut] * 7, makehuman, landmarks=many)
    monkeypatch.setattr(importlib.import_module("morphsym.fitting.solving"), "BATCH", 2)
    parts = fit([astronaut] * 7, makehuman, landmarks=many)
    for a, b in zip(whole, parts, strict=True):
        assert np.allclose(a.landmarks, b.landmarks)
        assert np.abs(a.expression - b.expression).max() < 1e-6


def test_given_expression(makehuman: MorphableModel, astronaut: np.ndarray) -> None:
    (found,) = fit(astronaut, makehuman, landmarks=resources.asset(SAMPLE), expression="surprise")
    assert (found.emotion, found.emotion_source) == ("surprise", "given")


def test_wrong_landmarks_are_not_called_a_fit(makehuman: MorphableModel, astronaut: np.ndarray) -> None:
    points = np.random.default_rng(0).uniform(100, 400, (68, 2))
    (found,) = fit(astronaut, makehuman, landmarks=points)
    assert not found.ok
    assert found.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"face": "biggest"}, "'largest' or 'all'"),
        ({"expression": "joy"}, "unknown expression 'joy'; expected one of anger"),
        ({"expression": ["fear", "fear"]}, "one expression for all 1 photos or one each, got 2"),
        ({"landmarks": [SAMPLE, SAMPLE]}, "landmarks for 1 photos, got 2"),
    ],
)
def test_wrong_arguments(makehuman: MorphableModel, astronaut: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit(astronaut, makehuman, **{"landmarks": resources.asset(SAMPLE), **arguments})


def test_nothing_to_fit(makehuman: MorphableModel) -> None:
    with pytest.raises(UsageError, match="no photos"):
        fit([], makehuman)


def test_wrong_landmarks_cost_their_own_row(makehuman: MorphableModel, astronaut: np.ndarray, tmp_path: Path) -> None:
    """Of the wrong count, scale or picture: that photo fails with the reason, and the others go on."""
    good = resources.asset(SAMPLE)
    few, other, text = tmp_path / "few.csv", tmp_path / "other.csv", tmp_path / "text.json"
    few.write_text("x,y\n1,2\n3,4\n")
    other.write_text("x,y\n" + "\n".join(f"{i + 3000},{i % 7}" for i in range(68)))
    text.write_text("no landmarks")
    unit = np.random.default_rng(0).random((68, 2))
    marks = [good, few, other, text, unit, np.zeros((5, 2)), good]
    found = fit([astronaut] * len(marks), makehuman, landmarks=marks)
    reasons = ["", "68 or 478 points", "outside the picture", "not a readable .json", "normalised", "68 or 478", ""]
    for f, reason in zip(found, reasons, strict=True):
        assert f.ok == (reason == ""), f.reason
        assert reason in f.reason
    with pytest.raises(InputError, match="no landmark file"):
        fit(astronaut, makehuman, landmarks=tmp_path / "missing.pts")
