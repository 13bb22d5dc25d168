"""Residual Masking Network: Pham, Vu, Tran, *Facial Expression Recognition Using Residual Masking Network*, ICPR 2020.
Parameter names as in the official checkpoints (phamquiluan/ResidualMaskingNetwork, ``resmasking_dropout1``).

Input (B, 3, 224, 224): grey repeated three times, in [0, 1]; output (B, labels) logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .resnet import BasicBlock, projection, stage, stem


class Masking(nn.Module):
    """A U-Net of ``depth`` levels over a feature map: (B, C, H, W) → a softmax over the channels at each pixel.

    The shortcut projections are registered twice upstream (``downsampleK`` and ``convK.downsample`` are one module),
    so their parameters are in the checkpoints under both names.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        widths = [channels * 2**i for i in range(depth + 1)]
        steps = [(widths[i], widths[i + 1]) for i in range(depth)] + [(widths[i + 1], widths[i]) for i in range(depth)][
            ::-1
        ]
        for k, (a, b) in enumerate(steps, 1):
            shortcut = projection(a, b)
            self.add_module(f"downsample{k}", shortcut)
            self.add_module(f"conv{k}", BasicBlock(a, b, downsample=shortcut))
            if depth < k < 2 * depth:
                up = nn.Sequential(nn.ConvTranspose2d(a, b, 2, 2), nn.BatchNorm2d(b), nn.ReLU())
                self.add_module(f"up_pool{k}", up)

    def forward(self, x: Tensor) -> Tensor:
        saved: list[Tensor] = []
        for k in range(1, self.depth + 1):
            x = self.get_submodule(f"conv{k}")(x if k == 1 else F.max_pool2d(x, 2))
            saved.append(x)
        saved.pop()
        for k in range(self.depth + 1, 2 * self.depth):
            x = torch.cat([self.get_submodule(f"up_pool{k}")(x), saved.pop()], 1)
            x = self.get_submodule(f"conv{k}")(x)
        return self.get_submodule(f"conv{2 * self.depth}")(x).softmax(1)


class ResidualMaskingNetwork(nn.Module):
    """ResNet-34 whose four stages are each reweighted by ``1 + mask``."""

    def __init__(self, labels: int = 7) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = stem()
        self.layer1, self.layer2 = stage(64, 64, 3, 1), stage(64, 128, 4, 2)
        self.layer3, self.layer4 = stage(128, 256, 6, 2), stage(256, 512, 3, 2)
        self.mask1, self.mask2 = Masking(64, 4), Masking(128, 3)
        self.mask3, self.mask4 = Masking(256, 2), Masking(512, 1)
        self.fc = nn.Sequential(nn.Dropout(0.4), nn.Linear(512, labels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer, mask in (
            (self.layer1, self.mask1),
            (self.layer2, self.mask2),
            (self.layer3, self.mask3),
            (self.layer4, self.mask4),
        ):
            x = layer(x)
            x = x * (1 + mask(x))
        return self.fc(x.mean((2, 3)))


def residual_masking_network(labels: int = 7) -> nn.Module:
    """The network, with untrained parameters."""
    return ResidualMaskingNetwork(labels)
