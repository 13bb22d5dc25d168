"""The photometric refinement: its pictures and derivatives, what it gains, and when it leaves a face alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from morphsym.errors import UsageError
from morphsym.faces import MorphableModel, sample_people
from morphsym.fitting import Detection, evidence, fit, save_fits, solver
from morphsym.fitting import refine as refinement
from morphsym.fitting.basis import landmark_basis
from morphsym.fitting.correspondence import places
from morphsym.fitting.evidence import misfit, robust, spread_of
from morphsym.fitting.mirroring import mirror_of, mirrored_view
from morphsym.fitting.photometric import Front, front
from morphsym.fitting.priors import expression_prior
from morphsym.fitting.scene import POSE_STEP, Scene
from morphsym.fitting.view import View, view_of
from morphsym.intervention import skin_vertices
from morphsym.rendering import default_lights, harmonics, portrait_camera, project, render
from morphsym.types import Lights

from .conftest import MIRROR_68

SIZE = 256


def portrait(model: MorphableModel, moved: dict[str, float], yaw: float = 8.0) -> tuple[np.ndarray, Detection, Any]:
    """A person with some shapes, landmarks with a detector's errors (1.5 pixels), and the true coefficients."""
    person = sample_people(model, 4, 31)[3]
    expression = np.zeros(len(model.sided), dtype=np.float32)
    for name, value in moved.items():
        expression[model.sided.names.index(name)] = value
    camera = portrait_camera(SIZE, 90.0, 18.0, yaw)
    vertices = model.forward(torch.as_tensor(person.identity)[None], torch.as_tensor(expression)[None])
    picture, _ = render(
        vertices, torch.as_tensor(model.faces), torch.as_tensor(person.albedo), camera, default_lights()
    )
    pixels = np.uint8(np.round(picture[0].permute(1, 2, 0).numpy() * 255))
    triangles, weights, _ = places(model, True)
    points = (vertices[0].numpy()[triangles] * weights[..., None]).sum(1)
    marks = project(camera, torch.as_tensor(points, dtype=torch.float32)[None])[0][0].numpy().astype(np.float64)
    marks += np.random.default_rng(5).normal(size=marks.shape) * 1.5
    box = np.concatenate([marks.min(0), marks.max(0)])
    return pixels, Detection(marks, box, 1.0, "test", kind="mediapipe"), expression


ASYMMETRIC = {"browOuterUpLeft": 0.8, "mouthSmileLeft": 0.7, "mouthSmileRight": 0.2}


def difference(model: MorphableModel, expression: np.ndarray, movement: str) -> float:
    names = model.sided.names
    return float(expression[names.index(f"{movement}Left")] - expression[names.index(f"{movement}Right")])


@pytest.fixture(scope="module")
def subject(makehuman: MorphableModel) -> tuple[np.ndarray, Detection, Any]:
    return portrait(makehuman, ASYMMETRIC)


@pytest.fixture(scope="module")
def fits(makehuman: MorphableModel, subject: Any) -> tuple[Any, Any]:
    pixels, detection, _ = subject
    return tuple(fit(pixels, makehuman, landmarks=detection, refine=r)[0] for r in (False, True))


# -- pictures and derivatives ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def the_front(makehuman: MorphableModel) -> Front:
    return front(makehuman, landmark_basis(makehuman, True), expression_prior(makehuman, [None]).tie)


def test_constant_light_is_ambient_light(makehuman: MorphableModel) -> None:
    """Against the renderer, with another camera and turned: the same pixels, but for those that see the back of a surface."""
    from morphsym.rendering.color import srgb_to_linear

    camera = portrait_camera(96, 80.0, 24.0, 20.0, 10.0)
    albedo = torch.as_tensor(makehuman.albedo)
    ambient = torch.tensor([[0.9, 0.8, 0.7]])
    lamp = Lights(ambient, default_lights().direction, torch.zeros(1, 3), torch.zeros(1))
    theirs, _ = render(
        makehuman.mean[None], torch.as_tensor(makehuman.faces), albedo, camera, lamp, background=(0.0, 0.0, 0.0)
    )
    light = np.zeros((harmonics.TERMS, 3), np.float32)
    light[0] = ambient[0].numpy()
    K, R, t = (x.double().numpy() for x in (camera.K, camera.R, camera.t))
    ours = harmonics.render(
        makehuman.mean.numpy()[None],
        makehuman.faces.view(np.uint32),
        srgb_to_linear(albedo).numpy(),
        K,
        R,
        t,
        light,
        96,
        96,
    )
    off = np.abs(ours - theirs.numpy()).max(1)[0]
    assert (off < 2e-3).mean() > 0.995


def test_materials_paint_the_average_face(the_front: Front, makehuman: MorphableModel) -> None:
    from morphsym.faces.appearance import decode_srgb

    assert np.allclose(the_front.paint.sum(1), 1, atol=1e-5)
    albedo = (the_front.paint @ the_front.colour) * the_front.texture
    assert np.abs(albedo - decode_srgb(makehuman.albedo[the_front.rows].astype(np.float64))).mean() < 0.01


def test_shapes_that_share_a_picture_lie_apart(the_front: Front) -> None:
    size = np.linalg.norm(the_front.shape[-len(np.concatenate([g for g, _ in the_front.groups])) :], axis=2)
    assert sorted(np.concatenate([g for g, _ in the_front.groups]).tolist()) == list(range(len(size)))
    for group, nearest in the_front.groups:
        place = size[group] > 0.05 * size[group].max(1, keepdims=True)
        assert (place.sum(0) <= 1).all()
        for k, at in zip(group, place, strict=True):
            assert (nearest[at] == k).all()


@pytest.fixture(scope="module")
def scene(the_front: Front, subject: Any, fits: Any) -> tuple[Scene, Any, np.ndarray, tuple]:
    pixels, detection, _ = subject
    start = fits[0]
    scene = Scene(the_front, view_of(pixels, detection.landmarks68))
    p = len(the_front.shape)
    coefficients = np.zeros(p)
    camera = (start.K, start.R, start.t)
    shot = scene.shot(coefficients, *camera)
    scene.explain(shot, np.ones(len(shot.pixels)))
    return scene, shot, coefficients, camera


def _identities(the_front: Front) -> int:
    return len(the_front.shape) - sum(len(g) for g, _ in the_front.groups)


def test_derivatives_by_shape_agree_with_central_differences(
    scene: Any, the_front: Front, makehuman: MorphableModel
) -> None:
    """One shape after the other, the same movement to both sides: direction and size agree.

    Both are smoothed over a pixel first: samples on a grid make differences of pictures grainy.
    """
    the_scene, shot, _, camera = scene

    def smoothed(columns: np.ndarray) -> np.ndarray:
        image = np.zeros((3, 112 * 112))
        image[:, shot.pixels] = columns
        return gaussian_filter(image.reshape(3, 112, 112), (0, 1, 1)).ravel()

    kr, p = _identities(the_front), len(the_front.shape)
    _, jacobian = the_scene.jacobian(shot, np.full(p, np.inf), kr, [camera] * len(POSE_STEP))
    tie = expression_prior(makehuman, [None]).tie.numpy()
    names = ("browOuterUpLeft", "browDownRight", "eyeBlinkLeft", "noseSneerRight")  # lips open to one side only
    shapes = [kr + int(tie[makehuman.sided.names.index(n)].argmax()) for n in names]
    for k in [1, 2, *shapes]:
        reach = np.linalg.norm(the_front.shape[k][np.unique(shot.corner)], axis=1).max()
        step = 0.06 / reach  # half a pixel
        pictures = [
            the_scene._pictures(shot, (shot.vertices + s * step * the_front.shape[k][shot.rows])[None], [shot.camera])[
                0
            ]
            for s in (1, -1)
        ]
        central = smoothed(((pictures[0] - pictures[1]) / (2 * step))[shot.pixels].T)
        mine = smoothed(jacobian[:, k])
        cosine = central @ mine / np.linalg.norm(central) / np.linalg.norm(mine)
        assert cosine > 0.8, (k, cosine)
        assert np.linalg.norm(mine) == pytest.approx(np.linalg.norm(central), rel=0.35)


def test_derivatives_by_light_and_colour_are_those_of_the_picture(scene: Any) -> None:
    the_scene, shot, *_ = scene
    picture = the_scene.picture(shot)
    columns = the_scene.by_appearance(shot, picture, 1)
    for j in (0, 3, 9, 12):
        kept = the_scene.light.copy(), the_scene.colour.copy()
        step = 0.01
        if j < 9:
            the_scene.light[j, 1] += step
        else:
            the_scene.colour[j - 9, 1] += step
        found = (the_scene.picture(shot) - picture)[shot.pixels, 1] / step
        the_scene.light, the_scene.colour = kept
        assert np.corrcoef(found, columns[:, j])[0, 1] > 0.9
        assert np.linalg.norm(columns[:, j]) == pytest.approx(np.linalg.norm(found), rel=0.1)


def test_light_and_colours_are_eliminated(scene: Any, the_front: Front) -> None:
    """The reduced equations give the same step as the joint ones, solved in full."""
    the_scene, shot, _, camera = scene
    kr, p = _identities(the_front), len(the_front.shape)
    picture, jacobian = the_scene.jacobian(shot, np.full(p, np.inf), kr, [camera] * len(POSE_STEP))
    keep = [0, kr + 1, kr + 5, kr + 9, kr + 12]
    few = np.ascontiguousarray(jacobian[:, keep])
    weight, precision = np.linspace(0.5, 1, len(shot.pixels)), 20.0
    matrix, gradient = the_scene.normal_equations(shot, picture, few, weight, precision)
    m = the_front.paint.shape[1] + 9
    joint, right = np.zeros((5 + 3 * m, 5 + 3 * m)), np.zeros(5 + 3 * m)
    residual = (picture - the_scene.target)[shot.pixels]
    from morphsym.fitting.scene import LIGHT_MEAN, LIGHT_SIGMA, PRECISION

    for c in range(3):
        own = the_scene.by_appearance(shot, picture, c)
        a = np.zeros((len(own), 5 + 3 * m))
        a[:, :5], a[:, 5 + c * m : 5 + (c + 1) * m] = few[c].T, own
        joint += a.T @ (a * (weight * precision)[:, None])
        right += a.T @ (residual[:, c] * weight * precision)
        prior = np.concatenate([LIGHT_SIGMA**-2, the_scene._colour_precision(c)]) * precision / PRECISION
        off = np.concatenate([the_scene.light[:, c] - LIGHT_MEAN, the_scene.colour[:, c] - the_front.colour[:, c]])
        at = slice(5 + c * m, 5 + (c + 1) * m)
        joint[at, at] += np.diag(prior)
        right[at] += prior * off
    assert np.linalg.solve(matrix.numpy(), gradient.numpy()) == pytest.approx(
        np.linalg.solve(joint, right)[:5], rel=2e-3
    )


def test_robust_loss_and_its_weight() -> None:
    residual = np.random.default_rng(0).normal(size=(7, 3)) * 0.1
    residual[0] = 100.0
    loss, weight = robust(residual, 0.05)
    assert loss[0] == pytest.approx(evidence.ROBUST**2, rel=1e-3)
    assert weight[0] < 1e-6
    grown = 1 + 1e-6
    slope = (robust(residual * grown, 0.05)[0] - loss) / 1e-6
    assert slope[1:] == pytest.approx(2 * (weight * (residual**2).sum(1) / (3 * 0.05**2))[1:], rel=1e-3)


def test_errors_in_patches_count_as_few(scene: Any) -> None:
    the_scene, shot, *_ = scene
    picture = the_scene.picture(shot)
    kept = the_scene.target.copy()
    rng = np.random.default_rng(1)
    patches = np.kron(rng.normal(size=(14, 14)), np.ones((8, 8))).reshape(-1, 1)
    together = []
    for error in (rng.normal(size=(112 * 112, 1)), patches):
        the_scene.target = picture + np.float32(0.05) * error
        together.append(spread_of(the_scene, shot)[1])
    the_scene.target = kept
    assert together[0] == evidence.LEAST_TOGETHER
    assert 30 < together[1] < 100  # 64 pixels a patch


def test_what_is_left_is_what_neighbours_share(scene: Any) -> None:
    the_scene, shot, *_ = scene
    picture, kept = the_scene.picture(shot), the_scene.target.copy()
    rng = np.random.default_rng(1)
    patches = np.kron(rng.normal(size=(14, 14)), np.ones((8, 8))).reshape(-1, 1)
    left = []
    for error in (rng.normal(size=(112 * 112, 3)), patches):
        the_scene.target = picture + np.float32(0.05) * error
        left.append(misfit(the_scene, shot))
    the_scene.target = kept
    whole = 0.05 * np.sqrt(2 / np.pi)  # mean absolute value of a Gaussian
    assert left[0] < 0.4 * whole
    assert left[1] > 0.7 * whole


def test_the_mirror_is_its_own_inverse(makehuman: MorphableModel, subject: Any) -> None:
    """A problem, a state and a view come back, and a mirrored face fits its mirrored landmarks as well."""
    basis = landmark_basis(makehuman, True)
    prior = expression_prior(makehuman, [{"mouthSmileLeft": 0.6, "eyeBlinkRight": 0.4}])
    size = torch.tensor([[SIZE, SIZE]], dtype=torch.float64)
    marks = torch.from_numpy(subject[1].landmarks68)[None]
    sigma = 0.2 + 0.1 * torch.rand(1, 68, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = solver.Problem(marks, sigma, size, torch.full((1,), torch.nan, dtype=torch.float64), prior)
    the_mirror = mirror_of(makehuman, basis, prior.tie)
    assert the_mirror is not None
    there = the_mirror.problem(problem)
    assert np.array_equal(there.pixels[0].numpy(), marks[0].numpy()[MIRROR_68] * [-1, 1] + [SIZE, 0])
    back = the_mirror.problem(there)
    assert torch.equal(back.prior.mean, prior.mean)
    assert torch.equal(back.prior.precision, prior.precision)
    assert torch.allclose(back.pixels, marks)
    here, mirrored = solver.solve(basis, problem), solver.solve(basis, there)
    assert torch.allclose(the_mirror.solution(mirrored).variables, here.variables, atol=2e-3)
    assert float(mirrored.energy) == pytest.approx(float(here.energy), rel=1e-3)
    view = view_of(subject[0], subject[1].landmarks68)
    again = view_of(np.ascontiguousarray(subject[0][:, ::-1]), there.pixels[0].numpy())
    ours = mirrored_view(view, SIZE)
    assert np.allclose(again.crop, ours.crop, atol=1e-6)
    assert np.abs(again.pixels - ours.pixels).max() < 1e-6


def test_a_model_without_mirrored_people_is_looked_at_once(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, True)
    turn, _ = makehuman.identity_mirror
    other = SimpleNamespace(identity_mirror=(turn, 0.2), sided=makehuman.sided)
    assert mirror_of(other, basis, expression_prior(makehuman, [None]).tie) is None  # type: ignore[arg-type]


def test_view_maps_pixels(subject: Any) -> None:
    pixels, detection, _ = subject
    view = view_of(pixels, detection.landmarks68)
    assert view.pixels.shape == (112, 112, 3)
    marks = np.c_[detection.landmarks68, np.ones(68)] @ view.crop.T
    assert marks[:, :2].min() > 0
    assert marks[:, :2].max() < 112
    x, y = 60, 50  # a pixel of the view lies where the crop says
    there = np.linalg.inv(view.crop) @ [x + 0.5, y + 0.5, 1]
    assert np.abs(view.pixels[y, x] * 255 - pixels[int(there[1]), int(there[0])]).max() < 20
    half = view.halved()
    assert half.pixels.shape == (56, 56, 3)
    assert np.allclose(half.crop[:2], view.crop[:2] / 2)


# -- what it gains -----------------------------------------------------------------------------------------------------
def test_pixels_correct_the_landmarks(fits: Any, subject: Any, makehuman: MorphableModel) -> None:
    start, refined = fits
    assert refined.refined is True
    assert start.refined is None
    assert refined.pixel_error < 0.7 * refined.pixel_error_start
    truth = subject[2]
    for movement in ("browOuterUp", "mouthSmile"):
        true = difference(makehuman, truth, movement)
        before, after = (abs(difference(makehuman, f.expression, movement) - true) for f in fits)
        assert after < max(0.6 * before, 0.15), movement
    # on the mesh, since shapes overlap: a raised outer brow that is shared with the inner one is off in both coefficients
    basis = makehuman.sided.basis.numpy()[:, skin_vertices(makehuman)]
    before, after = (np.linalg.norm(np.tensordot(f.expression - truth, basis, 1), axis=1).mean() for f in fits)
    assert after < before, (before, after)


def test_an_occluded_patch_is_not_explained_by_the_face(fits: Any, subject: Any, makehuman: MorphableModel) -> None:
    """A hand-sized patch on the subject's right cheek and eye: the brows are read no worse than from the landmarks."""
    pixels, detection, _ = subject
    covered = pixels.copy()
    x, y = detection.landmarks68[41].round().astype(int)
    covered[y - 12 : y + 45, x - 40 : x + 12] = (40, 160, 60)
    found = fit(covered, makehuman, landmarks=detection, refine=True)[0]
    assert found.ok
    true = difference(makehuman, subject[2], "browOuterUp")
    off = [abs(difference(makehuman, f.expression, "browOuterUp") - true) for f in (fits[0], found)]
    assert off[1] < off[0] + 0.05
    assert np.linalg.norm(found.identity - fits[0].identity) < np.sqrt(len(found.identity)) / 2
    assert found.nme < fits[0].nme + refinement.WORSE[1]


def test_the_mirrored_photo_gives_the_mirrored_face(fits: Any, subject: Any, makehuman: MorphableModel) -> None:
    pixels, detection, _ = subject
    marks = detection.landmarks68[MIRROR_68] * [-1, 1] + [SIZE, 0]
    box = np.concatenate([marks.min(0), marks.max(0)])
    mirrored = Detection(marks, box, 1.0, "test", kind="mediapipe")
    found = fit(np.ascontiguousarray(pixels[:, ::-1]), makehuman, landmarks=mirrored, refine=True)[0]
    off = np.abs(makehuman.mirror_expression(found.expression) - fits[1].expression)
    assert off.max() < 1e-3
    assert found.pixel_error == pytest.approx(fits[1].pixel_error, rel=1e-3)
    assert np.abs(makehuman.mirror_identity(found.identity) - fits[1].identity).max() < 0.01


# -- never worse -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["noise", "upside down"])
def test_pictures_of_something_else_change_nothing_for_the_worse(
    kind: str, fits: Any, subject: Any, makehuman: MorphableModel
) -> None:
    pixels, detection, _ = subject
    other = {
        "noise": np.random.default_rng(3).integers(0, 256, pixels.shape, dtype=np.uint8),
        "upside down": np.ascontiguousarray(pixels[::-1]),
    }[kind]
    found = fit(other, makehuman, landmarks=detection, refine=True)[0]
    assert found.ok
    assert found.refined is not None
    assert found.nme <= max(refinement.WORSE[0] * fits[0].nme, refinement.WORSE[1] + fits[0].nme)
    if found.refined:
        assert found.pixel_error <= found.pixel_error_start
        assert np.linalg.norm(found.identity) < 2 * np.sqrt(len(found.identity))
    else:
        assert "not refined: " in found.note
        assert np.array_equal(found.expression, fits[0].expression)


def test_a_picture_that_the_model_cannot_make_says_little_of_the_expression(
    fits: Any, subject: Any, makehuman: MorphableModel
) -> None:
    """The same portrait in blotches of paint, smooth and strong: the pixels' own expression is far from the landmarks'."""
    pixels, detection, _ = subject
    blotches = gaussian_filter(np.random.default_rng(7).normal(size=pixels.shape), (3, 3, 0))
    painted = np.uint8(np.clip(pixels + 15 * blotches / blotches.std(), 0, 255))
    found = fit(painted, makehuman, landmarks=detection, refine=True)[0]
    believed, evidence.MADE = evidence.MADE, 1.0  # as if the model could make anything
    try:
        trusting = fit(painted, makehuman, landmarks=detection, refine=True)[0]
    finally:
        evidence.MADE = believed
    start = fit(painted, makehuman, landmarks=detection)[0]
    moved = [np.abs(f.expression - start.expression).max() for f in (found, trusting)]
    assert found.refined is True
    assert found.pixel_error < found.pixel_error_start
    assert moved[0] < 0.2
    assert moved[1] > 2 * moved[0]


def test_a_small_face_is_left_alone(makehuman: MorphableModel, subject: Any) -> None:
    pixels, detection, _ = subject
    small = np.asarray(Image.fromarray(pixels).resize((60, 60)))
    marks = detection.landmarks68 * 60 / SIZE
    box = np.concatenate([marks.min(0), marks.max(0)])
    the_view = view_of(small, marks)
    assert len(the_view.pixels) < refinement.SMALLEST
    found = fit(small, makehuman, landmarks=Detection(marks, box, 1.0, "test", kind="mediapipe"), refine=True)[0]
    if found.ok:  # the landmark fit itself may refuse it
        assert found.refined is False
        assert "too small to refine" in found.note
    else:
        assert found.reason


def test_a_failure_inside_is_a_note(makehuman: MorphableModel, subject: Any, fits: Any, monkeypatch: Any) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(Scene, "normal_equations", fail)
    found = fit(subject[0], makehuman, landmarks=subject[1], refine=True)[0]
    assert found.ok
    assert found.refined is False
    assert "not refined: the equations could not be solved" in found.note
    assert np.array_equal(found.expression, fits[0].expression)


# -- the ways in -------------------------------------------------------------------------------------------------------
def test_one_person_keeps_one_identity(makehuman: MorphableModel, subject: Any) -> None:
    pixels, detection, _ = subject
    other_pixels, other, _ = portrait(makehuman, {"browDownRight": 0.8, "browDownLeft": 0.8}, -12.0)
    found = fit([pixels, other_pixels], makehuman, landmarks=[detection, other], same_person=True, refine=True)
    assert [f.refined for f in found] == [True, True]
    assert np.array_equal(found[0].identity, found[1].identity)


def test_smoothing_and_refinement_do_not_go_together(makehuman: MorphableModel, subject: Any) -> None:
    with pytest.raises(UsageError, match="smooth and refine"):
        fit(subject[0], makehuman, landmarks=subject[1], refine=True, smooth=0.2)


def test_the_gain_is_in_the_table(fits: Any, tmp_path: Path) -> None:
    import pandas as pd

    from morphsym.fitting import load_fits

    save_fits(tmp_path, fits, overlays=False)
    rows = pd.read_csv(tmp_path / "fits.csv")
    assert rows["refined"].isna().tolist() == [True, False]
    assert rows["pixel_error"][1] == pytest.approx(fits[1].pixel_error, rel=1e-4)
    assert rows["pixel_error_start"][1] == pytest.approx(fits[1].pixel_error_start, rel=1e-4)
    back = load_fits(tmp_path)
    assert back[1].refined is True
    assert back[1].pixel_error == pytest.approx(fits[1].pixel_error)
    assert back[0].pixel_error is None


def test_halving_an_odd_view_is_not_asked_for() -> None:
    for side in (40.0, 57.3, 200.0):
        marks = np.stack([np.linspace(10, 10 + side, 68), np.linspace(10, 10 + side, 68)], 1)
        view: View = view_of(np.zeros((300, 300, 3), np.uint8), marks)
        assert len(view.pixels) % 4 == 0
