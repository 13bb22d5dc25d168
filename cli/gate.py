"""``morphsym gate``."""

from __future__ import annotations

from pathlib import Path

import click

from morphsym.errors import MorphsymError

from . import options
from .progress import say


class GateError(MorphsymError):
    """A classifier reacts more strongly than allowed."""


@click.command("gate")
@options.results
@click.option(
    "--max-asymmetry-effect",
    type=float,
    required=True,
    metavar="E",
    help="Largest allowed asymmetry effect (AE), as a change of the centred logit.",
)
@options.quiet
def command(results: Path, max_asymmetry_effect: float, quiet: bool) -> None:
    """Check a classifier's release: fail when it reacts to asymmetry.

    Exits with 1 when the asymmetry part (AE) of any classifier in analyzed RESULTS is larger than E in either
    direction, or could not be computed. For continuous integration.

    \b
    morphsym gate results/ --max-asymmetry-effect 0.3
    """
    from morphsym import analysis, pipeline

    breaches = analysis.gate(pipeline.effects_of(results), max_asymmetry_effect)
    for b in breaches:
        say(f"{b.classifier} ({b.source}): {b.reason}", quiet)
    if breaches:
        raise GateError(f"{len(breaches)} asymmetry effects exceed {max_asymmetry_effect:g} or are missing")
    say(f"every asymmetry effect is within ±{max_asymmetry_effect:g}", quiet)
