"""Memory: amounts, the batch that fits, halving, and that none of it changes a picture."""

from __future__ import annotations

import tracemalloc
import weakref
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from morphsym.errors import RenderError, UsageError
from morphsym.rendering import default_lights, memory, portrait_camera, render

from .scenes import ellipsoid


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("4GB", 4 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("2048", 2048), ("64k", 64000)],
)
def test_amounts(text: str, bytes_: int) -> None:
    assert memory.parse(text) == bytes_


@pytest.mark.parametrize("text", ["", "much", "-4GB", "0", "4 elephants", "GB"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--memory must be an amount such as 500MB or 4GB; got"):
        memory.parse(text)


def test_the_batch_is_the_largest_that_fits() -> None:
    size = (37, 13_000, 25_000, 224, 224)
    whole = memory.plan(None, 2, "numba", *size)
    assert whole.batch == 37
    tight = memory.plan(whole.needed - 1, 2, "numba", *size)
    assert tight.batch == 36
    assert tight.needed <= whole.needed - 1 < tight.needed + 2 * tight.each
    least = memory.plan(2 * (whole.kept + whole.each), 2, "numba", *size)
    assert least.batch == 1
    with pytest.raises(UsageError, match="2 workers with a unit of 37 pictures each need at least"):
        memory.plan(least.needed - 1, 2, "numba", *size)


class Live(TorchDispatchMode):
    """The most bytes of tensors alive at once, of those made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                storage = t.untyped_storage()
                key, size = storage.data_ptr(), storage.nbytes()
                if size and key not in self.known:
                    self.known.add(key)
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._free, key, size)
        return out

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize(
    "backend",
    [
        "numba",
        "torch",
        pytest.param("pytorch3d", marks=pytest.mark.skipif(find_spec("pytorch3d") is None, reason="not installed")),
    ],
)
def test_estimates_are_near_what_is_used(backend: str) -> None:
    """Never less than what is measured (arrays of numpy, tensors of torch), and not three times as much."""
    vertices, faces = ellipsoid(24, 48)
    batch, camera = vertices.expand(4, -1, -1).contiguous(), portrait_camera(160)
    albedo = torch.rand(4, len(vertices), 3)  # each picture its own: furrows
    faces, lights = faces[:: 1 if backend == "numba" else 100], default_lights()
    with Live():  # compiles, and imports what dispatch modes need
        render(batch, faces, albedo, camera, lights, backend=backend)
    tracemalloc.start()
    with Live() as live:
        images, _ = render(batch, faces, albedo, camera, lights, backend=backend)
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The albedo is made for the batch. numba: numpy's arrays, but for each thread's z-buffer; the linear albedo twice
    used = (arrays - 1e6 + 2 * albedo.nbytes if backend == "numba" else live.most) + albedo.nbytes
    estimate = 4 * memory.picture_bytes(backend, len(vertices), len(faces), 160, 160)
    assert images.shape[0] == 4
    assert used <= estimate < 3 * used


def test_running_out_of_memory_halves_the_batch_and_goes_on() -> None:
    said: list[str] = []
    tried: list[int] = []

    def draw(start: int, stop: int) -> list[int]:
        tried.append(stop - start)
        if stop - start > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return list(range(start, stop))

    made = memory.in_batches(draw, 11, None, said.append)
    assert [x for part in made for x in part] == list(range(11))
    assert tried == [11, 6, 3, 3, 3, 2]
    assert said == [
        "out of memory with 11 pictures at once: went on with 6", "out of memory with 6 pictures at once: went on with 3"
    ]  # fmt: skip


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_a_single_picture_that_does_not_fit(error: Exception) -> None:
    def draw(start: int, stop: int) -> None:
        raise error

    with pytest.raises(RenderError, match="a single picture does not fit into memory"):
        memory.in_batches(draw, 4)


def test_other_errors_are_not_swallowed() -> None:
    def draw(start: int, stop: int) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        memory.in_batches(draw, 4)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_the_batch_changes_no_bit(backend: str) -> None:
    vertices, faces = ellipsoid(6, 12)
    rng = np.random.default_rng(0)
    batch = vertices * torch.from_numpy(rng.uniform(0.7, 1.2, (5, 1, 1))).float()
    albedo, camera = torch.rand(len(vertices), 3), portrait_camera(24, fov=15)

    def draw(start: int, stop: int) -> torch.Tensor:
        return render(batch[start:stop], faces, albedo, camera, default_lights(), backend=backend)[0]

    whole = torch.cat(memory.in_batches(draw, 5))
    for size in (1, 2, 3):
        assert torch.equal(torch.cat(memory.in_batches(draw, 5, size)), whole)
