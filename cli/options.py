"""Options that several commands share; called the same everywhere (DESIGN.md section 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from morphsym.types import EMOTIONS, REGIONS, SIDES

F = TypeVar("F", bound=Callable[..., Any])


class Place(click.ParamType):
    """A folder, or a prefix of an object store (s3://…): a path that either way has a path's methods."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from morphsym.experiment.places import place

        return place(value)


place = Place()
results = click.argument("results", type=place, default="results")


def out(default: str, stores: bool = False) -> Callable[[F], F]:
    """``-o/--out``; with ``stores`` it may be a prefix of an object store too."""
    kind = place if stores else click.Path(path_type=Path)
    return click.option("-o", "--out", type=kind, default=default, show_default=True, help="Folder to write to.")


model = click.option(
    "--model", default="makehuman", show_default=True, help="Face model: a known name, or the path of a model file."
)
side = click.option(
    "--side",
    "sides",
    type=click.Choice(SIDES),
    multiple=True,
    help="The subject's side that is weakened; may be repeated.  [default: left, right]",
)
strength = click.option(
    "--strength",
    "strengths",
    type=float,
    multiple=True,
    metavar="[0-1]",
    help="How much of that side's expression is taken away; may be repeated.  [default: 0.25, 0.5, 0.75, 1]",
)
region = click.option(
    "--region",
    "regions",
    type=click.Choice(REGIONS),
    multiple=True,
    help="Which muscles the weakness reaches; may be repeated.  [default: all]",
)
clinical = click.option(
    "--clinical",
    multiple=True,
    metavar="PATTERN",
    help="A clinical pattern in place of a region: house-brackmann-1 to -6, temporal, zygomatic, buccal or "
    "marginal-mandibular; the strength is its share. May be repeated.",
)


def _listed(kind: type) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...]]:
    def split(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Any, ...]:
        try:
            return tuple(kind(x.strip()) for x in (value or "").split(",") if x.strip())
        except ValueError:
            raise click.BadParameter(f"expected numbers such as -20,0,20; got {value!r}") from None

    return split


def sweeps(command: F) -> F:
    """``--sweep-yaw``, ``--sweep-pitch``, ``--sweep-light`` and ``--sweep-skin``."""
    for name, kind, sign, text in (
        ("skin", str, "II,IV,VI", "Make every sampled person in these skin types, all else equal."),
        ("light", str, "front,left,right,above,soft", "Make every sampled person in these lights, all else equal."),
        ("pitch", float, "DEGREES,…", "Make every sampled person look up (positive) or down, all else equal."),
        ("yaw", float, "DEGREES,…", "Make every sampled person in these turns of the head, all else equal."),
    ):
        command = click.option(f"--sweep-{name}", callback=_listed(kind), metavar=sign, help=text)(command)
    return command


expression = click.option(
    "--expression",
    "expressions",
    type=click.Choice(EMOTIONS),
    multiple=True,
    help="Expressions of sampled people; may be repeated.  [default: the six basic emotions]",
)
classifier = click.option(
    "--classifier", "classifiers", multiple=True, help="A classifier's name; may be repeated.  [default: the bundled]"
)


def _factors(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    try:
        found = tuple(float(x) for x in (value or "").split(",") if x.strip())
    except ValueError:
        raise click.BadParameter(f"expected numbers such as 0.9,1,1.15; got {value!r}") from None
    if any(not 0.5 <= x <= 2 for x in found):
        raise click.BadParameter(f"factors must lie between 0.5 and 2; got {value}")
    return found


crop_margins = click.option(
    "--crop-margins",
    callback=_factors,
    metavar="0.9,1,1.15",
    help="Repeat every classifier with its crop scaled by these factors, to see whether a result hangs on the crop.",
)
seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all randomness.")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
renderer = click.option(
    "--renderer", default="auto", show_default=True, help="auto, numba, triton, pytorch3d or torch."
)
memory = click.option(
    "--memory",
    metavar="4GB",
    help="Memory that rendering may take; batches are cut to fit.  [default: what a GPU has free; no limit on a CPU]",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bars and no messages, only results and errors.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
offline = click.option("--offline", is_flag=True, help="Never download anything.")
resume = click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same study.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace the results that are in the folder.")
save_images = click.option("--save-images", is_flag=True, help="Keep every picture, not only the report's examples.")
engine = click.option(
    "--engine",
    type=click.Choice(["local", "processes", "ray"]),
    help="Where the work runs: threads, processes, or a Ray cluster.  [default: local]",
)
workers = click.option("--workers", type=click.IntRange(1), help="How many workers.  [default: the cores]")
address = click.option("--address", help="Ray's address.  [default: a cluster on this machine]")
anonymous = click.option("--anonymous", is_flag=True, help="Keyed hashes in place of the photos' names.")
