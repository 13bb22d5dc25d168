"""FaceExpressionNet of face-api.js (Mühler, 2018): four dense blocks of depthwise separable convolutions, 323,687
parameters; layers as in the published weights manifest.

Input (B, 3, 112, 112): RGB 0–255 minus (122.782, 117.001, 104.298), divided by 255. Output (B, labels) logits (the
package's own ``predictExpressions`` puts a softmax behind them).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .tf_layers import SameConv2d, SeparableConv2d


class DenseBlock(nn.Module):
    """Four convolutions, each fed with the rectified sum of those before it; the first has stride 2."""

    def __init__(self, channels_in: int, channels_out: int, first: bool = False) -> None:
        super().__init__()
        self.conv0: nn.Module = (
            SameConv2d(channels_in, channels_out, 3, 2)
            if first
            else SeparableConv2d(channels_in, channels_out, 3, 2, bias=True)
        )
        self.conv1 = SeparableConv2d(channels_out, channels_out, bias=True)
        self.conv2 = SeparableConv2d(channels_out, channels_out, bias=True)
        self.conv3 = SeparableConv2d(channels_out, channels_out, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.conv0(x))
        y = self.conv1(total)
        total = total + y
        y = self.conv2(F.relu(total))
        total = total + y
        y = self.conv3(F.relu(total))
        return F.relu(total + y)


class FaceExpressionNet(nn.Module):
    """Dense blocks of 32, 64, 128, 256 channels, 7×7 mean pooling with stride 2, a linear layer."""

    def __init__(self, labels: int = 7) -> None:
        super().__init__()
        self.dense0 = DenseBlock(3, 32, first=True)
        self.dense1 = DenseBlock(32, 64)
        self.dense2 = DenseBlock(64, 128)
        self.dense3 = DenseBlock(128, 256)
        self.fc = nn.Linear(256, labels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense3(self.dense2(self.dense1(self.dense0(x))))
        return self.fc(F.avg_pool2d(x, 7, 2).flatten(1))


def face_expression_net(labels: int = 7) -> nn.Module:
    """The network, with untrained parameters."""
    return FaceExpressionNet(labels)
