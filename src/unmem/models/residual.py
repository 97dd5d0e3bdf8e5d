"""The block of residual networks (He et al. 2016), and two of them with the stem for small images: 3×3, stride 1, no
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
    """Convolutions beside a shortcut, each with batch norm: `conv1` and `bn1`, `conv2` and `bn2`, ….

    The basic block of He et al. 2016 has two 3×3 convolutions, the first with the stride. The deep one has 1×1 to a
    quarter of the width, 3×3 with the stride, and 1×1 back.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: Of the one convolution that has it, and of the shortcut.
        deep: Whether it is the deep block.
        shortcut: Name of the shortcut among the layers.
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
