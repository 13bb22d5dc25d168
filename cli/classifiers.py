"""``morphsym classifiers``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options
from .progress import download, say


@click.group("classifiers")
def command() -> None:
    """List, show, add, check or fetch expression classifiers.

    Yours live in the user's cache, or where MORPHSYM_HOME says; the catalogue comes with morphsym.
    """


@command.command("list")
@click.option("--commercial-safe", is_flag=True, help="Only weights whose licence is known to allow commercial use.")
@options.as_json
def list_(commercial_safe: bool, as_json: bool) -> None:
    """Every classifier that is known, and whether its weights are there."""
    from morphsym.classifiers import store

    rows = store.list_classifiers(commercial_safe)
    if as_json:
        told = [
            {
                "id": r.spec.id, "title": r.spec.title, "family": r.spec.family, "backend": r.spec.backend,
                "state": r.state, "licence": r.spec.weights_licence, "labels": list(r.spec.labels), "own": r.own,
                "how": r.how,
            }
            for r in rows
        ]  # fmt: skip
        click.echo(json.dumps(told))
        return
    width = max(len(r.spec.id) for r in rows)
    for r in rows:
        open_ = "; something is unsettled: see show" if r.spec.unsettled else ""
        told_ = f"{r.spec.title or r.spec.backend} ({r.spec.weights_licence}{open_})"
        click.echo(f"{r.spec.id:<{width}}  {r.state:<8} {told_}")


@command.command("show")
@click.argument("name")
@options.as_json
def show(name: str, as_json: bool) -> None:
    """Everything that is known of the classifier NAME, as YAML."""
    import yaml

    from morphsym.classifiers import find_spec, store

    spec, folder = find_spec(name)
    told = spec.model_dump(mode="json", exclude_defaults=True)
    told["emotions_in_order"] = list(spec.label_emotions)
    told["state"], told["how"] = store.weights_state(spec, folder)
    click.echo(json.dumps(told) if as_json else yaml.safe_dump(told, sort_keys=False, allow_unicode=True).rstrip())


@command.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace a classifier of the same id.")
@click.option("--trust", is_flag=True, help="Allow its pickles to be run: only for files whose maker you trust.")
@options.quiet
def add(file: Path, replace: bool, trust: bool, quiet: bool) -> None:
    """Add the classifiers that the YAML FILE describes."""
    from morphsym.classifiers import store

    for spec in store.add_specs(file, replace, trust):
        say(f"added {spec.id}; next: morphsym classifiers check {spec.id}", quiet)


@command.command("check")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--trust", is_flag=True, help="Allow its pickles to be run: only for files whose maker you trust.")
@options.device
@options.as_json
@click.pass_context
def check(ctx: click.Context, names: tuple[str, ...], trust: bool, device: str, as_json: bool) -> None:
    """Test the classifier NAME: shapes, label order, colour order, a softmax baked in, repeatability."""
    from morphsym.classifiers import check as checks
    from morphsym.classifiers import load_classifier
    from morphsym.experiment.study import resolve_device

    device = resolve_device(device)
    told, good = {}, True
    for name in names:
        rows = checks.check_classifier(load_classifier(name, device, trust=trust), rendered=checks.rendered_faces())
        good &= checks.passed(rows)
        told[name] = [{"check": r.check, "verdict": r.verdict, "value": r.value} for r in rows]
        if not as_json:
            click.echo(name)
            for r in rows:
                click.echo(f"  {r.verdict:<5} {r.check:<22} {r.value}")
    if as_json:
        click.echo(json.dumps(told))
    ctx.exit(0 if good else 1)


@command.command("get")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options.offline
@options.quiet
def get(names: tuple[str, ...], offline: bool, quiet: bool) -> None:
    """Fetch the weights of the classifier NAME, or say what to do by hand."""
    from morphsym.classifiers import store

    for name in names:
        with download(quiet, name) as progress:
            path = store.get_weights(name, progress, offline=offline)
        say(f"{name}: {path}", quiet)
