"""Measures, the symmetric average and one person's photos, each against something computed independently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from morphsym import intervention, resources
from morphsym.errors import UsageError
from morphsym.faces import MorphableModel, emotion_preset
from morphsym.fitting import Detection, fit, load_fits, save_fits, save_sheets
from morphsym.fitting.correspondence import places
from morphsym.fitting.measures import (
    MEASURES,
    MESH,
    asymmetry_index,
    clinical_from_points,
    face_vertices,
    measures,
    measures_of,
    mesh_measures,
)
from morphsym.fitting.quality import quality_flag
from morphsym.intervention import edit
from morphsym.rendering import portrait_camera, project
from morphsym.rendering.cameras import euler_to_rotation
from morphsym.types import FaceFit

from .conftest import MIRROR_68


def photo_of(model: MorphableModel, identity: np.ndarray, expression: np.ndarray, yaw: float, seed: int) -> Detection:
    """Noisy landmarks of a face, as MediaPipe would place them."""
    v = model.forward(torch.as_tensor(identity)[None], torch.as_tensor(expression)[None])[0].numpy()
    corners, weights, _ = places(model, True)
    points = np.einsum("nkc,nk->nc", v[corners], weights)
    camera = portrait_camera(512, 80.0, 27.0, yaw)
    pixels = project(camera, torch.as_tensor(points, dtype=torch.float32)[None])[0][0].numpy().astype(np.float64)
    pixels += np.random.default_rng(seed).normal(size=pixels.shape) * 0.5
    return Detection(pixels, np.array([0, 0, 512, 512.0]), float("nan"), "test", np.zeros((478, 2)), kind="mediapipe")


@pytest.fixture(scope="module")
def smile(makehuman: MorphableModel) -> np.ndarray:
    return np.asarray(emotion_preset(makehuman, "happiness"), dtype=np.float32)


def test_the_mesh_measures_see_the_edit_and_only_it(makehuman: MorphableModel, smile: np.ndarray) -> None:
    identity = np.random.default_rng(0).normal(size=makehuman.n_identity).astype(np.float32) * 0.7
    whole = mesh_measures(makehuman, identity, smile)
    assert whole["asymmetry_expression_mm"] < 1e-3
    assert whole["realised_asymmetry_mm"] < 1e-3
    assert whole["realised_intensity_mm"] > 0.5
    previous = 0.0
    for strength in (0.25, 0.5, 1.0):
        one = mesh_measures(makehuman, identity, edit(makehuman.sided, smile, "left", strength))
        other = mesh_measures(makehuman, identity, edit(makehuman.sided, smile, "right", strength))
        assert one["asymmetry_expression_mm"] > previous + 0.05
        assert one["asymmetry_expression_mm"] == pytest.approx(other["asymmetry_expression_mm"], rel=0.02)
        assert one["asymmetry_rest_mm"] < 1e-3
        previous = one["asymmetry_expression_mm"]


@pytest.mark.parametrize("which", ["makehuman", "ict"])
def test_many_faces_are_measured_as_one_by_one(which: str, request: pytest.FixtureRequest) -> None:
    """The pairs' short cuts against the definition on all vertices, and against what experiments measure."""
    model: MorphableModel = request.getfixturevalue(which)
    rng = np.random.default_rng(3)
    fits = []
    for k in range(19):
        c = rng.uniform(0, 0.7, len(model.sided)) * (rng.random(len(model.sided)) < 0.3)
        fits.append(made_up_fit(model, rng.normal(size=model.n_identity), c, k % 2 == 1, rng))
    fits[5] = replace(fits[5], expression=np.zeros(0, dtype=np.float32))
    found = measures_of(fits, model)
    face = face_vertices(model)
    for f, row in zip(fits, found, strict=True):
        if not len(f.expression):
            assert all(np.isnan(v) for v in row.values())
            continue
        assert tuple(row) == MEASURES
        both = torch.tensor(np.stack([0 * f.expression, f.expression]))
        meshes = model.forward(torch.as_tensor(f.identity)[None], both).numpy()
        rest, moved = (asymmetry_index(v, model.mirror, face) for v in meshes)
        realised = intervention.measure(model, f.expression[None])
        expected = [rest, moved, float(realised.asymmetry[0]), float(realised.intensity[0])]
        assert [row[k] for k in MESH] == pytest.approx(expected, abs=2e-6)
        alone = measures(f, model)
        assert [row[k] for k in MEASURES] == pytest.approx([alone[k] for k in MEASURES], abs=1e-5)
        corners, weights, _ = places(model, f.landmarks_478 is not None)
        fitted = np.einsum("nkc,nk->nc", meshes[1][corners], weights) @ f.R.T + f.t
        ray = np.c_[f.landmarks.astype(np.float64), np.ones(68)] @ np.linalg.inv(f.K).T
        clinical = clinical_from_points((ray * fitted[:, 2:] - f.t) @ f.R)
        assert [row[k] for k in clinical] == pytest.approx(list(clinical.values()), abs=1e-4)


def made_up_fit(
    model: MorphableModel, identity: np.ndarray, expression: np.ndarray, mediapipe: bool,
    rng: np.random.Generator,
) -> FaceFit:  # fmt: skip
    """A record with a random pose and scattered landmarks."""
    none = np.zeros(0, dtype=np.float32)
    R = euler_to_rotation(*(np.array([a]) for a in rng.uniform(-25, 25, 3)))[0].numpy()
    return FaceFit(
        name="x", photo="", photo_sha256="", face=0, status="ok", reason="", model=model.name, model_sha256="",
        identity=identity.astype(np.float32), expression=expression.astype(np.float32),
        expression_names=model.sided.names, K=np.array([[900.0, 0, 256], [0, 900, 256], [0, 0, 1]]), R=R,
        t=np.array([1.0, -2.0, 80.0]), height=512, width=512,
        landmarks=rng.uniform(100, 400, (68, 2)).astype(np.float32), nme=0.01, yaw=0.0, pitch=0.0, roll=0.0,
        emotion="", emotion_source="", landmarks_478=none if mediapipe else None,
    )  # fmt: skip


def test_the_asymmetry_index_does_not_see_where_the_head_is(makehuman: MorphableModel, smile: np.ndarray) -> None:
    v = makehuman.forward(
        torch.zeros(1, makehuman.n_identity), torch.as_tensor(edit(makehuman.sided, smile, "left", 1.0))[None]
    )
    v = v[0].numpy().astype(np.float64)
    rows = face_vertices(makehuman)
    assert np.array_equal(np.sort(makehuman.mirror[rows]), np.sort(rows))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    here = asymmetry_index(v, makehuman.mirror, rows)
    assert asymmetry_index(v @ turn.T + (3, -2, 5), makehuman.mirror, rows) == pytest.approx(here, abs=1e-9)
    # A known one: half of the face moved forward by 2 mm, the other back by 2 mm, is at most 2 mm off, and more than 0.5
    # (part of it is a turn of the head).
    flat = makehuman.mean.numpy().astype(np.float64)
    flat[:, 2] += 0.2 * np.sign(flat[:, 0])
    assert 0.5 < asymmetry_index(flat, makehuman.mirror, rows) < 2.0


def test_the_clinical_measures_swap_in_the_mirror(makehuman: MorphableModel, smile: np.ndarray) -> None:
    facial = np.where([n == "facial" for n in makehuman.sided.nerve], smile, np.float32(0))  # a dropped jaw moves both
    v = makehuman.forward(
        torch.zeros(1, makehuman.n_identity), torch.as_tensor(edit(makehuman.sided, facial, "left", 1.0))[None]
    )
    points = makehuman.landmarks(v)[0].numpy()
    here = clinical_from_points(points)
    there = clinical_from_points(points[MIRROR_68] * (-1, 1, 1))
    for name, value in here.items():
        other = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert there[other] == pytest.approx(value, abs=1e-6), name
    rest = clinical_from_points(makehuman.landmarks(makehuman.mean[None])[0].numpy())
    # The smile is weak on the left: the right corner has gone out, the left is nearly where it was at rest.
    gone = {s: here[f"commissure_excursion_{s}_mm"] - rest[f"commissure_excursion_{s}_mm"] for s in ("left", "right")}
    assert gone["right"] > 2
    assert abs(gone["left"]) < min(2.5, gone["right"] / 5)
    assert 5 < rest["palpebral_fissure_left_mm"] < 14  # adults: 8 to 11 mm
    assert 10 < rest["brow_height_left_mm"] < 30


@pytest.mark.parametrize(("shape", "measure", "sign"), [
    ("eyeBlinkLeft", "palpebral_fissure_left_mm", -1), ("browOuterUpLeft", "brow_height_left_mm", 1),
])  # fmt: skip
def test_the_clinical_measures_follow_their_muscle(
    makehuman: MorphableModel, shape: str, measure: str, sign: int
) -> None:
    c = torch.zeros(1, len(makehuman.sided))
    c[0, makehuman.sided.names.index(shape)] = 0.6
    zero = torch.zeros(1, makehuman.n_identity)
    rest = clinical_from_points(makehuman.landmarks(makehuman.forward(zero, 0 * c))[0].numpy())
    moved = clinical_from_points(makehuman.landmarks(makehuman.forward(zero, c))[0].numpy())
    assert sign * (moved[measure] - rest[measure]) > 1.0
    for name in rest:
        if name != measure and "left" not in name:
            assert abs(moved[name] - rest[name]) < 0.3, name


def test_detected_landmarks_are_measured_at_the_models_scale(makehuman: MorphableModel, smile: np.ndarray) -> None:
    """The measures of a fit agree with those of the true face, whatever the yaw."""
    expression = edit(makehuman.sided, smile, "left", 1.0)
    zero = np.zeros(makehuman.n_identity, dtype=np.float32)
    corners, weights, _ = places(makehuman, True)
    v = makehuman.forward(torch.as_tensor(zero)[None], torch.as_tensor(expression)[None])[0].numpy()
    truth = clinical_from_points(np.einsum("nkc,nk->nc", v[corners], weights))
    for yaw in (-20.0, 0.0, 20.0):
        found = fit(
            np.zeros((512, 512, 3), np.uint8), makehuman, landmarks=photo_of(makehuman, zero, expression, yaw, 3)
        )[0]
        assert found.ok, found.reason
        assert found.measures is not None
        for name, value in truth.items():
            assert found.measures[name] == pytest.approx(value, rel=0.15, abs=1.0), (yaw, name)


def test_symmetrize_keeps_what_was_fitted(makehuman: MorphableModel, astronaut: np.ndarray, tmp_path: Path) -> None:
    given = resources.asset("sample/astronaut.json")
    plain = fit(astronaut, makehuman, landmarks=given)[0]
    one = fit(astronaut, makehuman, landmarks=given, symmetrize=True)[0]
    partner = makehuman.sided.partner
    assert np.array_equal(one.expression, one.expression[partner])
    assert np.array_equal(one.expression_fitted, plain.expression)
    assert not np.array_equal(plain.expression, plain.expression[partner])
    np.testing.assert_allclose(one.expression.sum(), plain.expression.sum(), rtol=1e-5)
    assert one.measures == plain.measures  # observed, so of what was fitted
    assert "averaged over both sides" in one.note
    save_fits(tmp_path, [one], overlays=False)
    back = load_fits(tmp_path)[0]
    assert np.array_equal(back.expression_fitted, one.expression_fitted)
    assert set(back.measures) == set(MEASURES)


def test_one_person_has_one_identity_and_it_is_nearer(makehuman: MorphableModel) -> None:
    rng = np.random.default_rng(5)
    gain = []
    for person in range(3):
        identity = (rng.normal(size=makehuman.n_identity) * 0.8).astype(np.float32)
        photos = []
        for i, (emotion, yaw) in enumerate(
            (("happiness", -25.0), ("neutral", 0.0), ("surprise", 20.0), ("anger", 35.0))
        ):
            expression = np.asarray(emotion_preset(makehuman, emotion), dtype=np.float32)
            names = (n.removesuffix(".left").removesuffix(".right") for n in makehuman.sided.names)
            scores = dict(zip(names, map(float, expression), strict=True))  # as if MediaPipe had read them
            photos.append(replace(photo_of(makehuman, identity, expression, yaw, 10 * person + i), blendshapes=scores))
        black = [np.zeros((512, 512, 3), np.uint8)] * 4
        alone = fit(black, makehuman, landmarks=photos)
        together = fit(black, makehuman, landmarks=photos, same_person=True)
        assert all(f.ok for f in together)
        for f in together[1:]:
            assert np.array_equal(f.identity, together[0].identity)
        assert max(f.nme for f in together) < 0.02
        rows = face_vertices(makehuman)
        zero = torch.zeros(1, len(makehuman.sided))
        true = makehuman.forward(torch.as_tensor(identity)[None], zero)[0].numpy()[rows]

        def error(f: FaceFit, true: np.ndarray = true, rows: np.ndarray = rows, zero: torch.Tensor = zero) -> float:
            v = makehuman.forward(torch.as_tensor(f.identity)[None], zero)[0].numpy()[rows]
            v, true = v - v.mean(0), true - true.mean(0)
            return float(
                np.linalg.norm(v * (v * true).sum() / (v * v).sum() - true, axis=1).mean()
            )  # the size is not seen

        gain.append(error(together[0]) / np.mean([error(f) for f in alone]))
    assert np.mean(gain) < 0.8


def test_same_person_with_bad_photos_and_wrong_arguments(makehuman: MorphableModel, astronaut: np.ndarray) -> None:
    zero = np.zeros(makehuman.n_identity, dtype=np.float32)
    good = photo_of(makehuman, zero, np.zeros(len(makehuman.sided), dtype=np.float32), 0, 0)
    bad = replace(good, landmarks68=good.landmarks68 * 0.01)
    found = fit([astronaut] * 3, makehuman, landmarks=[good, bad, good], same_person=True)
    assert [f.ok for f in found] == [True, False, True]
    assert "too small" in found[1].reason
    with pytest.raises(UsageError, match="largest face"):
        fit([astronaut], makehuman, landmarks=[good], same_person=True, face="all")


def test_one_person_seen_by_two_detectors_in_any_order(makehuman: MorphableModel, smile: np.ndarray) -> None:
    """Landmarks of several kinds tell of one identity, and the order of the photos does not matter."""
    identity = (np.random.default_rng(8).normal(size=makehuman.n_identity) * 0.7).astype(np.float32)
    photos = [
        photo_of(makehuman, identity, a * smile, yaw, i) for i, (a, yaw) in enumerate(((0, 0), (1, 20), (0.5, -20)))
    ]
    own = makehuman.landmarks(makehuman.forward(torch.as_tensor(identity)[None], torch.as_tensor(0 * smile)[None]))
    pixels = project(portrait_camera(512, 80.0, 27.0, 0.0), own)[0][0].numpy().astype(np.float64)
    photos.append(Detection(pixels, photos[0].box, float("nan"), "test", None, kind="visible"))
    black = [np.zeros((512, 512, 3), np.uint8)] * 4
    together = fit(black, makehuman, landmarks=photos, same_person=True)
    assert all(f.ok for f in together)
    assert len({f.identity.tobytes() for f in together}) == 1
    assert {f.subject for f in together} == {together[0].name}
    assert max(f.nme for f in together) < 0.03
    order = [3, 1, 0, 2]
    shuffled = fit(black, makehuman, landmarks=[photos[i] for i in order], same_person=True)
    for k, i in enumerate(order):
        assert np.abs(shuffled[k].identity - together[i].identity).max() < 0.02
        assert np.abs(shuffled[k].expression - together[i].expression).max() < 0.02


def test_a_hidden_mouth_is_flagged(makehuman: MorphableModel) -> None:
    zero = np.zeros(makehuman.n_identity, dtype=np.float32)
    clean = photo_of(makehuman, zero, np.zeros(len(makehuman.sided), dtype=np.float32), 0, 0)
    noise = np.random.default_rng(1).integers(60, 200, (64, 64, 3)).astype(np.uint8)
    black = noise.repeat(8, axis=0).repeat(8, axis=1)  # no part of it looks covered
    moved = clean.landmarks68.copy()
    moved[48:58] += np.random.default_rng(0).normal(size=(10, 2)) * 14
    found = fit([black, black], makehuman, landmarks=[clean, replace(clean, landmarks68=moved)])
    assert found[0].quality == "good"
    assert "mouth" in found[1].quality
    assert "turned" not in found[0].quality
    assert "far side" in quality_flag(replace(found[0], yaw=55.0), np.ones(68))
    assert "come to rest" in quality_flag(replace(found[0], converged=False), np.ones(68))
    assert measures(replace(found[0], expression=np.zeros(0)), makehuman).keys() == set(MEASURES)


def test_the_contact_sheet_shows_every_fit(makehuman: MorphableModel, astronaut: np.ndarray, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(astronaut).save(photo)
    good = fit(photo, makehuman, landmarks=resources.asset("sample/astronaut.json"))[0]
    missing = fit(tmp_path / "none.png", makehuman, landmarks=resources.asset("sample/astronaut.json"))[0]
    fits = save_fits(tmp_path / "fits", [good, missing])
    fits += [replace(good, quality="a flag", name=f"{i}", photo="") for i in range(48)]
    pages = save_sheets(tmp_path / "fits", fits)
    assert [p.name for p in pages] == ["_sheet-01.png", "_sheet-02.png"]
    first = np.asarray(Image.open(pages[0]))
    for colour in ((60, 160, 80), (200, 40, 40), (230, 160, 0)):  # good, failed, to look at
        assert (first == colour).all(axis=-1).sum() > 500
    assert len(save_sheets(tmp_path / "fits", fits[:2])) == 1
    assert [p.name for p in (tmp_path / "fits").glob("_sheet-*")] == ["_sheet-01.png"]
