"""Networks of torchvision and timm, by the names that they have there; freshly drawn, never downloaded."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from torch import nn

from unmem.errors import UserError, nearest
from unmem.extras import imported
from unmem.models.logits import Logits
from unmem.models.small import image_channels


def timm(name: str, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """timm/NAME."""
    channels = image_channels(name, input_shape, at_least=1)
    package, wanted = imported("timm", field="model", value=name), name.removeprefix("timm/")
    if not package.is_model(wanted):
        raise UserError("model", name, "timm has no such network", nearest(wanted, list(package.list_models())))
    return package.create_model(wanted, pretrained=False, num_classes=n_classes, in_chans=channels)


def torchvision(name: str, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """torchvision/NAME; its first convolution is made anew for images that have not three channels."""
    channels = image_channels(name, input_shape, at_least=1)
    package = imported("torchvision", field="model", value=name).models
    wanted = name.removeprefix("torchvision/")
    known: list[str] = list(package.list_models())
    if wanted not in known:
        raise UserError("model", name, "torchvision has no such network", nearest(wanted, known))
    model: nn.Module = package.get_model(wanted, weights=None, num_classes=n_classes)
    if channels != 3:
        _take_channels(model, channels)
    return Logits(model)  # some have auxiliary outputs while they train


def version_of(name: str) -> str:
    """The package that makes the network, with its version."""
    package = name.partition("/")[0]
    return f"{package} {version(package)}"


def _take_channels(model: nn.Module, channels: int) -> None:
    name, old = next((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    new: Any = nn.Conv2d(
        channels,
        old.out_channels,
        (old.kernel_size[0], old.kernel_size[1]),
        (old.stride[0], old.stride[1]),
        old.padding if isinstance(old.padding, str) else (old.padding[0], old.padding[1]),
        bias=old.bias is not None,
    )
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)
