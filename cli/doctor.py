"""``morphsym doctor``."""

from __future__ import annotations

import json

import click

from . import options

_MARK = {"ok": "✓", "optional": "·", "missing": "✗"}


@click.command("doctor")
@options.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """What is installed, what is missing, what to do about it.

    Exits with 1 when something is missing that the defaults need.
    """
    from morphsym import doctor

    checks = doctor.examine()
    if as_json:
        click.echo(json.dumps([vars(c) for c in checks]))
    else:
        width = max(len(c.name) for c in checks)
        for c in checks:
            click.echo(f"{_MARK[c.status]} {c.name:<{width}}  {c.found}")
            if c.advice:
                click.echo(f"  {'':<{width}}  → {c.advice}")
    if any(c.status == "missing" for c in checks):
        ctx.exit(1)
