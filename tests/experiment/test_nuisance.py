"""Pose, camera, light, background and skin: seeded, and the same bytes in all arms of a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from morphsym import faces, rendering
from morphsym.errors import UsageError
from morphsym.experiment import spec, stages
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
    """What reaches the renderer, in every call and for every arm, are the unit's camera, light, skin and background.

    The skin is the unit's own wherever no expression makes a furrow.
    """
    seen, draw = [], rendering.render

    def record(vertices, triangles, albedo, camera, lights, background, **more):
        assert len(camera) == len(lights) == 1, "one scene for the whole batch"
        assert background.shape == (3,)
        assert albedo.shape == (len(vertices), *unit.albedo.shape)
        values = (camera.K, camera.R, camera.t, lights.ambient, lights.direction, lights.intensity, lights.specular)
        smooth = np.setdiff1d(np.arange(model.n_vertices), model.furrows.vertices)
        assert torch.equal(albedo[:, smooth], torch.as_tensor(unit.albedo[smooth]).expand(len(albedo), -1, -1))
        seen.append((len(vertices), [x.clone() for x in (*values, background)]))
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
        for mine, used in zip((*own, torch.tensor(unit.background)), values, strict=True):
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


def test_the_cameras_distance_varies_and_the_face_keeps_its_size(model):
    usual = list(sampled_units(model, 3, ["fear"], seed=8, size=64))
    varied = list(sampled_units(model, 3, ["fear"], seed=8, size=64, distance=(40.0, 150.0)))
    for a, b in zip(usual, varied, strict=True):
        same = [k for k, v in scene(a).items() if v == scene(b)[k]]
        assert {"R", "direction", "ambient", "background", "albedo"} <= set(same)  # nothing else changes
        assert 40 <= b.attributes["distance"] <= 150
        assert float(b.camera.t.norm()) == pytest.approx(b.attributes["distance"], rel=0.15)
        spans = [np.ptp(u.landmarks[:, 1]) for u in (a, b)]
        assert spans[1] == pytest.approx(spans[0], rel=0.06)
    assert len({u.attributes["distance"] for u in varied}) == 3
    assert "distance" not in usual[0].attributes


@pytest.mark.parametrize("kind", ["surroundings", "point"])
def test_other_kinds_of_light(model, kind):
    unit, other = sampled_units(model, 2, ["fear"], seed=8, size=64, light=kind)
    again = next(sampled_units(model, 1, ["anger"], seed=8, size=64, light=kind))
    assert scene(unit)["R"] == scene(next(sampled_units(model, 1, ["fear"], seed=8, size=64)))["R"]
    key = "sh" if kind == "surroundings" else "position"
    assert scene(unit)[key] == scene(again)[key] != scene(other)[key]
    rendered = stages.render_plan(model, unit_conditions(model, unit, DESIGN), "numba")
    assert rendered.rendered.all()
    assert rendered.images.std() > 0.05


def test_impossible_nuisances_say_what_is_wrong(model):
    with pytest.raises(UsageError, match=r"within 25 to 1000 cm, got 90.0 to 60.0"):
        next(sampled_units(model, 1, distance=(90.0, 60.0)))
    with pytest.raises(UsageError, match="light must be one of lamp, surroundings, point; got 'moon'"):
        next(sampled_units(model, 1, light="moon"))
    study = {"people": {"count": 2}}
    with pytest.raises(UsageError, match="goes from near to far"):
        spec.parse(study | {"nuisance": {"distance": [90.0, 60.0]}})
    with pytest.raises(UsageError, match="sweep.light is over places of a lamp; nuisance.light is point"):
        spec.parse(study | {"nuisance": {"light": "point"}, "sweep": {"light": ["left"]}})
    made = spec.parse(study | {"nuisance": {"distance": [50.0, 120.0], "light": "surroundings"}}).study(Path())
    assert (made.distance, made.light) == ((50.0, 120.0), "surroundings")
