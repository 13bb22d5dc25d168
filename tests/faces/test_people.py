"""Sampled people and their colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from morphsym.errors import UsageError
from morphsym.faces import (
    MorphableModel,
    Population,
    fitzpatrick,
    load_model,
    paint,
    sample_appearance,
    sample_people,
    skin_colour,
)
from morphsym.faces.appearance import DEFAULT, MELANIN_RANGE, decode_srgb, encode_srgb, ita
from morphsym.faces.closing import constraints, nearest_closed
from morphsym.faces.people import macro_weights


def test_person_does_not_depend_on_how_many(model: MorphableModel) -> None:
    few, many = sample_people(model, 3, 11), sample_people(model, 6, 11)
    for a, b in zip(few, many):
        assert a.subject == b.subject
        assert np.array_equal(a.identity, b.identity)
        assert np.array_equal(a.albedo, b.albedo)
        assert a.attributes == b.attributes
    assert [p.subject for p in many] == [f"s000{i}" for i in range(1, 7)]
    assert not np.array_equal(sample_people(model, 1, 12)[0].identity, few[0].identity)
    assert not np.array_equal(many[0].identity, many[1].identity)
    assert sample_people(model, 0, 1) == []


def test_people_are_valid(model: MorphableModel) -> None:
    people = sample_people(model, 60, 0)
    identity = np.stack([p.identity for p in people])
    assert identity.shape == (60, model.n_identity)
    assert np.isfinite(identity).all()
    assert 0.7 < identity.std() < 1.3
    for p in people:
        assert p.albedo.shape == (model.n_vertices, 3)
        assert p.albedo.dtype == np.float32
        assert 0 <= p.albedo.min() <= p.albedo.max() <= 1
    assert len({p.attributes["fitzpatrick"] for p in people}) >= 4
    symmetric = people[0].albedo
    assert np.abs(symmetric - symmetric[model.mirror]).max() < 0.02


def test_bundled_attributes() -> None:
    people = sample_people(load_model(), 80, 3)
    sexes = [p.attributes["sex"] for p in people]
    assert 20 < sexes.count("female") < 60
    assert all(18 <= p.attributes["age"] <= 90 for p in people)
    assert {p.attributes["ancestry"] for p in people} == {"african", "asian", "caucasian"}
    by = {
        a: [p.attributes["melanin"] for p in people if p.attributes["ancestry"] == a] for a in ("african", "caucasian")
    }
    assert np.median(by["african"]) > 2 * np.median(by["caucasian"])
    identity = np.stack([p.identity for p in people])
    gap = identity[[s == "male" for s in sexes]].mean(axis=0) - identity[[s == "female" for s in sexes]].mean(axis=0)
    assert np.linalg.norm(gap) > 0.5  # sex shows in the shape


@pytest.mark.shared
def test_ict_invents_no_attributes(ict_path: object) -> None:
    person = sample_people(load_model(str(ict_path)), 1, 0)[0]
    assert set(person.attributes) == {"fitzpatrick", "melanin"}
    assert np.abs(person.identity).max() <= 2.5


def test_macro_weights_are_a_partition() -> None:
    names = tuple(
        f"{r}-{s}-{a}" for r in ("african", "asian", "caucasian") for s in ("female", "male") for a in ("young", "old")
    )
    w = macro_weights(names, 0.3, 40.0, np.array([0.2, 0.3, 0.5]), 0.5, 0.5)
    assert w.sum() == pytest.approx(1)
    assert w[names.index("caucasian-female-young")] == pytest.approx(0.5 * 0.7 * (1 - 15 / 65))
    heavy = ("universal-male-young-averagemuscle-maxweight", "universal-male-young-averagemuscle-averageweight")
    np.testing.assert_allclose(macro_weights(heavy, 1.0, 20.0, np.zeros(3), 0.75, 0.5), [0.5, 0.5])


def test_people_errors(model: MorphableModel) -> None:
    with pytest.raises(UsageError, match="number of people must not be negative"):
        sample_people(model, -1, 0)
    with pytest.raises(UsageError, match="seed must not be negative"):
        sample_people(model, 1, -1)


def test_more_melanin_is_darker_and_spans_the_types() -> None:
    levels = np.geomspace(*MELANIN_RANGE, 25)
    colours = [skin_colour(m, 0.008) for m in levels]
    light = [ita(c) for c in colours]
    assert (np.diff(light) < 0).all()
    assert {fitzpatrick(c) for c in colours} == {"I", "II", "III", "IV", "V", "VI"}
    assert all((c >= 0).all() and (c <= 1).all() for c in colours)


def test_more_blood_is_redder() -> None:
    pale, flushed = skin_colour(0.02, 0.005), skin_colour(0.02, 0.04)
    assert flushed[0] / flushed[1] > pale[0] / pale[1]
    assert flushed[1] < pale[1]


def test_ita_agrees_with_skimage() -> None:
    for c in ([0.8, 0.62, 0.53], [0.35, 0.22, 0.16]):
        lab = rgb2lab(np.array(c)[None, None])[0, 0]
        assert ita(np.array(c)) == pytest.approx(np.degrees(np.arctan2(lab[0] - 50, lab[2])), abs=0.1)


def test_srgb_round_trip() -> None:
    x = np.linspace(0, 1, 101)
    np.testing.assert_allclose(encode_srgb(decode_srgb(x)), x, atol=1e-7)
    assert decode_srgb(np.array([0.5]))[0] == pytest.approx(0.21404, abs=1e-5)


def test_appearance_is_seeded_and_plausible() -> None:
    a, b = (sample_appearance(np.random.default_rng(5)) for _ in range(2))
    assert a == b
    dark = [sample_appearance(np.random.default_rng(i), 0.3) for i in range(50)]
    assert all(x.iris[2] < 0.2 for x in dark)  # no blue eyes with very dark skin
    old = [sample_appearance(np.random.default_rng(i), 0.02, age=85.0) for i in range(50)]
    young = [sample_appearance(np.random.default_rng(i), 0.02, age=20.0) for i in range(50)]
    saturation = lambda xs: np.mean([max(x.hair) - min(x.hair) for x in xs])  # noqa: E731
    assert saturation(old) < saturation(young)


def test_paint_colours_what_it_says(model: MorphableModel) -> None:
    base = paint(model, DEFAULT)
    blue = paint(model, replace(DEFAULT, iris=(0.1, 0.2, 0.9)))
    changed = np.abs(blue - base).max(axis=1) > 0.01
    assert changed.any()
    assert (model.paint["iris"][changed] > 0).all()
    eyes = np.abs(model.mean[changed, 0].numpy())
    assert eyes.min() > 1
    assert eyes.max() < 6
    lips = model.paint["lip"] > 0.9
    assert base[lips, 0].mean() - base[lips, 1].mean() > 0.1  # red


def test_skin_colours_are_where_colorimeters_find_them() -> None:
    """Xiao et al. 2017 and the ITA literature: facial skin has L* 30 to 72, a* 6 to 15, b* 8 to 23."""
    for melanin in np.geomspace(*MELANIN_RANGE, 15)[:-1]:
        lightness, a, b = rgb2lab(skin_colour(melanin, 0.015)[None, None])[0, 0]
        assert 28 < lightness < 73
        assert 6 < a < 15
        assert 8 < b < 23


def test_all_skin_types_are_drawn() -> None:
    types = [p.attributes["fitzpatrick"] for p in sample_people(load_model(), 120, 1)]
    assert set(types) == {"I", "II", "III", "IV", "V", "VI"}


@pytest.mark.shared
def test_ict_people_close_their_eyes_and_lips(ict_path: object) -> None:
    m = load_model(str(ict_path))
    rng = np.random.default_rng(0)
    drawn = np.clip(rng.standard_normal((40, m.n_identity)), -2.5, 2.5)
    closed = np.stack([nearest_closed(m, c) for c in drawn])
    blink = m.coefficients({"eyeBlinkLeft": 1, "eyeBlinkRight": 1})

    def gaps(identity: np.ndarray, expression: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
        i, e = torch.as_tensor(identity, dtype=torch.float32), torch.as_tensor(expression)[None]
        y = m.landmarks(m.forward(i, e))[..., 1].numpy()
        return np.array([y[:, a] - y[:, b] for a, b in pairs])

    zero, rest = np.zeros((1, m.n_identity)), np.zeros_like(blink)
    for expression, pairs in ((blink, [(37, 41), (44, 46)]), (rest, [(62, 66)])):
        of_mean = gaps(zero, expression, pairs)
        assert (gaps(drawn, expression, pairs) > of_mean + 0.05).any()  # else nothing would be shown
        assert (gaps(closed, expression, pairs) < of_mean - 0.02).all()
    moved = np.linalg.norm(closed - drawn, axis=1)
    assert moved.max() < 0.5 * np.linalg.norm(drawn, axis=1).mean()
    inside = np.zeros(m.n_identity) + np.linalg.lstsq(constraints(m)[0], np.full(7, -0.2), rcond=None)[0]
    assert nearest_closed(m, inside) is inside  # who closes them already stays bit for bit


@pytest.mark.shared
def test_ict_mouth_and_nostrils_are_dark(ict_path: object) -> None:
    m = load_model(str(ict_path))
    socket = np.unique(m.faces[m.part == m.part_names.index("head")])
    x = m.mean.numpy()
    inside = socket[(np.abs(x[socket, 0]) < 2) & (np.abs(x[socket, 1] + 3.4) < 1.5) & (x[socket, 2] > 2)]
    skin = np.unique(m.faces[m.part == m.part_names.index("skin")])
    assert (m.paint["mouth_cavity"][np.setdiff1d(inside, skin)] > 0.99).all()
    noses = np.flatnonzero(m.paint["nostril"] > 0.5)
    assert len(noses) > 100
    assert np.abs(x[noses, 0]).max() < 2.2
    tip = m.landmarks(m.mean[None])[0, 30].numpy()
    assert (m.paint["nostril"][np.linalg.norm(x - tip, axis=1) < 0.8] < 0.05).all()


def test_a_stated_population() -> None:
    head = load_model()
    women = sample_people(head, 60, 2, Population(female=1.0, age=(60, 70), ancestry={"asian": 0.8, "african": 0.2}))
    a = [p.attributes for p in women]
    assert {x["sex"] for x in a} == {"female"}
    assert all(60 <= x["age"] <= 70 for x in a)
    assert max(x["ancestry_caucasian"] for x in a) < 0.01
    assert 0.65 < np.mean([x["ancestry_asian"] for x in a]) < 0.95
    everybody = sample_people(head, 2, 2)
    assert np.array_equal(sample_people(head, 2, 2, Population())[1].identity, everybody[1].identity)
    for wrong, message in (
        ({"female": 1.2}, "share of women must lie between 0 and 1"),
        ({"age": (10, 20)}, "from 18 to 90"),
        ({"age": (50, 40)}, "the younger first"),
        ({"ancestry": {"martian": 1.0}}, "ancestry must name african, asian, caucasian; got martian"),
        ({"ancestry": {"asian": 0.5}}, "sum to 1"),
    ):
        with pytest.raises(UsageError, match=message):
            Population(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="knows no sex, age or ancestry"):
        sample_people(replace(head, attributes={}), 1, 0, Population(female=1.0))
