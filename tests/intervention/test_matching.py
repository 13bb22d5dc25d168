"""The symmetric control has the same total expression as the unilateral weakness, and no asymmetry."""

import numpy as np
import pytest

from morphsym import faces
from morphsym.intervention import (
    MIRROR68,
    Design,
    edit,
    matched_strengths,
    measure,
    reach,
    skin_vertices,
    unit_conditions,
)
from morphsym.types import EMOTIONS, Unit


@pytest.fixture(scope="module")
def model():
    return faces.load_model("makehuman")


def smile(model, emotion="happiness"):
    return faces.emotion_preset(model, emotion)


def displacement(model, c):
    """Total displacement of the skin from rest, straight from the definition."""
    basis = model.sided.basis.numpy()[:, skin_vertices(model)].astype(np.float64)
    return np.linalg.norm(np.einsum("k,kvx->vx", c.astype(np.float64), basis), axis=1).sum()


@pytest.mark.parametrize("emotion", [e for e in EMOTIONS if e not in ("neutral", "contempt")])
@pytest.mark.parametrize("side", ["left", "right"])
def test_same_total_displacement(model, emotion, side):
    c = smile(model, emotion)
    both = reach(model.sided, "both")
    unilateral = np.stack([edit(model.sided, c, side, s) for s in (0.25, 0.5, 1.0)])
    mu = matched_strengths(model, c, both, unilateral)
    assert np.all(np.diff(mu) > 0)
    for u, m in zip(unilateral, mu, strict=True):
        matched = edit(model.sided, c, "both", float(m))
        assert displacement(model, matched) == pytest.approx(displacement(model, u), rel=1e-4)
        assert displacement(model, matched) < displacement(model, c)


def test_symmetric_control_is_symmetric(model):
    c = smile(model)
    realised = measure(model, np.stack([c, edit(model.sided, c, "both", 0.4), edit(model.sided, c, "left", 0.8)]))
    assert realised.asymmetry[0] < 1e-3  # mm
    assert realised.asymmetry[1] < 1e-3
    assert realised.asymmetry[2] > 0.1
    assert realised.left[2] < realised.left[0]
    assert realised.right[2] == pytest.approx(realised.right[0], rel=0.05)


def test_zero_and_rest(model):
    c = smile(model)
    both = reach(model.sided, "both")
    assert matched_strengths(model, c, both, c[None])[0] == 0.0
    rest = np.zeros_like(c)
    assert matched_strengths(model, rest, both, rest[None])[0] == 0.0


@pytest.mark.parametrize("rule", ["mesh", "landmarks", "coefficients"])
def test_rules(model, rule):
    c = np.where([n == "facial" for n in model.sided.nerve], smile(model), 0)  # a dropped jaw stays with both edits
    mu = matched_strengths(model, c, reach(model.sided, "both"), edit(model.sided, c, "left", 1.0)[None], rule)
    assert 0.3 < mu[0] < 0.7  # half the face gone: about half the strength on both


def test_coefficients_rule_is_exact(model):
    c = smile(model)
    both = reach(model.sided, "both")
    u = edit(model.sided, c, "left", 0.6)
    mu = matched_strengths(model, c, both, u[None], "coefficients")[0]
    assert np.abs(edit(model.sided, c, "both", mu)[both]).sum() == pytest.approx(np.abs(u[both]).sum(), rel=1e-5)


def test_landmark_mirror_is_an_involution_that_swaps_the_eyes():
    np.testing.assert_array_equal(MIRROR68[MIRROR68], np.arange(68))
    assert MIRROR68[36] == 45  # outer corners of the right and the left eye
    assert MIRROR68[48] == 54  # mouth corners
    assert MIRROR68[8] == 8
    assert set(MIRROR68[17:22]) == set(range(22, 27))


def test_landmark_mirror_agrees_with_the_mesh(model):
    """An independent check: the mirror image of every landmark of the symmetric mean lies on its partner."""
    import torch

    points = model.landmarks(torch.as_tensor(model.mean)[None])[0].numpy()
    np.testing.assert_allclose(points[MIRROR68], points * [-1, 1, 1], atol=0.05)


def unit(model, c):
    import torch

    from morphsym.types import Cameras

    camera = Cameras(torch.eye(3)[None], torch.eye(3)[None], torch.zeros(1, 3), 8, 8)
    return Unit(
        "u",
        "u",
        "sampled",
        "happiness",
        np.zeros(model.identity_basis.shape[0], np.float32),
        c,
        camera,
        np.zeros((68, 2)),
    )


def test_arms_of_a_unit(model):
    c = smile(model)
    plan = unit_conditions(model, unit(model, c), Design(sides=("left", "right"), strengths=(0.0, 1.0)))
    at = {(x.arm, x.side, x.strength): i for i, x in enumerate(plan.conditions)}
    for arm in ("baseline", "null", "mirrored_baseline"):
        assert plan.coefficients[at[arm, "none", 0.0]].tobytes() == c.tobytes()
    for arm in ("unilateral", "matched"):
        assert plan.coefficients[at[arm, "left", 0.0]].tobytes() == c.tobytes()
    assert (
        plan.realised.asymmetry[at["matched", "left", 1.0]]
        < 1e-3
        < plan.realised.asymmetry[at["unilateral", "left", 1.0]]
    )
    assert plan.realised.intensity[at["matched", "left", 1.0]] == pytest.approx(
        plan.realised.intensity[at["unilateral", "left", 1.0]], rel=1e-3
    )
    assert plan.picture[at["mirrored_unilateral", "left", 1.0]] == at["unilateral", "left", 1.0]
    assert plan.mirrored.sum() == 1 + 2 * 2
    assert not any(plan.reasons)
