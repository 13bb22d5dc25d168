"""``morphsym demo``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .progress import bars, say, steps


@click.command("demo")
@click.option("--sample", type=click.IntRange(1), default=12, show_default=True, metavar="N", help="Sampled people.")
@options.seed
@options.out("demo")
@options.overwrite
@options.quiet
def command(sample: int, seed: int, out: Path, overwrite: bool, quiet: bool) -> None:
    """The whole chain on the bundled sample and sampled people.

    Fits the sample photo, weakens each side of it and of N sampled people with six emotions each at four strengths,
    renders all arms, asks the bundled classifiers, tests the paired differences and writes a report. Needs no
    downloads.
    """
    from morphsym import pipeline
    from morphsym.experiment import demo
    from morphsym.report import answer_table

    say(f"1/4 fit the sample photo          → {out / 'fits'}", quiet)
    demo.fit_sample(out / "fits")
    say(f"2/4 intervene, render and classify → {out / 'results'}", quiet)
    demo.run(out / "fits", out / "results", sample=sample, seed=seed, overwrite=overwrite, bar=bars(quiet))
    say("3/4 analyze the paired differences", quiet)
    with steps(quiet) as step:
        analysis, report = pipeline.analyze_results(out / "results", step=step)
    say(f"4/4 report                        → {report}\n", quiet)
    click.echo(answer_table(analysis))
    click.echo(f"\nThe report: {report.resolve()}")
