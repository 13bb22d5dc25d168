"""Pose, camera, light, background and skin: seeded, and the same bytes in all arms of a unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym import faces, rendering
from morphsym.experiment import stages
from morphsym.experiment.units import sampled_units
from morphsym.intervention import Design, unit_conditions

ARMS = ("baseline", "null", "unilateral", "matched", "mirrored_baseline", "mirrored_unilateral")
DESIGN = Design(sides=("left", "right", "both"), strengths=(0.5, 1.0), arms=ARMS)


@pytest.fixture(scope="module")
def model():
    return faces.load_model("makehuman")


def scene(unit):
    """Everything of a unit that is not the face's shape, as bytes by name."""
    c, x = unit.camera, unit.lights
    tensors = {"K": c.K, "R": c.R, "t": c.t, "ambient": x.ambient, "direction": x.direction}
    tensors |= {"intensity": x.intensity, "specular": x.specular, "background": torch.tensor(unit.background)}
    tensors |= {k: getattr(x, k) for k in ("sh", "position", "power") if getattr(x, k) is not None}
    tensors |= {"albedo": torch.as_tensor(unit.albedo), "landmarks": torch.as_tensor(unit.landmarks)}
    return {k: v.numpy().tobytes() for k, v in tensors.items()}


def test_all_arms_of_a_unit_are_drawn_with_the_units_own_scene(model, monkeypatch):
    """What reaches the renderer, in every call and for every arm, are the unit's camera, light, skin and background."""
    seen, draw = [], rendering.render

    def record(vertices, triangles, albedo, camera, lights, background, **more):
        assert len(camera) == len(lights) == 1, "one scene for the whole batch"
        assert background.shape == (3,)
        assert albedo.ndim == 2
        values = (camera.K, camera.R, camera.t, lights.ambient, lights.direction, lights.intensity, lights.specular)
        seen.append((len(vertices), [x.clone() for x in (*values, albedo, background)]))
        return draw(vertices, triangles, albedo, camera, lights, background, **more)

    unit = next(sampled_units(model, 1, ["happiness"], seed=4, size=64))
    monkeypatch.setattr(rendering, "render", record)
    rendered = stages.render_plan(model, unit_conditions(model, unit, DESIGN), "numba")
    assert rendered.rendered.all()
    c, x = unit.camera, unit.lights
    assert x is not None
    own = (c.K, c.R, c.t, x.ambient, x.direction, x.intensity, x.specular)
    assert sum(n for n, _ in seen) == (~np.asarray(rendered.plan.mirrored)).sum() >= 10  # mirrored ones are flipped
    for _, values in seen:
        for mine, used in zip((*own, torch.as_tensor(unit.albedo), torch.tensor(unit.background)), values, strict=True):
            assert torch.equal(mine, used)


def test_the_background_of_all_arms_is_the_same_bytes(model):
    unit = next(sampled_units(model, 1, ["surprise"], seed=4, size=96))
    rendered = stages.render_plan(model, unit_conditions(model, unit, DESIGN), "numba")
    arms = {c.condition: k for k, c in enumerate(rendered.plan.conditions)}
    baseline = rendered.images[next(k for n, k in arms.items() if "/baseline/" in n)]
    null = rendered.images[next(k for n, k in arms.items() if "/null/" in n)]
    assert torch.equal(baseline, null)
    behind = torch.tensor(unit.background)[:, None, None]
    empty = (baseline == behind).all(0)
    assert 0.2 < empty.float().mean() < 0.9
    differ = 0
    for c, image in zip(rendered.plan.conditions, rendered.images, strict=True):
        upright = image.flip(-1) if c.arm.startswith("mirrored") else image
        outline = (upright != behind).any(0) & empty  # the edited face's own outline may move into it, nothing else
        assert outline.float().mean() < 0.02, c.condition
        differ += int(not torch.equal(upright, baseline))
    assert differ >= 12


def test_people_differ_and_seeds_repeat(model):
    one = list(sampled_units(model, 3, ["fear", "anger"], seed=8, size=64))
    again = list(sampled_units(model, 3, ["anger"], seed=8, size=64))
    other = next(sampled_units(model, 1, ["anger"], seed=9, size=64))
    scenes = [scene(u) for u in one]
    assert scenes[0] == scenes[1] == scene(again[0])  # another emotion, another list of emotions: the same scene
    assert scenes[2] == scene(again[1])
    for key in ("R", "direction", "ambient", "background", "albedo"):
        assert scenes[0][key] != scenes[2][key], key
        assert scenes[0][key] != scene(other)[key], key
    poses = [(u.attributes["yaw"], u.attributes["pitch"], u.attributes["roll"]) for u in one[::2]]
    assert len(set(poses)) == 3
    assert np.abs(poses).max() <= 12
