"""The answer in the terminal: a few sentences and one small table, at most 100 columns wide."""

from __future__ import annotations

import textwrap

from ..analysis import Analysis
from . import formatting as f
from . import sentences
from .view import ClassifierView, Estimate, SourceView, source_views

WIDTH = 100
_NAME = 22


def answer_table(analysis: Analysis) -> str:
    """What ``morphsym analyze`` and ``demo`` print: the answer in words, then one line a classifier."""
    lines = [sentences.QUESTION, ""]
    views = source_views(analysis)
    if not views:
        return "\n".join([*lines, "There is no answer: nothing could be compared."])
    for view in views:
        told = [*sentences.answer(view), sentences.power(view, analysis.options)]
        lines += [view.people[:1].upper() + view.people[1:], "─" * len(view.people)]
        lines += textwrap.wrap(" ".join(t for t in told if t).replace("\u202f", " "), WIDTH) + [""]
        if view.classifiers:
            lines += [*_table(view), ""]
    lines += textwrap.wrap(
        "Total = asymmetry + lost intensity, as changes of the centred logit of the shown emotion"
        if views[0].outcome == "logit"
        else "Total = asymmetry + lost intensity, as changes of the probability of the shown emotion",
        WIDTH,
    )
    lines += ["(negative: the output falls as symmetry falls); in brackets the interval over people."]
    return "\n".join(lines)


def _table(view: SourceView) -> list[str]:
    digits = 2 if view.outcome == "logit" else 3
    head = f"{'classifier':<{_NAME}} {'total effect':>21} {'lost':>6} {'asymmetry':>21}  asymmetry alone"
    rows = [head, "─" * min(WIDTH, len(head) + 6)]
    names = f.labels([c.name for c in view.classifiers], _NAME)
    for c in view.classifiers:
        ie = c.parts.get("IE")
        rows.append(
            f"{f.shorten(names[c.name], _NAME):<{_NAME}} {_cell(c, 'TE', digits):>21} "
            f"{f.number(ie.value if ie else None, digits):>6} "
            f"{_cell(c, 'AE', digits):>21}  {_words(c)}".rstrip()
        )
    return rows


def _cell(c: ClassifierView, part: str, digits: int) -> str:
    e: Estimate | None = c.parts.get(part)
    if e is None:
        return f.MISSING
    span = f.interval(e.low, e.high, digits)
    return f.number(e.value, digits) + (f" {span}" if span != f.MISSING else "")


def _words(c: ClassifierView) -> str:
    if c.asymmetry == "untested":
        return "not tested"
    told = {
        "lowers": "lowers it",
        "raises": "raises it",
        "equivalent": "no effect",
        "inconclusive": "inconclusive",
    }[c.asymmetry]
    e = c.parts.get("AE")
    p = (
        f.p_text(e.p_adjusted).replace("\u202f", " ")
        if e is not None and c.asymmetry in ("lowers", "raises", "inconclusive")
        else ""
    )
    return f"{told}{f', {p}' if p else ''}"
