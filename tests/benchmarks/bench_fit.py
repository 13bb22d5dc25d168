"""How fast the landmark solver is: 256 faces with noisy landmarks, both a face at a time and in batches.

Run as ``python -m tests.benchmarks.bench_fit``. The baseline minimises the very same energy with autograd and
``torch.optim.LBFGS`` (what a first version would do) on a few of the faces, in the same run, because absolute times depend on
who else uses the machine. Its final energy is compared, too: a fast worse minimum is no gain.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from morphsym.faces import load_model
from morphsym.fitting import solver
from morphsym.fitting.basis import landmark_basis
from morphsym.fitting.priors import expression_prior
from morphsym.fitting.quality import sigma68
from morphsym.rendering.cameras import euler_to_rotation

COMMAND = "python -m tests.benchmarks.bench_fit"
FACES, BATCH, REFERENCE = 256, 64, 3


def problem(model: Any, count: int, seed: int = 0) -> solver.Problem:
    """Noisy landmarks (half a pixel at about 100 pixels between the eyes) of made-up faces within yaw ±40°."""
    angles = np.random.default_rng([seed, 1]).uniform(-1, 1, (3, count)) * np.array([[40], [15], [30]])
    return problem_at(model, angles, seed)[0]


def problem_at(model: Any, angles: np.ndarray, seed: int) -> tuple[solver.Problem, torch.Tensor]:
    """The same for given yaw, pitch and roll ``(3, B)`` in degrees; and the true rotations ``(B, 3, 3)``."""
    rng = np.random.default_rng(seed)
    count = angles.shape[1]
    basis = landmark_basis(model, mediapipe=True)
    prior = expression_prior(model, [None] * count)
    identity = torch.from_numpy(rng.normal(size=(count, basis.identity.shape[-1])) * 0.8)
    variables = torch.from_numpy(rng.uniform(0, 0.8, prior.mean.shape) * (rng.random(prior.mean.shape) < 0.15))
    points = basis.mean + torch.einsum("ncr,br->bnc", basis.identity, identity)
    points = points + torch.einsum("ncr,br->bnc", basis.expression, variables @ prior.tie.T)
    R = euler_to_rotation(*angles)
    seen = points @ R.transpose(1, 2)
    seen = seen + torch.from_numpy(np.stack([0 * angles[0], 0 * angles[0], rng.uniform(60, 140, count)], -1))[:, None]
    pixels = 900 * seen[..., :2] / seen[..., 2:] + 256
    pixels = pixels + torch.from_numpy(rng.normal(size=tuple(pixels.shape)) * 0.5)
    whole = solver.Problem(
        pixels, torch.from_numpy(sigma68()).expand(count, -1).clone(), torch.full((count, 2), 512.0).double(),
        torch.full((count,), torch.nan).double(), prior, slide=False,
    )  # fmt: skip
    return whole, R


def part(whole: solver.Problem, rows: slice) -> solver.Problem:
    """Some of the faces of a problem."""
    prior = replace(whole.prior, mean=whole.prior.mean[rows], precision=whole.prior.precision[rows])
    return solver.Problem(
        whole.pixels[rows], whole.sigma[rows], whole.size[rows], whole.focal[rows], prior, whole.slide
    )


def lbfgs(basis: Any, one: solver.Problem, steps: int = 150) -> float:
    """The energy that L-BFGS with autograd reaches from the same start (the box kept by clamping)."""
    prior = one.prior
    joined = solver.join(basis, prior)
    start, _, data = solver.prepare(joined, one)
    x = torch.zeros(len(one.pixels), joined.shape.shape[-1] + 7, dtype=torch.float64, requires_grad=True)
    low, high = solver.bounds(joined, prior)
    optimiser = torch.optim.LBFGS([x], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-10)

    def energy() -> torch.Tensor:
        state = solver.step(start, x, low, high)
        return solver.energy(data, solver.project(joined, data, state)[0], state).sum()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = energy()
        value.backward()
        return value

    optimiser.step(closure)
    return float(energy().detach())


def benches() -> Iterator[dict[str, Any]]:
    """Rows {name, value, unit, baseline, ratio, command}; 'baseline' is L-BFGS with autograd on the same faces."""
    model = load_model("makehuman")
    basis = landmark_basis(model, mediapipe=True)
    whole = problem(model, FACES)
    solver.solve(basis, part(whole, slice(0, 4)))
    start = time.perf_counter()
    found = [solver.solve(basis, part(whole, slice(i, i + BATCH))) for i in range(0, FACES, BATCH)]
    batched = FACES / (time.perf_counter() - start)
    start = time.perf_counter()
    for i in range(16):
        solver.solve(basis, part(whole, slice(i, i + 1)))
    single = 16 / (time.perf_counter() - start)
    start = time.perf_counter()
    reference = [lbfgs(basis, part(whole, slice(i, i + 1))) for i in range(REFERENCE)]
    slow = REFERENCE / (time.perf_counter() - start)
    energies = torch.cat([f.energy for f in found])[:REFERENCE].numpy()
    ratio = float(np.mean(energies / np.array(reference)))
    rows = (
        ("landmark fits in batches of 64", batched, "fits/s", slow, batched / slow),
        ("landmark fits one at a time", single, "fits/s", slow, single / slow),
        ("energy reached", float(energies.mean()), "", float(np.mean(reference)), ratio),
    )
    for name, value, unit, baseline, r in rows:
        yield {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": r, "command": COMMAND}


if __name__ == "__main__":
    for row in benches():
        print(json.dumps(row))
