"""Numbers and names as a person reads them. Nothing here ever prints 'nan' or 'None'."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

MINUS = "\u2212"
MISSING = "\u2013"
"""What stands in a table where a number could not be computed (an en dash; the reason is given beside the table)."""


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT, an infinity and an empty string."""
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    if isinstance(value, str):
        return not value.strip()
    try:
        return not math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def number(value: Any, digits: int = 2, sign: bool = False) -> str:
    """``value`` with ``digits`` decimals, a true minus sign, and a plus sign if ``sign``; an en dash where missing."""
    if is_missing(value):
        return MISSING
    text = f"{float(value):.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # a rounded zero has no sign
    elif text.startswith("-"):
        text = MINUS + text[1:]
    elif sign:
        text = "+" + text
    return text


def count(value: Any) -> str:
    """An integer with thin spaces between thousands ('12 345'); an en dash where missing."""
    return MISSING if is_missing(value) else f"{round(float(value)):,}".replace(",", "\u202f")


def percent(value: Any, digits: int = 0) -> str:
    """A share in [0, 1] as '37 %'."""
    return MISSING if is_missing(value) else f"{number(100 * float(value), digits)}\u202f%"


def interval(low: Any, high: Any, digits: int = 2) -> str:
    """'[−1.20, −0.31]', or an en dash when either end is missing."""
    if is_missing(low) or is_missing(high):
        return MISSING
    return f"[{number(low, digits)}, {number(high, digits)}]"


def p_cell(value: Any) -> str:
    """A p-value for a table: '< .001', '.023', '> .999', '1.000'."""
    if is_missing(value):
        return MISSING
    p = float(value)
    if p < 0.001:
        return "<\u202f.001"
    text = f"{p:.3f}"
    return text if text.startswith("1") else text[1:]


def p_text(value: Any, name: str = "p") -> str:
    """A p-value for running text: 'p < .001', 'p = .023'; '' where missing."""
    if is_missing(value):
        return ""
    cell = p_cell(value)
    return f"{name} {cell}" if cell.startswith("<") else f"{name} = {cell}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """'1 person', '12 people'."""
    return f"{count(n)} {one if n == 1 else (many or one + 's')}"


def join_words(words: Iterable[str], last: str = "and") -> str:
    """'a', 'a and b', 'a, b and c'."""
    items = [str(w) for w in words]
    if len(items) <= 1:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def strength_text(value: Any) -> str:
    """A strength without trailing zeros ('0.5', '1')."""
    return MISSING if is_missing(value) else f"{float(value):g}"


def clean(text: Any, limit: int = 200) -> str:
    """Untrusted text (a file name, a reason) made printable: no control characters, at most ``limit`` characters.

    Escaping for HTML is the template's work; this is about what can be *seen*: line breaks, zero-width and
    bidirectional control characters are replaced, so that a file name cannot rearrange a sentence.
    """
    if text is None or (not isinstance(text, str) and is_missing(text)):
        return ""
    shown = "".join(" " if c in "\n\r\t" else c for c in str(text))
    shown = "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else c for c in shown)
    return shorten(shown.strip(), limit)


def shorten(text: str, limit: int) -> str:
    """``text`` with its middle taken out where it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def labels(names: Sequence[str], limit: int = 26) -> dict[str, str]:
    """A short label for every name, unique: names that would collide when shortened are shortened less."""
    cleaned = {n: clean(n, 10_000) for n in names}
    out = {n: shorten(c, limit) for n, c in cleaned.items()}
    while limit < max(map(len, cleaned.values()), default=0) and len(set(out.values())) < len(set(cleaned.values())):
        limit *= 2
        seen = list(out.values())
        out = {n: shorten(cleaned[n], limit) if seen.count(s) > 1 else s for n, s in out.items()}
    return out


def finite(values: Any) -> np.ndarray:
    """The finite numbers among ``values`` as a float array."""
    array = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)
    return array[np.isfinite(array)]
