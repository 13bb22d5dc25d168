"""The Triton backend: compiled for a GPU without one, and run by Triton's interpreter. Skipped where Triton is missing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
ROOT = Path(__file__).resolve().parents[2]

COMPILE = """
import re, sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from morphsym.rendering.backends import triton_kernels as k

TYPES = dict.fromkeys(("screen", "cameras"), "*fp64") | dict.fromkeys(("faces", "first", "users", "triangle"), "*i32")
TYPES |= dict.fromkeys(("keys", "counter", "starts", "names", "bad", "hits"), "*i64")
TYPES |= dict.fromkeys(("count", "vertex_count", "face_count", "height", "width"), "i32")
CONSTANTS = {"BLOCK": 128, "LIMIT": 64, "CHUNK": 256, "SIDE": 2}
for name in ("project", "small_triangles", "large_triangles", "fragments", "shade", "vertex_normals"):
    f = getattr(k, name)
    types = {a: "constexpr" if a in CONSTANTS else TYPES.get(a, "*fp32") for a in f.arg_names}
    constants = {(i,): CONSTANTS[a] for i, a in enumerate(f.arg_names) if a in CONSTANTS}
    made = triton.compile(ASTSource(f, types, constants), target=GPUTarget("cuda", 80, 32), options=k.EXACT)
    ptx = made.asm["ptx"]
    assert made.asm["cubin"], name
    # the fill rule's condition: nothing is fused, and divisions are rounded as the CPU's are
    assert not re.search(r"fma[.]rn[.]f64", ptx), name
    assert not re.search(r"(div|rcp)[.](approx|full)\\S*f64", ptx), name
    print(name)
"""

INTERPRET = """
import torch
from morphsym.errors import RenderError
from morphsym.rendering import default_lights, portrait_camera, rasterize, render, sample_lights, selfcheck
from morphsym.rendering.lights import select
from tests.rendering.scenes import ellipsoid
import numpy as np

assert selfcheck.problem("triton") == ""
vertices, faces = ellipsoid()
batch, paint = vertices.expand(2, -1, -1), torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(1))
camera, lights = portrait_camera((40, 52), yaw=[20, -50], fov=15), sample_lights(np.random.default_rng(0), 2)
a, b = (rasterize(batch, faces, camera, name) for name in ("triton", "numba"))
for x, y in ((a.triangle, b.triangle), (a.barycentric, b.barycentric), (a.depth, b.depth)):
    assert torch.equal(x, y)  # the same numbers, operation by operation
for samples in (1, 4, 9):
    a, b = (render(batch, faces, paint, camera, lights, backend=name, samples=samples) for name in ("triton", "numba"))
    assert (a[0] - b[0]).abs().max() < 1 / 255 and torch.equal(a[1], b[1])
second = select(lights, [1])
one = render(batch[1:], faces, paint, camera[1], second, backend="triton", samples=9)[0]
assert torch.equal(one, a[0][1:])  # whatever the batch
image, coverage = render(batch, faces[:0], paint, camera, lights, (0.25, 0.5, 0.75), backend="triton")
assert coverage.tolist() == [0, 0] and image[0, :, 3, 5].tolist() == [0.25, 0.5, 0.75]
assert render(batch[:1] + 500, faces, paint, portrait_camera(1), default_lights(), backend="triton")[1].item() == 0
bad = batch.clone()
bad[1, 7, 2] = float("nan")
try:
    render(bad, faces, paint, camera, lights, backend="triton")
except RenderError as e:
    assert "mesh 1, vertex 7" in str(e)
else:
    raise AssertionError
print("agrees")
"""


def _run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | more
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=300,
        check=False,
    )


def test_kernels_compile_to_gpu_code_that_keeps_the_fill_rule(tmp_path: Path) -> None:
    # Triton decorates a function's source, so it must lie in a file; the code above only names the module's functions.
    done = _run(COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == 6


def test_interpreted_it_draws_what_numba_draws() -> None:
    done = _run(INTERPRET, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["agrees"]
