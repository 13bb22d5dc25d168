"""What must be known of a classifier to run it rightly: :class:`ClassifierSpec`, written in YAML by users.

Everything that a wrong guess would turn into wrong numbers is stated: label order, colour order, normalisation, crop,
and whether the output is logits. Nothing is inferred from file names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InputError
from ..types import EMOTIONS

BACKENDS = ("torch", "torchscript", "onnx", "keras", "timm", "transformers", "python", "http")

CANONICAL: dict[str, str] = {
    **{e: e for e in EMOTIONS},
    **dict.fromkeys(("angry", "ang", "an"), "anger"),
    **dict.fromkeys(("contemptuous",), "contempt"),
    **dict.fromkeys(("disgusted", "dis"), "disgust"),
    **dict.fromkeys(("fearful", "scared", "afraid"), "fear"),
    **dict.fromkeys(("happy", "joy", "hap", "smile"), "happiness"),
    **dict.fromkeys(("neutrality", "neu", "calm"), "neutral"),
    **dict.fromkeys(("sad",), "sadness"),
    **dict.fromkeys(("surprised", "sur"), "surprise"),
}
"""Spellings of labels that need no explicit mapping. Others must be mapped by ``emotions`` (``null``: to none)."""

ARCFACE_TEMPLATE = (
    (0.34191607, 0.46157411),
    (0.65653393, 0.45983393),
    (0.50022500, 0.64050536),
    (0.37097589, 0.82469196),
    (0.63151696, 0.82325089),
)
"""The five points of the 112×112 ArcFace template divided by 112, in image order (viewer's left eye first)."""


def is_secure(url: str) -> bool:
    """Whether weights may be fetched from ``url``: https, or this machine itself."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CropSpec(_Strict):
    """Where to look, from the unit's 68 landmarks. One crop a unit, the same for all arms.

    ``box``: a square around the landmarks' bounding box, its side ``margin`` × the longer edge, its centre moved by
    ``shift`` × the longer edge (right, down). ``align``: the similarity that takes the five points (eye centres, nose
    tip, mouth corners) to ``template`` (points in [0, 1]², image order) in the least-squares sense; ``margin`` > 1
    shows more around it. ``full``: the whole picture, for classifiers that find the face themselves.
    """

    kind: Literal["box", "align", "full"] = "box"
    margin: float = Field(default=1.0, gt=0.1, lt=10.0)
    shift: tuple[float, float] = (0.0, 0.0)
    template: Literal["arcface"] | tuple[tuple[float, float], ...] = "arcface"
    outside: Literal["edge"] | Annotated[float, Field(ge=0.0, le=1.0)] = 0.0

    @field_validator("template")
    @classmethod
    def _five(cls, value: Any) -> Any:
        if value != "arcface" and len(value) != 5:
            raise ValueError(f"expected 'arcface' or five (x, y) points in [0, 1], got {len(value)} points")
        return value

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """The alignment template: five points in [0, 1]², in image order."""
        return ARCFACE_TEMPLATE if isinstance(self.template, str) else self.template


class ResizeSpec(_Strict):
    """How the crop is sampled. ``antialias`` filters before shrinking, as PIL does; OpenCV's ``INTER_LINEAR`` does not.

    ``area`` is the mean over a pixel's footprint (OpenCV's ``INTER_AREA``), with or without ``antialias``.
    """

    interpolation: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"
    antialias: bool = True


class OutputSpec(_Strict):
    """What the network returns, and where in it the expression scores are.

    ``select`` picks them out of a tuple (int), a dict or an object (str), or a longer vector (``[start, stop]``);
    several steps are applied in order: ``["expression"]``, ``[0, [0, 8]]``.
    """

    kind: Literal["logits", "probabilities", "log_probabilities"] = "logits"
    select: tuple[int | str | tuple[int, int], ...] = ()

    @field_validator("select", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, str)) else tuple(value or ())


class Accuracy(_Strict):
    """One reported figure: what was measured on which data, and where it was read."""

    dataset: str
    metric: str = "accuracy"
    value: float
    read_in: str


class WeightsSpec(_Strict):
    """Where the official weights are: ``url`` is what ``classifiers get`` fetches, ``by_hand`` what a person must do.

    ``file`` is the name under ``<home>/classifiers/<id>/``.
    """

    file: str | None = None
    url: str | None = None
    git_blob: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """Git's id of the file at the pinned commit: checked where no sha256 is published."""
    bytes: int | None = Field(default=None, gt=0)
    by_hand: str | None = None

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None and not is_secure(value):
            raise ValueError("expected a URL that begins with https://")
        return value

    @model_validator(mode="after")
    def _inside(self) -> WeightsSpec:
        path = PurePath(self.file or ".")
        if ".." in path.parts or (self.url and path.is_absolute()):
            raise ValueError(f"file: expected a name below the weights folder, got {self.file!r}")
        return self


class ClassifierSpec(_Strict):
    """A classifier: identity, licence, labels, input and output conventions. See ``docs/classifiers.md``."""

    id: str
    title: str = ""
    family: str = ""
    backend: Literal["torch", "torchscript", "onnx", "keras", "timm", "transformers", "python", "http"]
    source: str = ""
    """A file (absolute, or relative to the YAML file or to the weights folder), ``asset:NAME`` for a bundled file, a
    URL (http), or a model name or folder (timm, transformers). Empty: ``weights.file`` in the weights folder."""
    factory: str | None = None
    """``module:callable`` that builds the network (torch) or is the classifier (python)."""
    factory_args: dict[str, Any] = Field(default_factory=dict)
    state_key: str | None = None
    """Key of the state dict in the checkpoint. Unset: the usual keys are tried."""
    state_prefix: str = ""
    """Prefix stripped from every key of the state dict, after ``module.``."""
    inert_globals: tuple[str, ...] = ()
    """Classes and functions (``module.name``) that the checkpoint pickles beside its tensors and that are not needed:
    they are replaced by empty stand-ins, so none of their code runs."""
    sha256: str | None = None
    code_licence: str = "unknown"
    weights_licence: str = "unknown"
    commercial_use: bool | None = None
    """Whether the weights' licence allows commercial use; null: unknown."""
    labels: tuple[str, ...] = Field(min_length=2)
    emotions: dict[str, str | None] = Field(default_factory=dict)
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colour: Literal["rgb", "bgr", "grey"] = "rgb"
    grey_weights: tuple[float, float, float] = (0.299, 0.587, 0.114)
    """Weights of R, G and B where ``colour`` is grey."""
    channels: Literal[1, 3] | None = None
    """Channels of the input. Unset: 1 for grey, else 3. ``grey`` with 3 repeats the grey channel."""
    scale: float = Field(default=1.0, gt=0)
    """The [0, 1] image is multiplied by this before ``mean`` and ``std``: ``(image * scale - mean) / std``."""
    mean: tuple[float, ...] = (0.0,)
    """One value, or one for each channel in the *network's* order (BGR where ``colour`` is bgr)."""
    std: tuple[float, ...] = (1.0,)
    resize: ResizeSpec = ResizeSpec()
    crop: CropSpec = CropSpec()
    output: OutputSpec = OutputSpec()
    batch_limit: int = Field(default=64, ge=1, le=4096)
    timeout: float = Field(default=30.0, gt=0)
    """Seconds for one request (http)."""
    weights: WeightsSpec = WeightsSpec()
    training_data: str = ""
    reported: tuple[Accuracy, ...] = ()
    paper: str = ""
    repository: str = ""
    facts: dict[str, str] = Field(default_factory=dict)
    """Fact → where it was read (label order, normalisation, crop, licence, …)."""
    unsettled: str = ""
    """What the publisher leaves open or contradicts: the check warns of it until somebody has settled it."""
    golden: tuple[float, ...] | None = None
    """Known logits of the labels, in order, for the bundled sample photo, to an added constant: the check compares."""
    notes: str = ""

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", value):
            raise ValueError("expected letters, digits, '.', '_', '+' and '-', at most 80")
        return value

    @field_validator("sha256")
    @classmethod
    def _sha(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("expected 64 lower-case hexadecimal digits")
        return value

    @field_validator("input_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("input_size")
    @classmethod
    def _size(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(8 <= v <= 2048 for v in value):
            raise ValueError("expected (height, width), each 8 to 2048 pixels")
        return value

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _scalar(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float)) else value

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(v > 0 for v in value):
            raise ValueError("expected positive numbers")
        return value

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a label occurs twice")
        return value

    @model_validator(mode="after")
    def _together(self) -> ClassifierSpec:
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.input_channels):
                raise ValueError(
                    f"{name}: expected 1 or {self.input_channels} numbers (channels of the input), "
                    f"got {len(getattr(self, name))}"
                )
        if self.colour != "grey" and self.channels == 1:
            raise ValueError(f"channels: 1 needs colour: grey, got colour: {self.colour}")
        for label, emotion in self.emotions.items():
            if label not in self.labels:
                raise ValueError(f"emotions: {label!r} is not one of the labels {list(self.labels)}")
            if emotion is not None and emotion not in EMOTIONS:
                raise ValueError(f"emotions: {label!r} maps to {emotion!r}, expected one of {list(EMOTIONS)} or null")
        for label in self.labels:
            if label not in self.emotions and label.lower() not in CANONICAL:
                raise ValueError(
                    f"emotions: the label {label!r} has no known meaning; map it to one of {list(EMOTIONS)} or to null"
                )
        if self.golden is not None and len(self.golden) != len(self.labels):
            raise ValueError(f"golden: expected {len(self.labels)} numbers (labels), got {len(self.golden)}")
        mapped = [e for e in self.label_emotions if e is not None]
        if len(set(mapped)) != len(mapped):
            twice = sorted({e for e in mapped if mapped.count(e) > 1})
            raise ValueError(f"emotions: two labels map to {', '.join(twice)}; map one of them to null")
        if not mapped:
            raise ValueError("emotions: no label maps to a canonical emotion")
        if self.backend in ("torch", "python") and not self.factory:
            raise ValueError(f"factory: backend {self.backend} needs 'module:callable'")
        if self.factory and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", self.factory):
            raise ValueError(f"factory: expected 'module:callable', got {self.factory!r}")
        if self.backend == "http" and not self.source.startswith(("http://", "https://")):
            raise ValueError(f"source: backend http needs a URL, got {self.source!r}")
        return self

    @property
    def input_channels(self) -> int:
        """Channels of the network's input: 1 or 3."""
        return self.channels or (1 if self.colour == "grey" else 3)

    @property
    def label_emotions(self) -> tuple[str | None, ...]:
        """The canonical emotion of each label, in the labels' order; None where it has none."""
        return tuple(self.emotions[x] if x in self.emotions else CANONICAL[x.lower()] for x in self.labels)

    def emotion_index(self, emotion: str) -> int | None:
        """Position of the label that means the canonical ``emotion``; None where the classifier lacks it."""
        return self.label_emotions.index(emotion) if emotion in self.label_emotions else None

    def with_crop_margin(self, factor: float) -> ClassifierSpec:
        """The same classifier shown ``factor`` times as much; its id gets ``@factor`` (1 leaves it alone)."""
        if factor == 1.0:
            return self
        crop = self.crop.model_copy(update={"margin": round(self.crop.margin * factor, 6)})
        return self.model_copy(update={"id": f"{self.id}@{factor:g}", "crop": crop})


def parse_spec(data: Mapping[str, Any], where: str = "classifier") -> ClassifierSpec:
    """``data`` as a spec. :class:`InputError`, one line that names every wrong field, otherwise."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected a mapping of fields, got {type(data).__name__}")
    try:
        return ClassifierSpec.model_validate(dict(data))
    except ValidationError as error:
        problems = []
        for e in error.errors():
            field = ".".join(str(x) for x in e["loc"])
            message = e["msg"].removeprefix("Value error, ")
            if e["type"] == "missing":
                message = "is missing"
            elif e["type"] == "extra_forbidden":
                message = "is not a field of a classifier specification"
            elif field:
                message = f"{message[0].lower()}{message[1:]}, got {str(e['input'])[:60]!r}"
            problems.append(f"{field}: {message}" if field else message)
        name = data.get("id", "")
        raise InputError(f"{where}{f' ({name})' if name else ''}: " + "; ".join(problems)) from None


def read_specs(path: str | Path) -> list[ClassifierSpec]:
    """The specs in a YAML file: one mapping, a list, or a mapping with the list ``classifiers``."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no classifier file {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if isinstance(data, Mapping) and "classifiers" in data:
        data = data["classifiers"]
    items = data if isinstance(data, list) else [data]
    specs = [
        parse_spec(item, f"{path}, entry {i + 1}" if len(items) > 1 else str(path)) for i, item in enumerate(items)
    ]
    ids = [s.id for s in specs]
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: the id {next(i for i in ids if ids.count(i) > 1)!r} occurs twice")
    return specs
