"""``morphsym run``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from . import options
from .progress import bars, say, steps, tell_plan, warnings_at_the_end


@click.command("run")
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY.YAML")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Replace a key of the file; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Count the pictures and time the first of them; write nothing.")
@click.option("--no-analysis", is_flag=True, help="Stop when everything is classified.")
@click.option("-o", "--out", type=options.place, help="Folder to write to.  [default: the file's output]")
@options.engine
@options.workers
@options.memory
@options.address
@options.anonymous
@options.save_images
@options.resume
@options.overwrite
@options.quiet
@options.as_json
def command(
    study: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    no_analysis: bool,
    out: Path | None,
    engine: str | None,
    workers: int | None,
    memory: str | None,
    address: str | None,
    anonymous: bool,
    save_images: bool,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """A whole study from one file.

    Fits the photos (if the file names any), weakens, renders, classifies, analyzes, reports. A study that is finished is
    left as it is; one that was interrupted goes on with --resume; one whose file has changed since is refused. With
    --json, progress and result are JSON lines on standard output.

    \b
    morphsym init
    morphsym run study.yaml --dry-run
    morphsym run study.yaml --set people.count=200 --set design.strengths=[0.5,1]
    """
    from morphsym.experiment import spec as specs
    from morphsym.experiment import whole

    more = ("anonymous=true",) if anonymous else ()
    spec = specs.load(study, overrides + more)
    folder = study.resolve().parent
    if dry_run:
        tell_plan(whole.plan(spec, folder, workers, memory), spec.run.engine if engine is None else engine, as_json)
        return
    with _told(quiet, as_json), steps(quiet or as_json) as step:
        results, analysis, report = whole.run_file(
            spec,
            folder,
            out,
            given={"file": study.name, "set": list(overrides), **spec.model_dump()},
            resume=resume,
            overwrite=overwrite,
            engine=engine,
            workers=workers,
            address=address,
            memory=memory,
            save_images=save_images,
            analyze=not no_analysis,
            bar=_json_lines if as_json else bars(quiet),
            step=(lambda text: _line("step", text=text)) if as_json else step,
        )
    if analysis is not None:
        from morphsym.analysis import require_manipulation

        require_manipulation(analysis.checks)
    counts = results.manifest["counts"]
    if as_json:
        _line("done", results=str(results.path), report=str(report) if report else None, **counts)
        return
    failed = "".join(f"\n  {n} failed: {reason}" for reason, n in counts["reasons"].items())
    if counts.get("classifier_failures"):
        failed += f"\n  {counts['classifier_failures']} pictures without an answer of a classifier (failures.parquet)"
    say(
        f"{counts['conditions']} conditions of {counts['subjects']} subjects in {results.path}, "
        f"{counts['conditions'] - counts['failed']} ok, {counts['failed']} failed{failed}",
        quiet,
    )
    if analysis is not None:
        from morphsym.report import answer_table

        click.echo(answer_table(analysis))
    if report is not None:
        say(f"report: {report}", quiet)


def _line(event: str, **values: Any) -> None:
    click.echo(json.dumps({"event": event, "time": round(time.time(), 3), **values}))


@contextmanager
def _told(quiet: bool, as_json: bool) -> Iterator[None]:
    """Warnings, as lines of JSON or beside the bar."""
    from morphsym.experiment.warned import gather

    if not as_json:
        with warnings_at_the_end(quiet):
            yield
        return
    with gather() as found:
        try:
            yield
        finally:
            for text, count in found.items():
                _line("warning", text=text, count=count)


@contextmanager
def _json_lines(total: int, description: str) -> Iterator[Callable[..., Any]]:
    """Progress as JSON lines, one every two seconds."""
    done, bad, before, begin, last = 0, 0, 0, time.monotonic(), 0.0

    def tell() -> None:
        spent = time.monotonic() - begin
        rate = (done - before) / spent if spent > 0 else 0.0  # of this run, not of those that it goes on from
        left = round((total - done) / rate, 1) if rate else None
        _line("progress", stage=description, done=done, total=total, failed=bad, rate=round(rate, 2), left_s=left)

    def advance(n: int, failed: int = 0, skipped: bool = False) -> None:
        nonlocal done, bad, before, last
        done, bad = done + n, bad + failed
        before += n if skipped else 0
        if time.monotonic() - last >= 2:
            last = time.monotonic()
            tell()

    yield advance
    tell()
