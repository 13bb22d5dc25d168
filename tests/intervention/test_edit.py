"""Invariants of the edit: zero dose, full dose, mirror, what may not move."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from morphsym import faces
from morphsym.errors import UsageError
from morphsym.intervention import edit, reach
from morphsym.types import SIDES


@pytest.fixture(scope="module")
def model():
    return faces.load_model("makehuman")


def random_expression(model, seed):
    rng = np.random.default_rng(seed)
    basis = model.sided
    c = rng.uniform(0, 0.8, len(basis)) * (rng.uniform(size=len(basis)) < 0.4)
    return np.clip(c, basis.low, basis.high).astype(np.float32)


@given(seed=st.integers(0, 10**6), side=st.sampled_from(SIDES))
@settings(max_examples=20, deadline=None)
def test_strength_zero_gives_the_coefficients_back_bit_for_bit(model, seed, side):
    c = random_expression(model, seed)
    assert edit(model.sided, c, side, 0.0).tobytes() == c.tobytes()


@given(seed=st.integers(0, 10**6), strength=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_left_edit_of_the_mirrored_face_is_the_mirror_of_the_right_edit(model, seed, strength):
    c = random_expression(model, seed)
    there = edit(model.sided, model.mirror_expression(c), "left", strength)
    back = model.mirror_expression(edit(model.sided, c, "right", strength))
    np.testing.assert_array_equal(there, back)


def test_mirror_on_the_mesh(model):
    """The same on vertices, so that it does not hang on the coefficients' own idea of mirroring."""
    c = random_expression(model, 1)
    zero = torch.zeros(1, model.identity_basis.shape[0])

    def mesh(coefficients):
        return model.forward(zero, torch.as_tensor(coefficients)[None])[0].numpy()

    left_of_mirrored = mesh(edit(model.sided, model.mirror_expression(c), "left", 0.7))
    right = mesh(edit(model.sided, c, "right", 0.7))
    flipped = right[np.asarray(model.mirror)] * [-1, 1, 1]
    np.testing.assert_allclose(left_of_mirrored, flipped, atol=2e-3)  # cm; float16 bases


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_untouched_hemiface_does_not_move(model, side):
    """Outside the blend zone, a vertex of the other side is where it was; inside the edited side something moved."""
    c = random_expression(model, 2)
    zero = torch.zeros(1, model.identity_basis.shape[0])
    before = model.forward(zero, torch.as_tensor(c)[None])[0].numpy()
    after = model.forward(zero, torch.as_tensor(edit(model.sided, c, side, 1.0))[None])[0].numpy()
    moved = np.linalg.norm(after - before, axis=1)
    weight = np.asarray(model.hemiface_left) if side == "left" else 1 - np.asarray(model.hemiface_left)
    assert moved[weight == 0].max() < 1e-5
    assert moved[weight == 1].max() > 0.1


def test_only_the_facial_nerve_unless_asked(model):
    basis = model.sided
    c = np.full(len(basis), 0.5, dtype=np.float32)
    edited = edit(basis, c, "left", 1.0)
    for k, name in enumerate(basis.names):
        gone = edited[k] == 0
        assert gone == (basis.side[k] > 0 and basis.nerve[k] == "facial"), name
    assert not any(edited[k] == 0 for k, n in enumerate(basis.names) if n.startswith(("jaw", "eyeLook", "tongue")))
    with_jaw = reach(basis, "left", include=("jaw",))
    assert any(with_jaw[k] for k, n in enumerate(basis.names) if n.startswith("jawOpen"))


def test_a_left_edit_weakens_the_smile_on_the_subjects_left(model):
    """Anatomical left is +X: names, side and geometry must agree."""
    basis = model.sided
    c = np.zeros(len(basis), dtype=np.float32)
    c[basis.names.index("mouthSmileLeft")] = c[basis.names.index("mouthSmileRight")] = 1.0
    edited = edit(basis, c, "left", 1.0)
    assert edited[basis.names.index("mouthSmileLeft")] == 0
    assert edited[basis.names.index("mouthSmileRight")] == 1
    zero = torch.zeros(1, model.identity_basis.shape[0])
    before, after = (model.forward(zero, torch.as_tensor(x)[None])[0].numpy() for x in (c, edited))
    moved = np.linalg.norm(after - before, axis=1)
    assert before[moved.argmax(), 0] > 0.5


def test_direction_names_are_split_not_sided(model):
    names = model.sided.names
    for shape in ("mouthLeft", "mouthRight", "mouthPucker", "mouthFunnel"):
        assert f"{shape}.left" in names
        assert f"{shape}.right" in names
        assert shape not in names


def test_region_keeps_the_rest(model):
    basis = model.sided
    c = np.full(len(basis), 0.5, dtype=np.float32)
    mouth = edit(basis, c, "both", 1.0, region="mouth") == 0
    brow = edit(basis, c, "both", 1.0, region="brow") == 0
    assert mouth.any()
    assert brow.any()
    assert not (mouth & brow).any()
    parts = [edit(basis, c, "both", 1.0, region=r) == 0 for r in ("brow", "eye", "nose", "cheek", "mouth")]
    np.testing.assert_array_equal(np.sum(parts, axis=0), edit(basis, c, "both", 1.0) == 0)


@pytest.mark.parametrize(("side", "strength"), [("up", 0.5), ("left", 1.5), ("left", -0.1), ("left", float("nan"))])
def test_refuses(model, side, strength):
    with pytest.raises(UsageError):
        edit(model.sided, np.zeros(len(model.sided), np.float32), side, strength)


def test_wrong_number_of_coefficients(model):
    with pytest.raises(UsageError, match="sided expression coefficients, got 3"):
        edit(model.sided, np.zeros(3, np.float32), "left", 0.5)
