"""Train the readout of the expression on the renders of ``tools/readout_renders.py`` and write its weights.

``python tools/train_readout.py FOLDER -o assets/readout/expression.npz`` (``--models ict`` leaves the other model out)

A network of about 0.9 million weights: linear maps of whitened points and pixels, which begin as their ridge regression, and
convolutions over the frontal picture, with layers that join them. It predicts the mean and the difference of every pair of
mirror shapes and the logarithms of their standard deviations; the loss is the Gaussian likelihood, each term weighed by its
standard deviation so that what is hard to see is learned too (Seitzer et al. 2022, *On the Pitfalls of Heteroscedastic
Uncertainty Estimation*, β = 0.5), of the mean over a picture and its mirror image, as the network is used. A second head sees
the points only. Every sample is moved, relit and covered at random. The last tenth of each model's shards is kept out: the
standard deviations are scaled by shape so that they are right there. Each model's identity is read by ridge regression.
With ``--minutes`` training stops, and goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from morphsym.experiment.atomic import writing
from morphsym.faces import load_model
from morphsym.fitting.crop import CENTRE, PER_CM, SEEN, SIZE, STEADY, Frontal
from morphsym.fitting.detectors.mediapipe import _mirror_map, mirrored_scores
from morphsym.fitting.priors import identity_lengths
from morphsym.fitting.readout import Readout, channels, features, grey_of, halves

LAYERS = ((2, 24, 5, 2), (24, 40, 3, 2), (40, 40, 3, 1), (40, 72, 3, 2), (72, 72, 3, 1), (72, 96, 3, 2), (96, 24, 1, 1))
"""In, out, kernel, stride."""

WHITE = 160
"""Principal components of the points and scores that the network sees."""

PIXELS = 200
"""Principal components of the mean and of the difference of the picture's halves."""

EVEN = 100
"""Principal components of points and of pixels that the identity is read from."""

RIDGE_IDENTITY = 0.1

SOURCES = {
    "ict": str(Path(__file__).resolve().parents[2] / "shared/data/face_models/ict_facekit.npz"),
    "makehuman": "makehuman",
}
"""The models' files."""

RIDGE = 0.02
"""Of the linear maps that training starts from, by the number of samples; what is whitened has variance 1."""

BATCH = 32
SEED = 710_100
SIGN = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0, -1.0])[:, None]
"""How the six outputs change in the mirror image."""


class Network(nn.Module):
    """The network with batch normalisation and whitened features, which :func:`folded` takes out."""

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in LAYERS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in LAYERS)
        with torch.no_grad():
            size = self.look(torch.zeros(2, 2, SEEN, SEEN)).shape[1]
        self.image = nn.Linear(size, 128)
        self.points = nn.Linear(WHITE, 128)
        self.sketch = nn.Linear(2 * PIXELS, 128)
        self.joined = nn.Linear(3 * 128, 160)
        self.out = nn.Linear(160, 4 * pairs)
        self.alone, self.alone_out = nn.Linear(128, 96), nn.Linear(96, 2 * pairs)
        self.straight = nn.Linear(WHITE, 2 * pairs, bias=False)  # what is linear in the points
        self.linear = nn.Linear(2 * PIXELS, 2 * pairs, bias=False)  # and in the pixels
        nn.init.normal_(self.out.weight, std=0.01)
        self.drop = nn.Dropout(0.1)
        self.pairs = pairs

    def look(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return x.flatten(1)

    def forward(self, images: Tensor, points: Tensor, pixels: Tensor) -> Tensor:
        """``(B, 6, P)`` as :meth:`morphsym.fitting.readout.Readout.outputs`; ``points``, ``pixels`` whitened."""
        seen = self.drop(self.image(self.look(images)).relu())
        known = self.drop(self.points(points).relu())
        sketched = self.drop(self.sketch(pixels).relu())
        joined = self.joined(torch.cat([seen, known, sketched], 1)).relu()
        whole = self.out(joined).unflatten(1, (4, self.pairs))
        straight = (self.straight(points) + self.linear(pixels)).unflatten(1, (2, self.pairs))
        alone = self.alone_out(self.alone(known).relu()).unflatten(1, (2, self.pairs))
        return torch.cat([whole[:, :2] + straight, whole[:, 2:], alone], dim=1)


@dataclass(frozen=True)
class White:
    """How features and pixels are whitened."""

    mean: Tensor  # (F,)
    points: Tensor  # (F, WHITE)
    pixel_mean: Tensor  # (D,)
    even: Tensor  # (D / 2, PIXELS)
    odd: Tensor  # (D / 2, PIXELS)

    @classmethod
    def of(cls, data: Data) -> White:
        """By the principal components of all pictures and their mirror images."""
        mean, points = components(data.given.flatten(0, 1), WHITE)
        pixels = torch.cat([halves(data.plain(rows, 0)[0]) for rows in torch.arange(len(data)).split(500)])
        half = pixels.shape[1] // 2
        even_mean, even = components(pixels[:, :half], PIXELS)
        _, odd = components(torch.cat([pixels[:, half:], -pixels[:, half:]]), PIXELS)
        return cls(mean, points, torch.cat([even_mean, torch.zeros(half)]), even, odd)

    def __call__(self, images: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, WHITE)`` and ``(B, 2 PIXELS)``."""
        pixels = halves(images) - self.pixel_mean
        half = pixels.shape[1] // 2
        return (given - self.mean) @ self.points, torch.cat(
            [pixels[:, :half] @ self.even, pixels[:, half:] @ self.odd], 1
        )


def components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean ``(F,)`` of ``rows (N, F)`` and the map ``(F, count)`` to their leading principal components, of variance 1.

    Turning the head moves the points far more than any expression does; whitened, both count alike.
    """
    flat = rows.double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    return mean.float(), (vectors[:, -count:] / (values[-count:] + 1e-5).sqrt()).float()


@torch.no_grad()
def begin_linear(network: Network, data: Data, white: White) -> None:
    """The network's linear maps start as the ridge regression of means and differences on both."""
    rows, targets = [], []
    for flip in (0, 1):
        for part in torch.arange(len(data)).split(500):
            rows.append(torch.cat(white(*data.plain(part, flip)), 1))
            targets.append(data.target[flip, part].flatten(1))
    x, y = torch.cat(rows).double(), torch.cat(targets).double()
    network.out.bias[: 2 * network.pairs] = y.mean(0).float()
    found = torch.linalg.solve(x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1]), x.T @ (y - y.mean(0))).float()
    network.straight.weight.copy_(found[:WHITE].T)
    network.linear.weight.copy_(found[WHITE:].T)


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
    """Arrays as tensors, and batches of them."""

    def __init__(self, arrays: dict[str, np.ndarray], shared: dict[str, np.ndarray], front: Frontal) -> None:
        names, score_names = shared["names"].tolist(), shared["score_names"].tolist()
        left = [names.index(a) for a, _ in mirror_partner(names)]
        right = [names.index(b) for _, b in mirror_partner(names)]
        e = arrays["expression"]
        points = torch.from_numpy(arrays["points"])
        seen = [
            front(torch.from_numpy(grey_of(arrays["crop"][i : i + 500])), points[i : i + 500])
            for i in range(0, len(e), 500)
        ]
        self.seen = torch.cat(seen).half()
        swap = [score_names.index(n) for n in mirrored_scores(dict.fromkeys(score_names, 0.0))]
        other = arrays["points"][:, _mirror_map()] * np.float32([-1, 1]) + np.float32([SIZE, 0])
        self.given = torch.from_numpy(
            np.stack([features(arrays["points"], arrays["scores"]), features(other, arrays["scores"][:, swap])])
        )  # (2, N, F): the picture's and the mirror image's
        mean, difference = (e[:, left] + e[:, right]) / 2, e[:, left] - e[:, right]
        self.target = torch.from_numpy(np.stack([np.stack([mean, difference], 1), np.stack([mean, -difference], 1)]))

    def __len__(self) -> int:
        return len(self.seen)

    def plain(self, rows: Tensor, flip: int) -> tuple[Tensor, Tensor]:
        """Images and features as they are, or mirrored."""
        grey = self.seen[rows].float()
        return channels(grey.flip(2) if flip else grey), self.given[flip, rows]

    def varied(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures moved, turned, relit and covered, then their mirror images; features of both; targets of the pictures."""
        n = len(rows)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator) * (high - low) + low

        angle, scale = uniform(-0.015, 0.015), uniform(0.97, 1.03)
        shift, skew = uniform(-0.035, 0.035, 2), uniform(-0.02, 0.02)
        theta = torch.stack([
            torch.stack([scale * angle.cos(), skew - scale * angle.sin(), shift[:, 0]], -1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], -1),
        ], 1)  # fmt: skip
        grid = affine_grid(theta, [n, 1, SEEN, SEEN], align_corners=False)
        x = grid_sample(self.seen[rows, None].float(), grid, padding_mode="border", align_corners=False)[:, 0]
        fields = torch.nn.functional.interpolate(
            torch.randn(n, 1, 4, 4, generator=generator), size=(SEEN, SEEN), mode="bicubic", align_corners=False
        )[:, 0]
        x = x * torch.exp(fields * (uniform(-0.3, 0.25).clamp(min=0))[:, None, None])
        fine = torch.nn.functional.interpolate(
            torch.randn(n, 1, 30, 30, generator=generator), size=(SEEN, SEEN), mode="bilinear", align_corners=False
        )[:, 0]
        x = (
            x
            + fine * uniform(-8, 8).clamp(min=0)[:, None, None]
            + torch.randn(x.shape, generator=generator) * uniform(0, 5)[:, None, None]
        )
        y0, x0, h, w = (
            uniform(0, 1) * SEEN,
            uniform(0, 1) * SEEN,
            uniform(0.05, 0.3) * SEEN,
            uniform(0.05, 0.3) * SEEN,
        )
        steps = torch.arange(SEEN)
        inside = ((steps - y0[:, None]).abs() < h[:, None] / 2)[:, :, None] & (
            (steps - x0[:, None]).abs() < w[:, None] / 2
        )[:, None]
        covered = inside & (torch.rand(n, generator=generator) < 0.25)[:, None, None]
        x = torch.where(covered, uniform(0, 255)[:, None, None], x)
        seen = channels(x)
        given = self.given[:, rows]
        given = given + 0.02 * torch.randn(given.shape, generator=generator)
        return torch.cat([seen, seen.flip(3)]), given.flatten(0, 1), self.target[0, rows]


def identity_maps(
    folder: Path, models: list[str], data: Data, check: Data, white: White, kept_out: float
) -> dict[str, np.ndarray]:
    """Ridge regression of each model's identity on the mean of picture and mirror image; deviations on what was kept out."""
    points_mean, points = components(data.given.mean(0), EVEN)
    pixels = white.even[:, -EVEN:]
    out = {
        "identity.points_mean": points_mean.numpy(),
        "identity.points": points.half().numpy(),
        "identity.pixels": pixels.half().numpy(),
    }

    def seen(part: Data, rows: Tensor) -> Tensor:
        found = []
        for some in rows.split(500):
            even = (halves(part.plain(some, 0)[0]) - white.pixel_mean)[:, : len(pixels)]
            found.append(torch.cat([(part.given[:, some].mean(0) - points_mean) @ points, even @ pixels], 1))
        return torch.cat(found).double()

    first = {id(data): 0, id(check): 0}
    for name in models:
        paths = sorted(folder.glob(f"{name}_*.npz"))
        last = max(1, round(kept_out * len(paths)))
        parts = []
        for part, some in ((data, paths[:-last]), (check, paths[-last:])):
            truth = np.concatenate([np.load(p, allow_pickle=False)["identity"] for p in some])
            rows = torch.arange(first[id(part)], first[id(part)] + len(truth))
            first[id(part)] += len(truth)
            parts.append((seen(part, rows), torch.from_numpy(truth).double()))
        (x, y), (xk, yk) = parts
        mean = y.mean(0)
        w = torch.linalg.solve(x.T @ x + RIDGE_IDENTITY * len(x) * torch.eye(x.shape[1]), x.T @ (y - mean))
        sigma = (xk @ w + mean - yk).square().mean(0).sqrt()
        print(
            f"identity of {name}: {1 - float((sigma**2).sum() / (yk - mean).square().mean(0).sum()):.2f} of the variance",
            flush=True,
        )
        found = {"w": w.float().half(), "b": mean.float(), "sigma": sigma.float()}
        out |= {f"identity.{name}.{k}": v.numpy() for k, v in found.items()}
        out[f"identity.{name}.lengths"] = identity_lengths(load_model(SOURCES[name])).astype(np.float32)
    return out


def eight_bits(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The maps of pixels, which are most of the weights, in eight bits with a scale a row; the others as they are."""
    out = dict(arrays)
    for k in ("sketch.w", "linear.w", "image.w"):
        scale = np.abs(arrays[k].astype(np.float32)).max(axis=1) / 127
        out[k] = np.round(arrays[k].astype(np.float32) / scale[:, None]).astype(np.int8)
        out[f"{k}.scale"] = scale.astype(np.float32)
    return out


def averaged(out: Tensor) -> Tensor:
    """``(B, 6, P)`` of outputs of pictures and then their mirror images ``(2B, 6, P)``: the mean, sides exchanged."""
    here, there = out.float().chunk(2)
    joined = (here + there * SIGN) / 2
    sigma = ((2 * here[:, 2:4].clamp(-5, 1)).exp() + (2 * there[:, 2:4].clamp(-5, 1)).exp()).div(2).log() / 2
    return torch.cat([joined[:, :2], sigma, joined[:, 4:]], dim=1)


def loss_of(out: Tensor, target: Tensor) -> Tensor:
    """β-weighted Gaussian likelihood of means and differences, and squares for the head that sees points alone."""
    log_sigma = out[:, 2:4]
    error = out[:, :2] - target
    nll = 0.5 * (error / log_sigma.exp()) ** 2 + log_sigma
    whole = (nll * log_sigma.detach().exp() * torch.tensor([0.6, 1.4])[:, None]).mean()
    return whole + 2.0 * ((out[:, 4:] - target) ** 2).mean()


def train(
    data: Data, epochs: int, rate: float, check: Data, state: Path, minutes: float
) -> tuple[Network, White] | None:
    """The trained network and how its inputs are whitened; None when the minutes were over before. ``state`` goes on."""
    end = time.monotonic() + 60 * minutes
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    white = White.of(data)
    network = Network(data.target.shape[-1]).to(memory_format=torch.channels_last)
    begin_linear(network, data, white)
    print(f"linear: differences r {validated(network, check, white):.3f}", flush=True)
    steps = max(1, len(data) // BATCH)
    careful = [network.straight.weight, network.linear.weight]  # which begin where they are good already
    others = [p for p in network.parameters() if all(p is not c for c in careful)]
    optimiser = torch.optim.AdamW([{"params": others}, {"params": careful}], weight_decay=0.02)
    rates = [rate, rate / 20]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, epochs * steps, pct_start=0.15)
    done = 0
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        done = kept["done"]
        for part, name in ((network, "network"), (optimiser, "optimiser"), (schedule, "schedule")):
            part.load_state_dict(kept[name])
        generator.set_state(kept["generator"])
    for epoch in range(done, epochs):
        if time.monotonic() > end:
            return None
        network.train()
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(data), generator=generator)
        for i in range(steps):
            images, given, target = data.varied(order[i * BATCH : (i + 1) * BATCH], generator)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = network(images.contiguous(memory_format=torch.channels_last), *white(images, given))
            loss = loss_of(averaged(out), target)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        line = f"epoch {epoch + 1}: loss {total / steps:.4f}, {time.perf_counter() - start:.0f} s"
        torch.save({
            "done": epoch + 1, "network": network.state_dict(), "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(), "generator": generator.get_state(),
        }, state)  # fmt: skip
        if epoch % 4 == 3 or epoch == epochs - 1:
            line += f"; kept out: differences r {validated(network, check, white):.3f}"
        print(line, flush=True)
    return network.eval(), white


@torch.no_grad()
def both_ways(network: Network, data: Data, white: White) -> Tensor:
    """``(N, 6, P)``: outputs averaged over picture and mirror image."""
    network.eval()
    found = []
    for rows in torch.arange(len(data)).split(128):
        images, given = (torch.cat(x) for x in zip(*(data.plain(rows, flip) for flip in (0, 1)), strict=True))
        found.append(averaged(network(images, *white(images, given))))
    return torch.cat(found)


def validated(network: Network, check: Data, white: White) -> float:
    """Mean over the shapes of the correlation of found and true differences."""
    out = both_ways(network, check, white)
    return float(correlation(out[:, 1], check.target[0, :, 1]).nanmean())


def correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))


def calibrated(out: Tensor, target: Tensor) -> np.ndarray:
    """``(4, P)``: factors of the standard deviations, robust (68 % of errors lie within) and by the root mean square, the larger;
    and the standard deviations of the points' own answers from the whole network's."""
    z = (out[:, :2] - target).abs() / out[:, 2:4].exp()
    factor = torch.maximum(z.quantile(0.683, dim=0), z.clamp(max=6).square().mean(0).sqrt())
    apart = (out[:, 4:] - out[:, :2]).std(0).clamp(min=0.01)
    return torch.cat([factor, apart]).numpy()


def folded(network: Network, white: White) -> dict[str, np.ndarray]:
    """The weights for inference, batch normalisation and whitening folded in."""
    out = {}
    for i, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True)):
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        out[f"conv{i}.w"] = conv.weight * gain[:, None, None, None]
        out[f"conv{i}.b"] = norm.bias - norm.running_mean * gain
    for name in ("image", "joined", "out", "alone", "alone_out"):
        layer = getattr(network, name)
        out[f"{name}.w"], out[f"{name}.b"] = layer.weight, layer.bias
    out["points.w"], out["points.b"] = network.points.weight, network.points.bias
    out["straight.w"], out["white"] = network.straight.weight, white.points
    both = torch.block_diag(white.even, white.odd).T
    out["sketch.w"], out["sketch.b"] = network.sketch.weight @ both, network.sketch.bias
    out["linear.w"] = network.linear.weight @ both
    return {k: v.detach().contiguous().numpy().astype(np.float16) for k, v in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="shards of tools/readout_renders.py")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["ict", "makehuman"])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="train for so long; the same command goes on"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    training, kept, shared = load(args.folder, args.models, 0.1)
    places, depth = mean_surface()
    front = Frontal(places, depth)
    data, check = Data(training, shared, front), Data(kept, shared, front)
    print(f"{len(data)} renders to train on, {len(check)} kept out", flush=True)
    trained = train(data, args.epochs, args.rate, check, args.out.with_suffix(".state"), args.minutes)
    if trained is None:
        print("not finished: run the same command again")
        return
    network, white = trained
    out = both_ways(network, check, white)
    target = check.target[0]
    pairs = mirror_partner(shared["names"].tolist())
    for (left, _), r, e, s in zip(
        pairs,
        correlation(out[:, 1], target[:, 1]),
        (out[:, 1] - target[:, 1]).square().mean(0).sqrt(),
        target[:, 1].std(0),
        strict=True,
    ):
        print(f"  {left}: difference r {r:.3f}, error {e:.3f}, true {s:.3f}")
    arrays = {
        **eight_bits(folded(network, white)), **identity_maps(args.folder, args.models, data, check, white, 0.1),
        "models": np.array(args.models), "mean": white.mean.numpy(), "halves_mean": white.pixel_mean.numpy(),
        "places": places.astype(np.float32), "depth": depth.astype(np.float16), "calibration": calibrated(out, target),
        "strides": np.array([s for *_, s in LAYERS]), "score_names": shared["score_names"],
        "left": np.array([a for a, _ in pairs]), "right": np.array([b for _, b in pairs]),
        "trained_on": np.array(f"{len(data)} renders of {', '.join(args.models)}"),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with writing(args.out) as aside, open(aside, "wb") as f:
        np.savez_compressed(f, **arrays)
    written = Readout(args.out)
    images, given = check.plain(torch.arange(16), 0)
    with torch.no_grad():
        wanted = network(images, *white(images, given))
    off = float((written.outputs(images, given) - wanted)[:, :2].abs().max())
    if not off < 0.02:
        raise SystemExit(f"the written weights give other answers than the network that was trained: {off:.3f} off")
    print(f"wrote {args.out}: {args.out.stat().st_size} bytes, {off:.4f} off by rounding")


if __name__ == "__main__":
    main()
