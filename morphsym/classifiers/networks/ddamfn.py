"""DDAMFN and DDAMFN++: Zhang, Zhang, Wang, Zhang (2023), *A Dual-Direction Attention Mixed Feature Network for Facial
Expression Recognition*, Electronics 12(17):3595. Both share one network (++ changes alignment and optimiser).
Parameter names as in the official checkpoints (simon20010923/DDAMFN).

Input (B, 3, 112, 112), ImageNet mean and std; output (B, labels) logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mobilefacenet import ConvBlock, LinearBlock, Repeat


class MixedDepthConv(nn.Module):
    """Depthwise convolutions of several sizes, each on its share of the channels (MixConv, Tan & Le 2019)."""

    def __init__(self, shares: tuple[int, ...], kernels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        self.shares = shares
        self.mixed_depthwise_conv = nn.ModuleList(
            nn.Conv2d(c, c, k, stride, k // 2, groups=c, bias=False) for c, k in zip(shares, kernels, strict=True)
        )
        # in the checkpoints, but unused upstream
        self.bn = nn.BatchNorm2d(sum(shares))
        self.prelu = nn.PReLU(sum(shares))

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.shares, 1)
        return torch.cat([conv(p) for conv, p in zip(self.mixed_depthwise_conv, parts, strict=True)], 1)


class _Directional(nn.Module):
    """The shared middle of both coordinate attentions (Hou, Zhou, Feng 2021): gates along rows and columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(8, channels // 32)
        self.conv1 = nn.Conv2d(channels, middle, 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, channels, 1)
        self.conv3 = nn.Conv2d(middle, channels, 1)

    def gates(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """``rows`` (B, C, H, 1), ``columns`` (B, C, 1, W) → gates of the same shapes."""
        y = torch.cat([rows, columns.transpose(2, 3)], 2)
        y = F.hardswish(self.bn1(self.conv1(y)))
        along_h, along_w = y.split([rows.shape[2], columns.shape[3]], 2)
        return self.conv2(along_h).sigmoid(), self.conv3(along_w.transpose(2, 3)).sigmoid()


class CoordinateAttention(_Directional):
    """Gates from means along each direction."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.gates(x.mean(3, keepdim=True), x.mean(2, keepdim=True))
        return x * columns * rows


class DualDirectionAttention(_Directional):
    """The paper's head: gates from learnt linear global depthwise convolutions along each direction. 7×7 maps."""

    def __init__(self, channels: int = 512) -> None:
        super().__init__(channels)
        self.Linear_h = LinearBlock(channels, channels, (1, 7), groups=channels)
        self.Linear_w = LinearBlock(channels, channels, (7, 1), groups=channels)
        self.Linear = LinearBlock(channels, channels, 7, groups=channels)  # in the checkpoints, unused upstream

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.gates(self.Linear_h(x), self.Linear_w(x))
        return columns * rows


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.CoordAtt = DualDirectionAttention()

    def forward(self, x: Tensor) -> Tensor:
        return self.CoordAtt(x)


class MixedBlock(nn.Module):
    """Expand, mixed depthwise convolution, coordinate attention, project."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        shares: tuple[int, ...],
        kernels: tuple[int, ...],
        stride: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        width = sum(shares)
        self.conv = ConvBlock(channels_in, width)
        self.conv_dw = MixedDepthConv(shares, kernels, stride)
        self.CA = CoordinateAttention(width)
        self.project = LinearBlock(width, channels_out)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.CA(self.conv_dw(self.conv(x))))
        return x + y if self.residual else y


def _mixed(channels: int, blocks: int, shares: tuple[int, ...], kernels: tuple[int, ...]) -> Repeat:
    return Repeat(*(MixedBlock(channels, channels, shares, kernels, residual=True) for _ in range(blocks)))


class DDAMFN(nn.Module):
    """Mixed feature network (112² → 7²), ``heads`` dual-direction attentions joined by their maximum."""

    def __init__(self, labels: int = 7, heads: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvBlock(3, 64, 3, 2, 1),
            ConvBlock(64, 64, 3, 1, 1, groups=64),
            MixedBlock(64, 64, (64, 32, 32), (3, 5, 7), 2),
            _mixed(64, 9, (96, 32), (3, 5)),
            MixedBlock(64, 128, (128, 64, 64), (3, 5, 7), 2),
            _mixed(128, 16, (192, 64), (3, 5)),
            MixedBlock(128, 256, (256, 256, 256, 256), (3, 5, 7, 9), 2),
            _mixed(256, 6, (172, 170, 170), (3, 5, 7)),
            ConvBlock(256, 512),
        )
        self.heads = heads
        for i in range(heads):
            self.add_module(f"cat_head{i}", _Head())
        self.Linear = LinearBlock(512, 512, 7, groups=512)
        self.fc = nn.Linear(512, labels)
        self.bn = nn.BatchNorm1d(labels)  # in the checkpoints, unused upstream

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        attention = self.get_submodule("cat_head0")(x)
        for i in range(1, self.heads):
            attention = torch.maximum(attention, self.get_submodule(f"cat_head{i}")(x))
        return self.fc(self.Linear(x * attention).flatten(1))


def ddamfn(labels: int = 7, heads: int = 2) -> nn.Module:
    """The network, with untrained parameters."""
    return DDAMFN(labels, heads)
