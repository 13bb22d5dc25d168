"""Write docs/cli.md from ``--help``: ``python tools/cli_reference.py docs/cli.md``. A test compares the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

HEADER = """# Command line

Made from `--help` by `make docs`; `tests/cli/test_reference.py` checks that it is up to date.
Exit status: 0 done, 1 the work failed, 2 the request was wrong, 3 a part of it failed (`fit`: some faces), 130 stopped by Ctrl-C.
"""


def reference() -> str:
    """The whole page."""
    from morphsym_cli import cli

    parts = [HEADER]
    for path, command, context in _walk(cli, click.Context(cli, info_name="morphsym", **cli.context_settings)):
        parts.append(f"{'#' * min(1 + len(path), 3)} {' '.join(path)}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _walk(command: click.Command, context: click.Context) -> Iterator[tuple[list[str], click.Command, click.Context]]:
    context.terminal_width = 100
    yield context.command_path.split(), command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _walk(child, click.Context(child, info_name=name, parent=context, max_content_width=100))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
