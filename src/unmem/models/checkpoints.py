"""Reading weights from the files that people have: safetensors, and what torch.save wrote."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unmem.errors import UserError
from unmem.models.card import Card, card_in

TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
# Where training scripts and Lightning keep the weights in what they save.
_INSIDE = ("state_dict", "model_state_dict", "model", "net")
# What wrappers put before the keys: DataParallel, torch.compile, Lightning modules and training scripts.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
_SAVE = "save model.state_dict() alone, best as .safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """state: weights by key, as in the file. card: what the file says of itself, if it is one of unmem."""

    state: dict[str, Tensor]
    card: Card | None

    def prefixes(self) -> list[str]:
        """What may stand before the network's own keys, from nothing to all that looks like a wrapper's."""
        found, rest = [""], list(self.state)
        while True:
            prefix = next((one for one in _WRAPPERS if rest and all(key.startswith(one) for key in rest)), None)
            if prefix is None:
                return found
            found.append(found[-1] + prefix)
            rest = [key.removeprefix(prefix) for key in rest]

    def without(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.state.items()}


def read(path: Path, *, unsafe: bool = False) -> Checkpoint:
    """The weights in a file, on the CPU. unsafe: also run what a pickle holds, which may be anything."""
    if not path.is_file():
        raise UserError("--model", str(path), "no such file", "check the path")
    if path.suffix in TORCH_FILES:
        return Checkpoint(_unpacked(_unpickled(path, unsafe), path), None)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict, cannot be iterated)
            return Checkpoint(state, card_in(file.metadata(), path))
    except SafetensorError as error:
        raise UserError(
            "--model",
            str(path),
            "not a .safetensors file (pickles can run code and are refused)",
            "save the state dict with safetensors.torch.save_file, or give a file of torch.save its name in "
            f"{', '.join(TORCH_FILES)}",
        ) from error


def _unpickled(path: Path, unsafe: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what then ends in an error with a sentence of its own
            return torch.load(path, map_location="cpu", weights_only=not unsafe)
    except Exception as error:  # a pickle may raise anything
        if "weights_only" not in str(error):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else type(error).__name__
            raise UserError(
                "--model", str(path), f"cannot be read as a file of torch.save ({reason})", _SAVE
            ) from error
        held = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            "--model",
            str(path),
            f"it holds more than weights{f' ({held[1]})' if held else ''}, which may run code",
            f"{_SAVE}, or pass --unsafe-load if you trust whoever made the file",
        ) from error


def _unpacked(found: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file held, however deep training scripts put it."""
    if isinstance(found, nn.Module):
        return dict(found.state_dict())
    if isinstance(found, Mapping):
        held: Mapping[Any, Any] = found
        for key in _INSIDE:
            if isinstance(held.get(key), Mapping | nn.Module):
                return _unpacked(held[key], path)
        state = {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
        if state:
            return state
        what = f"a dictionary of {', '.join(map(str, list(held)[:5])) or 'nothing'}"
    else:
        what = f"a {type(found).__name__}"
    raise UserError("--model", str(path), f"holds no weights, but {what}", _SAVE)
