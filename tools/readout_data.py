"""The renders of ``tools/readout_renders.py`` as ``tools/train_readout.py`` trains on them: pictures, gradients, targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from morphsym.faces import load_model
from morphsym.fitting.crop import CENTRE, PER_CM, SEEN, SIZE, STEADY, Frontal
from morphsym.fitting.detectors.mediapipe import _mirror_map, mirrored_scores
from morphsym.fitting.gradients import halves, oriented
from morphsym.fitting.readout import features, grey_of

WHITE = 160
"""Principal components of the points and scores that the network sees."""

STEP = 500
"""Pictures that are worked on together."""


def load(
    folder: Path, models: list[str], kept_out: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and kept-out arrays, and what they share: names of scores and shapes."""
    parts: tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]] = ([], [])
    shared: dict[str, np.ndarray] = {}
    for model in models:
        paths = sorted(folder.glob(f"{model}_*.npz"))
        if len(paths) < 2:
            raise SystemExit(
                f"expected at least two shards {model}_*.npz in {folder}; run tools/readout_renders.py first"
            )
        last = max(1, round(kept_out * len(paths)))
        for i, path in enumerate(paths):
            with np.load(path, allow_pickle=False) as z:
                names = z["names"].tolist()
                shared = shared or {"names": np.array(names[:66]), "score_names": z["score_names"]}
                at = [names.index(n) for n in shared["names"].tolist()]
                row = {
                    "crop": z["crop"],
                    "points": z["points"],
                    "scores": z["scores"],
                    "expression": z["expression"][:, at],
                }
                parts[i >= len(paths) - last].append(row)
    whole = [{k: np.concatenate([r[k] for r in rows]) for k in rows[0]} for rows in parts]
    return whole[0], whole[1], shared


def mirror_partner(names: list[str]) -> list[tuple[str, str]]:
    """Left shape and its mirror partner, for every left shape. ``jawLeft`` and ``mouthLeft`` are directions."""
    pairs = []
    for n in names:
        if n.endswith(".left"):
            stem = n.removesuffix(".left")
            swap = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
            pairs.append((n, swap.get(stem, stem) + ".right"))
        elif n.endswith("Left"):
            pairs.append((n, n.removesuffix("Left") + "Right"))
    return pairs


def mean_surface() -> tuple[np.ndarray, np.ndarray]:
    """``places (S, 3)`` and ``depth (SEEN, SEEN)`` of :class:`Frontal`: the bundled head's mean face, by MediaPipe's points."""
    model = load_model("makehuman")
    points = model.embed(model.mean[None], model.landmarks478)[0].numpy().astype(np.float64)[:468] * [1, -1, 1]
    points -= points[[33, 133, 362, 263]].mean(axis=0)
    points = (points + points[_mirror_map()[:468]] * [-1, 1, 1]) / 2
    scale = 4.31 / abs(points[33, 0])  # as wide as the crop's mean face
    points *= scale
    steps = (np.arange(SEEN) + 0.5 - SEEN / 2) / PER_CM
    grid = np.stack(np.meshgrid(steps + CENTRE[0], steps + CENTRE[1]), -1).reshape(-1, 2)
    smooth = RBFInterpolator(points[:, :2], points[:, 2], smoothing=0.5, neighbors=None)
    depth = np.clip(smooth(grid), -7, 4).reshape(SEEN, SEEN)
    return points[list(STEADY)], (depth + depth[:, ::-1]) / 2


class Data:
    """Arrays as tensors, with the maps of every picture's gradients as it is and ``versions`` more times, varied at random."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        shared: dict[str, np.ndarray],
        front: Frontal,
        versions: int = 0,
        seed: int = 0,
    ) -> None:
        names, score_names = shared["names"].tolist(), shared["score_names"].tolist()
        left = [names.index(a) for a, _ in mirror_partner(names)]
        right = [names.index(b) for _, b in mirror_partner(names)]
        e = arrays["expression"]
        points = torch.from_numpy(arrays["points"])
        self.seen = torch.cat([
            front(torch.from_numpy(grey_of(arrays["crop"][i : i + STEP])), points[i : i + STEP]).half()
            for i in range(0, len(e), STEP)
        ])  # fmt: skip
        swap = [score_names.index(n) for n in mirrored_scores(dict.fromkeys(score_names, 0.0))]
        other = arrays["points"][:, _mirror_map()] * np.float32([-1, 1]) + np.float32([SIZE, 0])
        self.given = torch.from_numpy(
            np.stack([features(arrays["points"], arrays["scores"]), features(other, arrays["scores"][:, swap])])
        )  # (2, N, F): the picture's and the mirror image's
        self.target = torch.from_numpy(
            np.stack([(e[:, left] + e[:, right]) / 2, e[:, left] - e[:, right]], 1)
        )  # (N, 2, P)
        generator = torch.Generator().manual_seed(seed)
        self.fine, self.coarse = [], []  # of every version: (N, DIRECTIONS, H, W) half
        for version in range(versions + 1):
            maps = [
                [m.half() for m in oriented(varied(x, generator) if version else x)]
                for x in (self.seen[rows].float() for rows in self.rows())
            ]
            self.fine.append(torch.cat([fine for fine, _ in maps]))
            self.coarse.append(torch.cat([coarse for _, coarse in maps]))

    def __len__(self) -> int:
        return len(self.seen)

    def rows(self, step: int = STEP) -> tuple[Tensor, ...]:
        """All rows, some at a time."""
        return torch.arange(len(self)).split(step)


def varied(x: Tensor, generator: torch.Generator) -> Tensor:
    """Frontal pictures ``(B, SEEN, SEEN)`` moved, turned, relit and covered at random."""
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle, scale = uniform(-0.015, 0.015), uniform(0.97, 1.03)
    shift, skew = uniform(-0.03, 0.03, 2), uniform(-0.02, 0.02)
    theta = torch.stack([
        torch.stack([scale * angle.cos(), skew - scale * angle.sin(), shift[:, 0]], -1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], -1),
    ], 1)  # fmt: skip
    grid = affine_grid(theta, [n, 1, SEEN, SEEN], align_corners=False)
    x = grid_sample(x[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    light = interpolate(
        torch.randn(n, 1, 4, 4, generator=generator), size=(SEEN, SEEN), mode="bicubic", align_corners=False
    )
    x = x * torch.exp(light[:, 0] * uniform(-0.3, 0.25).clamp(min=0)[:, None, None])
    x = x + torch.randn(x.shape, generator=generator) * uniform(0, 5)[:, None, None]
    y0, x0 = uniform(0, 1) * SEEN, uniform(0, 1) * SEEN
    h, w = uniform(0.05, 0.25) * SEEN, uniform(0.05, 0.25) * SEEN
    steps = torch.arange(SEEN)
    high, wide = (steps - y0[:, None]).abs() < h[:, None] / 2, (steps - x0[:, None]).abs() < w[:, None] / 2
    covered = high[:, :, None] & wide[:, None] & (torch.rand(n, generator=generator) < 0.15)[:, None, None]
    return torch.where(covered, uniform(0, 255)[:, None, None], x)


@dataclass(frozen=True)
class Linear:
    """What is linear in the points, whitened, and in the coarse maps: the start of everything, by ridge regression.

    Means are read from what does not change in the mirror image, differences from what changes its sign.
    """

    mean: Tensor  # (F,) of the points and scores
    white: Tensor  # (F, WHITE)
    even_mean: Tensor  # (D,)
    points_even: Tensor  # (WHITE, P)
    points_odd: Tensor
    even: Tensor  # (D, P)
    odd: Tensor
    means: Tensor  # (P,)

    @classmethod
    def of(cls, data: Data, ridge: float) -> Linear:
        """By all versions of all pictures; ``ridge`` in variances of a picture's maps."""
        mean, white = components(data.given.flatten(0, 1), WHITE)
        even_mean = torch.stack([halves(data.coarse[0][rows].float())[0].sum(0) for rows in data.rows()]).sum(0) / len(
            data
        )
        means = data.target[:, 0].mean(0)
        spread = halves(data.coarse[0][:STEP].float())[1].std(0).mean()
        here: list[Tensor] = [torch.zeros(()), torch.zeros(())]
        there: list[Tensor] = [torch.zeros(()), torch.zeros(())]
        for coarse in data.coarse:
            for rows in data.rows():
                maps, given = halves(coarse[rows].float()), (data.given[:, rows] - mean) @ white
                for k, (points, pixels) in enumerate((
                    ((given[0] + given[1]) / 2, maps[0] - even_mean), ((given[0] - given[1]) / 2, maps[1]),
                )):  # fmt: skip
                    x = torch.cat([points, pixels / spread], 1)
                    here[k] = here[k] + x.T @ x
                    there[k] = there[k] + x.T @ (data.target[rows, k] - (means if k == 0 else 0))
        count = len(data) * len(data.coarse)
        found = [
            torch.linalg.solve(a.double() + ridge * count * torch.eye(len(a)), b.double()).float()
            for a, b in zip(here, there, strict=True)
        ]
        return cls(
            mean, white, even_mean, found[0][:WHITE], found[1][:WHITE], found[0][WHITE:] / spread,
            found[1][WHITE:] / spread, means,
        )  # fmt: skip

    def __call__(self, coarse: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 2, P)`` means and differences, and the whitened points ``(2, B, WHITE)``, of maps and ``given (2, B, F)``."""
        even, odd = halves(coarse)
        white = (given - self.mean) @ self.white
        means = (white[0] + white[1]) / 2 @ self.points_even + (even - self.even_mean) @ self.even + self.means
        return torch.stack([means, (white[0] - white[1]) / 2 @ self.points_odd + odd @ self.odd], 1), white


def components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean ``(F,)`` of ``rows (N, F)`` and the map ``(F, count)`` to their leading principal components, of variance 1.

    Turning the head moves the points far more than any expression does; whitened, both count alike.
    """
    flat = rows.double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    return mean.float(), (vectors[:, -count:] / (values[-count:] + 1e-5).sqrt()).float()
