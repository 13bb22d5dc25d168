"""The group ``morphsym``, and what becomes of errors: one line on standard error, no traceback for a user's mistake."""

from __future__ import annotations

import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

import morphsym
from morphsym.errors import MorphsymError

COMMANDS = {
    "fit": "fit a 3D face model to photos and videos",
    "import": "take coefficients of SMIRK, DECA, EMOCA or MediaPipe",
    "intervene": "weaken one side of the face, render, classify",
    "classify": "add classifiers to finished results",
    "analyze": "paired analysis and report of results",
    "gate": "fail when a classifier reacts to asymmetry",
    "power": "how many people a study needs, from a pilot",
    "run": "a whole study from one file",
    "init": "write a commented study.yaml",
    "verify": "check results: hashes, shards, a sample rendered again",
    "demo": "the whole chain on the bundled sample and sampled people",
    "faces": "list, look at or add 3D face models",
    "classifiers": "list, show, add, check or download classifiers",
    "weights": "list, download or add model weights",
    "doctor": "what is installed, what is missing, what to do about it",
}
"""Each lives in a file of its name. The short help stands here so that ``--help`` need not import torch."""


class Commands(click.Group):
    """A group that imports a command's file only when that command is used, and reports every error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        return importlib.import_module(f".{module}", __package__).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        kwargs.setdefault("prog_name", "morphsym")
        try:
            code = super().main(args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as e:
            click.echo(e.ctx.get_help() if e.ctx else "", err=True)
            code = 2
        except click.exceptions.Exit as e:
            code = e.exit_code
        except (click.Abort, KeyboardInterrupt):
            _say("stopped; what was finished is kept, go on with --resume")
            code = 130
        except click.UsageError as e:
            where = f" (see: {e.ctx.command_path} --help)" if e.ctx else ""
            _say(_one_line(e.format_message()) + where)
            code = 2
        except click.ClickException as e:
            _say(_one_line(e.format_message()))
            code = e.exit_code
        except MorphsymError as e:
            _say(_one_line(str(e)))
            code = e.exit_code
        except BrokenPipeError:  # `morphsym … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except MemoryError:
            _say("out of memory; try a smaller --size, fewer people or photos at a time")
            code = 1
        sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    click.echo(f"morphsym: {message}", err=True)


def _one_line(message: str) -> str:
    return " ".join(message.split())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(morphsym.__version__, prog_name="morphsym")
def cli() -> None:
    """How does a facial-expression classifier react to the symmetry of a face?

    Fit a 3D morphable model to photos, weaken the expression of one side as a facial palsy does, render both faces,
    ask the classifiers, and test the paired differences.
    """


def main() -> None:
    """Entry point of the console script."""
    cli.main()
