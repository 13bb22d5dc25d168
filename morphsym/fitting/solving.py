"""The faces that were found, solved in batches: each alone, as one person or as a video, and refined where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..types import FaceFit
from .basis import LandmarkBasis, landmark_basis
from .detectors import KINDS, Detection
from .finding import Face
from .priors import expression_prior, identity_prior
from .quality import landmark_sigma
from .readout import Reading
from .records import records
from .refine import LOOSER, on_cpu
from .refine import refine as refine_solution
from .same_person import common_directions, solve_same_person
from .smoothing import smooth
from .solver import Problem, Solution, solve

if TYPE_CHECKING:
    from ..faces import MorphableModel

BATCH = 64
"""Faces solved together; memory does not grow with the number of photos beyond this."""


def solve_all(
    faces: Sequence[Face],
    model: MorphableModel,
    device: str,
    same_person: bool,
    seconds: float = 0.0,
    refine: bool = False,
) -> list[FaceFit]:
    """Solve the faces that have not failed, in batches of one kind of landmarks; order is kept."""
    results: dict[int, FaceFit] = {i: f.failed for i, f in enumerate(faces) if f.failed is not None}
    found = {i: f.detection for i, f in enumerate(faces) if f.failed is None and f.detection is not None}
    kinds = [k for k in KINDS if any(d.kind == k for d in found.values())]
    # 'visible' and 'anatomical' points have one basis: they differ in whether the contour slides.
    both = {m: landmark_basis(model, m).to(device) for m in dict.fromkeys(k == "mediapipe" for k in kinds)}
    if same_person and both:
        both = dict(zip(both, common_directions(list(both.values())), strict=True))
    bases = {k: both[k == "mediapipe"] for k in kinds}
    parts = batches(list(found), [f.sequence for f in faces], {i: d.kind for i, d in found.items()}, seconds > 0)
    blanks = [[faces[i].blank for i in part] for part in parts]
    part_kinds = [found[part[0]].kind for part in parts]
    part_bases = [bases[k] for k in part_kinds]
    problems = [
        problem_of(blank, [found[i] for i in part], model, kind, device, [faces[i].reading for i in part])
        for blank, part, kind in zip(blanks, parts, part_kinds, strict=True)
    ]
    # One person's identity is told by all of the photos together.
    told = [
        None if same_person else identity_prior(model, b, [faces[i].reading for i in part])
        for b, part in zip(part_bases, parts, strict=True)
    ]
    problems = [
        p if t is None else replace(p, identity_mean=t[0].to(device), identity_precision=t[1].to(device))
        for p, t in zip(problems, told, strict=True)
    ]
    if same_person:
        solutions = solve_same_person(part_bases, problems) if parts else []
    else:
        solutions = [solve(b, p) for b, p in zip(part_bases, problems, strict=True)]
    if seconds > 0:
        held = [replace(p, identity=s.identity) if same_person else p for p, s in zip(problems, solutions, strict=True)]
        for one in dict.fromkeys(faces[part[0]].sequence for part in parts):
            rows = [k for k, part in enumerate(parts) if faces[part[0]].sequence == one]
            if one < 0:
                continue
            times = torch.tensor([faces[i].blank.time for k in rows for i in parts[k]], dtype=torch.float64)
            smoothed = smooth(
                [part_bases[k] for k in rows], [held[k] for k in rows], [solutions[k] for k in rows],
                times.to(device), seconds,
            )  # fmt: skip
            for k, solution in zip(rows, smoothed, strict=True):
                solutions[k] = solution
    for part, blank, basis, problem, solution, t in zip(
        parts, blanks, part_bases, problems, solutions, told, strict=True
    ):
        unseen = None if t is None or refine else t[2]  # the refinement sees the whole face, and decides on it
        if refine:
            blank, solution = refined([faces[i] for i in part], model, basis, problem, solution, same_person)
        results.update(zip(part, records(blank, model, basis, problem, solution, unseen), strict=True))
    return [results[i] for i in range(len(faces))]


def batches(rows: Sequence[int], sequences: Sequence[int], kinds: dict[int, str], in_order: bool) -> list[list[int]]:
    """``rows`` in batches of at most :data:`BATCH` of one kind of landmarks.

    ``in_order``: batches are consecutive and of one video, as smoothing needs them; else as few as can be.
    """
    if not in_order:
        parts = []
        for kind in dict.fromkeys(kinds[i] for i in rows):
            todo = [i for i in rows if kinds[i] == kind]
            parts += [todo[start : start + BATCH] for start in range(0, len(todo), BATCH)]
        return parts
    batches: list[list[int]] = []
    for i in rows:
        last = batches[-1] if batches else []
        if last and len(last) < BATCH and (kinds[last[0]], sequences[last[0]]) == (kinds[i], sequences[i]):
            last.append(i)
        else:
            batches.append([i])
    return batches


def refined(
    faces: Sequence[Face], model: MorphableModel, basis: LandmarkBasis, problem: Problem, solution: Solution,
    same_person: bool,
) -> tuple[list[FaceFit], Solution]:  # fmt: skip
    """The faces' records with what the pixels gained, and the refined solution (on the CPU)."""
    readings = [f.reading for f in faces]
    looser = expression_prior(model, [f.blank.blendshapes for f in faces], LOOSER, readings).precision
    views = [f.view for f in faces if f.view is not None]
    solution, gains = refine_solution(
        model, basis.to("cpu"), on_cpu(problem), on_cpu(solution), views, looser, hold_identity=same_person
    )
    blanks = [
        replace(
            f.blank, refined=g.accepted, pixel_error_start=g.error_start, pixel_error=g.error,
            note="; ".join(n for n in (f.blank.note, g.reason and f"not refined: {g.reason}") if n),
        )
        for f, g in zip(faces, gains, strict=True)
    ]  # fmt: skip
    return blanks, solution


def problem_of(
    blanks: Sequence[FaceFit], found: Sequence[Detection], model: MorphableModel, kind: str, device: str,
    readings: Sequence[Reading | None] | None = None,
) -> Problem:  # fmt: skip
    return Problem(
        pixels=torch.from_numpy(np.stack([d.landmarks68 for d in found])).to(device),
        sigma=torch.from_numpy(np.stack([landmark_sigma(d) for d in found])).to(device),
        size=torch.tensor([[b.width, b.height] for b in blanks], dtype=torch.float64, device=device),
        focal=torch.full((len(blanks),), torch.nan, dtype=torch.float64, device=device),
        prior=expression_prior(model, [d.blendshapes for d in found], readings=readings).to(device),
        slide=kind == "visible",
    )
