"""Are results what their manifest says? Hashes, missing, doubled and altered shards, and a sample rendered again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from ..classifiers import Classifier, load_classifier
from ..errors import MorphsymError, StoreError
from ..rendering import backends
from . import manifest as manifests
from .run import compute, one_thread
from .store import Results, digest_of, listed, read_table
from .study import ProgressBar, again, no_bar

TOLERANCE = 1e-3
"""On another machine, device or version: by how much logits and measures may differ, since their last bits hang on it. On the
same they must be the same bit for bit."""
GREY = 1.0
"""The same for kept pictures: by how many of 255 grey levels they may differ on average."""
_NUMBERS = ("strength", "dose", "realised_asymmetry", "realised_intensity", "realised_left", "realised_right",
            "coverage", "leak")  # fmt: skip


@dataclass
class Verification:
    """What was checked and what is wrong; ``ok`` when nothing is."""

    files: int = 0
    conditions: int = 0
    predictions: int = 0
    sampled: int = 0  # conditions that were rendered and classified again
    identical: int = 0  # of these, whose logits are the same bit for bit
    largest: float = 0.0  # largest difference of a logit
    pictures: int = 0  # kept pictures that were compared with those made again
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(
    path: str | Path,
    sample: int = 3,
    seed: int = 0,
    *,
    device: str | None = None,
    bar: ProgressBar | None = None,
    classifiers: Sequence[Classifier] | None = None,
) -> Verification:
    """Check the results in ``path``; render the conditions of ``sample`` random units again and compare the logits.

    Nothing is written. Raises :class:`StoreError` only where there are no results to check.
    """
    results = Results.open(path)
    found = Verification()
    _files(results, found)
    _rows(results, found)
    if sample and found.ok:
        _again(results, found, sample, seed, device, bar, classifiers)
    return found


def _files(results: Results, found: Verification) -> None:
    """Every file that the manifest names, byte for byte; no other part."""
    wanted = results.manifest.get("sha256")
    if not wanted:
        found.problems.append(
            "manifest.json holds no hashes; the results are of an older morphsym: run the study again"
        )
        return
    for name, digest in wanted.items():
        file = results.path / name
        found.files += 1
        if not file.is_file():
            found.problems.append(f"{name} is missing")
        elif digest_of(file) != digest:
            found.problems.append(f"{name} has been altered or damaged since it was written")
    for file in listed(results.path / "predictions"):
        if f"predictions/{file.name}" not in wanted:
            found.problems.append(f"predictions/{file.name} is not of this study")


def _rows(results: Results, found: Verification) -> None:
    """No condition lost or doubled; an answer or a stated failure for every picture and classifier."""
    try:
        conditions = results.conditions()
    except StoreError as e:
        found.problems.append(str(e))
        return
    names = pd.Index(conditions["condition"])
    found.conditions = len(names)
    if names.has_duplicates:
        found.problems.append(f"condition {names[names.duplicated()][0]!r} is there twice in conditions.parquet")
        return
    images = conditions["image"].dropna() if "image" in conditions else pd.Series(dtype="str")
    gone = [i for i in images if not (results.path / i).is_file()]
    if gone:
        found.problems.append(f"{len(gone)} of {len(images)} kept pictures are missing, for example {gone[0]}")
    asked = results.manifest["classifiers"]
    labels = {c: len(d["labels"]) for c, d in asked.items()}
    made = {c: np.zeros(len(names), dtype=np.int32) for c in asked}
    for part in results.parts():
        try:
            table = read_table(part, columns=["condition", "classifier"], read_dictionary=["condition", "classifier"])
        except (pa.ArrowException, OSError) as e:
            found.problems.append(f"predictions/{part.name} cannot be read ({str(e).splitlines()[0]})")
            continue
        frame = table.to_pandas()
        found.predictions += len(frame)
        where = names.get_indexer(frame["condition"].astype(object))
        if (where < 0).any():
            stray = frame["condition"].iloc[int(np.argmin(where))]
            found.problems.append(f"predictions/{part.name} has rows of {stray!r}, which is no condition of the study")
        for c in frame["classifier"].unique():
            if c not in made:
                found.problems.append(f"predictions/{part.name} has rows of {c!r}, which is no classifier of the study")
                continue
            mine = where[(frame["classifier"] == c).to_numpy() & (where >= 0)]
            np.add.at(made[c], mine, 1)
    ok = (conditions["status"] == "ok").to_numpy()
    failures = results.failures()
    for c, counts in made.items():
        excused = names.isin(failures.loc[failures["classifier"] == c, "condition"])
        for what, wrong in (
            ("is missing predictions", ok & ~excused & (counts < labels[c])),
            ("has doubled predictions", counts > labels[c]),
            ("has predictions although it failed", ~ok & (counts > 0)),
        ):
            if wrong.any():
                found.problems.append(f"{c}: {wrong.sum()} conditions {what.replace('is ', 'are ').replace('has ', 'have ')}, "
                                      f"for example {names[int(wrong.argmax())]!r}")  # fmt: skip


def _again(
    results: Results,
    found: Verification,
    sample: int,
    seed: int,
    device: str | None,
    bar: ProgressBar | None,
    classifiers: Sequence[Classifier] | None,
) -> None:
    """Render a few units again, from the manifest alone, and compare."""
    manifest = results.manifest
    try:
        study, model, units = again(results)
        loaded = list(classifiers or [load_classifier(c, device or study.device) for c in manifest["classifiers"]])
    except MorphsymError as e:
        found.problems.append(f"the sample cannot be rendered again: {e}")
        return
    now = {f"model:{model.name}": model.sha256} | {f"classifier:{c.spec.id}": c.spec.sha256 for c in loaded}
    if units.fits:
        now["fits"] = manifests.fits_sha256(units.fits)
    for name, digest in now.items():
        if manifest["files"].get(name, digest) != digest:
            found.problems.append(f"{name} is not the file that the results were made with")
    if not found.ok:
        return
    changed = {k: v for k, v in manifests.versions().items() if manifest["versions"].get(k) != v}
    if changed:
        found.notes.append("made with other versions: " + ", ".join(
            f"{k} {manifest['versions'].get(k)} there, {v} here" for k, v in changed.items()))  # fmt: skip
    chosen = np.random.default_rng(seed).choice(len(units), size=min(sample, len(units)), replace=False)
    conditions = results.conditions().set_index("condition")
    placed = model.to(backends.place(manifest["renderer"], study.device))
    kept, exact = [], _exact(manifest)
    had = set(conditions.loc[conditions["image"].notna(), "unit"]) if "image" in conditions else set()
    if missing := sorted(set(manifest["classifiers"]) - exact):
        found.notes.append(f"made elsewhere, compared within {TOLERANCE:g} and not bit for bit: {', '.join(missing)}")
    with (
        tempfile.TemporaryDirectory() as aside,
        one_thread(),
        (bar or no_bar)(sum(units.conditions(k, k + 1) for k in chosen), "Rendering again") as progress,
    ):
        for k in sorted(int(k) for k in chosen):
            made = compute(0, units.between(k, k + 1), model, study.design, loaded, manifest["renderer"], progress,
                           Path(aside), lambda unit: unit.unit in had, placed)  # fmt: skip
            rows = pq.read_table(pa.BufferReader(made.conditions)).to_pandas().set_index("condition")
            missing = rows.index.difference(conditions.index)
            if len(missing):
                found.problems.append(f"{missing[0]!r} should be a condition of the study and is not")
                continue
            old = conditions.loc[rows.index]
            for name in ("status", "expression", "arm", "side", "region"):
                if (old[name].astype(str) != rows[name].astype(str)).any():
                    first = rows.index[(old[name].astype(str) != rows[name].astype(str)).argmax()]
                    found.problems.append(
                        f"{first!r}: {name} is {old.loc[first, name]!r}, and {rows.loc[first, name]!r} again"
                    )
            _measures(old, rows, len(exact) == len(manifest["classifiers"]), found)
            _pictures(
                results, Path(aside), old["image"].dropna().tolist() if "image" in old else [], bool(exact), found
            )
            kept.append(pq.read_table(pa.BufferReader(made.predictions)).to_pandas())
            found.sampled += len(rows)
    if kept:
        _compare(results, pd.concat(kept, ignore_index=True), exact, found)


def _exact(manifest: Mapping[str, Any]) -> set[str]:
    """The classifiers whose logits this machine must give again bit for bit: those that ran on its like."""
    here = {"machine": manifests.machine(), "versions": manifests.versions(), "device": "cpu"}
    clean = manifest.get("engine", {}).get("name") != "ray" and not manifest.get("resumed")
    begun = {k: manifest.get(k) for k in here}
    return {c for c, d in manifest["classifiers"].items() if d.get("added", begun) == here and (clean or "added" in d)}


def _measures(old: pd.DataFrame, rows: pd.DataFrame, exact: bool, found: Verification) -> None:
    """The edit's strength, what it did to the mesh and what was covered, again and on disk."""
    for name in _NUMBERS:
        a, b = (np.asarray(x[name], dtype=np.float64) for x in (old, rows))
        near = np.isclose(a, b, rtol=0 if exact else TOLERANCE, atol=0 if exact else TOLERANCE, equal_nan=True)
        if not near.all():
            k = int(np.argmin(near))
            found.problems.append(f"{rows.index[k]!r}: {name} is {a[k]:g} on disk, and {b[k]:g} again")


def _pictures(results: Results, aside: Path, images: Sequence[str], exact: bool, found: Verification) -> None:
    """Kept pictures against those that were made again."""
    for name in images:
        try:
            with (results.path / name).open("rb") as f, Image.open(f) as picture:
                a = np.asarray(picture.convert("RGB"), dtype=np.int16)
            with Image.open(aside / name) as picture:
                b = np.asarray(picture.convert("RGB"), dtype=np.int16)
        except (OSError, ValueError) as e:
            found.problems.append(f"{name} cannot be read ({e})")
            continue
        found.pictures += 1
        gap = float(np.abs(a - b).mean()) if a.shape == b.shape else np.inf
        if gap > (0 if exact else GREY):
            found.problems.append(f"{name} is another picture than the one made again")


def _compare(results: Results, again: pd.DataFrame, exact: set[str], found: Verification) -> None:
    """Logits made again against those on disk."""
    names = pa.array(again["condition"].unique(), pa.string())
    tables = (read_table(p) for p in results.parts())
    old = pa.concat_tables(
        [t.filter(pc.is_in(t["condition"].cast(pa.string()), names)) for t in tables], promote_options="permissive"
    ).to_pandas()
    keys = ["condition", "classifier", "label"]
    both = again.merge(old, on=keys, how="left", suffixes=("_again", ""))
    gap = (both["logit_again"] - both["logit"]).abs()
    absent = gap.isna()
    if absent.any():
        row = both.iloc[int(absent.to_numpy().argmax())]
        found.problems.append(f"{row['classifier']} has no logit of {row['label']!r} for {row['condition']!r} on disk")
    found.largest = float(gap.max()) if len(gap) else 0.0
    found.identical = int((gap.groupby(both["condition"]).max() == 0).sum())
    wrong = gap > np.where(both["classifier"].isin(list(exact)), 0.0, TOLERANCE)
    if wrong.any():
        row = both.iloc[int(np.nanargmax(gap.to_numpy()))]
        found.problems.append(
            f"{row['classifier']}: {wrong.sum()} logits of the sample differ, most for {row['condition']!r}: "
            f"{row['logit']:.8g} on disk, {row['logit_again']:.8g} again"
        )
