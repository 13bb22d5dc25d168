"""EmoNet: Toisoul, Kossaifi, Bulat, Tzimiropoulos, Pantic (2021), *Estimation of continuous valence and arousal levels
from faces in naturalistic conditions*, Nature Machine Intelligence 3. Parameter names as in the official checkpoints
(face-analysis/emonet). A face-alignment network (two hourglasses, Bulat & Tzimiropoulos 2017) whose heat maps attend
to the features that an emotion head reads.

Input (B, 3, 256, 256) in [0, 1]; output a dict: ``expression`` (B, labels) logits, ``valence`` (B,), ``arousal`` (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock(nn.Module):
    """Three 3×3 convolutions, norm and ReLU before each, whose outputs (1/2, 1/4, 1/4 of the channels) are joined."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half, quarter = channels_out // 2, channels_out // 4
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), nn.Conv2d(channels_in, half, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(quarter), nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample: nn.Module | None = None
        if channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(channels_in), nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv1(F.relu(self.bn1(x)))
        b = self.conv2(F.relu(self.bn2(a)))
        c = self.conv3(F.relu(self.bn3(b)))
        return torch.cat([a, b, c], 1) + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """A recursive encoder–decoder with a shortcut a level (Newell et al. 2016)."""

    def __init__(self, depth: int = 4, channels: int = 256) -> None:
        super().__init__()
        self.depth = depth
        for level in range(depth, 0, -1):
            for branch in ("b1", "b2", "b3"):
                self.add_module(f"{branch}_{level}", ConvBlock(channels, channels))
        self.b2_plus_1 = ConvBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self._level(self.depth, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        low = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        low = self._level(level - 1, low) if level > 1 else self.b2_plus_1(low)
        low = self.get_submodule(f"b3_{level}")(low)
        return self.get_submodule(f"b1_{level}")(x) + F.interpolate(low, scale_factor=2.0, mode="nearest")


class EmoNet(nn.Module):
    """Landmark network, attention by the summed heat maps, emotion head. 5 or 8 labels."""

    def __init__(self, labels: int = 8, modules: int = 2) -> None:
        super().__init__()
        self.labels, self.count = labels, modules
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64)
        self.conv2, self.conv3, self.conv4 = ConvBlock(64, 128), ConvBlock(128, 128), ConvBlock(128, 256)
        for i in range(modules):
            self.add_module(f"m{i}", Hourglass())
            self.add_module(f"top_m_{i}", ConvBlock(256, 256))
            self.add_module(f"conv_last{i}", nn.Conv2d(256, 256, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(256))
            self.add_module(f"l{i}", nn.Conv2d(256, 68, 1))
            if i < modules - 1:
                self.add_module(f"bl{i}", nn.Conv2d(256, 256, 1))
                self.add_module(f"al{i}", nn.Conv2d(68, 256, 1))
        self.conv1x1_input_emo_2 = nn.Conv2d(256 * (modules + 1), 256, 1)
        blocks = [m for _ in range(4) for m in (ConvBlock(256, 256), nn.MaxPool2d(2, 2))]
        self.emo_net_2 = nn.Sequential(*blocks)
        self.emo_fc_2 = nn.Sequential(nn.Linear(256, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, labels + 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        part = self.get_submodule
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.conv4(self.conv3(F.max_pool2d(self.conv2(x), 2)))
        previous, features = x, []
        for i in range(self.count):
            y = part(f"top_m_{i}")(part(f"m{i}")(previous))
            y = F.relu(part(f"bn_end{i}")(part(f"conv_last{i}")(y)))
            heat = part(f"l{i}")(y)
            if i < self.count - 1:
                y = part(f"bl{i}")(y)
                previous = previous + y + part(f"al{i}")(heat)
            features.append(y)
        attended = torch.cat(features, 1) * heat.sum(1, keepdim=True)
        y = self.emo_net_2(self.conv1x1_input_emo_2(torch.cat([x, attended], 1)))
        y = self.emo_fc_2(F.avg_pool2d(y, 4).flatten(1))
        return {"expression": y[:, : self.labels], "valence": y[:, self.labels], "arousal": y[:, self.labels + 1]}


def emonet(labels: int = 8) -> nn.Module:
    """The network, with untrained parameters."""
    return EmoNet(labels)
