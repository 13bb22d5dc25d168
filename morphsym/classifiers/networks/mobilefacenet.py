"""MobileFaceNet pieces (Chen, Liu, Gao, Han 2018, arXiv 1804.07573) with the parameter names of the common PyTorch
port, on which POSTER V2 and DDAMFN build.
"""

from __future__ import annotations

from torch import Tensor, nn


class LinearBlock(nn.Module):
    """Convolution and batch norm, no activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ConvBlock(LinearBlock):
    """Convolution, batch norm, PReLU."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups)
        self.prelu = nn.PReLU(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(super().forward(x))


class DepthWise(nn.Module):
    """Expand to ``width`` channels, filter each, project; with a shortcut where ``residual``."""

    def __init__(self, channels_in: int, channels_out: int, width: int, stride: int, residual: bool = False) -> None:
        super().__init__()
        self.conv = ConvBlock(channels_in, width)
        self.conv_dw = ConvBlock(width, width, 3, stride, 1, groups=width)
        self.project = LinearBlock(width, channels_out)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


class Repeat(nn.Module):
    """Modules in a row, under the name ``model``."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def residuals(channels: int, blocks: int, width: int) -> Repeat:
    """``blocks`` residual :class:`DepthWise` blocks."""
    return Repeat(*(DepthWise(channels, channels, width, 1, residual=True) for _ in range(blocks)))


class _Embedding(nn.Module):
    """The port's output layer. Its parameters are in the checkpoints; POSTER V2 does not use its result."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv_6_dw = LinearBlock(512, 512, 7, groups=512)
        self.linear = nn.Linear(512, size, bias=False)
        self.bn = nn.BatchNorm1d(size)


class MobileFaceNet(nn.Module):
    """The landmark backbone of POSTER V2: (B, 3, 112, 112) → features at 28², 14² and 7² (64, 128, 512 channels)."""

    def __init__(self, embedding: int = 136) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 64, 3, 2, 1)
        self.conv2_dw = ConvBlock(64, 64, 3, 1, 1, groups=64)
        self.conv_23 = DepthWise(64, 64, 128, 2)
        self.conv_3 = residuals(64, 4, 128)
        self.conv_34 = DepthWise(64, 128, 256, 2)
        self.conv_4 = residuals(128, 6, 256)
        self.conv_45 = DepthWise(128, 128, 512, 2)
        self.conv_5 = residuals(128, 2, 256)
        self.conv_6_sep = ConvBlock(128, 512)
        self.output_layer = _Embedding(embedding)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(x))))
        middle = self.conv_4(self.conv_34(fine))
        return fine, middle, self.conv_6_sep(self.conv_5(self.conv_45(middle)))
