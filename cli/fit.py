"""``morphsym fit``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from morphsym.errors import FitError
from morphsym.types import EMOTIONS

from . import options
from .progress import bars, say

SOME_FAILED = 3
"""Exit status when some faces were fitted and some were not."""


class Outcome(NamedTuple):
    """What is told of a fit at the end."""

    name: str
    photo: str
    status: str
    reason: str
    nme: float | None
    quality: str


@click.command("fit")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PHOTO...")
@options.out("fits")
@options.model
@click.option(
    "--detector",
    type=click.Choice(["mediapipe", "face-alignment"]),
    default="mediapipe",
    show_default=True,
    help="Landmark detector.",
)
@click.option(
    "--landmarks",
    type=click.Path(path_type=Path),
    help="Landmarks from a file (.pts, .csv, .json, .npz; 68 or 478 points) in place of a detector; one photo only.",
)
@click.option(
    "--face",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="Which face of a photo with several.",
)
@click.option(
    "--expression",
    type=click.Choice(EMOTIONS),
    help="What the photos express.  [default: the preset that is nearest to each fit]",
)
@click.option(
    "--same-person", is_flag=True, help="The photos show one person: one identity, an expression and pose a photo."
)
@click.option(
    "--symmetrize",
    is_flag=True,
    help="Average the expression over both sides: the factual arm of a person who is asymmetric already.",
)
@click.option(
    "--no-readout",
    is_flag=True,
    help="Do not read the expression from the pixels: landmarks and MediaPipe's scores only.",
)
@click.option(
    "--refine",
    is_flag=True,
    help="Correct each fit by the photo's pixels, where the rendered face then matches the photo better. What that "
    "gains: docs/accuracy.md.",
)
@click.option(
    "--frame-step",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Every N-th frame of a video.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    help="The photos of each folder are the frames of one video, so many a second.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="Smooth the expression in a video over so many seconds.  [default: not]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that detect faces, with the same result for any number.  [default: as many as pay, by cores and pictures]",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted fit of the same photos with the same options.")
@click.option("--overwrite", is_flag=True, help="Replace an interrupted fit that is in the folder.")
@click.option("--sheet", is_flag=True, help="Also write contact sheets of all fits, _sheet-01.png and so on.")
@options.offline
@options.quiet
@options.as_json
def command(
    photos: tuple[Path, ...],
    out: Path,
    model: str,
    detector: str,
    landmarks: Path | None,
    face: str,
    expression: str | None,
    same_person: bool,
    symmetrize: bool,
    no_readout: bool,
    refine: bool,
    frame_step: int,
    fps: float | None,
    smooth: float,
    workers: int | None,
    resume: bool,
    overwrite: bool,
    sheet: bool,
    offline: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit a 3D face model to photos and videos.

    PHOTO is a picture, a video, or a folder of them. Writes fits.csv (one row a face, with a reason for every failure), and
    for every face NAME.npz (the fit) and NAME.png (an overlay to judge it by).

    One that was interrupted goes on with --resume, after the last photos that were done as a whole.

    Exit status: 0 all faces were fitted, 1 none, 3 some (fits.csv has the reasons of the others).

    \b
    morphsym fit portrait.jpg
    morphsym fit patients/ --expression happiness -o fits/
    morphsym fit smile.mp4 --frame-step 5 --smooth 0.2 --expression happiness
    """
    from morphsym import fitting
    from morphsym.faces import load_model
    from morphsym.fitting.looking import usual_workers
    from morphsym.fitting.sources import count

    found = fitting.find_photos(photos)
    options: dict[str, Any] = {
        "detector": detector, "face": face, "expression": expression, "same_person": same_person,
        "symmetrize": symmetrize, "refine": refine, "frame_step": frame_step, "fps": fps, "smooth": smooth,
        "readout": not no_readout,
    }  # fmt: skip
    the_model = load_model(model)
    request = fitting.request(found, the_model, landmarks=landmarks, **options)
    with fitting.FitsWriter(out, model=the_model, request=request, resume=resume, overwrite=overwrite) as writer:
        if not writer.finished:
            pictures = count(found, frame_step)
            with bars(quiet)(pictures, "Fitting") as progress:
                progress(writer.start, skipped=True)
                for one in fitting.fit_each(
                    found,
                    the_model,
                    landmarks=landmarks,
                    offline=offline,
                    start=writer.start,
                    taken=writer.taken,
                    settled=writer.settled,
                    workers=workers or usual_workers(pictures - writer.start),
                    progress=lambda done, total, name: progress(1),
                    **options,
                ):
                    writer.put(one)
    report(found, out, sheet, quiet, as_json)


def report(found: Sequence[Path], out: Path, sheet: bool, quiet: bool, as_json: bool) -> None:
    """Contact sheets, messages and the exit status, from what is on disk; for ``fit`` and ``import``."""
    from morphsym import fitting

    if sheet:
        fitting.save_sheets(out, fitting.each_fit(out))
    if as_json:
        click.echo("[", nl=False)
    faces = good = 0
    for faces, one in enumerate(outcomes(out / "fits.csv"), 1):
        if as_json:
            click.echo((", " if faces > 1 else "") + json.dumps(one._asdict(), allow_nan=False), nl=False)
        good += one.status == "ok"
    if as_json:
        click.echo("]")
    for one in outcomes(out / "fits.csv"):
        if one.status != "ok" and (faces > 1 or good):
            say(f"not fitted: {one.photo}: {one.reason}")
        elif one.status != "ok":
            raise FitError(f"{one.photo}: {one.reason}")
    if not good:
        raise FitError(f"none of {len(found)} photos could be fitted; {out / 'fits.csv'} says why")
    say(f"{good} of {faces} faces fitted in {out}\nnext: morphsym intervene --fits {out}", quiet)
    if good < faces:
        raise click.exceptions.Exit(SOME_FAILED)


def outcomes(listing: Path) -> Iterator[Outcome]:
    """The rows of ``fits.csv``, one after the other."""
    with open(listing, newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            nme = float(row["nme"]) if row["nme"] else None
            yield Outcome(row["name"], row["photo"], row["status"], row["reason"], nme, row["quality"])
