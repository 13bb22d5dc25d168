"""What an edit changes outside its reach: nothing, and the measure finds it when it is otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from morphsym.experiment.stages import intervene, render_plan
from morphsym.experiment.units import sampled_units
from morphsym.faces import MorphableModel, load_model
from morphsym.intervention import Design
from morphsym.rendering import default_lights, leakage, portrait_camera, render
from morphsym.types import Unit


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load_model("makehuman")


@pytest.fixture(scope="module")
def unit(model: MorphableModel) -> Unit:
    return next(iter(sampled_units(model, 1, ("happiness",), size=128)))


def test_every_rendered_condition_has_a_leak_and_it_is_nothing(model: MorphableModel, unit: Unit) -> None:
    plan = next(intervene([unit], model, Design(strengths=(0.5, 1.0))))
    rendered = render_plan(model, plan, "numba")
    assert rendered.rendered.all()
    assert np.isfinite(rendered.leak).all()
    assert rendered.leak.max() < 1e-4  # the last bits of the vertices
    halves = render_plan(model, plan, "numba", batch=3)
    assert torch.equal(halves.images, rendered.images)
    np.testing.assert_array_equal(halves.leak, rendered.leak)


def test_a_leak_into_the_other_half_fails_the_condition(model: MorphableModel, unit: Unit) -> None:
    """A wrong edit: the mirror image of the weakened coefficients, so the other side moves."""
    plan = next(intervene([unit], model, Design(strengths=(1.0,), sides=("left",))))
    wrong = [i for i, c in enumerate(plan.conditions) if c.arm == "unilateral"]
    plan.coefficients[wrong] = model.mirror_expression(plan.coefficients[wrong])
    rendered = render_plan(model, plan, "numba")
    assert not rendered.rendered[wrong].any()
    assert all("outside its reach" in rendered.reasons[i] for i in wrong)
    assert (rendered.leak[wrong] > leakage.LARGEST).all()
    ok = [i for i, c in enumerate(plan.conditions) if c.arm in ("baseline", "matched")]
    assert rendered.rendered[ok].all()


def test_a_single_changed_pixel_is_found(model: MorphableModel) -> None:
    vertices = forward_neutral(model)
    camera = portrait_camera(96, fov=15)
    image, _ = render(
        vertices[None], torch.as_tensor(model.faces), torch.as_tensor(model.albedo), camera, default_lights()
    )
    changed = image[0].clone()
    changed[1, 50, 20] += 0.25  # the subject's right cheek is on the left of the picture

    def found(side: str) -> float:
        return float(leakage.measure([changed], [vertices], [side], image[0], vertices, model, camera)[0])

    assert found("left") == pytest.approx(0.25)
    assert found("right") == 0.0
    assert found("none") == pytest.approx(0.25)
    changed[1, 50, 20] = float("nan")
    assert found("left") == 1.0


def forward_neutral(model: MorphableModel) -> Tensor:
    return model.forward(torch.zeros(1, model.n_identity), torch.zeros(1, len(model.sided)))[0]
