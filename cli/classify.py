"""``morphsym classify``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .progress import bars, say, warnings_at_the_end


@click.command("classify")
@options.results
@click.option("--classifier", "classifiers", multiple=True, required=True, help="A classifier's name; may be repeated.")
@options.crop_margins
@options.device
@options.quiet
def command(
    results: Path, classifiers: tuple[str, ...], crop_margins: tuple[float, ...], device: str, quiet: bool
) -> None:
    """Add classifiers to finished RESULTS.

    The pictures are rendered again, exactly as they were, from what the manifest says. Classifiers that are already
    there are left alone.

    \b
    morphsym classify results/ --classifier face_expression_net
    """
    from morphsym.classifiers import with_margins
    from morphsym.experiment import study as studies

    names = with_margins(classifiers, crop_margins or (1.0,))
    chosen = None if device == "auto" else device
    with warnings_at_the_end(quiet):
        added = studies.add_classifiers(results, names, bar=bars(quiet), device=chosen)
    if added:
        say(f"added {', '.join(added)} to {results}\nnext: morphsym analyze {results}", quiet)
    else:
        say(f"nothing to do: {results} already has {', '.join(names)}", quiet)
