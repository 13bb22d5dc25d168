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


def normalise(crops: Tensor, spec: ClassifierSpec) -> Tensor:
    """(B, C, h, w), or (B, h, w, C) where the layout is NHWC: ``(colour(crop) * scale - mean) / std``."""
    if spec.colour == "grey":
        weights = crops.new_tensor(spec.grey_weights)
        x = torch.einsum("bchw,c->bhw", crops, weights)[:, None]
        if spec.input_channels == 3:
            x = x.expand(-1, 3, -1, -1)
    elif spec.colour == "bgr":
        x = crops.flip(1)
    else:
        x = crops
    shape = (1, -1, 1, 1)
    mean, std = crops.new_tensor(spec.mean).view(shape), crops.new_tensor(spec.std).view(shape)
    x = (x * spec.scale - mean) / std
    return x.permute(0, 2, 3, 1).contiguous() if spec.layout == "NHWC" else x.contiguous()


def preprocess(images: Tensor, landmarks: Tensor, spec: ClassifierSpec) -> Tensor:
    """The network's input from ``images`` (B, 3, H, W) and ``landmarks`` (B, 68, 2) of the unit."""
    return normalise(cropped(images, landmarks, spec), spec)
