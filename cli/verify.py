"""``morphsym verify``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import options
from .progress import bars


@click.command("verify")
@options.results
@click.option(
    "--sample", type=click.IntRange(0), default=3, show_default=True, help="Units that are rendered again; 0: none."
)
@options.seed
@options.device
@options.quiet
@options.as_json
def command(results: Path, sample: int, seed: int, device: str, quiet: bool, as_json: bool) -> None:
    """Check results: hashes, shards, a sample rendered again.

    Compares every file with the hash in the manifest, looks for missing, doubled and altered shards, renders the
    conditions of a few random units again and compares the classifiers' logits with those on disk. Writes nothing.
    Exit status 1 if anything is wrong.

    \b
    morphsym verify results/
    """
    from morphsym.errors import StoreError
    from morphsym.experiment.verify import verify

    found = verify(results, sample, seed, device=None if device == "auto" else device, bar=bars(quiet or as_json))
    if as_json:
        click.echo(json.dumps(vars(found) | {"ok": found.ok}))
    else:
        for text in (*found.problems, *(f"note: {n}" for n in found.notes)):
            click.echo(text)
        click.echo(
            f"{found.files} files, {found.conditions} conditions, {found.predictions} predictions checked; "
            f"{found.sampled} conditions rendered again, {found.identical} identical, "
            f"largest difference of a logit {found.largest:.2g}"
        )
    if not found.ok:
        n = len(found.problems)
        raise StoreError(
            f"{results} is not what its manifest says: {n} problem{'s' * (n > 1)}, the first: {found.problems[0]}"
        )
