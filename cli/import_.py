"""``morphsym import``."""

from __future__ import annotations

from pathlib import Path

import click

from morphsym.types import EMOTIONS

from . import options
from .fit import report
from .progress import bars


@click.command("import")
@click.argument("codes", type=click.Path(path_type=Path))
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PHOTO...")
@options.out("fits")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", "emoca", "deca", "smirk", "blendshapes"]),
    default="auto",
    show_default=True,
    help="Which program wrote CODES.",
)
@click.option("--model", help="Face model.  [default: flame for SMIRK, DECA and EMOCA, makehuman for blendshapes]")
@click.option(
    "--detector",
    type=click.Choice(["mediapipe", "face-alignment"]),
    default="mediapipe",
    show_default=True,
    help="Landmark detector that finds where the face is.",
)
@click.option(
    "--landmarks", type=click.Path(path_type=Path), help="Landmarks from a file in place of a detector; one photo only."
)
@click.option(
    "--expression",
    type=click.Choice(EMOTIONS),
    help="What the photos express.  [default: the nearest preset, where the model has ARKit's shapes]",
)
@click.option("--symmetrize", is_flag=True, help="Average the expression over both sides; see fit.")
@click.option("--frame-step", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="As for fit.")
@click.option("--sheet", is_flag=True, help="Also write contact sheets of all fits, _sheet-01.png and so on.")
@options.offline
@options.quiet
@options.as_json
def command(
    codes: Path,
    photos: tuple[Path, ...],
    out: Path,
    kind: str,
    model: str | None,
    detector: str,
    landmarks: Path | None,
    expression: str | None,
    symmetrize: bool,
    frame_step: int,
    sheet: bool,
    offline: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Take over coefficients that another program fitted to the photos.

    CODES is a file or a folder of SMIRK, DECA or EMOCA (FLAME parameters), or of blendshape scores (MediaPipe, Live
    Link Face); PHOTO are the pictures that it was made from, matched by name. Only the head pose and the camera are found anew,
    from landmarks, since none of these programs says where in the photo its crop was. Writes what fit writes.

    Exit status: as fit.

    \b
    morphsym import emoca_output/ photos/ --model generic_model.pkl --expression happiness
    morphsym import blendshapes.csv smile.mp4
    """
    from morphsym import fitting
    from morphsym.experiment.atomic import ensure_folder
    from morphsym.faces import load_model
    from morphsym.fitting.codes import read_codes
    from morphsym.fitting.importing import import_fits
    from morphsym.fitting.sources import count

    read = read_codes(codes, kind)
    found = fitting.find_photos(photos)
    head = load_model(model or ("makehuman" if read and read[0].format == "blendshapes" else "flame"))
    each = import_fits(
        read,
        found,
        head,
        detector,
        landmarks,
        expression,
        lambda done, total, name: advance(1),
        offline=offline,
        symmetrize=symmetrize,
        frame_step=frame_step,
    )
    ensure_folder(out)
    with bars(quiet)(count(found, frame_step), "Importing") as advance, fitting.FitsWriter(out, model=head) as writer:
        for one in each:
            writer.add(one)
    report(found, out, sheet, quiet, as_json)
