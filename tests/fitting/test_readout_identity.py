"""The reading of the identity: kinds of renders and their shares, and faces carried over from one model to another."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from morphsym import resources
from morphsym.faces import MorphableModel, sample_people
from morphsym.fitting.basis import landmark_basis
from morphsym.fitting.crop import SIZE
from morphsym.fitting.priors import TRUST_IDENTITY, identity_prior
from morphsym.fitting.readout import ASSET, IdentityReading, Readout, bundled

TOOL = Path(__file__).parents[2] / "tools" / "readout_identity.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    sys.path.insert(0, str(TOOL.parent))  # its neighbours
    spec = importlib.util.spec_from_file_location("readout_identity", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["readout_identity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def read(readout: Readout) -> IdentityReading:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    points = rng.normal(SIZE / 2, 20, (478, 2))
    return readout.read_crop(crop, points, dict.fromkeys(readout.score_names, 0.1)).identity["makehuman"]


def two_kinds(path: Path, tool: Any, gate: float, apart: float) -> Path:
    """Weights with two kinds of renders, whose readings of the bundled head are the present ones and ``apart`` above."""
    with np.load(resources.asset(ASSET), allow_pickle=False) as z:
        arrays = {k: z[k] for k in z.files if not k.startswith("identity.")}
    w = bundled()._w
    for k in ("points_mean", "points", "pixels"):
        arrays[f"identity.{k}"] = w[f"identity.{k}"].numpy()
    features = w["identity.points"].shape[1] + w["identity.pixels"].shape[1]
    arrays["identity.kind.w"] = np.zeros((features, 2), dtype=np.float32)
    arrays["identity.kind.b"] = np.array([gate, 0], dtype=np.float32)
    for name in arrays["models"].tolist():
        b, c = w[f"identity.{name}.b"], w[f"identity.{name}.covariance"]
        one = w[f"identity.{name}.w"].unflatten(0, (len(b), -1))[0].numpy()
        arrays |= tool.in_eight_bits(f"identity.{name}.w", np.concatenate([one, one]))
        arrays[f"identity.{name}.b"] = torch.stack([b[0], b[0] + apart]).numpy()
        arrays[f"identity.{name}.covariance"] = torch.stack([c[0], c[0]]).numpy()
        arrays[f"identity.{name}.lengths"] = w[f"identity.{name}.lengths"].numpy()
    np.savez(path, **arrays)
    return path


def test_a_picture_between_two_kinds_has_some_of_each(tmp_path: Path, tool: Any) -> None:
    """The mean and the covariance of a mixture: where the kinds disagree, it is less certain."""
    first, second, half = (read(Readout(two_kinds(tmp_path / f"{g}.npz", tool, g, 0.8))) for g in (40.0, -40.0, 0.0))
    np.testing.assert_allclose(second.mean - first.mean, 0.8, atol=1e-4)
    np.testing.assert_allclose(half.mean, (first.mean + second.mean) / 2, atol=1e-4)
    np.testing.assert_allclose(first.covariance, second.covariance)
    more = half.covariance - first.covariance  # times the square of how strange this noise looks
    np.testing.assert_allclose(more, more[0, 0], rtol=1e-3)
    assert more[0, 0] >= 0.16 - 1e-3


def test_the_priors_covariance_is_the_readings(makehuman: MorphableModel) -> None:
    reading = read(bundled())
    basis = landmark_basis(makehuman, True)
    from tests.fitting.test_readout import reading_of

    plain = reading_of(makehuman, 0.4, 0.0, 0.1)
    object.__setattr__(plain, "identity", {"makehuman": reading})
    _, precision, _ = identity_prior(makehuman, basis, [plain])
    turn = basis.to_identity.numpy()
    np.testing.assert_allclose(
        precision[0].numpy() @ (TRUST_IDENTITY**2 * turn.T @ reading.covariance @ turn),
        np.eye(turn.shape[1]),
        atol=1e-6,
    )


def test_a_face_carried_to_its_own_model_is_itself(makehuman: MorphableModel, tool: Any) -> None:
    """Turned and moved before: no scale and no motion may go into the shape."""
    shapes = tool.Shapes.of(makehuman)
    identity = np.asarray(sample_people(makehuman, 1, 5)[0].identity, dtype=np.float64)
    surface = tool.Surface.of(makehuman, identity)
    r = tool.rotation(np.array([0.05, -0.04, 0.03]))
    moved = [v @ r + (0.3, 0.2, -0.1) for v in (surface.vertices, surface.landmarks)]
    surface = tool.Surface(moved[0], surface.normals @ r, tool.cKDTree(moved[0]), moved[1])
    found = tool.nearest(shapes, surface, np.zeros(len(identity)), 6, 10, near=0.0)

    def off(b: np.ndarray) -> float:
        d = shapes.at(b) - shapes.at(identity)
        return float(np.linalg.norm(d - d.mean(0), axis=1).mean())

    assert off(found) < 0.25 * off(np.zeros(len(identity)))


def test_the_affine_map_is_found_and_kinds_are_told_apart(tool: Any) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(300, 5)), rng.normal(size=(6, 3))
    np.testing.assert_allclose(tool.affine(x, x @ w[:-1] + w[-1], 1e-9), w, atol=1e-6)
    kind = np.repeat([0, 1], 150)
    x[kind == 1, 0] += 6
    found = tool.kinds(x, kind, 2)
    assert (np.argmax(x @ found[:-1] + found[-1], axis=1) == kind).mean() > 0.98


def test_eight_bits_come_back(tool: Any) -> None:
    x = np.random.default_rng(2).normal(size=(7, 9)) * np.geomspace(1e-3, 10, 7)[:, None]
    arrays = tool.in_eight_bits("a", x)
    assert arrays["a"].dtype == np.int8
    found = tool.restored(arrays, "a").numpy()
    assert (np.abs(found - x) <= np.abs(x).max(axis=1, keepdims=True) / 250).all()
