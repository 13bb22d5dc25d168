"""Train the reading of the identity, the part of the readout that tells it in each model's own coefficients.

``python tools/readout_identity.py FOLDER assets/readout/expression.npz`` replaces that part of a weights file that
``tools/train_readout.py`` wrote, which calls :func:`identity_maps` itself; FOLDER has the renders of both.

A render of one model teaches the others' coefficients too: its truth is *carried over* to what comes nearest to its face
in the other model (:func:`carried`). Without that, a face that the model cannot make reads like no face at all. What each
kind of render (one kind a model) tells is a ridge regression of its own; how much a picture is like each kind decides their
shares, so that what lies between the kinds has some of each.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from readout_data import Data, load
from scipy.spatial import cKDTree
from torch import Tensor

from morphsym.experiment.atomic import writing
from morphsym.faces import MorphableModel, load_model, sample_people
from morphsym.fitting.basis import gather
from morphsym.fitting.correspondence import places
from morphsym.fitting.crop import Frontal
from morphsym.fitting.gradients import halves
from morphsym.fitting.measures import face_vertices
from morphsym.fitting.priors import identity_lengths
from morphsym.fitting.readout import Readout
from morphsym.rendering.shading import vertex_normals

SOURCES = {
    "ict": str(Path(__file__).resolve().parents[2] / "shared/data/face_models/ict_facekit.npz"),
    "makehuman": "makehuman",
}
"""The models' files."""

POINTS, PIXELS = 200, 200
"""Principal components of the points and of the pixels that the identity is read from."""

RIDGE = 0.03
"""Of the regressions, by the number of samples; the components have variance 1."""

FACES, SEED = 400, 710_200
"""People a model whose faces are carried over, to find the affine map of all."""

PASSES = 5
EVERY = 6
"""One in so many vertices of the face is compared."""

NEAR, USUAL = 1e-4, 1e-4
"""cm²: pull of a carried face's coefficients to those of the last pass, and to 0; beside squared distances of surfaces."""

LANDMARKS = 0.15
"""Weight of the mean squared distance of the 68 landmarks, as MediaPipe places them, beside the surfaces': a face may not slide
along the other, or its eyes and mouth would be where no landmark is."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A true face: vertices, unit normals ``(V, 3)``, a tree of the vertices, and the landmarks ``(68, 3)``."""

    vertices: np.ndarray
    normals: np.ndarray
    tree: cKDTree
    landmarks: np.ndarray

    @classmethod
    def of(cls, model: MorphableModel, identity: np.ndarray) -> Surface:
        none = torch.zeros(1, len(model.sided))
        v = model.forward(torch.as_tensor(identity, dtype=torch.float32)[None], none)
        n = vertex_normals(v, torch.as_tensor(model.faces).long())[0].double().numpy()
        vertices = v[0].double().numpy()
        corners, weights, _ = places(model, True)
        return cls(vertices, n, cKDTree(vertices), np.einsum("nkc,nk->nc", vertices[corners], weights))


@dataclass(frozen=True, eq=False)
class Shapes:
    """Faces that can be made: vertices of the face, and the landmarks in the last 68 rows; ``(N, 3)`` and ``(3, N, K)`` cm."""

    mean: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, model: MorphableModel) -> Shapes:
        rows = face_vertices(model)[::EVERY]
        corners, weights, _ = places(model, True)
        mean, basis = (
            np.concatenate([b[..., rows, :].double().numpy(), gather(b, corners, weights)], axis=-2)
            for b in (model.mean, model.identity_basis)
        )
        return cls(mean, np.ascontiguousarray(basis.transpose(2, 1, 0)))

    def at(self, b: np.ndarray) -> np.ndarray:
        return np.asarray(self.mean + (self.basis @ b).T)


def rotation(w: np.ndarray) -> np.ndarray:
    """The rotation nearest to ``1 + [w]×``."""
    u, _, vt = np.linalg.svd(np.eye(3) + np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]]))
    return np.asarray(u @ vt)


def aligned(points: np.ndarray, to: Surface, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """``turn (3, 3)`` and ``shift (3,)`` that lay ``points (N, 3)`` on the surface, ``points @ turn + shift`` (ICP, rigid)."""
    at, whole = points.copy(), np.eye(3)
    for _ in range(rounds):
        near = to.vertices[to.tree.query(at)[1]]
        u, _, vt = np.linalg.svd((at - at.mean(0)).T @ (near - near.mean(0)))
        turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
        at = (at - at.mean(0)) @ turn + near.mean(0)
        whole = whole @ turn
    return whole, at.mean(0) - points.mean(0) @ whole


def nearest(shapes: Shapes, to: Surface, start: np.ndarray, rounds: int, icp: int, near: float = NEAR) -> np.ndarray:
    """Coefficients ``(K,)`` of the face of ``shapes`` that comes nearest to a surface, from ``start``.

    Gauss–Newton on the mean squared distance from vertices to the tangent planes of the surface's nearest vertices and
    :data:`LANDMARKS` times that of the landmarks, with a rigid motion and no scale; plus ``near`` |b − start|² and
    ``USUAL`` |b|².
    """
    b, k, v = start.copy(), len(start), len(shapes.mean) - 68
    turn, shift = aligned(shapes.at(b)[:v], to, icp)
    own = np.tile(np.eye(3), (68, 1))  # the axes in which a landmark's distance is taken: all three
    weight = np.r_[np.full(v, 1 / v), np.full(3 * 68, LANDMARKS / 68)]
    which = np.r_[np.arange(v), np.repeat(np.arange(v, v + 68), 3)]
    for _ in range(rounds):
        at = shapes.at(b) @ turn + shift
        _, found = to.tree.query(at[:v])
        n = np.concatenate([to.normals[found], own])
        off = np.r_[((to.vertices[found] - at[:v]) * to.normals[found]).sum(1), (to.landmarks - at[v:]).reshape(-1)]
        back = n @ turn.T
        moved = sum(shapes.basis[c, which] * back[:, c, None] for c in range(3))
        rows = np.concatenate([moved, np.cross(at[which], n), n], axis=1)
        weighed = rows.T * weight
        h, g = weighed @ rows, weighed @ off
        g[:k] -= near * (b - start) + USUAL * b
        h[range(k), range(k)] += near + USUAL
        step = np.linalg.solve(h + 1e-12 * np.eye(len(h)), g)
        b = b + step[:k]
        r = rotation(step[k : k + 3])
        turn, shift = turn @ r.T, shift @ r.T + step[k + 3 :]
    return b


def affine(x: np.ndarray, y: np.ndarray, ridge: float = 10.0) -> np.ndarray:
    """``(K + 1, M)``: the affine map from rows of ``x`` to rows of ``y``, its constant last."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = ridge * np.diag([1.0] * (x.shape[1] - 1) + [0.0])
    return np.asarray(np.linalg.solve(x.T @ x + penalty, x.T @ y))


def carried(source: MorphableModel, target: MorphableModel, cache: Path, faces: int = FACES) -> np.ndarray:
    """``(Ks + 1, Kt)``: the affine map from ``source``'s identity to ``target``'s whose face comes nearest; constant last.

    Each face's own optimum would follow whichever vertices happen to lie near. So the face is sought near what the affine map
    of all faces says, the map is fitted again, and so on (a proximal-point iteration for the map with the least distances).
    Kept in ``cache``, and made anew when models or constants are others.
    """
    key = hashlib.sha256(
        repr((source.sha256, target.sha256, faces, SEED, PASSES, EVERY, NEAR, USUAL, LANDMARKS)).encode()
    ).hexdigest()
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as z:
            if str(z["key"]) == key:
                return np.asarray(z["map"])
    shapes = Shapes.of(target)
    strength = np.random.default_rng(SEED).uniform(0.7, 1.0, (faces, 1))
    people = sample_people(source, faces, SEED)
    identity = np.stack([np.asarray(people[i].identity, dtype=np.float64) for i in range(faces)]) * strength
    surfaces = [Surface.of(source, i) for i in identity]
    none = np.zeros(target.n_identity)
    found = np.stack([nearest(shapes, s, none, 5, 20, near=0.0) for s in surfaces])
    w = affine(identity, found)
    for _ in range(PASSES):
        found = np.stack([
            nearest(shapes, s, start, 1, 6)
            for s, start in zip(surfaces, identity @ w[:-1] + w[-1], strict=True)
        ])  # fmt: skip
        w = affine(identity, found)
    with writing(cache) as aside, open(aside, "wb") as f:
        np.savez(f, map=w, key=np.array(key))
    return w


def directions(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean ``(F,)`` of ``rows (N, F)`` and their leading principal directions ``(F, count)``, orthonormal."""
    mean = rows.double().mean(0)
    flat = rows.double() - mean
    _, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    return mean.float(), vectors[:, -count:].float()


def in_eight_bits(name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """An array in eight bits with a scale a row (a convolution's: what makes one channel), as :class:`Readout` reads it."""
    scale = np.abs(x).reshape(len(x), -1).max(axis=1).astype(np.float32) / 127 + 1e-12
    return {name: np.round(x / scale.reshape(-1, *[1] * (x.ndim - 1))).astype(np.int8), f"{name}.scale": scale}


def restored(arrays: dict[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(arrays[name].astype(np.float32) * arrays[f"{name}.scale"][:, None])


def kinds(x: np.ndarray, kind: np.ndarray, count: int, rounds: int = 12) -> np.ndarray:
    """``(F + 1, count)``: softmax regression of the kind on ``x (N, F)`` of variance 1, the constant last (Newton, ridge).

    Labels are 0.98, not 1: a picture unlike all of them shall not be put with one for certain.
    """
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    wanted = np.full((len(x), count), 0.02 / max(1, count - 1))
    wanted[np.arange(len(x)), kind] = 0.98
    # One against the others: the softmax of two kinds exactly, and for more the usual approximation.
    out = np.zeros((x.shape[1], count))
    for c in range(count - 1 if count == 2 else count):
        w = out[:, c]
        for _ in range(rounds):
            p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
            h = (x.T * (p * (1 - p) + 1e-6)) @ x + RIDGE * len(x) * 0.01 * np.eye(len(w))
            w = w + np.linalg.solve(h, x.T @ (wanted[:, c] - p) - RIDGE * len(x) * 0.01 * w)
        out[:, c] = w
    return out


def regression(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge: the map ``(F, K)`` and the constant ``(K,)``."""
    mx, my = x.mean(0), y.mean(0)
    flat = x - mx
    w = np.linalg.solve(flat.T @ flat + RIDGE * len(x) * np.eye(x.shape[1]), flat.T @ (y - my))
    return w, my - mx @ w


def identity_maps(
    folder: Path, models: list[str], data: Data, check: Data, even_mean: Tensor, kept_out: float
) -> dict[str, np.ndarray]:
    """The arrays ``identity.*`` of the weights.

    ``data``, ``check``: renders that are trained on and kept out, model after model in the order of ``models``.
    ``even_mean (D,)`` is the mean of what their maps share with the mirror image's. Covariances are those of what was kept out.
    """
    loaded = {name: load_model(SOURCES[name]) for name in models}
    maps = {
        (s, t): carried(loaded[s], loaded[t], folder / f"identity_{s}_{t}.npz")
        for s in models for t in models if s != t
    }  # fmt: skip
    pixels = torch.cat([even(data, rows, even_mean) for rows in data.rows()])
    points_mean, points = directions(data.given.mean(0), POINTS)
    _, pixel = directions(pixels, PIXELS)
    del pixels
    out = {
        "identity.points_mean": points_mean.numpy(),
        **in_eight_bits("identity.points", points.numpy()), **in_eight_bits("identity.pixels", pixel.numpy()),
    }  # fmt: skip
    # What is regressed on is what the rounded weights will see: rounding costs nothing then.
    points, pixel = restored(out, "identity.points"), restored(out, "identity.pixels")

    def seen(part: Data) -> np.ndarray:
        found = [
            torch.cat([
                (part.given[:, rows].mean(0) - points_mean) @ points, even(part, rows, even_mean) @ pixel,
            ], 1) for rows in part.rows()
        ]  # fmt: skip
        return torch.cat(found).double().numpy()

    x, xk = seen(data), seen(check)
    centre, spread = x.mean(0), x.std(0) + 1e-6
    x, xk = (x - centre) / spread, (xk - centre) / spread
    truths = [truth(folder, name, kept_out) for name in models]
    kind = np.concatenate([np.full(len(t[0]), i) for i, t in enumerate(truths)])
    kind_k = np.concatenate([np.full(len(t[1]), i) for i, t in enumerate(truths)])
    if len(kind) != len(x) or len(kind_k) != len(xk):
        raise SystemExit(
            f"expected the truth of {len(x)} and {len(xk)} renders in {folder}, found {len(kind)} and {len(kind_k)}"
        )
    w = kinds(x, kind, len(models))
    wrong = (np.argmax(xk @ w[:-1] + w[-1], axis=1) != kind_k).mean()
    print(f"kind of render: {100 * wrong:.1f} % wrong", flush=True)
    out["identity.kind.w"] = (w[:-1] / spread[:, None]).astype(np.float32)
    out["identity.kind.b"] = (w[-1] - (centre / spread) @ w[:-1]).astype(np.float32)
    for name in models:
        w_all, b_all, covariance = [], [], []
        for i, source in enumerate(models):
            y, yk = (t if source == name else t @ maps[source, name][:-1] + maps[source, name][-1] for t in truths[i])
            w, b = regression(x[kind == i], y)
            off = xk[kind_k == i] @ w + b - yk
            explained = 1 - (off**2).sum() / ((yk - y.mean(0)) ** 2).sum()
            print(f"identity of {name} on renders of {source}: {explained:.2f} of the variance", flush=True)
            w_all.append(w / spread[:, None])
            b_all.append(b - (centre / spread) @ w)
            covariance.append(off.T @ off / len(off))
        out |= in_eight_bits(f"identity.{name}.w", np.concatenate(w_all))
        out[f"identity.{name}.b"] = np.stack(b_all).astype(np.float32)
        out[f"identity.{name}.covariance"] = np.stack(covariance).astype(np.float16)
        out[f"identity.{name}.lengths"] = identity_lengths(loaded[name]).astype(np.float32)
    return out


def even(part: Data, rows: Tensor, mean: Tensor) -> Tensor:
    """``(B, D)``: what is the same in the mirror image, of the maps of pictures."""
    return halves(part.coarse[0][rows].float())[0] - mean


def truth(folder: Path, name: str, kept_out: float) -> tuple[np.ndarray, np.ndarray]:
    """The true identities of a model's renders that are trained on, and of the others."""
    paths = sorted(folder.glob(f"{name}_*.npz"))
    last = max(1, round(kept_out * len(paths)))
    parts = (paths[:-last], paths[-last:])
    first, second = (np.concatenate([np.load(p, allow_pickle=False)["identity"] for p in part]) for part in parts)
    return first.astype(np.float64), second.astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="shards of tools/readout_renders.py")
    parser.add_argument("weights", type=Path, help="weights of tools/train_readout.py, whose identity is replaced")
    parser.add_argument("-o", "--out", type=Path, help="write there, and leave WEIGHTS as it is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(args.weights, allow_pickle=False) as z:
        arrays = {k: z[k] for k in z.files if not k.startswith("identity.")}
    models = arrays["models"].tolist()
    front = Frontal(arrays["places"].astype(np.float64), arrays["depth"].astype(np.float64))
    kept_out = 0.1
    first, second, shared = load(args.folder, models, kept_out)
    data, check = Data(first, shared, front), Data(second, shared, front)
    mean = torch.from_numpy(arrays["even_mean"].astype(np.float32))
    arrays |= identity_maps(args.folder, models, data, check, mean, kept_out)
    out = args.out or args.weights
    with writing(out) as aside, open(aside, "wb") as f:
        np.savez_compressed(f, **arrays)
    Readout(out)
    print(f"wrote {out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
