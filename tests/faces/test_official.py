"""BFM, Surrey, FLAME and GNM from files in the official layouts: units, axes, coefficients, landmarks, the split, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from morphsym.errors import InputError, ModelError, UsageError
from morphsym.faces import MorphableModel, load_model
from morphsym.faces.loaders.bfm import load_bfm2009, load_bfm_h5
from morphsym.faces.loaders.eos import SFM_68, load_eos, read_bin, read_blendshapes
from morphsym.faces.loaders.flame import JAW, load_flame
from morphsym.faces.loaders.gnm import load_gnm
from morphsym.faces.registry import KNOWN, add_model, list_models
from morphsym.faces.split import MIRROR68
from morphsym.intervention import edit, reach

from . import official

EOS = Path(__file__).parent / "eos"


@pytest.fixture(scope="session")
def src() -> official.Source:
    return official.source()


def write(kind: str, folder: Path, src: official.Source) -> Path:
    if kind == "bfm2017":
        return official.bfm_h5(folder / "model2017-1_face12_nomouth.h5", src)
    if kind == "bfm2019":
        return official.bfm_h5(folder / "model2019_bfm.h5", src)
    if kind == "bfm2009":
        path = official.bfm2009(folder / "01_MorphableModel.mat", src)
    elif kind == "sfm.bin":
        return official.eos_bin(folder / "sfm_shape_3448.bin", src, names=["happy", "pucker"])
    elif kind == "sfm.json":
        return official.eos_json(folder / "sfm_shape_3448.json", src)
    elif kind == "flame":
        path = official.flame_pkl(folder / "flame2023.pkl", official.flame_dict(src))
        official.flame_embedding(folder / "flame_static_embedding.pkl", src)
        return path
    else:
        path = official.gnm_npz(folder / "gnm_head.npz", src)
    official.landmarks_json(path, src)
    return path


KINDS = ("bfm2009", "bfm2017", "bfm2019", "sfm.bin", "sfm.json", "flame", "gnm")


@pytest.fixture(scope="session", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, src: official.Source):
    folder = tmp_path_factory.mktemp(request.param.replace(".", "_"))
    path = write(request.param, folder, src)
    return request.param, path, load_model(path)


def test_the_head_comes_back(loaded: tuple[str, Path, MorphableModel], src: official.Source) -> None:
    """Centimetres, our axes, unit-variance identities, faces seen from outside: whatever the file's own conventions."""
    kind, path, m = loaded
    assert m.source == str(path)
    np.testing.assert_allclose(m.mean.numpy(), src.mean, atol=2e-3)
    np.testing.assert_allclose(m.identity_basis[:2].numpy(), src.identity, atol=2e-3)
    normal = np.cross(*(m.mean.numpy()[m.faces[:, i]] - m.mean.numpy()[m.faces[:, 0]] for i in (1, 2)))
    ours = np.cross(*(src.mean[src.faces[:, i]] - src.mean[src.faces[:, 0]] for i in (1, 2)))
    assert np.sign((normal * ours).sum()) == 1
    assert ((normal * ours).sum(axis=1) > 0).mean() > 0.999
    if kind == "bfm2009":
        assert len(m.expression_basis) == 0
        assert "no expressions" in " ".join(m.notes)
    else:
        pair = {"flame": (1, 2), "gnm": (4, 5)}.get(kind, (0, 1))
        np.testing.assert_allclose(m.expression_basis[list(pair)].numpy(), src.expression, atol=2e-3)
    assert m.licence


def test_landmarks(loaded: tuple[str, Path, MorphableModel], src: official.Source) -> None:
    """Given landmarks are where the file says; missing ones are near, and on the right side of the face."""
    kind, _, m = loaded
    found = m.landmarks(m.mean[None])[0].numpy()
    off = np.linalg.norm(found - src.mean[src.vertices68], axis=1)
    from morphsym.faces.loaders.bfm import NAMES

    given = (
        np.array(sorted(NAMES.values()))
        if kind in ("bfm2017", "bfm2019")
        else np.arange(17 if kind == "flame" else 0, 68)
    )
    assert off[given].max() < 0.02
    rest = np.setdiff1d(np.arange(68), given)
    if len(rest):
        assert off[rest].max() < 1.2, "carried over from the bundled head, whose skin this is"
        assert "were carried over" in " ".join(m.notes)
    flipped = found[MIRROR68] * [-1, 1, 1]
    assert np.abs(flipped - found).max() < 0.5
    assert found[45, 0] > 0 > found[36, 0]


def test_hemiface_intervention_works(loaded: tuple[str, Path, MorphableModel]) -> None:
    """Left + right is the unsplit shape to 1e-5 cm; a left edit leaves the right half alone and moves the left."""
    kind, _, m = loaded
    np.testing.assert_array_equal(m.mirror[m.mirror], np.arange(m.n_vertices))
    if kind == "bfm2009":
        v = m.forward(torch.zeros(2, m.n_identity), torch.zeros(2, 0))
        np.testing.assert_allclose(v[1].numpy(), m.mean.numpy(), atol=1e-6)
        return
    basis = m.sided
    for k in range(len(m.expression_names)):
        total = basis.basis[torch.as_tensor(np.flatnonzero(basis.source == k))].sum(dim=0)
        np.testing.assert_allclose(total.numpy(), m.expression_basis[k].numpy(), atol=1e-5)
    c = m.expand(np.full(len(m.expression_names), 0.7, dtype=np.float32))
    identity = torch.zeros(1, m.n_identity)
    before = m.forward(identity, torch.as_tensor(c)[None])[0].numpy()
    after = m.forward(identity, torch.as_tensor(edit(basis, c, "left", 1.0))[None])[0].numpy()
    moved = np.linalg.norm(after - before, axis=1)
    assert moved[m.hemiface_left == 0].max() < 1e-5
    assert moved[m.hemiface_left == 1].max() > 0.2
    if kind == "flame":
        jaw = np.array([n.startswith("jawOpen") for n in basis.names])
        assert jaw.sum() == 2
        assert not reach(basis, "both")[jaw].any()
        assert reach(basis, "both", include=("jaw",))[jaw].all()


def test_flames_jaw_is_a_rotation(tmp_path: Path, src: official.Source) -> None:
    """jawOpen = 1 is the joint's rotation by JAW: checked with scipy's rotation, on a chin vertex that the jaw alone moves."""
    from scipy.spatial.transform import Rotation

    m = load_flame(write("flame", tmp_path, src))
    d = official.flame_dict(src)
    joint = np.asarray(d["J_regressor"].todense())[2] @ src.mean  # type: ignore[attr-defined]
    chin = src.vertices68[8]
    want = Rotation.from_euler("x", JAW).apply(src.mean[chin] - joint) + joint
    got = (m.mean + m.expression_basis[m.expression_names.index("jawOpen")])[chin].numpy()
    np.testing.assert_allclose(got, want, atol=2e-3)
    assert want[1] < src.mean[chin, 1] - 0.5, "a positive turn about +X opens the mouth"
    assert np.abs(m.expression_basis[0].numpy()[src.mean[:, 1] > src.mean[src.vertices68[30], 1]]).max() < 1e-6


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_flame_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    """What Python 2, SMPL's tools and today's numpy write: chumpy objects, scipy matrices, arrays of both orders."""
    rng = np.random.default_rng(1)
    data = {
        "v_template": rng.normal(size=(20, 3)),
        "f": np.arange(30, dtype=np.uint32).reshape(10, 3),
        "shapedirs": np.asfortranarray(rng.normal(size=(20, 3, 4))),
        "weights": rng.normal(size=(20, 5)).astype(">f4"),
        "kintree_table": np.array([[4294967295, 0], [0, 1]], dtype=np.int64),
        "J_regressor": scipy.sparse.csc_matrix(rng.integers(0, 2, (5, 20)).astype(float)),
        "bs_type": "lrotmin",
        "scale": np.float64(2.5),
        "nothing": None,
    }
    from morphsym.faces.loaders.pickles import read_pickle

    back = read_pickle(official.flame_pkl(tmp_path / "flame.pkl", data, protocol))
    assert (back["bs_type"], back["scale"], back["nothing"]) == ("lrotmin", 2.5, None)
    for key in ("v_template", "f", "shapedirs", "weights", "kintree_table"):
        np.testing.assert_array_equal(back[key], data[key])
    np.testing.assert_array_equal(back["J_regressor"], data["J_regressor"].toarray())  # type: ignore[attr-defined]


# -- eos ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["colour", "blendshapes", "pca"])
def test_files_that_eos_itself_wrote(name: str) -> None:
    """tests/faces/eos/write.cpp, compiled against eos-py 1.5.0's headers, wrote these; the numbers are in it."""
    d = read_bin(EOS / f"{name}.bin")
    shape, v = d["shape_model"], 6
    np.testing.assert_array_equal(shape["mean"].ravel(), np.arange(3 * v) * 0.5 - 3)
    np.testing.assert_array_equal(
        shape["orthonormal_pca_basis"], np.stack([np.arange(18), 100 + np.arange(18)], axis=1)
    )
    np.testing.assert_array_equal(shape["eigenvalues"].ravel(), [4, 9])
    np.testing.assert_array_equal(shape["triangle_list"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(d["texture_coordinates"], np.tile([0.25, 0.75], (v, 1)))
    if name == "blendshapes":
        assert [b["name"] for b in d["expression_model"]] == ["anger", "happy"]
        assert d["expression_model"][1]["deformation"].ravel().tolist() == [2.0] * 18
        assert d["landmark_definitions"] == {"37": 5}
    else:
        assert ("expression_model" in d) == (name == "pca")
        assert "landmark_definitions" not in d
    shapes = read_blendshapes(EOS / "expression.bin")
    assert [b["name"] for b in shapes] == ["anger", "happy"]


def test_surreys_expressions_beside_the_model(tmp_path: Path, src: official.Source) -> None:
    path = official.eos_bin(tmp_path / "sfm.bin", src, version=3)
    assert "no expressions" in " ".join(load_eos(path).notes)
    beside = tmp_path / f"expression_blendshapes_{len(src.mean)}.bin"
    beside.write_bytes(official.blendshapes_bin(src.expression * 10, ["happy", "pucker"]))
    m = load_eos(path)
    assert m.expression_names == ("happy", "pucker")
    assert (m.expression_low.min(), m.expression_high.max()) == (0, 1)
    assert set(MIRROR68[list(SFM_68)]) <= set(range(68))
    assert len(set(SFM_68.values())) == len(SFM_68) == 50


def test_damaged_eos(tmp_path: Path, src: official.Source) -> None:
    path = official.eos_bin(tmp_path / "sfm.bin", src, names=["happy", "pucker"])
    raw = path.read_bytes()
    cases = {
        raw[:2]: "class version",
        raw[:5000]: "truncated",
        raw + b"x": "1 bytes are left over",
        b"\x09" + raw[1:]: "expected 1 to 4",
        raw[:4] + b"\xff" * 8 + raw[12:]: "expected a matrix",
    }
    for cut, message in cases.items():
        path.write_bytes(cut)
        with pytest.raises(ModelError, match=message) as e:
            load_eos(path)
        assert str(path) in str(e.value)


# -- errors --------------------------------------------------------------------------------------------------------------
def test_damaged_bfm(tmp_path: Path, src: official.Source) -> None:
    v = len(src.mean)
    nan = np.full(3 * v, np.nan)
    cases: list[tuple[dict[str, object], str]] = [
        ({"shape/model/mean": None}, "expected /shape/model/mean"),
        ({"shape/model/mean": nan}, "shape/model/mean: holds NaN"),
        (
            {"shape/model/pcaBasis": np.zeros((9, 2))},
            rf"shape/model/pcaBasis: expected shape \({3 * v}, any\), got \(9, 2\)",
        ),
        ({"shape/model/pcaVariance": np.array([1.0, -1.0])}, "must not be negative"),
        ({"expression/model/pcaBasis": None}, "has no expressions"),
        ({"shape/representer/cells": src.faces.T + v}, "indices must lie in"),
        ({"metadata/landmarks/json": None}, "comes without 68 landmarks.*landmarks.json"),
        ({"metadata/landmarks/json": "[1, 2]"}, "expected a list of {id, coordinates}"),
        ({"metadata/landmarks/json": "[]"}, "outer eye corners .* are needed"),
        ({"shape/model/mean": src.mean.ravel(), "expression/model/mean": None}, "expected 90 or so"),
    ]
    for i, (changes, message) in enumerate(cases):
        path = official.bfm_h5(tmp_path / f"model2017_{i}.h5", src, **changes)
        with pytest.raises(ModelError, match=message) as e:
            load_bfm_h5(path)
        assert str(path) in str(e.value)
    path = tmp_path / "bfm.h5"
    path.write_text("hello")
    with pytest.raises(ModelError, match="not a readable HDF5 file"):
        load_bfm_h5(path)
    path = official.bfm2009(tmp_path / "a.mat", src)
    with pytest.raises(ModelError, match="BFM 2009 comes without 68 landmarks"):
        load_bfm2009(path)
    for key, value, message in (
        ("shapePC", None, "expected the variable 'shapePC'"),
        ("shapeEV", np.zeros((5, 1)), "shapeEV: expected"),
    ):
        official.bfm2009(path, src, **{key: value})
        with pytest.raises(ModelError, match=message):
            load_bfm2009(path)
    path.write_text("hello, not MATLAB" * 20)
    with pytest.raises(ModelError, match="not a readable MATLAB file"):
        load_bfm2009(path)


def test_a_face_that_looks_elsewhere(tmp_path: Path, src: official.Source) -> None:
    """A file with other axes than documented is refused, not silently mirrored."""
    turned = official.Source(src.mean * [-1, 1, 1], src.identity, src.expression, src.faces, src.vertices68)
    with pytest.raises(ModelError, match="must point to the subject's left"):
        load_eos(official.eos_bin(tmp_path / "m.bin", turned))
    turned.mean = src.mean * [1, -1, 1]
    with pytest.raises(ModelError, match="must point up"):
        load_eos(official.eos_bin(tmp_path / "m.bin", turned))
    turned.mean = src.mean * [1, 1, -1]
    with pytest.raises(ModelError, match="out of the face"):
        load_eos(official.eos_bin(tmp_path / "m.bin", turned))


def test_damaged_flame(tmp_path: Path, src: official.Source) -> None:
    data = official.flame_dict(src)
    path = tmp_path / "flame.pkl"
    official.landmarks_json(path, src)
    cases: list[tuple[object, str]] = [
        ({**data, "shapedirs": data["shapedirs"][:, :, :10]}, "looks like SMPL"),  # type: ignore[index]
        ({**data, "v_template": np.full_like(src.mean, np.nan)}, "v_template: holds NaN"),
        ({k: v for k, v in data.items() if k != "posedirs"}, "expected the key 'posedirs'"),
        ([1, 2, 3], "expected a dict"),
        ({**data, "weights": np.zeros((3, 5))}, "weights: expected shape"),
    ]
    for value, message in cases:
        official.flame_pkl(path, value, chumpy=False)
        with pytest.raises(ModelError, match=message) as e:
            load_flame(path)
        assert str(path) in str(e.value)
    bare = official.flame_pkl(tmp_path / "bare.pkl", data)
    with pytest.raises(ModelError, match="FLAME comes without 68 landmarks.*flame_static_embedding.pkl"):
        load_flame(bare)


def test_damaged_gnm_and_landmarks(tmp_path: Path, src: official.Source) -> None:
    path = official.gnm_npz(tmp_path / "gnm.npz", src, version=np.array("2.1"))
    with pytest.raises(ModelError, match="expected GNM Head 3.x, got variant 'head', version '2.1'"):
        load_gnm(path)
    official.gnm_npz(path, src)
    marks = tmp_path / "gnm.landmarks.json"
    for text, message in (
        ("[1, 2]", "expected a list of 68 vertex indices, got 2"),
        ("nonsense", "not a readable landmarks file"),
        (json.dumps([10**6] * 68), "landmark 1: vertex 1000000 is not in"),
        ('{"69": 1}', "landmark numbers must lie in 1…68"),
        ('{"37": 1}', "outer eye corners"),
        ('{"indices": [[0, 1, 2]], "weights": [[1, 0, 0]]}', "expected 68"),
    ):
        marks.write_text(text)
        with pytest.raises(ModelError, match=message):
            load_gnm(path)
    only = {str(k + 1): int(src.vertices68[k]) for k in (36, 45, 39, 42)}
    marks.write_text(json.dumps(only))
    with pytest.raises(ModelError, match="the landmarks 31, 49, 55 are missing"):
        load_gnm(path)
    text = tmp_path / "gnm.landmarks.txt"
    marks.unlink()
    text.write_text("# eos' way\n" + "\n".join(f" {k + 1} = {v}  # x" for k, v in enumerate(src.vertices68)))
    assert load_gnm(path).name == "gnm"


# -- the registry ----------------------------------------------------------------------------------------------------------
def test_list_says_where_to_get_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))
    entries = {e.name: e for e in list_models()}
    assert set(entries) == {"makehuman", *KNOWN}
    for name in KNOWN:
        assert not entries[name].available
        assert "https://" in entries[name].how
        assert "licence:" in entries[name].how
        with pytest.raises(InputError, match=f"'{name}' is not at .*https://.*licence"):
            load_model(name)


@pytest.mark.parametrize(("name", "kind"), [("flame", "flame"), ("bfm2017", "bfm2017"), ("bfm2009", "bfm2009"),
                                            ("sfm", "sfm.bin"), ("sfm", "sfm.json"), ("gnm", "gnm")])  # fmt: skip
def test_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, src: official.Source, name: str, kind: str) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    (tmp_path / "in").mkdir()
    path = write(kind, tmp_path / "in", src)
    entry = add_model(name, path)
    assert entry.available
    assert entry.path.parent == tmp_path / "home" / "faces"
    assert load_model(name).name in (name, "eos")
    assert not [p for p in entry.path.parent.iterdir() if p.name.startswith(".")]
    with pytest.raises(UsageError, match="exists already; --force"):
        add_model(name, path)
    add_model(name, path, force=True)


def test_add_refuses_the_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, src: official.Source) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path / "home"))
    path = write("bfm2019", tmp_path, src)
    with pytest.raises(UsageError, match="is bfm2019, not bfm2017; add it as bfm2019"):
        add_model("bfm2017", path)
    with pytest.raises(UsageError, match="is a file of the model 'bfm', not of 'flame'; get .*flame.is.tue.mpg.de"):
        add_model("flame", path)
    with pytest.raises(UsageError, match="unknown face model 'smpl'; those that can be added are ict"):
        add_model("smpl", path)
    with pytest.raises(InputError, match="no such file or folder; get"):
        add_model("sfm", tmp_path / "gone.bin")
    assert not (tmp_path / "home").exists()


@pytest.mark.shared
def test_add_ict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path) -> None:
    monkeypatch.setenv("MORPHSYM_HOME", str(tmp_path))
    assert add_model("ict", shared_data / "face_models" / "ict_facekit.npz").available
    with pytest.raises(ModelError, match=r"expected the file browDown_L.obj"):
        add_model("ict", shared_data / "face_models" / "ict_facekit_obj", force=True)
    assert load_model("ict").name == "ict", "a failed add leaves what was there"
