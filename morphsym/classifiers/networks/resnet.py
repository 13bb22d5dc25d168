"""ResNet pieces with torchvision's parameter names (He et al. 2016): what several official checkpoints are built on."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def projection(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """The shortcut where shapes change: a 1×1 convolution and a batch norm."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """``blocks`` basic blocks, the first with ``stride`` and, where shapes change, a projection."""
    change = stride != 1 or channels_in != channels_out
    first = BasicBlock(
        channels_in, channels_out, stride, projection(channels_in, channels_out, stride) if change else None
    )
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out) for _ in range(blocks - 1)))


def stem() -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]:
    """The first four layers of every ResNet."""
    return nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
