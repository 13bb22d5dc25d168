"""``morphsym weights``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options
from .progress import say


@click.group("weights")
def command() -> None:
    """List, download or add model weights.

    Weights and models live in the user's cache, or where MORPHSYM_HOME says. Every file's sha256 is checked.
    """


@command.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """Every file of weights, and whether it is there."""
    from morphsym import resources, weights

    rows = weights.list_weights()
    if as_json:
        told = [
            {"name": r.weight.name, "state": r.state, "path": str(r.path), "licence": r.weight.licence} for r in rows
        ]
        click.echo(json.dumps(told))
        return
    width = max(len(r.weight.name) for r in rows)
    for r in rows:
        click.echo(f"{r.weight.name:<{width}}  {r.state:<8} {r.weight.purpose} ({r.weight.licence})")
    click.echo(f"in {resources.home()}")


@command.command("get")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options.offline
@options.quiet
def get(names: tuple[str, ...], offline: bool, quiet: bool) -> None:
    """Download the weights NAME."""
    from morphsym import weights

    for name in names:
        say(f"{name}: {weights.get(name, offline=offline, progress=not quiet)}", quiet)


@command.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Accept a file whose digest is not recorded and looks wrong.")
@options.quiet
def add(name: str, file: Path, force: bool, quiet: bool) -> None:
    """Add the weights NAME from a FILE on disk.

    \b
    morphsym weights add mediapipe face_landmarker.task
    """
    from morphsym import weights

    say(f"{name}: {weights.add(name, file, force=force)}", quiet)
