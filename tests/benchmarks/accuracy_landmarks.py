"""Landmark fits: speed, memory, directions, the mirror test and real photos; figures of ``docs/accuracy.md``.

Run as ``python -m tests.benchmarks.accuracy_landmarks [PART…] [--photos FOLDER]`` with PART of speed, memory, crowd, directions,
mirror, mirror_refined, photos, workers (all without). The last four need MediaPipe's weights; FOLDER holds portraits that we may
not pass on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from morphsym import resources
from morphsym.errors import FitError, MorphsymError
from morphsym.faces import MorphableModel, load_model
from morphsym.fitting import Detection, FitsWriter, find_photos, fit, fit_each, load_photo, solver
from morphsym.fitting.basis import landmark_basis
from morphsym.fitting.detectors import FileDetector
from morphsym.fitting.detectors.mediapipe import MediaPipeDetector, mirrored_detection
from morphsym.rendering import portrait_camera, render
from morphsym.rendering.lights import default_lights

from . import bench_fit

SAMPLE = "sample/astronaut.json"
ICT = Path(__file__).resolve().parents[3] / "shared" / "data" / "face_models" / "ict_facekit.npz"


def speed(model: MorphableModel, _: Path | None) -> Iterator[str]:
    """The solver alone in batches of 64, and ``fit`` of given detections: records, measures and all, the readout too or not."""
    basis = landmark_basis(model, mediapipe=True)
    whole = bench_fit.problem(model, 512)
    solver.solve(basis, bench_fit.part(whole, slice(0, 64)))
    best, least, iterations = 0.0, np.inf, 0.0
    for _round in range(3):
        start, used = time.perf_counter(), time.process_time()
        found = [solver.solve(basis, bench_fit.part(whole, slice(i, i + 64))) for i in range(0, 512, 64)]
        best = max(best, 512 / (time.perf_counter() - start))
        least = min(least, (time.process_time() - used) / 512)
        iterations = float(torch.cat([f.iterations for f in found]).double().mean())
    yield (
        f"solver: {best:.0f} faces a second, {1000 * least:.1f} ms of processor time a face, {iterations:.1f} steps, "
        f"{torch.get_num_threads()} threads"
    )
    image = np.ascontiguousarray(data.astronaut())
    (given,) = FileDetector(resources.asset(SAMPLE))(image)  # as a detector gives it
    for readout in (True, False):
        for n in (64, 256, 512):
            start, used = time.perf_counter(), time.process_time()
            assert all(f.ok for f in fit_each([image] * n, model, landmarks=[given] * n, readout=readout))
            spent, used = time.perf_counter() - start, time.process_time() - used
            yield (
                f"fit of given detections, {'with' if readout else 'without'} the readout, {n} photos: {n / spent:.0f} a "
                f"second, {1000 * used / n:.1f} ms of processor time each"
            )


def memory(model: MorphableModel, _: Path | None) -> Iterator[str]:
    """Peak memory and time of fitting more and more photos from disk and writing them, each number in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        Image.fromarray(data.astronaut()).resize((2048, 2048)).save(path, quality=90)
        for n in (64, 256, 1024):
            yield _in_a_child(f"stream({model.name!r}, {str(path)!r}, {n})")


def crowd(_: MorphableModel, __: Path | None) -> Iterator[str]:
    """Listing a folder with a million entries."""
    with tempfile.TemporaryDirectory() as folder:
        at = os.open(folder, os.O_RDONLY)
        for i in range(1_000_000):
            os.close(os.open(f"IMG_{i}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)
        yield _in_a_child(f"listing({folder!r})")


def _in_a_child(call: str) -> str:
    code = f"from tests.benchmarks.accuracy_landmarks import *; {call}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stream(name: str, photo: str, n: int) -> None:
    """Fit one photo ``n`` times over, as so many, with records written; prints peak memory and time."""
    model = load_model(name)
    marks = np.array(json.loads(resources.asset(SAMPLE).read_text())["landmarks_478"])[:, :2] * 4
    with tempfile.TemporaryDirectory() as out, FitsWriter(out, overlays=False) as writer:
        start, used = time.perf_counter(), time.process_time()
        for f in fit_each([photo] * n, model, landmarks=[marks] * n):
            assert writer.add(f).ok
        spent, used = time.perf_counter() - start, time.process_time() - used
    print(
        f"{n} photos of 2048 × 2048: {peak():.0f} MiB at the peak; {1000 * spent / n:.0f} ms a photo with decoding and "
        f"writing, {1000 * used / n:.0f} ms of processor time"
    )


def listing(folder: str) -> None:
    """Find the photos of ``folder``; prints how many, the time and what memory it took."""
    before, start, used = peak(), time.perf_counter(), time.process_time()
    found = len(find_photos([folder]))
    spent, used = time.perf_counter() - start, time.process_time() - used
    print(
        f"{found} photos found in a folder in {spent:.1f} s ({used:.1f} s of processor time), {peak() - before:.0f} MiB"
    )


def directions(model: MorphableModel, _: Path | None) -> Iterator[str]:
    """Noisy landmarks (half a pixel) of 10 people a direction: every in-plane rotation, yaw to ±60°."""
    basis = landmark_basis(model, mediapipe=True)
    for yaw in (-60, -45, -30, 0, 30, 45, 60):
        rolls = np.repeat(np.arange(0, 360, 15.0), 10)
        angles = np.stack([np.full(len(rolls), float(yaw)), np.tile([-10.0, 10.0], len(rolls) // 2), rolls])
        whole, truth = bench_fit.problem_at(model, angles, seed=100 + yaw)
        found = solver.solve(basis, whole)
        cos = (torch.einsum("bij,bij->b", found.R, truth) - 1) / 2
        angle = torch.rad2deg(torch.arccos(cos.clamp(-1, 1))).numpy()
        error = (found.projected - whole.pixels).norm(dim=-1).mean(-1)
        nme = (error / (whole.pixels[:, 36] - whole.pixels[:, 45]).norm(dim=-1)).numpy()
        yield (
            f"yaw {yaw:+d}°, roll 0° to 345°: {int(found.converged.sum())} of {len(rolls)} converged, rotation error "
            f"{np.median(angle):.1f}° (median), {angle.max():.1f}° (largest), landmark error {100 * np.median(nme):.2f} %"
        )


def mirrored_apart(
    model: MorphableModel, pairs: list[tuple[np.ndarray, Detection, Detection]], refine: bool = False
) -> np.ndarray:
    """Largest difference of an expression coefficient, by picture; its detection and its mirror image's."""
    here = fit([p[0] for p in pairs], model, landmarks=[p[1] for p in pairs], refine=refine)
    there = fit([p[0][:, ::-1].copy() for p in pairs], model, landmarks=[p[2] for p in pairs], refine=refine)
    both = [(a, b) for a, b in zip(here, there, strict=True) if a.ok and b.ok]
    return np.array([np.abs(model.mirror_expression(b.expression) - a.expression).max() for a, b in both])


def mirror_refined(model: MorphableModel, folder: Path | None) -> Iterator[str]:
    """The mirror test of the photometric refinement: 20 renders of each model, fitted with this one, and the photos."""
    detector = MediaPipeDetector()
    heads = {m.name: m for m in (model, load_model("makehuman"), *([load_model(str(ICT))] if ICT.is_file() else []))}
    pictures = {name: portraits(m, 20) for name, m in heads.items()}
    pictures["photos"] = [p if isinstance(p, np.ndarray) else load_photo(p).pixels for p in photographs(folder)]
    for name, some in pictures.items():
        looks = [(p, detector(p), detector(p[:, ::-1].copy())) for p in some]
        found = mirrored_apart(model, [(p, a[0], b[0]) for p, a, b in looks if a and b], refine=True)
        yield f"{name} → {model.name}, refined: {len(found)} pictures, largest {found.max():.4f}, median {np.median(found):.4f}"


def mirror(model: MorphableModel, folder: Path | None) -> Iterator[str]:
    """Largest difference of an expression coefficient between a photo's fit and its mirror image's, mirrored back."""

    real = [p if isinstance(p, np.ndarray) else load_photo(p).pixels for p in photographs(folder)]
    pictures = [*portraits(model, 24), *real]
    for both_ways in (True, False):
        detector = MediaPipeDetector(both_ways=both_ways)
        pairs, spent = [], 0.0
        for picture in pictures:
            start = time.perf_counter()
            here = detector(picture)
            spent += time.perf_counter() - start
            there = detector(picture[:, ::-1].copy())
            if here and there:
                pairs.append((picture, here[0], there[0]))
        found = mirrored_apart(model, pairs)
        yield (
            f"{'both ways (default)' if both_ways else 'one look'}: {len(found)} pictures, largest {found.max():.4f}, "
            f"median {np.median(found):.4f}; detection {1000 * spent / len(pictures):.0f} ms a picture"
        )
        if both_ways:
            given = mirrored_apart(model, [(p, a, mirrored_detection(a, p.shape[1])) for p, a, _ in pairs])
            yield f"given landmarks, mirrored: largest {given.max():.1e}"


def photos(model: MorphableModel, folder: Path | None) -> Iterator[str]:
    """Landmark error of real photos, MediaPipe's points detected on them."""
    found = [f for f in fit(photographs(folder), model, face="all") if f.detector]
    good = [f for f in found if f.ok]
    nme = np.array([100 * f.nme for f in good])
    yield (
        f"{model.name}: {len(good)} faces fitted, {len(found) - len(good)} refused; landmark error {nme.mean():.2f} % "
        f"(mean), {np.median(nme):.2f} % (median), {nme.max():.2f} % (largest); {int((nme <= 2).sum())} at most 2 %; "
        f"{sum(f.quality == 'good' for f in good)} not flagged"
    )
    for f in found:
        if not f.ok:
            yield f"  refused: {f.reason}"


def workers(model: MorphableModel, folder: Path | None) -> Iterator[str]:
    """``morphsym fit`` of 192 photos, with detection, records and overlays, by one process and with two workers, in turns."""
    found = photographs(folder)[1:] if folder else [data.astronaut()]
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "photos"
        whole.mkdir()
        for i in range(192):
            picture = found[i % len(found)]
            path = whole / f"{i:03d}{picture.suffix if isinstance(picture, Path) else '.jpg'}"
            path.symlink_to(picture.absolute()) if isinstance(picture, Path) else Image.fromarray(picture).save(path)
        files: dict[str, bytes] = {}
        for n in (1, 2, 1, 2):
            out = Path(place) / f"fits{n}"
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "morphsym_cli",
                "fit",
                str(whole),
                "-q",
                "-o",
                str(out),
                "--model",
                model.name,
            ]
            done = subprocess.run([*command, "--workers", str(n)], capture_output=True, text=True, check=False)
            spent, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode not in (0, 3):
                raise FitError(done.stderr.strip().splitlines()[-1])
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            written = {p.name: p.read_bytes() for p in sorted(out.iterdir())}
            files = files or written
            yield (
                f"--workers {n}: {spent:.0f} s by the clock, {used:.0f} s of processor time (load {os.getloadavg()[0]:.1f}); "
                f"{len(written)} files, {'the same bytes' if written == files else 'OTHER BYTES'}"
            )


def photographs(folder: Path | None) -> list[Any]:
    return [np.ascontiguousarray(data.astronaut()), *(find_photos([folder]) if folder else [])]


def portraits(model: MorphableModel, count: int) -> list[np.ndarray]:
    """Renders of random people with random expressions and poses, 320²."""
    rng = np.random.default_rng(11)
    out = []
    for _ in range(count):
        e = np.where(rng.random(len(model.sided)) < 0.15, rng.uniform(0, 0.7, len(model.sided)), 0).astype(np.float32)
        identity = (rng.normal(size=model.n_identity) * 0.7).astype(np.float32)
        v = model.forward(torch.from_numpy(identity)[None], torch.from_numpy(e)[None])
        camera = portrait_camera(320, 90.0, 24.0, rng.uniform(-30, 30), rng.uniform(-10, 10), rng.uniform(-15, 15))
        picture, _c = render(v, torch.as_tensor(model.faces), torch.as_tensor(model.albedo), camera, default_lights(1))
        out.append((picture[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
    return out


PARTS = {
    "speed": speed, "memory": memory, "crowd": crowd, "directions": directions, "mirror": mirror,
    "mirror_refined": mirror_refined, "photos": photos, "workers": workers,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure")
    parser.add_argument("--photos", type=Path, help="a folder of portraits")
    parser.add_argument("--model", default="makehuman")
    args = parser.parse_args()
    model = load_model(args.model)
    print(f"load average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    for name in args.parts or PARTS:
        try:
            for line in PARTS[name](model, args.photos):
                print(f"{name}: {line}", flush=True)
        except MorphsymError as e:
            print(f"{name}: not measured: {e}")


if __name__ == "__main__":
    main()
