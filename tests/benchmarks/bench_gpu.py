"""CUDA: the triton backend against PyTorch3D, the bytes it moves, and render + classify without leaving the GPU.

``benches()`` yields rows as the other benchmarks do; without a CUDA device (or Triton) it says why and yields none.
As a program it also checks correctness first: ``python -m tests.benchmarks.bench_gpu`` is the GPU session's checklist
(docs/performance.md).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from morphsym.classifiers import bundled, load_classifier
from morphsym.faces import load_model
from morphsym.rendering import (
    backends,
    default_lights,
    differentiable,
    portrait_camera,
    project,
    rasterize,
    render,
    selfcheck,
)

COMMAND = "python -m tests.benchmarks.bench_gpu"
SIZE, BATCH = 256, 256


def missing() -> str:
    """Why nothing can be measured here; '' where it can."""
    if not torch.cuda.is_available():
        return "no CUDA device: the triton backend and PyTorch3D on CUDA cannot be measured here"
    return backends.available()["triton"]


def seconds(work: Callable[[], Any], rounds: int = 10) -> float:
    """Median seconds of ``work`` on the GPU, by its own clock, after two rounds to compile and warm."""
    times = []
    for n in range(rounds + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if n >= 2:
            times.append(start.elapsed_time(end) / 1000)
    return float(np.median(times))


def row(name: str, value: float, unit: str, baseline: float | None = None) -> dict[str, Any]:
    ratio = None if baseline is None else value / baseline
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "command": COMMAND}


def bandwidth() -> float:
    """Bytes a second that a copy within the GPU's memory reaches (read and written)."""
    a = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() / seconds(lambda: b.copy_(a))


def benches() -> Iterator[dict[str, Any]]:
    if reason := missing():
        print(f"bench_gpu: skipped, {reason}", file=sys.stderr)
        return
    model = load_model("makehuman")
    faces = torch.as_tensor(model.faces, device="cuda")
    camera = portrait_camera(SIZE, yaw=np.linspace(-30, 30, BATCH))
    vertices = torch.as_tensor(model.mean, device="cuda").float().expand(BATCH, -1, -1).contiguous()
    count, pixels = vertices.shape[1], BATCH * SIZE * SIZE
    name = f"bundled head ({len(faces)} triangles), {BATCH} at {SIZE}², {torch.cuda.get_device_name(0)}"
    fast = seconds(lambda: rasterize(vertices, faces, camera, "triton"))
    slow = None
    if importlib.util.find_spec("pytorch3d") is not None:
        slow = BATCH / seconds(lambda: rasterize(vertices, faces, camera, "pytorch3d"), 3)
    yield row(f"fragments, {name}, against PyTorch3D", BATCH / fast, "renders/s", slow)
    # What must move at least: vertices and triangles in; per pixel the key set to zero, drawn once and read (8 B each), and
    # triangle, barycentrics and depth out (20 B).
    moved = BATCH * (count * 12 + count * 32 * 2) + len(faces) * 12 + pixels * (3 * 8 + 20)
    bound = moved / bandwidth()
    yield row(f"fragments, {name}: against the time to move {moved / 1e6:.0f} MB", fast * 1e3, "ms", bound * 1e3)
    albedo, lights = torch.as_tensor(model.albedo, device="cuda"), default_lights(BATCH)

    def shaded() -> torch.Tensor:
        return render(vertices, faces, albedo, camera, lights, backend="triton")[0]

    drawn = seconds(shaded)
    yield row(f"shaded, 4 samples, {name}", BATCH / drawn, "renders/s")
    marks, _ = project(camera, model.landmarks(torch.as_tensor(model.mean)[None].float()))
    marks = marks.to("cuda").contiguous()
    for which in bundled():
        classifier = load_classifier(which, "cuda")

        def both(classifier: Any = classifier) -> torch.Tensor:
            images = shaded()
            assert images.is_cuda
            return classifier(images, marks)

        yield row(
            f"render + classify ({which}), against render alone, {name}",
            BATCH / seconds(both),
            "images/s",
            BATCH / drawn,
        )
    few = vertices[:32].clone().requires_grad_()
    across, views, lamps = differentiable.neighbours(faces), camera[:32], default_lights(32)

    def forward() -> torch.Tensor:
        return differentiable.render(few, faces, albedo[None], views, lamps, backend="triton", across=across)

    ahead, back = seconds(forward), seconds(lambda: forward().sum().backward())
    yield row(
        "antialiased picture and gradient to vertices, 32 heads, against forward alone",
        32 / back,
        "images/s",
        32 / ahead,
    )
    yield row("most memory of all of the above", torch.cuda.max_memory_allocated() / 1e9, "GB")


def main() -> int:
    """Correctness first, then speed. Exit status 0 when everything holds, 1 when not, 3 when there is no GPU."""
    if reason := missing():
        print(f"skipped: {reason}")
        return 3
    wrong = {
        name: selfcheck.problem(name, "cuda") for name in ("triton", "pytorch3d") if not backends.available()[name]
    }
    for name, problem in wrong.items():
        print(f"{name}: {problem or 'a test picture agrees with the reference'}")
    model = load_model("makehuman")
    vertices, faces = torch.as_tensor(model.mean)[None].float(), torch.as_tensor(model.faces)
    albedo, camera = torch.as_tensor(model.albedo), portrait_camera(225, yaw=[0.0])
    a, b = (rasterize(vertices, faces, camera, name) for name in ("triton", "numba"))
    differ = int((a.triangle != b.triangle).sum())
    print(f"bundled head at 225²: {differ} pixels show another triangle than numba's")
    pictures = [
        render(vertices.to(d), faces, albedo, camera, default_lights(), backend=n)[0].cpu()
        for n, d in (("triton", "cuda"), ("numba", "cpu"))
    ]
    error = float((pictures[0] - pictures[1]).abs().max())
    again = render(vertices.to("cuda"), faces, albedo, camera, default_lights(), backend="triton")[0].cpu()
    print(
        f"shaded: largest difference {255 * error:.3f} / 255; the same bytes twice: {torch.equal(again, pictures[0])}"
    )
    for line in benches():
        base = "" if line["baseline"] is None else f"  baseline {line['baseline']:.4g}  ratio {line['ratio']:.3g}"
        print(f"{line['name']}: {line['value']:.4g} {line['unit']}{base}", flush=True)
    good = not any(wrong.values()) and differ == 0 and error <= 1 / 255 and torch.equal(again, pictures[0])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
