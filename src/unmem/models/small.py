"""Small networks: for inputs of any shape, and for small images."""

from __future__ import annotations

import torch
from torch import nn

from unmem.errors import UserError


def mlp(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Two hidden layers of 256 units over the flattened input, of any shape."""
    size = int(torch.Size(input_shape).numel())
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, n_classes)
    )


def small_cnn(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Three 3×3 convolutions (16, 32, 64 channels) with batch norm, then 128 units; images of 4×4 pixels or more.

    The image is halved after the first two convolutions and not averaged at the end, so that the network can fit its
    training examples one by one: a memorization score of a model that cannot memorize says little.
    """
    channels = image_channels("small_cnn", input_shape, at_least=4)
    height, width = (side // 4 for side in input_shape[1:])
    return nn.Sequential(
        *_convolution(channels, 16),
        nn.MaxPool2d(2),  # before the ReLU: the same values and gradients, from a quarter of the work
        nn.ReLU(inplace=True),
        *_convolution(16, 32),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        *_convolution(32, 64),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64 * height * width, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)


def image_channels(name: str, input_shape: tuple[int, ...], *, at_least: int) -> int:
    """The channels of images [channels, height, width]; refuses inputs that are none, or too small ones."""
    if len(input_shape) != 3 or min(input_shape[1:]) < at_least:
        raise UserError(
            "model",
            name,
            f"needs images [channels, height, width] of {at_least}×{at_least} or more; the inputs are {input_shape}",
            "use mlp",
        )
    return input_shape[0]
