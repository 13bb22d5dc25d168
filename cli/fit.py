"""``morphsym fit``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
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
    """What is told of a fit at the end; the fit itself is on disk."""

    name: str
    photo: str
    status: str
    reason: str
    nme: float | None
    quality: str

    @classmethod
    def of(cls, fit: Any) -> Outcome:
        nme = float(fit.nme) if math.isfinite(fit.nme) else None
        return cls(fit.name, fit.photo, fit.status, fit.reason, nme, fit.quality)


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
    "--refine",
    is_flag=True,
    help="Correct each fit by the photo's pixels, where the rendered face then matches the photo better. Experimental: "
    "docs/accuracy.md says what it gains and loses.",
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
    refine: bool,
    frame_step: int,
    fps: float | None,
    smooth: float,
    sheet: bool,
    offline: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit a 3D face model to photos and videos.

    PHOTO is a picture, a video, or a folder of them. Writes fits.csv (one row a face, with a reason for every failure), and
    for every face NAME.npz (the fit) and NAME.png (an overlay to judge it by).

    Exit status: 0 all faces were fitted, 1 none, 3 some (fits.csv has the reasons of the others).

    \b
    morphsym fit portrait.jpg
    morphsym fit patients/ --expression happiness -o fits/
    morphsym fit smile.mp4 --frame-step 5 --smooth 0.2 --expression happiness
    """
    from morphsym import fitting
    from morphsym.experiment.atomic import ensure_folder
    from morphsym.fitting.sources import count

    ensure_folder(out)
    found = fitting.find_photos(photos)
    fits = []
    with bars(quiet)(count(found, frame_step), "Fitting") as progress, fitting.FitsWriter(out) as writer:
        for one in fitting.fit_each(
            found,
            model=model,
            detector=detector,
            landmarks=landmarks,
            face=face,
            expression=expression,
            offline=offline,
            same_person=same_person,
            symmetrize=symmetrize,
            refine=refine,
            frame_step=frame_step,
            fps=fps,
            smooth=smooth,
            progress=lambda done, total, name: progress(1),
        ):
            fits.append(Outcome.of(writer.add(one)))
    report(fits, found, out, sheet, quiet, as_json)


def report(fits: Sequence[Outcome], found: Sequence[Path], out: Path, sheet: bool, quiet: bool, as_json: bool) -> None:
    """Contact sheets, messages and the exit status; for ``fit`` and ``import``."""
    from morphsym import fitting

    if sheet:
        fitting.save_sheets(out, fitting.load_fits(out))
    good = [f for f in fits if f.status == "ok"]
    if as_json:
        click.echo(json.dumps([f._asdict() for f in fits], allow_nan=False))
    if len(fits) == 1 and not good:
        raise FitError(f"{fits[0].photo}: {fits[0].reason}")
    for f in fits:
        if f.status != "ok":
            say(f"not fitted: {f.photo}: {f.reason}")
    if not good:
        raise FitError(f"none of {len(found)} photos could be fitted; {out / 'fits.csv'} says why")
    say(f"{len(good)} of {len(fits)} faces fitted in {out}\nnext: morphsym intervene --fits {out}", quiet)
    if len(good) < len(fits):
        raise click.exceptions.Exit(SOME_FAILED)
