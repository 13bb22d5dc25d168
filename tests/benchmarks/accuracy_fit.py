"""How well asymmetry and geometry are recovered from pictures; the numbers of ``docs/accuracy.md``.

Run as ``python -m tests.benchmarks.accuracy_fit --refine`` (528 renders, half of them of each model, fitted with both models:
from the landmarks alone, with the readout of the pixels as is the default, and refined) or with ``--quick`` (24). With
``--cache FOLDER`` renders and fits are kept, and a run that ``--minutes`` ended goes on where it was; fits by other code are not
taken. ICT-FaceKit is read from ``../shared/data``; ``--eos FOLDER`` adds the baseline eos-py, whose wheel brings no model:
FOLDER is ``share/`` of https://github.com/patrikhuber/eos (the Surrey model, for non-commercial use). ``--readout FILE`` takes
other weights than those that come with morphsym, ``--seed`` and ``--count`` other renders, to develop on. Landmarks are
detected by MediaPipe on the JPEG; see ``accuracy_data.py`` for what is rendered. The default seeds are used nowhere else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

import morphsym
from morphsym import resources
from morphsym.faces import MorphableModel, load_model
from morphsym.fitting import fit
from morphsym.fitting.measures import face_vertices
from morphsym.fitting.readout import ASSET, Readout
from morphsym.types import FaceFit

from . import accuracy_data as data

SEED, NEUTRAL_SEED = 2026, 99
ICT = Path(__file__).resolve().parents[3] / "shared" / "data" / "face_models" / "ict_facekit.npz"


def correlations(found: Sequence[Callable[[str], float] | None], truth: np.ndarray) -> list[float]:
    """Pearson's r by movement; a failed fit counts as having seen no difference."""
    values = np.array([[0.0 if f is None else f(m) for m in data.MOVEMENTS.values()] for f in found])
    return [
        float(np.corrcoef(values[:, k], truth[:, k])[0, 1]) if values[:, k].std() > 1e-9 else float("nan")
        for k in range(truth.shape[1])
    ]


def of_fit(f: FaceFit) -> Callable[[str], float] | None:
    """The fitted left–right difference of a movement."""
    return (lambda m: data.difference(f.expression_names, f.expression, m)) if f.ok else None


def of_scores(s: data.Sample) -> Callable[[str], float] | None:
    """MediaPipe's own left–right difference; ``browInnerUp`` has no sides there."""
    if s.detection is None:
        return None
    b = s.detection.blendshapes or {}
    return lambda m: b.get(f"{m}Left", 0.0) - b.get(f"{m}Right", 0.0)


def of_reading(s: data.Sample, readout: Readout) -> Callable[[str], float] | None:
    """The readout's own left–right difference, before any landmark is fitted."""
    reading = None if s.detection is None else readout.read(s.pixels, s.detection)
    if reading is None:
        return None
    values = reading.values()
    names = tuple(values)
    row = np.array(list(values.values()))
    return lambda m: data.difference(names, row, m)


EOS_MEASURE = {
    "mouthSmile": ((54,), (48,), (0, 1)), "mouthFrown": ((54,), (48,), (0, -1)), "eyeBlink": ((43, 44), (37, 38), (0, -1)),
    "browOuterUp": ((25, 26), (17, 18), (0, 1)), "browInnerUp": ((22,), (21,), (0, 1)), "browDown": ((23, 24), (19, 20), (0, -1)),
}  # fmt: skip
"""eos's Surrey model has no sided expressions: its difference is how much farther the fitted mesh's landmarks of one side lie in
the direction of the movement than those of the other, in the mesh's own frame. A smile also pulls outwards; that the
measure leaves out."""


class Eos:
    """eos-py's ``fit_shape_and_pose`` with the Surrey model on the same 68 landmarks."""

    def __init__(self, share: Path) -> None:
        import eos

        self.eos = eos
        model = eos.morphablemodel.load_model(str(share / "sfm_shape_3448.bin"))
        shapes = eos.morphablemodel.load_blendshapes(str(share / "expression_blendshapes_3448.bin"))
        self.model = eos.morphablemodel.MorphableModel(
            model.get_shape_model(), shapes, color_model=eos.morphablemodel.PcaModel(), vertex_definitions=None,
            texture_coordinates=model.get_texture_coordinates(),
        )  # fmt: skip
        self.mapper = eos.core.LandmarkMapper(str(share / "ibug_to_sfm.txt"))
        self.edges = eos.morphablemodel.load_edge_topology(str(share / "sfm_3448_edge_topology.json"))
        self.contour = eos.fitting.ContourLandmarks.load(str(share / "ibug_to_sfm.txt"))
        self.model_contour = eos.fitting.ModelContour.load(str(share / "sfm_model_contours.json"))

    def __call__(self, s: data.Sample) -> Callable[[str], float] | None:
        if s.detection is None:
            return None
        points = [
            self.eos.core.Landmark(str(i + 1), [float(x), float(y)]) for i, (x, y) in enumerate(s.detection.landmarks68)
        ]
        mesh, *_ = self.eos.fitting.fit_shape_and_pose(
            self.model, points, self.mapper, data.SIZE, data.SIZE, self.edges, self.contour, self.model_contour
        )
        vertices = np.asarray(mesh.vertices)[:, :3]

        def at(rows: tuple[int, ...]) -> np.ndarray:
            return np.mean([vertices[int(self.mapper.convert(str(r + 1)))] for r in rows], axis=0)

        def difference(movement: str) -> float:
            left, right, (_, up) = EOS_MEASURE[movement]
            return float(up * (at(left)[1] - at(right)[1]))

        return difference


def aligned_error(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance in mm after the best rigid alignment (no scale) of ``(N, 3)`` cm."""
    a, b = found - found.mean(axis=0), true - true.mean(axis=0)
    u, _, vt = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return float(10 * np.linalg.norm(a @ turn - b, axis=1).mean())


def cross_error(found: np.ndarray, surface: np.ndarray, normals: np.ndarray, rounds: int = 20) -> float:
    """Mean distance in mm from ``found (N, 3)`` to the true surface, rigidly aligned by ICP; other vertices, other topology."""
    from scipy.spatial import cKDTree

    tree = cKDTree(surface)
    a = found.copy()
    for _ in range(rounds):
        _, near = tree.query(a)
        b = surface[near]
        u, _, vt = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
        turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        a = (a - a.mean(0)) @ turn + b.mean(0)
    _, near = tree.query(a)
    return float(10 * np.abs(((a - surface[near]) * normals[near]).sum(axis=1)).mean())  # point to plane


def vertices(model: MorphableModel, identity: np.ndarray, expression: np.ndarray | None = None) -> np.ndarray:
    """(V, 3) cm."""
    e = np.zeros(len(model.sided), dtype=np.float32) if expression is None else expression
    v = model.forward(
        torch.as_tensor(identity, dtype=torch.float32)[None], torch.as_tensor(e, dtype=torch.float32)[None]
    )
    return v[0].numpy().astype(np.float64)


def geometry(
    source: MorphableModel, target: MorphableModel, samples: Sequence[data.Sample], fits: Sequence[FaceFit]
) -> dict[str, float]:
    """Mean error of the face at rest in mm: of the fits, and of the mean face."""
    from morphsym.rendering.shading import vertex_normals

    rows = face_vertices(target)
    error, mean_face = [], []
    for s, f in zip(samples, fits, strict=True):
        if not f.ok:
            continue
        true = vertices(source, s.identity)
        pair = vertices(target, f.identity)[rows], vertices(target, np.zeros(target.n_identity))[rows]
        if source is target:
            e, m = (aligned_error(v, true[rows]) for v in pair)
        else:
            n = vertex_normals(torch.as_tensor(true, dtype=torch.float32)[None], torch.as_tensor(source.faces).long())[
                0
            ].numpy()
            e, m = (cross_error(v, true, n) for v in pair)
        error.append(e)
        mean_face.append(m)
    return {"fit": float(np.mean(error)), "mean face": float(np.mean(mean_face)), "faces": len(error)}


def expression_error(
    source: MorphableModel, samples: Sequence[data.Sample], fits: Sequence[FaceFit]
) -> tuple[float, float]:
    """Mean error in mm of the displacement field of the expression (same model), and the mean size of the true one."""
    rows = face_vertices(source)
    found, size = [], []
    for s, f in zip(samples, fits, strict=True):
        if f.ok:
            none = np.zeros(source.n_identity)
            rest = vertices(source, none)[rows]
            true = vertices(source, none, s.expression)[rows] - rest
            got = vertices(source, none, f.expression)[rows] - rest
            found.append(10 * np.linalg.norm(got - true, axis=1).mean())
            size.append(10 * np.linalg.norm(true, axis=1).mean())
    return float(np.mean(found)), float(np.mean(size))


def samples_of(
    model: MorphableModel, name: str, count: int, cache: Path | None, neutral: bool, seed: int
) -> list[data.Sample]:
    """Rendered, or read from ``cache`` where an earlier run left them."""
    path = cache / f"{name}_{'neutral' if neutral else 'test'}_{count}_{seed}.npz" if cache else None
    if path is not None and path.is_file():
        return data.load(path)
    samples = data.make(model, count, seed + (NEUTRAL_SEED - SEED if neutral else 0), neutral)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save(path, samples)
    return samples


PIECE = 12
"""Faces fitted and kept together."""

MODES = ("landmarks", "readout", "pixels")
"""Landmarks and scores alone; with the readout of the pixels, the default; refined by the pixels as well."""

CODE = (
    "basis",
    "correspondence",
    "crop",
    "energy",
    "evidence",
    "finding",
    "fit",
    "gradients",
    "mirroring",
    "photometric",
    "pose",
    "priors",
    "quality",
    "readout",
    "records",
    "refine",
    "scene",
    "solver",
    "solving",
    "threads",
    "view",
)
"""Modules of ``morphsym.fitting`` that determine a fit."""


def code(weights: Path) -> str:
    """A digest of the code and the readout's weights that determine a fit: fits are kept under it."""
    folder = Path(morphsym.__file__).parent
    digest = hashlib.sha256()
    for path in [*(folder / "fitting" / f"{name}.py" for name in CODE), folder / "rendering" / "harmonics.py", weights]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def fit_piece(
    samples: Sequence[data.Sample], model: MorphableModel, mode: str, readout: Readout, path: Path | None
) -> tuple[list[FaceFit], float]:
    """The fits of a few samples and the processor seconds they took; read from ``path`` where an earlier run left them."""
    names = [f.name for f in fields(FaceFit)]
    kept = ("status", "identity", "expression", "nme", "refined", "pixel_error_start", "pixel_error", "note")
    blank: dict[str, Any] = dict.fromkeys(names)
    blank["expression_names"] = model.sided.names
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as z:
            rows = json.loads(str(z["rows"]))
            arrays = [{k: z[f"{i}.{k}"] for k in ("identity", "expression")} for i in range(len(rows))]
            return [FaceFit(**{**blank, **r, **a}) for r, a in zip(rows, arrays, strict=True)], float(z["seconds"])
    start = time.process_time()
    found = fit(
        [s.pixels for s in samples], model, landmarks=[s.detection for s in samples], refine=mode == "pixels",
        readout=False if mode == "landmarks" else readout,
    )  # fmt: skip
    seconds = time.process_time() - start
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{k: getattr(f, k) for k in kept if k not in ("identity", "expression")} for f in found]
        flat = {f"{i}.{k}": getattr(f, k) for i, f in enumerate(found) for k in ("identity", "expression")}
        aside = path.with_suffix(".part.npz")
        np.savez(aside, allow_pickle=False, rows=np.array(json.dumps(rows)), seconds=np.array(seconds), **flat)
        aside.rename(path)
    return found, seconds


class Work:
    """All fits of the benchmark, piece by piece: the combinations take turns, so that a run that is ended has some of each."""

    def __init__(self, models: dict[str, MorphableModel], cache: Path | None, weights: Path, label: str) -> None:
        self.models, self.cache, self.label = models, cache / code(weights) if cache else None, label
        self.readout = Readout(weights)
        self.fits: dict[tuple[str, str, bool, str], list[FaceFit]] = {}
        self.seconds: dict[tuple[str, str, bool, str], float] = {}

    def run(self, samples: dict[tuple[str, bool], list[data.Sample]], modes: Sequence[str], minutes: float) -> bool:
        """Whether everything was done."""
        end = time.monotonic() + 60 * minutes
        keys = [(n, t, rest, m) for (n, rest) in samples for t in self.models for m in modes]
        self.fits = {k: [] for k in keys}
        self.seconds = dict.fromkeys(keys, 0.0)
        whole = True
        for start in range(0, max(len(s) for s in samples.values()), PIECE):
            for key in keys:
                name, target, rest, mode = key
                part = samples[name, rest][start : start + PIECE]
                if not part:
                    continue
                label = f"{self.label}{name}_{target}_{'rest' if rest else 'test'}_{mode}"
                path = self.cache / f"{label}_{start:04d}_{len(part)}.npz" if self.cache else None
                if time.monotonic() > end and not (path is not None and path.is_file()):
                    whole = False
                    continue
                found, seconds = fit_piece(part, self.models[target], mode, self.readout, path)
                if len(self.fits[key]) == start:  # without a gap
                    self.fits[key] += found
                    self.seconds[key] += seconds
        return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="24 renders in place of 528")
    parser.add_argument("--eos", type=Path, help="share/ of the eos repository")
    parser.add_argument("--cache", type=Path, help="folder that keeps the renders for another run")
    parser.add_argument("--refine", action="store_true", help="also refine by the pixels")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="fit for so long; needs --cache to go on")
    parser.add_argument("--readout", type=Path, default=resources.asset(ASSET), help="weights of the readout")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=264, help="renders of each model")
    args = parser.parse_args()
    count = 12 if args.quick else args.count
    neutral = max(4, count * 40 // 264)
    models = {"ICT": load_model(str(ICT)), "bundled": load_model("makehuman")}
    eos = Eos(args.eos) if args.eos else None
    samples = {
        (name, rest): [
            s
            for s in samples_of(m, name, neutral if rest else count, args.cache, rest, args.seed)
            if s.detection is not None
        ]
        for rest in (False, True)
        for name, m in models.items()
    }
    work = Work(models, args.cache, args.readout, f"{args.seed}_")
    if not work.run(samples, MODES if args.refine else MODES[:2], args.minutes):
        print("not finished: run the same command again; the figures are of the faces fitted so far")
    report(work, samples, models, eos)


def report(
    work: Work, samples: dict[tuple[str, bool], list[data.Sample]], models: dict[str, MorphableModel], eos: Eos | None
) -> None:
    """Print the tables. Every method sees the same renders."""
    show("render", "method", "renders", *data.MOVEMENTS)
    extra = []
    for name, source in models.items():
        keys = [k for k in work.fits if k[0] == name and not k[2]]
        n = min(len(work.fits[k]) for k in keys)
        seen = samples[name, False][:n]
        if n < 3:
            continue
        truth = np.array(
            [[data.difference(source.sided.names, s.expression, m) for m in data.MOVEMENTS.values()] for s in seen]
        )
        rows: list[tuple[str, Any]] = [("MediaPipe's scores", correlations([of_scores(s) for s in seen], truth))]
        if eos is not None:
            rows.append(("eos-py (SFM)", correlations([eos(s) for s in seen], truth)))
        rows.append(("readout alone", correlations([of_reading(s, work.readout) for s in seen], truth)))
        for key in keys:
            _, other, _, what = key
            fits = work.fits[key][:n]
            rows.append((f"morphsym, {other}, {what}", correlations([of_fit(f) for f in fits], truth)))
            good = [f for f in fits if f.ok]
            nme = 100 * float(np.median([f.nme for f in good]))
            extra.append(
                f"{name} → {other}, {what}: {len(good)} of {n} fitted, landmark error {nme:.2f} % (median), "
                f"{work.seconds[key] / len(work.fits[key]):.2f} processor seconds a face"
            )
            if what == "pixels":
                better = [f for f in good if f.refined]
                extra[-1] += (
                    f"; {len(better)} refined, pixel error {np.median([f.pixel_error_start for f in better]):.1f} → "
                    f"{np.median([f.pixel_error for f in better]):.1f} grey levels (medians)"
                )
            if models[other] is source:
                error, size = expression_error(source, seen, fits)
                extra.append(
                    f"{name} → {other}, {what}: expression {error:.2f} mm off; the true one moves {size:.2f} mm"
                )
        for method, values in rows:
            show(name, method, str(n), *(f"{v:.2f}" for v in values))
        for key in [k for k in work.fits if k[0] == name and k[2] and work.fits[k]]:
            _, other, _, what = key
            found = work.fits[key]
            g = geometry(source, models[other], samples[name, True][: len(found)], found)
            less = 100 * (1 - g["fit"] / g["mean face"])
            extra.append(
                f"{name} → {other}, {what}: rest {g['fit']:.2f} mm, mean face "
                f"{g['mean face']:.2f} mm, {less:.0f} % less ({g['faces']:.0f} faces)"
            )
    print("\n".join(extra), flush=True)


def show(*cells: str) -> None:
    """One row of the table, Markdown."""
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
