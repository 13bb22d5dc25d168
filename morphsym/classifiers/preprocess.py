"""From pictures to a network's input: crop, colour, scale, mean, std. Batched on the device, float32."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .crops import crop_matrix, sample
from .spec import ClassifierSpec


def check_images(images: Tensor, landmarks: Tensor) -> None:
    """:class:`InputError` unless ``images`` is (B, 3, H, W) float32 in [0, 1] and ``landmarks`` (B, 68, 2)."""
    if not isinstance(images, Tensor) or not isinstance(landmarks, Tensor):
        raise InputError(
            f"images, landmarks: expected tensors, got {type(images).__name__}, {type(landmarks).__name__}"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images: expected (B, 3, H, W), got {tuple(images.shape)}")
    if images.dtype != torch.float32:
        raise InputError(f"images: expected float32 in [0, 1], got {images.dtype}")
    if landmarks.shape != (len(images), 68, 2):
        raise InputError(f"landmarks: expected ({len(images)}, 68, 2), got {tuple(landmarks.shape)}")
    if images.numel():
        low, high = (float(v) for v in torch.aminmax(images))
        if not (low >= -1e-3 and high <= 1.001):  # NaN fails as well
            raise InputError(f"images: expected values in [0, 1], got {low:.4g} to {high:.4g}")


def cropped(images: Tensor, landmarks: Tensor, spec: ClassifierSpec) -> Tensor:
    """(B, 3, h, w) RGB in [0, 1]: what the classifier is shown, before colour and normalisation."""
    matrix = crop_matrix(landmarks, spec, (int(images.shape[2]), int(images.shape[3])))
    return sample(images, matrix, spec.input_size, spec.resize, spec.crop.outside)


def grey(images: Tensor, spec: ClassifierSpec) -> Tensor:
    """(B, 3, h, w) → (B, 1, h, w) with the spec's weights of R, G and B."""
    red, green, blue = spec.grey_weights
    out = images[:, :1] * red
    return out.add_(images[:, 1:2], alpha=green).add_(images[:, 2:], alpha=blue)


def normalise(crops: Tensor, spec: ClassifierSpec) -> Tensor:
    """(B, C, h, w), or (B, h, w, C) where the layout is NHWC: ``(colour(crop) * scale - mean) / std``.

    ``crops`` is RGB in [0, 1], or already grey with one channel.
    """
    if spec.colour == "grey":
        x = grey(crops, spec) if crops.shape[1] == 3 else crops
        if spec.input_channels == 3:
            x = x.expand(-1, 3, -1, -1)
    elif spec.colour == "bgr":
        x = crops.flip(1)
    else:
        x = crops
    shape = (1, -1, 1, 1)
    std = crops.new_tensor(spec.std)
    x = x * (spec.scale / std).view(shape) - (crops.new_tensor(spec.mean) / std).view(shape)
    return x.permute(0, 2, 3, 1).contiguous() if spec.layout == "NHWC" else x.contiguous()


def preprocess(images: Tensor, landmarks: Tensor, spec: ClassifierSpec) -> Tensor:
    """The network's input from ``images`` (B, 3, H, W) and ``landmarks`` (B, 68, 2) of the unit.

    Grey is taken before the crop is sampled: both are linear, so the order does not matter, and it is a third of the work.
    """
    if spec.colour != "grey" or spec.resize.interpolation == "nearest":
        return normalise(cropped(images, landmarks, spec), spec)
    matrix = crop_matrix(landmarks, spec, (int(images.shape[2]), int(images.shape[3])))
    outside = spec.crop.outside
    if outside != "edge":
        outside = float(outside) * sum(spec.grey_weights)
    return normalise(sample(grey(images, spec), matrix, spec.input_size, spec.resize, outside), spec)
