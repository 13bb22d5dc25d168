"""The solver against finite differences, against autograd, and from every direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym.faces import MorphableModel
from morphsym.fitting import energy, solver, threads
from morphsym.fitting.basis import LandmarkBasis, landmark_basis
from morphsym.fitting.priors import ExpressionPrior, expression_prior
from morphsym.fitting.quality import sigma68
from morphsym.rendering.cameras import euler_to_rotation, rotation_to_euler

from .conftest import MIRROR_68

SIZE = 512.0


def made_up(
    model: MorphableModel, basis: LandmarkBasis, prior: ExpressionPrior, angles: np.ndarray, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Exact landmarks (B, 68, 2) of people with the given yaw, pitch, roll (B, 3); variables and rotations."""
    rng = np.random.default_rng(seed)
    n = len(angles)
    identity = torch.from_numpy(rng.normal(size=(n, basis.identity.shape[-1])) * 0.7)
    variables = torch.from_numpy(
        rng.uniform(0, 0.7, (n, prior.tie.shape[1])) * (rng.random((n, prior.tie.shape[1])) < 0.1)
    )
    expression = variables @ prior.tie.T
    points = basis.mean + torch.einsum("ncr,br->bnc", basis.identity, identity)
    points = points + torch.einsum("ncr,br->bnc", basis.expression, expression)
    R = euler_to_rotation(*angles.T)
    t = torch.from_numpy(np.stack([rng.uniform(-8, 8, n), rng.uniform(-8, 8, n), rng.uniform(55, 160, n)], axis=-1))
    seen = points @ R.transpose(1, 2) + t[:, None]
    focal = torch.from_numpy(rng.uniform(500, 1100, n))
    return focal[:, None, None] * seen[..., :2] / seen[..., 2:] + SIZE / 2, variables, R


def problem(pixels: torch.Tensor, prior: ExpressionPrior, slide: bool = False) -> solver.Problem:
    n = len(pixels)
    return solver.Problem(
        pixels=pixels,
        sigma=torch.from_numpy(sigma68()).expand(n, -1).clone(),
        size=torch.full((n, 2), SIZE, dtype=torch.float64),
        focal=torch.full((n,), torch.nan, dtype=torch.float64),
        prior=prior,
        slide=slide,
    )


def angle_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    trace = torch.einsum("bij,bij->b", a, b)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def pieces(
    basis: LandmarkBasis, prior: ExpressionPrior, pixels: torch.Tensor, seed: int = 0, slide: bool = False
) -> tuple[energy.JoinedBasis, energy.Data, solver.State]:
    """The solver's own records at a random state near the answer."""
    rng = np.random.default_rng(seed)
    n = len(pixels)
    joined = solver.join(basis, prior)
    state, _, data = solver.prepare(joined, problem(pixels, prior, slide))
    move = torch.from_numpy(rng.normal(size=(n, joined.shape.shape[-1] + 7)) * 0.03)
    wide = torch.full((joined.shape.shape[-1],), torch.inf).double()
    return joined, data, solver.step(state, move, -wide, wide)


@pytest.mark.parametrize("slide", [False, True])
def test_jacobian_equals_finite_differences(makehuman: MorphableModel, slide: bool) -> None:
    basis = landmark_basis(makehuman, mediapipe=not slide)
    prior = expression_prior(makehuman, [None, None])
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[20.0, 5, 10], [-35, -10, 60]]), 1)
    joined, data, state = pieces(basis, prior, pixels, slide=slide)
    _, _, seen, shape = solver.project(joined, data, state)
    analytic = energy.jacobian(joined, state, seen, shape)
    wide = torch.full((joined.shape.shape[-1],), torch.inf).double()
    fixed = np.setdiff1d(np.arange(68), basis.sliding) if slide else np.arange(68)
    h = 1e-6
    for k in range(analytic.shape[-1]):
        step = torch.zeros(2, analytic.shape[-1]).double()
        step[:, k] = h
        up = solver.project(joined, data, solver.step(state, step, -wide, wide))[0]
        down = solver.project(joined, data, solver.step(state, -step, -wide, wide))[0]
        numeric = (up - down) / (2 * h)
        # A sliding landmark's place counts as fixed in the Jacobian, which the pose columns would notice.
        rows = fixed if k >= joined.shape.shape[-1] else np.arange(68)
        assert torch.allclose(analytic[:, rows, :, k], numeric[:, rows], atol=2e-6, rtol=1e-6), k


def test_gradient_equals_autograd(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    prior = expression_prior(makehuman, [{"mouthSmileLeft": 0.6, "jawOpen": 0.2}])
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[20.0, 5, 10]]), 2)
    joined, data, state = pieces(basis, prior, pixels)
    value_there, half_gradient, _ = solver.normal_equations(joined, data, state, pose_only=False)
    move = torch.zeros(1, half_gradient.shape[-1], dtype=torch.float64, requires_grad=True)
    wide = torch.full((joined.shape.shape[-1],), torch.inf).double()
    moved = solver.step(state, move, -wide, wide)
    value = solver.energy(data, solver.project(joined, data, moved)[0], moved).sum()
    assert value.item() == pytest.approx(value_there.item(), rel=1e-12)
    # Reweighting is exact at the point where the weights were taken: ρ'(s) is the weight.
    assert torch.allclose(torch.autograd.grad(value, move)[0], 2 * half_gradient, rtol=1e-6, atol=1e-6)


def test_converges_from_any_direction(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    rolls = np.arange(-180, 180, 30.0)
    angles = np.array([(yaw, pitch, roll) for yaw in (-60, -30, 0, 30, 60) for pitch in (-15, 15) for roll in rolls])
    prior = expression_prior(makehuman, [None] * len(angles))
    pixels, _, R = made_up(makehuman, basis, prior, angles, 3)
    found = solver.solve(basis, problem(pixels, prior))
    assert bool(found.converged.all())
    error = (found.projected - pixels).norm(dim=-1).mean(-1)
    size = (pixels.amax(1) - pixels.amin(1)).amax(-1)
    assert (error / size).max() < 0.01
    assert angle_between(found.R, R).median() < 3
    assert angle_between(found.R, R).max() < 12
    yaw = rotation_to_euler(found.R)[0].numpy()
    assert (np.sign(yaw[np.abs(angles[:, 0]) > 1]) == np.sign(angles[np.abs(angles[:, 0]) > 1, 0])).all()


def test_stays_in_the_box_and_is_stationary_inside(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    scores = [{"mouthSmileLeft": 1.0, "mouthSmileRight": 0.0, "jawOpen": 0.9}, None]
    prior = expression_prior(makehuman, scores)
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[10.0, 0, 0], [-10, 5, 20]]), 4)
    found = solver.solve(basis, problem(pixels, prior), iterations=200, tolerance=1e-12)
    assert (found.variables >= prior.low - 1e-12).all()
    assert (found.variables <= prior.high + 1e-12).all()
    joined = solver.join(basis, prior)
    _, scale, data = solver.prepare(joined, problem(pixels, prior))
    camera = torch.cat(
        [found.t[:, :2] / found.t[:, 2:], found.t[:, 2:].log(), (found.focal / scale).log()[:, None]], -1
    )
    state = solver.State(found.identity, found.variables, found.R, camera)
    value, gradient, hessian = solver.normal_equations(joined, data, state, pose_only=False)
    assert torch.allclose(value, found.energy, rtol=1e-9)
    kr = joined.identities
    g = gradient[:, kr : kr + prior.tie.shape[1]]
    inside = (found.variables > prior.low + 1e-9) & (found.variables < prior.high - 1e-9)
    scaled = gradient / hessian.diagonal(dim1=1, dim2=2).sqrt()
    assert scaled[:, :kr].abs().max() < 1e-2
    assert (scaled[:, kr : kr + g.shape[1]] * inside).abs().max() < 1e-2
    assert (g[found.variables <= prior.low + 1e-9] >= -1e-3).all()  # the box holds what wants out
    assert (g[found.variables >= prior.high - 1e-9] <= 1e-3).all()


def test_mirrored_landmarks_give_mirrored_coefficients(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    scores = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.2, "eyeBlinkRight": 0.5}
    swapped = {"mouthSmileRight": 0.8, "mouthSmileLeft": 0.2, "eyeBlinkLeft": 0.5}
    prior = expression_prior(makehuman, [scores, swapped])
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[25.0, 5, -12]]), 5)
    pixels = pixels + torch.from_numpy(np.random.default_rng(6).normal(size=pixels.shape))
    mirrored = pixels[:, MIRROR_68] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIZE, 0.0])
    found = solver.solve(basis, problem(torch.cat([pixels, mirrored]), prior), iterations=100, tolerance=1e-9)
    expression = (found.variables @ prior.tie.T).numpy()
    assert np.abs(expression[0]).max() > 0.3
    assert np.abs(makehuman.mirror_expression(expression[0]) - expression[1]).max() < 0.05


def test_one_wild_landmark_hardly_matters(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    prior = expression_prior(makehuman, [None])
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[5.0, 0, 0]]), 7)
    clean = solver.solve(basis, problem(pixels, prior))
    wild = pixels.clone()
    wild[0, 54, 0] += 60
    robust = solver.solve(basis, problem(wild, prior))
    assert robust.weight[0, 54] < 0.05
    assert (robust.variables - clean.variables).abs().max() < 0.12


def test_known_focal_length_is_kept(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    prior = expression_prior(makehuman, [None])
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[5.0, 0, 0]]), 8)
    given = problem(pixels, prior)
    known = solver.Problem(given.pixels, given.sigma, given.size, torch.tensor([1500.0]).double(), prior, False)
    assert solver.solve(basis, known).focal.item() == pytest.approx(1500, rel=0.05)


def test_contour_slides_towards_the_camera_on_the_far_side_only(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=False)
    prior = expression_prior(makehuman, [None])
    pixels, *_ = made_up(makehuman, basis, prior, np.array([[40.0, 0, 0]]), 9)
    joined, data, state = pieces(basis, prior, pixels, slide=True)
    R = euler_to_rotation(40.0, 0.0, 0.0)
    state = solver.State(
        state.identity * 0, state.variables * 0, R, torch.tensor([[0, 0, np.log(100.0), np.log(100.0)]])
    )
    points, _ = energy._points(joined, data, state)
    moved = (points[0] - basis.mean).norm(dim=-1).numpy()
    # Yaw +40: the subject's left cheek (landmarks 11 to 16) turns away from the camera.
    assert moved[12:16].max() > 0.5
    assert moved[1:5].max() < 0.5
    assert np.delete(moved, basis.sliding).max() == 0


def test_unsided_jaw_halves_are_one_unknown(makehuman: MorphableModel) -> None:
    prior = expression_prior(makehuman, [None])
    names = list(makehuman.sided.names)
    tie = prior.tie.numpy()
    for shape in ("jawOpen", "jawLeft"):
        assert np.array_equal(tie[names.index(f"{shape}.left")], tie[names.index(f"{shape}.right")])
    pucker = [tie[names.index(f"mouthPucker.{s}")] for s in ("left", "right")]
    assert not np.array_equal(*pucker)
    a, b = (int(p.argmax()) for p in pucker)
    assert prior.precision[0, a, b] < 0  # pulled together


def test_a_face_is_solved_the_same_whoever_is_solved_beside_it(makehuman: MorphableModel) -> None:
    """Also where its neighbours' steps keep running into the box: theirs is then cut short, and nobody else's."""
    basis = landmark_basis(makehuman, mediapipe=True)
    angles = np.random.default_rng(7).uniform(-30, 30, (24, 3))
    prior = expression_prior(makehuman, [None] * len(angles))
    pixels, *_ = made_up(makehuman, basis, prior, angles, 7)
    together = solver.solve(basis, problem(pixels, prior))
    assert bool(together.converged.all())
    for i in range(len(angles)):
        one = expression_prior(makehuman, [None])
        alone = solver.solve(basis, problem(pixels[i : i + 1], one))
        assert alone.iterations[0] == together.iterations[i]
        assert torch.allclose(alone.variables[0], together.variables[i], atol=1e-8)


def test_the_number_of_threads_changes_no_bit(makehuman: MorphableModel) -> None:
    basis = landmark_basis(makehuman, mediapipe=True)
    angles = np.random.default_rng(8).uniform(-30, 30, (40, 3))
    prior = expression_prior(makehuman, [None] * len(angles))
    pixels, *_ = made_up(makehuman, basis, prior, angles, 8)
    before = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(solver.solve(basis, problem(pixels, prior)))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for name, value in vars(found[0]).items():
            assert torch.equal(value, getattr(other, name)), name


def test_work_in_threads_keeps_order_and_raises() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with threads.one_each() as allowed:
            assert allowed == 3
            assert torch.get_num_threads() == 1
            assert threads.in_threads(lambda i: (i, torch.get_num_threads()), range(7)) == [(i, 1) for i in range(7)]
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            threads.in_threads(lambda i: 1 // i, [2, 1, 0])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
