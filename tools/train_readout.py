"""Train the readout of the expression on the renders of ``tools/readout_renders.py`` and write its weights.

``python tools/train_readout.py FOLDER -o assets/readout/expression.npz`` (``--models ict`` leaves the other model out)

First the ridge regression of means and differences on the points and on the maps of :mod:`morphsym.fitting.gradients`
(``tools/readout_data.py``), then a network of 0.8 million weights for what is left: convolutions over the maps of one side
laid over those of the other, mirrored, so that every layer can compare them. It predicts the mean and the difference of every
pair of mirror shapes and the logarithms of their standard deviations; the loss is the Gaussian likelihood, each term weighed
by its standard deviation so that what is hard to see is learned too (Seitzer et al. 2022, *On the Pitfalls of Heteroscedastic
Uncertainty Estimation*, β = 0.5), of the mean over a picture and its mirror image, as the network is used. A second head sees
the points only. Every picture comes as it is and ``--versions`` times moved, relit and covered at random. The last tenth of
each model's shards is kept out: the standard deviations are scaled by shape so that they are right there. Each model's
identity: ``tools/readout_identity.py``. With ``--minutes`` training stops, and goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from readout_data import WHITE, Data, Linear, load, mean_surface, mirror_partner
from readout_identity import identity_maps, in_eight_bits
from torch import Tensor, nn

from morphsym.experiment.atomic import writing
from morphsym.fitting.crop import SEEN, Frontal
from morphsym.fitting.gradients import DIRECTIONS
from morphsym.fitting.readout import Readout, sides

LAYERS = ((2 * DIRECTIONS, 48, 3, 2), (48, 48, 3, 1), (48, 96, 3, 2), (96, 96, 3, 1), (96, 32, 1, 1))
"""In, out, kernel, stride. What leaves a layer in the shape in which it came is added to it."""

REACH = 26
"""Columns of a side's maps, of 2 pixels: 22 to the middle of the face, and 4 of the other side."""

RIDGE = 0.02
"""Of the linear maps, by the number of samples; what is whitened has variance 1."""

BATCH = 64
SEED = 710_100
SIGN = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0, -1.0])[:, None]
"""How the six outputs change in the mirror image."""


class Network(nn.Module):
    """The network with batch normalisation, which :func:`folded` takes out; the linear part is added to what it says."""

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, k, s, k // 2, bias=False) for i, o, k, s in LAYERS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in LAYERS)
        with torch.no_grad():
            size = self.look(torch.zeros(2, 2 * DIRECTIONS, SEEN // 2, REACH)).shape[1]
        self.image = nn.Linear(size, 192)
        self.points = nn.Linear(WHITE, 128)
        self.joined = nn.Linear(192 + 128, 192)
        self.out = nn.Linear(192, 4 * pairs)
        self.alone, self.alone_out = nn.Linear(128, 96), nn.Linear(96, 2 * pairs)
        nn.init.normal_(self.out.weight, std=0.01)
        self.drop = nn.Dropout(0.1)
        self.pairs = pairs

    def look(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(x)).relu()
            x = x + y if x.shape == y.shape else y
        return x.flatten(1)

    def forward(self, fine: Tensor, linear: Tensor, white: Tensor) -> Tensor:
        """``(2 B, 6, P)`` as :meth:`morphsym.fitting.readout.Readout.outputs`; ``linear`` and ``white`` of :class:`Linear`."""
        x = sides(fine, REACH).contiguous(memory_format=torch.channels_last)
        seen = self.drop(self.image(self.look(x)).relu())
        known = self.drop(self.points(white.flatten(0, 1)).relu())
        joined = self.drop(self.joined(torch.cat([seen, known], 1)).relu())
        whole = self.out(joined).unflatten(1, (4, self.pairs)).float()
        alone = self.alone_out(self.alone(known).relu()).unflatten(1, (2, self.pairs)).float()
        straight = torch.cat([linear, linear * SIGN[:2]])
        return torch.cat([whole[:, :2] + straight, whole[:, 2:], alone], dim=1)


def eight_bits(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Matrices and convolutions, which are most of the weights, in eight bits with a scale a row; the others as they are."""
    out = dict(arrays)
    for k in arrays:
        if k in ("even", "odd") or (k.endswith(".w") and k != "white"):
            out |= in_eight_bits(k, arrays[k].astype(np.float32))
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
    data: Data,
    linear: Linear,
    epochs: int,
    rate: float,
    check: Data,
    state: Path,
    minutes: float,
    before: Path | None,
    seed: int,
) -> Network | None:
    """The trained network; None when the minutes were over before. ``state`` goes on, ``before`` only lends its network."""
    end = time.monotonic() + 60 * minutes
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Network(data.target.shape[-1]).to(memory_format=torch.channels_last)
    straight = [
        torch.cat([linear(coarse[rows].float(), data.given[:, rows])[0] for rows in data.rows()])
        for coarse in data.coarse
    ]
    steps = max(1, len(data) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs * steps, pct_start=0.15)
    done = 0
    if before is not None:
        network.load_state_dict(torch.load(before, weights_only=True)["network"])
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
            rows = order[i * BATCH : (i + 1) * BATCH]
            version = int(torch.randint(len(data.fine), (1,), generator=generator))
            given = data.given[:, rows]
            white = (given + 0.02 * torch.randn(given.shape, generator=generator) - linear.mean) @ linear.white
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = network(data.fine[version][rows].float(), straight[version][rows], white)
            loss = loss_of(averaged(out), data.target[rows])
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
            line += f"; kept out: differences r {validated(network, check, linear):.3f}"
        print(line, flush=True)
    return network.eval()


@torch.no_grad()
def both_ways(network: Network, data: Data, linear: Linear) -> Tensor:
    """``(N, 6, P)``: outputs averaged over picture and mirror image."""
    network.eval()
    return torch.cat([
        averaged(network(data.fine[0][rows].float(), *linear(data.coarse[0][rows].float(), data.given[:, rows])))
        for rows in data.rows(128)
    ])  # fmt: skip


def validated(network: Network, check: Data, linear: Linear) -> float:
    """Mean over the shapes of the correlation of found and true differences."""
    out = both_ways(network, check, linear)
    return float(correlation(out[:, 1], check.target[:, 1]).nanmean())


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


def folded(network: Network, linear: Linear) -> dict[str, np.ndarray]:
    """The weights for inference, batch normalisation folded in."""
    out = {}
    for i, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True)):
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        out[f"conv{i}.w"] = conv.weight * gain[:, None, None, None]
        out[f"conv{i}.b"] = norm.bias - norm.running_mean * gain
    for name in ("image", "points", "joined", "out", "alone", "alone_out"):
        layer = getattr(network, name)
        out[f"{name}.w"], out[f"{name}.b"] = layer.weight, layer.bias
    for name in ("white", "points_even", "points_odd", "even", "odd"):
        out[name] = getattr(linear, name)
    half = {k: v.detach().contiguous().numpy().astype(np.float16) for k, v in out.items()}
    return half | {k: getattr(linear, k).numpy() for k in ("mean", "even_mean", "means")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="shards of tools/readout_renders.py")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["ict", "makehuman"])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="train for so long; the same command goes on"
    )
    parser.add_argument("--start", type=Path, help="the .state of another training, whose network is trained further")
    parser.add_argument("--seed", type=int, default=SEED, help="of the order, and of what is varied")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--versions", type=int, default=2, help="varied at random, of every picture")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    training, kept, shared = load(args.folder, args.models, 0.1)
    places, depth = mean_surface()
    front = Frontal(places, depth)
    data, check = Data(training, shared, front, args.versions, args.seed), Data(kept, shared, front)
    print(f"{len(data)} renders to train on, {len(check)} kept out", flush=True)
    linear = Linear.of(data, RIDGE)
    straight = torch.cat([linear(check.coarse[0][r].float(), check.given[:, r])[0] for r in check.rows()])
    print(f"linear: differences r {float(correlation(straight[:, 1], check.target[:, 1]).nanmean()):.3f}", flush=True)
    network = train(
        data, linear, args.epochs, args.rate, check, args.out.with_suffix(".state"), args.minutes, args.start, args.seed
    )
    if network is None:
        print("not finished: run the same command again")
        return
    out, target = both_ways(network, check, linear), check.target
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
        **eight_bits(folded(network, linear)),
        **identity_maps(args.folder, args.models, data, check, linear.even_mean, 0.1), "models": np.array(args.models),
        "places": places.astype(np.float32), "depth": depth.astype(np.float16), "calibration": calibrated(out, target),
        "strides": np.array([s for *_, s in LAYERS]), "reach": np.array(REACH), "score_names": shared["score_names"],
        "left": np.array([a for a, _ in pairs]), "right": np.array([b for _, b in pairs]),
        "trained_on": np.array(f"{len(data)} renders of {', '.join(args.models)}"),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with writing(args.out) as aside, open(aside, "wb") as f:
        np.savez_compressed(f, **arrays)
    written = Readout(args.out)
    with torch.no_grad():
        found = averaged(
            written.outputs(check.fine[0][:16].float(), check.coarse[0][:16].float(), check.given[:, :16]).flatten(0, 1)
        )
    off = float((found - out[:16])[:, :2].abs().max())
    if not off < 0.02:
        raise SystemExit(f"the written weights give other answers than the network that was trained: {off:.3f} off")
    print(f"wrote {args.out}: {args.out.stat().st_size} bytes, {off:.4f} off by rounding")


if __name__ == "__main__":
    main()
