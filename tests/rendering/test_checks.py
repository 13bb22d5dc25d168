"""The checks find what they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from morphsym.errors import RenderError
from morphsym.rendering import checks, default_lights, portrait_camera, rasterize, render
from morphsym.types import Fragments

from .scenes import ellipsoid, ict, pixel_camera


def test_expected_coverage_of_a_rectangle() -> None:
    vertices = torch.tensor([[[10.0, -10, 0], [40, -10, 0], [40, -30, 0], [10, -30, 0]]])
    faces = torch.tensor([[0, 2, 1], [0, 3, 2]])
    assert checks.expected_coverage(vertices, faces, pixel_camera(96, 96))[0] == pytest.approx(600 / 9216)
    off = vertices - torch.tensor([1000.0, 0, 0])
    assert checks.expected_coverage(off, faces, pixel_camera(96, 96))[0] == 0


@pytest.mark.parametrize("yaw", [0, 45, 90])
def test_good_pictures_pass_and_lost_parts_are_found(yaw: float) -> None:
    vertices, faces = ellipsoid(24, 48)
    camera = portrait_camera(128, yaw=yaw)
    albedo = torch.full((len(vertices), 3), 0.6)
    expected = checks.expected_coverage(vertices[None], faces, camera)
    images, coverage = render(vertices[None], faces, albedo, camera, default_lights())
    assert checks.failures(images, coverage, expected) == [""]
    top = vertices[faces.long()].mean(1)[:, 1] > 6  # the skull is gone
    lost, part = render(vertices[None], faces[~top], albedo, camera, default_lights())
    assert "where its outline covers" in checks.failures(lost, part, expected)[0]
    away, nothing = render(vertices[None] + 500, faces, albedo, camera, default_lights())
    assert "not in the picture" in checks.failures(away, nothing, expected)[0]
    broken = images.clone()
    broken[0, 0, 0, 0] = torch.nan
    assert "not finite" in checks.failures(broken, coverage, expected)[0]
    assert "outside [0, 1]" in checks.failures(images * 255, coverage, expected)[0]


def test_single_lost_faces_are_found() -> None:
    vertices, faces = ellipsoid()
    camera = portrait_camera(128, yaw=10)
    whole = rasterize(vertices[None], faces, camera)
    checks.require_all_faces(whole, vertices[None], faces, camera, "numba")
    seen, count = whole.triangle[whole.triangle >= 0].unique(return_counts=True)
    victim = int(seen[count.argmax()])
    kept = torch.tensor([f for f in range(len(faces)) if f != victim])
    rest = rasterize(vertices[None], faces[kept], camera)
    named = torch.where(rest.triangle >= 0, kept[rest.triangle.clamp(min=0).long()], -1)
    with pytest.raises(RenderError, match="the other backend lost 1 of"):
        checks.require_all_faces(Fragments(named, rest.barycentric, rest.depth), vertices[None], faces, camera, "other")


@pytest.mark.shared
def test_a_real_head_in_many_poses(shared_data: Path) -> None:
    _, mean, faces = ict(shared_data)
    rng = np.random.default_rng(0)
    n = 6
    camera = portrait_camera(
        224, distance=rng.uniform(50, 100, n), yaw=rng.uniform(-60, 60, n), pitch=rng.uniform(-20, 20, n),
        roll=rng.uniform(-20, 20, n),
    )  # fmt: skip
    vertices, albedo = mean.expand(n, -1, -1), torch.full((len(mean), 3), 0.6)
    images, coverage = render(vertices, faces, albedo, camera, default_lights())
    expected = checks.expected_coverage(vertices, faces, camera)
    assert np.abs(coverage.numpy() - expected).max() < 0.003
    assert checks.failures(images, coverage, expected) == [""] * n
    checks.require_all_faces(rasterize(vertices, faces, camera), vertices, faces, camera, "numba")
