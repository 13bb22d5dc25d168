"""The HTML page: one self-contained file, its figures beside it, everything written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd

import morphsym

from ..analysis import Analysis, causal
from ..errors import StoreError
from ..experiment.atomic import ensure_folder, write_bytes, write_text
from . import citations, dag, figures, methods, sentences
from . import formatting as f
from .beyond import Beyond, beyond
from .checks import Check, arm_table, cells_check, checks
from .decisions import DecisionRow, decision_rows
from .examples import ExampleStrip, examples_from_results, strip_view
from .style import Drawn
from .view import ClassifierView, Estimate, SourceView, select, source_views

EXCLUSION_ROWS = 40
"""At most so many reasons are listed; all are counted."""

_AGAIN = "rendered again − rendered once"


@dataclass(frozen=True)
class NullRow:
    """What rendering alone does to one classifier."""

    classifier: str
    kind: str
    estimate: Estimate
    size: float


@dataclass(frozen=True)
class Block:
    """Everything that the page says of one source."""

    view: SourceView
    answer: list[str]
    digits: int
    table_caption: str
    sentences: list[str]
    notes: list[str]
    checks: list[Check]
    arms: list[dict[str, str]]
    power: str
    decisions: list[DecisionRow]
    null_rows: list[NullRow]
    null_notes: list[str]
    figures: dict[str, Drawn] = field(default_factory=dict)
    manipulation: Drawn | None = None
    beyond: Beyond = field(default_factory=Beyond)


def write_report(
    results: Path,
    analysis: Analysis,
    conditions: pd.DataFrame,
    predictions: pd.DataFrame,
    manifest: Mapping[str, Any],
    examples: Sequence[ExampleStrip] | None = None,
) -> Path:
    """Write ``results/analysis/``: ``report.html``, ``summary.json`` and ``figures/*.png`` and ``*.svg``.

    ``conditions`` and ``predictions`` are the tables that ``analysis`` was made from; ``examples`` are the pictures to
    show (default: those that the run kept in ``results/images``). Returns the path of ``report.html``. The same input
    gives the same bytes. Raises :class:`StoreError` where the folder cannot be written.
    """
    folder = ensure_folder(Path(results) / "analysis")
    if examples is None:
        examples = examples_from_results(Path(results), conditions, predictions)
    blocks = [_block(analysis, view, conditions) for view in source_views(analysis, conditions)]
    graph = dag.causal_graph()
    for drawn in [graph, *(d for b in blocks for d in (*b.figures.values(), b.manipulation) if d is not None)]:
        write_bytes(folder / "figures" / f"{drawn.name}.svg", drawn.svg)
        write_bytes(folder / "figures" / f"{drawn.name}.png", drawn.png)
    write_text(folder / "summary.json", summary_json(analysis, blocks))
    page = folder / "report.html"
    write_text(page, render(analysis, blocks, graph, conditions, manifest, examples))
    return page


def summary_json(analysis: Analysis, blocks: Sequence[Block]) -> str:
    """The machine-readable summary: the analysis' own, with the sentences of the report."""
    told = {b.view.source: b.answer for b in blocks}
    return json.dumps(_plain({**analysis.summary, "report": {"answer": told}}), indent=2, sort_keys=True) + "\n"


def render(
    analysis: Analysis,
    blocks: Sequence[Block],
    graph: Drawn,
    conditions: pd.DataFrame,
    manifest: Mapping[str, Any],
    examples: Sequence[ExampleStrip],
) -> str:
    """The page as text."""
    version = str(_get(manifest, "versions", "morphsym") or morphsym.__version__)
    views = [b.view for b in blocks]
    rows, hidden = exclusion_rows(analysis.exclusions)
    has_bias = any("bias" in b.figures for b in blocks)
    contents = [
        ("verdicts", "Classifier by classifier"), ("pictures", "Pictures"), ("effects", "How strongly"),
        *([("bias", "Biases")] if has_bias else []),
        *([("people", "For whom")] if any(b.beyond.people_text for b in blocks) else []),
        *([("robust", "Does it hold")] if any(b.beyond.any_robust for b in blocks) else []),
        *([("real", "Real photos")] if any(b.beyond.photos_text for b in blocks) else []),
        ("checks", "Checks"), ("excluded", "Left out"),
        ("model", "Causal model"), ("methods", "Methods"), ("references", "References"), ("provenance", "Versions"),
    ]  # fmt: skip
    return _template().render(
        css=markupsafe.Markup(_asset("report.css")),
        version=version,
        title="facial symmetry and expression classifiers",
        question=sentences.QUESTION,
        byline=_byline(views, conditions, manifest),
        blocks=blocks,
        warnings=_warnings(blocks),
        contents=contents,
        terms=sentences.TERMS,
        verdict_words=sentences.VERDICT_WORDS,
        rules=_rules(analysis.summary),
        strips=[strip_view(s) for s in examples],
        has_bias=has_bias,
        exclusions=rows,
        exclusions_hidden=hidden,
        exclusion_text=_exclusion_text(analysis, conditions),
        graph=graph,
        assumptions=causal.ASSUMPTIONS,
        methods=methods.methods(views, analysis.options, conditions, manifest, version),
        limits=methods.LIMITS,
        references=citations.references(version, analysis.options),
        provenance=provenance(manifest),
    )


def _block(analysis: Analysis, view: SourceView, conditions: pd.DataFrame) -> Block:
    null_rows = _null_rows(analysis, view)
    null_notes = []
    again = [r for r in null_rows if r.kind == _AGAIN]
    if again and all(r.size == 0 for r in again):
        null_rows = [r for r in null_rows if r.kind != _AGAIN]
        null_notes = ["Rendered a second time with nothing edited, every picture gives exactly the same output."]
    mine = conditions[conditions["source"] == view.source]
    table = arm_table(mine)
    arms = [
        {
            "arm": f.clean(r["arm"]),
            "strength": f.strength_text(r["strength"]),
            "images": f.count(r["images"]),
            "asymmetry": f.number(r.get("realised_asymmetry"), 3),
            "intensity": f.number(r.get("realised_intensity"), 3),
            "displacement": f.number(r.get("displacement"), 3),
            "mirror": f.number(r.get("mirror_ssim"), 3),
            "change": f.percent(r.get("image_change"), 2),
        }
        for r in table.to_dict("records")
    ]
    return Block(
        view,
        sentences.answer(view),
        2 if view.outcome == "logit" else 3,
        _table_caption(analysis, view),
        [c.sentence for c in view.classifiers if c.sentence],
        _notes(view),
        [*checks(mine), *([own] if (own := cells_check(select(analysis.checks, source=view.source))) else [])],
        arms,
        sentences.power(view, analysis.options),
        decision_rows(analysis, view),
        null_rows,
        null_notes,
        figures.all_figures(analysis, view),
        figures.manipulation(table, view.source),
        beyond(analysis, view),
    )


def _table_caption(analysis: Analysis, view: SourceView) -> str:
    outcome = "centred logit" if view.outcome == "logit" else "probability"
    sides = "left and right averaged" if {"left", "right"} <= set(view.sides) else f"side: {f.join_words(view.sides)}"
    text = (
        f"Change of the {outcome} of the shown emotion at strength {f.strength_text(view.strength)}, region "
        f"{f.clean(view.region)}, averaged over {f.plural(len(view.emotions), 'emotion')} ({sides})."
    )
    if view.tested:
        options = analysis.options
        level, people = f.number(100 * options.confidence, 0), f.plural(view.n_subjects, "subject")
        text += (
            f" Brackets: {level} % intervals over {people}. AE / TE: the share of asymmetry, where the total effect is "
            "clear and both parts pull in one direction. p: two-sided, corrected for all hypotheses of this table. "
            "dz: mean over standard deviation of the subjects. ‘No effect’: shown to lie within "
            f"±{options.sesoi.get(view.outcome, float('nan')):g} of zero."
        )
    return text


def _notes(view: SourceView) -> list[str]:
    """What a reader must know of single cells, once each."""
    notes: dict[str, list[str]] = {}
    for c in view.classifiers:
        for part, e in c.parts.items():
            if e.note:
                notes.setdefault(e.note, []).append(f"{c.label} ({part})")
    told = []
    for note, where in notes.items():
        every = len(where) == sum(len(c.parts) for c in view.classifiers)
        who = f.join_words(where[:4]) + (f" and {len(where) - 4} more" if len(where) > 4 else "")
        told.append(f"{'All classifiers' if every else who}: {note}{'' if note.endswith('.') else '.'}")
    return told


def _null_rows(analysis: Analysis, view: SourceView) -> list[NullRow]:
    kinds = {"null_error": "rendered face − untouched photo", "rerender": _AGAIN}
    rows = []
    for c in view.classifiers:
        for kind, words in kinds.items():
            found = figures.pooled_row(analysis, view, c.name, kind)
            if found is None or f.is_missing(found.value):
                continue
            rows.append(NullRow(c.label, words, found, _size(analysis, view, c, kind)))
    return rows


def _size(analysis: Analysis, view: SourceView, c: ClassifierView, kind: str) -> float:
    """Mean over units of the absolute difference."""
    units = analysis.units
    if units.empty:
        return float("nan")
    own = units[(units["source"] == view.source) & (units["classifier"] == c.name) & (units["contrast"] == kind)]
    values = f.finite(own.loc[own["outcome"] == view.outcome, "value"])
    return float(abs(values).mean()) if len(values) else float("nan")


def _warnings(blocks: Sequence[Block]) -> list[str]:
    """What must not be overlooked: it stands directly beneath the answer."""
    told = []
    for b in blocks:
        for c in b.checks:
            if c.passed is False:
                told.append(f"{b.view.heading}: a check of the manipulation fails. {c.name}: {c.detail}.")
        small = [
            f"{c.label} ({p})" for c in b.view.classifiers for p, e in c.parts.items() if e.below_null and p != "IE"
        ]
        if small and b.view.tested:
            told.append(
                f"{b.view.heading}: smaller than what rendering alone does, and therefore not reported as found: "
                f"{f.join_words(small)}."
            )
    return told


def _byline(views: Sequence[SourceView], conditions: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    names = {c.name for v in views for c in v.classifiers}
    parts = [f.plural(len(names), "classifier"), *(v.people for v in views), f.plural(len(conditions), "picture")]
    when = f.clean(manifest.get("finished") or manifest.get("started"), 25)[:10]
    return " · ".join([*parts, *([when] if when else [])])


def _rules(summary: Mapping[str, Any]) -> list[str]:
    sources = summary.get("sources")
    rules = [s.get("rules") for s in sources.values() if isinstance(s, Mapping)] if isinstance(sources, Mapping) else []
    return list(dict.fromkeys(f.clean(r, 2000) for r in rules if r))


def exclusion_rows(table: pd.DataFrame) -> tuple[list[dict[str, str]], int]:
    """One row a reason, source and classifier, the most frequent first; and how many rows are not shown."""
    if table.empty:
        return [], 0
    rows = []
    for (reason, source, classifier), g in table.fillna({"classifier": "", "source": ""}).groupby(
        ["reason", "source", "classifier"], sort=False
    ):
        units = list(dict.fromkeys(f.clean(u, 60) for u in g["unit"] if not f.is_missing(u)))
        arms = list(dict.fromkeys(f.clean(a) for a in g["arm"] if not f.is_missing(a)))
        emotions = list(dict.fromkeys(f.clean(e) for e in g["emotion"] if not f.is_missing(e)))
        where = [f.join_words(units[:3]) + (f" and {len(units) - 3} more" if len(units) > 3 else "")] if units else []
        where += [f"arm {f.join_words(arms)}"] if 0 < len(arms) <= 3 else []
        where += [f.join_words(emotions)] if emotions and not units else []
        total = int(pd.to_numeric(g["count"], errors="coerce").fillna(0).sum())
        shown = {
            "reason": f.clean(reason, 300),
            "source": f.clean(source) or "all",
            "classifier": f.clean(classifier, 60) or "all",
            "count": f.count(total) if total else f.MISSING,
            "units": f.count(len(units)) if units else f.MISSING,
            "where": "; ".join(where) or f.MISSING,
        }
        rows.append((total, shown))
    rows.sort(key=lambda r: -r[0])
    return [r for _, r in rows[:EXCLUSION_ROWS]], max(0, len(rows) - EXCLUSION_ROWS)


def _exclusion_text(analysis: Analysis, conditions: pd.DataFrame) -> str:
    failed = int((conditions["status"] != "ok").sum())
    total = f.plural(len(conditions), "condition")
    if analysis.exclusions.empty:
        return f"Nothing: all {total} could be made, classified and paired."
    start = f"{f.count(failed)} of {total} could not be made" if failed else f"All {total} could be made"
    return f"{start}. A condition without a value takes its whole pair out; nothing is ever put in its place."


def provenance(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The manifest as rows: what ran, in which versions, on what, with the hashes of everything that determines it."""
    resolved = _get(manifest, "spec", "resolved")
    rows: list[tuple[str, Any]] = [
        ("study (sha256 of the specification)", manifest.get("spec_sha256")),
        ("seed", manifest.get("seed")),
        ("started, finished", " – ".join(str(manifest[k]) for k in ("started", "finished") if manifest.get(k))),
        ("git revision", manifest.get("git")),
        ("device, renderer", ", ".join(str(manifest[k]) for k in ("device", "renderer") if manifest.get(k))),
    ]
    model = manifest.get("model")
    if isinstance(model, Mapping):
        words = " · ".join(str(model[k]) for k in ("name", "source", "licence", "sha256") if model.get(k))
        rows.append(("face model", words))
    named = manifest.get("classifiers")
    for name, about in named.items() if isinstance(named, Mapping) else ():
        hashed = about.get("sha256") if isinstance(about, Mapping) else about
        rows.append((f"classifier {f.clean(name, 60)}", hashed))
    fits = manifest.get("fits")
    for name, about in list(fits.items())[:50] if isinstance(fits, Mapping) else ():
        words = (
            " · ".join(str(about[k]) for k in ("photo", "sha256") if about.get(k))
            if isinstance(about, Mapping)
            else about
        )
        rows.append((f"photo {f.clean(name, 60)}", words))
    versions = manifest.get("versions")
    if isinstance(versions, Mapping):
        rows.append(("versions", ", ".join(f"{k} {v}" for k, v in versions.items() if v)))
    if isinstance(resolved, Mapping):
        rows.append(("options, resolved", json.dumps(_plain(resolved), sort_keys=True)))
    return [(name, f.clean(value, 3000)) for name, value in rows if not f.is_missing(value)]


def _get(mapping: Any, *keys: str) -> Any:
    for key in keys:
        mapping = mapping.get(key) if isinstance(mapping, Mapping) else None
    return mapping


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it; what is not a finite number becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float) or hasattr(value, "item"):
        number = value.item() if hasattr(value, "item") else value
        return None if f.is_missing(number) else number
    return str(value)


def _asset(name: str) -> str:
    path = Path(__file__).with_name(name)
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise StoreError(f"the report's {name} is missing from {path.parent}; reinstall morphsym") from None


def _soft(name: str) -> markupsafe.Markup:
    """``name``, escaped, with places where a long name may break."""
    return markupsafe.Markup("_<wbr>").join(markupsafe.escape(part) for part in name.split("_"))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "number": f.number,
        "percent": f.percent,
        "p_text": f.p_text,
        "strength": f.strength_text,
        "soft": _soft,
    }
    environment.globals["interval"] = f.interval
    return environment.from_string(_asset("report.html"))
