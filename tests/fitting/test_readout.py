"""The readout of the expression: the crop, the mirror image, its weights file, the prior it makes, and faces it can read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from morphsym import resources
from morphsym.errors import ModelError
from morphsym.faces import MorphableModel, emotion_preset, sample_people
from morphsym.fitting import Detection, crop, energy, fit
from morphsym.fitting.basis import landmark_basis
from morphsym.fitting.detectors.mediapipe import SUBSET_68, MediaPipeDetector, mirrored_detection
from morphsym.fitting.energy import Problem
from morphsym.fitting.priors import TRUST, expression_prior, identity_prior
from morphsym.fitting.readout import ASSET, Reading, Readout, bundled, combine, grey_of
from morphsym.intervention.edit import edit
from morphsym.rendering import default_lights, portrait_camera, render


def reading_of(model: MorphableModel, mean: float, difference: float, sigma: float) -> Reading:
    left, right = bundled().left, bundled().right
    n = len(left)
    return Reading(left, right, *(np.full(n, v) for v in (mean, difference, sigma, sigma)), 0.0)


def true_difference(names: tuple[str, ...], expression: np.ndarray, found: Reading) -> np.ndarray:
    values = dict(zip(names, expression, strict=True))
    return np.array([values[a] - values[b] for a, b in zip(found.left, found.right, strict=True)])


@pytest.fixture(scope="module")
def seen(mediapipe_home: Path, makehuman: MorphableModel) -> list[tuple[np.ndarray, Detection, np.ndarray]]:
    """Renders of people who smile and blink, one side weakened, and what MediaPipe finds on them."""
    detector = MediaPipeDetector(mediapipe_home / "landmarks" / "face_landmarker.task")
    rng = np.random.default_rng(5)
    out = []
    for i, person in enumerate(sample_people(makehuman, 10, 810_000)):
        e = emotion_preset(makehuman, ("happiness", "surprise")[i % 2], rng)
        if i % 2 == 0:
            e = np.maximum(e, makehuman.coefficients({"eyeBlinkLeft": 0.7, "eyeBlinkRight": 0.7}))
        e = edit(makehuman.sided, e, ("left", "right")[i // 2 % 2], float(rng.uniform(0.3, 1)))
        vertices = makehuman.forward(
            torch.as_tensor(person.identity)[None], torch.as_tensor(e, dtype=torch.float32)[None]
        )
        camera = portrait_camera(320, 80.0, 24.0, *map(float, rng.uniform(-1, 1, 3) * (20, 8, 8)))
        picture, _ = render(
            vertices, torch.as_tensor(makehuman.faces), torch.as_tensor(person.albedo), camera, default_lights(1)
        )
        pixels = (picture[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
        out.append((pixels, detector(pixels)[0], e))
    return out


# -- the crop --------------------------------------------------------------------------------------------------------------
def test_the_crop_undoes_turn_scale_and_place() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (478, 2))
    places = (np.array(crop.PLACES) - crop.CENTRE) * crop.PER_CM + crop.SIZE / 2
    turn = 0.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    points[list(crop.ANCHORS)] = places @ turn.T + (300, -20)
    similarity = crop.align(points)
    np.testing.assert_allclose(crop.moved(points, similarity)[list(crop.ANCHORS)], places, atol=1e-9)
    np.testing.assert_allclose(similarity[:, :2] @ turn, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("finer", [0.4, 1.0, 3.6, 11.0])
def test_the_crop_shows_what_lies_there(finer: float) -> None:
    """A smooth picture: the crop's pixel has the value at its own place, whatever the scale, and shows no shift."""
    size = int(130 * finer)
    y, x = (np.mgrid[:size, :size] + 0.5) / finer
    pixels = np.stack([x, y, x + y], -1)
    pixels = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    similarity = np.array([[1 / finer, 0, -9.0], [0, 1 / finer, -7.0]])
    found = crop.crop(pixels, similarity).astype(float)
    at = np.arange(crop.SIZE) + 0.5
    inner = slice(4, -4)
    np.testing.assert_allclose(found[inner, inner, 0], np.broadcast_to(at + 9, (112, 112))[inner, inner], atol=1.1)
    np.testing.assert_allclose(found[inner, inner, 1], np.broadcast_to(at + 7, (112, 112)).T[inner, inner], atol=1.1)


def test_the_crop_of_the_mirror_image_is_mirrored(astronaut: np.ndarray) -> None:
    similarity = np.array([[0.81, 0.1, -120.0], [-0.1, 0.81, -30.0]])
    there = np.array([[0.81, -0.1, crop.SIZE - 0.81 * 512 + 120.0], [0.1, 0.81, -30.0 - 0.1 * 512]])
    a, b = crop.crop(astronaut, similarity), crop.crop(astronaut[:, ::-1].copy(), there)
    assert np.abs(a.astype(int) - b[:, ::-1]).max() <= 1


@pytest.mark.parametrize("scale", [0.14, 0.81, 2.3])
def test_the_grey_crop_is_the_crop_in_grey(astronaut: np.ndarray, scale: float) -> None:
    """But for the rounding of the latter; also of pixels that lie in memory in another order."""
    similarity = np.array([[scale, 0.1, -225 * scale], [-0.1, scale, -60 * scale]])
    for pixels in (astronaut, astronaut[::-1, ::-1]):
        grey = crop.grey_crop(pixels, similarity).numpy()
        np.testing.assert_allclose(grey, grey_of(crop.crop(pixels, similarity)), atol=0.51)
        assert grey.std() > 20


def test_a_face_that_is_cut_off_has_a_crop(astronaut: np.ndarray) -> None:
    for place in ((-500.0, 0.0), (40.0, 700.0)):
        assert crop.crop(astronaut, np.array([[1.0, 0, place[0]], [0, 1, place[1]]])).shape == (112, 112, 3)


# -- the network -----------------------------------------------------------------------------------------------------------
def test_the_weights_are_plain_arrays_and_small() -> None:
    path = resources.asset(ASSET)
    with np.load(path, allow_pickle=False) as z:
        assert all(z[k].dtype.kind in "fiuU" for k in z.files)
        assert "renders of" in str(z["trained_on"])
    assert path.stat().st_size < 2_000_000
    assert len(set(bundled().left) | set(bundled().right)) == 66


@pytest.mark.parametrize("spoil", ["cut", "shape", "missing", "pickle"])
def test_damaged_weights_say_what_to_do(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "weights.npz"
    with np.load(resources.asset(ASSET), allow_pickle=False) as z:
        arrays = {k: z[k] for k in z.files}
    if spoil == "cut":
        path.write_bytes(resources.asset(ASSET).read_bytes()[:1000])
    else:
        if spoil == "shape":
            arrays["calibration"] = arrays["calibration"][:, :3]
        elif spoil == "missing":
            del arrays["calibration"]
        else:
            arrays["left"] = np.array([{}], dtype=object)
        np.savez(path, **arrays)
    with pytest.raises(ModelError, match="install morphsym again"):
        Readout(path)


def test_a_face_and_its_mirror_image_read_alike(seen: Any) -> None:
    for pixels, detection, _ in seen[:4]:
        here = bundled().read(pixels, detection)
        there = bundled().read(pixels[:, ::-1].copy(), mirrored_detection(detection, pixels.shape[1]))
        assert here is not None
        assert there is not None
        np.testing.assert_allclose(there.mirrored().difference, here.difference, atol=0.02)
        np.testing.assert_allclose(there.mean, here.mean, atol=0.02)
        np.testing.assert_allclose(there.difference_sigma, here.difference_sigma, rtol=0.1)


def test_a_symmetric_picture_reads_symmetric(seen: Any) -> None:
    """No difference may come out of what has none, whatever the network has learnt."""
    pixels, detection, _ = seen[0]
    similarity = crop.align(detection.landmarks478)
    picture, points = crop.crop(pixels, similarity), crop.moved(detection.landmarks478, similarity)
    flipped = mirrored_detection(replace(detection, landmarks478=points), crop.SIZE)
    picture = ((picture.astype(float) + picture[:, ::-1]) / 2).round().astype(np.uint8)
    scores = {k: (v + flipped.blendshapes[k]) / 2 for k, v in detection.blendshapes.items()}
    found = bundled().read_crop(picture, (points + flipped.landmarks478) / 2, scores)
    assert np.abs(found.difference).max() < 1e-5


def test_the_side_is_right(seen: Any, makehuman: MorphableModel) -> None:
    """Weakness was put on a known side: the readout sees it there in every picture, and the fit keeps it."""
    names = makehuman.sided.names
    fits = fit([p for p, _, _ in seen], makehuman, landmarks=[d for _, d, _ in seen])
    for (pixels, detection, e), fitted in zip(seen, fits, strict=True):
        found = bundled().read(pixels, detection)
        assert found is not None
        truth = true_difference(names, e, found)
        k = int(np.argmax(np.abs(truth)))
        assert np.sign(found.difference[k]) == np.sign(truth[k]), found.left[k]
        there = true_difference(names, fitted.expression, found)
        assert np.corrcoef(there, truth)[0, 1] > 0.5


def test_errors_are_as_large_as_they_are_said_to_be(seen: Any, makehuman: MorphableModel) -> None:
    """Of the shapes whose sides differ; of those at rest they are smaller, as it should be on faces this easy."""
    z = []
    for pixels, detection, e in seen:
        found = bundled().read(pixels, detection)
        truth = true_difference(makehuman.sided.names, e, found)
        moved = np.abs(truth) > 0.05
        z.append(((found.difference - truth) / np.maximum(found.difference_sigma, 0.02))[moved])
    z = np.concatenate(z)
    assert len(z) > 30
    assert 0.4 < np.sqrt(np.mean(z**2)) < 1.8


def test_doubt_makes_the_reading_less_certain() -> None:
    """Where points alone say something else, or the mirror image does, standard deviations grow."""
    both = np.zeros((2, 6, 3))
    both[:, 2:4] = np.log(0.1)
    calibration = np.full((4, 3), 1.0)
    calibration[2:] = 0.05
    names = ("a", "b", "c")
    plain = combine(both, calibration, names, names)
    np.testing.assert_allclose(plain.difference_sigma, 0.1)
    assert plain.doubt == 0
    both[0, 5, 1], both[1, 5, 1] = 0.4, -0.4  # the points alone see a difference of 0.4
    both[0, 1, 2] = both[1, 1, 2] = 0.5  # picture and mirror image both say 'left'
    found = combine(both, calibration, names, names)
    assert found.doubt == pytest.approx(1 / 6)
    strange = 1 + 10 * (1 / 6 - 0.06)  # where more than usual is doubted, all of it grows
    np.testing.assert_allclose(found.difference_sigma[:2], [0.1 * strange, 0.4 * strange])
    assert found.difference[2] == 0
    assert found.difference_sigma[2] > 0.4 * strange


# -- the prior and the fit -------------------------------------------------------------------------------------------------
def test_the_prior_has_the_readings_means_and_deviations(makehuman: MorphableModel) -> None:
    reading = reading_of(makehuman, 0.4, 0.2, 0.1)
    prior = expression_prior(makehuman, [None, None], readings=[reading, None])
    names = list(makehuman.sided.names)
    tie = prior.tie.numpy()
    left, right = (int(tie[names.index(n)].argmax()) for n in ("mouthSmileLeft", "mouthSmileRight"))
    np.testing.assert_allclose(prior.mean[0, [left, right]], [0.5, 0.3])
    cov = np.linalg.inv(prior.precision[0].numpy())
    block = cov[np.ix_([left, right], [left, right])]
    variance = (TRUST * 0.1) ** 2
    np.testing.assert_allclose([1, -1] @ block @ [1, -1], variance)
    np.testing.assert_allclose([0.5, 0.5] @ block @ [0.5, 0.5], variance)
    assert np.linalg.eigvalsh(prior.precision[0].numpy()).min() > 0
    before = expression_prior(makehuman, [None])
    np.testing.assert_array_equal(prior.precision[1], before.precision[0])
    np.testing.assert_array_equal(prior.mean[1], before.mean[0])


def test_a_model_without_these_shapes_keeps_its_prior(makehuman: MorphableModel) -> None:
    reading = replace(reading_of(makehuman, 0.4, 0.2, 0.1), left=("x",) * 33, right=("y",) * 33)
    found, before = (expression_prior(makehuman, [{"mouthSmileLeft": 0.5}], readings=[r]) for r in (reading, None))
    np.testing.assert_array_equal(found.precision, before.precision)
    np.testing.assert_array_equal(found.mean, before.mean)


def test_the_identity_starts_from_its_reading(seen: Any, makehuman: MorphableModel) -> None:
    """Along what the landmarks see and beyond; a model whose identity is another one is left alone."""
    pixels, detection, _ = seen[0]
    reading = bundled().read(pixels, detection)
    basis = landmark_basis(makehuman, True)
    mean, precision, rest = identity_prior(makehuman, basis, [None, reading])
    told = reading.identity["makehuman"].mean
    np.testing.assert_allclose(mean[1].numpy() @ basis.to_identity.numpy().T + rest[1], told, atol=1e-5)
    assert not mean[0].any()
    assert not rest[0].any()
    np.testing.assert_array_equal(precision[0], np.eye(len(precision[0])))
    assert np.linalg.eigvalsh(precision[1].numpy()).min() > 0.3
    other = {"makehuman": replace(reading.identity["makehuman"], lengths=reading.identity["makehuman"].lengths * 1.2)}
    assert identity_prior(makehuman, basis, [replace(reading, identity=other)]) is None
    assert identity_prior(makehuman, basis, [None]) is None


def test_the_identitys_prior_has_the_right_gradient(makehuman: MorphableModel, sample: dict) -> None:
    """Half the gradient of the energy by the identity, against differences."""
    basis = landmark_basis(makehuman, True)
    kr = basis.identity.shape[-1]
    rng = np.random.default_rng(0)
    a = rng.normal(size=(kr, kr))
    problem = Problem(
        pixels=torch.tensor(np.array(sample["landmarks_478"])[list(SUBSET_68), :2], dtype=torch.float64)[None],
        sigma=torch.full((1, 68), 0.2, dtype=torch.float64),
        size=torch.tensor([[512.0, 512.0]], dtype=torch.float64),
        focal=torch.full((1,), torch.nan, dtype=torch.float64),
        prior=expression_prior(makehuman, [None]),
        slide=False,
        identity_mean=torch.from_numpy(rng.normal(size=(1, kr))),
        identity_precision=torch.from_numpy(a @ a.T / kr + np.eye(kr))[None],
    )
    joined = energy.join(basis, problem.prior)
    state, _, data = energy.prepare(joined, problem)
    state = replace(state, identity=state.identity + 0.3)
    _, gradient, _ = energy.normal_equations(joined, data, state)
    for k in (0, 3):
        either = []
        for h in (1e-5, -1e-5):
            moved = state.identity.clone()
            moved[0, k] += h
            s = replace(state, identity=moved)
            either.append(float(energy.energy(data, energy.project(joined, data, s)[0], s)[0]))
        robustly = (either[0] - either[1]) / 2e-5 / 2
        np.testing.assert_allclose(float(gradient[0, k]), robustly, rtol=1e-4, atol=1e-4)


def test_the_fit_says_what_its_expression_came_from(seen: Any, makehuman: MorphableModel) -> None:
    pixels, detection, _ = seen[0]
    read, scores = (fit(pixels, makehuman, landmarks=detection, readout=r)[0] for r in (True, False))
    given = fit(pixels, makehuman, landmarks=detection.landmarks68)[0]
    assert [f.expression_prior for f in (read, scores, given)] == ["readout", "scores", ""]
    assert np.abs(read.expression - scores.expression).max() > 0.02
    same = fit(pixels, makehuman, landmarks=detection.landmarks68, readout=False)[0]
    np.testing.assert_array_equal(given.expression, same.expression)  # without points of MediaPipe nothing is read


def test_the_fit_of_the_mirror_image_is_mirrored(seen: Any, makehuman: MorphableModel) -> None:
    pixels = [p for p, _, _ in seen]
    here = fit(pixels, makehuman, landmarks=[d for _, d, _ in seen])
    there = fit(
        [p[:, ::-1].copy() for p in pixels], makehuman, landmarks=[mirrored_detection(d, 320) for _, d, _ in seen]
    )
    for a, b in zip(here, there, strict=True):
        assert np.abs(makehuman.mirror_expression(b.expression) - a.expression).max() < 0.05


def test_where_there_is_nothing_to_read_there_is_no_reading(seen: Any, makehuman: MorphableModel) -> None:
    pixels, detection, _ = seen[0]
    nowhere = replace(detection, landmarks478=np.full((478, 2), 50.0))
    assert bundled().read(pixels, nowhere) is None
    assert bundled().read(np.zeros_like(pixels), detection) is None
    assert bundled().read(pixels, replace(detection, blendshapes=None)) is None
    assert bundled().read(pixels, replace(detection, landmarks478=None)) is None
    assert fit(np.zeros_like(pixels), makehuman, landmarks=detection)[0].expression_prior == "scores"


def test_a_grey_and_a_large_photo_are_read(seen: Any) -> None:
    pixels, detection, _ = seen[0]
    grey = np.repeat(pixels.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    big = np.asarray(Image.fromarray(pixels).resize((2560, 2560), Image.Resampling.BICUBIC))
    here = bundled().read(pixels, detection)
    for picture, d in ((grey, detection), (big, replace(detection, landmarks478=detection.landmarks478 * 8))):
        found = bundled().read(picture, d)
        np.testing.assert_allclose(found.difference, here.difference, atol=0.15)
