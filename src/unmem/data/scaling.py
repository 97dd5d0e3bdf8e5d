"""`Scaling`: from stored inputs to what a model sees, and the scalings that have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmem.errors import UserError, nearest

# Mean and standard deviation of the training images in [0, 1], by channel. Those of CIFAR and SVHN as in the released
# code of RUM (github.com/kairanzhao/RUM, utils.py), which also takes ImageNet's for Tiny ImageNet; Fashion-MNIST's are
# those of its 60,000 training images.
_MOMENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1201, 0.1231, 0.1052)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
}
FROM_DATA = "dataset"  # the name of the scaling by the training images' own mean and deviation


@dataclass(frozen=True)
class Scaling:
    """What a model sees of a stored input: `stored * scale + shift`, in float32.

    Each is one number, or one a channel for images [C, H, W].
    """

    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0

    @classmethod
    def of(cls, mean: Sequence[float], sd: Sequence[float], *, full: float = 255) -> Scaling:
        """What brings this mean and deviation to 0 and 1; they are shares of `full`, the largest stored value."""
        scale = tuple(1 / (full * value) for value in sd)
        shift = tuple(-value / one for value, one in zip(mean, sd, strict=True))
        return cls(scale[0], shift[0]) if len(scale) == 1 else cls(scale, shift)

    def apply(self, stored: Tensor) -> Tensor:
        """[B, ...] of any type to [B, ...] float32."""
        x = stored.float()
        return x * _by_channel(self.scale, x) + _by_channel(self.shift, x)


def _by_channel(values: float | tuple[float, ...], x: Tensor) -> float | Tensor:
    if not isinstance(values, tuple):
        return values
    return torch.tensor(values, dtype=x.dtype, device=x.device).view(-1, 1, 1)


def named_scalings(channels: int, *, full: float = 255) -> dict[str, Scaling]:
    """By name, every scaling for images of this many channels whose stored values go from 0 to `full`."""
    plain = {"unit": Scaling(1 / full), "symmetric": Scaling(2 / full, -1.0), "raw": Scaling()}
    fit = {name: Scaling.of(mean, sd, full=full) for name, (mean, sd) in _MOMENTS.items() if len(mean) == channels}
    return plain | fit


def scaling_from(text: str, channels: int, *, full: float = 255) -> Scaling:
    """A scaling by name, or by numbers: "0.5,0.5,0.5/0.25,0.25,0.25" is the mean and deviation by channel."""
    known = named_scalings(channels, full=full)
    if text in known:
        return known[text]
    if text in _MOMENTS:
        wanted = len(_MOMENTS[text][0])
        raise UserError(
            "scaling", text, f"is for {wanted} channels, these inputs have {channels}", f"use {FROM_DATA} or unit"
        )
    if "/" not in text:
        raise UserError("scaling", text, "no such scaling", nearest(text, [*known, FROM_DATA]))
    try:
        mean, sd = ([float(number) for number in half.split(",")] for half in text.split("/"))
    except ValueError as error:
        raise UserError(
            "scaling", text, "not MEAN/SD", "write it as 0.5,0.5,0.5/0.25,0.25,0.25, or as 0.5/0.25 for every channel"
        ) from error
    if len(mean) != len(sd) or len(mean) not in (1, channels):
        raise UserError(
            "scaling",
            text,
            f"has {len(mean)} means and {len(sd)} deviations, the inputs have {channels} channels",
            "give one of each a channel, or one for all",
        )
    if min(sd) <= 0:
        raise UserError("scaling", text, "a deviation is positive", "write the means first, then the deviations")
    return Scaling.of(mean, sd, full=full)
