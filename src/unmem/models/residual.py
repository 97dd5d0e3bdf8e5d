"""Residual networks (He et al. 2016) with the stem for small images: 3×3, stride 1, no max-pooling."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from unmem.models.small import image_channels

STAGES = (1, 2, 4, 8)  # channels of each stage, as multiples of the first's
WIDTH = 64


class _Residual(nn.Module):
    """The basic block of He et al. 2016: two 3×3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class _Bottleneck(nn.Module):
    """The deeper block: 1×1 to a quarter of the width, 3×3 (with the stride), and 1×1 back."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        narrow = after // 4
        self.conv1 = nn.Conv2d(before, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


def resnet18(input_shape: tuple[int, ...], n_classes: int, *, width: int = WIDTH) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the stem for small images: 3×3, stride 1, no max-pooling.

    width: channels of the stem and of the first stage.
    """
    channels = image_channels("resnet18", input_shape, at_least=1)
    return _network(channels, n_classes, _Residual, (2, 2, 2, 2), width, tuple(width * n for n in STAGES))


def resnet50(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """ResNet-50 (He et al. 2016; the stride in the 3×3 convolutions) with the same stem for small images."""
    channels = image_channels("resnet50", input_shape, at_least=1)
    return _network(channels, n_classes, _Bottleneck, (3, 4, 6, 3), WIDTH, tuple(4 * WIDTH * n for n in STAGES))


def _network(
    channels: int,
    n_classes: int,
    block: type[_Residual] | type[_Bottleneck],
    depths: tuple[int, ...],
    stem: int,
    widths: tuple[int, ...],
) -> nn.Module:
    blocks: list[nn.Module] = []
    for stage, (before, after) in enumerate(pairwise((stem, *widths))):
        blocks.append(block(before, after, stride=1 if stage == 0 else 2))
        blocks += [block(after, after, stride=1) for _ in range(depths[stage] - 1)]
    return nn.Sequential(
        nn.Conv2d(channels, stem, 3, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], n_classes),
    )
