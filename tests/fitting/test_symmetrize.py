"""``--symmetrize`` through the experiment: the factual arm is symmetric, ``original`` and ``null`` stay what the photo shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from morphsym import resources
from morphsym.experiment.stages import render_plan
from morphsym.experiment.units import FailedUnit, photo_unit
from morphsym.faces import MorphableModel
from morphsym.fitting import fit
from morphsym.intervention import Design, edit
from morphsym.intervention.arms import unit_conditions


def test_the_factual_arm_is_symmetric_and_the_photo_stays(
    makehuman: MorphableModel, astronaut: np.ndarray, tmp_path: Path
) -> None:
    # A photo of a smile that is weak on the subject's left, made from the sample.
    photo = tmp_path / "patient.png"
    Image.fromarray(astronaut).save(photo)
    (found,) = fit(photo, makehuman, landmarks=resources.asset("sample/astronaut.json"), symmetrize=True)
    partner = makehuman.sided.partner
    unit = photo_unit(found, makehuman, 160)
    assert not isinstance(unit, FailedUnit), unit.reason
    plan = unit_conditions(makehuman, unit, Design(sides=("left",), strengths=(0.5,)))
    arm = {c.arm: i for i, c in enumerate(plan.conditions)}
    assert np.array_equal(plan.coefficients[arm["baseline"]], found.expression)
    assert np.array_equal(found.expression, found.expression[partner])
    for name in ("original", "null"):
        assert np.array_equal(plan.coefficients[arm[name]], found.expression_fitted), name
        assert plan.realised.asymmetry[arm[name]] == pytest.approx(found.measures["realised_asymmetry_mm"], rel=1e-5)
    assert plan.realised.asymmetry[arm["baseline"]] < 1e-4  # ‘symmetric’ on the mesh, too
    weak = edit(makehuman.sided, found.expression, "left", 0.5)
    assert np.allclose(plan.coefficients[arm["unilateral"]], weak)
    images = np.asarray(render_plan(makehuman, plan, "auto").images)
    view = images[arm["original"]]
    assert np.array_equal(images[arm["null"]], view)  # rendering alone changes nothing
    moved = np.abs(images[arm["baseline"]] - view)
    assert moved.max() > 0.02  # the symmetric face is another picture
    assert moved.mean() < 0.02  # of the same person
    # Without --symmetrize the baseline is the photo.
    (plain,) = fit(photo, makehuman, landmarks=resources.asset("sample/astronaut.json"))
    same = unit_conditions(makehuman, photo_unit(plain, makehuman, 160), Design(sides=("left",), strengths=(0.5,)))
    assert np.array_equal(same.coefficients[arm["original"]], same.coefficients[arm["baseline"]])
