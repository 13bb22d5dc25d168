"""Pictures of a face model for the docs: skin tones by age, and close-ups of eyes and mouth.

``python tools/face_pictures.py makehuman docs/images`` writes ``faces-makehuman-tones.jpg`` (a row for each skin type, I to VI;
the bundled head's columns go from the youngest to the oldest of 300 people) and ``faces-makehuman-close.jpg``. The contact
sheets beside them are ``morphsym faces sheet``'s.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from morphsym.faces import MorphableModel, depth_of, emotion_preset, furrow_shade, furrowed, load_model, sample_people
from morphsym.rendering import default_lights, portrait_camera, render
from morphsym.types import Person

SEED, PEOPLE, COLUMNS = 1, 300, 6
EYES = ("rest", "eyeBlinkLeft eyeBlinkRight", "eyeBlinkLeft", "eyeWideLeft eyeWideRight", "disgust", "anger")
MOUTH = ("rest", "mouthSmileLeft mouthSmileRight", "mouthSmileLeft", "jawOpen", "mouthPucker", "happiness")


def portrait(model: MorphableModel, person: Person, what: str, where: str, size: int) -> np.ndarray:
    """(size, size, 3) uint8 of a person with shapes at 1, or an emotion; ``where`` is face, eyes or mouth."""
    marks = model.landmarks(model.mean[None])[0].numpy()
    points, fov = {"face": (slice(None), 19.0), "eyes": (slice(36, 48), 9.5), "mouth": (slice(48, 68), 7.5)}[where]
    height = float(marks[points, 1].mean()) + (2.5 if where == "face" else 0.2)
    camera = portrait_camera(size=size, fov=fov, target=(0.0, height, float(marks[points, 2].mean())))
    if what in ("disgust", "anger", "happiness"):
        row = emotion_preset(model, what)
    else:
        row = model.coefficients({} if what == "rest" else dict.fromkeys(what.split(), 1.0))
    with torch.no_grad():
        v = model.forward(torch.as_tensor(person.identity)[None], torch.as_tensor(row)[None])
        shade = furrow_shade(model, torch.as_tensor(row)[None], depth_of(person.attributes))
        skin = furrowed(model, torch.as_tensor(person.albedo), shade)
        image, _ = render(v, torch.as_tensor(model.faces), skin, camera, default_lights(1))
    return (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def main(name: str, folder: Path) -> None:
    """Write both pictures."""
    model = load_model(name)
    people = sample_people(model, PEOPLE, SEED)
    rows = []
    for kind in ("I", "II", "III", "IV", "V", "VI"):
        chosen = sorted(
            (p for p in people if p.attributes["fitzpatrick"] == kind), key=lambda p: p.attributes.get("age", 0.0)
        )
        if len(chosen) < COLUMNS:
            sys.exit(f"only {len(chosen)} of {PEOPLE} people have skin {kind}")
        picked = [chosen[k] for k in np.linspace(0, len(chosen) - 1, COLUMNS).round().astype(int)]
        rows.append(np.concatenate([portrait(model, p, "rest", "face", 150) for p in picked], axis=1))
    Image.fromarray(np.concatenate(rows)).save(folder / f"faces-{model.name}-tones.jpg", quality=88)
    rows = []
    for person in (people[0], people[3]):
        for where, columns in (("eyes", EYES), ("mouth", MOUTH)):
            rows.append(np.concatenate([portrait(model, person, c, where, 200) for c in columns], axis=1))
    Image.fromarray(np.concatenate(rows)).save(folder / f"faces-{model.name}-close.jpg", quality=88)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
