"""``morphsym fit``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from morphsym.errors import FitError
from morphsym.types import EMOTIONS

from . import options
from .progress import bars, say

SOME_FAILED = 3
"""Exit status when some faces were fitted and some were not."""

KEYS = ("name", "photo", "status", "reason", "nme", "quality")


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
    sheet: bool,
    offline: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit a 3D face model to photos.

    PHOTO is a picture or a folder of pictures. Writes fits.csv (one row a face, with a reason for every failure), and
    for every face NAME.npz (the fit) and NAME.png (an overlay to judge it by).

    Exit status: 0 all faces were fitted, 1 none, 3 some (fits.csv has the reasons of the others).

    \b
    morphsym fit portrait.jpg
    morphsym fit patients/ --expression happiness -o fits/
    """
    from morphsym import fitting
    from morphsym.experiment.atomic import ensure_folder

    ensure_folder(out)
    found = fitting.find_photos(photos)
    with bars(quiet)(len(found), "Fitting") as progress:
        fits = fitting.fit(
            found,
            model=model,
            detector=detector,
            landmarks=landmarks,
            face=face,
            expression=expression,
            offline=offline,
            same_person=same_person,
            symmetrize=symmetrize,
            progress=lambda done, total, name: progress(1),
        )
    fits = fitting.save_fits(out, fits)
    if sheet:
        fitting.save_sheets(out, fits)
    good = [f for f in fits if f.ok]
    if as_json:
        click.echo(json.dumps([{k: getattr(f, k) for k in KEYS} for f in fits]))
    if len(fits) == 1 and not good:
        raise FitError(f"{fits[0].photo}: {fits[0].reason}")
    for f in fits:
        if not f.ok:
            say(f"not fitted: {f.photo}: {f.reason}")
    if not good:
        raise FitError(f"none of {len(found)} photos could be fitted; {out / 'fits.csv'} says why")
    say(f"{len(good)} of {len(fits)} faces fitted in {out}\nnext: morphsym intervene --fits {out}", quiet)
    if len(good) < len(fits):
        raise click.exceptions.Exit(SOME_FAILED)
