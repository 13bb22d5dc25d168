"""mini-XCEPTION: Arriaga, Valdenegro-Toro, Plöger (2017), *Real-time Convolutional Neural Networks for Emotion and
Gender Classification*, arXiv 1710.07557; layers as in the published Keras weights (58,423 parameters).

Input (B, 1, 48…64, 48…64) in [−1, 1]; output (B, labels) logits (the published file has a softmax behind them).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from .tf_layers import SameConv2d, SameMaxPool2d, SeparableConv2d

EPSILON = 1e-3
"""Keras' batch-norm epsilon; torch's default is 1e-5."""


class ResidualBlock(nn.Module):
    """Two separable convolutions and a pooling beside a strided 1×1 convolution."""

    def __init__(self, channels_in: int, channels_out: int, pool: bool = True) -> None:
        super().__init__()
        self.separable1 = SeparableConv2d(channels_in, channels_out)
        self.norm1 = nn.BatchNorm2d(channels_out, eps=EPSILON)
        self.separable2 = SeparableConv2d(channels_out, channels_out)
        self.norm2 = nn.BatchNorm2d(channels_out, eps=EPSILON)
        self.pool = SameMaxPool2d(3, 2) if pool else nn.Identity()
        self.shortcut = SameConv2d(channels_in, channels_out, 1, 2 if pool else 1, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(channels_out, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.separable1(x)))
        y = self.pool(self.norm2(self.separable2(y)))
        return y + self.shortcut_norm(self.shortcut(x))


class MiniXception(nn.Module):
    """``last_pool`` False is the variant of the 119-epoch weights, whose last block keeps its resolution."""

    def __init__(self, labels: int = 7, last_pool: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(8, eps=EPSILON)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(8, eps=EPSILON)
        widths = (8, 16, 32, 64, 128)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, pool=last_pool or b != 128) for a, b in pairwise(widths)))
        self.head = SameConv2d(128, labels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return self.head(self.blocks(x)).mean((2, 3))


def keras_names() -> dict[str, str]:
    """Torch module → Keras layer name in the published files (whose numbering follows the order of creation)."""
    names = {
        "conv1": "conv2d_1",
        "norm1": "batch_normalization_1",
        "conv2": "conv2d_2",
        "norm2": "batch_normalization_2",
    }
    names["head"] = "conv2d_7"
    for i in range(4):
        block = f"blocks.{i}."
        names[block + "separable1"] = f"separable_conv2d_{2 * i + 1}"
        names[block + "separable2"] = f"separable_conv2d_{2 * i + 2}"
        names[block + "shortcut"] = f"conv2d_{3 + i}"
        names[block + "shortcut_norm"] = f"batch_normalization_{3 * i + 3}"
        names[block + "norm1"] = f"batch_normalization_{3 * i + 4}"
        names[block + "norm2"] = f"batch_normalization_{3 * i + 5}"
    return names


def mini_xception(labels: int = 7, last_pool: bool = True) -> nn.Module:
    """The network, with untrained parameters."""
    return MiniXception(labels, last_pool)
