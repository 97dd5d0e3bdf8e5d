"""VGG-16 with batch norm (Simonyan & Zisserman 2015) as small images take it: one linear layer at the end."""

from __future__ import annotations

from torch import nn

from unmem.models.small import image_channels

# Channels of the convolutions; 0 halves the image.
PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def vgg16(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Thirteen 3×3 convolutions with batch norm, five halvings, the average over what is left; 32×32 pixels or more."""
    channels = image_channels("vgg16", input_shape, at_least=32)
    layers = convolutions(channels, bias=False)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, n_classes))


def convolutions(channels: int, *, bias: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in PLAN:
        if width == 0:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    return layers
