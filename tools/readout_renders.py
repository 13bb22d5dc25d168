"""Make the renders that the readout of the expression is trained on (``tools/train_readout.py``).

``python tools/readout_renders.py MODEL face_landmarker.task FOLDER --shards 0:32``

A shard is 250 renders of one model, kept in ``FOLDER/<model>_<shard>.npz``: the crop of the face, MediaPipe's points and
scores as the default detector gives them (both ways, averaged), and the truth. Shards that are there are not made again.
Everything that may vary does: identity, colours, three kinds of light, background, place, turn (yaw ±35°, pitch ±15°, roll
±25°), distance (40 to 200 cm), resolution (5 to 12 pixels a cm), covered parts, blur, contrast, noise and JPEG. Half of the
expressions are an emotion's with more movements, of which one side is weakened, in all of the face or in a part; the
others are random movements of either side. Seeds: ``[710000, model, shard]``; the benchmarks use others.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from morphsym.experiment.atomic import writing
from morphsym.faces import MorphableModel, emotion_preset, load_model
from morphsym.faces.furrows import furrow_shade, furrowed
from morphsym.faces.people import sample_person
from morphsym.fitting.crop import align, crop, moved
from morphsym.fitting.detectors.mediapipe import MediaPipeDetector
from morphsym.intervention.edit import edit
from morphsym.rendering import portrait_camera, render
from morphsym.rendering.lights import sample_environments, sample_lights, sample_point_lights
from morphsym.types import EMOTIONS

BASE = 710_000
SHARD = 250
SIZE = 304
REGIONS = ("all", "all", "all", "brow", "eye", "nose", "cheek", "mouth")
LOUD = (
    "browDown",
    "browInnerUp",
    "browOuterUp",
    "eyeBlink",
    "mouthSmile",
    "mouthFrown",
    "noseSneer",
    "eyeWide",
    "eyeSquint",
)
"""Movements that are added more often than the others."""

AGAINST = {"mouthSmile": ("mouthFrown",), "mouthFrown": ("mouthSmile",), "eyeBlink": ("eyeWide",), "eyeWide": ("eyeBlink",),
           "browOuterUp": ("browDown",), "browInnerUp": ("browDown",), "browDown": ("browOuterUp", "browInnerUp")}  # fmt: skip


def pairs(model: MorphableModel, nerve: str) -> dict[str, tuple[int, int]]:
    """The left and the right shape of every movement of a nerve, by its name without the side."""
    s = model.sided
    found = {}
    for k in range(len(s)):
        if s.side[k] > 0 and s.nerve[k] == nerve:
            found[s.names[k].removesuffix(".left").removesuffix("Left")] = (k, int(s.partner[k]))
    return found


def add(e: np.ndarray, facial: dict[str, tuple[int, int]], name: str, values: np.ndarray) -> None:
    """Add a movement, left and right, and take out what excludes it."""
    for other in AGAINST.get(name, ()):
        e[list(facial[other])] *= 1 - np.minimum(1, 2 * values)
    both = list(facial[name])
    e[both] = np.maximum(e[both], values)


def expression(model: MorphableModel, rng: np.random.Generator) -> np.ndarray:
    """A random sided expression ``(Ks,)`` float32 within the model's box."""
    facial = pairs(model, "facial")
    names = list(facial)
    kind = rng.random()
    e = np.zeros(len(model.sided))
    if kind < 0.5:
        emotion = EMOTIONS[int(rng.integers(len(EMOTIONS)))]
        e[:] = emotion_preset(
            model, emotion, rng, float(rng.uniform(0.2, 1)), asymmetry=float(rng.choice([0.0, 0.15, 0.4]))
        )
        for _ in range(int(rng.integers(0, 3))):
            name = LOUD[int(rng.integers(len(LOUD)))]
            add(e, facial, name, rng.uniform(0.2, 1) * np.ones(2))
        if rng.random() < 0.8:
            region = REGIONS[int(rng.integers(len(REGIONS)))]
            e = edit(model.sided, e, "left" if rng.random() < 0.5 else "right", float(rng.uniform(0, 1)), region)
    elif kind < 0.92:
        for _ in range(int(rng.integers(1, 7))):
            name = LOUD[int(rng.integers(len(LOUD)))] if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
            value = rng.uniform(0, 1)
            shape = rng.random()
            sides = (
                np.ones(2)
                if shape < 0.25
                else rng.uniform(0, 1, 2)
                if shape < 0.6
                else rng.permutation([1.0, rng.uniform(0, 0.3)])
            )
            add(e, facial, name, value * sides)
    look = rng.random()
    gaze = pairs(model, "gaze")
    if look < 0.4:  # both eyes look the same way; upper lids follow in the model's own shapes
        up = rng.uniform(-0.7, 0.7)
        e[list(gaze["eyeLookUp" if up > 0 else "eyeLookDown"])] = abs(up)
        side = rng.uniform(-0.7, 0.7)
        e[gaze["eyeLookOut"][0 if side > 0 else 1]] = e[gaze["eyeLookIn"][1 if side > 0 else 0]] = abs(side)
    if rng.random() < 0.3:
        e[list(pairs(model, "jaw")["jawOpen"])] = rng.uniform(0, 0.7)
    if rng.random() < 0.06:
        toward = "jawLeft" if rng.random() < 0.5 else "jawRight"
        e[[k for k, n in enumerate(model.sided.names) if n.startswith(toward + ".")]] = rng.uniform(0, 0.6)
    return np.clip(e, model.sided.low, model.sided.high).astype(np.float32)


def smooth_noise(rng: np.random.Generator, cells: int, size: int, channels: int) -> np.ndarray:
    """``(size, size, channels)`` in about ±1, with features of ``size / cells`` pixels."""
    small = rng.normal(size=(channels, cells, cells)).astype(np.float32)
    big = torch.nn.functional.interpolate(
        torch.from_numpy(small)[None], size=(size, size), mode="bicubic", align_corners=False
    )
    return big[0].permute(1, 2, 0).numpy()


def picture(
    model: MorphableModel, person: Any, e: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``(SIZE, SIZE, 3)`` uint8 before the camera's own faults, and yaw, pitch, roll in degrees."""
    angles = rng.uniform(-1, 1, 3) * (35, 15, 25)
    distance = float(np.exp(rng.uniform(np.log(40), np.log(200))))
    per_cm = float(np.exp(rng.uniform(np.log(5), np.log(12))))
    fov = 2 * np.degrees(np.arctan(SIZE / per_cm / 2 / distance))
    target = np.array([rng.uniform(-1.5, 1.5), rng.uniform(-2.5, 1.5), 0.0]) + (0, 0, 4.0)
    camera = portrait_camera(SIZE, distance, float(fov), *map(float, angles), target=target)
    vertices = model.forward(torch.as_tensor(person.identity)[None], torch.as_tensor(e)[None])
    light = rng.random()
    lights = (
        sample_lights(rng, 1) if light < 0.5 else sample_environments(rng, 1) if light < 0.8
        else sample_point_lights(rng, 1, distance)
    )  # fmt: skip
    albedo = np.clip(person.albedo * rng.uniform(0.85, 1.15, 3), 0, 1).astype(np.float32)
    if rng.random() < 0.7:  # furrows help where a face has them; the others teach to read without
        albedo = furrowed(model, albedo, furrow_shade(model, e[None], float(rng.uniform(0.2, 1.5))))[0].numpy()
    key = np.float32([0.0, 1.0, 0.0])  # replaced by the background where nothing is drawn
    plain = rng.random() < 0.4
    back = rng.uniform(0, 1, 3)
    behind = tuple(float(v) for v in (back if plain else key))
    image, _ = render(vertices, torch.as_tensor(model.faces), torch.as_tensor(albedo), camera, lights, behind)
    out = image[0].permute(1, 2, 0).numpy()
    if not plain:
        drawn = 1 - ((out[..., 1] > 0.97) & (out[..., 0] < 0.25) & (out[..., 2] < 0.25)).astype(np.float32)[..., None]
        scene = back + 0.2 * smooth_noise(rng, int(rng.integers(2, 5)), SIZE, 3) + 0.1 * smooth_noise(rng, 24, SIZE, 3)
        out = out * drawn + scene * (1 - drawn)
    return np.clip(out, 0, 1), angles


def spoiled(out: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What lenses, sensors, hands, hair and files do to a picture ``(S, S, 3)`` in [0, 1]: uint8."""
    size = len(out)
    if rng.random() < 0.25:  # an uneven shadow
        out = out * np.exp(rng.uniform(0.1, 0.35) * smooth_noise(rng, int(rng.integers(2, 7)), size, 1))
    if rng.random() < 0.15:  # something in front of the face
        y, x = np.mgrid[:size, :size]
        cx, cy = rng.uniform(0.2, 0.8, 2) * size
        rx, ry = rng.uniform(0.04, 0.16, 2) * size
        turn = rng.uniform(0, np.pi)
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = ((u / rx) ** 2 + (v / ry) ** 2 < 1)[..., None]
        out = np.where(inside, rng.uniform(0, 1, 3) + 0.1 * smooth_noise(rng, 12, size, 3), out)
    grey = out.mean(axis=2, keepdims=True)
    out = grey + (out - grey) * rng.uniform(0.3, 1.2)
    out = np.clip((out - 0.5) * rng.uniform(0.6, 1.25) + 0.5 + rng.uniform(-0.1, 0.1), 0, 1) ** np.exp(
        rng.uniform(-0.4, 0.4)
    )
    image = Image.fromarray(np.uint8(np.clip(out * 255 + 0.5, 0, 255)))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.4))))
    noisy = np.asarray(image, dtype=np.float32) + rng.normal(size=(size, size, 3)).astype(np.float32) * rng.uniform(
        0, 7
    )
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(noisy + 0.5, 0, 255))).save(buffer, "JPEG", quality=int(rng.integers(40, 97)))
    return np.array(Image.open(io.BytesIO(buffer.getvalue())))


def shard(
    model: MorphableModel, which: int, number: int, detector: MediaPipeDetector, count: int
) -> dict[str, np.ndarray]:
    """The arrays of one shard: ``n`` faces that were found out of ``count``."""
    rng = np.random.default_rng(np.random.SeedSequence([BASE, which, number]))
    rows: dict[str, list[Any]] = {}
    names: list[str] = []
    for i in range(count):
        person = sample_person(model, number * count + i, BASE + which)
        person = replace(person, identity=(person.identity * rng.uniform(0.7, 1.0)).astype(np.float32))
        e = expression(model, rng)
        out, angles = picture(model, person, e, rng)
        pixels = spoiled(out, rng)
        found = detector(pixels)
        if not found or found[0].landmarks478 is None or not found[0].blendshapes:
            continue
        similarity = align(found[0].landmarks478)
        names = names or sorted(found[0].blendshapes)
        row = {
            "crop": crop(pixels, similarity), "points": moved(found[0].landmarks478, similarity).astype(np.float32),
            "scores": np.float32([found[0].blendshapes[n] for n in names]), "identity": person.identity, "expression": e,
            "angles": np.float32(angles),
        }  # fmt: skip
        for k, v in row.items():
            rows.setdefault(k, []).append(v)
    return {
        **{k: np.stack(v) for k, v in rows.items()}, "score_names": np.array(names),
        "names": np.array(model.sided.names[: len(e)]), "made": np.array(count),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a model's name or file")
    parser.add_argument("task", type=Path, help="MediaPipe's face_landmarker.task")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", default="0:32", help="first:last, the last left out")
    parser.add_argument("--count", type=int, default=SHARD, help="renders a shard")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.model)
    which = {"ict": 0, "makehuman": 1}[model.name]
    detector = MediaPipeDetector(args.task)
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(*map(int, args.shards.split(":"))):
        path = args.folder / f"{model.name}_{number:03d}.npz"
        if path.is_file():
            continue
        made = shard(model, which, number, detector, args.count)
        with writing(path) as aside, open(aside, "wb") as f:
            np.savez(f, **made)
        print(f"{path.name}: {len(made['crop'])} of {args.count}", flush=True)


if __name__ == "__main__":
    main()
