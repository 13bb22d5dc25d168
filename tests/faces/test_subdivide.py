"""The finer mesh is the same face: old vertices stay, everything else goes along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from morphsym.errors import UsageError
from morphsym.faces import MorphableModel, load_model, subdivide
from morphsym.faces.split import hemiface_weights
from morphsym.faces.subdivide import LIMIT


@pytest.fixture(scope="module")
def head() -> MorphableModel:
    return load_model()


@pytest.fixture(scope="module")
def fine() -> MorphableModel:
    return load_model("makehuman-subdivided")


def test_old_vertices_stay(head: MorphableModel, fine: MorphableModel) -> None:
    v = head.n_vertices
    assert len(fine.faces) == 4 * len(head.faces)
    assert fine.name == "makehuman-subdivided"
    assert load_model("makehuman-subdivided") is fine
    assert torch.equal(fine.mean[:v], head.mean)
    assert torch.equal(fine.expression_basis[:, :v], head.expression_basis)
    assert np.array_equal(fine.mirror[:v], head.mirror)
    assert np.array_equal(fine.hemiface_left[:v], head.hemiface_left)
    np.testing.assert_allclose(fine.albedo[:v], head.albedo, atol=1e-6)


def test_a_finer_face_is_the_subdivided_face(head: MorphableModel, fine: MorphableModel) -> None:
    """Coefficients mean the same: sided shapes agree at the old vertices, and new ones lie near the old surface."""
    rng = np.random.default_rng(0)
    i = torch.as_tensor(rng.standard_normal((1, head.n_identity)), dtype=torch.float32)
    c = torch.as_tensor(rng.random((1, len(head.sided))), dtype=torch.float32) * 0.3
    assert fine.sided.names == head.sided.names
    coarse, finer = head.forward(i, c)[0], fine.forward(i, c)[0]
    torch.testing.assert_close(finer[: head.n_vertices], coarse, atol=5e-5, rtol=0)
    a, b = head.faces[:, 0], head.faces[:, 1]
    middle = fine.faces.reshape(-1, 4, 3)[:, 0, 1]  # (a, ab, ca)
    for old, new, most in ((head.mean, fine.mean, LIMIT + 1e-4), (coarse, finer, 1.0)):
        off = (new[middle] - 0.5 * (old[a] + old[b])).norm(dim=1) / (old[a] - old[b]).norm(dim=1)
        assert float(off.max()) <= most
        assert 0.001 < float(off.median()) < 0.05
    marks, before = fine.landmarks(finer[None])[0], head.landmarks(coarse[None])[0]
    assert float((marks - before).norm(dim=1).max()) < 0.05


def test_symmetry_is_exact(fine: MorphableModel) -> None:
    assert torch.equal(fine.mirror_vertices(fine.mean), fine.mean)
    basis = fine.sided.basis
    assert torch.equal(fine.mirror_vertices(basis), basis[torch.as_tensor(fine.sided.partner)])
    assert fine.identity_mirror[1] == 0.0
    assert np.array_equal(hemiface_weights(fine.mean.numpy(), fine.mirror), fine.hemiface_left)
    np.testing.assert_allclose(np.sum(list(fine.regions.values()), axis=0), 1.0, atol=2e-6)


def test_it_is_smoother(head: MorphableModel, fine: MorphableModel) -> None:
    """The angle between neighbouring triangles of the face about halves."""

    def bend(m: MorphableModel) -> float:
        faces = m.faces[m.part == m.part_names.index("skin")]
        corner = m.mean.numpy()[faces]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        _, index, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(index.reshape(-1), kind="stable")
        first = np.r_[0, np.cumsum(count)[:-1]][count == 2]
        p, q = order[first] // 3, order[first + 1] // 3
        return float(np.median(np.degrees(np.arccos(np.clip((normal[p] * normal[q]).sum(1), -1, 1)))))

    assert bend(fine) < 0.65 * bend(head)


def test_a_sphere_stays_a_sphere() -> None:
    """Independent of the head: the middle of an octahedral sphere's edges moves to the sphere."""
    import trimesh

    from morphsym.faces.subdivide import _apply, _operators, _split_triangles

    ball = trimesh.creation.icosphere(subdivisions=3)
    faces = np.asarray(ball.faces, dtype=np.int64)
    _, edges, opposite = _split_triangles(faces, len(ball.vertices))
    smooth, straight = _operators(edges, opposite, np.asarray(ball.vertices))
    x = np.asarray(ball.vertices, dtype=np.float32)[None]
    radius = [np.linalg.norm(_apply(o, x)[0], axis=1) for o in (smooth, straight)]
    off = [np.abs(r[len(ball.vertices) :] - 1) for r in radius]
    assert np.median(off[0]) < 0.1 * np.median(off[1])
    assert off[0].max() < 0.2 * off[1].max()  # next to the twelve vertices with five neighbours


def test_a_scanned_mesh_is_refused(head: MorphableModel) -> None:
    from dataclasses import replace

    wrong = head.mirror.copy()
    a = int(np.flatnonzero(wrong != np.arange(len(wrong)))[0])
    wrong[wrong[a]], wrong[a] = wrong[a], a
    broken = replace(head, mirror=wrong, hemiface_left=hemiface_weights(head.mean.numpy() * [0, 1, 1], wrong))
    with pytest.raises(UsageError, match="is not built mirror symmetric, so it cannot be subdivided"):
        subdivide(broken)
