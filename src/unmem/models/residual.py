"""Residual block (He et al. 2016), and ResNet-18 and ResNet-50 with the stem for small images: 3×3, stride 1, no
max-pooling."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from unmem.models.small import image_channels

# Blocks of each stage, by the number of layers.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STAGES = (1, 2, 4, 8)  # channels of each stage, as multiples of the first's
WIDTH = 64


class Block(nn.Module):
    """Residual block: convolutions with batch norm (`conv1`, `bn1`, `conv2`, `bn2`, …) and a shortcut.

    The basic block of He et al. 2016 has two 3×3 convolutions, and the first one has the stride. The bottleneck block
    has a 1×1 convolution to a quarter of the width, a 3×3 convolution with the stride, and a 1×1 convolution back.

    Args:
        before: Number of input channels.
        after: Number of output channels.
        stride: Stride of one convolution and of the shortcut.
        deep: Whether to build the bottleneck block.
        shortcut: Name of the shortcut in the state dict.
    """

    def __init__(self, before: int, after: int, stride: int, *, deep: bool, shortcut: str = "shortcut") -> None:
        super().__init__()
        narrow = after // 4
        shapes = [(before, narrow, 1), (narrow, narrow, 3), (narrow, after, 1)] if deep else []
        shapes = shapes or [(before, after, 3), (after, after, 3)]
        strided = 2 if deep else 1
        self.depth, self.shortcut_name = len(shapes), shortcut
        for k, (into, out, size) in enumerate(shapes, start=1):
            convolution = nn.Conv2d(into, out, size, stride if k == strided else 1, size // 2, bias=False)
            self.add_module(f"conv{k}", convolution)
            self.add_module(f"bn{k}", nn.BatchNorm2d(out))
        past = nn.Sequential()
        if stride != 1 or before != after:
            past = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.add_module(shortcut, past)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for k in range(1, self.depth + 1):
            out = self.get_submodule(f"bn{k}")(self.get_submodule(f"conv{k}")(out))
            out = F.relu(out) if k < self.depth else out
        return F.relu(out + self.get_submodule(self.shortcut_name)(x))


def resnet18(input_shape: tuple[int, ...], n_classes: int, *, width: int = WIDTH) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the stem for small images: 3×3, stride 1, no max-pooling.

    width: channels of the stem and of the first stage.
    """
    channels = image_channels("resnet18", input_shape, at_least=1)
    return _network(channels, n_classes, DEPTHS[18], width, tuple(width * n for n in STAGES), deep=False)


def resnet50(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """ResNet-50 (He et al. 2016; the stride in the 3×3 convolutions) with the same stem for small images."""
    channels = image_channels("resnet50", input_shape, at_least=1)
    return _network(channels, n_classes, DEPTHS[50], WIDTH, tuple(4 * WIDTH * n for n in STAGES), deep=True)


def _network(
    channels: int, n_classes: int, depths: tuple[int, ...], stem: int, widths: tuple[int, ...], *, deep: bool
) -> nn.Module:
    blocks: list[nn.Module] = []
    for stage, (before, after) in enumerate(pairwise((stem, *widths))):
        blocks.append(Block(before, after, 1 if stage == 0 else 2, deep=deep))
        blocks += [Block(after, after, 1, deep=deep) for _ in range(depths[stage] - 1)]
    return nn.Sequential(
        nn.Conv2d(channels, stem, 3, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], n_classes),
    )
