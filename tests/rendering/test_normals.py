"""Vertex normals: right, differentiable, and the same bits in every run, on the CPU and in what other devices do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from morphsym.rendering import normals

from .scenes import ellipsoid

WAYS = [normals._OnCPU, normals._Anywhere]


def mesh(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two bumpy heads, with one vertex that has no triangle and one triangle without an area."""
    vertices, faces = ellipsoid(8, 12)
    extra = torch.cat([vertices, torch.tensor([[3.0, 1.0, 2.0]])])
    faces = torch.cat([faces, torch.tensor([[0, 5, 5]], dtype=faces.dtype)])
    noise = torch.randn(2, len(extra), 3, generator=torch.Generator().manual_seed(0))
    return (extra + 0.2 * noise).to(dtype), faces


def plain(vertices: Tensor, faces: Tensor) -> Tensor:
    """With index_add, as a reader would write it."""
    a, b, c = (vertices[:, faces[:, k].long()] for k in range(3))
    cross, sums = torch.linalg.cross(b - a, c - a), torch.zeros_like(vertices)
    for k in range(3):
        sums = sums.index_add(1, faces[:, k].long(), cross)
    return torch.nn.functional.normalize(sums, dim=-1, eps=1e-30)


@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients(way: Any) -> None:
    vertices, faces = mesh()
    vertices.requires_grad_()
    some = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = way.apply(vertices, faces), plain(vertices, faces)
    torch.testing.assert_close(ours, theirs)
    assert (ours[:, -1] == 0).all()
    got, expected = (torch.autograd.grad((x * some).sum(), vertices)[0] for x in (ours, theirs))
    torch.testing.assert_close(got, expected)
    assert gradcheck(lambda v: way.apply(v, faces), (vertices[:1, :, :].detach().requires_grad_(),))


def test_the_last_bits_do_not_hang_on_threads_or_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = mesh(torch.float32)
    gradient = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(2))

    def both(way: Any, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        v = v.clone().requires_grad_()
        out = way.apply(v, faces)
        return out.detach(), torch.autograd.grad(out, v, g)[0]

    before = torch.get_num_threads()
    try:
        for way in WAYS:
            expected = both(way, vertices, gradient)
            for threads in (1, 2, 3):
                monkeypatch.setenv("MORPHSYM_THREADS", str(threads))
                torch.set_num_threads(threads)
                for got, first in zip(both(way, vertices, gradient), expected):
                    assert torch.equal(got, first)
            for got, first in zip(both(way, vertices[1:], gradient[1:]), expected):
                assert torch.equal(got, first[1:])
    finally:
        torch.set_num_threads(before)


class Names(TorchDispatchMode):
    """The names of torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# torch.use_deterministic_algorithms: what adds with atomics, or in no given order, on CUDA
UNORDERED = {"index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce", "index_put", "index_put_",
             "put_", "cumsum", "bincount", "histc", "embedding_dense_backward", "_index_put_impl_", "index_reduce"}  # fmt: skip


def test_other_devices_run_no_operation_that_adds_in_any_order() -> None:
    """Recorded on the CPU, forward and backward; and it runs on 'meta', so nothing of it is computed elsewhere."""
    vertices, faces = mesh(torch.float32)
    vertices.requires_grad_()
    with Names() as names:
        normals._Anywhere.apply(vertices, faces).sum().backward()
    assert "sort" in names.seen
    assert not names.seen & UNORDERED
    with Names() as names:
        plain(vertices, faces).sum().backward()
    assert names.seen & UNORDERED  # the check sees them where they are
    far = vertices.detach().to("meta").requires_grad_()
    normals.vertex_normals(far, faces).sum().backward()
    assert far.grad is not None
    assert far.grad.device.type == "meta"


def test_sums_over_owners_by_hand() -> None:
    values = torch.tensor([[[1.0], [2.0], [4.0], [8.0], [16.0]]])
    assert normals.add_up(values, torch.tensor([3, 0, 3, 3, 1]), 5).flatten().tolist() == [2, 16, 0, 13, 0]
    assert normals.add_up(values[:, :0], torch.tensor([], dtype=torch.long), 2).tolist() == [[[0.0], [0.0]]]
