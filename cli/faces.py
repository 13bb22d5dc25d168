"""``morphsym faces``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from morphsym.types import EMOTIONS

from . import options
from .progress import say


@click.group("faces")
def command() -> None:
    """List, look at or add 3D face models.

    The bundled head is always there. Other models are brought by the user under their own licences and live in the
    user's cache, or where MORPHSYM_HOME says; `list` says where each comes from.
    """


@command.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Every known face model, and whether it is there."""
    from morphsym.faces import list_models

    rows = list_models()
    if as_json:
        told = [vars(r) | {"path": str(r.path)} for r in rows]
        click.echo(json.dumps(told))
        return
    width = max(len(r.name) for r in rows)
    for r in rows:
        click.echo(f"{r.name:<{width}}  {'there' if r.available else 'missing':<8} {r.title} ({r.licence})")
        if r.how:
            click.echo(" " * (width + 11) + r.how)


@command.command("show")
@click.argument("model", default="makehuman")
@options.as_json
def show(model: str, as_json: bool) -> None:
    """What the face model MODEL (a name or a path) is: sizes, shapes, regions, notes.

    \b
    morphsym faces show ict
    """
    from morphsym.faces import load_model

    m = load_model(model)
    told = {
        "name": m.name,
        "source": m.source,
        "licence": m.licence,
        "sha256": m.sha256,
        "vertices": m.n_vertices,
        "triangles": len(m.faces),
        "identity components": m.n_identity,
        "expression shapes": len(m.expression_names),
        "sided shapes": len(m.sided),
        "named as ARKit's": m.native_sides,
        "parts": list(m.part_names),
        "landmarks": "68" if m.landmarks478 is None else f"68 and MediaPipe's {len(m.landmarks478.triangle)}",
        "shapes": list(m.expression_names),
        "notes": list(m.notes),
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    for key, value in told.items():
        if isinstance(value, list):
            value = "; ".join(value) if key == "notes" else ", ".join(value)
        click.echo(f"{key}: {value}")


@command.command("add")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the model of that name.")
@options.quiet
def add(name: str, path: Path, force: bool, quiet: bool) -> None:
    """Check the face model at PATH and keep it as NAME.

    NAME is one of `morphsym faces list`. PATH is the official file, or, for ict, the upstream folder FaceXModel. Files
    that belong to it are taken along from its folder: a landmarks file (PATH's stem + .landmarks.json), FLAME's
    flame_static_embedding.pkl, Surrey's expression blendshapes.

    \b
    morphsym faces add ict ICT-FaceKit/FaceXModel
    morphsym faces add bfm2019 model2019_face12.h5
    """
    from morphsym.faces.registry import add_model

    entry = add_model(name, path, force=force)
    say(f"{name}: {entry.path}", quiet)


@command.command("sheet")
@click.argument("model", default="makehuman")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="faces.png", show_default=True, help="PNG or JPEG to write."
)
@click.option("--people", type=click.IntRange(1), default=6, show_default=True, help="Rows: sampled people.")
@click.option(
    "--expression",
    "emotions",
    type=click.Choice(EMOTIONS),
    multiple=True,
    help="Columns; may be repeated.  [default: all]",
)
@click.option(
    "--side",
    "sides",
    type=click.Choice(["none", "left", "right", "both"]),
    multiple=True,
    help="Weakened side of each column; may be repeated.  [default: none, left]",
)
@click.option("--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Of the weakness.")
@click.option("--size", type=click.IntRange(32, 1024), default=160, show_default=True, help="Pixels of a picture.")
@click.option("--yaw", type=float, default=0.0, show_default=True, help="Degrees the heads are turned to their left.")
@options.seed
@options.quiet
def sheet(
    model: str,
    out: Path,
    people: int,
    emotions: tuple[str, ...],
    sides: tuple[str, ...],
    strength: float,
    size: int,
    yaw: float,
    seed: int,
    quiet: bool,
) -> None:
    """A contact sheet of MODEL: people × expressions × weakened sides.

    \b
    morphsym faces sheet ict -o ict.png --expression happiness --side none --side left
    """
    from PIL import Image

    from morphsym.errors import InputError
    from morphsym.faces import load_model
    from morphsym.faces.sheet import contact_sheet

    picture = contact_sheet(
        load_model(model), people, emotions or EMOTIONS, sides or ("none", "left"), strength, seed, size, yaw
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        jpeg = out.suffix.lower() in (".jpg", ".jpeg")
        Image.fromarray(picture).save(out, **({"format": "JPEG", "quality": 88} if jpeg else {"format": "PNG"}))
    except OSError as e:
        raise InputError(f"{out} cannot be written ({e.strerror or e})") from e
    say(f"{out}: {picture.shape[1]} × {picture.shape[0]} pixels", quiet)
