"""EmoNeXt: El Boudouri & Bohi (2023), *EmoNeXt: an Adapted ConvNeXt for Facial Emotion Recognition*, IEEE MMSP.
Parameter names as in the official training code (yelboudouri/EmoNeXt).

Input (B, 3, 224, 224): grey repeated three times, in [0, 1]; output (B, labels) logits.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
"""Size → (blocks a stage, channels a stage), those of ConvNeXt (Liu et al. 2022)."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W), epsilon 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """A gate on each channel from their means (Hu et al. 2018), reduction 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 16, bias=False),
            nn.ReLU(),
            nn.Linear(channels // 16, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Block(nn.Module):
    """ConvNeXt's block: 7×7 depthwise, norm, two linear layers, layer scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(1e-6 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class _SelfAttention(nn.Module):
    """Regularises the training upstream; its parameters are in the checkpoints, its result is not in the logits."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)


class EmoNeXt(nn.Module):
    """A spatial transformer (Jaderberg et al. 2015), then ConvNeXt with a squeeze-and-excite after each reduction."""

    def __init__(self, labels: int, depths: tuple[int, ...], dims: tuple[int, ...]) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(3, 8, 7),
            nn.BatchNorm2d(8),
            nn.MaxPool2d(2, 2),
            nn.ReLU(),
            nn.Conv2d(8, 10, 5),
            nn.BatchNorm2d(10),
            nn.MaxPool2d(2, 2),
            nn.ReLU(),
        )
        self.fc_loc = nn.Sequential(nn.Linear(10 * 52 * 52, 32), nn.ReLU(), nn.Linear(32, 6))
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), ChannelNorm(dims[0]))])
        for a, b in pairwise(dims):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(a), nn.Conv2d(a, b, 2, 2), SqueezeExcite(b)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dim) for _ in range(depth))) for dim, depth in zip(dims, depths, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
        self.attention = _SelfAttention(dims[-1])
        self.head = nn.Linear(dims[-1], labels)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.fc_loc(self.localization(x).flatten(1)).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=True)
        x = F.grid_sample(x, grid, align_corners=True)
        for reduce, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(reduce(x))
        return self.head(self.norm(x.mean((2, 3))))


def emonext(labels: int = 7, size: str = "tiny") -> nn.Module:
    """The network of ``size`` (tiny, small, base, large, xlarge), with untrained parameters."""
    if size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    return EmoNeXt(labels, *SIZES[size])
