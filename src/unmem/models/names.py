"""From a name to a fresh network: the one way to build one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from unmem.errors import UserError, nearest
from unmem.models import bases, hub, own, transformers
from unmem.models.identity import identity
from unmem.models.layouts import LAYOUTS
from unmem.models.lazy import materialized
from unmem.models.residual import resnet18, resnet50
from unmem.models.small import mlp, small_cnn
from unmem.models.vgg import vgg16
from unmem.models.vit import vit

Constructor = Callable[[tuple[int, ...], int], nn.Module]

MODELS: dict[str, Constructor] = {
    "mlp": mlp,
    "small_cnn": small_cnn,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vgg16": vgg16,
    "vit": vit,
}
# Built here, whether or not the package that they are named after is installed.
_ALWAYS_HERE = tuple(name for name in LAYOUTS if not name.startswith("torchvision/") or name.endswith("-3x3"))


def build(name: str, input_shape: tuple[int, ...], n_classes: int, *, seed: int, base: str = "") -> nn.Module:
    """A fresh network with weights drawn from `seed`; the caller's random state is left as it was.

    name: one of `MODELS`; `torchvision/NAME`, `timm/NAME`; `transformers/DIR`; `package.module:function` or
    `path/to/file.py:function`. base: a model file or folder whose weights take the place of those drawn, see
    `start_from`.
    """
    make = constructor(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = materialized(make(input_shape, n_classes), input_shape)
    check_state(model, name)
    if base:
        bases.start_from(base, model, input_shape, n_classes)
    return model


def check_state(model: nn.Module, name: str) -> None:
    """Refuse a network whose state is more than tensors: model files hold nothing else."""
    state: dict[str, object] = model.state_dict()
    stray = next((key for key, one in state.items() if not isinstance(one, Tensor)), None)
    if stray is not None:
        problem = f"keeps {stray!r} in its state, which is no tensor and cannot be saved"
        raise UserError("model", name, problem, "let get_extra_state give a tensor")


def constructor(name: str) -> Constructor:
    """(input_shape, n_classes) -> network. Raises `UserError` if no network has this name."""
    if name in MODELS:
        return MODELS[name]
    if _is_layout(name):
        return LAYOUTS[name]
    kinds = {"torchvision": hub.torchvision, "timm": hub.timm, "transformers": transformers.transformer}
    kind = name.partition("/")[0]
    if kind in kinds and "/" in name:
        return partial(kinds[kind], name)
    if own.is_own(name):
        return partial(own.own, name)
    raise UserError("model", name, "no such network", nearest(name, [*MODELS, *LAYOUTS]))


def runs_code(name: str) -> bool:
    """Whether `build` imports and calls code of the user's own for this name."""
    return not (name in MODELS or _is_layout(name)) and own.is_own(name)


def source_of(
    name: str, base: str = "", *, input_shape: tuple[int, ...] | None = None, n_classes: int = 0
) -> str | None:
    """A hash of what the names stand for, where that can change while the names stay; None where it cannot.

    With an input shape and a number of classes also of the network that is built for them (`identity`).
    """
    found: str | None = None
    if name.startswith(transformers.PREFIX):
        found = transformers.source_of(name)
    elif own.is_own(name):
        found = own.source_of(name)
    elif name.partition("/")[0] in ("torchvision", "timm") and not _is_layout(name):
        found = hub.version_of(name)
    if found is not None and input_shape is not None:
        found = f"{found} {identity(build(name, input_shape, n_classes, seed=0))}"
    return f"{found or ''} from {bases.digest(base)}" if base else found


def _is_layout(name: str) -> bool:
    """Whether the network is built here and not by torchvision."""
    return name in _ALWAYS_HERE or (name in LAYOUTS and find_spec("torchvision") is None)
