"""Progress bars on standard error, and messages that keep out of their way."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
from tqdm import tqdm


def bars(quiet: bool) -> Callable[[int, str], Any]:
    """A factory of progress bars: ``bars(quiet)(total, description)`` is a context that yields ``advance(n)``.

    ``advance(n, failed=k)`` counts failures beside the bar; ``skipped=True`` is for what was there already.
    """

    @contextmanager
    def bar(total: int, description: str) -> Iterator[Callable[..., Any]]:
        bad = 0
        with tqdm(
            total=total, desc=description, unit="img", file=sys.stderr, disable=quiet, dynamic_ncols=True, leave=True
        ) as progress:

            def advance(n: int, failed: int = 0, skipped: bool = False) -> None:
                nonlocal bad
                if skipped and not quiet:  # done in an earlier run: no part of this one's rate
                    progress.initial += n
                    progress.last_print_n += n
                if failed:
                    bad += failed
                    progress.set_postfix_str(f"{bad} failed", refresh=False)
                progress.update(n)

            with _told_of_ctrl_c(progress):
                yield advance

    return bar


@contextmanager
def _told_of_ctrl_c(progress: tqdm[Any]) -> Iterator[None]:
    """Say beside the bar what the first Ctrl-C does: what is at work is finished and kept."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        progress.set_description_str("Stopping when what is at work is done (again: at once)")
        before(number, frame)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def download(quiet: bool, description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of bytes; yields a function of the bytes that are there and the bytes there will be (None: unknown)."""
    progress: tqdm[Any] | None = None

    def told(have: int, total: int | None) -> None:
        nonlocal progress
        if progress is None:  # a resumed download begins where it was
            progress = tqdm(
                total=total, initial=have, desc=description, unit="B", unit_scale=True, file=sys.stderr, disable=quiet
            )
        progress.update(have - progress.n)

    try:
        yield told
    finally:
        if progress is not None:
            progress.close()


def say(message: str, quiet: bool = False) -> None:
    """A message for a person, on standard error."""
    if not quiet:
        click.echo(message, err=True)


@contextmanager
def warnings_at_the_end(quiet: bool) -> Iterator[dict[str, int]]:
    """Python's warnings, each told once when the work is over (or has failed), beside the bar's way."""
    from morphsym.experiment.warned import gather

    with gather() as found:
        try:
            yield found
        finally:
            for text, count in found.items():
                say(f"warning: {text}" + (f" ({count} times)" if count > 1 else ""), quiet)


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


def tell_plan(plan: Any, engine: str, as_json: bool) -> None:
    """What a dry run found."""
    if as_json:
        click.echo(json.dumps(vars(plan) | {"engine": engine}))
        return
    click.echo(f"{plan.images} pictures of {plan.units} units, {plan.classifiers} classifiers, {plan.shards} shards")
    if plan.photos_to_fit:
        click.echo(f"{plan.photos_to_fit} photos are to be fitted first (about a second each, with a detector)")
    if plan.seconds is None:
        click.echo("the time is not known before photos are fitted")
        return
    click.echo(
        f"about {_duration(plan.seconds)} with {plan.workers} workers here "
        f"({1000 * plan.seconds_per_image:.1f} ms a picture and worker, measured just now)"
    )
    click.echo(f"about {plan.bytes / 1e6:.1f} MB of tables")
    click.echo(f"renderer {plan.renderer}")
    click.echo(plan.memory)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
