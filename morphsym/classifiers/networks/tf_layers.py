"""TensorFlow's 'same' padding in torch: asymmetric where the stride leaves an odd pixel, which goes to the end.

Keras and TensorFlow.js pad ``total = max((ceil(n / s) - 1) * s + k - n, 0)`` pixels, ``total // 2`` before and the
rest after. Convolutions pad with zeros, max-pooling with −inf.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(before, after) in pixels along one axis of length ``size``."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0) -> Tensor:
    """``x`` (B, C, H, W) padded as TensorFlow pads for 'same'."""
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1])
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's 'same' padding."""

    def forward(self, x: Tensor) -> Tensor:
        kernel = (self.kernel_size[0], self.kernel_size[1])
        return super().forward(pad_same(x, kernel, (self.stride[0], self.stride[1])))


class SameMaxPool2d(nn.Module):
    """Max-pooling with TensorFlow's 'same' padding: pixels outside never win."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel, kernel), (stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(pad_same(x, self.kernel, self.stride, -float("inf")), self.kernel, self.stride)


class SeparableConv2d(nn.Module):
    """Depthwise then pointwise convolution; neither bias nor activation between them. 'same' padding."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.depthwise = SameConv2d(channels_in, channels_in, kernel, stride, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))
