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
@click.option(
    "--sesoi",
    type=float,
    metavar="E",
    help="Smallest effect of interest, on the primary outcome's scale: within ±E counts as no effect.  "
    "[default: 0.1 logit, 0.01 probability]",
)
@click.option(
    "--primary-strength", type=float, metavar="[0-1]", help="Strength of the verdicts.  [default: the largest]"
)
@click.option("--primary-region", metavar="NAME", help="Region or clinical pattern of the verdicts.  [default: all]")
@click.option(
    "--outcome",
    type=click.Choice(["logit", "probability"]),
    default="logit",
    show_default=True,
    help="Scale of the verdicts.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "fdr_bh"]),
    default="holm",
    show_default=True,
    help="Correction for several tests.",
)
@click.option(
    "--interval",
    type=click.Choice(["percentile", "bca"]),
    default="percentile",
    show_default=True,
    help="Kind of bootstrap interval.",
)
@click.option(
    "--blendshapes",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Let MediaPipe read the pictures of N units, as an independent check of the manipulation.",
)
@options.seed
@click.option("--pdf", is_flag=True, help="Write report.pdf too (needs Chromium).")
@options.quiet
@options.as_json
def command(
    results: Path,
    alpha: float,
    permutations: int,
    bootstrap: int,
    sesoi: float | None,
    primary_strength: float | None,
    primary_region: str | None,
    outcome: str,
    correction: str,
    interval: str,
    blendshapes: int,
    seed: int,
    pdf: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Paired analysis and report of RESULTS.

    Writes RESULTS/analysis/: effects.csv, effects.parquet, figures and report.html, one self-contained page.

    \b
    morphsym analyze results/
    """
    from morphsym import pipeline
    from morphsym.analysis import SESOI, AnalysisOptions, require_manipulation
    from morphsym.errors import UsageError
    from morphsym.experiment.places import is_remote
    from morphsym.report import answer_table, write_pdf

    if pdf and is_remote(results):
        raise UsageError(
            f"--pdf prints a page of this machine; {results} is in a store: fetch report.html, then print it"
        )
    asked = AnalysisOptions(
        seed=seed,
        alpha=alpha,
        permutations=permutations,
        bootstrap=bootstrap,
        primary_strength=primary_strength,
        primary_region=primary_region,
        primary_outcome=outcome,
        correction=correction,
        interval=interval,
        sesoi=SESOI | ({} if sesoi is None else {outcome: sesoi}),
    )
    with steps(quiet) as step:
        analysis, report = pipeline.analyze_results(results, asked, step, blendshapes)
        if pdf:
            step("Writing the PDF")
            printed = write_pdf(report)
    require_manipulation(analysis.checks)
    if as_json:
        click.echo(json.dumps(analysis.summary | {"report": str(report)}, allow_nan=False))
        return
    click.echo(answer_table(analysis))
    say(f"report: {report}" + (f"\nprinted: {printed}" if pdf else ""), quiet)
