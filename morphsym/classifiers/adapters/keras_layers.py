"""The Keras layers that image classifiers are made of, in torch, on channels-first tensors.

Kernels are HWIO in Keras and OIHW in torch; 'same' padding is TensorFlow's; batch norm's epsilon comes from the file.
``Flatten`` puts the channels last first, as the dense layer behind it was trained so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ClassifierError
from ..networks.tf_layers import pad_same

Settings = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "swish": F.silu,
    "silu": F.silu,
    "softmax": lambda x: F.softmax(x, 1),
}


def activation_name(value: Any, who: str) -> str:
    """The activation in a layer's settings, checked."""
    if isinstance(value, dict):
        value = (
            value.get("config", {}).get("name") if value.get("class_name") == "function" else value.get("class_name")
        )
    name = str(value or "linear").lower()
    if name not in ACTIVATIONS:
        raise ClassifierError(f"{who}: the activation {value!r} is not read")
    return name


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


class Activation(nn.Module):
    """An activation by name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.kind](x)


class Conv(nn.Module):
    """Conv2D, DepthwiseConv2D and SeparableConv2D: a chain of convolutions, then bias and activation."""

    def __init__(self, s: Settings, kernels: list[Tensor], groups: list[int], bias: Tensor | None, who: str) -> None:
        super().__init__()
        if s.get("data_format", "channels_last") != "channels_last":
            raise ClassifierError(f"{who}: channels_first models are not read")
        self.kernels = nn.ParameterList(nn.Parameter(k) for k in kernels)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.groups = groups
        self.stride, self.dilation = _pair(s.get("strides", 1)), _pair(s.get("dilation_rate", 1))
        if s["padding"] not in ("same", "valid"):
            raise ClassifierError(f"{who}: padding {s['padding']!r} is not read")
        self.same = s["padding"] == "same"
        self.activation = activation_name(s.get("activation"), who)

    def forward(self, x: Tensor) -> Tensor:
        first = self.kernels[0]
        if self.same:
            reach = tuple((k - 1) * d + 1 for k, d in zip(first.shape[2:], self.dilation, strict=True))
            x = pad_same(x, (reach[0], reach[1]), self.stride)
        last = len(self.kernels) - 1
        for i, kernel in enumerate(self.kernels):
            bias = self.bias if i == last else None
            if i == 0:
                x = F.conv2d(x, kernel, bias, self.stride, 0, self.dilation, self.groups[0])
            else:
                x = F.conv2d(x, kernel, bias, groups=self.groups[i])
        return ACTIVATIONS[self.activation](x)


class Norm(nn.Module):
    """BatchNormalization with the moving moments."""

    def __init__(self, s: Settings, a: Arrays, who: str) -> None:
        super().__init__()
        axis = s.get("axis", -1)
        axis = axis[0] if isinstance(axis, list) else axis
        if axis not in (-1, 3, 1):
            raise ClassifierError(f"{who}: batch norm over axis {axis} is not read")
        mean, variance = a["moving_mean"], a["moving_variance"]
        scale = a.get("gamma", np.ones_like(mean)) / np.sqrt(variance.astype(np.float64) + float(s["epsilon"]))
        shift = a.get("beta", np.zeros_like(mean)) - mean * scale
        self.scale = nn.Parameter(torch.from_numpy(scale.astype(np.float32)))
        self.shift = nn.Parameter(torch.from_numpy(np.asarray(shift, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * self.scale.view(shape) + self.shift.view(shape)


class Dense(nn.Module):
    """A linear layer with its activation."""

    def __init__(self, s: Settings, a: Arrays, who: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(_tensor(a["kernel"].T))
        self.bias = nn.Parameter(_tensor(a["bias"])) if s.get("use_bias", True) else None
        self.activation = activation_name(s.get("activation"), who)

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.activation](F.linear(x, self.weight, self.bias))


class Pool(nn.Module):
    """Max- and mean-pooling; a mean at the rim counts only pixels inside, as TensorFlow's."""

    def __init__(self, s: Settings, largest: bool, who: str) -> None:
        super().__init__()
        self.size = _pair(s["pool_size"])
        self.stride = _pair(s.get("strides") or s["pool_size"])
        self.same, self.largest = s.get("padding", "valid") == "same", largest

    def forward(self, x: Tensor) -> Tensor:
        if self.largest:
            y = pad_same(x, self.size, self.stride, -float("inf")) if self.same else x
            return F.max_pool2d(y, self.size, self.stride)
        if not self.same:
            return F.avg_pool2d(x, self.size, self.stride)
        inside = F.avg_pool2d(pad_same(torch.ones_like(x[:1, :1]), self.size, self.stride), self.size, self.stride)
        return F.avg_pool2d(pad_same(x, self.size, self.stride), self.size, self.stride) / inside


class Wrap(nn.Module):
    """A function of one or more tensors as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Tensor:
        return self.function(*x)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def _conv2d(s: Settings, a: Arrays, who: str) -> nn.Module:
    kernel = _tensor(a["kernel"].transpose(3, 2, 0, 1))
    return Conv(s, [kernel], [int(s.get("groups", 1))], _bias(s, a), who)


def _bias(s: Settings, a: Arrays) -> Tensor | None:
    return _tensor(a["bias"]) if s.get("use_bias", True) else None


def _depthwise(array: np.ndarray) -> tuple[Tensor, int]:
    """(h, w, in, multiplier) → (in · multiplier, 1, h, w) and the number of groups."""
    h, w, channels, multiplier = array.shape
    return _tensor(array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, h, w)), channels


def _depthwise_conv(s: Settings, a: Arrays, who: str) -> nn.Module:
    kernel, groups = _depthwise(a.get("depthwise_kernel", a.get("kernel")))  # type: ignore[arg-type]
    return Conv(s, [kernel], [groups], _bias(s, a), who)


def _separable(s: Settings, a: Arrays, who: str) -> nn.Module:
    kernel, groups = _depthwise(a["depthwise_kernel"])
    point = _tensor(a["pointwise_kernel"].transpose(3, 2, 0, 1))
    return Conv(s, [kernel, point], [groups, 1], _bias(s, a), who)


def _zero_padding(s: Settings, a: Arrays, who: str) -> nn.Module:
    p = s["padding"]
    (top, bottom), (left, right) = ((p, p), (p, p)) if isinstance(p, int) else (_pair(p[0]), _pair(p[1]))
    return nn.ZeroPad2d((left, right, top, bottom))


def _flatten(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)


def _global(function: Callable[..., Tensor]) -> Callable[[Settings, Arrays, str], nn.Module]:
    return lambda s, a, who: Wrap(lambda x: function(x, (2, 3), keepdim=bool(s.get("keepdims", False))))


def _relu(s: Settings, a: Arrays, who: str) -> nn.Module:
    slope, top = float(s.get("negative_slope") or 0.0), s.get("max_value")
    if float(s.get("threshold") or 0.0) != 0.0:
        raise ClassifierError(f"{who}: a ReLU with a threshold is not read")
    return Wrap(lambda x: F.leaky_relu(x, slope).clamp(max=None if top is None else float(top)))


def _leaky(s: Settings, a: Arrays, who: str) -> nn.Module:
    slope = float(s.get("negative_slope", s.get("alpha", 0.3)))
    return Wrap(lambda x: F.leaky_relu(x, slope))


def _prelu(s: Settings, a: Arrays, who: str) -> nn.Module:
    alpha = a["alpha"]
    if alpha.ndim == 3:
        alpha = alpha.transpose(2, 0, 1)
    slope = _tensor(alpha)
    return Wrap(lambda x: torch.where(x > 0, x, slope.to(x.device) * x))


def _concatenate(s: Settings, a: Arrays, who: str) -> nn.Module:
    if s.get("axis", -1) not in (-1, 3, 1):
        raise ClassifierError(f"{who}: joining along axis {s['axis']} is not read")
    return Wrap(lambda *x: torch.cat(x, 1))


def _rescaling(s: Settings, a: Arrays, who: str) -> nn.Module:
    if not isinstance(s["scale"], (int, float)) or not isinstance(s.get("offset", 0.0), (int, float)):
        raise ClassifierError(f"{who}: a rescaling by channel is not read")
    return Wrap(lambda x: x * float(s["scale"]) + float(s.get("offset", 0.0)))


def _add(*x: Tensor) -> Tensor:
    total = x[0]
    for y in x[1:]:
        total = total + y
    return total


def _multiply(*x: Tensor) -> Tensor:
    total = x[0]
    for y in x[1:]:
        total = total * y
    return total


BUILDERS: dict[str, Callable[[Settings, Arrays, str], nn.Module]] = {
    "Conv2D": _conv2d,
    "Convolution2D": _conv2d,
    "DepthwiseConv2D": _depthwise_conv,
    "SeparableConv2D": _separable,
    "BatchNormalization": lambda s, a, who: Norm(s, a, who),
    "Dense": lambda s, a, who: Dense(s, a, who),
    "Activation": lambda s, a, who: Activation(activation_name(s["activation"], who)),
    "Softmax": lambda s, a, who: Activation("softmax"),
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "PReLU": _prelu,
    "ELU": lambda s, a, who: Wrap(lambda x: F.elu(x, float(s.get("alpha", 1.0)))),
    "MaxPooling2D": lambda s, a, who: Pool(s, True, who),
    "AveragePooling2D": lambda s, a, who: Pool(s, False, who),
    "GlobalAveragePooling2D": _global(torch.mean),
    "GlobalMaxPooling2D": _global(torch.amax),
    "ZeroPadding2D": _zero_padding,
    "Flatten": lambda s, a, who: Wrap(_flatten),
    "Add": lambda s, a, who: Wrap(_add),
    "Multiply": lambda s, a, who: Wrap(_multiply),
    "Concatenate": _concatenate,
    "Rescaling": _rescaling,
    **{
        name: (lambda s, a, who: nn.Identity())
        for name in ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization")
    },
}


def build(kind: str, settings: Settings, arrays: Arrays, who: str) -> nn.Module:
    """The torch module of a Keras layer; :class:`ClassifierError` for a kind that is not read."""
    if kind == "Lambda":
        raise ClassifierError(f"{who}: a Lambda layer holds a program and is never run")
    if kind not in BUILDERS:
        raise ClassifierError(f"{who}: layers of kind {kind} are not read; export the model to ONNX (tf2onnx) instead")
    return BUILDERS[kind](settings, arrays, who)
