"""``morphsym init``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .progress import say


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default="study.yaml", metavar="[STUDY.YAML]")
@click.option("--schema", is_flag=True, help="Print the JSON Schema, for editors, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
def command(path: Path, schema: bool, overwrite: bool) -> None:
    """Write a commented study.yaml.

    It runs as it is; every key stands with its default and what it means.

    \b
    morphsym init
    morphsym init --schema > study.schema.json
    """
    from morphsym.errors import StoreError
    from morphsym.experiment import spec
    from morphsym.experiment.atomic import write_text

    if schema:
        click.echo(json.dumps(spec.schema(), indent=2))
        return
    if path.exists() and not overwrite:
        raise StoreError(f"{path} is there already; name another file, or replace it with --overwrite")
    write_text(path, spec.template())
    say(f"wrote {path}\nnext: morphsym run {path} --dry-run")
