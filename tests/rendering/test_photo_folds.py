"""Folds go with the smile that made them: photos whose truth is known, and what must not be taken for a fold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from morphsym.errors import RenderError
from morphsym.faces import MorphableModel, furrow_shade, furrowed
from morphsym.intervention import edit
from morphsym.rendering import cameras, lights, render
from morphsym.rendering.photos import PhotoScene
from morphsym.types import Unit
from tests.rendering.test_photos import make_unit, model

__all__ = ["model"]  # the fixture

DEPTH = 1.4
SMILE = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "cheekSquintLeft": 0.6, "cheekSquintRight": 0.6}


def shown(model: MorphableModel, unit: Unit, expression: np.ndarray, depth: float) -> np.ndarray:
    """(3, H, W): what a camera sees of the expression, with folds of that depth."""
    row = torch.as_tensor(expression, dtype=torch.float32)[None]
    vertices = model.forward(torch.from_numpy(unit.identity)[None], row)
    skin = furrowed(model, torch.as_tensor(np.asarray(model.albedo, np.float32)), furrow_shade(model, row, depth))
    camera, lamp = cameras.repeat(unit.camera, 1), lights.default_lights(1)
    return render(vertices, torch.as_tensor(model.faces), skin, camera, lamp, samples=16)[0][0].numpy()


def folded(model: MorphableModel, depth: float = DEPTH) -> Unit:
    """A smiling 'photo' with folds, and its perfect fit."""
    unit = make_unit(model, SMILE)
    photo = (shown(model, unit, unit.expression, depth).transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    return dataclasses.replace(unit, photo=photo)


def vertices_of(model: MorphableModel, unit: Unit, row: np.ndarray) -> torch.Tensor:
    return model.forward(torch.from_numpy(unit.identity)[None], torch.as_tensor(row, dtype=torch.float32)[None])


def fold_pixels(model: MorphableModel, unit: Unit, row: np.ndarray) -> np.ndarray:
    """(H, W): pixels that the folds of the smile darken, in the edited face."""
    scene_row = torch.as_tensor(row, dtype=torch.float32)[None]
    v = model.forward(torch.from_numpy(unit.identity)[None], scene_row)
    white = torch.ones(model.n_vertices, 3)
    dark = furrowed(model, white, furrow_shade(model, torch.as_tensor(unit.expression)[None], DEPTH))
    camera, lamp = cameras.repeat(unit.camera, 1), lights.default_lights(1)
    pair = [render(v, torch.as_tensor(model.faces), c, camera, lamp, samples=4)[0][0].numpy() for c in (white, dark)]
    return (pair[0] - pair[1]).max(0) > 0.08


@pytest.mark.parametrize("side", ["left", "both"])
def test_a_smile_that_goes_takes_its_folds(model: MorphableModel, side: str) -> None:
    unit = folded(model)
    row = edit(model.sided, unit.expression, side, 1.0)
    scene, vertices = PhotoScene(unit, model), vertices_of(model, unit, row)
    truth = shown(model, unit, row, DEPTH)
    where = fold_pixels(model, unit, row)
    left = np.zeros_like(where)
    left[:, where.shape[1] // 2 :] = True  # the subject's left is on the right of the picture
    where &= left
    assert where.sum() > 60
    error = [
        np.abs(scene.render(vertices, rows).images[0].numpy() - truth)[:, where].mean() for rows in (None, row[None])
    ]
    assert error[1] < 0.75 * error[0], error


def test_no_change_of_expression_is_the_photo(model: MorphableModel) -> None:
    unit = folded(model)
    scene = PhotoScene(unit, model)
    same = scene.render(vertices_of(model, unit, unit.expression), unit.expression[None])
    assert np.array_equal(same.images[0].numpy(), scene.photo.transpose(2, 0, 1))
    assert scene._folds.flattened(unit.expression[None], 1)[0] is scene.photo


def test_the_other_half_keeps_its_folds(model: MorphableModel) -> None:
    unit = folded(model)
    scene = PhotoScene(unit, model)
    row = edit(model.sided, unit.expression, "left", 1.0)
    made = scene.render(vertices_of(model, unit, row), row[None])
    assert made.leak[0] == 0.0
    skin = scene._folds.flattened(row[None], 1)[0]
    changed = np.abs(skin - scene.photo).max(-1) > 0
    assert changed[:, changed.shape[1] // 2 + 12 :].any()
    assert not changed[:, : changed.shape[1] // 2 - 12].any()


def test_smooth_skin_stays(model: MorphableModel) -> None:
    """No line is drawn where the photo has no fold, and a face gets lighter only."""
    unit = folded(model, 0.0)
    scene = PhotoScene(unit, model)
    row = edit(model.sided, unit.expression, "both", 1.0)
    change = scene._folds.flattened(row[None], 1)[0] - scene.photo
    deep = PhotoScene(folded(model), model)
    with_folds = deep._folds.flattened(row[None], 1)[0] - deep.photo
    assert change.min() >= 0
    assert change.sum() < 0.35 * with_folds.sum()


def test_hair_across_a_fold_is_not_a_fold(model: MorphableModel) -> None:
    unit = folded(model)
    row = edit(model.sided, unit.expression, "both", 1.0)
    plain = PhotoScene(unit, model)
    changed = np.abs(plain._folds.flattened(row[None], 1)[0] - plain.photo).max(-1) > 0.02
    photo = np.array(unit.photo)
    y = int(np.argwhere(changed)[:, 0].mean().round())
    photo[y - 20 : y + 20, :] = np.where(np.arange(photo.shape[1])[None, :, None] % 12 == 0, 8, photo[y - 20 : y + 20])
    scene = PhotoScene(dataclasses.replace(unit, photo=photo), model)
    hairs = np.zeros(photo.shape[:2], bool)
    hairs[y - 20 : y + 20, ::12] = True
    after = scene._folds.flattened(row[None], 1)[0]
    assert (changed & hairs).any()
    assert np.array_equal(after[hairs], scene.photo[hairs])


def test_wrong_shape(model: MorphableModel) -> None:
    unit = folded(model)
    with pytest.raises(RenderError, match=r"expected expressions of shape \(1, "):
        PhotoScene(unit, model).render(vertices_of(model, unit, unit.expression), np.zeros((1, 3)))
