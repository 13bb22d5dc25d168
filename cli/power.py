"""``morphsym power``."""

from __future__ import annotations

from pathlib import Path

import click

from . import options


@click.command("power")
@options.results
@click.option("--power", type=float, default=0.9, show_default=True, help="Chance of finding an effect of this size.")
@click.option("--alpha", type=float, help="Level of the tests.  [default: the analysis' own]")
@options.as_json
def command(results: Path, power: float, alpha: float | None, as_json: bool) -> None:
    """How many people a study needs, from a pilot.

    RESULTS are an analyzed pilot. For each classifier's total effect and asymmetry part it prints the number of
    people for the pilot's effect size, and a cautious one for the low end of what the pilot allows.
    """
    from morphsym import analysis, pipeline

    plan = analysis.plan_from_pilot(pipeline.effects_of(results), power, alpha)
    if as_json:
        click.echo(plan.to_json(orient="records"))
        return
    click.echo(f"{'source':<8} {'classifier':<24} {'effect':<6} {'pilot':>5} {'dz':>6} {'people':>7} {'cautious':>8}")
    for r in plan.to_dict("records"):
        numbers = [_number(r.get(k)) for k in ("people", "people_cautious")]
        dz = f"{r['dz']:.2f}" if r["dz"] == r["dz"] else "–"
        click.echo(
            f"{r['source']:<8} {r['classifier']:<24} {r['contrast']:<6} {r['pilot_people']:>5} {dz:>6} "
            f"{numbers[0]:>7} {numbers[1]:>8}" + (f"  {r['note']}" if r.get("note") else "")
        )


def _number(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, int | float) and value == value else "–"
