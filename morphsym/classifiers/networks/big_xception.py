"""big-XCEPTION of Arriaga's *face_classification* (2017; arXiv 1710.07557), 208,871 parameters; layers as published.

Input (B, 1, 64, 64) in [−1, 1]; output (B, labels) logits (the published file has a softmax behind them).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .mini_xception import EPSILON
from .tf_layers import SameConv2d, SameMaxPool2d, SeparableConv2d


class XceptionBlock(nn.Module):
    """As Xception's entry flow: an optional leading ReLU, two separable convolutions, pooling, strided shortcut."""

    def __init__(self, channels_in: int, channels_out: int, leading_relu: bool) -> None:
        super().__init__()
        self.leading_relu = leading_relu
        self.separable1 = SeparableConv2d(channels_in, channels_out)
        self.norm1 = nn.BatchNorm2d(channels_out, eps=EPSILON)
        self.separable2 = SeparableConv2d(channels_out, channels_out)
        self.norm2 = nn.BatchNorm2d(channels_out, eps=EPSILON)
        self.pool = SameMaxPool2d(3, 2)
        self.shortcut = SameConv2d(channels_in, channels_out, 1, 2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(channels_out, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(x) if self.leading_relu else x
        y = F.relu(self.norm1(self.separable1(y)))
        y = self.pool(self.norm2(self.separable2(y)))
        return y + self.shortcut_norm(self.shortcut(x))


class BigXception(nn.Module):
    """Two plain convolutions, two Xception blocks (128, 256), a convolution to the labels, global mean."""

    def __init__(self, labels: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 2, bias=False)
        self.norm1 = nn.BatchNorm2d(32, eps=EPSILON)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(64, eps=EPSILON)
        self.block2 = XceptionBlock(64, 128, leading_relu=False)
        self.block3 = XceptionBlock(128, 256, leading_relu=True)
        self.head = SameConv2d(256, labels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return self.head(self.block3(self.block2(x))).mean((2, 3))


def keras_names() -> dict[str, str]:
    """Torch module → Keras layer name in the published file."""
    names = {
        "conv1": "conv2d_1",
        "norm1": "block1_conv1_bn",
        "conv2": "conv2d_2",
        "norm2": "block1_conv2_bn",
        "head": "conv2d_5",
    }
    for i, block in enumerate((2, 3)):
        names[f"block{block}.separable1"] = f"separable_conv2d_{2 * i + 1}"
        names[f"block{block}.separable2"] = f"separable_conv2d_{2 * i + 2}"
        names[f"block{block}.norm1"] = f"block{block}_sepconv1_bn"
        names[f"block{block}.norm2"] = f"block{block}_sepconv2_bn"
        names[f"block{block}.shortcut"] = f"conv2d_{3 + i}"
        names[f"block{block}.shortcut_norm"] = f"batch_normalization_{i + 1}"
    return names


def big_xception(labels: int = 7) -> nn.Module:
    """The network, with untrained parameters."""
    return BigXception(labels)
