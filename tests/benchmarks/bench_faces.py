"""Face models: loading and forward speed, MediaPipe as an independent instrument, and recall of the emotion presets.

``benches()`` yields rows {name, value, unit, baseline, ratio, command}; see ``make bench``. The bundled head always,
ICT-FaceKit, MediaPipe and the Keras classifiers where ``../shared/data`` is. ``python -m tests.benchmarks.bench_faces
[N] [speed|instrument|recall|smooth …]`` prints the tables for N people (200); ``smooth``, on request only, is the recall
without furrows. On a machine that is shared set OMP_NUM_THREADS=1:
the pictures are small, and waiting threads cost more than they bring."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from morphsym.faces import MorphableModel, depth_of, emotion_preset, furrow_shade, furrowed, load_model, sample_people
from morphsym.faces.loaders.makehuman import load_makehuman
from morphsym.intervention import edit
from morphsym.rendering import portrait_camera, project, render, sample_lights
from morphsym.resources import asset
from morphsym.types import EMOTIONS, Person

COMMAND = "python -m tests.benchmarks.bench_faces"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SEVEN = tuple(e for e in EMOTIONS if e != "contempt")
SEED = 2026  # no preset was looked at with these people
YAW = 25.0  # degrees: uniform in ±
CLASSIFIERS = ("mini_xception", "face_expression_net", "mini_xception_119", "big_xception_54")
AIMS = {
    "happiness": " (aim >= 0.95)",
    "neutral": " (aim >= 0.9)",
    "surprise": " (aim >= 0.6)",
    "sadness": " (aim >= 0.6)",
    "anger": " (aim >= 0.4)",
}
PARTS = ("speed", "instrument", "recall")
SMOOTH = "smooth"  # on request only

MOVEMENTS: dict[str, tuple[dict[str, float], tuple[str, ...], str]] = {
    "smile": ({"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}, (), "mouthSmile"),
    "blink": ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, (), "eyeBlink"),
    "jaw": ({"jawOpen": 0.8}, ("jaw",), "gap"),
    "brow raise": ({"browInnerUp": 0.9, "browOuterUpLeft": 0.9, "browOuterUpRight": 0.9}, (), "browOuterUp"),
    "frown": ({"mouthFrownLeft": 1.0, "mouthFrownRight": 1.0}, (), "mouthFrown"),
}
"""Coefficients, other nerves that are included, and what is read on each side: MediaPipe's blendshape of that name, or
the gap between the inner lips, from its landmarks (it has no sided shape of the jaw)."""
_GAP = {"Left": (311, 402), "Right": (81, 178)}  # MediaPipe's inner upper and lower lip, half-way to the corner
_EYES = (33, 263)


def images_of(
    model: MorphableModel,
    people: list[Person],
    rows: np.ndarray,
    yaw: np.ndarray,
    pitch: np.ndarray,
    furrows: float = 1.0,
) -> torch.Tensor:
    """Pictures (N, 3, 224, 224): person i with expression row i, own light."""
    out = []
    for i, p in enumerate(people):
        with torch.no_grad():
            v = model.forward(torch.as_tensor(p.identity)[None], torch.as_tensor(rows[i])[None])
            camera = portrait_camera(size=224, yaw=float(yaw[i]), pitch=float(pitch[i]))
            lights = sample_lights(np.random.default_rng([SEED, i]), 1)
            shade = furrow_shade(model, torch.as_tensor(rows[i])[None], furrows * depth_of(p.attributes))
            skin = furrowed(model, torch.as_tensor(p.albedo), shade)
            image, _ = render(v, torch.as_tensor(model.faces), skin, camera, lights)
        out.append(image)
    return torch.cat(out)


def presets(model: MorphableModel, emotion: str, n: int) -> np.ndarray:
    """(n, Ks): the emotion with each person's natural variation."""
    which = EMOTIONS.index(emotion)
    return np.stack([emotion_preset(model, emotion, np.random.default_rng([SEED, i, which])) for i in range(n)])


class Instrument:
    """MediaPipe's face landmarker: per picture None, or its 52 scores and the lip gaps, over the eyes' distance."""

    def __init__(self) -> None:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(SHARED / "landmarks" / "face_landmarker.task")),
            output_face_blendshapes=True,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def close(self) -> None:
        self._landmarker.close()

    def read(self, images: torch.Tensor) -> list[dict[str, float] | None]:
        import mediapipe as mp

        found: list[dict[str, float] | None] = []
        for image in images:
            pixels = np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
            seen = self._landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels))
            if not seen.face_landmarks:
                found.append(None)
                continue
            points = np.array([(q.x, q.y) for q in seen.face_landmarks[0]])
            scores = {b.category_name: float(b.score) for b in seen.face_blendshapes[0]}
            eyes = np.linalg.norm(points[_EYES[0]] - points[_EYES[1]])
            scores |= {f"gap{s}": float(np.linalg.norm(points[a] - points[b]) / eyes) for s, (a, b) in _GAP.items()}
            found.append(scores)
        return found


def detection(model: MorphableModel, n: int, instrument: Instrument) -> dict[str, float]:
    """Share of ``n`` people × each of seven expressions in whose render, at a yaw in ±25°, a face is found."""
    people = sample_people(model, n, SEED)
    rng = np.random.default_rng(SEED)
    shares = {}
    for emotion in SEVEN:
        yaw, pitch = rng.uniform(-YAW, YAW, n), rng.normal(0, 4, n)
        seen = instrument.read(images_of(model, people, presets(model, emotion, n), yaw, pitch))
        shares[emotion] = float(np.mean([s is not None for s in seen]))
    return shares


def sides(model: MorphableModel, n: int, instrument: Instrument) -> dict[str, tuple[float, float, float, int]]:
    """For each movement, over ``n`` people: how often the weakened side reads lower, counted in three ways, and how many
    were read.

    A pair is two pictures of one person in one view and light, weakened at strength 1 on the left and on the right.
    (1) The pair: left minus right reads lower where the left is weakened; a turned head biases both pictures alike.
    (2) One picture alone, the left-weakened one of even people, the right-weakened one of odd: its weakened side
    reads lower than its other side. (3) That picture against the unweakened one: left minus right moved towards the
    weakened side."""
    people = sample_people(model, n, SEED)
    rng = np.random.default_rng(SEED + 1)
    found = {}
    for name, (scores, include, reading) in MOVEMENTS.items():
        yaw, pitch = rng.uniform(-YAW, YAW, n), rng.normal(0, 4, n)
        c = model.coefficients(scores)

        def difference(rows: np.ndarray, yaw: Any = yaw, pitch: Any = pitch, reading: str = reading) -> np.ndarray:
            seen = instrument.read(images_of(model, people, np.repeat(rows[None], n, axis=0), yaw, pitch))
            return np.array([np.nan if s is None else s[reading + "Left"] - s[reading + "Right"] for s in seen])

        none = difference(c)
        left, right = (difference(edit(model.sided, c, s, 1.0, include=include)) for s in ("left", "right"))
        ok = np.isfinite(none) & np.isfinite(left) & np.isfinite(right)
        even = np.arange(n) % 2 == 0
        alone = np.where(even, left < 0, right > 0)[ok].mean()
        moved = np.where(even, left < none, right > none)[ok].mean()
        found[name] = (float((left < right)[ok].mean()), float(alone), float(moved), int(ok.sum()))
    return found


def recall(model: MorphableModel, n: int, classifiers: list[Any], furrows: float = 1.0) -> dict[str, dict[str, float]]:
    """Classifier → emotion → recall over ``n`` people: yaw sd 6°, pitch sd 4°, sampled light, natural variation."""
    people = sample_people(model, n, SEED)
    rng = np.random.default_rng(SEED + 2)
    identity = torch.as_tensor(np.stack([p.identity for p in people]))
    neutral = model.landmarks(model.forward(identity, torch.zeros(1, len(model.sided))))
    table: dict[str, dict[str, float]] = {c.spec.id: {} for c in classifiers}
    for emotion in SEVEN:
        yaw, pitch = rng.normal(0, 6, n), rng.normal(0, 4, n)
        images = images_of(model, people, presets(model, emotion, n), yaw, pitch, furrows)
        camera = [portrait_camera(size=224, yaw=float(a), pitch=float(b)) for a, b in zip(yaw, pitch)]
        marks = torch.cat([project(camera[i], neutral[i : i + 1])[0] for i in range(n)])
        for c in classifiers:
            labels = c.spec.label_emotions
            with torch.no_grad():
                top = c(images, marks).argmax(dim=1).tolist()
            table[c.spec.id][emotion] = float(np.mean([labels[k] == emotion for k in top]))
    return table


@contextmanager
def four_classifiers() -> Iterator[list[Any]]:
    """The bundled two and, from the shared folder, the Keras files of two others."""
    from morphsym.classifiers import catalogue, load_classifier

    before = os.environ.get("MORPHSYM_HOME")
    with tempfile.TemporaryDirectory() as home:
        for name in CLASSIFIERS[2:]:
            file = str(catalogue()[name].weights.file)
            folder = Path(home) / "classifiers" / name
            folder.mkdir(parents=True)
            (folder / file).symlink_to(SHARED / "classifiers" / file)
        os.environ["MORPHSYM_HOME"] = home
        try:
            yield [load_classifier(c) for c in CLASSIFIERS]
        finally:
            os.environ.pop("MORPHSYM_HOME")
            if before is not None:
                os.environ["MORPHSYM_HOME"] = before


def models() -> dict[str, MorphableModel]:
    """The bundled head, and ICT-FaceKit where the shared data are."""
    found = {"makehuman": load_model()}
    ict = SHARED / "face_models" / "ict_facekit.npz"
    return found | ({"ict": load_model(ict)} if ict.is_file() else {})


def _best(f: Any, repeat: int = 5) -> float:
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return min(times)


def speed() -> Iterator[dict[str, Any]]:
    """Loading, and forward against a matrix product of the same size in the same run."""
    path = asset("heads/makehuman.npz")
    load_makehuman(path)
    yield _row("bundled head: load", _best(lambda: load_makehuman(path)), "s (aim <= 0.2)")
    for name, m in models().items():
        ki, ks, width = m.n_identity, len(m.sided), 3 * m.n_vertices
        a, b = torch.randn(256, ki), torch.rand(256, ks)
        left, right = torch.randn(256, ki + ks), torch.randn(ki + ks, width)
        flop = 2 * 256 * (ki + ks) * width / 1e9
        with torch.no_grad():
            m.forward(a, b), left @ right
            # alternately, so that other load on the machine meets both
            pairs = [(_best(lambda: m.forward(a, b), 1), _best(lambda: left @ right, 1)) for _ in range(9)]  # noqa: B023
        mine, plain = (flop / min(t) for t in zip(*pairs))
        yield _row(f"{name}: forward of 256", mine, "GFLOP/s (ratio aim >= 0.5)", baseline=plain, ratio=mine / plain)


def _row(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": None, "ratio": None, "command": COMMAND} | more


def benches(n: int = 200, parts: tuple[str, ...] = PARTS) -> Iterator[dict[str, Any]]:
    """The rows of ``parts``; ``n`` people for the instrument and the classifiers."""
    if "speed" in parts:
        yield from speed()
    if not SHARED.is_dir():
        return
    if "instrument" in parts:
        yield from _instrument(n)
    if "recall" in parts:
        yield from _recall(n)
    if SMOOTH in parts:
        yield from _recall(n, 0.0)


def _instrument(n: int) -> Iterator[dict[str, Any]]:
    instrument = Instrument()
    for name, m in models().items():
        shares = detection(m, n, instrument)
        for emotion, share in shares.items():
            yield _row(f"{name}: face found, {emotion}", share, f"of {n}")
        yield _row(f"{name}: face found", float(np.mean(list(shares.values()))), f"of {7 * n} (aim >= 0.98)")
        for movement, (pair, alone, moved, count) in sides(m, n, instrument).items():
            yield _row(f"{name}: weakened side reads lower, {movement}", pair, f"of {count} pairs (aim >= 0.95)")
            yield _row(f"{name}: … in one picture alone, {movement}", alone, f"of {count}")
            yield _row(f"{name}: … than in the unweakened one, {movement}", moved, f"of {count}")
    instrument.close()


def _recall(n: int, furrows: float = 1.0) -> Iterator[dict[str, Any]]:
    how = "recall" if furrows else "recall without furrows"
    with four_classifiers() as classifiers:
        for name, m in models().items():
            table = recall(m, n, classifiers, furrows)
            for emotion in SEVEN:
                for c, of in table.items():
                    yield _row(f"{name}: {how} {emotion}, {c}", of[emotion], f"of {n}")
                every = float(np.mean([of[emotion] for of in table.values()]))
                yield _row(f"{name}: {how} {emotion}", every, f"mean of four{AIMS.get(emotion, '')}")
            mean = float(np.mean([[table[c][e] for e in SEVEN] for c in CLASSIFIERS]))
            yield _row(f"{name}: mean {how}", mean, "of seven emotions (aim >= 0.6)")


if __name__ == "__main__":
    from tests.benchmarks.run import line

    given = sys.argv[1:]
    numbers = [int(a) for a in given if a.isdigit()]
    for row in benches(numbers[0] if numbers else 200, tuple(a for a in given if a in (*PARTS, SMOOTH)) or PARTS):
        print(line(row, 60), flush=True)
