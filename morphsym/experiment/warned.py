"""Python's warnings, gathered: told once each, after the bar, and without names in an anonymous study."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def gather() -> Iterator[dict[str, int]]:
    """While this lasts warnings are not shown; yields them, each with how often it came."""
    found: dict[str, int] = {}

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        text = " ".join(str(message).split())[:300]
        found[text] = found.get(text, 0) + 1

    with _shown_by(show):
        yield found


@contextlib.contextmanager
def rewriting(change: Callable[[str], str]) -> Iterator[None]:
    """While this lasts warnings are shown with the text that ``change`` makes of theirs."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        before(category(change(str(message))), category, *args, **kwargs)

    with _shown_by(show):
        yield


@contextlib.contextmanager
def _shown_by(show: Any) -> Iterator[None]:
    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def again(found: dict[str, int]) -> None:
    """Warn in this process of what was gathered in another, and forget it."""
    for text in found:
        warnings.warn(text, stacklevel=2)
    found.clear()
