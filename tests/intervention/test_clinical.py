"""Clinical patterns: their order, what they reach, what they leave alone, and the droop that is kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym import faces
from morphsym.errors import UsageError
from morphsym.intervention.clinical import (
    add_droop,
    clinical_preset,
    clinical_presets,
    clinical_sources,
    rest_droop,
    strengths,
    weaken_clinically,
)

GRADES = [f"house-brackmann-{i}" for i in range(1, 7)]
BRANCHES = ["temporal", "zygomatic", "buccal", "marginal-mandibular"]


@pytest.fixture(scope="module")
def model():
    return faces.load_model()


def test_every_pattern_has_sources_and_valid_keys(model):
    assert list(clinical_presets()) == GRADES + BRANCHES
    for name in clinical_presets():
        why, sources = clinical_sources(name)
        assert len(why) > 20
        assert sources
        assert all(0 <= v <= 1 for v in clinical_preset(name).values())
        assert strengths(model.sided, name, "left").any() or name == GRADES[0]
        for key in clinical_preset(name):  # every shape that is named exists: a misspelt one would weaken nothing
            assert key in ("all", "brow", "eye", "nose", "cheek", "mouth") or (
                any(n.startswith(key) for n in model.sided.names)
            ), key


def test_grades_rise_for_every_shape(model):
    rows = np.stack([strengths(model.sided, g, "left") for g in GRADES])
    assert (np.diff(rows, axis=0) >= 0).all()
    assert not rows[0].any()
    facial = np.array([n == "facial" for n in model.sided.nerve])
    levator = np.array([n.startswith("eyeWide") for n in model.sided.names])
    np.testing.assert_array_equal(rows[5], (facial & ~levator & (model.sided.side == 1)).astype(float))
    blink = model.sided.names.index("eyeBlinkLeft")
    assert rows[2, blink] == 0, "III: the eye still closes"
    assert rows[3, blink] > 0, "IV: it does not"
    brow = model.sided.names.index("browInnerUp.left")
    assert rows[3, brow] == 1, "IV: no movement of the forehead"


def test_grade_six_is_the_edit_at_strength_one(model):
    from morphsym.intervention import edit

    c = faces.emotion_preset(model, "happiness")  # has no eyeWide, which a grade leaves alone
    for side in ("left", "right", "both"):
        np.testing.assert_array_equal(
            weaken_clinically(model.sided, c, GRADES[5], side), edit(model.sided, c, side, 1.0)
        )
    assert weaken_clinically(model.sided, c, GRADES[4], "left", share=0.0).tobytes() == c.tobytes()
    assert weaken_clinically(model.sided, c, GRADES[0], "left").tobytes() == c.tobytes()


def test_branches_reach_their_own_muscles(model):
    basis = model.sided
    rows = {b: strengths(basis, b, "right") for b in BRANCHES}
    for b, row in rows.items():
        assert not row[basis.side == 1].any(), b
        assert not row[[n != "facial" for n in basis.nerve]].any(), b

    def of(branch, shape):
        return rows[branch][basis.names.index(shape)]

    assert of("temporal", "browOuterUpRight") == 1
    assert of("temporal", "mouthSmileRight") == 0
    assert of("marginal-mandibular", "mouthFrownRight") == 1
    assert of("marginal-mandibular", "browDownRight") == 0
    assert of("zygomatic", "eyeBlinkRight") > of("temporal", "eyeBlinkRight") > 0
    assert of("buccal", "cheekPuff.right") == 1
    # all four branches together take (nearly) everything of the brow raise, the smile and the frown
    total = sum(rows.values())
    for shape in ("browInnerUp.right", "mouthSmileRight", "mouthFrownRight", "browDownRight", "mouthPress" + "Right"):
        assert total[basis.names.index(shape)] >= 0.75, shape
    missing = [
        n for n, s, v, f in zip(basis.names, basis.side, total, basis.nerve) if s == -1 and f == "facial" and v == 0
    ]
    assert missing == ["eyeWideRight"], "the levator, which the facial nerve does not move"


def test_droop_is_apart_and_sags(model):
    """Brow and mouth corner move down by millimetres, the other side stays, and weakness alone has none of it."""
    basis = model.sided
    neutral = np.zeros(len(basis), dtype=np.float32)
    assert not weaken_clinically(basis, neutral, GRADES[5], "left").any()
    identity = torch.zeros(1, model.n_identity)

    def points(c):
        return model.landmarks(model.forward(identity, torch.as_tensor(c)[None]))[0].numpy()

    rest, sagged = points(neutral), points(add_droop(basis, neutral, "left"))
    down = 10 * (rest - sagged)[:, 1]  # mm
    assert 2.0 < down[[22, 23, 24, 25]].mean() < 5.0, "brow"
    assert 3.0 < down[54] < 6.0, "mouth corner"
    assert down[[46, 47]].mean() >= 0.0, "lower lid"
    assert np.abs(sagged - rest)[[17, 18, 19, 36, 41, 48]].max() < 1e-4
    half = points(add_droop(basis, neutral, "left", 0.5))
    np.testing.assert_allclose(rest - half, 0.5 * (rest - sagged), atol=1e-4)
    np.testing.assert_array_equal(
        add_droop(basis, model.mirror_expression(neutral), "right"),
        model.mirror_expression(add_droop(basis, neutral, "left")),
    )
    c = faces.emotion_preset(model, "sadness")
    assert add_droop(basis, c, "left", 0.0).tobytes() == c.tobytes()
    assert (add_droop(basis, c, "both") <= basis.high).all()


def test_errors(model):
    basis = model.sided
    with pytest.raises(UsageError, match="unknown clinical preset 'bell'; known are house-brackmann-1"):
        clinical_preset("bell")
    with pytest.raises(UsageError, match="an ARKit shape without its side; got 'mouthSmileLeft2'"):
        strengths(basis, {"mouthSmileLeft2": 0.5}, "left")
    with pytest.raises(UsageError, match="strength of brow must lie between 0 and 1, got 2"):
        strengths(basis, {"brow": 2.0}, "left")
    with pytest.raises(UsageError, match="side must be one of"):
        strengths(basis, "temporal", "up")
    with pytest.raises(UsageError, match="share must lie"):
        weaken_clinically(basis, np.zeros(len(basis)), "temporal", "left", 1.5)
    with pytest.raises(UsageError, match="expected .* sided expression coefficients, got 3"):
        weaken_clinically(basis, np.zeros(3), "temporal", "left")
    with pytest.raises(UsageError, match="droop must lie"):
        rest_droop(basis, "left", -1)


def test_a_model_without_names_knows_regions_only(model, tmp_path):
    from tests.faces import official

    other = faces.load_model(official.bfm_h5(tmp_path / "model2019.h5", official.source()))
    row = strengths(other.sided, GRADES[3], "left")
    assert set(np.unique(row)) == {0.0, 0.5, 0.6, 1.0}
    with pytest.raises(UsageError, match="needs ARKit's names"):
        strengths(other.sided, "temporal", "left")
    with pytest.raises(UsageError, match="needs ARKit's names"):
        rest_droop(other.sided, "left")
