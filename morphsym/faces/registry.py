"""Which face models there are, where their files come from and under which licence, and loading them by name or path."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import resources
from ..errors import InputError, UsageError
from .loaders.bfm import load_bfm2009, load_bfm_h5
from .loaders.eos import is_json_model, load_eos
from .loaders.flame import load_flame
from .loaders.gnm import load_gnm
from .loaders.ict import convert_folder, load_ict
from .loaders.landmarks import SUFFIXES, companion
from .loaders.makehuman import load_makehuman
from .model import MorphableModel
from .subdivide import SUFFIX, subdivide


@dataclass(frozen=True)
class ModelEntry:
    """A face model that the registry knows."""

    name: str
    title: str
    licence: str
    path: Path  # where it is, or has to be put
    available: bool
    how: str  # how to get it; '' when it is there


@dataclass(frozen=True)
class _Known:
    """A model whose files the user brings."""

    title: str
    licence: str
    files: tuple[str, ...]  # names under $MORPHSYM_HOME/faces; the first is the one that ours has
    url: str
    load: Callable[[Path], MorphableModel]
    extra: tuple[str, ...] = ()  # other files that belong to it


KNOWN: dict[str, _Known] = {
    "ict": _Known(
        "ICT-FaceKit Light",
        "MIT",
        ("ict_facekit.npz",),
        "the folder FaceXModel of https://github.com/ICT-VGL/ICT-FaceKit",
        load_ict,
    ),
    "flame": _Known(
        "FLAME 2019, 2020 or 2023 (Max Planck Institute for Intelligent Systems)",
        "non-commercial research after registration; FLAME 2023 Open: CC-BY-4.0",
        ("flame.pkl", "flame.npz"),
        "generic_model.pkl or flame2023.pkl, and flame_static_embedding.pkl, from https://flame.is.tue.mpg.de",
        load_flame,
        ("flame_static_embedding.pkl",),
    ),
    "bfm2009": _Known(
        "Basel Face Model 2009",
        "non-commercial research after signing the University of Basel's licence",
        ("bfm2009.mat",),
        "PublicMM1/01_MorphableModel.mat from https://faces.dmi.unibas.ch/bfm/ (no expressions, no landmarks)",
        load_bfm2009,
    ),
    "bfm2017": _Known(
        "Basel Face Model 2017",
        "non-commercial research after accepting the University of Basel's licence",
        ("bfm2017.h5",),
        "model2017-1_bfm_nomouth.h5 or model2017-1_face12_nomouth.h5 from https://faces.dmi.unibas.ch/bfm/bfm2017.html",
        load_bfm_h5,
    ),
    "bfm2019": _Known(
        "Basel Face Model 2019",
        "non-commercial research after accepting the University of Basel's licence",
        ("bfm2019.h5",),
        "model2019_bfm.h5, model2019_face12.h5 or model2019_fullHead.h5 from https://faces.dmi.unibas.ch/bfm/bfm2019.html",
        load_bfm_h5,
    ),
    "sfm": _Known(
        "Surrey Face Model, 3448 vertices, shape only",
        "research and private use, not commercial (University of Surrey)",
        ("sfm.bin", "sfm.json"),
        "share/sfm_shape_3448.bin and share/expression_blendshapes_3448.bin of https://github.com/patrikhuber/eos",
        load_eos,
        ("expression_blendshapes_3448.bin", "expression_blendshapes_3448.json"),
    ),
    "gnm": _Known(
        "GNM Head v3 (Google)",
        "Apache-2.0",
        ("gnm.npz",),
        "gnm_head.npz and its 68 landmarks from https://github.com/google/GNM (or `body-models download gnm`)",
        load_gnm,
    ),
}
"""The models that a user can bring, in the order of the list. None of their files may be passed on by us."""

_LOADERS: dict[str, Callable[[Path], MorphableModel]] = {
    "makehuman": load_makehuman,
    "bfm_h5": load_bfm_h5,
    "eos": load_eos,
    **{name: k.load for name, k in KNOWN.items()},
}


def folder() -> Path:
    """Where added models are: ``$MORPHSYM_HOME/faces``."""
    return resources.home() / "faces"


def list_models() -> list[ModelEntry]:
    """All models the registry knows, with whether they are there."""
    bundled = resources.assets_dir() / "heads" / "makehuman.npz"
    missing = "" if bundled.is_file() else "the bundled head is missing; reinstall morphsym"
    found = [
        ModelEntry("makehuman", "bundled head from MakeHuman's data", "CC0-1.0", bundled, bundled.is_file(), missing)
    ]
    for name, k in KNOWN.items():
        path = next((p for f in k.files if (p := folder() / f).is_file()), folder() / k.files[0])
        there = path.is_file()
        how = f"get {k.url} (licence: {k.licence}), then: morphsym faces add {name} PATH (it will be in {folder()})"
        found.append(ModelEntry(name, k.title, k.licence, path, there, "" if there else how))
    return found


def load_model(name_or_path: str | Path = "makehuman") -> MorphableModel:
    """The face model of that name, or at that path: any file of :data:`KNOWN`, our npz, or ICT-FaceKit's upstream folder.

    A name with ``-subdivided`` behind it (``makehuman-subdivided``, ``ict-subdivided``) is that model with four times the
    triangles. The kind of a file is seen from what is in it. Cached: the same file gives the same object until it changes.
    Raises :class:`UsageError` for an unknown name or a file of no known kind, :class:`InputError` for a known model
    that is not there or a path that does not exist, and :class:`morphsym.errors.ModelError` for a damaged file."""
    entries = {e.name: e for e in list_models()}
    text = str(name_or_path)
    if text.removesuffix(SUFFIX) in entries and text.endswith(SUFFIX):
        return _finer(load_model(text.removesuffix(SUFFIX)))
    if text in entries:
        entry = entries[text]
        if not entry.available:
            raise InputError(f"the face model {text!r} is not at {entry.path}: {entry.how}")
        return _load(text, entry.path, _stamp(entry.path))
    path = Path(name_or_path).expanduser()
    if not (path.suffix or len(path.parts) > 1 or path.is_dir()):
        raise UsageError(
            f"unknown face model {text!r}; known are {', '.join(entries)}, or give the path of a model's file or of "
            "ICT-FaceKit's folder FaceXModel"
        )
    if not path.exists():
        raise InputError(f"no face model at {path}: no such file or folder")
    path = path.resolve()
    return _load(kind_of(path), path, _stamp(path))


def add_model(name: str, path: str | Path, force: bool = False) -> ModelEntry:
    """Check the model ``name`` at ``path``, and put it (with the files that belong to it) into :func:`folder`.

    ICT-FaceKit's upstream folder is converted to one npz; every other file is copied as it is. The model is loaded
    first, so a damaged file, another year's or another model's is refused before anything is written. Raises
    :class:`UsageError` for an unknown name, a file of another kind or, without ``force``, a model that is already
    there; :class:`InputError` where there is nothing at ``path``."""
    if name not in KNOWN:
        raise UsageError(f"unknown face model {name!r}; those that can be added are {', '.join(KNOWN)}")
    source = Path(path).expanduser()
    if not source.exists():
        raise InputError(f"no face model at {source}: no such file or folder; get {KNOWN[name].url}")
    source, kind = source.resolve(), kind_of(source)
    if not _fits(name, kind):
        raise UsageError(
            f"{source} is a file of the model {kind.replace('_h5', '')!r}, not of {name!r}; get {KNOWN[name].url}"
        )
    suffix = ".npz" if source.is_dir() else source.suffix
    target = folder() / next((f for f in KNOWN[name].files if f.endswith(suffix)), KNOWN[name].files[0])
    if target.exists() and not force:
        raise UsageError(f"{target} exists already; --force replaces it")
    if source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with _aside(target) as part:
            convert_folder(source, part)
            _LOADERS[name](part)
    else:
        model = _LOADERS[name](source)  # the file's own notes and checks come first
        if name.startswith("bfm20") and model.name != name:
            raise UsageError(f"{source} is {model.name}, not {name}; add it as {model.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        for extra in KNOWN[name].extra:
            if (there := source.with_name(extra)).is_file():
                _copy(there, target.with_name(extra))
        if (marks := companion(source)) is not None:
            ending = next(s for s in SUFFIXES if marks.name.endswith(s))
            _copy(marks, target.with_name(target.name.split(".")[0] + ending))
        _copy(source, target)
    return next(e for e in list_models() if e.name == name)


def _copy(source: Path, target: Path) -> None:
    with _aside(target) as part:
        shutil.copyfile(source, part)


@contextlib.contextmanager
def _aside(target: Path):  # type: ignore[no-untyped-def]
    """A path beside ``target`` that becomes it when all went well: a half-written model must not be found."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _fits(name: str, kind: str) -> bool:
    return kind == name or (kind == "bfm_h5" and name in ("bfm2017", "bfm2019")) or (kind == "eos" and name == "sfm")


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _load(kind: str, path: Path, stamp: tuple[int, int]) -> MorphableModel:
    return _LOADERS[kind](path)


@lru_cache(maxsize=2)
def _finer(model: MorphableModel) -> MorphableModel:
    return subdivide(model)


def kind_of(path: Path) -> str:
    """Which loader reads ``path``: by what is in it where that tells, else by the ending. :class:`UsageError` for no kind."""
    if path.is_dir():
        return "ict"
    with open(path, "rb") as f:
        head = f.read(8)
    if head == b"\x89HDF\r\n\x1a\n" and path.suffix != ".mat":
        return "bfm_h5"
    if path.suffix == ".mat":
        return "bfm2009"
    if path.suffix == ".pkl":
        return "flame"
    if path.suffix == ".bin" or (path.suffix == ".json" and is_json_model(path)):
        return "eos"
    if path.suffix == ".h5":
        return "bfm_h5"
    if path.suffix == ".json":
        raise UsageError(f"{path} is JSON, but no eos model: it has no 'shape_model'")
    from .loaders.npz import keys_of

    keys = keys_of(path)
    if "identity_basis" in keys:
        return "makehuman"
    if "vertex_identity_basis" in keys:
        return "gnm"
    if "v_template" in keys:
        return "flame"
    if {"identity", "expression"} & keys:
        return "ict"
    raise UsageError(
        f"{path} is no face model that this version reads; expected the keys of the bundled head, ict_facekit.npz, FLAME or GNM, "
        f"got {', '.join(sorted(keys)) or 'none'}"
    )
