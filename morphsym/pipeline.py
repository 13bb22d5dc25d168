"""The stages in order, as calls. Start reading here.

::

    fit        photos            → FaceFit            a 3D morphable model fitted to each face
    units      fits, people      → Unit               who is intervened on: the thing that is paired
    intervene  units, design     → UnitConditions     edited coefficients, and what the edit did to the mesh
    render     conditions        → Rendered           pictures of every arm
    classify   pictures          → tables             logits of every classifier
    analyze    tables            → Analysis           paired effects, intervals, tests, verdicts

Each is a plain function from records to records and writes nothing. On disk, the same stages are
:func:`morphsym.fitting.save_fits`, :func:`run_study` and :func:`analyze_results`: what the commands call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .analysis import Analysis, AnalysisOptions
from .analysis import analyze as analyze_tables
from .classifiers import Classifier, bundled, load_classifier
from .errors import StoreError, UsageError
from .experiment import places, run, stages
from .experiment.atomic import write_text, writing
from .experiment.instrument import read_blendshapes
from .experiment.stages import Rendered
from .experiment.store import Results, read_table
from .experiment.units import SAMPLED_EMOTIONS, FailedUnit, photo_unit, sampled_units
from .faces import MorphableModel, load_model
from .fitting import fit
from .intervention import Design, UnitConditions
from .report import write_report
from .report.examples import examples_from_results
from .types import FaceFit, Unit

__all__ = [
    "Tables",
    "analyze",
    "analyze_results",
    "classify",
    "effects_of",
    "fit",
    "intervene",
    "photo_units",
    "render",
    "sample_units",
]


TABLES = {
    "verdicts": "verdicts",
    "heterogeneity": "heterogeneity",
    "association": "association",
    "matching": "matching",
    "mixed_models": "mixed",
    "exclusions": "exclusions",
    "checks": "checks",
}
"""Tables of an analysis that are written beside ``effects.csv``, by the file's name."""


class Tables(NamedTuple):
    """What an analysis needs: rows as in ``conditions.parquet`` and ``predictions/``."""

    conditions: pd.DataFrame
    predictions: pd.DataFrame


def photo_units(fits: Iterable[FaceFit], model: MorphableModel | str = "makehuman") -> list[Unit | FailedUnit]:
    """Fitted photos as units. A failed fit becomes a :class:`FailedUnit`, which is counted and never replaced."""
    loaded = _model(model)
    return [photo_unit(f, loaded) for f in fits]


def sample_units(
    n: int,
    emotions: Sequence[str] = SAMPLED_EMOTIONS,
    model: MorphableModel | str = "makehuman",
    seed: int = 0,
) -> list[Unit | FailedUnit]:
    """``n`` sampled people, each with every one of ``emotions``."""
    return list(sampled_units(_model(model), n, emotions, seed))


def intervene(
    units: Iterable[Unit | FailedUnit], design: Design | None = None, model: MorphableModel | str = "makehuman"
) -> list[UnitConditions | FailedUnit]:
    """Every condition of every unit under ``design`` (default: both sides, strengths 0.25 to 1, all arms)."""
    return list(stages.intervene(units, _model(model), design or Design()))


def render(
    conditions: Iterable[UnitConditions | FailedUnit],
    model: MorphableModel | str = "makehuman",
    renderer: str = "auto",
) -> list[Rendered | FailedUnit]:
    """The pictures of every condition. All in memory: for more than a few hundred units use :func:`run_study`."""
    return list(stages.render(conditions, _model(model), renderer))


def classify(
    rendered: Iterable[Rendered | FailedUnit], classifiers: Sequence[str | Classifier] | None = None
) -> Tables:
    """Rows of all pictures by all ``classifiers`` (default: the bundled ones)."""
    loaded = [load_classifier(c) if isinstance(c, str) else c for c in (classifiers or bundled())]
    rendered = list(rendered)
    frames = [run.rows(r) for r in rendered]
    if not frames:
        raise UsageError("there is nothing to classify: no unit was given")
    return Tables(run.join(frames), stages.classify([r for r in rendered if isinstance(r, Rendered)], loaded))


def analyze(results: Tables | str | Path, options: AnalysisOptions | None = None) -> Analysis:
    """Paired effects of tables, or of a results folder."""
    if not isinstance(results, Tables):
        stored = Results.open(results)
        results = Tables(stored.conditions(), stored.predictions(categories=True))
    return analyze_tables(results.conditions, results.predictions, options or AnalysisOptions())


def analyze_results(
    path: str | Path,
    options: AnalysisOptions | None = None,
    step: Callable[[str], Any] | None = None,
    blendshapes: int = 0,
) -> tuple[Analysis, Path]:
    """Analyse a results folder and write ``analysis/`` into it: effects.csv, effects.parquet, figures, report.html.

    Returns the analysis and the report's path. ``step`` is called with a description of what begins. With
    ``blendshapes`` MediaPipe reads the pictures of so many units, as a check of the manipulation that knows nothing of
    our meshes (:mod:`.experiment.instrument`); its readings are kept in ``analysis/blendshapes.csv``.
    """
    say = step or (lambda text: None)
    results = Results.open(path)
    say("Reading the results")
    tables = Tables(results.conditions(), results.predictions(categories=True))
    say("Testing the paired differences")
    analysis = analyze(tables, options)
    say("Writing the report")
    shown = tables.conditions
    read = None
    if blendshapes:
        say("Reading blendshapes")
        read = read_blendshapes(path, blendshapes)
        shown = shown.merge(read[["condition", "read_asymmetry"]], on="condition", how="left")
    strips = examples_from_results(results.path, tables.conditions, tables.predictions)
    with places.beside(results.path) as root:  # a store gets the files when all are made
        folder = root / "analysis"
        write_text(folder / "effects.csv", analysis.effects.to_csv(index=False))
        with writing(folder / "effects.parquet") as aside:
            analysis.effects.to_parquet(aside, index=False, compression="zstd")
        for name, table in TABLES.items():
            write_text(folder / f"{name}.csv", getattr(analysis, table).to_csv(index=False))
        if read is not None:
            write_text(folder / "blendshapes.csv", read.to_csv(index=False))
        report = write_report(root, analysis, shown, tables.predictions, results.manifest, strips)
        report = results.path / "analysis" / report.name
    return analysis, report


def effects_of(path: str | Path) -> pd.DataFrame:
    """The effects that :func:`analyze_results` wrote. Raises :class:`StoreError` where there are none."""
    results = Results.open(path)
    file = results.path / "analysis" / "effects.parquet"
    if not file.is_file():
        raise StoreError(f"{path} has not been analyzed; run: morphsym analyze {path}")
    try:
        return read_table(file).to_pandas()
    except Exception as e:  # pyarrow raises many kinds for a damaged file; all mean the same to the user
        raise StoreError(f"{file} cannot be read ({str(e).splitlines()[0]}); analyze again") from None


def _model(model: MorphableModel | str) -> MorphableModel:
    return load_model(model) if isinstance(model, str) else model
