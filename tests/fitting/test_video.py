"""Videos: the right frame, whatever the order it is asked for; smoothing; one subject through the whole chain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from morphsym import fitting
from morphsym.errors import InputError, UsageError
from morphsym.experiment.units import FailedUnit, photo_unit
from morphsym.faces import MorphableModel, emotion_preset
from morphsym.fitting import Detection, fit, load_fits, load_source, video
from morphsym.fitting.basis import landmark_basis
from morphsym.fitting.correspondence import places
from morphsym.fitting.detectors.base import box_of
from morphsym.fitting.priors import expression_prior
from morphsym.fitting.quality import sigma68
from morphsym.fitting.smoothing import _solve_chain, smooth
from morphsym.fitting.solver import Problem, solve
from morphsym.fitting.sources import sources
from morphsym.rendering import portrait_camera, project
from morphsym.types import FaceFit

SIZE = 256
FRAMES = 24


def write(path: Path, frames: list[np.ndarray], fps: float = 20.0, code: str = "mp4v") -> Path:
    cv2 = pytest.importorskip("cv2")
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for f in frames:
        writer.write(np.ascontiguousarray(f[..., ::-1]))
    writer.release()
    return path


def pictures(count: int = FRAMES) -> list[np.ndarray]:
    """Frames that differ: a square that walks over noise, and one corner that is red."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(count):
        f = np.full((SIZE, SIZE, 3), 90, np.uint8) + rng.integers(0, 20, (SIZE, SIZE, 1), dtype=np.uint8)
        f[100:140, 5 + 10 * i : 45 + 10 * i] = 230
        f[:40, :40] = (220, 20, 20)
        out.append(f)
    return out


def test_two_videos_of_one_name_are_two_people(clip: Path, tmp_path: Path) -> None:
    """patients/anna/smile.mp4 and patients/ben/smile.mp4: units of one subject would be taken for dependent."""
    for name in ("anna", "ben"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "smile.mp4").write_bytes(clip.read_bytes())
    found = list(sources([tmp_path / n / "smile.mp4" for n in ("anna", "ben", "anna")], frame_step=12))
    assert [s.subject for s in found] == ["smile"] * 2 + ["smile-2"] * 2 + ["smile"] * 2
    frames = [tmp_path / n / "frames" / f"{k}.png" for n in ("anna", "ben") for k in range(2)]
    assert [s.subject for s in sources(frames, fps=10)] == ["frames", "frames", "frames-2", "frames-2"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "smile clip.mp4", pictures())


@pytest.mark.parametrize(("name", "code"), [("a.mp4", "mp4v"), ("a.avi", "MJPG")])
def test_every_frame_is_found_again_in_any_order(tmp_path: Path, name: str, code: str) -> None:
    path = write(tmp_path / name, pictures(), code=code)
    frames = list(video.frames(path))
    assert [f.index for f in frames] == list(range(FRAMES))
    assert np.allclose([f.time for f in frames], np.arange(FRAMES) / 20, atol=2e-3)
    assert len({f.photo.sha256 for f in frames}) == FRAMES
    assert abs(frames[0].photo.pixels[10, 10].astype(int) - (220, 20, 20)).max() < 25  # RGB
    for i in (7, 3, 23, 0, 22, 8):
        again = video.load_frame(path, i, frames[i].photo.sha256)
        assert np.array_equal(again.pixels, frames[i].photo.pixels), i
    assert [f.index for f in video.frames(path, 7)] == [0, 7, 14, 21]
    assert video.count(path, 7) == 4
    with pytest.raises(InputError, match="no frame 99"):
        video.load_frame(path, 99)


def test_a_search_that_lands_elsewhere_is_noticed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose index is wrong: the frame is counted from the start."""
    frames = list(video.frames(clip))
    right = video._Reader.at
    monkeypatch.setattr(video._Reader, "at", lambda self, index: right(self, max(0, index - 2)))
    assert np.array_equal(video.load_frame(clip, 9, frames[9].photo.sha256).pixels, frames[9].photo.pixels)


def test_what_is_no_video(clip: Path, tmp_path: Path) -> None:
    for name, content, message in (
        ("text.mp4", b"not a video", "not a video that can be read"),
        ("empty.mp4", b"", "empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            list(video.frames(tmp_path / name))
    with pytest.raises(InputError, match="no such video"):
        list(video.frames(tmp_path / "gone.mp4"))
    short = tmp_path / "short.avi"
    whole = write(tmp_path / "whole.avi", pictures(), code="MJPG").read_bytes()
    short.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"ends after \d+ of 24 frames|not a video"):
        list(video.frames(short))


# -- fitting -----------------------------------------------------------------------------------------------------------


def seen(model: MorphableModel, identity: np.ndarray, expression: np.ndarray, seed: int, noise: float) -> Detection:
    v = model.forward(torch.as_tensor(identity)[None], torch.as_tensor(expression)[None])[0].numpy()
    corners, weights, _ = places(model, True)
    camera = portrait_camera(SIZE, 80.0, 27.0, 8.0)
    points = torch.as_tensor(np.einsum("nkc,nk->nc", v[corners], weights), dtype=torch.float32)
    pixels = project(camera, points[None])[0][0].numpy().astype(np.float64)
    pixels += np.random.default_rng(seed).normal(size=pixels.shape) * noise
    return Detection(pixels, box_of(pixels), float("nan"), "test", np.zeros((478, 2)), kind="mediapipe")


class Script:
    """A detector that gives the landmarks of one frame after the other; None: no face."""

    name = "script"

    def __init__(self, detections: list[Detection | None]) -> None:
        self._left = list(detections)

    def __call__(self, image: np.ndarray) -> list[Detection]:
        one = self._left.pop(0)
        return [] if one is None else [one]


@pytest.fixture(scope="module")
def smile(makehuman: MorphableModel) -> np.ndarray:
    return np.asarray(emotion_preset(makehuman, "happiness"), dtype=np.float32)


@pytest.fixture(scope="module")
def script(makehuman: MorphableModel, smile: np.ndarray) -> list[Detection | None]:
    """A smile that comes and goes; the face is hidden in frame 5."""
    identity = (np.random.default_rng(3).normal(size=makehuman.n_identity) * 0.7).astype(np.float32)
    amount = np.sin(np.linspace(0, np.pi, FRAMES)).astype(np.float32)
    found: list[Detection | None] = [seen(makehuman, identity, a * smile, i, 0.8) for i, a in enumerate(amount)]
    found[5] = None
    return found


def test_a_video_is_one_subject_through_the_chain(
    clip: Path, makehuman: MorphableModel, script: list[Detection | None], tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    found = fit(clip, makehuman, Script(script[::2]), frame_step=2, expression="happiness",
                progress=lambda *a: told.append(a))  # fmt: skip
    assert [f.name for f in found] == [f"smile_clip-{i:06d}" for i in range(0, FRAMES, 2)]
    assert [f.frame for f in found] == list(range(0, FRAMES, 2))
    assert {f.subject for f in found} == {"smile_clip"}
    assert all(f.ok for f in found)
    assert told[-1] == (12, 12, found[-1].name)
    with fitting.FitsWriter(tmp_path / "fits") as writer:
        for f in found:
            assert writer.add(f).note.count("no overlay") == 0
    back = load_fits(tmp_path / "fits")
    assert [(f.frame, f.subject, round(f.time, 3)) for f in back] == [
        (f.frame, f.subject, round(f.time, 3)) for f in found
    ]
    assert (tmp_path / "fits" / "smile_clip-000004.png").is_file()
    frames = list(video.frames(clip))
    for f in back[::-1]:
        assert np.array_equal(load_source(f).pixels, frames[f.frame].photo.pixels)
    unit = photo_unit(back[3], makehuman, 64)
    assert not isinstance(unit, FailedUnit), unit.reason
    assert unit.subject == "smile_clip"
    assert unit.unit == "smile_clip-000006.happiness"
    assert unit.attributes["observed_realised_asymmetry_mm"] == pytest.approx(back[3].measures["realised_asymmetry_mm"])
    assert unit.attributes["time"] == pytest.approx(0.3, abs=0.01)
    failed = photo_unit(replace(back[3], photo_sha256="0" * 64), makehuman, 64)
    assert isinstance(failed, FailedUnit)
    assert "not the one that was fitted" in failed.reason


def test_a_hidden_face_and_a_broken_video_cost_only_their_rows(
    clip: Path, makehuman: MorphableModel, script: list[Detection | None], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    found = fit([tmp_path / "broken.mp4", clip], makehuman, Script(script), smooth=0.2)
    assert [f.status for f in found].count("failed") == 2
    assert "not a video" in found[0].reason
    assert "no face" in found[6].reason
    assert found[6].subject == "smile_clip"
    assert all(np.isfinite(f.expression).all() and len(f.expression) for f in found if f.ok)


def roughness(fits: list[FaceFit]) -> float:
    e = np.stack([f.expression for f in fits if f.ok])
    return float(np.abs(np.diff(e, 2, axis=0)).mean())


def test_smoothing_is_nearer_to_the_truth_and_off_by_default(
    clip: Path, makehuman: MorphableModel, script: list[Detection | None], smile: np.ndarray
) -> None:
    alone = fit(clip, makehuman, Script(script), expression="happiness")
    smoothed = fit(clip, makehuman, Script(script), expression="happiness", smooth=0.15)
    person = fit(clip, makehuman, Script(script), expression="happiness", smooth=0.15, same_person=True)
    ok = [i for i, f in enumerate(alone) if f.ok]
    truth = np.sin(np.linspace(0, np.pi, FRAMES))[ok, None] * smile

    def error(fits: list[FaceFit]) -> float:
        return float(np.abs(np.stack([fits[i].expression for i in ok]) - truth).mean())

    assert roughness(smoothed) < 0.5 * roughness(alone)
    assert error(smoothed) < 0.97 * error(alone)
    assert len({f.identity.tobytes() for f in person if f.ok}) == 1
    assert {f.subject for f in person} == {"smile_clip"}
    assert roughness(person) < 0.5 * roughness(alone)
    assert max(f.nme for f in smoothed if f.ok) < 0.03
    low, high = makehuman.sided.low, makehuman.sided.high
    for f in smoothed:
        assert not f.ok or ((f.expression >= low - 1e-6) & (f.expression <= high + 1e-6)).all()


def test_smoothing_looks_back_as_far_as_ahead(makehuman: MorphableModel, script: list[Detection | None]) -> None:
    detections = [d for d in script if d is not None]
    basis = landmark_basis(makehuman, mediapipe=True)

    def problem(rows: list[int]) -> Problem:
        n = len(rows)
        return Problem(
            torch.from_numpy(np.stack([detections[i].landmarks68 for i in rows])),
            torch.from_numpy(sigma68()).expand(n, -1).clone(), torch.full((n, 2), float(SIZE)).double(),
            torch.full((n,), torch.nan).double(), expression_prior(makehuman, [None] * n),
        )  # fmt: skip

    rows = list(range(12))
    times = torch.arange(12).double() / 20

    def solved(order: list[int]) -> torch.Tensor:
        problems = [problem(order[:5]), problem(order[5:])]
        alone = [solve(basis, p) for p in problems]
        return torch.cat([s.variables for s in smooth([basis] * 2, problems, alone, times, 0.3)])

    forwards, backwards = solved(rows), solved(rows[::-1]).flip(0)
    assert (forwards - backwards).abs().max() < 2e-3
    one = problem(rows)
    assert (torch.cat([s.variables for s in smooth([basis], [one], [solve(basis, one)], times, 0.0)])
            - solve(basis, one).variables).abs().max() == 0  # fmt: skip


def test_the_chain_is_solved_exactly() -> None:
    rng = np.random.default_rng(0)
    t, k = 5, 4
    a = rng.normal(size=(t, k, 6))
    information, bond = torch.from_numpy(a @ a.transpose(0, 2, 1)), torch.from_numpy(rng.uniform(0, 3, (t - 1, k)))
    gradient, free = torch.from_numpy(rng.normal(size=(t, k))), torch.from_numpy(rng.random((t, k)) < 0.8)
    whole = torch.zeros(t, k, t, k).double()
    for i in range(t):
        whole[i, :, i] += information[i]
    for i in range(t - 1):
        whole[i, :, i] += torch.diag(bond[i])
        whole[i + 1, :, i + 1] += torch.diag(bond[i])
        whole[i, :, i + 1] -= torch.diag(bond[i])
        whole[i + 1, :, i] -= torch.diag(bond[i])
    rows = free.reshape(-1).nonzero()[:, 0]
    flat = whole.reshape(t * k, t * k)[rows][:, rows]
    expected = torch.zeros(t * k).double()
    expected[rows] = torch.linalg.solve(flat, gradient.reshape(-1)[rows])
    assert torch.allclose(_solve_chain(information, bond, gradient, free).reshape(-1), expected, atol=1e-10)


def test_a_folder_of_frames(makehuman: MorphableModel, script: list[Detection | None], tmp_path: Path) -> None:
    from PIL import Image

    for i, picture in enumerate(pictures(6)):
        (tmp_path / "film").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "film" / f"{i}.png")
    photos = fitting.find_photos([tmp_path / "film"])
    found = fit(photos, makehuman, Script([script[i] for i in (0, 2, 4)]), fps=10.0, frame_step=2, smooth=0.3)
    assert [(f.name, f.frame, f.time, f.subject) for f in found] == [
        ("0", 0, 0.0, "film"), ("2", 2, 0.2, "film"), ("4", 4, 0.4, "film"),
    ]  # fmt: skip
    assert load_source(found[1]).pixels.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_step": 0}, "frame_step"),
        ({"smooth": -1.0}, "smooth"),
        ({"fps": 0.0}, "fps"),
        ({"smooth": 1.0, "face": "all"}, "largest face"),
        ({"landmarks": np.random.default_rng(0).uniform(20, 200, (68, 2))}, "frames of a video need a detector"),
    ],
)
def test_wrong_arguments(clip: Path, makehuman: MorphableModel, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit(clip, makehuman, **{"detector": Script([]), **arguments})
