"""``morphsym intervene``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from . import options
from .progress import bars, say, tell_plan, warnings_at_the_end


@click.command("intervene")
@click.option(
    "--fits",
    type=click.Path(path_type=Path),
    help="Folder of fitted photos, from morphsym fit.  [default: fits, unless --sample is given]",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE.CSV",
    help="About the photos: a column photo, and subject, cohort (healthy, patient), expression or any other.",
)
@click.option("--sample", type=click.IntRange(0), default=0, metavar="N", help="Sample N synthetic people.")
@options.side
@options.strength
@options.region
@options.clinical
@click.option(
    "--include",
    default="",
    metavar="jaw,gaze,tongue",
    help="Muscles of other nerves that the weakness reaches too, separated by commas.",
)
@click.option(
    "--matched-by",
    type=click.Choice(["mesh", "coefficients", "landmarks"]),
    default="mesh",
    show_default=True,
    help="By what the symmetric control is matched to the one-sided weakness.",
)
@click.option(
    "--matched-sensitivity",
    is_flag=True,
    help="Render the controls by the other two rules too, at the largest strength.",
)
@click.option(
    "--placebo",
    is_flag=True,
    help="Add a control that keeps symmetry and emotion: a head turn that moves the skin as far as the weakness does.",
)
@click.option(
    "--rest-droop",
    type=float,
    default=0.0,
    show_default=True,
    metavar="[0-1]",
    help="Add an arm in which the weak side also droops at rest, by this share of a full droop.",
)
@click.option(
    "--furrows",
    type=click.FloatRange(0, 2),
    default=1.0,
    show_default=True,
    metavar="[0-2]",
    help="Depth of the furrows that an expression brings to a sampled person's skin; 0 leaves it smooth.",
)
@options.sweeps
@options.expression
@options.classifier
@options.crop_margins
@options.model
@click.option("--size", type=click.IntRange(32, 2048), default=224, show_default=True, help="Pixels of a portrait.")
@click.option("--photo-size", type=click.IntRange(64, 2048), default=320, show_default=True, help="Pixels of a photo.")
@options.renderer
@options.device
@options.memory
@options.seed
@options.out("results", stores=True)
@options.engine
@options.workers
@options.address
@options.anonymous
@click.option("--dry-run", is_flag=True, help="Count the pictures and time the first of them; write nothing.")
@options.save_images
@options.resume
@options.overwrite
@options.quiet
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    fits: Path | None,
    labels: Path | None,
    sample: int,
    sides: tuple[str, ...],
    strengths: tuple[float, ...],
    regions: tuple[str, ...],
    clinical: tuple[str, ...],
    include: str,
    matched_by: str,
    matched_sensitivity: bool,
    placebo: bool,
    rest_droop: float,
    furrows: float,
    sweep_yaw: tuple[float, ...],
    sweep_pitch: tuple[float, ...],
    sweep_light: tuple[str, ...],
    sweep_skin: tuple[str, ...],
    expressions: tuple[str, ...],
    classifiers: tuple[str, ...],
    crop_margins: tuple[float, ...],
    model: str,
    size: int,
    photo_size: int,
    renderer: str,
    device: str,
    memory: str | None,
    seed: int,
    out: Path,
    engine: str | None,
    workers: int | None,
    address: str | None,
    anonymous: bool,
    dry_run: bool,
    save_images: bool,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Weaken one side of the face, render, classify.

    Every unit (a fitted photo, or a sampled person with one expression) is rendered in all arms: as it is, with one
    side weakened, with both sides weakened to the same amount of expression, and mirrored. Writes conditions and the
    classifiers' predictions to the results folder. Results that are finished are left as they are.

    \b
    morphsym intervene --side left --strength 0.5
    morphsym intervene --sample 50 --expression happiness -o smiles/
    morphsym intervene --sample 50 --clinical house-brackmann-4 --placebo
    morphsym intervene --sample 50 --sweep-yaw -20,0,20 --sweep-light left,right --dry-run
    """
    if fits is None and sample == 0:
        fits = Path("fits")
    given = {k: v for k, v in ctx.params.items() if ctx.get_parameter_source(k) != click.core.ParameterSource.DEFAULT}
    from morphsym.experiment import study as studies
    from morphsym.intervention import DEFAULT_ARMS, Design

    chosen: dict[str, Any] = {"include": tuple(x.strip() for x in include.split(",") if x.strip())}
    for name, value in (("sides", sides), ("strengths", strengths), ("regions", regions)):
        if value:
            chosen[name] = value
    if clinical:
        chosen |= {"clinical": clinical, "regions": regions}
    if placebo:
        chosen["arms"] = (*DEFAULT_ARMS, "placebo")
    chosen |= {"yaw": sweep_yaw, "pitch": sweep_pitch, "light": sweep_light, "skin": sweep_skin}
    more: dict[str, Any] = {}
    if expressions:
        more["expressions"] = expressions
    if classifiers or crop_margins:
        from morphsym.classifiers import bundled, with_margins

        more["classifiers"] = tuple(with_margins(classifiers or bundled(), crop_margins or (1.0,)))
    study = studies.Study(
        model=model,
        fits=str(fits) if fits else None,
        sample=sample,
        design=Design(matched_by=matched_by, matched_sensitivity=matched_sensitivity, rest_droop=rest_droop, **chosen),
        renderer=renderer,
        device=device,
        seed=seed,
        size=size,
        photo_size=photo_size,
        furrows=furrows,
        anonymous=anonymous,
        labels=str(labels) if labels else None,
        **more,
    )
    if dry_run:
        from morphsym.experiment.whole import plan_study

        tell_plan(plan_study(study, workers, memory=memory), engine or "local", as_json)
        return
    with warnings_at_the_end(quiet):
        results = studies.run_study(
            study,
            out,
            given={k: _plain(v) for k, v in given.items()},
            resume=resume,
            overwrite=overwrite,
            rerun=True,
            save_images=save_images,
            memory=memory,
            bar=bars(quiet),
            engine=engine or "local",
            workers=workers,
            address=address,
        )
    counts = results.manifest["counts"]
    if as_json:
        click.echo(json.dumps({"results": str(out), **counts}))
        return
    say(
        f"{counts['conditions']} conditions of {counts['subjects']} subjects in {out}"
        f" (renderer {results.manifest['renderer']}, {results.manifest.get('renderer_note', 'asked for')})"
        + (f", {counts['failed']} failed (conditions.parquet says why)" if counts["failed"] else "")
        + f"\nnext: morphsym analyze {out}",
        quiet,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
