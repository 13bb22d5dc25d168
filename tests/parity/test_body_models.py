"""FLAME and GNM against the package body-models, which reads and poses the same files by independent code.

The package is not a dependency (its reader of FLAME's pickle runs what is in it), so the files here are npz, and the test
runs where it is installed: ``pip install body-models``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from morphsym.faces.loaders.flame import JAW, load_flame
from morphsym.faces.loaders.gnm import load_gnm
from tests.faces import official

pytest.importorskip("body_models", reason="body-models is not installed (pip install body-models)")


@pytest.fixture(scope="module")
def src() -> official.Source:
    return official.source()


def test_flame(tmp_path: Path, src: official.Source) -> None:
    """Mean, identity, expression and the opened jaw, pose correctives included."""
    from body_models.flame.numpy import FLAME

    rng = np.random.default_rng(0)
    data = official.flame_dict(src)
    data["posedirs"] = rng.normal(0, 2e-4, (len(src.mean), 3, 36))
    data["J_regressor"] = data["J_regressor"].toarray()  # type: ignore[attr-defined]
    path = tmp_path / "flame.npz"
    np.savez(path, **{k: v for k, v in data.items() if not isinstance(v, str)})  # type: ignore[arg-type]
    official.landmarks_json(path, src)
    ours, theirs = load_flame(path), FLAME(model_path=path)

    def posed(identity: np.ndarray, expression: np.ndarray, jaw: float) -> np.ndarray:
        pose = np.zeros((1, 4, 3), dtype=np.float32)
        pose[0, 1, 0] = jaw  # neck, jaw, left eye, right eye
        found = theirs.forward_vertices(pose, shape=identity[None], expression=expression[None])
        return 100 * np.asarray(found)[0]

    def mine(identity: np.ndarray, expression: np.ndarray, jaw: float) -> np.ndarray:
        index = {n: i for i, n in enumerate(ours.expression_names)}
        own = np.zeros(len(index), dtype=np.float32)
        own[index["jawOpen"]] = jaw
        for i, value in enumerate(expression):
            if f"exp{i:03d}" in index:
                own[index[f"exp{i:03d}"]] = value
        with torch.no_grad():
            return ours.forward(torch.as_tensor(identity)[None], torch.as_tensor(ours.expand(own))[None])[0].numpy()

    zero, expression = np.zeros(300, dtype=np.float32), np.zeros(100, dtype=np.float32)
    shift = mine(zero, expression, 0.0) - posed(zero, expression, 0.0)
    assert np.abs(shift - shift.mean(0)).max() < 0.01  # only x is centred (and the mean made symmetric)
    identity = np.zeros(300, dtype=np.float32)
    identity[:2] = 1.0, -0.5
    expression[:2] = 0.7, -0.4
    for case in ((identity, 0 * expression, 0.0), (zero, expression, 0.0), (zero, 0 * expression, 1.0)):
        i, e, jaw = case
        a = mine(i, e, jaw) - mine(zero, 0 * expression, 0.0)
        b = posed(i, e, jaw * JAW) - posed(zero, 0 * expression, 0.0)
        assert np.abs(b).max() > 0.2
        assert np.abs(a - b).max() < 2e-3


def test_gnm(tmp_path: Path, src: official.Source) -> None:
    """The same constants: version, key names, counts."""
    from body_models.gnm._io import load_model_data

    v = len(src.mean)
    joints = {
        "skinning_weights": np.eye(4)[:, [0] * v],
        "pose_correctives_regressor": np.zeros((36, 3 * v)),
        "template_joint_positions": np.zeros((4, 3)),
        "joint_identity_basis": np.zeros((2, 4, 3)),
        "joint_parent_indices": np.array([-1, 0, 1, 1]),
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
    }
    path = official.gnm_npz(tmp_path / "gnm_head.npz", src, **joints)
    official.landmarks_json(path, src)
    ours, theirs = load_gnm(path), load_model_data(path)
    shift = ours.mean.numpy() - 100 * theirs.v_template
    assert np.abs(shift - shift.mean(0)).max() < 0.01
    for k, name in enumerate(ours.expression_names):
        j = list(theirs.expression_names).index(name)
        np.testing.assert_allclose(ours.expression_basis[k].numpy(), 100 * theirs.exprdirs[:, :, j], atol=1e-4)
    np.testing.assert_allclose(ours.identity_basis.numpy(), 100 * np.moveaxis(theirs.shapedirs, 2, 0), atol=2e-3)
