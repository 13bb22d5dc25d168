"""``study.yaml``: a whole study in one file, checked before anything runs.

The file is read into :class:`StudyFile` (pydantic; unknown keys are refused with the nearest known one), which gives the
:class:`~morphsym.experiment.study.Study` that determines the rows, the analysis' options, and how to run it.
:func:`template` writes a commented file, :func:`schema` the JSON Schema that editors complete and check with.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from ..analysis import SESOI, AnalysisOptions
from ..errors import InputError, UsageError
from ..intervention import Design, clinical_presets
from ..intervention.design import DEFAULT_ARMS, MOST_TURN
from .study import Study
from .units import PHOTO_SIZE, PORTRAIT_SIZE, SAMPLED_EMOTIONS

Emotion = Literal["anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
Side = Literal["left", "right", "both"]
Region = Literal["all", "brow", "eye", "nose", "cheek", "mouth"]
Nerve = Literal["jaw", "gaze", "tongue"]
Arm = Literal[
    "original", "baseline", "null", "unilateral", "matched", "mirrored_baseline", "mirrored_unilateral", "placebo",
    "unilateral_droop", "matched_mesh", "matched_coefficients", "matched_landmarks",
]  # fmt: skip
Light = Literal["front", "left", "right", "above", "soft"]
Skin = Literal["I", "II", "III", "IV", "V", "VI"]
Angle = typing.Annotated[float, Field(ge=-MOST_TURN, le=MOST_TURN)]
Strength = typing.Annotated[float, Field(ge=0, le=1)]


def _listed(values: Sequence[str]) -> Any:
    return list(values)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Photos(_Section):
    """Photos and videos that are fitted first. Give these or `fits`, not both."""

    paths: list[str] = Field(min_length=1, description="Pictures, or folders of pictures, relative to this file.")
    detector: Literal["mediapipe", "face-alignment"] = Field(default="mediapipe", description="Landmark detector.")
    landmarks: str | None = Field(
        default=None, description="Landmarks from a file instead of a detector; one photo only."
    )
    face: Literal["largest", "all"] = Field(default="largest", description="Which face of a photo with several.")
    expression: Emotion | None = Field(
        default=None, description="What the photos express; the nearest preset when empty."
    )
    same_person: bool = Field(default=False, description="The photos show one person: one identity for all.")
    symmetrize: bool = Field(
        default=False, description="Average the expression over both sides, for a person who is asymmetric already."
    )
    frame_step: int = Field(default=1, ge=1, description="Every so many-th frame of a video.")
    fps: float | None = Field(
        default=None, gt=0, description="The photos of a folder are a video's frames, so many a second."
    )
    smooth: float = Field(default=0.0, ge=0, description="Smooth the expression in a video over so many seconds.")
    fits: str = Field(default="fits", description="Folder that the fits are written to, relative to this file.")


class People(_Section):
    """Sampled synthetic people."""

    count: int = Field(ge=1, description="How many people.")
    expressions: list[Emotion] = Field(
        default=_listed(SAMPLED_EMOTIONS), min_length=1, description="Each person is rendered with every one of these."
    )


class Interventions(_Section):
    """The product of sides, strengths and regions, in all arms."""

    sides: list[Side] = Field(
        default=["left", "right"], min_length=1, description="The subject's side that is weakened."
    )
    strengths: list[Strength] = Field(
        default=[0.25, 0.5, 0.75, 1.0],
        min_length=1,
        description="How much of the side's expression is taken away, 0 to 1.",
    )
    regions: list[Region] = Field(default=["all"], description="Which muscles the weakness reaches.")
    clinical: list[str] = Field(
        default=[],
        description="Clinical patterns beside the regions: house-brackmann-1 to -6, or a branch; strength is their share.",
    )
    include: list[Nerve] = Field(default=[], description="Muscles of other nerves that it reaches too.")
    arms: list[Arm] = Field(
        default=_listed(DEFAULT_ARMS), min_length=1, description="Versions of a unit that are rendered."
    )
    matched_by: Literal["mesh", "coefficients", "landmarks"] = Field(
        default="mesh", description="By what the symmetric control is matched to the one-sided weakness."
    )
    matched_sensitivity: bool = Field(
        default=False, description="The controls by the other two rules too, at the largest strength."
    )
    placebo: bool = Field(
        default=False, description="A head turn that moves the skin as far as the weakness does, as an arm."
    )
    rest_droop: Strength = Field(
        default=0.0,
        description="Droop at rest that a whole weakness brings, in an arm of its own; 0 is off, 1 is full.",
    )


class Sweep(_Section):
    """Nuisances as designed factors: sampled people are made once for each combination, all else equal."""

    yaw: list[Angle] = Field(default=[], description="Turns of the head, degrees, positive to the subject's left.")
    pitch: list[Angle] = Field(default=[], description="Looking up (positive) and down, degrees.")
    light: list[Light] = Field(default=[], description="Places of the light: front, left, right, above, soft.")
    skin: list[Skin] = Field(default=[], description="Skin types, I to VI.")


class Nuisance(_Section):
    """What varies between sampled people beside their faces; a person's is the same in all arms and emotions."""

    yaw: float = Field(
        default=6.0, ge=0, le=45, description="Standard deviation of the head's turn, degrees; cut at two."
    )
    pitch: float = Field(default=3.0, ge=0, le=30, description="The same of looking up and down.")
    roll: float = Field(default=2.0, ge=0, le=30, description="The same of tilting the head.")
    distance: list[typing.Annotated[float, Field(ge=25, le=1000)]] = Field(
        default=[75.0, 75.0],
        min_length=2,
        max_length=2,
        description="Nearest and furthest camera, cm; the face stays as large in the picture.",
    )
    light: Literal["lamp", "surroundings", "point"] = Field(
        default="lamp", description="Kind of light: a far lamp, soft surroundings, or a lamp near the head."
    )
    background: list[typing.Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[0.35, 0.75],
        min_length=2,
        max_length=2,
        description="Darkest and lightest grey of the background, 0 to 1.",
    )
    furrows: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Depth of the furrows that an expression brings; 1 suits the person's age, 0 is smooth skin.",
    )


class Rendering(_Section):
    """How pictures are made."""

    backend: str = Field(default="auto", description="auto, or a rasteriser's name.")
    size: int = Field(default=PORTRAIT_SIZE, ge=32, le=2048, description="Pixels of a portrait's side.")
    photo_size: int = Field(default=PHOTO_SIZE, ge=64, le=2048, description="Pixels of a photo's working picture.")


class AnalysisSection(_Section):
    """The declared analysis; see docs/analysis.md."""

    alpha: float = Field(default=0.05, gt=0, lt=1, description="Level of the tests and of the verdicts.")
    permutations: int = Field(default=10_000, ge=99, description="Sign flips, where not exact.")
    bootstrap: int = Field(default=10_000, ge=99, description="Bootstrap replicates of subjects.")
    primary_strength: Strength | None = Field(
        default=None, description="Strength of the verdict; the largest when empty."
    )
    primary_region: str | None = Field(
        default=None, description="Region or clinical pattern of the verdict; all, or the first, when empty."
    )
    primary_outcome: Literal["logit", "probability"] = Field(default="logit", description="Scale of the verdict.")
    correction: Literal["holm", "fdr_bh"] = Field(default="holm", description="Correction for several tests.")
    interval: Literal["percentile", "bca"] = Field(default="percentile", description="Kind of bootstrap interval.")
    sesoi: float | None = Field(
        default=None,
        gt=0,
        description="Smallest effect of interest on the primary outcome's scale; 0.1 logit or 0.01 probability when empty.",
    )


class Running(_Section):
    """How the study is run. Nothing here changes a number."""

    engine: Literal["local", "processes", "ray"] = Field(
        default="local", description="Where the work runs; see docs/study.md."
    )
    workers: int | None = Field(
        default=None, ge=1, description="How many workers; the cores of this machine when empty."
    )
    address: str | None = Field(default=None, description="Ray's address; a cluster on this machine when empty.")
    memory: str | None = Field(
        default=None, description="Memory that rendering may take, such as 4GB; batches are cut to fit."
    )
    units_per_shard: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Units whose rows are written at once; by the study's size when empty.",
    )
    save_images: bool = Field(default=False, description="Keep every picture, not only the report's examples.")


class StudyFile(_Section):
    """A study of morphsym: who, which interventions, which classifiers, which analysis."""

    model: str = Field(default="makehuman", description="Face model: a known name, or the path of a model file.")
    photos: Photos | None = Field(default=None, description="Photos that are fitted first.")
    fits: str | None = Field(default=None, description="Folder of fitted photos (morphsym fit), relative to this file.")
    labels: str | None = Field(
        default=None,
        description="CSV file about the photos (photo, subject, cohort, expression, …), relative to this file.",
    )
    people: People | None = Field(default=None, description="Sampled synthetic people.")
    nuisance: Nuisance = Field(default=Nuisance(), description="What varies between sampled people beside their faces.")
    sweep: Sweep = Field(default=Sweep(), description="Nuisances as designed factors.")
    design: Interventions = Field(default=Interventions(), description="The interventions.")
    rendering: Rendering = Field(default=Rendering(), description="How pictures are made.")
    classifiers: list[str] | None = Field(default=None, min_length=1, description="Names; the bundled ones when empty.")
    analysis: AnalysisSection = Field(default=AnalysisSection(), description="The declared analysis.")
    seed: int = Field(default=0, ge=0, description="Seed of all randomness.")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    anonymous: bool = Field(default=False, description="Keyed hashes in place of the photos' names.")
    output: str = Field(default="results", description="Folder that the results are written to, relative to this file.")
    run: Running = Field(default=Running(), description="How the study is run; nothing here changes a number.")

    def study(self, folder: Path) -> Study:
        """The study. ``folder`` is what relative paths start from. Raises :class:`UsageError`."""
        more: dict[str, Any] = {} if self.classifiers is None else {"classifiers": tuple(self.classifiers)}
        if self.people:
            more["expressions"] = tuple(self.people.expressions)
        fits = self.photos.fits if self.photos else self.fits
        n, low, high = self.nuisance, *self.nuisance.background
        return Study(
            model=self.model,
            fits=str(folder / fits) if fits else None,
            sample=self.people.count if self.people else 0,
            design=self._design(),
            renderer=self.rendering.backend,
            size=self.rendering.size,
            photo_size=self.rendering.photo_size,
            device=self.device,
            seed=self.seed,
            pose_sd=(n.yaw, n.pitch, n.roll),
            background=(low, high),
            distance=(n.distance[0], n.distance[1]),
            light=n.light,
            furrows=n.furrows,
            anonymous=self.anonymous,
            labels=str(folder / self.labels) if self.labels else None,
            **more,
        )

    def _design(self) -> Design:
        values: dict[str, Any] = self.design.model_dump() | self.sweep.model_dump()
        if values.pop("placebo"):
            values["arms"] = [*values["arms"], "placebo"]
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Design(**plain)

    def options(self) -> AnalysisOptions:
        """The analysis' options."""
        values = self.analysis.model_dump()
        own = values.pop("sesoi")
        sesoi = SESOI if own is None else SESOI | {self.analysis.primary_outcome: own}
        return AnalysisOptions(seed=self.seed, sesoi=dict(sesoi), **values)


def load(path: str | Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read and check ``path``; ``overrides`` are ``key=value`` with dots (``design.strengths=[0.5,1]``), YAML values.

    Raises :class:`InputError` for a file that cannot be read, :class:`UsageError` for what it says.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; write one with: morphsym init {path}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path} cannot be read ({e}); expected a text file in UTF-8") from None
    values = _yaml(text, str(path))
    if values is None:
        raise UsageError(f"{path} is empty; write a commented one with: morphsym init")
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold keys and values, not a {_kind(values)}; see: morphsym init")
    for text in overrides:
        _override(values, text)
    return parse(values, str(path))


def parse(values: Mapping[str, Any], where: str = "study.yaml") -> StudyFile:
    """``values`` checked. Raises :class:`UsageError` that names the first wrong key and what to do, in one line."""
    _check_keys(values, StudyFile, where, "")
    try:
        found = StudyFile.model_validate(_plain(values))
    except pydantic.ValidationError as e:
        raise UsageError(f"{where}: {_explain(e)}") from None
    problem = _impossible(found)
    if problem:
        raise UsageError(f"{where}: {problem}")
    return found


def _impossible(s: StudyFile) -> str:
    """The first combination that cannot be, with what to do; '' when there is none."""
    d, a = s.design, s.analysis
    if s.photos and s.fits:
        return "photos and fits are both given; keep photos (fitted first) or fits (fitted already)"
    if not (s.photos or s.fits or s.people):
        return "nobody to intervene on; give photos, fits or people"
    if s.photos and s.photos.same_person and s.photos.face != "largest":
        return "photos.same_person takes the largest face of every photo; photos.face all would mix people"
    if s.labels and not (s.photos or s.fits):
        return "labels are about photos, and the study has none; give photos or fits"
    if s.photos and s.photos.landmarks and len(s.photos.paths) > 1:
        return "photos.landmarks is for one photo; photos.paths lists several"
    if "baseline" not in d.arms:
        return "design.arms lacks baseline, with which every other arm is compared; add it"
    if "mirrored_unilateral" in d.arms and "unilateral" not in d.arms:
        return "design.arms has mirrored_unilateral without unilateral; add unilateral"
    if not d.regions and not d.clinical:
        return "design.regions and design.clinical are both empty; name a region or a clinical pattern"
    for name in d.clinical:
        if name not in clinical_presets():
            near = difflib.get_close_matches(name, clinical_presets(), 1, 0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(clinical_presets())}"
            return f"design.clinical has no pattern {name!r}; {hint}"
    if any((s.sweep.yaw, s.sweep.pitch, s.sweep.light, s.sweep.skin)) and not s.people:
        return "sweep is over sampled people, and the study has none; add people, or leave sweep out"
    if "unilateral" not in d.arms and "matched" in d.arms:
        return "design.arms has matched without unilateral, which it is matched to; add unilateral"
    if a.primary_strength is not None and a.primary_strength not in d.strengths:
        return f"analysis.primary_strength {a.primary_strength:g} is none of design.strengths {d.strengths}"
    if a.primary_region is not None and a.primary_region not in (*d.regions, *d.clinical):
        return f"analysis.primary_region {a.primary_region} is none of design.regions {[*d.regions, *d.clinical]}"
    if s.nuisance.background[0] > s.nuisance.background[1]:
        return f"nuisance.background goes from dark to light; got {s.nuisance.background}"
    if s.nuisance.distance[0] > s.nuisance.distance[1]:
        return f"nuisance.distance goes from near to far; got {s.nuisance.distance}"
    if s.nuisance.light != "lamp" and s.sweep.light:
        return f"sweep.light is over places of a lamp; nuisance.light is {s.nuisance.light}"
    if s.run.address and s.run.engine != "ray":
        return f"run.address is for run.engine ray, not {s.run.engine}"
    return ""


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        at = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{where}{at} is not YAML: {getattr(e, 'problem', None) or e}") from None


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, for example design.strengths=[0.5,1]; got {text!r}")
    inside, parts = values, key.strip().split(".")
    for part in parts[:-1]:
        if inside.get(part) is None:
            inside[part] = {}
        inside = inside[part]
        if not isinstance(inside, dict):
            raise UsageError(f"--set {key}: {part} holds a {_kind(inside)}, not further keys")
    inside[parts[-1]] = _yaml(value, f"--set {key}")


def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """A model's keys, and the section behind each (None: a plain value)."""
    found: dict[str, type[BaseModel] | None] = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation]
        if typing.get_origin(field.annotation) in (typing.Union, types.UnionType):
            kinds = list(typing.get_args(field.annotation))
        found[name] = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return found


def _check_keys(values: Mapping[Any, Any], model: type[BaseModel], where: str, prefix: str) -> None:
    known = _sections(model)
    for key, value in values.items():
        if key not in known:
            near = [prefix + k for k in difflib.get_close_matches(str(key), list(known), 1, 0.6)]
            near += [f"{s}.{key}" for s, m in _sections(StudyFile).items() if m and key in m.model_fields]
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {prefix + str(key)!r}; {hint}")
        section = known[key]
        if section is not None and value is not None:
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}: {prefix}{key} must hold keys and values, got a {_kind(value)} ({value!r})")
            _check_keys(value, section, where, f"{prefix}{key}.")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """An empty section (``design:`` with nothing below) as not given; the arm ``null``, which YAML reads as nothing."""
    optional = {k for k, f in StudyFile.model_fields.items() if f.default is None}
    found = {k: v for k, v in values.items() if v is not None or k in optional}
    arms = (found.get("design") or {}).get("arms")
    if isinstance(arms, list):
        found["design"] = dict(found["design"]) | {"arms": ["null" if a is None else a for a in arms]}
    return found


def _explain(error: pydantic.ValidationError) -> str:
    """The first error of pydantic's, as: key, what was expected, what came."""
    first = error.errors()[0]
    path = ".".join(str(p) for p in first["loc"])
    if first["type"] == "missing":
        return f"{path} is missing"
    message = (
        first["msg"]
        .replace("Input should be ", "must be ")
        .replace("valid ", "")
        .replace("a integer", "a whole number")
    )
    message = message[0].lower() + message[1:]
    more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
    hint = ""
    if first["type"] == "literal_error":
        options = str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
        near = difflib.get_close_matches(str(first["input"]), options, 1, 0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{path} {message}; got {first['input']!r}{hint}{more}"


def _kind(value: Any) -> str:
    names = {list: "list", str: "text", bool: "yes or no", int: "number", float: "number", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``study.yaml``, for editors."""
    made = StudyFile.model_json_schema() | {"title": "morphsym study"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made


def template() -> str:
    """A commented ``study.yaml`` that runs as it is: every key with its default and what it means."""
    lines = [
        "# A study of morphsym. Run it with: morphsym run study.yaml   (add --dry-run to see what it would cost)",
        "# Every key stands with its default; lines that are commented out are choices. Paths start from this file.",
        "",
    ]
    lines += _document(StudyFile, 0)
    return "\n".join(lines).rstrip() + "\n"


_EXAMPLES: dict[str, Any] = {"people": {"count": 20}, "paths": ["photos/"], "count": 20}
_OFF = (
    "photos",
    "fits",
    "labels",
    "landmarks",
    "fps",
    "primary_strength",
    "primary_region",
    "sesoi",
    "address",
    "workers",
    "classifiers",
    "units_per_shard",
    "memory",
)


def _document(model: type[BaseModel], depth: int, off: bool = False) -> Iterable[str]:
    pad = "  " * depth
    for name, section in _sections(model).items():
        field = model.model_fields[name]
        hidden = off or (name in _OFF and not (name == "fits" and model is Photos))
        mark = "# " if hidden else ""
        if section is not None:
            yield (
                f"# {(section.__doc__ or '').strip().splitlines()[0]}" if depth == 0 else f"{pad}# {field.description}"
            )
            yield f"{mark}{pad}{name}:"
            yield from _document(section, depth + 1, hidden)
            yield ""
            continue
        default = _EXAMPLES.get(name, None if field.is_required() else field.default)
        shown = yaml.safe_dump(default, default_flow_style=True, width=1000).replace("\n...", "").strip()
        if default is None:
            shown = ""
        line = f"{mark}{pad}{name}: {shown}".rstrip()
        yield f"{line:<44}  # {field.description}"
        if depth == 0:
            yield ""
