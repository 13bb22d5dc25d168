"""Coefficients of other programs, from small files in their layouts, on a model in FLAME's layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from morphsym.errors import InputError, UsageError
from morphsym.faces import MorphableModel, load_model
from morphsym.faces.loaders.flame import JAW
from morphsym.fitting import Detection, load_fits
from morphsym.fitting.codes import Code, read_codes
from morphsym.fitting.correspondence import places
from morphsym.fitting.detectors.base import box_of
from morphsym.fitting.importing import _matcher, coefficients, import_fits
from morphsym.rendering import portrait_camera, project
from tests.faces import official


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory) -> MorphableModel:
    """A model in FLAME's official layout: 2 of its 300 identity and of its 100 expression components are not zero."""
    folder = tmp_path_factory.mktemp("flame")
    s = official.source()
    path = official.flame_pkl(folder / "flame2023.pkl", official.flame_dict(s))
    official.flame_embedding(folder / "flame_static_embedding.pkl", s)
    return load_model(path)


SHAPE = np.r_[0.7, -0.5, np.zeros(98)].astype(np.float32)
EXP = np.r_[0.8, 0.3, np.zeros(48)].astype(np.float32)
POSE = np.array([0.1, -0.2, 0.05, 0.2, 0.0, 0.0], dtype=np.float32)  # head, jaw


def write_emoca(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    for key, value in {"shape": SHAPE, "exp": EXP, "pose": POSE, "tex": np.zeros(50), "detail": np.zeros(128)}.items():
        np.save(folder / name / f"{key}.npy", value)


def smirk(count: int) -> dict[str, np.ndarray]:
    def rows(a: np.ndarray) -> np.ndarray:
        return np.repeat(a[None], count, axis=0)

    return {
        "pose_params": rows(POSE[:3]), "cam": rows(np.array([7.0, 0, 0])), "jaw_params": rows(POSE[3:]),
        "shape_params": rows(np.r_[SHAPE, np.zeros(200)]), "expression_params": rows(EXP),
        "eyelid_params": rows(np.array([0.5, 0.1])),
    }  # fmt: skip


def deca() -> dict[str, np.ndarray]:
    return {"shape": SHAPE[None], "exp": EXP[None], "pose": POSE[None], "cam": np.array([[8.0, 0, 0]])}


def check(code: Code, kind: str, name: str) -> None:
    assert (code.format, code.name) == (kind, name)
    assert code.shape is not None
    assert np.allclose(code.shape[:100], SHAPE)
    assert np.allclose(code.exp, EXP)
    assert np.allclose(code.rotation, POSE[:3])
    assert np.allclose(code.jaw, POSE[3:])


def test_every_layout_gives_the_same(tmp_path: Path) -> None:
    write_emoca(tmp_path / "emoca", "anna00")
    check(*read_codes(tmp_path / "emoca"), "emoca", "anna00")  # type: ignore[misc]
    np.savez(tmp_path / "anna.npz", **deca())
    check(*read_codes(tmp_path / "anna.npz"), "deca", "anna")  # type: ignore[misc]
    (tmp_path / "anna.pkl").write_bytes(pickle.dumps(deca()))
    check(*read_codes(tmp_path / "anna.pkl"), "deca", "anna")  # type: ignore[misc]
    torch.save({k: torch.from_numpy(v) for k, v in smirk(1).items()}, tmp_path / "anna.pt")
    check(*read_codes(tmp_path / "anna.pt"), "smirk", "anna")  # type: ignore[misc]
    from scipy.io import savemat

    savemat(tmp_path / "anna.mat", deca())
    check(*read_codes(tmp_path / "anna.mat"), "deca", "anna")  # type: ignore[misc]
    np.savez(tmp_path / "many.npz", **smirk(3), names=np.array(["a", "b", "c"]))
    assert [c.name for c in read_codes(tmp_path / "many.npz")] == ["a", "b", "c"]
    assert [c.name for c in read_codes(tmp_path / "anna.npz", "deca")] == ["anna"]


def test_emocas_folders_as_its_demos_write_them(tmp_path: Path) -> None:
    """Below the network's name; of a video, below four folders more; two networks' are not mixed."""
    images = tmp_path / "image_output"
    for name in ("img100", "img10000"):
        write_emoca(images / "EMOCA_v2_lr_mse_20", name)
        (images / "EMOCA_v2_lr_mse_20" / name / "geometry_coarse.png").write_bytes(b"x")
    assert [c.name for c in read_codes(images)] == ["img100", "img10000"]
    video = tmp_path / "video_output"
    results = (
        video / "EMOCA_v2_lr_mse_20" / "processed_2022_Jan_15_02-43-06" / "smile" / "results" / "EMOCA_v2_lr_mse_20"
    )
    for name in ("000002_000", "000001_000"):
        write_emoca(results, name)
    assert [c.name for c in read_codes(video)] == ["000001_000", "000002_000"]
    write_emoca(images / "DECA", "img100")
    with pytest.raises(InputError, match=r"in 2 folders \(DECA, EMOCA_v2_lr_mse_20\); name one"):
        read_codes(images)
    # DECA's --saveMat: a folder a photo, with meshes in it
    from scipy.io import savemat

    (tmp_path / "results" / "anna").mkdir(parents=True)
    savemat(tmp_path / "results" / "anna" / "anna.mat", {"verts": np.zeros((9, 3)), "trans_verts": np.zeros((9, 3))})
    (tmp_path / "results" / "anna_vis.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="holds meshes.*save the codedict"):
        read_codes(tmp_path / "results")


def test_everything_that_the_programs_put_beside_the_codes(tmp_path: Path) -> None:
    """DECA's codedict with pictures, light and detail on it; EMOCA's values; both by torch.save and pickle."""
    whole = {
        **deca(), "tex": np.zeros((1, 50)), "light": np.zeros((1, 9, 3)), "images": np.zeros((1, 3, 8, 8)),
        "detail": np.zeros((1, 128)), "euler_jaw_pose": np.zeros((1, 3)),
    }  # fmt: skip
    torch.save({k: torch.from_numpy(v) for k, v in whole.items()}, tmp_path / "anna.pt")
    check(*read_codes(tmp_path / "anna.pt"), "deca", "anna")  # type: ignore[misc]
    assert set(read_codes(tmp_path / "anna.pt")[0].left_out) == {"tex", "light", "detail", "cam"}
    renamed = {"shapecode": "shape", "expcode": "exp", "posecode": "pose", "texcode": "tex", "detailcode": "detail"}
    (tmp_path / "bert.pkl").write_bytes(pickle.dumps({k: whole[v] for k, v in renamed.items()}))
    check(*read_codes(tmp_path / "bert.pkl"), "emoca", "bert")  # type: ignore[misc]


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("boom",))


def test_what_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"shape": Bomb(), "exp": Bomb()}))
    with pytest.raises(InputError, match="refused"):
        read_codes(tmp_path / "bomb.pkl")
    assert "boom" not in capsys.readouterr().out
    np.savez(tmp_path / "mesh.npz", verts=np.zeros((9, 3)), trans_verts=np.zeros((9, 3)))
    with pytest.raises(InputError, match="holds meshes.*save the codedict"):
        read_codes(tmp_path / "mesh.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="expected shape, exp, pose or .*it has a"):
        read_codes(tmp_path / "other.npz")
    np.savez(tmp_path / "two.npz", shape=np.zeros((2, 100)), exp=np.zeros((3, 50)))
    with pytest.raises(InputError, match="2 .shape., 3 .exp. faces"):
        read_codes(tmp_path / "two.npz")
    np.savez(tmp_path / "nan.npz", shape=np.full(100, np.nan), exp=np.zeros(50))
    with pytest.raises(InputError, match="not finite"):
        read_codes(tmp_path / "nan.npz")
    (tmp_path / "half" / "x").mkdir(parents=True)
    np.save(tmp_path / "half" / "x" / "exp.npy", EXP)
    with pytest.raises(InputError, match="shape.npy is missing"):
        read_codes(tmp_path / "half")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no coefficients found"):
        read_codes(tmp_path / "nothing")
    for name, text in (("a.json", "{"), ("b.json", '{"x": 1}'), ("c.csv", "eyeBlinkLeft\n"), ("d.json", "[]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError):
            read_codes(tmp_path / name)
    with pytest.raises(InputError, match="no such"):
        read_codes(tmp_path / "gone")


SCORES = {"_neutral": 0.0, "mouthSmileLeft": 0.8, "mouthSmileRight": 0.3, "jawOpen": 0.2, "eyeBlinkLeft": 0.1,
          "browInnerUp": 0.4, "mouthPucker": 0.05}  # fmt: skip


def test_blendshapes_in_every_layout(tmp_path: Path, makehuman: MorphableModel) -> None:
    listed = [{"index": i, "score": v, "categoryName": k} for i, (k, v) in enumerate(SCORES.items())]
    header = "Timecode,BlendshapeCount," + ",".join(k[0].upper() + k[1:] for k in SCORES if k != "_neutral")
    values = ",".join(str(v) for k, v in SCORES.items() if k != "_neutral")
    files = {
        "flat.json": json.dumps(SCORES), "list.json": json.dumps(listed),
        "web.json": json.dumps({"faceBlendshapes": [{"categories": listed}]}), "photos.json": json.dumps({"anna.jpg": SCORES}),
        "live.csv": f"{header}\n00:00:01,61,{values}\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (code,) = read_codes(tmp_path / name)
        assert code.name == ("anna" if name == "photos.json" else Path(name).stem)
        assert dict(code.scores) == {k: v for k, v in SCORES.items() if k != "_neutral"}, name
    identity, expression, _ = coefficients(code, makehuman)
    assert not identity.any()
    found = dict(zip(makehuman.sided.names, expression, strict=True))
    assert (found["mouthSmileLeft"], found["mouthSmileRight"]) == pytest.approx((0.8, 0.3))
    assert found["browInnerUp.left"] == found["browInnerUp.right"] == pytest.approx(0.4)
    (tmp_path / "film.csv").write_text(f"{header}\n" + f"00:00:01,61,{values}\n" * 3)
    assert [c.name for c in read_codes(tmp_path / "film.csv")] == ["", "", ""]


def seen(model: MorphableModel, identity: np.ndarray, expression: np.ndarray, yaw: float = 0.0) -> Detection:
    v = model.forward(torch.as_tensor(identity)[None], torch.as_tensor(expression)[None])[0].numpy()
    corners, weights, _ = places(model, False)
    points = torch.as_tensor(np.einsum("nkc,nk->nc", v[corners], weights), dtype=torch.float32)
    pixels = project(portrait_camera(256, 80.0, 27.0, yaw), points[None])[0][0].numpy().astype(np.float64)
    return Detection(pixels, box_of(pixels), float("nan"), "test", kind="anatomical")


def test_the_imported_face_lies_on_the_landmarks(flame: MorphableModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "anna.npz", **smirk(1))
    codes = read_codes(tmp_path / "anna.npz")
    identity, expression, notes = coefficients(codes[0], flame)
    assert np.allclose(identity[:100], SHAPE)
    own = list(flame.expression_names)
    sided = flame.sided
    for name, value in (("exp000", 0.8), ("exp001", 0.3), ("jawOpen", 0.2 / JAW)):
        rows = np.asarray(sided.source) == own.index(name)
        assert np.allclose(expression[rows], value), name  # the same on both sides and in all regions
    assert any("eyelid" in n for n in notes)
    photo = tmp_path / "photos" / "anna.png"
    photo.parent.mkdir()
    Image.fromarray(np.full((256, 256, 3), 120, np.uint8)).save(photo)
    marks = seen(flame, identity, expression, 20.0)
    (fit,) = import_fits(codes, [photo], flame, landmarks=[marks], expression="happiness")
    assert fit.ok, fit.reason
    assert np.array_equal(fit.identity, identity)
    assert np.array_equal(fit.expression, expression)
    assert fit.nme < 0.004
    assert fit.yaw == pytest.approx(20, abs=1.5)
    assert "imported head rotation" in fit.quality  # the file says −11°, the landmarks +20°
    assert (fit.emotion, fit.emotion_source) == ("happiness", "given")
    assert fit.measures is not None
    (unnamed,) = import_fits(codes, [photo], flame, landmarks=[marks])
    assert unnamed.ok
    assert unnamed.emotion == ""


def test_photos_and_coefficients_are_matched(flame: MorphableModel, tmp_path: Path) -> None:
    for name in ("anna00", "bert00"):
        write_emoca(tmp_path / "codes", name)
    codes = read_codes(tmp_path / "codes")
    identity, expression, _ = coefficients(codes[0], flame)
    photos = []
    for name in ("bert", "carl", "anna"):
        photos.append(tmp_path / f"{name}.png")
        Image.fromarray(np.full((256, 256, 3), 120, np.uint8)).save(photos[-1])
    marks = seen(flame, identity, expression)
    found = list(import_fits(codes, photos, flame, landmarks=[marks] * 3, expression="happiness"))
    assert [f.ok for f in found] == [True, False, True]
    assert "no coefficients for this photo" in found[1].reason
    with pytest.raises(UsageError, match="FLAME's; use --model flame"):
        import_fits(codes, photos, load_model("makehuman"), landmarks=[marks] * 3)
    scores = [Code("a", "a.json", "blendshapes", scores=SCORES)]
    with pytest.raises(UsageError, match="ARKit's shapes"):
        import_fits(scores, photos, flame, landmarks=[marks] * 3)


@pytest.mark.parametrize(
    ("names", "photos", "expected"),
    [
        (("img100", "img10000"), ("img1.png", "img100.png"), (0, 1)),  # img100 is img1's first face
        (("img1", "img100"), ("img1.png", "img100.png"), (0, 1)),
        (("anna00", "bert00"), ("bert.v2.png", "anna.png", "carl.png"), (1, 0, None)),
        (("anna", "bert"), ("bert.v2.png", "anna.png"), (1, 0)),
        (("a.b", "a"), ("a.png", "a.b.png"), (1, 0)),
    ],
)
def test_names_are_matched_as_a_whole(
    names: tuple[str, ...], photos: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    codes = [Code(n, "x", "emoca") for n in names]
    match = _matcher(codes, [Path(p) for p in photos])
    found = [match(Path(p).stem, i, -1) for i, p in enumerate(photos)]
    assert found == [None if e is None else codes[e] for e in expected]


def test_frames_are_matched_by_emocas_numbers() -> None:
    codes = [Code(f"{i:06d}_000", "x", "emoca") for i in (1, 2, 6)]
    match = _matcher(codes, ["smile.mp4"])
    assert [match(f"smile-{i:06d}", i, i) for i in (0, 1, 2, 5)] == [codes[0], codes[1], None, codes[2]]


def test_flame_2023_is_said(flame: MorphableModel) -> None:
    """The fixture's file is called flame2023.pkl: its components are not those of the three programs."""
    code = Code("a", "a.npz", "deca", SHAPE, EXP, POSE[:3], POSE[3:])
    assert any("FLAME 2020's components" in n for n in coefficients(code, flame)[2])


def test_the_command(tmp_path: Path, makehuman: MorphableModel, astronaut: np.ndarray) -> None:
    from morphsym_cli import cli

    from morphsym import resources

    Image.fromarray(astronaut).save(tmp_path / "astronaut.png")
    sample = json.loads(resources.asset("sample/astronaut.json").read_text())
    (tmp_path / "astronaut.json").write_text(json.dumps(sample["blendshapes"]))
    arguments = [
        "import",
        str(tmp_path / "astronaut.json"),
        str(tmp_path / "astronaut.png"),
        "--landmarks",
        str(resources.asset("sample/astronaut.json")),
    ]
    done = CliRunner().invoke(cli, [*arguments, "-q", "--sheet", "-o", str(tmp_path / "fits")])
    assert done.exit_code == 0, done.output
    (fit,) = load_fits(tmp_path / "fits")
    assert (tmp_path / "fits" / "_sheet-01.png").is_file()
    left = dict(zip(fit.expression_names, fit.expression, strict=True))["mouthSmileLeft"]
    assert left == pytest.approx(sample["blendshapes"]["mouthSmileLeft"], abs=1e-6)
    assert fit.nme < 0.08
    assert fit.emotion == "happiness"
