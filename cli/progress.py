"""Progress bars on standard error, and messages that keep out of their way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from tqdm import tqdm


def bars(quiet: bool) -> Callable[[int, str], Any]:
    """A factory of progress bars: ``bars(quiet)(total, description)`` is a context that yields ``advance(n)``."""

    @contextmanager
    def bar(total: int, description: str) -> Iterator[Callable[[int], Any]]:
        with tqdm(
            total=total, desc=description, unit="img", file=sys.stderr, disable=quiet, dynamic_ncols=True, leave=True
        ) as progress:
            yield progress.update

    return bar


def say(message: str, quiet: bool = False) -> None:
    """A message for a person, on standard error."""
    if not quiet:
        click.echo(message, err=True)


@contextmanager
def steps(quiet: bool) -> Iterator[Callable[[str], Any]]:
    """For work in a few steps: yields a function that is told what begins; shows it with the time it has taken."""
    progress: tqdm[Any] | None = None

    def step(text: str) -> None:
        nonlocal progress
        if progress is None:  # not before there is something to say: an error message stands alone
            progress = tqdm(total=0, bar_format="{desc} {elapsed}", file=sys.stderr, disable=quiet, leave=False)
        progress.set_description_str(text + " …")
        progress.refresh()

    try:
        yield step
    finally:
        if progress is not None:
            progress.close()
