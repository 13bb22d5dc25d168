"""Nuisances as designed factors: one factor changes, everything else is the same; and the whole chain keeps them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from morphsym.errors import UsageError
from morphsym.experiment.measures import face_crop, picture_measures, similarity
from morphsym.experiment.study import Study, Units, run_study
from morphsym.experiment.units import sampled_units
from morphsym.experiment.verify import verify
from morphsym.faces import load_model
from morphsym.intervention import DEFAULT_ARMS, Design
from morphsym.types import Unit


def units(**swept: object) -> list[Unit]:
    levels = Design(**swept).levels()  # type: ignore[arg-type]
    return list(sampled_units(load_model("makehuman"), 1, ("happiness",), seed=1, size=64, levels=levels))


def same(a: Unit, b: Unit) -> dict[str, bool]:
    """What two units have in common."""
    assert a.lights is not None
    assert b.lights is not None
    return {
        "identity": np.array_equal(a.identity, b.identity),
        "expression": np.array_equal(a.expression, b.expression),
        "albedo": np.array_equal(a.albedo, b.albedo),  # type: ignore[arg-type]
        "background": a.background == b.background,
        "camera": torch.equal(a.camera.R, b.camera.R) and torch.equal(a.camera.K, b.camera.K),
        "direction": torch.equal(a.lights.direction, b.lights.direction),
        "ambient": torch.equal(a.lights.ambient, b.lights.ambient),
        "intensity": torch.equal(a.lights.intensity, b.lights.intensity),
        "specular": torch.equal(a.lights.specular, b.lights.specular),
    }


@pytest.mark.parametrize(
    ("swept", "differs"),
    [
        ({"yaw": (-20, 20)}, {"camera"}),
        ({"pitch": (-10, 10)}, {"camera"}),
        ({"light": ("left", "right")}, {"direction"}),
        ({"light": ("front", "soft")}, {"ambient", "intensity"}),
        ({"skin": ("II", "VI")}, {"albedo"}),
    ],
)
def test_a_sweep_changes_its_factor_and_nothing_else(swept: dict, differs: set[str]) -> None:
    a, b = units(**swept)
    assert {k for k, v in same(a, b).items() if not v} == differs
    name = next(iter(swept))
    assert (a.attributes[name], b.attributes[name]) == tuple(swept[name])
    assert a.subject == b.subject
    assert a.unit != b.unit


def test_without_a_sweep_people_are_who_they_were() -> None:
    (plain,) = units()
    assert plain.unit == "s0001.happiness"
    assert "light" not in plain.attributes
    assert "skin" not in plain.attributes


def test_darker_types_are_darker_and_measured_as_asked() -> None:
    found = units(skin=("I", "II", "III", "IV", "V", "VI"))
    assert (np.diff([u.albedo.mean() for u in found]) < 0).all()  # type: ignore[union-attr]
    assert [u.attributes["fitzpatrick"] for u in found][1:] == ["II", "III", "IV", "V", "VI"]


def test_any_stretch_of_the_units_can_be_made_alone() -> None:
    study = Study(sample=2, expressions=("happiness", "anger"), design=Design(yaw=(-10, 10), skin=("II", "V")), size=64)
    made = Units(study, load_model("makehuman"))
    names = [u.unit for u in made]
    assert len(made) == len(names) == len(set(names)) == 2 * 2 * 4
    assert [u.unit for u in made.between(3, 11)] == names[3:11]
    assert made.conditions() == 16 * 27


def test_photos_cannot_be_swept() -> None:
    with pytest.raises(UsageError, match="swept over sampled people"):
        Study(fits="fits", design=Design(yaw=(0, 10)))


def test_the_store_keeps_levels_apart_and_verify_makes_them_again(tmp_path: Path) -> None:
    design = Design(
        sides=("left",), strengths=(1.0,), arms=(*DEFAULT_ARMS, "placebo"), rest_droop=1.0, matched_sensitivity=True,
        clinical=("temporal",), yaw=(-15, 15),
    )  # fmt: skip
    study = Study(sample=1, expressions=("surprise",), design=design, size=64)
    results = run_study(study, tmp_path / "results", units_per_shard=1)
    table = results.conditions()
    assert len(table) == 2 * len(design.conditions("u", "sampled"))
    assert table.groupby("unit")["scene"].nunique().tolist() == [1, 1]
    assert table["scene"].nunique() == 2
    assert set(table["yaw"]) == {-15.0, 15.0}
    placebo = table["arm"] == "placebo"
    assert (table.loc[placebo, "head_turn"] > 0).all()
    assert (table.loc[~placebo, "head_turn"] == 0).all()
    one = table[table["unit"].str.endswith("yaw-15") & table["region"].isin(["all", "none"])].set_index("arm")
    assert one.at["baseline", "image_change"] == one.at["null", "image_change"] == 0
    assert one.at["unilateral", "image_change"] > 0
    assert one.at["placebo", "image_change"] > 0
    assert np.isnan(one.at["mirrored_unilateral", "image_change"])
    assert one.at["unilateral", "displacement"] == pytest.approx(one.at["placebo", "displacement"])
    checked = verify(tmp_path / "results", sample=2)
    assert checked.ok, checked.problems
    assert checked.identical == checked.sampled == len(table)


def test_similarity_is_skimages() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((3, 40, 64))
    b = np.clip(a + 0.2 * rng.normal(size=a.shape), 0, 1)
    wanted = [structural_similarity(x, y, data_range=1.0) for x, y in zip(a, b)]
    assert similarity(a, b) == pytest.approx(wanted, abs=1e-12)


def test_a_symmetric_picture_is_its_mirror_image_and_a_spot_on_one_side_is_not() -> None:
    (u,) = units(yaw=(0,))
    landmarks = torch.as_tensor(u.landmarks).clone()
    landmarks[:, 0] += 32 - landmarks[:, 0].mean()
    right = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    picture = torch.cat([right, right.flip(-1)], -1)
    level = landmarks.clone()
    from morphsym.faces.split import MIRROR68

    partner = landmarks[torch.as_tensor(MIRROR68)]
    level[:, 0] = (landmarks[:, 0] + 64 - partner[:, 0]) / 2  # upright and centred
    level[:, 1] = (landmarks[:, 1] + partner[:, 1]) / 2
    spot = picture.clone()
    spot[..., 25:40, 40:48] = 0
    symmetry, change = picture_measures(torch.cat([picture, spot]), level, 0)
    assert symmetry[0] == pytest.approx(1, abs=1e-6)
    assert symmetry[1] < 0.97
    assert change[0] == 0
    assert change[1] > 0
    assert face_crop(picture, level).shape == (1, 64, 64)
