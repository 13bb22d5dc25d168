"""Formatting, figures, checks, examples and the terminal's table."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from morphsym.analysis import causal
from morphsym.report import ExampleStrip, Frame, answer_table, examples_from_results
from morphsym.report import formatting as f
from morphsym.report.checks import arm_table, cells_check, checks
from morphsym.report.dag import EDGES, NODES, causal_graph
from morphsym.report.decisions import decision_rows
from morphsym.report.examples import image_uri, strip_view, target_logits
from morphsym.report.figures import all_figures, manipulation
from morphsym.report.sentences import power
from morphsym.report.style import CONTRASTS
from morphsym.report.view import source_views

from ..analysis.factory import Planted, tables
from .conftest import Case, case, strip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-1.234, "−1.23"),
        (0.0, "0.00"),
        (-0.001, "0.00"),
        (None, "–"),
        (float("nan"), "–"),
        (np.float32(2), "2.00"),
        (pd.NA, "–"),
    ],
)
def test_number(value: object, shown: str) -> None:
    assert f.number(value) == shown


@pytest.mark.parametrize(
    ("p", "cell", "text"),
    [
        (0.0004, "<\u202f.001", "p <\u202f.001"),
        (0.001, ".001", "p = .001"),
        (0.0234, ".023", "p = .023"),
        (0.9996, "1.000", "p = 1.000"),
        (1.0, "1.000", "p = 1.000"),
        (float("nan"), "–", ""),
    ],
)
def test_p(p: float, cell: str, text: str) -> None:
    assert f.p_cell(p) == cell
    assert f.p_text(p) == text


def test_words() -> None:
    assert f.join_words(["a"]) == "a"
    assert f.join_words(["a", "b", "c"]) == "a, b and c"
    assert f.plural(1, "person", "people") == "1 person"
    assert f.plural(12345, "picture") == "12\u202f345 pictures"
    assert f.clean("a\u202eb\x00\nc") == "a\ufffdb\ufffd c"
    assert len(f.shorten("x" * 300, 40)) == 40
    names = f.labels([f"{'long' * 10}{i}{'tail' * 10}" for i in range(3)], 12)
    assert len(set(names.values())) == 3


def test_contrasts_are_told_apart_without_colour() -> None:
    looks = list(CONTRASTS.values())
    assert len({k.marker for k in looks}) == len({k.line for k in looks}) == 3
    grey = sorted(float(np.dot(to_rgb(k.colour), (0.2126, 0.7152, 0.0722))) for k in looks)
    assert all(g < 0.5 for g in grey)  # dark enough on white
    assert len({k.filled for k in looks}) == 2


def test_drawing_leaves_no_global_state(people: Case) -> None:
    before = dict(matplotlib.rcParams)
    drawn = all_figures(people.analysis, source_views(people.analysis, people.conditions)[0])
    assert dict(matplotlib.rcParams) == before
    assert set(drawn) == {"forest", "decomposition", "dose", "heatmap", "bias"}


def test_alt_texts_say_the_numbers(people: Case) -> None:
    view = source_views(people.analysis, people.conditions)[0]
    drawn = all_figures(people.analysis, view)
    rows = people.analysis.effects
    rows = rows[(rows["test"] == "wilcoxon") & (rows["outcome"] == "logit") & (rows["strength"] == 1)]
    rows = rows[rows["classifier"] == "reacts"]
    pooled = rows[rows["pooled"] == "emotion+side"].set_index("contrast")["estimate"]
    assert (
        f"reacts: TE {f.number(pooled['TE'])} = IE {f.number(pooled['IE'])} + AE {f.number(pooled['AE'])}"
        in drawn["decomposition"].alt
    )
    happy = rows[(rows["emotion"] == "happiness") & (rows["pooled"] == "side")].set_index("contrast")["estimate"]
    assert (
        f"happiness {f.number(happy['TE'])} ({f.number(happy['AE'])})"
        in drawn["heatmap"].alt.split("reacts: ")[1].split(";")[0]
    )


def test_bars_add_up_on_the_page(people: Case) -> None:
    """The drawn bars themselves: IE and AE end at TE, on the side of zero where they belong."""
    from morphsym.report import figures as room

    view = source_views(people.analysis, people.conditions)[0]
    found = []
    original = room.draw

    def keep(name, title, alt, build, caption=""):  # type: ignore[no-untyped-def]
        found.append(build(7.2))
        return original(name, title, alt, build, caption)

    room.draw = keep  # type: ignore[assignment]
    try:
        room.decomposition(view)
    finally:
        room.draw = original  # type: ignore[assignment]
    bars = found[0].axes[0].patches
    for i, c in enumerate(view.classifiers):
        ie, ae = bars[2 * i], bars[2 * i + 1]
        assert ie.get_width() == pytest.approx(c.parts["IE"].value)
        assert ae.get_width() == pytest.approx(c.parts["AE"].value)
        if c.parts["IE"].value * c.parts["AE"].value > 0:
            assert ae.get_x() + ae.get_width() == pytest.approx(c.parts["TE"].value)


def test_causal_graph_is_acyclic_and_complete() -> None:
    assert {n for e in EDGES for n in e} == set(NODES)
    # nothing of the analysis' own graph is lost in the drawing
    shown = {"side weakness": "weakness", **dict.fromkeys(("pose", "light", "skin", "camera"), "scene")}
    assert set(EDGES) == {(shown.get(a, a), shown.get(b, b)) for a, b in causal.EDGES}
    remaining, left = set(EDGES), set(NODES)
    while left:
        roots = {n for n in left if not any(b == n for _, b in remaining)}
        assert roots, "the causal graph has a cycle"
        left -= roots
        remaining = {(a, b) for a, b in remaining if a not in roots}
    drawn = causal_graph()
    assert drawn.svg == causal_graph().svg
    assert drawn.svg != drawn.svg_narrow


def test_checks_hold_on_a_right_run_and_fail_on_wrong_ones() -> None:
    conditions, _ = tables(n_subjects=4, strengths=(0.5, 1.0))
    # the factory's baseline has intensity 1 and its null 1 − 0: equal amounts in matched and unilateral
    assert [c.passed for c in checks(conditions)] == [True, True, True]
    lopsided = conditions.copy()
    lopsided.loc[lopsided["arm"] == "matched", "realised_asymmetry"] += 0.2
    assert {c.name: c.passed for c in checks(lopsided)}["The matched control adds no asymmetry"] is False
    unmatched = conditions.copy()
    unmatched.loc[unmatched["arm"] == "matched", "realised_intensity"] += 0.05
    failed = [c.name for c in checks(unmatched) if c.passed is False]
    assert failed == ["The matched control keeps as much expression as the weakened face"]
    leaky = conditions.assign(realised_left=1.0, realised_right=1.0)
    edited = leaky["arm"] == "unilateral"
    leaky.loc[edited & (leaky["side"] == "left"), ["realised_left", "realised_right"]] = [0.5, 0.98]
    leaky.loc[edited & (leaky["side"] == "right"), ["realised_left", "realised_right"]] = [0.98, 0.5]
    assert {c.name: c.passed for c in checks(leaky)}["The untouched half stays as it was"] is True
    leaky.loc[edited, ["realised_left", "realised_right"]] = 0.7
    assert {c.name: c.passed for c in checks(leaky)}["The untouched half stays as it was"] is False


def test_checks_count_a_neutral_face_apart() -> None:
    conditions, _ = tables(n_subjects=3, strengths=(1.0,), emotions=("happiness", "neutral"))
    rest = conditions["expression"] == "neutral"
    conditions.loc[rest, ["realised_asymmetry", "realised_intensity"]] = 0.0
    found = {c.name: c for c in checks(conditions)}
    assert found["The weakness made the face asymmetric"].passed is True
    assert found["Units at rest"].detail.startswith("3 units")


def test_arm_table_and_its_figure() -> None:
    conditions, _ = tables(n_subjects=3, strengths=(0.5, 1.0))
    table = arm_table(conditions)
    row = table[(table["arm"] == "unilateral") & (table["strength"] == 1.0)].iloc[0]
    mine = conditions[(conditions["arm"] == "unilateral") & (conditions["strength"] == 1.0)]
    assert row["realised_asymmetry"] == pytest.approx(mine["realised_asymmetry"].mean())
    drawn = manipulation(table, "sampled")
    assert drawn is not None
    assert f"asymmetry {f.number(row['realised_asymmetry'])} mm" in drawn.alt
    assert manipulation(arm_table(conditions.iloc[:0]), "sampled") is None


def test_strip_rows_rise_in_strength_and_begin_with_the_factual_face() -> None:
    view = strip_view(strip())
    assert [r.side for r in view.rows] == ["left", "left", "right", "right"]
    for row in view.rows:
        assert [c.heading for c in row.cells] == ["factual", "0.5", "1"]
        assert [c.readings for c in row.cells] == [("2.10",), ("1.60",), ("1.10",)]
    assert view.rows[0].title == "The subject’s left half weakened"
    assert "left half weakened, strength 0.5" in view.rows[0].cells[1].alt


def test_image_uri_keeps_colours_and_orientation() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[:30, :45] = (250, 10, 10)  # top left: red
    image[30:, 45:] = (10, 10, 250)
    with Image.open(io.BytesIO(base64.b64decode(image_uri(image).split(",")[1]))) as back:
        assert back.size == (90, 60)
        assert np.abs(np.array(back.getpixel((10, 10))) - (250, 10, 10)).max() < 12
        assert np.abs(np.array(back.getpixel((80, 50))) - (10, 10, 250)).max() < 12
    with pytest.raises(ValueError, match="uint8"):
        image_uri(image.astype(np.float32))


def test_examples_come_from_the_results_folder_only(tmp_path: Path) -> None:
    conditions, predictions = tables(n_subjects=2, strengths=(0.5, 1.0), emotions=("happiness",))
    conditions["image"] = conditions["condition"].map(lambda c: f"images/{c.replace('/', '-')}.png")
    pixels = np.full((8, 8, 3), 200, np.uint8)
    for name in conditions["image"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    strips = examples_from_results(tmp_path, conditions, predictions)
    assert [s.unit for s in strips] == ["s0000.happiness", "s0001.happiness"]
    assert {fr.arm for fr in (Frame(*t) for t in strips[0].frames)} == {"baseline", "unilateral", "matched"}
    first = Frame(*strips[0].frames[0])
    rows = predictions[
        (predictions["condition"] == "s0000.happiness/baseline/none/0/none") & (predictions["classifier"] == "reacts")
    ]
    expected = float(rows.loc[rows["emotion"] == "happiness", "logit"].iloc[0] - rows["logit"].mean())
    assert first.readings["reacts"] == pytest.approx(expected, abs=1e-5)
    secret = tmp_path.parent / "secret.png"
    Image.fromarray(pixels).save(secret)
    conditions["image"] = "../secret.png"
    assert examples_from_results(tmp_path, conditions, predictions) == []
    assert examples_from_results(tmp_path, conditions.drop(columns="image"), predictions) == []


def test_readings_equal_the_analysis_targets(people: Case) -> None:
    """The effect recomputed from the readings is the effect of the unit table."""
    values = target_logits(people.conditions, people.predictions).set_index(["condition", "classifier"])["value"]
    units = people.analysis.units
    row = units[(units["contrast"] == "TE") & (units["outcome"] == "logit") & (units["classifier"] == "reacts")].iloc[0]
    after = values[f"{row['unit']}/unilateral/{row['side']}/{row['strength']:g}/all", "reacts"]
    before = values[f"{row['unit']}/baseline/none/0/none", "reacts"]
    assert after - before == pytest.approx(row["value"], abs=1e-5)


def test_an_empty_strip_is_no_crash() -> None:
    assert strip_view(ExampleStrip("u", "happiness", "photo", [])).rows == ()


@pytest.mark.parametrize("n", [1, 5, 17])
def test_answer_table_is_narrow_and_true(n: int) -> None:
    names = {
        f"organisation/an-extraordinarily-long-model-name-of-classifier-{i}": Planted(ae=-0.2 * i) for i in range(n)
    }
    found = case(*tables(n_subjects=6, strengths=(1.0,), classifiers=names))
    text = answer_table(found.analysis)
    assert max(map(len, text.splitlines())) <= 100
    assert not re.search(r"\b(nan|None)\b", text)
    verdicts = found.analysis.verdicts
    k = int((verdicts["total"] == "lowers").sum())
    assert f"{k} of {n} classifier" in text
    rows = [line for line in text.splitlines() if line.startswith("organisation")]
    assert len(rows) == n
    for line, (_, v) in zip(rows, verdicts.iterrows(), strict=True):
        assert f.number(v["te"]) in line
        assert f.number(v["ae"]) in line


def test_answer_table_of_one_photo_claims_nothing() -> None:
    found = case(*tables(n_subjects=1, source="photo", strengths=(1.0,)))
    text = answer_table(found.analysis)
    assert "no test is claimed" in re.sub(r"\s+", " ", text)
    assert "p =" not in text
    assert "p <" not in text


def test_decisions_are_the_flips_of_the_analysis(people: Case) -> None:
    view = source_views(people.analysis, people.conditions)[0]
    rows = {r.label: r for r in decision_rows(people.analysis, view)}
    flips = people.analysis.flips
    flips = flips[(flips["classifier"] == "reacts") & (flips["pooled"] == "emotion+side") & (flips["strength"] == 1)]
    for arm, shown in (("unilateral", rows["reacts"].flipped), ("matched", rows["reacts"].flipped_matched)):
        row = flips[flips["arm"] == arm].iloc[0]
        assert row["n_flipped"] > 0
        assert shown.startswith(f"{row['n_flipped']} of {row['n_units']} (")
    # the planted slopes: IE + AE = −1.4 in all, −0.6 of it asymmetry
    te, ae = rows["reacts"].te_slope, rows["reacts"].ae_slope
    assert te is not None
    assert ae is not None
    assert te.low < -1.4 < te.high or te.value == pytest.approx(-1.4, abs=0.4)
    assert ae.value == pytest.approx(-0.6, abs=0.2)
    assert rows["constant"].flipped.startswith("0 of ")


def test_one_strength_has_no_slope() -> None:
    found = case(*tables(n_subjects=3, strengths=(1.0,), emotions=("happiness",)))
    assert decision_rows(found.analysis, source_views(found.analysis)[0]) == []


@pytest.mark.parametrize(("n", "warned"), [(3, True), (6, True), (12, False)])
def test_too_few_people_are_said(n: int, warned: bool) -> None:
    """5 classifiers × TE and AE = 10 hypotheses: 2^(1 − n) × 10 must fall below 0.05, from n = 9 on."""
    found = case(*tables(n_subjects=n, strengths=(1.0,), emotions=("happiness",)))
    view = source_views(found.analysis)[0]
    text = power(view, found.analysis.options)
    assert bool(text) == warned
    assert ("More people are needed" in answer_table(found.analysis).replace("\n", " ")) == warned
    if warned:  # and it is true: nothing was established
        assert not set(found.analysis.verdicts["total"]) & {"lowers", "raises"}
    else:
        assert "lowers" in set(found.analysis.verdicts["total"])


def test_the_analysis_own_checks_in_one_line(people: Case) -> None:
    table = people.analysis.checks.copy()
    table.loc[table["check"] != "", ["check", "note"]] = ["ok", ""]
    right = cells_check(table)
    assert right is not None
    assert right.passed is True
    weak = table.copy()
    weak.loc[(weak["arm"] == "unilateral") & (weak["strength"] == 0.5), ["check", "note"]] = ["failed", "too little"]
    found = cells_check(weak)
    assert found is not None
    assert found.passed is None
    assert "too little" in found.detail
    weak.loc[(weak["arm"] == "unilateral") & (weak["strength"] == 1.0), ["check", "note"]] = ["failed", "nothing"]
    strong = cells_check(weak)
    assert strong is not None
    assert strong.passed is False
    assert cells_check(table.iloc[:0]) is None
