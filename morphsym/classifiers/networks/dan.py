"""DAN: Wen, Lin, Wang, Xu (2023), *Distract Your Attention: Multi-head Cross Attention Network for Facial Expression
Recognition*, Biomimetics 8(2); arXiv 2109.07270. Parameter names as in the official checkpoints (yaoing/DAN).

Input (B, 3, 224, 224), ImageNet mean and std; output (B, labels) logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .resnet import stage, stem


def _conv_norm(channels_in: int, channels_out: int, kernel: tuple[int, int]) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, kernel, padding=padding), nn.BatchNorm2d(channels_out))


class SpatialAttention(nn.Module):
    """Where: three convolutions of different shapes, rectified, summed over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = _conv_norm(512, 256, (1, 1))
        self.conv_3x3 = _conv_norm(256, 512, (3, 3))
        self.conv_1x3 = _conv_norm(256, 512, (1, 3))
        self.conv_3x1 = _conv_norm(256, 512, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1x1(x)
        y = F.relu(self.conv_3x3(y) + self.conv_1x3(y) + self.conv_3x1(y))
        return x * y.sum(1, keepdim=True)


class ChannelAttention(nn.Module):
    """What: a gate on each of the pooled channels."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(512, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 512), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled * self.attention(pooled)


class CrossAttentionHead(nn.Module):
    """Spatial, then channel attention."""

    def __init__(self) -> None:
        super().__init__()
        self.sa = SpatialAttention()
        self.ca = ChannelAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.ca(self.sa(x))


class DAN(nn.Module):
    """ResNet-18, ``heads`` attention heads fused by a log-softmax over the heads, a linear layer and a batch norm."""

    def __init__(self, labels: int = 7, heads: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *stem(), stage(64, 64, 2, 1), stage(64, 128, 2, 2), stage(128, 256, 2, 2), stage(256, 512, 2, 2)
        )
        self.heads = heads
        for i in range(heads):
            self.add_module(f"cat_head{i}", CrossAttentionHead())
        self.fc = nn.Linear(512, labels)
        self.bn = nn.BatchNorm1d(labels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        heads = torch.stack([self.get_submodule(f"cat_head{i}")(x) for i in range(self.heads)], 1)  # (B, heads, 512)
        if self.heads > 1:
            heads = F.log_softmax(heads, 1)
        return self.bn(self.fc(heads.sum(1)))


def dan(labels: int = 7, heads: int = 4) -> nn.Module:
    """The network, with untrained parameters."""
    return DAN(labels, heads)
