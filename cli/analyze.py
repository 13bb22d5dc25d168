"""``morphsym analyze``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options
from .progress import say, steps


@click.command("analyze")
@options.results
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Level of the tests and of the verdicts.")
@click.option("--permutations", type=int, default=10_000, show_default=True, help="Sign flips, where not exact.")
@click.option("--bootstrap", type=int, default=10_000, show_default=True, help="Bootstrap replicates of subjects.")
@options.seed
@click.option("--pdf", is_flag=True, help="Write report.pdf too (needs Chromium).")
@options.quiet
@options.as_json
def command(
    results: Path, alpha: float, permutations: int, bootstrap: int, seed: int, pdf: bool, quiet: bool, as_json: bool
) -> None:
    """Paired analysis and report of RESULTS.

    Writes RESULTS/analysis/: effects.csv, effects.parquet, figures and report.html, one self-contained page.

    \b
    morphsym analyze results/
    """
    from morphsym import pipeline
    from morphsym.analysis import AnalysisOptions, require_manipulation
    from morphsym.errors import UsageError
    from morphsym.experiment.places import is_remote
    from morphsym.report import answer_table, write_pdf

    if pdf and is_remote(results):
        raise UsageError(
            f"--pdf prints a page of this machine; {results} is in a store: fetch report.html, then print it"
        )
    asked = AnalysisOptions(seed=seed, alpha=alpha, permutations=permutations, bootstrap=bootstrap)
    with steps(quiet) as step:
        analysis, report = pipeline.analyze_results(results, asked, step)
        if pdf:
            step("Writing the PDF")
            printed = write_pdf(report)
    require_manipulation(analysis.checks)
    if as_json:
        click.echo(json.dumps(analysis.summary | {"report": str(report)}, allow_nan=False))
        return
    click.echo(answer_table(analysis))
    say(f"report: {report}" + (f"\nprinted: {printed}" if pdf else ""), quiet)
