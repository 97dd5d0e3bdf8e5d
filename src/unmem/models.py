"""Networks by name, and model files: a state and what is needed to build the module it belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.errors import UserError, nearest
from unmem.store import atomic_path


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
    channels = _image_channels("small_cnn", input_shape, at_least=4)
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


class _Residual(nn.Module):
    """The basic block of He et al. 2016: two 3×3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def resnet18(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the stem for small images: 3×3, stride 1, no max-pooling."""
    channels = _image_channels("resnet18", input_shape, at_least=1)
    widths = (64, 64, 128, 256, 512)
    blocks: list[nn.Module] = []
    for stage, (before, after) in enumerate(pairwise(widths)):
        blocks += [_Residual(before, after, stride=1 if stage == 0 else 2), _Residual(after, after, stride=1)]
    return nn.Sequential(
        nn.Conv2d(channels, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, n_classes),
    )


MODELS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "mlp": mlp,
    "small_cnn": small_cnn,
    "resnet18": resnet18,
}


def build(name: str, input_shape: tuple[int, ...], n_classes: int, *, seed: int) -> nn.Module:
    """A fresh network with weights drawn from `seed`; the caller's random state is left as it was."""
    if name not in MODELS:
        raise UserError("model", name, "no such network", nearest(name, list(MODELS)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name](input_shape, n_classes)


@dataclass(frozen=True)
class Card:
    """What a model file says of itself. `data` is the fingerprint of the training examples, if known."""

    arch: str
    input_shape: tuple[int, ...]
    n_classes: int
    data: str | None = None


def save(model: nn.Module, card: Card, path: Path) -> None:
    """Write the state (contiguous, on the CPU) and the card as one .safetensors file."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"unmem": json.dumps(asdict(card))})


def load(path: Path, *, arch: str | None, input_shape: tuple[int, ...], n_classes: int) -> tuple[nn.Module, Card]:
    """The model in a .safetensors file, for data of this shape and number of classes.

    arch: the network the state belongs to; needed only if the file has no card. Raises `UserError` if the file is
    missing or a pickle, if keys or shapes do not match, or if the model has fewer outputs than the data have classes.
    """
    state, card = _read_state(path)
    name = arch or (card.arch if card else None)
    if name is None:
        raise UserError("--arch", None, f"{path} does not say which network it is", f"pass one of {', '.join(MODELS)}")
    outputs = card.n_classes if card else _outputs(state, build(name, input_shape, n_classes, seed=0))
    if n_classes > outputs:
        raise UserError(
            "--model",
            str(path),
            f"the model has {outputs} outputs, but labels go up to {n_classes - 1}, which needs {n_classes}",
            "use the model that was trained on these labels, or correct the labels",
        )
    model = build(name, input_shape, outputs, seed=0)
    _load_state(model, state, path, name)
    return model, Card(name, input_shape, outputs, card.data if card else None)


def _read_state(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    if not path.is_file():
        raise UserError("--model", str(path), "no such file", "check the path")
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict, cannot be iterated)
            metadata: dict[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise UserError(
            "--model",
            str(path),
            "not a .safetensors file (pickles can run code and are refused)",
            "save the state dict with safetensors.torch.save_file",
        ) from error
    if "unmem" not in metadata:
        return state, None
    try:
        fields: dict[str, Any] = json.loads(metadata["unmem"])
        return state, Card(fields["arch"], tuple(fields["input_shape"]), fields["n_classes"], fields.get("data"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "--model", str(path), "its description of the network cannot be read", "save the model again with unmem"
        ) from error


def _load_state(model: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        what = [
            f"{len(keys)} {kind} ({keys[0]}, …)"
            for kind, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise UserError(
            "--model", str(path), f"its weights are not those of {name}: {' and '.join(what)}", "pass the right --arch"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise UserError(
                "--model",
                str(path),
                f"{key} has shape {tuple(value.shape)}, {name} for these data needs {tuple(own[key].shape)}",
                "check that the model and the data belong together",
            )
    model.load_state_dict(state)


def _outputs(state: dict[str, Tensor], like: nn.Module) -> int:
    """How many outputs the state has, by the bias of the last layer, which every network here stores last."""
    name, bias = list(like.state_dict().items())[-1]
    return len(state[name]) if name in state and state[name].ndim == 1 else len(bias)


def _image_channels(name: str, input_shape: tuple[int, ...], *, at_least: int) -> int:
    if len(input_shape) != 3 or min(input_shape[1:]) < at_least:
        raise UserError(
            "model",
            name,
            f"needs images [channels, height, width] of {at_least}×{at_least} or more; the inputs are {input_shape}",
            "use mlp",
        )
    return input_shape[0]
