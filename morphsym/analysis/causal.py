"""The causal model as data: the graph, what each arm intervenes on, and a check of the recorded conditions against it.

Identity and expression make the face; the intervention (side, strength, region) weakens the expression of one half;
what is realised on the mesh are two quantities that a picture carries: asymmetry and intensity. Everything else that
reaches the image (pose, light, skin, camera, crop) is shared by all arms of a unit, so it cannot explain a difference
within the unit. TE, IE and AE are then identified by plain differences; :data:`ASSUMPTIONS` says under which conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import StoreError


@dataclass(frozen=True)
class Node:
    """A variable of the causal graph."""

    name: str
    meaning: str
    column: tuple[str, ...] = ()  # where it is recorded in conditions.parquet; empty: not recorded there
    x: float = 0.0  # where to draw it, in [0, 1] from left to right
    y: float = 0.0  # in [0, 1] from bottom to top


NODES = (
    Node("identity", "the person's face shape", ("subject",), 0.05, 0.85),
    Node("expression", "the unit's factual expression coefficients", ("expression",), 0.05, 0.60),
    Node("side weakness", "the intervention do(side, strength, region)", ("side", "strength", "region"), 0.05, 0.35),
    Node(
        "asymmetry", "realised left–right difference of the displacement from rest", ("realised_asymmetry",), 0.35, 0.40
    ),
    Node("intensity", "realised total displacement from rest", ("realised_intensity",), 0.35, 0.65),
    Node("pose", "head pose", ("yaw", "pitch", "roll"), 0.35, 0.95),
    Node("light", "lights", ("light",), 0.52, 0.95),
    Node("skin", "albedo, or the photo's own pixels", ("skin",), 0.68, 0.95),
    Node("camera", "intrinsics and image size", ("camera",), 0.84, 0.95),
    Node("image", "the rendered picture", ("image",), 0.62, 0.52),
    Node("crop", "the classifier's window, computed once a unit", ("crop",), 0.78, 0.25),
    Node("output", "the classifier's centred logit of the unit's emotion", (), 0.95, 0.52),
)

EDGES = (
    ("identity", "asymmetry"), ("identity", "intensity"), ("identity", "image"),
    ("expression", "asymmetry"), ("expression", "intensity"),
    ("side weakness", "asymmetry"), ("side weakness", "intensity"),
    ("asymmetry", "image"), ("intensity", "image"),
    ("pose", "image"), ("light", "image"), ("skin", "image"), ("camera", "image"),
    ("image", "output"), ("crop", "output"),
)  # fmt: skip

INTERVENTIONS: Mapping[str, str] = {
    "original": "nothing: the untouched pixels",
    "baseline": "nothing: the factual face, rendered",
    "null": "do(side weakness = 0) through the whole edit path",
    "unilateral": "do(side weakness = strength on one side): asymmetry rises, intensity falls",
    "matched": "do(the same loss of intensity, asymmetry as in the baseline), by weakening both sides equally",
    "mirrored_baseline": "do(image = mirror image): asymmetry changes its sign only",
    "mirrored_unilateral": "do(side weakness) and do(image = mirror image)",
    "placebo": "do(pose = a small turn of the head), which moves the skin as far as unilateral does: asymmetry and intensity "
    "of the expression stay",
    "unilateral_droop": "do(side weakness) and do(droop at rest on that side): the resting face changes, too",
    "matched_mesh": "as matched, by the displacement of the skin",
    "matched_coefficients": "as matched, by the sum of the coefficients",
    "matched_landmarks": "as matched, by the displacement of the landmarks",
}

ASSUMPTIONS = (
    ("consistency", "the picture of an arm is the picture that the intervention would give: coverage and the null arm are "
     "checked, and a failed condition is excluded, not replaced"),
    ("no other cause", "identity, expression, pose, light, skin, camera and crop are equal in all arms of a unit: "
     "recorded, and checked here"),
    ("no interference", "a picture's output depends on that picture alone: classifiers run in evaluation mode"),
    ("manipulation", "unilateral realises more asymmetry than baseline and matched does not; matched and unilateral "
     "realise the same intensity: measured on the mesh, and checked here"),
    ("IE and AE", "the effect of intensity is that of a symmetric loss of equal total displacement; which displacement is "
     "matched is a rule, reported with its alternatives"),
    ("scope", "effects are averages over the people, expressions and renderings of this run; the model's edit stands "
     "for a palsy only as far as the model and the photo arm agree"),
)  # fmt: skip

SHARED = ("subject", "source", "expression", "scene", "yaw", "pitch", "roll", "light", "skin", "fitzpatrick", "camera",
          "crop", "background", "identity_sha256", "expression_sha256", "lights_sha256", "albedo_sha256",
          "camera_sha256", "crop_sha256", "model", "model_sha256", "renderer", "size")  # fmt: skip
"""Columns that, where they are recorded, must be equal in all conditions of a unit. ``scene`` is a digest of identity,
expression, camera, light, skin, background, photo and crop as they were rendered. ``head_turn`` must be 0 everywhere but
in the placebo."""

TOLERANCE = 1e-6  # of a shared number within a unit


def dag() -> dict[str, object]:
    """The graph, json-able: nodes (name, meaning, x, y), edges, interventions, assumptions. For drawing and the report."""
    return {
        "nodes": [{"name": n.name, "meaning": n.meaning, "x": n.x, "y": n.y} for n in NODES],
        "edges": [list(e) for e in EDGES],
        "interventions": dict(INTERVENTIONS),
        "assumptions": [{"name": a, "text": b} for a, b in ASSUMPTIONS],
    }


def identified() -> dict[str, bool]:
    """Whether the graph lets TE, IE and AE be read off as differences of arms: no open path other than through the
    manipulated variables. Every cause of the output that is not downstream of the manipulation must be shared."""
    parents: dict[str, set[str]] = {n.name: set() for n in NODES}
    for a, b in EDGES:
        parents[b].add(a)

    def ancestors(name: str) -> set[str]:
        out: set[str] = set()
        for p in parents[name]:
            out |= {p} | ancestors(p)
        return out

    changed = {"side weakness", "asymmetry", "intensity", "image"}
    held = {"identity", "expression", "pose", "light", "skin", "camera", "crop"}
    free = ancestors("output") - changed - held
    randomised = not ancestors("side weakness")  # it is set by the experimenter: nothing points into it
    return {"TE": not free and randomised, "IE": not free and randomised, "AE": not free and randomised}


def check_conditions(conditions: pd.DataFrame) -> pd.DataFrame:
    """Stop if a unit's conditions differ in anything that must be equal within it; else the list of what was checked.

    Returns one row a recorded shared column: column, n_units, n_conditions. Raises
    :class:`~morphsym.errors.StoreError` with the first column and unit that differ. Original and mirrored arms are
    checked, too: mirroring does not change what is recorded of the scene.
    """
    rows = []
    if "head_turn" in conditions.columns:
        moved = (conditions["head_turn"].fillna(0) != 0) & (conditions["arm"] != "placebo")
        if moved.any():
            raise StoreError(
                f"conditions.parquet: the head is turned in {conditions.loc[moved, 'condition'].iloc[0]!r} "
                f"({int(moved.sum())} such conditions); only the placebo turns it; run the study again"
            )
        n = conditions["unit"].nunique()
        rows.append({"column": "head_turn", "n_units": n, "n_conditions": len(conditions)})
    for column in SHARED:
        if column not in conditions.columns:
            continue
        values = conditions[column]
        if pd.api.types.is_float_dtype(values):
            groups = values.groupby(conditions["unit"].to_numpy(), observed=True)
            spread = groups.max() - groups.min()
            gaps = groups.apply(lambda x: x.isna().any() and x.notna().any())
            bad = (spread > TOLERANCE) | gaps
        else:
            text = values.astype(object).map(_key)
            bad = text.groupby(conditions["unit"].to_numpy(), observed=True).nunique(dropna=False) > 1
        if bad.any():
            unit = bad.index[bad.to_numpy()][0]
            seen = conditions.loc[conditions["unit"] == unit, column].map(_key).unique()[:3]
            raise StoreError(
                f"conditions.parquet: {column!r} must be equal in all conditions of a unit, but {unit!r} has "
                f"{', '.join(map(str, seen))} ({int(bad.sum())} such units); two runs in one folder? run it again"
            )
        rows.append({"column": column, "n_units": int(bad.size), "n_conditions": len(values)})
    return pd.DataFrame(rows, columns=["column", "n_units", "n_conditions"])


def _key(value: object) -> object:
    """Something that can be compared: arrays and lists by their content."""
    if isinstance(value, np.ndarray | list | tuple):
        return repr(np.asarray(value).tolist())
    return value
