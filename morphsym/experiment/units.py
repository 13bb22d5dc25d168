"""Where units come from: sampled people, and fitted photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import faces, rendering
from ..errors import InputError, MorphsymError, UsageError
from ..faces import MorphableModel
from ..faces.people import sample_person
from ..fitting import sources, store
from ..fitting.images import Photo
from ..intervention import Level
from ..rendering import cameras, checks, lights, photos
from ..types import EMOTIONS, Condition, FaceFit, Lights, Unit

SAMPLED_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""The emotions of sampled people by default. Neutral has no expression to weaken; contempt is asymmetric by nature."""

PORTRAIT_SIZE = 224
PHOTO_SIZE = 320
DISTANCE = (75.0, 75.0)
"""Nearest and furthest camera of sampled people, cm: 75 as in a portrait studio. The face keeps its size in the picture;
a nearer camera sees more of its perspective, larger noses and smaller ears."""
_FRAME = 2.3  # side of the picture / height of the face from brows to chin: hair, chin and ears with some air
POSE_SD = (6.0, 3.0, 2.0)
"""Standard deviations of yaw, pitch and roll, degrees: natural portraits are not exactly frontal."""
BACKGROUND = (0.35, 0.75)
"""Darkest and lightest grey of the backgrounds, sRGB."""

UNITS_PER_SHARD = 12
"""Units whose rows are written at once; a run that is killed loses at most the shards it was working on."""


@dataclass(frozen=True)
class FailedUnit:
    """A unit that could not be made, with the reason: it is counted, never replaced."""

    unit: str
    subject: str
    source: str
    emotion: str
    reason: str
    conditions: tuple[Condition, ...] = ()  # what it would have been rendered in; filled by the stage `intervene`


def sampled_units(
    model: MorphableModel,
    n: int,
    emotions: Sequence[str] = SAMPLED_EMOTIONS,
    seed: int = 0,
    size: int = PORTRAIT_SIZE,
    pose_sd: tuple[float, float, float] = POSE_SD,
    background: tuple[float, float] = BACKGROUND,
    start: int = 0,
    stop: int | None = None,
    levels: Sequence[Level] = (Level(),),
    distance: tuple[float, float] = DISTANCE,
    light: str = "lamp",
    furrows: float = 1.0,
) -> Iterator[Unit]:
    """``n`` sampled people × ``emotions`` × ``levels``, ``size`` pixels square; of these, units ``start`` to ``stop``.

    A person's identity, skin, light, head pose and background are the same for all emotions and arms. Person i is the
    same whatever ``n`` and ``start`` are. Expressions vary between people as the presets say, symmetric left and right.
    ``pose_sd`` are the standard deviations of yaw, pitch and roll in degrees (cut at two of them), ``background`` the
    darkest and the lightest grey in [0, 1]. A level of a sweep (:meth:`Design.levels`) replaces the person's own pose,
    light or skin, and nothing else. ``distance`` is the range of the camera's distance, cm, with the face as large in the
    picture; ``light`` is a kind of :data:`lights.SAMPLERS`.
    ``furrows`` is how deep the furrows are that an expression brings, as a multiple of what suits a person's age; 0 leaves
    the skin smooth.
    """
    for e in emotions:
        if e not in EMOTIONS:
            raise UsageError(f"expression must be one of {', '.join(EMOTIONS)}; got {e!r}")
    if n < 1:
        raise UsageError(f"the number of sampled people must be at least 1, got {n}")
    if not 32 <= size <= 2048:
        raise UsageError(f"the size of a portrait must be 32 to 2048 pixels, got {size}")
    if not 25 <= distance[0] <= distance[1] <= 1000:
        raise UsageError(
            f"the camera's distance must be a range within 25 to 1000 cm, got {distance[0]} to {distance[1]}"
        )
    if not 0 <= furrows <= 2:
        raise UsageError(f"the depth of furrows must lie between 0 (smooth skin) and 2, got {furrows:g}")
    if light not in lights.SAMPLERS:
        raise UsageError(f"light must be one of {', '.join(lights.SAMPLERS)}; got {light!r}")
    if light != "lamp" and any(level.light for level in levels):
        raise UsageError(f"a sweep over places of the light is over a lamp; got people in light of the kind {light!r}")
    # One frame for everybody, so that larger faces are larger; the classifiers' crops follow each face.
    face = model.landmarks(model.mean[None].float())[0].cpu().numpy()
    low, high = face.min(axis=0), face.max(axis=0)
    target = (0.0, float(0.35 * low[1] + 0.65 * high[1]), 0.0)
    k = len(emotions) * len(levels)
    last = n * k if stop is None else min(stop, n * k)
    for i in range(start // k, -(-last // k)):
        # One stream a person and purpose, so that adding an emotion does not change the light
        scene = np.random.default_rng([seed, i, 1])
        sds = dict(zip(("yaw", "pitch", "roll"), pose_sd))
        pose = {name: float(np.clip(scene.normal(0, sd), -2 * sd, 2 * sd)) for name, sd in sds.items()}
        far = float(np.random.default_rng([seed, i, 3]).uniform(*distance))
        fov = float(np.degrees(2 * np.arctan(0.5 * _FRAME * (high[1] - low[1]) / far)))
        if light == "point":
            own_light = lights.sample_point_lights(scene, 1, far)
        else:
            own_light = lights.SAMPLERS[light](scene, 1)
        grey = np.full(3, scene.uniform(*background)) + scene.normal(0, 0.02, 3)
        behind = tuple(float(x) for x in np.clip(grey, 0, 1))
        scenes: dict[Level, Any] = {}
        for j in range(max(start - i * k, 0), min(last - i * k, k)):
            emotion, level = emotions[j // len(levels)], levels[j % len(levels)]
            if level not in scenes:
                scenes[level] = _scene(model, i, seed, level, pose, own_light, size, (far, fov), target)
            person, camera, lamp, anchor, facts = scenes[level]
            if distance[0] < distance[1]:
                facts = facts | {"distance": far}
            rng = np.random.default_rng([seed, i, 2, EMOTIONS.index(emotion)])
            yield Unit(
                unit=f"{person.subject}.{emotion}" + (f".{level.name}" if level.name else ""),
                subject=person.subject,
                source="sampled",
                emotion=emotion,
                identity=person.identity,
                expression=faces.emotion_preset(model, emotion, rng),
                camera=camera,
                landmarks=anchor,
                lights=lamp,
                albedo=person.albedo,
                background=behind,  # type: ignore[arg-type]
                furrows=furrows * faces.depth_of(person.attributes),
                attributes=facts,
            )


def _scene(
    model: MorphableModel,
    index: int,
    seed: int,
    level: Level,
    pose: dict[str, float],
    own_light: Lights,
    size: int,
    view: tuple[float, float],
    target: tuple[float, float, float],
) -> tuple[Any, ...]:
    """A person in one level of the nuisances: person, camera, light, the crop's anchor (68, 2), and what is recorded."""
    person = sample_person(model, index, seed, level.skin)
    pose = pose | {name: v for name in ("yaw", "pitch") if (v := getattr(level, name)) is not None}
    camera = cameras.portrait_camera(size=size, distance=view[0], fov=view[1], target=target, **pose)
    light = own_light if level.light is None else lights.placed(own_light, level.light)
    neutral = model.forward(
        torch.as_tensor(person.identity)[None], torch.zeros(1, len(model.sided), dtype=torch.float32)
    )
    anchor, _ = cameras.project(camera, model.landmarks(neutral))
    swept = {name: v for name in ("light", "skin") if (v := getattr(level, name)) is not None}
    facts = {**person.attributes, **pose, **swept}
    return person, camera, light, anchor[0].cpu().numpy().astype(np.float32), facts


def subject_name(index: int) -> str:
    """The name of sampled person ``index`` (from 0)."""
    return f"s{index + 1:04d}"


def photo_unit(fit: FaceFit, model: MorphableModel, size: int = PHOTO_SIZE) -> Unit | FailedUnit:
    """A fitted photo as a unit; what prevents that (the fit failed, the photo is gone or has changed) as a reason."""
    emotion = fit.emotion or "neutral"
    subject = fit.subject or fit.name  # frames of one video, photos of one person are not independent

    def failed(reason: str) -> FailedUnit:
        return FailedUnit(f"{fit.name}.{emotion}", subject, "photo", emotion, reason)

    if not fit.ok:
        return failed(fit.reason)
    if fit.model_sha256 != model.sha256:
        return failed(
            f"was fitted with another model ({fit.model}, {fit.model_sha256[:8]}) than {model.name} "
            f"({model.sha256[:8]}); fit it again"
        )
    try:
        photo = _photo(fit)
        view, camera = photos.working_view(photo, fit, size)
    except MorphsymError as e:
        return failed(str(e))
    scale = camera.K[0, 0, 0].item() / fit.K[0, 0]
    shift = camera.K[0, :2, 2].cpu().numpy() - scale * fit.K[:2, 2]
    return Unit(
        unit=f"{fit.name}.{emotion}",
        subject=subject,
        source="photo",
        emotion=emotion,
        identity=fit.identity,
        expression=fit.expression,
        camera=camera,
        landmarks=(fit.landmarks * scale + shift).astype(np.float32),
        fit=fit,
        photo=view,
        attributes={"yaw": fit.yaw, "pitch": fit.pitch, "roll": fit.roll, "nme": fit.nme, **_observed(fit)},
    )


def _observed(fit: FaceFit) -> dict[str, float | int]:
    """What was measured on the photo itself: columns ``observed_…`` of the conditions, mm; of a frame its time, s."""
    found = {f"observed_{name}": float(value) for name, value in (fit.measures or {}).items()}
    return found | ({"frame": fit.frame, "time": fit.time} if fit.frame >= 0 else {})


def _photo(fit: FaceFit) -> Photo:
    photo = sources.load_source(fit)
    if photo.sha256 != fit.photo_sha256:
        raise InputError(f"{fit.photo} has changed since it was fitted; fit it again")
    return photo


def render_unit(
    model: MorphableModel, unit: Unit, vertices: torch.Tensor, coefficients: np.ndarray, backend: str
) -> tuple[Any, Any, Any, list[str]]:
    """Pictures of one unit's edited ``vertices`` (B, V, 3), from sided ``coefficients`` (B, Ks), by which a sampled
    person's skin is furrowed: images (B, 3, H, W), coverage (B,), leak (B,), reasons (B).

    ``leak`` is NaN for sampled people: :mod:`.stages` measures it against the baseline. A reason says what is wrong with
    a picture, '' where nothing is: of a portrait, that it does not cover what the mesh's silhouette, measured by another
    algorithm, covers.
    """
    return unit_renderer(model, unit, vertices, coefficients, backend)(0, len(vertices))


def unit_renderer(
    model: MorphableModel, unit: Unit, vertices: torch.Tensor, coefficients: np.ndarray, backend: str
) -> Callable[[int, int], tuple[Any, Any, Any, list[str]]]:
    """A function that gives what :func:`render_unit` gives, of the vertices ``start`` to ``stop``; what they share is
    computed once."""
    if unit.source == "photo":
        scene = photos.PhotoScene(unit, model, backend=backend)

        def warped(start: int, stop: int) -> tuple[Any, Any, Any, list[str]]:
            found = scene.render(vertices[start:stop], coefficients[start:stop])
            # a photo is warped, not covered by triangles: no silhouette to compare with
            return *found, checks.failures(found[0], found[1], np.full(stop - start, np.nan))

        return warped
    lamps, triangles = unit.lights, torch.as_tensor(model.faces)
    assert lamps is not None
    background = torch.tensor(unit.background)
    expression = torch.as_tensor(coefficients, dtype=torch.float32, device=vertices.device)
    skin = torch.as_tensor(unit.albedo, device=vertices.device)
    # of all pictures at once: a product's last bits may hang on its size, and a batch must change none
    shade = faces.furrow_shade(model, expression, unit.furrows)

    def portraits(start: int, stop: int) -> tuple[Any, Any, Any, list[str]]:
        some = vertices[start:stop]
        albedo = faces.furrowed(model, skin, shade[start:stop]) if unit.furrows else skin
        pictures, coverage = rendering.render(some, triangles, albedo, unit.camera, lamps, background, backend=backend)
        expected = checks.expected_coverage(some, triangles, unit.camera)
        wrong = checks.failures(pictures, coverage.cpu(), expected)
        return pictures, coverage.cpu(), np.full(stop - start, np.nan), wrong

    return portraits


def load_fits(folder: str) -> list[FaceFit]:
    """The fits of a folder that ``morphsym fit`` wrote. Photos that moved together with it are found where they are now."""
    found = store.load_fits(folder)
    return [_moved(f, Path(folder).absolute().parent) for f in found]


def _moved(fit: FaceFit, base: Path) -> FaceFit:
    """``fit`` with the path of its photo below ``base``, where the old one is gone. Its hash is checked on reading."""
    if not fit.photo or Path(fit.photo).is_file():
        return fit
    parts = Path(fit.photo).parts[1:]
    places = (base.joinpath(*parts[k:]) for k in range(len(parts)))
    return next((replace(fit, photo=str(p)) for p in places if p.is_file()), fit)
