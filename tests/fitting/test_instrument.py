"""An independent instrument: MediaPipe looks at edited faces and must read what was edited, and only that.

MediaPipe's scores of the two sides are not independent of each other: a smile that is wholly gone on one side makes it doubt
the other side too, and it does so just as much when the model's own right-hand shape is left alone on the unsplit
mesh (the control below, in which no code of ours decides what belongs to which side). So 'unchanged within 0.15 on the
other side' is asked at strength 0.5, and at strength 1 the edit is asked to spare the other side as well as that control.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from morphsym import faces
from morphsym.experiment.demo import fit_sample
from morphsym.experiment.images import to_uint8
from morphsym.experiment.stages import render_plan
from morphsym.experiment.units import photo_unit
from morphsym.faces import MorphableModel
from morphsym.fitting import detectors
from morphsym.intervention import Design, edit, unit_conditions
from morphsym.rendering import default_lights, portrait_camera, render

PEOPLE = 20
TOLERANCE = 0.15
SMILE = ("mouthSmileLeft", "mouthSmileRight")


def scores(pixels: np.ndarray, detector: detectors.Detector) -> np.ndarray:
    """MediaPipe's mouthSmileLeft and mouthSmileRight, ``(2,)``."""
    (found,) = detector(pixels)
    assert found.blendshapes is not None
    return np.array([found.blendshapes[name] for name in SMILE])


def look(
    model: MorphableModel, vertices: torch.Tensor, detector: detectors.Detector, row: torch.Tensor | None = None
) -> np.ndarray:
    """The scores of a frontal portrait of ``vertices`` (V, 3), with the furrows of the expression ``row`` (1, Ks)."""
    camera = portrait_camera(384, 75.0, 27.0)
    skin = torch.as_tensor(model.albedo)
    if row is not None:
        skin = faces.furrowed(model, skin, faces.furrow_shade(model, row))
    picture, _ = render(vertices[None], torch.as_tensor(model.faces), skin, camera, default_lights(1))
    return scores(to_uint8(picture[0]), detector)


def people(model: MorphableModel) -> list[torch.Tensor]:
    rng = np.random.default_rng(3)
    return [torch.from_numpy((rng.normal(size=(1, model.n_identity)) * 0.6).astype(np.float32)) for _ in range(PEOPLE)]


@pytest.mark.shared
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("which", ["makehuman", "ict"])
def test_half_a_smile_less_on_one_side(
    which: str, side: str, request: pytest.FixtureRequest, with_mediapipe: Path
) -> None:
    """Twenty people smile; strength 0.5: the edited side reads weaker, the other within 0.15, for every one of them."""
    model: MorphableModel = request.getfixturevalue(which)
    detector = detectors.get("mediapipe")
    factual = faces.emotion_preset(model, "happiness")
    smile = torch.from_numpy(factual)[None]
    weaker = torch.from_numpy(edit(model.sided, factual, side, 0.5))[None]
    touched, spared = (0, 1) if side == "left" else (1, 0)
    for identity in people(model):
        before = look(model, model.forward(identity, smile)[0], detector, smile)
        after = look(model, model.forward(identity, weaker)[0], detector, weaker)
        assert before.min() > 0.7
        assert after[touched] < before[touched] - 0.1, (before, after)
        assert abs(after[spared] - before[spared]) < TOLERANCE, (before, after)


@pytest.mark.shared
@pytest.mark.parametrize("which", ["makehuman", "ict"])
def test_a_whole_side_gone_spares_the_other_as_well_as_the_unsplit_shape_does(
    which: str, request: pytest.FixtureRequest, with_mediapipe: Path
) -> None:
    """Strength 1 against the control: the model's own right-hand smile alone, not passed through the split."""
    model: MorphableModel = request.getfixturevalue(which)
    detector = detectors.get("mediapipe")
    left, right = (model.expression_basis[model.expression_names.index(name)] for name in SMILE)
    smile = np.zeros(len(model.sided), dtype=np.float32)
    for name in SMILE:
        smile[model.sided.names.index(name)] = 1.0
    weaker = torch.from_numpy(edit(model.sided, smile, "left", 1.0))[None]
    ours, control = [], []
    for identity in people(model):
        rest = model.forward(identity, torch.zeros(1, len(model.sided)))[0]
        before = look(model, rest + left + right, detector)
        ours.append(look(model, model.forward(identity, weaker)[0], detector) - before)
        control.append(look(model, rest + right, detector) - before)
    (edited, spared), (_, unsplit) = np.mean(ours, axis=0), np.mean(control, axis=0)
    assert edited < -0.6, ours
    assert edited < spared - 0.3
    assert spared > unsplit - 0.1, (spared, unsplit)


@pytest.mark.shared
def test_sample_photo(tmp_path: Path, makehuman: MorphableModel, with_mediapipe: Path) -> None:
    """The photo itself with one side of the smile at half strength."""
    detector = detectors.get("mediapipe")
    (fit,) = fit_sample(tmp_path / "fits")
    unit = photo_unit(fit, makehuman, 320)
    design = Design(strengths=(0.5,), arms=("original", "baseline", "unilateral"))
    rendered = render_plan(makehuman, unit_conditions(makehuman, unit, design), "numba")
    read = {
        (c.arm, c.side): scores(to_uint8(image), detector)
        for c, image in zip(rendered.plan.conditions, rendered.images, strict=True)
    }
    before = read["baseline", "none"]
    np.testing.assert_allclose(before, read["original", "none"], atol=0.02)
    for side, touched, spared in (("left", 0, 1), ("right", 1, 0)):
        after = read["unilateral", side]
        assert after[touched] < before[touched] - 0.1, read
        assert abs(after[spared] - before[spared]) < TOLERANCE, read
