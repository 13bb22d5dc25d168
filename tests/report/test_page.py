"""The page: what it says is what the analysis found; it is self-contained, escaped, and the same each time."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from morphsym.analysis import analyze
from morphsym.errors import MorphsymError
from morphsym.report import write_report
from morphsym.report.formatting import interval, number
from morphsym.report.page import exclusion_rows

from ..analysis.factory import Planted, tables
from .conftest import MANIFEST, QUICK, Case, case, strip

HAPPY = ("happiness", "sadness")


class Page(HTMLParser):
    """Tags, attributes and text of a page; void elements are known, everything else must be closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "source", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


FEW = {"reacts": Planted(), "constant": Planted(ie=0.0, ae=0.0, noise=0.0, null_error=0.0)}


def primary(case: Case, classifier: str, contrast: str, source: str = "sampled") -> pd.Series:
    rows = case.analysis.effects
    rows = rows[rows["primary"] & rows["test"].isin(["wilcoxon", "none"]) & (rows["source"] == source)]
    return rows[(rows["classifier"] == classifier) & (rows["contrast"] == contrast)].iloc[0]


def test_every_number_of_the_verdict_table_is_the_analysis(both: Case, page: Path) -> None:
    words = read(page).words
    for classifier in ("reacts", "intensity-only", "asymmetry-only", "six-labels"):
        for contrast in ("TE", "IE", "AE"):
            row = primary(both, classifier, contrast)
            assert f"{number(row['estimate'])} {interval(row['ci_low'], row['ci_high'])}" in words


def test_the_answer_is_counted_from_the_verdicts(both: Case, page: Path) -> None:
    words = read(page).words
    verdicts = both.analysis.verdicts[both.analysis.verdicts["source"] == "sampled"]
    for kind, before in (("total", ""), ("asymmetry", "asymmetry alone lowers the output of ")):
        k = int((verdicts[kind] == "lowers").sum())
        assert 0 < k < 5
        assert f"{before}{k} of 5 classifiers" in words
    te = np.mean([primary(both, c, "TE")["estimate"] for c in verdicts["classifier"]])
    assert f"changes by {number(te)} at strength 1" in words


def test_one_photo_is_shown_and_not_tested(both: Case, page: Path) -> None:
    parsed = read(page)
    assert "1 photo of a real person" in parsed.words
    assert "for which no test is claimed" in parsed.words
    photo = parsed.words.split("Photos of real people")[1].split("What the classifiers saw")[0]
    assert number(primary(both, "reacts", "TE", "photo")["estimate"]) in photo
    assert not re.search(r"\bp [=<]|lowers|raises|intervals over", photo.split("The same in sentences")[0])


def test_self_contained_and_without_scripts(page: Path) -> None:
    parsed = read(page)
    assert parsed.all("script") == parsed.all("iframe") == parsed.all("object") == []
    loaded = [a.get(k, "") for _, a in parsed.tags for k in ("src", "srcset", "data", "poster", "background") if k in a]
    loaded += [a["href"] for a in parsed.all("link")]
    assert len(loaded) > 10
    assert all(u.startswith("data:") for u in loaded)
    html = page.read_text(encoding="utf-8")
    assert "url(" not in html
    assert "@import" not in html
    assert not [a for _, a in parsed.tags for k in a if k.startswith("on")]
    assert all(a["href"].startswith(("#", "https://doi.org/")) for a in parsed.all("a"))
    assert page.stat().st_size < 6_000_000


def test_links_within_the_page_lead_somewhere(page: Path) -> None:
    parsed = read(page)
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for a in parsed.all("a") if a["href"].startswith("#")}
    assert wanted
    assert wanted <= set(ids)


def test_every_image_decodes_and_has_a_text(page: Path) -> None:
    parsed = read(page)
    kinds = set()
    for attributes in parsed.all("img") + parsed.all("source"):
        uri = attributes.get("src") or attributes["srcset"]
        head, data = uri.split(",", 1)
        raw = base64.b64decode(data, validate=True)
        kinds.add(head)
        if "svg" in head:
            assert ElementTree.fromstring(raw).tag.endswith("svg")
        else:
            with Image.open(io.BytesIO(raw)) as picture:
                picture.load()
    assert kinds == {"data:image/svg+xml;base64", "data:image/jpeg;base64"}
    assert all(len(a["alt"]) > 15 for a in parsed.all("img"))


def test_nothing_missing_is_printed_as_a_number(page: Path) -> None:
    parsed = read(page)
    shown = [parsed.words, *(a.get("alt", "") for a in parsed.all("img"))]
    for text in shown:
        assert not re.search(r"\b(nan|NaN|None|inf|NaT)\b|<NA>", text), text[:200]
        assert "−0.00 " not in text


def test_figures_lie_beside_the_page(page: Path) -> None:
    figures = sorted(p.name for p in (page.parent / "figures").iterdir())
    stems = {Path(n).stem for n in figures}
    assert {f"{s}.{e}" for s in stems for e in ("svg", "png")} == set(figures)
    assert {
        "causal_model",
        "forest_sampled",
        "dose_response_sampled",
        "decomposition_photo",
        "emotions_sampled",
    } <= stems
    for name in figures:
        if name.endswith(".png"):
            with Image.open(page.parent / "figures" / name) as picture:
                assert picture.width > 1000
                assert "Software" not in picture.info


def test_summary_is_strict_json(both: Case, page: Path) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    summary = json.loads((page.parent / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert summary["report"]["answer"]["sampled"][0].endswith(".")
    assert set(both.analysis.summary) <= set(summary)


def test_same_input_same_bytes(both: Case, page: Path, tmp_path: Path) -> None:
    again = both.write(tmp_path)
    first, second = ({p.name: p.read_bytes() for p in sorted(f.parent.rglob("*.*"))} for f in (page, again))
    assert first.keys() == second.keys()
    assert [n for n in first if first[n] != second[n]] == []
    assert not [n for n in first if n.endswith(".tmp") or n.startswith(".")]


def test_untrusted_names_are_text(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>$\\frac{1}{0}$\u202e\nb&lt;'
    conditions, predictions = tables(
        n_subjects=4, strengths=(1.0,), emotions=HAPPY, classifiers={nasty: Planted(), "plain": Planted()}
    )
    first = conditions.index[conditions["arm"] == "unilateral"][0]
    conditions.loc[first, ["status", "reason"]] = ["failed", "<img src=x onerror=alert(1)>"]
    predictions = predictions[predictions["condition"] != conditions.loc[first, "condition"]]
    manifest = MANIFEST | {"fits": {'"><b>': {"photo": "a<b>.jpg", "sha256": "00"}}}
    path = case(conditions, predictions).write(tmp_path, manifest=manifest, examples=[strip("<i>unit</i>")])
    parsed = read(path)
    assert parsed.all("script") == []
    assert parsed.all("i") == []
    assert [a for _, a in parsed.tags if "onerror" in a] == []
    assert '<script>alert("x")</script>' in parsed.words  # shown, as text
    assert "\u202e" not in parsed.words
    assert "<img src=x onerror=alert(1)>" in parsed.words


def test_exclusions_are_counted_and_named(both: Case, page: Path) -> None:
    words = read(page).words
    assert f"2 of {number(len(both.conditions), 0)} conditions could not be made" in words
    assert "lost 12 of 18000 triangles" in words
    rows, hidden = exclusion_rows(both.analysis.exclusions)
    assert hidden == 0
    listed = sum(int(r["count"].replace("\u202f", "")) for r in rows if r["count"] != "–")
    assert listed == int(both.analysis.exclusions["count"].sum())


def test_methods_carry_the_numbers(page: Path) -> None:
    words = read(page).words
    assert "10 sampled synthetic people" in words
    assert "Wilcoxon signed-rank test" in words
    assert "499 resamples of subjects" in words
    assert "morphsym 9.8.7" in words
    assert "cd" * 32 in words
    assert "10.1007/978-981-96-0911-6_26" in words
    bibtex = words.split("BibTeX")[1].split("Versions and hashes")[0]
    assert bibtex.count("{") == bibtex.count("}")
    assert {"@inproceedings", "@software", "@article", "@book"} <= set(re.findall(r"@\w+", bibtex))
    assert 'B{\\"u}chner, Tim and Penzel, Niklas and Guntinas-Lichius, Orlando and Denzler, Joachim' in bibtex


def test_a_failed_manipulation_stands_beneath_the_answer(tmp_path: Path) -> None:
    conditions, predictions = tables(n_subjects=4, strengths=(1.0,), emotions=HAPPY, classifiers=FEW)
    conditions["realised_asymmetry"] = 0.01
    words = read(case(conditions, predictions).write(tmp_path)).words
    assert "a check of the manipulation fails. The weakness made the face asymmetric" in words
    assert words.index("a check of the manipulation fails") < words.index("The words used here")


@pytest.mark.parametrize(
    "drop",
    [["matched"], ["null"], ["mirrored_baseline", "mirrored_unilateral"], ["matched", "null", "mirrored_baseline"]],
)
def test_missing_arms_leave_a_report(tmp_path: Path, drop: list[str]) -> None:
    conditions, predictions = tables(n_subjects=4, strengths=(1.0,), emotions=HAPPY, classifiers=FEW)
    conditions = conditions[~conditions["arm"].isin(drop)]
    predictions = predictions[predictions["condition"].isin(conditions["condition"])]
    path = case(conditions, predictions).write(tmp_path)
    test_nothing_missing_is_printed_as_a_number(path)


def test_one_side_one_strength_one_person(tmp_path: Path) -> None:
    conditions, predictions = tables(
        n_subjects=1, strengths=(0.5,), sides=("left",), emotions=("happiness",), classifiers=FEW
    )
    path = case(conditions, predictions).write(tmp_path, examples=[])
    words = read(path).words
    assert "One sampled person: an illustration" in words
    assert "No pictures were kept" in words
    test_nothing_missing_is_printed_as_a_number(path)


def test_everything_failed(tmp_path: Path) -> None:
    conditions, predictions = tables(n_subjects=2, strengths=(1.0,), emotions=HAPPY, classifiers=FEW)
    lost = conditions["arm"] == "baseline"
    conditions.loc[lost, ["status", "reason"]] = ["failed", "no face"]
    predictions = predictions[predictions["condition"].isin(conditions.loc[~lost, "condition"])]
    path = write_report(tmp_path, analyze(conditions, predictions, QUICK), conditions, predictions, {}, [])
    words = read(path).words
    assert "No pair of pictures was left to compare" in words or "Nothing could be compared" in words
    assert "no face" in words
    test_nothing_missing_is_printed_as_a_number(path)


def test_seventeen_classifiers_fit(tmp_path: Path) -> None:
    many = {f"a-rather-long-classifier-name-{i:02d}": Planted(ae=-0.1 * i) for i in range(17)}
    path = case(*tables(n_subjects=5, strengths=(0.5, 1.0), classifiers=many)).write(tmp_path)
    assert path.stat().st_size < 6_000_000


def test_unwritable_folder_is_said(both: Case, tmp_path: Path) -> None:
    (tmp_path / "analysis").write_text("in the way")
    with pytest.raises(MorphsymError, match=r"a file is in the way"):
        both.write(tmp_path)


def test_the_option_of_the_probability(tmp_path: Path) -> None:
    conditions, predictions = tables(n_subjects=5, strengths=(1.0,), emotions=HAPPY, classifiers=FEW)
    analysis = analyze(conditions, predictions, replace(QUICK, primary_outcome="probability"))
    words = read(write_report(tmp_path, analysis, conditions, predictions, MANIFEST, [])).words
    assert "the probability of the shown emotion changes by" in words
