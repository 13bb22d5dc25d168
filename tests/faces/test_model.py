"""The record: shapes, forward, mirror images, devices, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from morphsym.errors import ModelError, UsageError
from morphsym.faces import MorphableModel


def zeros(model: MorphableModel, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch, model.n_identity), torch.zeros(batch, len(model.sided))


def test_rest_is_the_mean(model: MorphableModel) -> None:
    assert torch.equal(model.forward(*zeros(model))[0], model.mean)


def test_forward_is_the_sum_of_the_bases(model: MorphableModel) -> None:
    g = torch.Generator().manual_seed(0)
    i, e = torch.randn(3, model.n_identity, generator=g), torch.rand(3, len(model.sided), generator=g)
    want = (
        model.mean.double()
        + torch.einsum("bk,kvx->bvx", i.double(), model.identity_basis.double())
        + torch.einsum("bk,kvx->bvx", e.double(), model.sided.basis.double())
    )
    torch.testing.assert_close(model.forward(i, e).double(), want, atol=1e-4, rtol=0)


def test_forward_broadcasts_one_identity(model: MorphableModel) -> None:
    g = torch.Generator().manual_seed(1)
    i, e = torch.randn(1, model.n_identity, generator=g), torch.rand(4, len(model.sided), generator=g)
    torch.testing.assert_close(model.forward(i, e), model.forward(i.expand(4, -1), e), atol=2e-5, rtol=0)
    assert model.forward(i.expand(4, -1), e[:1]).shape == (4, model.n_vertices, 3)


def test_forward_refuses_wrong_shapes(model: MorphableModel) -> None:
    i, e = zeros(model, 2)
    with pytest.raises(UsageError, match=rf"identity must be \(B, {model.n_identity}\), got \(2, 3\)"):
        model.forward(i[:, :3], e)
    with pytest.raises(UsageError, match=rf"expression must be \(B, {len(model.sided)}\)"):
        model.forward(i, e[0])
    with pytest.raises(UsageError, match="identity has batch 2 but expression 3"):
        model.forward(i, e.new_zeros(3, e.shape[1]))


def test_forward_gradcheck() -> None:
    """In float64, on a small model; and the same numbers as float32."""
    small = tiny().to(dtype=torch.float64)
    g = torch.Generator().manual_seed(2)
    i = torch.randn(2, small.n_identity, generator=g, dtype=torch.float64, requires_grad=True)
    e = torch.rand(2, len(small.sided), generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(small.forward, (i, e))
    assert torch.autograd.gradcheck(lambda a, b: small.landmarks(small.forward(a, b)), (i[:1], e))
    torch.testing.assert_close(tiny().forward(i.float(), e.float()).double(), small.forward(i, e), atol=1e-5, rtol=0)


def test_bases_share_one_storage(model: MorphableModel) -> None:
    basis = model.sided.basis
    assert model.identity_basis.untyped_storage().data_ptr() == basis.untyped_storage().data_ptr()
    assert model.sided is model.sided


def test_mirror_identity_is_exact(model: MorphableModel) -> None:
    a, residual = model.identity_mirror
    assert residual == 0
    assert np.array_equal(np.abs(a), np.eye(model.n_identity))
    g = torch.Generator().manual_seed(3)
    i, e = torch.randn(2, model.n_identity, generator=g), torch.rand(2, len(model.sided), generator=g)
    mirrored = model.forward(model.mirror_identity(i), model.mirror_expression(e))
    torch.testing.assert_close(mirrored, model.mirror_vertices(model.forward(i, e)), atol=3e-5, rtol=0)
    assert np.allclose(model.mirror_identity(model.mirror_identity(i.numpy())), i.numpy())


def test_mirror_identity_of_a_general_basis_is_least_squares() -> None:
    base = tiny()
    rng = np.random.default_rng(0)
    odd = torch.as_tensor(rng.normal(size=(3, base.n_vertices, 3)), dtype=torch.float32)
    model = replace(base, identity_basis=odd)
    a, residual = model.identity_mirror
    flat, image = odd.reshape(3, -1).numpy(), model.mirror_vertices(odd).reshape(3, -1).numpy()
    want = np.linalg.lstsq(flat.T, image.T, rcond=None)[0].T
    np.testing.assert_allclose(a, want, atol=1e-5)
    assert 0 < residual < 1
    span = np.concatenate([flat, image])  # closed under mirroring, though no component is symmetric
    model = replace(base, identity_basis=torch.as_tensor(span.reshape(6, -1, 3)))
    assert model.identity_mirror[1] < 1e-6


def test_coefficients_by_name(model: MorphableModel) -> None:
    c = model.coefficients({"mouthSmileLeft": 0.5, "mouthPucker": 0.25, "cheekPuff.right": 1.0})
    got = {n: float(v) for n, v in zip(model.sided.names, c) if v}
    assert got == {"mouthSmileLeft": 0.5, "mouthPucker.left": 0.25, "mouthPucker.right": 0.25, "cheekPuff.right": 1.0}
    with pytest.raises(UsageError, match="no expression shape 'smile'"):
        model.coefficients({"smile": 1.0})
    assert not model.coefficients({"_neutral": 1.0}, strict=False).any()


def test_to_returns_itself_where_nothing_changes(model: MorphableModel) -> None:
    assert model.to("cpu") is model


def test_landmarks_lie_on_the_mesh(model: MorphableModel) -> None:
    marks = model.landmarks(model.mean[None].expand(2, -1, -1))
    assert marks.shape == (2, 68, 3)
    x, y, z = marks[0].T
    assert (x[[36, 39, 48]] < 0).all()  # the subject's right is on the picture's left and at -x
    assert (x[[42, 45, 54]] > 0).all()
    width = float(x[45] - x[36])
    assert 7 < width < 11, "outer eye distance in cm"
    assert float(z[30]) == pytest.approx(float(z.max()), abs=0.5)
    assert float(y[27]) > float(y[8])


def tiny() -> MorphableModel:
    """A made-up model with all parts, small enough for numeric derivatives."""
    from morphsym.faces import Embedding
    from morphsym.faces.split import FACE_REGIONS

    x = np.array([-2.0, -0.5, 0.0, 0.0, 0.5, 2.0], dtype=np.float32)
    mean = np.stack([x, np.array([0, 1, 2, -1, 1, 0]), np.array([0, 1, 2, 2, 1, 0])], axis=1).astype(np.float32)
    mirror = np.array([5, 4, 2, 3, 1, 0])
    rng = np.random.default_rng(7)
    names = ("mouthSmileLeft", "mouthSmileRight", "mouthPucker")
    left = rng.normal(size=(6, 3)).astype(np.float32)
    flip = np.array([-1, 1, 1], dtype=np.float32)
    pucker = rng.normal(size=(6, 3)).astype(np.float32)
    expression = np.stack([left, left[mirror] * flip, pucker + pucker[mirror] * flip])
    from morphsym.faces.split import hemiface_weights

    return MorphableModel(
        name="tiny",
        source="tiny.npz",
        licence="CC0-1.0",
        sha256="0" * 64,
        mean=torch.as_tensor(mean),
        identity_basis=torch.as_tensor((pucker - pucker[mirror] * flip)[None]),
        expression_basis=torch.as_tensor(expression),
        expression_names=names,
        expression_low=np.zeros(3, dtype=np.float32),
        expression_high=np.ones(3, dtype=np.float32),
        faces=np.array([[0, 1, 2], [0, 3, 1], [4, 5, 2], [3, 5, 4]], dtype=np.int32),
        part=np.zeros(4, dtype=np.uint8),
        part_names=("skin",),
        landmarks68=Embedding(np.arange(68) % 4, np.full((68, 3), 1 / 3, dtype=np.float32)),
        mirror=mirror,
        hemiface_left=hemiface_weights(mean, mirror),
        regions={r: np.full(6, 0.2, dtype=np.float32) for r in FACE_REGIONS},
        albedo=np.full((6, 3), 0.5, dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mean", torch.zeros(6, 2), r"tiny\.npz: mean: expected shape \(any, 3\), got \(6, 2\)"),
        ("mean", torch.full((6, 3), torch.nan), "mean: holds NaN"),
        ("identity_basis", torch.zeros(1, 5, 3), r"identity_basis: expected shape \(any, 6, 3\), got \(1, 5, 3\)"),
        ("expression_basis", torch.full((3, 6, 3), torch.inf), "expression_basis: holds NaN or infinite"),
        ("expression_basis", torch.zeros(3, 6, 3, dtype=torch.float64), "is torch.float64 on cpu, but mean is"),
        ("expression_names", ("a", "b"), "expected 3 names, one a shape, got 2"),
        ("expression_names", ("a", "a", "b"), "two shapes have the same name"),
        ("expression_low", np.full(3, 2.0), "expression_low: is larger than expression_high"),
        ("faces", np.array([[0, 1, 6]] * 4), r"faces: indices must lie in 0…5, got 0…6"),
        ("faces", np.zeros((4, 3)), "faces: expected integers, got float64"),
        ("part", np.ones(4, dtype=np.uint8), "part: indices must lie in 0…0"),
        ("part_names", ("hat",), "expected a part called 'skin', got hat"),
        ("mirror", np.array([1, 2, 0, 3, 4, 5]), "mirror: is not its own inverse"),
        ("hemiface_left", np.full(6, 0.4, dtype=np.float32), "one minus itself at the mirrored vertex"),
        ("regions", {}, "regions: expected brow, eye, nose, cheek, mouth"),
        ("albedo", np.full((6, 3), 1.5), r"albedo: must lie in \[0, 1\]"),
        ("uv", np.zeros((4, 2)), "uv and faces_uv must come together"),
        ("paint", {"lip": np.zeros(5)}, r"paint\[lip\]: expected shape \(6\)"),
    ],
)
def test_validation_names_file_and_field(field: str, value: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny(), **{field: value})


def test_validation_of_landmarks() -> None:
    from morphsym.faces import Embedding

    good = tiny().landmarks68
    with pytest.raises(ModelError, match="landmarks68: expected 68 points, got 67"):
        replace(tiny(), landmarks68=Embedding(good.triangle[:67], good.barycentric[:67]))
    with pytest.raises(ModelError, match="must sum to 1"):
        replace(tiny(), landmarks68=Embedding(good.triangle, good.barycentric * 2))
    with pytest.raises(ModelError, match=r"landmarks68.triangle: indices must lie in 0…3"):
        replace(tiny(), landmarks68=Embedding(good.triangle + 4, good.barycentric))


def test_pose_moves_the_head_as_a_whole(model: MorphableModel) -> None:
    """Against scipy's rotations; the derivative against finite differences."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    i = torch.as_tensor(rng.standard_normal((3, model.n_identity)), dtype=torch.float32)
    e = torch.zeros(1, len(model.sided))
    pose = rng.normal(0, 0.4, (3, 6))
    rest = model.forward(i, e).numpy().astype(np.float64)
    want = np.stack(
        [Rotation.from_rotvec(p[:3]).apply(v - model.pivot) + model.pivot + p[3:] for p, v in zip(pose, rest)]
    )
    got = model.forward(i, e, torch.as_tensor(pose, dtype=torch.float32))
    np.testing.assert_allclose(got.numpy(), want, atol=2e-5)
    assert torch.equal(model.forward(i, e), model.forward(i, e, None))
    some = torch.as_tensor(rest[:1, :5])
    assert torch.autograd.gradcheck(
        lambda p: model._posed(some, p), torch.zeros(1, 6, dtype=torch.float64).requires_grad_()
    )
    assert model.forward(i[:1], e, torch.zeros(4, 6)).shape[0] == 4
    with pytest.raises(UsageError, match=r"pose must be \(B, 6\).*got \(3, 3\)"):
        model.forward(i, e, torch.zeros(3, 3))
    with pytest.raises(UsageError, match="the faces have batch 3 but pose 2"):
        model.forward(i, e, torch.zeros(2, 6))
