"""Furrows: none at rest, one half each, mirror images, where FACS has them, and what a picture shows of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import yaml

from morphsym.errors import UsageError
from morphsym.experiment.stages import forward
from morphsym.experiment.units import render_unit, sampled_units
from morphsym.faces import MorphableModel, depth_of, emotion_preset, furrow_shade, furrowed
from morphsym.faces.furrows import DEPTH, LIMIT
from morphsym.intervention import edit
from morphsym.resources import asset


def row(model: MorphableModel, **scores: float) -> torch.Tensor:
    return torch.as_tensor(model.coefficients(scores))[None]


def everywhere(model: MorphableModel, shade: torch.Tensor) -> np.ndarray:
    """(V,) darkening, 0 where there is no furrow."""
    full = np.zeros(model.n_vertices)
    full[model.furrows.vertices] = 1.0 - shade[0].numpy()
    return full


def test_no_furrow_at_rest_or_at_depth_zero(model: MorphableModel) -> None:
    albedo = torch.as_tensor(model.albedo)
    rest = furrow_shade(model, torch.zeros(2, len(model.sided)))
    assert torch.equal(furrowed(model, albedo, rest), albedo.expand(2, -1, -1))
    smile = torch.as_tensor(emotion_preset(model, "happiness"))[None]
    assert torch.equal(furrowed(model, albedo, furrow_shade(model, smile, 0.0))[0], albedo)
    assert not torch.equal(furrowed(model, albedo, furrow_shade(model, smile))[0], albedo)


def test_partners_are_mirror_images_and_halves_add_up(model: MorphableModel) -> None:
    full = np.zeros((len(model.sided), model.n_vertices), np.float32)
    full[:, model.furrows.vertices] = model.furrows.fields.numpy()
    assert np.array_equal(full[:, model.mirror], full[model.sided.partner])
    # (left + right) of a pair is one furrow on the whole face; its left share is the hemiface weight
    both = full + full[model.sided.partner]
    left = np.where(model.sided.side[:, None] > 0, model.hemiface_left, 1 - model.hemiface_left)
    np.testing.assert_allclose(full, both * left, atol=1e-6)


def test_only_skin_has_furrows(model: MorphableModel) -> None:
    assert set(model.furrows.vertices) <= set(model.vertices_of("skin"))
    assert (model.furrows.fields >= 0).all()
    assert float(model.furrows.fields.max()) <= 2.0


@pytest.mark.parametrize("side", ["left", "right"])
def test_weakening_one_side_leaves_the_others_furrows(model: MorphableModel, side: str) -> None:
    factual = emotion_preset(model, "happiness")
    weak = torch.as_tensor(edit(model.sided, factual, side, 1.0))[None]
    before = everywhere(model, furrow_shade(model, torch.as_tensor(factual)[None]))
    after = everywhere(model, furrow_shade(model, weak))
    other = model.hemiface_left == (0.0 if side == "left" else 1.0)
    own = model.hemiface_left == (1.0 if side == "left" else 0.0)
    assert np.array_equal(before[other], after[other])
    assert after[own].max() < 0.01 < 0.2 < before[own].max()


PLACES = {  # shape: iBUG landmarks between or beside which FACS has the furrow
    "mouthSmile": (35, 54), "noseSneer": (35, 35), "browDown": (21, 22), "cheekSquint": (45, 46), "mouthFrown": (54, 10),
    "browInnerUp": (23, 23), "mouthShrugLower": (57, 57), "mouthDimple": (54, 54),
}  # fmt: skip


@pytest.mark.parametrize("shape", PLACES)
def test_the_darkest_place_is_where_facs_has_it(model: MorphableModel, shape: str) -> None:
    name = {f"{shape}Left": 1.0} if f"{shape}Left" in model.sided.names else {f"{shape}.left": 1.0}
    dark = everywhere(model, furrow_shade(model, row(model, **name)))
    marks = model.landmarks(model.mean[None])[0].numpy()
    place = model.mean.numpy()[dark.argmax()]
    a, b = PLACES[shape]
    assert np.linalg.norm(place - 0.5 * (marks[a] + marks[b])) < 3.0
    assert place[0] > -0.3, "the left shape's furrow is on the left"


def test_deeper_with_the_coefficient_and_never_black(model: MorphableModel) -> None:
    darkest = [
        everywhere(model, furrow_shade(model, row(model, mouthSmileLeft=c))).max() for c in (0.0, 0.25, 0.5, 1.0)
    ]
    assert darkest[0] == 0.0
    assert all(a < b for a, b in pairwise(darkest))
    everything = furrow_shade(model, torch.ones(1, len(model.sided)), 2.0)
    assert float(everything.min()) >= np.exp(-DEPTH * LIMIT) - 1e-6


def test_age_deepens_them() -> None:
    assert depth_of({}) == 1.0
    depths = [depth_of({"age": a}) for a in (18, 30, 60, 90)]
    assert depths == sorted(depths)
    assert depths[0] < 1 < depths[-1]


def test_gradients(model: MorphableModel) -> None:
    few = torch.full((1, len(model.sided)), 0.3, dtype=torch.float64, requires_grad=True)  # away from the kink at 0
    weights = torch.rand(len(model.furrows.vertices), dtype=torch.float64, generator=torch.manual_seed(0))
    assert torch.autograd.gradcheck(lambda c: (furrow_shade(model, c) * weights).sum(), few, atol=1e-6, rtol=1e-4)


def test_pictures_of_a_unit_differ_only_where_furrows_are(model: MorphableModel) -> None:
    """A smooth and a furrowed picture; and the batch is not felt."""
    (smooth,) = sampled_units(model, 1, ("happiness",), seed=3, size=96, furrows=0.0)
    (unit,) = sampled_units(model, 1, ("happiness",), seed=3, size=96)
    assert (smooth.furrows, unit.furrows > 0) == (0.0, True)
    rows = np.stack([unit.expression * np.float32(s) for s in (1.0, 0.5, 0.0)])
    vertices = forward(model, unit, rows)
    without = render_unit(model, smooth, vertices, rows, "auto")[0]
    images = render_unit(model, unit, vertices, rows, "auto")[0]
    change = (without - images).abs().amax(dim=(1, 2, 3))
    assert change[0] > change[1] > 0.01
    assert change[2] == 0
    assert ((without - images) > -1e-6).all(), "a furrow only takes light"
    again = render_unit(model, unit, vertices[:1], rows[:1], "auto")[0]
    assert (again[0] - images[0]).abs().max() < 1e-6


def test_arrays_do_as_well_as_tensors(model: MorphableModel) -> None:
    rows = emotion_preset(model, "fear")[None]
    there = furrowed(model, torch.as_tensor(model.albedo), furrow_shade(model, torch.as_tensor(rows)))
    assert torch.equal(furrowed(model, model.albedo, furrow_shade(model, rows)), there)


def test_one_shape_darkens_as_the_constant_says(model: MorphableModel) -> None:
    depth = float(model.furrows.fields.max())
    assert np.exp(-DEPTH * LIMIT * np.tanh(1.0 / LIMIT)) == pytest.approx(0.80, abs=0.005)
    assert 0.7 < depth < 1.2  # of a shape at 1, where the two pieces of the nasolabial fold meet


def test_bad_input(model: MorphableModel) -> None:
    with pytest.raises(UsageError, match=r"expression must be \(B, "):
        furrow_shade(model, torch.zeros(3))
    with pytest.raises(UsageError, match="must not be negative, got -1"):
        furrow_shade(model, torch.zeros(1, len(model.sided)), -1.0)
    with pytest.raises(UsageError, match=r"albedo must be "):
        furrowed(model, torch.zeros(3, 3), torch.ones(1, len(model.furrows.vertices)))
    with pytest.raises(UsageError, match=r"shade must be \(B, "):
        furrowed(model, torch.as_tensor(model.albedo), torch.ones(1, 2))
    with pytest.raises(UsageError, match="between 0 .* and 2, got 3"):
        next(sampled_units(model, 1, furrows=3.0))


def test_every_entry_cites_and_names_real_shapes() -> None:
    from morphsym.faces import ARKIT_NAMES

    table = yaml.safe_load(asset("presets/furrows.yaml").read_text(encoding="utf-8"))
    for name, entry in table["furrows"].items():
        assert entry["source"], name
        for shape, weight in entry["shapes"].items():
            assert shape in ARKIT_NAMES or f"{shape}Left" in ARKIT_NAMES, (name, shape)
            assert 0 < weight <= 1
