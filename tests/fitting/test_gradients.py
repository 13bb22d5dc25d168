"""The maps of oriented gradients that the readout looks at: directions, mirror images, brightness, halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from morphsym.fitting.gradients import DIRECTIONS, halves, mirrored, oriented
from morphsym.fitting.readout import sides


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Smooth random pictures, 0 to 255."""
    noise = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    big = torch.nn.functional.interpolate(noise, size=(88, 88), mode="bicubic", align_corners=False)
    return (big[:, 0] * 40 + 120).clamp(0, 255)


@pytest.mark.parametrize("k", range(DIRECTIONS))
def test_an_edge_is_counted_in_its_direction(k: int) -> None:
    """Brighter towards angle 2πk/8, x to the right and y down: the most is in map k, next to nothing in the opposite one."""
    angle = 2 * np.pi * k / DIRECTIONS
    y, x = torch.meshgrid(torch.arange(88.0), torch.arange(88.0), indexing="ij")
    along = (x - 43.5) * np.cos(angle) + (y - 43.5) * np.sin(angle)
    fine, coarse = oriented(255 * torch.sigmoid(along / 2)[None])
    for maps in (fine, coarse):
        size = maps.shape[-1]
        middle = maps[0, :, size // 2, size // 2]
        assert int(middle.argmax()) == k
        assert float(middle[(k + DIRECTIONS // 2) % DIRECTIONS]) < 0.05 * float(middle[k])


def test_shapes(pictures: Tensor) -> None:
    fine, coarse = oriented(pictures)
    assert fine.shape == (3, DIRECTIONS, 44, 44)
    assert coarse.shape == (3, DIRECTIONS, 22, 22)
    assert bool((fine >= 0).all())


def test_the_maps_of_the_mirror_image_are_the_mirrored_maps(pictures: Tensor) -> None:
    for here, there in zip(oriented(pictures), oriented(pictures.flip(2)), strict=True):
        torch.testing.assert_close(mirrored(here), there, atol=1e-4, rtol=1e-4)
        assert torch.equal(mirrored(mirrored(here)), here)


def test_brightness_and_contrast_change_little(pictures: Tensor) -> None:
    for here, there in zip(oriented(pictures), oriented(0.5 * pictures + 60), strict=True):
        assert float((here - there).abs().mean()) < 0.02 * float(here.mean())


def test_halves_are_what_both_have_and_what_one_has_more(pictures: Tensor) -> None:
    _, coarse = oriented(pictures)
    even, odd = halves(coarse)
    right_of_picture, other = halves(mirrored(coarse))
    torch.testing.assert_close(right_of_picture, even)
    torch.testing.assert_close(other, -odd)
    torch.testing.assert_close(even + odd, coarse[..., :11].flatten(1))
    symmetric = (coarse + mirrored(coarse)) / 2
    assert float(halves(symmetric)[1].abs().max()) < 1e-6


def test_each_side_is_laid_over_the_other(pictures: Tensor) -> None:
    fine, _ = oriented(pictures)
    both = sides(fine, 26)
    assert both.shape == (6, 2 * DIRECTIONS, 44, 26)
    left, right = both.chunk(2)
    assert torch.equal(left[:, :DIRECTIONS], fine[..., -26:])  # the subject's left is at the picture's right
    assert torch.equal(left[:, DIRECTIONS:], mirrored(fine[..., :26]))
    assert torch.equal(right, left.roll(DIRECTIONS, 1))
    torch.testing.assert_close(sides(mirrored(fine), 26), both.roll(3, 0))
