"""Segmentation-VGG19: Vignesh, Savithadevi, Sridevi, Sridhar (2023), *A novel facial emotion recognition model using
segmentation VGG-19 architecture*, Int. J. Inf. Technol. 15. Parameter names as in the official code
(VigneshS10/Segmentation-VGG19, ``vgg19_bn_mask``).

Input (B, 3, 224, 224): grey repeated three times, in [0, 1]; output (B, labels) logits.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .residual_masking import Masking

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)
POOL_AFTER = (2, 4, 8, 12, 16)
MASK_AFTER = {2: 1, 4: 2, 8: 3, 16: 4}
"""Convolution → the segmentation block behind it. There is none in the fourth group."""


class SegmentationVGG19(nn.Module):
    """VGG-19 with batch norm; four groups are reweighted by ``1 + mask`` before their pooling."""

    def __init__(self, labels: int = 7) -> None:
        super().__init__()
        previous = 3
        for k, width in enumerate(WIDTHS, 1):
            self.add_module(f"conv{k}", nn.Conv2d(previous, width, 3, padding=1))
            self.add_module(f"bn{k}", nn.BatchNorm2d(width))
            previous = width
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, labels),
        )
        for after, k in MASK_AFTER.items():
            self.add_module(f"seg{k}", Masking(WIDTHS[after - 1], 1))

    def forward(self, x: Tensor) -> Tensor:
        for k in range(1, len(WIDTHS) + 1):
            x = F.relu(self.get_submodule(f"bn{k}")(self.get_submodule(f"conv{k}")(x)))
            if k in MASK_AFTER:
                x = x * (1 + self.get_submodule(f"seg{MASK_AFTER[k]}")(x))
            if k in POOL_AFTER:
                x = F.max_pool2d(x, 2)
        return self.classifier(F.adaptive_avg_pool2d(x, (7, 7)).flatten(1))


def segmentation_vgg19(labels: int = 7) -> nn.Module:
    """The network, with untrained parameters."""
    return SegmentationVGG19(labels)
