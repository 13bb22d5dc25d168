"""Coefficients that other programs made: SMIRK, DECA and EMOCA (FLAME parameters), and blendshape scores.

What is read (nothing in a file is ever run; arrays may hold one face or one a row):

===============  =====================================================================================================
``emoca``        the output folder of ``test_emoca_on_images.py`` or ``…_on_video.py`` with ``--save_codes True``: somewhere in
                 it (below the network's name), for each face a folder with ``shape.npy`` (100), ``exp.npy`` (50) and
                 ``pose.npy`` (global rotation, jaw), named after the photo and the face (``smile00``) or the frame
                 (``000001_000`` is the first)
``deca``         DECA's ``codedict``: ``shape``, ``exp``, ``pose`` (global rotation, jaw; rotation vectors also where DECA's
                 ``jaw_type`` is 'euler') in a .npz, .mat, .pkl or .pt file. No script of DECA's saves it: the ``.mat`` of
                 ``demo_reconstruct.py --saveMat`` holds meshes and no codes, and is refused with that reason
``smirk``        the encoder's output: ``shape_params`` (300), ``expression_params`` (50), ``jaw_params``, ``pose_params`` in such
                 a file (SMIRK's own demos save pictures only)
``blendshapes``  scores by ARKit name: .json as MediaPipe gives them (a list of ``categoryName`` and ``score``) or one
                 mapping, or a mapping of photos to either; .csv with a column a shape (MediaPipe's, Live Link Face's)
===============  =====================================================================================================

Conventions: Feng et al. 2021 (DECA), Daněček et al. 2022 (EMOCA), Retsinas et al. 2024 (SMIRK), as in their public code
(DECA a11554a, EMOCA fef5472, SMIRK c7de404). All three use the components of **FLAME 2020** (``generic_model.pkl``);
FLAME 2023 has others.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError

FORMATS = ("auto", "emoca", "deca", "smirk", "blendshapes")

KEYS = {
    "deca": {"shape": "shape", "exp": "exp", "pose": "pose"},
    "emoca": {"shapecode": "shape", "expcode": "exp", "posecode": "pose"},
    "smirk": {"shape_params": "shape", "expression_params": "exp", "jaw_params": "jaw", "pose_params": "pose"},
}
"""What each program calls the identity, the expression, the pose (rotation vector of the head, then of the jaw) and the jaw."""

LEFT_OUT = ("eyelid_params", "tex", "texcode", "light", "lightcode", "detail", "detailcode", "cam")
"""What has no place in a fit: eyelids (SMIRK's own two shapes, which FLAME lacks), appearance, and the camera of a crop that
none of the programs saves."""

SUFFIXES = (".npz", ".mat", ".pkl", ".pickle", ".pt", ".pth")


@dataclass(frozen=True, eq=False)
class Code:
    """The coefficients of one face, as another program gave them."""

    name: str  # the photo's name without its ending; '' where the file does not say
    source: str  # the file, for messages
    format: str  # of FORMATS without 'auto'
    shape: np.ndarray | None = None  # (n,) identity components of FLAME
    exp: np.ndarray | None = None  # (n,) expression components of FLAME
    rotation: np.ndarray | None = None  # (3,) rotation vector of the head, FLAME's axes
    jaw: np.ndarray | None = None  # (3,) rotation vector of the jaw
    scores: Mapping[str, float] = field(default_factory=dict)  # blendshapes by ARKit name
    left_out: tuple[str, ...] = ()  # what the file has and a fit does not


def read_codes(path: str | Path, kind: str = "auto") -> list[Code]:
    """The coefficients in ``path``, a file or a folder of files, in natural order. ``kind``: of :data:`FORMATS`.

    Raises :class:`InputError` that says what was expected and what is there.
    """
    path = Path(path)
    if kind not in FORMATS:
        raise InputError(f"unknown format {kind!r}; expected one of {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    if path.is_dir():
        return _read_folder(path, kind)
    suffix = path.suffix.lower()
    if suffix in (".json", ".csv"):
        if kind not in ("auto", "blendshapes"):
            raise InputError(f"{path}: a {suffix} file holds blendshapes, not {kind} parameters")
        return _read_scores(path)
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: expected {', '.join(SUFFIXES)}, .json, .csv or a folder")
    return list(_of_dict(_read_dict(path), path, kind))


def _read_folder(folder: Path, kind: str) -> list[Code]:
    from .listing import natural_key

    if (folder / "exp.npy").is_file():
        return [_emoca(folder)]

    def ordered(found: Iterable[Path]) -> list[Path]:
        return sorted(found, key=lambda p: (natural_key(p.name), p.name))

    faces: dict[Path, list[Path]] = {}
    for file in folder.rglob("exp.npy"):
        faces.setdefault(file.parent.parent, []).append(file.parent)
    if len(faces) > 1:
        several = ", ".join(str(p.relative_to(folder)) for p in ordered(faces)[:4])
        raise InputError(f"{folder}: coefficients in {len(faces)} folders ({several}); name one of them")
    if faces:
        return [_emoca(p) for p in ordered(*faces.values())]
    endings = (*SUFFIXES, ".json", ".csv")
    files = [p for p in folder.iterdir() if p.suffix.lower() in endings]
    if not files:  # DECA makes a folder a photo
        files = [p for p in folder.glob("*/*") if p.suffix.lower() in endings]
    if not files:
        raise InputError(
            f"{folder}: no coefficients found; expected folders with exp.npy (EMOCA), or files {', '.join(SUFFIXES)}, .json, .csv"
        )
    return [c for p in ordered(files) for c in read_codes(p, kind)]


def _emoca(folder: Path) -> Code:
    arrays = {}
    for key in ("shape", "exp", "pose"):
        file = folder / f"{key}.npy"
        if not file.is_file():
            raise InputError(f"{folder}: {file.name} is missing; run EMOCA with --save_codes True")
        try:
            arrays[key] = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as e:
            raise InputError(f"{file} is not a readable array ({e})") from None
    extra = tuple(k for k in LEFT_OUT if (folder / f"{k}.npy").is_file())
    (code,) = _of_arrays(arrays, folder, "emoca", [folder.name], extra)
    return code


def _read_dict(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as z:
                return {k: z[k] for k in z.files}
        if suffix == ".mat":
            from scipy.io import loadmat

            return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
        if suffix in (".pt", ".pth"):
            import torch

            found = torch.load(path, map_location="cpu", weights_only=True)
            plain = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else v for k, v in dict(found).items()}
            return plain
        from ..faces.loaders.pickles import read_pickle  # calls nothing that the file names

        found = read_pickle(path)
    except ModelError as e:
        raise InputError(f"{e}; save the arrays with numpy.savez or torch.save") from None
    except Exception as e:  # each reader has its own errors for damaged files
        raise InputError(f"{path} is not a readable {suffix} file ({' '.join(str(e).split())[:200]})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a dict of arrays, got a {type(found).__name__}")
    return found


def _of_dict(found: Mapping[str, Any], path: Path, kind: str) -> Iterator[Code]:
    kinds = [kind] if kind in KEYS else list(KEYS)
    fitting = [k for k in kinds if {n for n, v in KEYS[k].items() if v in ("shape", "exp")} <= set(found)]
    if not fitting:
        if {"verts", "trans_verts"} & set(found):
            raise InputError(
                f"{path} holds meshes (DECA's --saveMat), not coefficients; save the codedict: "
                "numpy.savez(name, **{k: codedict[k].cpu() for k in ('shape', 'exp', 'pose')})"
            )
        expected = " or ".join(", ".join(KEYS[k]) for k in kinds)
        raise InputError(f"{path}: expected {expected}; it has {', '.join(sorted(map(str, found))[:12]) or 'nothing'}")
    which = fitting[0]
    arrays = {v: found[k] for k, v in KEYS[which].items() if k in found}
    stated = next((found[k] for k in ("names", "image_names", "imagename", "name") if k in found), None)
    names = None if stated is None else [str(n) for n in np.asarray(stated).reshape(-1)]
    yield from _of_arrays(arrays, path, which, names, tuple(k for k in LEFT_OUT if k in found))


def _of_arrays(
    arrays: Mapping[str, Any], path: Path, kind: str, names: list[str] | None, extra: tuple[str, ...]
) -> list[Code]:
    rows: dict[str, np.ndarray] = {}
    for key, value in arrays.items():
        try:
            a = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{path}: {key} is not an array of numbers") from None
        a = a.reshape(1, -1) if a.ndim == 1 else a
        if a.ndim != 2:
            raise InputError(f"{path}: {key} must be (n,) or (faces, n), got {a.shape}")
        if not np.isfinite(a).all():
            raise InputError(f"{path}: {key} holds values that are not finite")
        rows[key] = a
    count = {len(a) for a in rows.values()}
    if len(count) != 1:
        raise InputError(f"{path}: the arrays are of {', '.join(f'{len(a)} ({k})' for k, a in rows.items())} faces")
    n = count.pop()
    pose = rows.get("pose")
    if pose is not None and pose.shape[1] not in (3, 6):
        raise InputError(f"{path}: pose must have 3 (head) or 6 numbers (head, jaw), got {pose.shape[1]}")
    jaw = rows.get("jaw", pose[:, 3:] if pose is not None and pose.shape[1] == 6 else None)
    if jaw is not None and jaw.shape[1] != 3:
        raise InputError(f"{path}: the jaw must have 3 numbers, got {jaw.shape[1]}")
    if names is None:
        names = [path.stem] if n == 1 else [""] * n
    if len(names) != n:
        raise InputError(f"{path}: {len(names)} names for {n} faces")
    return [
        Code(names[i], str(path), kind, rows["shape"][i], rows["exp"][i], None if pose is None else pose[i, :3],
             None if jaw is None else jaw[i], {}, extra)
        for i in range(n)
    ]  # fmt: skip


# -- blendshapes -------------------------------------------------------------------------------------------------------


def _read_scores(path: Path) -> list[Code]:
    try:
        if path.suffix.lower() == ".csv":
            return _scores_csv(path)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except InputError:
        raise
    except (OSError, ValueError) as e:
        raise InputError(f"{path} is not readable ({e})") from None
    return list(_scores_json(content, path, path.stem))


def _scores_json(content: Any, path: Path, name: str) -> Iterator[Code]:
    content = content.get("faceBlendshapes", content) if isinstance(content, Mapping) else content
    if isinstance(content, Mapping) and "categories" in content:
        content = content["categories"]
    if isinstance(content, list) and content and all(isinstance(c, Mapping) and "categories" in c for c in content):
        content = content[0]["categories"]  # several faces: the first, as MediaPipe orders them
    if isinstance(content, list):
        entries = [c for c in content if isinstance(c, Mapping)]
        key = next((k for k in ("categoryName", "category_name") if entries and k in entries[0]), None)
        if key is not None and len(entries) == len(content):
            yield _scored({str(c.get(key)): c.get("score") for c in entries}, path, name)
            return
        for i, one in enumerate(content):
            for code in _scores_json(one, path, ""):
                yield code if len(content) > 1 else _scored(code.scores, path, name if i == 0 else "")
        if content:
            return
    elif isinstance(content, Mapping) and content:
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in content.values()):
            yield _scored(content, path, name)
            return
        for photo, one in content.items():
            yield from _scores_json(one, path, Path(str(photo)).stem)
        return
    raise InputError(f"{path}: expected scores by ARKit name, or a list of categoryName and score")


NOT_SHAPES = ("timecode", "blendshapecount", "frame", "time", "photo", "name", "image", "file", "_neutral")
"""Columns of a table of scores that are no shapes (lower case)."""


def _scores_csv(path: Path) -> list[Code]:
    with open(path, newline="", encoding="utf-8-sig") as f:
        rows = list(csv.DictReader(f))
    if not rows:
        raise InputError(f"{path}: no rows of scores below a header of shapes' names")
    named = next((c for c in rows[0] if c and c.lower() in ("photo", "name", "image", "file")), None)
    codes = []
    for row in rows:
        name = Path(row[named]).stem if named and row[named] else path.stem if len(rows) == 1 else ""
        scores = {k: v for k, v in row.items() if k and v not in (None, "")}
        codes.append(_scored(scores, path, name))
    return codes


def _scored(scores: Mapping[str, Any], path: Path, name: str) -> Code:
    from ..faces.arkit import ARKIT_NAMES

    known = {n.lower(): n for n in ARKIT_NAMES}  # Live Link Face writes EyeBlinkLeft
    found: dict[str, float] = {}
    other = []
    for key, value in scores.items():
        if key.lower() in NOT_SHAPES:
            continue
        if key.lower() not in known:
            other.append(key)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{path}: the score of {key} is not a number: {value!r}") from None
        if not -0.5 <= number <= 2:
            raise InputError(f"{path}: the score of {key} is {number:g}; expected about 0 to 1")
        found[known[key.lower()]] = number
    if len(found) < 5:
        raise InputError(
            f"{path}: expected ARKit's shapes by name (eyeBlinkLeft, jawOpen, …), found {', '.join(list(scores)[:6])}"
        )
    return Code(name, str(path), "blendshapes", scores=found, left_out=tuple(other))
