"""Renders of people with known coefficients, and MediaPipe's landmarks and scores detected on them.

A person of the model, with an emotion's preset (0.5 to 1) and one more sided movement (0.3 to 1), of which the left or the
right half is weakened by 0 to 1 (:func:`morphsym.intervention.edit`): what the tool itself does to faces. Yaw ±30°, pitch ±10°,
roll ±10°, 70 to 110 cm, varied light, noise of 2 grey values, JPEG quality 60 to 95, 384 pixels. Nothing is kept but the
JPEG that was looked at, what was detected, and the truth.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from morphsym.faces import MorphableModel, emotion_preset, sample_people
from morphsym.fitting import Detection, detectors
from morphsym.intervention import edit
from morphsym.rendering import portrait_camera, render
from morphsym.rendering.lights import sample_lights
from morphsym.types import EMOTIONS

SIZE = 384

MOVEMENTS = {
    "smile": "mouthSmile", "blink": "eyeBlink", "outer brow up": "browOuterUp", "brow down": "browDown",
    "inner brow up": "browInnerUp", "mouth frown": "mouthFrown",
}  # fmt: skip
"""What the benchmark reports, by the ARKit name without its side."""

AGAINST = {"mouthSmile": ("mouthFrown",), "mouthFrown": ("mouthSmile",), "eyeBlink": ("eyeWide",),
           "browOuterUp": ("browDown",), "browInnerUp": ("browDown",), "browDown": ("browOuterUp", "browInnerUp")}  # fmt: skip
"""Movements that exclude the added one: they are taken out of the preset."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One render: the picture as a JPEG, what is true, and what MediaPipe found on it."""

    jpeg: bytes
    identity: np.ndarray  # (Ki,)
    expression: np.ndarray  # (Ks,)
    angles: np.ndarray  # (3,) yaw, pitch, roll in degrees
    emotion: str
    detection: Detection | None

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return np.asarray(Image.open(io.BytesIO(self.jpeg)))


def sided(names: tuple[str, ...], movement: str, side: str) -> int:
    """The row of a movement's half in a sided basis."""
    for name in (f"{movement}{side.title()}", f"{movement}.{side}"):
        if name in names:
            return names.index(name)
    raise KeyError(movement)


def difference(names: tuple[str, ...], expression: np.ndarray, movement: str) -> float:
    """Left minus right."""
    return float(expression[sided(names, movement, "left")] - expression[sided(names, movement, "right")])


def make(model: MorphableModel, count: int, seed: int, neutral: bool = False) -> list[Sample]:
    """``count`` samples of ``model``. ``neutral``: frontal faces at rest, for the error of the geometry."""
    rng = np.random.default_rng(seed)
    detector = detectors.get("mediapipe")
    people = sample_people(model, count, seed)
    return [_one(model, people[i], i, rng, detector, neutral) for i in range(count)]


def _one(model: MorphableModel, person: Any, i: int, rng: np.random.Generator, detector: Any, neutral: bool) -> Sample:
    names = model.sided.names
    emotion = "neutral" if neutral else EMOTIONS[i % len(EMOTIONS)]
    expression = np.zeros(len(names), dtype=np.float32)
    reach = np.array([5.0, 3.0, 3.0]) if neutral else np.array([30.0, 10.0, 10.0])
    if not neutral:
        expression = np.asarray(
            emotion_preset(model, emotion, rng, float(rng.uniform(0.5, 1))), dtype=np.float32
        ).copy()
        added = list(MOVEMENTS.values())[int(rng.integers(len(MOVEMENTS)))]
        value = float(rng.uniform(0.3, 1))
        for side in ("left", "right"):
            for other in AGAINST[added]:
                expression[sided(names, other, side)] = 0.0
            k = sided(names, added, side)
            expression[k] = max(expression[k], value)
        weak = "left" if rng.random() < 0.5 else "right"
        expression = edit(model.sided, expression, weak, float(rng.uniform(0, 1)))
    yaw, pitch, roll = rng.uniform(-1, 1, 3) * reach
    camera = portrait_camera(SIZE, float(rng.uniform(70, 110)), 24.0, float(yaw), float(pitch), float(roll))
    vertices = model.forward(torch.as_tensor(person.identity)[None], torch.as_tensor(expression)[None])
    background = tuple(float(v) for v in rng.uniform(0.1, 0.9, 3))
    picture, _ = render(
        vertices,
        torch.as_tensor(model.faces),
        torch.as_tensor(person.albedo),
        camera,
        sample_lights(rng, 1),
        background,
    )
    noisy = picture[0].permute(1, 2, 0).numpy() * 255 + rng.normal(size=(SIZE, SIZE, 3)) * 2
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(noisy + 0.5, 0, 255))).save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    pixels = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    found = detector(pixels)
    return Sample(
        buffer.getvalue(), np.asarray(person.identity), expression, np.array([yaw, pitch, roll]), emotion,
        found[0] if found else None,
    )  # fmt: skip


def save(path: Path, samples: list[Sample]) -> None:
    """Write the samples to one npz, without objects."""
    arrays: dict[str, Any] = {}
    for i, s in enumerate(samples):
        arrays[f"{i}.jpeg"] = np.frombuffer(s.jpeg, dtype=np.uint8)
        arrays[f"{i}.identity"], arrays[f"{i}.expression"], arrays[f"{i}.angles"] = s.identity, s.expression, s.angles
        arrays[f"{i}.emotion"] = np.array(s.emotion)
        if s.detection is not None:
            scores = s.detection.blendshapes or {}
            arrays[f"{i}.landmarks68"], arrays[f"{i}.landmarks478"] = s.detection.landmarks68, s.detection.landmarks478
            arrays[f"{i}.box"] = np.asarray(s.detection.box)
            arrays[f"{i}.score_names"], arrays[f"{i}.scores"] = np.array(list(scores)), np.array(list(scores.values()))
    np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> list[Sample]:
    """The samples of :func:`save`."""
    with np.load(path, allow_pickle=False) as z:
        count = sum(k.endswith(".jpeg") for k in z.files)
        samples = []
        for i in range(count):
            found = None
            if f"{i}.landmarks68" in z.files:
                scores = dict(zip(z[f"{i}.score_names"].tolist(), z[f"{i}.scores"].tolist(), strict=True))
                found = Detection(
                    z[f"{i}.landmarks68"],
                    z[f"{i}.box"],
                    float("nan"),
                    "mediapipe",
                    z[f"{i}.landmarks478"],
                    scores,
                    "mediapipe",
                )
            samples.append(Sample(
                z[f"{i}.jpeg"].tobytes(), z[f"{i}.identity"], z[f"{i}.expression"], z[f"{i}.angles"],
                str(z[f"{i}.emotion"]), found,
            ))  # fmt: skip
    return samples
