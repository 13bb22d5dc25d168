"""Backend ``transformers``: an image classifier of the Hugging Face hub or of a folder with the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ClassifierError, InputError, MissingDependencyError
from ..base import Network
from ..spec import ClassifierSpec, parse_spec


def _transformers(who: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingDependencyError(f"{who}: needs transformers: pip install 'morphsym[transformers]'") from None
    return transformers


def labels_of(config: Any, who: str) -> tuple[str, ...]:
    """The labels in order from ``config.id2label``; :class:`ClassifierError` where the config contradicts itself."""
    id2label = {int(k): str(v) for k, v in (config.get("id2label") or {}).items()}
    n = len(id2label)
    if not n or sorted(id2label) != list(range(n)):
        raise ClassifierError(f"{who}: config.id2label has the keys {sorted(id2label)}, expected 0 to {max(n - 1, 1)}")
    labels = tuple(id2label[i] for i in range(n))
    if all(label == f"LABEL_{i}" for i, label in enumerate(labels)):
        raise ClassifierError(f"{who}: config.id2label has no names (LABEL_0 …); its label order is unknown")
    if len(set(labels)) != n:
        raise ClassifierError(f"{who}: config.id2label names a label twice: {labels}")
    label2id = config.get("label2id")
    if label2id is not None:
        wrong = [label for i, label in enumerate(labels) if int(label2id.get(label, -1)) != i]
        if wrong or len(label2id) != n:
            raise ClassifierError(
                f"{who}: config.label2id and config.id2label disagree ({(wrong or list(label2id))[0]!r})"
            )
    if config.get("num_labels") not in (None, n):
        raise ClassifierError(f"{who}: config.num_labels is {config['num_labels']}, id2label has {n}")
    return labels


class TransformersNetwork:
    """Calls the model with ``pixel_values`` and gives its ``logits``."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits


def load(spec: ClassifierSpec, device: torch.device, folder: Path | None, trust: bool) -> Network:
    """``source`` is a folder, or ``owner/name`` or ``owner/name@revision`` on the hub.

    Safetensors only, unless ``trust``; never remote code.
    """
    who = f"classifier {spec.id}"
    transformers = _transformers(who)
    source, revision = _place(spec.source, folder)
    try:
        config = transformers.AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        raw = _raw_config(transformers, source, revision)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ClassifierError(f"{who}: no usable config at {source} ({type(error).__name__}: {text})") from error
    labels = labels_of(raw, who)
    if labels != spec.labels:
        raise ClassifierError(
            f"{who}: the labels of {source} are {list(labels)}, the specification says {list(spec.labels)}"
        )
    try:
        model, report = transformers.AutoModelForImageClassification.from_pretrained(
            source,
            config=config,
            revision=revision,
            use_safetensors=None if trust else True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ClassifierError(
            f"{who}: {source} cannot be loaded ({type(error).__name__}: {text}); "
            "without --trust only safetensors are read"
        ) from error
    for what in ("missing_keys", "mismatched_keys"):
        if report.get(what):
            first = next(iter(report[what]))
            raise ClassifierError(f"{who}: {source}: {len(report[what])} {what.replace('_', ' ')} ({first}); damaged?")
    return TransformersNetwork(model.to(device).eval().requires_grad_(False))


def _place(source: str, folder: Path | None) -> tuple[str, str]:
    """(a folder as given or beside the YAML file, otherwise the hub's name; revision)."""
    for base in (Path(), folder):
        if base is not None and (base / source / "config.json").is_file():
            return str(base / source), "main"
    name, _, revision = source.partition("@")
    return name, revision or "main"


def _raw_config(transformers: Any, source: str, revision: str) -> dict[str, Any]:
    """``config.json`` as written: the config object repairs contradictions that must be seen."""
    local = Path(source) / "config.json"
    path = local if local.is_file() else Path(transformers.utils.cached_file(source, "config.json", revision=revision))
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def spec_from_folder(folder: Path, name: str | None = None) -> ClassifierSpec:
    """A spec from ``config.json`` and ``preprocessor_config.json``; :class:`InputError` where a fact is missing.

    The crop is not in these files: most such models were trained on whole, loosely cropped pictures. It is set to the
    landmarks' box with a margin of 1.3 and must be looked at.
    """
    who = str(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        image = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{who}: needs config.json and preprocessor_config.json ({error})") from None
    size = image.get("size", {})
    edge = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
    if edge is None:
        raise InputError(f"{who}: preprocessor_config.json does not say the input size")
    rescale = float(image.get("rescale_factor", 1 / 255)) if image.get("do_rescale", True) else 1.0
    normalise = image.get("do_normalize", True)
    filters = {0: "nearest", 2: "bilinear", 3: "bicubic"}
    return parse_spec(
        {
            "id": name or folder.name,
            "backend": "transformers",
            "source": str(folder),
            "labels": labels_of(config, who),
            "input_size": edge,
            "colour": "rgb",
            "scale": 255.0 * rescale,
            "mean": image["image_mean"] if normalise else [0.0],
            "std": image["image_std"] if normalise else [1.0],
            "resize": {"interpolation": filters.get(image.get("resample", 2), "bilinear"), "antialias": True},
            "crop": {"kind": "box", "margin": 1.3},
        },
        who,
    )
