"""Networks with the state keys and the forward pass of code that many checkpoints come from, needing none of it.

torchvision's ResNets and VGG-16 with batch norm; its ResNets with the usual change for small images (a 3×3 stem of
stride 1, no max-pooling: "-3x3"); and the ResNets of the CIFAR code that calls its layers `shortcut` and `linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from unmem.models.residual import DEPTHS, Block
from unmem.models.small import image_channels
from unmem.models.vgg import convolutions

Layout = Literal["torchvision", "torchvision-3x3", "cifar"]


class ResNet(nn.Module):
    """Bottleneck blocks from 50 layers on. The 7×7 stem has stride 2 and a max-pooling of stride 2 behind it."""

    def __init__(self, layers: int, layout: Layout, channels: int, n_classes: int) -> None:
        super().__init__()
        deep = layers >= 50
        self.large = layout == "torchvision"
        size, stride = (7, 2) if self.large else (3, 1)
        self.conv1 = nn.Conv2d(channels, 64, size, stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before, shortcut = 64, "shortcut" if layout == "cifar" else "downsample"
        for stage, depth in enumerate(DEPTHS[layers]):
            after = 64 * 2**stage * (4 if deep else 1)
            strides = [1 if stage == 0 else 2, *[1] * (depth - 1)]
            widths = [before, *[after] * (depth - 1)]
            blocks = [
                Block(width, after, stride, deep=deep, shortcut=shortcut)
                for width, stride in zip(widths, strides, strict=True)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            before = after
        self.head = "linear" if layout == "cifar" else "fc"
        self.add_module(self.head, nn.Linear(before, n_classes))
        _as_published(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.get_submodule(self.head)(F.adaptive_avg_pool2d(x, 1).flatten(1))


class VGG16(nn.Module):
    """Thirteen convolutions with bias and batch norm, the average over 7×7, and three linear layers with dropout."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*convolutions(channels, bias=True))
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
            nn.Linear(4096, n_classes),
        )
        _as_published(self)
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 7).flatten(1))


def _as_published(model: nn.Module) -> None:
    """Convolutions drawn for ReLU by their outputs, as in He et al. 2015."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _resnet(name: str, layers: int, layout: Layout, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return ResNet(layers, layout, image_channels(name, input_shape, at_least=1), n_classes)


def _vgg16_bn(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return VGG16(image_channels("torchvision/vgg16_bn", input_shape, at_least=32), n_classes)


def _table() -> dict[str, Callable[[tuple[int, ...], int], nn.Module]]:
    layouts: tuple[tuple[str, Layout], ...] = (
        ("torchvision/resnet{}", "torchvision"),
        ("torchvision/resnet{}-3x3", "torchvision-3x3"),
        ("cifar/resnet{}", "cifar"),
    )
    found: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {}
    for pattern, layout in layouts:
        for layers in DEPTHS:
            name = pattern.format(layers)
            found[name] = partial(_resnet, name, layers, layout)
    return found | {"torchvision/vgg16_bn": _vgg16_bn}


LAYOUTS = _table()
