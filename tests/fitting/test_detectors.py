"""Detectors: what they find, how landmark files are read, and what they say when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from morphsym import resources, weights
from morphsym.errors import InputError, MissingDependencyError, UsageError
from morphsym.faces import MorphableModel
from morphsym.fitting import detectors, fit
from morphsym.fitting.detectors import FileDetector
from morphsym.fitting.detectors.mediapipe import (
    SUBSET_68,
    MediaPipeDetector,
    mirrored_detection,
    mirrored_scores,
)

from .conftest import MIRROR_68


@pytest.fixture(scope="module")
def mediapipe(mediapipe_home: Path) -> MediaPipeDetector:
    return MediaPipeDetector(mediapipe_home / weights.REGISTRY["mediapipe"].file)


@pytest.mark.shared
def test_mediapipe_finds_what_the_sample_holds(mediapipe: Any, astronaut: np.ndarray, sample: dict) -> None:
    (found,) = MediaPipeDetector(mediapipe._task, both_ways=False)(astronaut)
    (both,) = mediapipe(astronaut)
    assert np.abs(both.landmarks478 - np.array(sample["landmarks_478"])[:, :2]).max() < 1.0
    assert found.kind == both.kind == "mediapipe"
    assert np.abs(found.landmarks478 - np.array(sample["landmarks_478"])[:, :2]).max() < 0.5
    assert np.abs(found.landmarks68 - np.array(sample["landmarks_68"])).max() < 0.5
    assert found.blendshapes["mouthSmileLeft"] == pytest.approx(sample["blendshapes"]["mouthSmileLeft"], abs=0.02)
    assert found.note == ""


@pytest.mark.shared
def test_the_detector_has_no_side(mediapipe: Any, astronaut: np.ndarray, makehuman: MorphableModel) -> None:
    """The mirror image of a picture gets the mirror image of its landmarks and scores, hence of its coefficients."""
    flipped = np.ascontiguousarray(astronaut[:, ::-1])
    (here,), (there,) = mediapipe(astronaut), mediapipe(flipped)
    back = mirrored_detection(there, 512)
    assert np.abs(back.landmarks478 - here.landmarks478).max() < 0.01
    assert max(abs(back.blendshapes[k] - v) for k, v in here.blendshapes.items()) < 1e-3
    a, b = fit([astronaut, flipped], makehuman, landmarks=[here, there])
    assert np.abs(makehuman.mirror_expression(b.expression) - a.expression).max() < 0.05  # the aim
    # One look alone is not: otherwise this would test nothing.
    once = MediaPipeDetector(mediapipe._task, both_ways=False)
    (here,), (there,) = once(astronaut), once(flipped)
    assert np.abs(mirrored_detection(there, 512).landmarks478 - here.landmarks478).max() > 0.5


def test_scores_trade_sides() -> None:
    assert mirrored_scores({"mouthSmileLeft": 0.9, "jawRight": 0.1, "jawOpen": 0.3}) == {
        "mouthSmileRight": 0.9, "jawLeft": 0.1, "jawOpen": 0.3,
    }  # fmt: skip


def test_the_subset_is_symmetric(ict_embedding: dict) -> None:
    """MediaPipe's mirror map, measured on renders, takes each of the 68 to its iBUG mirror landmark."""
    subset = np.array(SUBSET_68)
    assert len(set(SUBSET_68)) == 68
    assert np.array_equal(ict_embedding["mirror"][subset], subset[MIRROR_68])


@pytest.fixture
def ict_embedding() -> dict:
    with np.load(resources.asset("heads/ict_mediapipe.npz"), allow_pickle=False) as z:
        return {k: z[k] for k in z.files}


def test_order_of_the_68(sample: dict) -> None:
    p = np.array(sample["landmarks_478"])[list(SUBSET_68), :2]
    assert p[0, 0] < p[8, 0] < p[16, 0]  # the subject's right jaw is on the left of the picture
    assert (np.diff(p[17:27, 0]) > 0).all()  # brows from the subject's right to left
    assert (np.diff(p[27:31, 1]) > 0).all()  # down the nose
    assert (np.diff(p[31:36, 0]) > 0).all()
    assert p[36, 0] < p[39, 0] < p[42, 0] < p[45, 0]  # eye corners
    assert (p[[37, 38, 43, 44], 1] < p[[41, 40, 47, 46], 1]).all()  # upper lids above lower
    assert p[48, 0] < p[51, 0] < p[54, 0]
    assert p[51, 1] < p[62, 1] < p[66, 1] < p[57, 1]  # upper lip, mouth, lower lip
    assert p[8, 1] == p[:, 1].max()  # the chin is lowest


@pytest.mark.shared
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_pictures_are_searched(mediapipe: Any, astronaut: np.ndarray, sample: dict, quarters: int) -> None:
    turned = np.ascontiguousarray(np.rot90(astronaut, quarters))
    found = mediapipe(turned)
    assert found
    assert "turned" in found[0].note
    x, y = np.array(sample["landmarks_68"]).T
    expected = {1: (y, 512 - x), 2: (512 - x, 512 - y), 3: (512 - y, x)}[quarters]
    assert np.abs(found[0].landmarks68 - np.stack(expected, -1)).mean() < 3


@pytest.mark.shared
def test_a_small_face_is_found_in_an_enlarged_crop(mediapipe: Any, astronaut: np.ndarray, sample: dict) -> None:
    canvas = np.full((1400, 1800, 3), 128, np.uint8)
    canvas[900:1156, 1300:1556] = np.asarray(Image.fromarray(astronaut).resize((256, 256), Image.Resampling.LANCZOS))
    (found,) = mediapipe(canvas)
    expected = np.array(sample["landmarks_68"]) / 2 + (1300, 900)
    assert np.abs(found.landmarks68 - expected).mean() < 1.5
    assert "enlarged crop" in found.note


@pytest.mark.shared
def test_several_faces_largest_first_and_none(mediapipe: Any, astronaut: np.ndarray) -> None:
    small = np.asarray(Image.fromarray(astronaut).resize((340, 340), Image.Resampling.LANCZOS))
    both = np.zeros((512, 852, 3), np.uint8)
    both[:340, :340] = small
    both[:, 340:] = astronaut
    found = MediaPipeDetector(mediapipe._task, thorough=True)(both)
    assert len(found) == 2
    assert found[0].landmarks68[:, 0].min() > 340
    assert mediapipe(np.full((200, 300, 3), 90, np.uint8)) == []


@pytest.mark.shared
def test_mediapipe_wants_rgb_uint8(mediapipe: Any) -> None:
    with pytest.raises(InputError, match=r"\(H, W, 3\)"):
        mediapipe(np.zeros((20, 20), np.uint8))


def test_missing_weights_say_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))
    with pytest.raises(
        MissingDependencyError, match=r"morphsym weights get mediapipe.*morphsym weights add mediapipe FILE"
    ):
        detectors.get("mediapipe")
    with pytest.raises(MissingDependencyError, match=r"--offline forbids.*morphsym weights add mediapipe FILE"):
        detectors.get("mediapipe", offline=True)
    with pytest.raises(UsageError, match="known: mediapipe, face-alignment"):
        detectors.get("dlib")


def test_both_detectors_import_together() -> None:
    pytest.importorskip("face_alignment", reason="the extra morphsym[face-alignment] is not installed")
    code = "import mediapipe, face_alignment, cv2; from morphsym.fitting.detectors import mediapipe, face_alignment"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_face_alignment_never_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("face_alignment", reason="the extra morphsym[face-alignment] is not installed")
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it tried to download")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(MissingDependencyError, match="morphsym weights get face-alignment-2d"):
        detectors.get("face-alignment")


@pytest.mark.slow
def test_face_alignment_runs_on_local_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: np.ndarray
) -> None:
    """Its networks with random weights, from the cache: loading, the box detector's path and the contract's shapes."""
    pytest.importorskip("face_alignment", reason="the extra morphsym[face-alignment] is not installed")
    import torch
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.models import FAN

    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))
    (tmp_path / "landmarks").mkdir()
    torch.manual_seed(0)
    torch.save(s3fd().state_dict(), tmp_path / weights.REGISTRY["face-alignment-s3fd"].file)
    torch.save(FAN(4).state_dict(), tmp_path / weights.REGISTRY["face-alignment-2d"].file)
    hub = torch.hub.get_dir()
    detector: Any = detectors.get("face-alignment")
    assert torch.hub.get_dir() == hub
    monkeypatch.setattr(
        detector._network.face_detector, "detect_from_image", lambda _: [np.array([150.0, 60, 300, 210, 0.9])]
    )
    (found,) = detector(astronaut)
    assert found.landmarks68.shape == (68, 2)
    assert found.kind == "visible"
    assert found.detector == "face-alignment"


@pytest.fixture
def points(sample: dict) -> np.ndarray:
    return np.array(sample["landmarks_68"])


def write(path: Path, points: np.ndarray) -> Path:
    if path.suffix == ".pts":
        body = "\n".join(f"{x + 0.5} {y + 0.5}" for x, y in points)
        path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{body}\n}}\n")
    elif path.suffix == ".csv":
        path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in points))
    elif path.suffix == ".json":
        path.write_text(json.dumps(points.tolist()))
    else:
        np.savez(path, landmarks=points)
    return path


@pytest.mark.parametrize("suffix", [".pts", ".csv", ".json", ".npz"])
def test_files_are_read(tmp_path: Path, points: np.ndarray, astronaut: np.ndarray, suffix: str) -> None:
    (found,) = FileDetector(write(tmp_path / f"face{suffix}", points))(astronaut)
    assert np.allclose(found.landmarks68, points)
    assert found.landmarks478 is None
    assert found.kind == "visible"


def test_the_sample_is_a_landmark_file(astronaut: np.ndarray, sample: dict) -> None:
    (found,) = FileDetector(resources.asset("sample/astronaut.json"))(astronaut)
    assert found.landmarks478 is not None
    assert found.blendshapes is not None
    assert "_neutral" not in found.blendshapes
    assert found.kind == "mediapipe"
    with pytest.raises(InputError, match="512×512 pixels, this one has 300×400"):
        FileDetector(resources.asset("sample/astronaut.json"))(np.zeros((400, 300, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pts", "version: 1\nn_points: 68\n{\n1 2\n}\n", "n_points says 68, found 1"),
        ("a.pts", "1 2\n3 4\n", "between { and }"),
        ("a.csv", "", "empty"),
        ("a.csv", "u,v\n1,2\n", "columns x and y"),
        ("a.csv", "x,y\n1,2\n3,4\n", r"68 or 478 points of x, y; found an array of \(2, 2\)"),
        ("a.csv", "x,y\n1,banana\n", "not a readable .csv"),
        ("a.json", "{", "not a readable .json"),
        ("a.json", '{"dots": []}', "expected landmarks_478"),
        ("a.npz", "not a zip", "not a readable .npz"),
        ("a.txt", "", "unknown kind"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as e:
        FileDetector(tmp_path / name)
    assert "\n" not in str(e.value)
    assert name in str(e.value)


def test_points_that_do_not_fit_the_picture(points: np.ndarray, astronaut: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no landmark file"):
        FileDetector(tmp_path / "none.pts")
    with pytest.raises(InputError, match="normalised"):
        FileDetector.from_array(points / 512)(astronaut)
    with pytest.raises(InputError, match="outside the picture"):
        FileDetector.from_array(points * 8)(astronaut)
    with pytest.raises(InputError, match="1 landmarks are not finite"):
        FileDetector.from_array(np.where(np.arange(68)[:, None] == 3, np.nan, points))
    with pytest.raises(InputError, match="on one line"):
        FileDetector.from_array(points * [1, 0])
