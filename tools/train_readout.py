"""Train the readout of the expression on the renders of ``tools/readout_renders.py`` and write its weights.

``python tools/train_readout.py FOLDER -o assets/readout/expression.npz`` (``--models ict`` leaves the other model out)

A network of about half a million weights: convolutions over the middle of the crop, a layer over MediaPipe's points and
scores, both joined. It predicts the mean and the difference of every pair of mirror shapes and the logarithms of their
standard deviations; the loss is the Gaussian likelihood, each term weighed by its standard deviation so that what is hard
to see is learned too (Seitzer et al. 2022, *On the Pitfalls of Heteroscedastic Uncertainty Estimation*, β = 0.5). A second
head sees the points only. Every sample is seen mirrored half of the time, moved, turned, scaled, relit and covered at
random. The last tenth of each model's shards is kept out: the standard deviations are scaled by shape so that they are
right there, for the mean of picture and mirror image, as it is used. With ``--minutes`` training stops, and goes on when the
same command is given again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from morphsym.experiment.atomic import writing
from morphsym.fitting.crop import SIZE
from morphsym.fitting.detectors.mediapipe import _mirror_map, mirrored_scores
from morphsym.fitting.readout import SEEN, Readout, channels, features

LAYERS = ((2, 24, 5, 2), (24, 40, 3, 2), (40, 40, 3, 1), (40, 72, 3, 2), (72, 72, 3, 1), (72, 96, 3, 2), (96, 24, 1, 1))
"""In, out, kernel, stride."""

BATCH = 128
SEED = 710_100


class Network(nn.Module):
    """The network with batch normalisation, which :func:`folded` takes out."""

    def __init__(self, given: int, pairs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in LAYERS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in LAYERS)
        with torch.no_grad():
            size = self.look(torch.zeros(2, 2, SEEN, SEEN)).shape[1]
        self.image = nn.Linear(size, 128)
        self.points = nn.Linear(given, 128)
        self.joined = nn.Linear(256, 128)
        self.out = nn.Linear(128, 4 * pairs)
        self.alone, self.alone_out = nn.Linear(128, 96), nn.Linear(96, 2 * pairs)
        self.drop = nn.Dropout(0.1)
        self.pairs = pairs

    def look(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return x.flatten(1)

    def forward(self, images: Tensor, given: Tensor) -> Tensor:
        """``(B, 6, P)`` as :meth:`morphsym.fitting.readout.Readout.outputs`."""
        seen = self.drop(self.image(self.look(images)).relu())
        known = self.drop(self.points(given).relu())
        joined = self.joined(torch.cat([seen, known], 1)).relu()
        whole = self.out(joined).unflatten(1, (4, self.pairs))
        return torch.cat([whole, self.alone_out(self.alone(known).relu()).unflatten(1, (2, self.pairs))], dim=1)


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


class Data:
    """Arrays as tensors, and batches of them."""

    def __init__(self, arrays: dict[str, np.ndarray], shared: dict[str, np.ndarray]) -> None:
        names, score_names = shared["names"].tolist(), shared["score_names"].tolist()
        left = [names.index(a) for a, _ in mirror_partner(names)]
        right = [names.index(b) for _, b in mirror_partner(names)]
        e = arrays["expression"]
        self.crop = torch.from_numpy(arrays["crop"])
        swap = [score_names.index(n) for n in mirrored_scores(dict.fromkeys(score_names, 0.0))]
        other = arrays["points"][:, _mirror_map()] * np.float32([-1, 1]) + np.float32([SIZE, 0])
        self.given = torch.from_numpy(
            np.stack([features(arrays["points"], arrays["scores"]), features(other, arrays["scores"][:, swap])])
        )  # (2, N, F): the picture's and the mirror image's
        mean, difference = (e[:, left] + e[:, right]) / 2, e[:, left] - e[:, right]
        self.target = torch.from_numpy(np.stack([np.stack([mean, difference], 1), np.stack([mean, -difference], 1)]))

    def __len__(self) -> int:
        return len(self.crop)

    def plain(self, rows: Tensor, flip: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, features and targets as they are, or mirrored."""
        edge = (SIZE - SEEN) // 2
        grey = self.crop[rows, edge : edge + SEEN, edge : edge + SEEN].float() @ torch.tensor([0.299, 0.587, 0.114])
        return channels(grey.flip(2) if flip else grey), self.given[flip, rows], self.target[flip, rows]

    def varied(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The same moved, turned, relit, covered, and mirrored half of the time."""
        n = len(rows)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator) * (high - low) + low

        colour = torch.tensor([0.299, 0.587, 0.114]) * torch.exp(0.4 * torch.randn(n, 3, generator=generator))
        grey = (self.crop[rows].float() * (colour / colour.sum(1, keepdim=True))[:, None, None]).sum(-1)
        flip = torch.rand(n, generator=generator) < 0.5
        angle, scale = uniform(-0.07, 0.07), uniform(0.95, 1.05) * SEEN / SIZE
        shift = uniform(-0.06, 0.06, 2)
        sign = torch.where(flip, -1.0, 1.0)
        theta = torch.stack([
            torch.stack([sign * scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], -1),
            torch.stack([sign * scale * angle.sin(), scale * angle.cos(), shift[:, 1]], -1),
        ], 1)  # fmt: skip
        x = grid_sample(
            grey[:, None], affine_grid(theta, [n, 1, SEEN, SEEN], align_corners=False), align_corners=False
        )[:, 0]
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
        which = flip.long()
        given = self.given[which, rows]
        given = given + 0.02 * torch.randn(given.shape, generator=generator)
        return channels(x), given, self.target[which, rows]


def loss_of(out: Tensor, target: Tensor) -> Tensor:
    """β-weighted Gaussian likelihood of means and differences, and squares for the head that sees points alone."""
    log_sigma = out[:, 2:4].clamp(-5, 1)
    error = out[:, :2] - target
    nll = 0.5 * (error / log_sigma.exp()) ** 2 + log_sigma
    whole = (nll * log_sigma.detach().exp()).mean()
    return whole + 2.0 * ((out[:, 4:] - target) ** 2).mean()


def train(
    data: Data, epochs: int, rate: float, check: Data, state: Path, minutes: float
) -> tuple[Network, Tensor, Tensor] | None:
    """The trained network, and the mean and spread of its features; None when the minutes were over before. ``state`` goes on."""
    end = time.monotonic() + 60 * minutes
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    mean, spread = data.given.mean((0, 1)), data.given.std((0, 1)).clamp(min=0.02)
    network = Network(data.given.shape[-1], data.target.shape[-1]).to(memory_format=torch.channels_last)
    steps = max(1, len(data) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs * steps, pct_start=0.15)
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
                out = network(images.contiguous(memory_format=torch.channels_last), (given - mean) / spread)
            loss = loss_of(out.float(), target)
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
            out = both_ways(network, check, mean, spread)
            line += f"; kept out: differences r {correlation(out[:, 1], check.target[0, :, 1]).nanmean():.3f} (mean of shapes)"
        print(line, flush=True)
    return network.eval(), mean, spread


@torch.no_grad()
def both_ways(network: Network, data: Data, mean: Tensor, spread: Tensor) -> Tensor:
    """``(N, 6, P)``: outputs averaged over picture and mirror image; log standard deviations as the root of the mean square."""
    network.eval()
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0, -1.0])[:, None]
    found = []
    for rows in torch.arange(len(data)).split(256):
        two = []
        for flip in (0, 1):
            images, given, _ = data.plain(rows, flip)
            out = network(images, (given - mean) / spread)
            two.append(out * sign if flip else out)
        joined = (two[0] + two[1]) / 2
        joined[:, 2:4] = torch.stack([(2 * t[:, 2:4].clamp(-5, 1)).exp() for t in two]).mean(0).log() / 2
        found.append(joined)
    return torch.cat(found)


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


def folded(network: Network) -> dict[str, np.ndarray]:
    """The weights for inference, batch normalisation folded into the convolutions."""
    out = {}
    for i, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True)):
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        out[f"conv{i}.w"] = conv.weight * gain[:, None, None, None]
        out[f"conv{i}.b"] = norm.bias - norm.running_mean * gain
    for name in ("image", "points", "joined", "out", "alone", "alone_out"):
        layer = getattr(network, name)
        out[f"{name}.w"], out[f"{name}.b"] = layer.weight, layer.bias
    return {k: v.detach().contiguous().numpy().astype(np.float16) for k, v in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="shards of tools/readout_renders.py")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["ict", "makehuman"])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="train for so long; the same command goes on"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    training, kept, shared = load(args.folder, args.models, 0.1)
    data, check = Data(training, shared), Data(kept, shared)
    print(f"{len(data)} renders to train on, {len(check)} kept out", flush=True)
    trained = train(data, args.epochs, args.rate, check, args.out.with_suffix(".state"), args.minutes)
    if trained is None:
        print("not finished: run the same command again")
        return
    network, mean, spread = trained
    out = both_ways(network, check, mean, spread)
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
        **folded(network), "mean": mean.numpy(), "spread": spread.numpy(), "calibration": calibrated(out, target),
        "strides": np.array([s for *_, s in LAYERS]), "score_names": shared["score_names"],
        "left": np.array([a for a, _ in pairs]), "right": np.array([b for _, b in pairs]),
        "trained_on": np.array(f"{len(data)} renders of {', '.join(args.models)}"),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with writing(args.out) as aside, open(aside, "wb") as f:
        np.savez_compressed(f, **arrays)
    written = Readout(args.out)
    images, given, _ = check.plain(torch.arange(16), 0)
    with torch.no_grad():
        wanted = network(images, (given - mean) / spread)
    off = float((written.outputs(images, given) - wanted)[:, :2].abs().max())
    if not off < 0.02:
        raise SystemExit(f"the written weights give other answers than the network that was trained: {off:.3f} off")
    print(f"wrote {args.out}: {args.out.stat().st_size} bytes, {off:.4f} off by rounding")


if __name__ == "__main__":
    main()
