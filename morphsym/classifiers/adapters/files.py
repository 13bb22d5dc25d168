"""Where a classifier's file is, and whether it is the right one."""

from __future__ import annotations

from pathlib import Path

from ...errors import ClassifierError, MissingDependencyError
from ...resources import asset, home, sha256
from ..spec import ClassifierSpec

FILE_BACKENDS = ("torch", "torchscript", "onnx", "keras")
"""Backends whose weights are one file."""


def has_file(spec: ClassifierSpec) -> bool:
    """Whether the weights of ``spec`` are one file on this machine."""
    return spec.backend in FILE_BACKENDS or (spec.backend == "timm" and spec.weights.file is not None)


def weights_folder(spec: ClassifierSpec) -> Path:
    """``<home>/classifiers/<id>/``, where ``classifiers get`` puts weights (without the crop factor in the id)."""
    return home() / "classifiers" / spec.id.partition("@")[0]


def weights_path(spec: ClassifierSpec, folder: Path | None = None) -> Path:
    """The existing file with the weights of ``spec``, its sha256 checked where one is stated.

    :class:`MissingDependencyError` when it is not there (saying how to get it), :class:`ClassifierError` when it is
    not the stated file.
    """
    if spec.source.startswith("asset:"):
        path = asset("classifiers/" + spec.source.removeprefix("asset:"))
    else:
        # timm's source is the name of an architecture, not a file
        name = spec.weights.file if spec.backend == "timm" else spec.source or spec.weights.file
        if not name:
            raise ClassifierError(f"classifier {spec.id}: has neither source nor weights.file")
        given = Path(name).expanduser()
        places = [given] if given.is_absolute() else [p / given for p in (folder, weights_folder(spec)) if p]
        found = [p for p in places if p.is_file()]
        if not found:
            raise MissingDependencyError(f"classifier {spec.id}: no weights at {places[-1]}; {how_to_get(spec)}")
        path = found[0]
    noted = noted_sha256(path)
    expected = spec.sha256 or (noted.read_text().strip() if noted.is_file() else None)
    if expected and (got := sha256(path)) != expected:
        raise ClassifierError(
            f"classifier {spec.id}: {path} has sha256 {got[:12]}…, expected {expected[:12]}…; "
            "it is damaged or another file"
        )
    return path


def noted_sha256(path: Path) -> Path:
    """Where ``classifiers get`` notes the sha256 of a file for which none is published."""
    return path.with_name(path.name + ".sha256")


def how_to_get(spec: ClassifierSpec) -> str:
    """What to do to have the weights, in one clause."""
    if spec.weights.url:
        return f"'morphsym classifiers get {spec.id.partition('@')[0]}' fetches them"
    if spec.weights.by_hand:
        return " ".join(spec.weights.by_hand.split())
    return "put the file there"
