"""Reading weights from the files that people have: safetensors, and what torch.save wrote."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unmem.errors import UserError
from unmem.models.card import Card, card_in

TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
# Where training scripts and Lightning keep the weights in what they save.
_INSIDE = (
    *("state_dict", "model_state_dict", "model", "net"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema", "ema_model"),  # only where there are no others
)
# What stands at the top of keys that belong to no network.
_BESIDE = (
    *("criterion", "loss", "loss_fn", "loss_function", "n_averaged", "metric", "metrics", "accuracy"),
    *("train_acc", "val_acc", "test_acc", "train_accuracy", "val_accuracy", "test_accuracy"),
    *("train_metrics", "val_metrics", "test_metrics", "ema", "ema_model", "model_ema"),
)
_LFS = b"version https://git-lfs.github.com/spec"
_LONGEST_HEADER = 100_000_000  # bytes, as the format says
# What wrappers put before the keys: DataParallel, torch.compile, Lightning modules and training scripts.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
_SAVE = "save model.state_dict() alone, best as .safetensors"
_DEEPEST = 8  # dictionaries within each other; a file may hold itself


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """state: weights by key, as in the file. card: what the file says of itself, if it is one of unmem.

    aside: what looks as if it belonged to no network, see `_aside`.
    """

    state: dict[str, Tensor]
    card: Card | None
    taken: str = ""  # under which key of the file the weights were, of several such
    others: tuple[str, ...] = ()  # the other keys of weights
    aside: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def note(self) -> str | None:
        """What was taken and what was not, if the file holds more than the weights of one network."""
        left = (*self.others, *dict.fromkeys(map(_root, self.aside)))
        if not left:
            return None
        which = f"the weights under {self.taken!r} were taken" if self.taken else "its weights were taken"
        more = f" and {len(left) - 3} more" * (len(left) > 3)
        return f"{which}, and {', '.join(left[:3])}{more} left out"

    def of_network(self, keys: Iterable[str]) -> Checkpoint:
        """With the weights of a network of these keys that has layers called `loss`, `metric` or the like.

        Such a name stands at the top only where there is no prefix, so that all of the network is there.
        """
        own = set(keys)
        found = {key: value for key, value in self.aside.items() if key in own}
        if not found or not own.issuperset(self.state):
            return self
        aside = {key: value for key, value in self.aside.items() if key not in own}
        return replace(self, state=self.state | found, aside=aside)

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
    check_whole(path)
    if path.suffix in TORCH_FILES:
        found = _unpickled(path, unsafe)
        return _plain(_aside(_unpacked(found, path), *_others(found)), path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict, cannot be iterated)
            card = card_in(file.metadata(), path)
            return _aside(state) if card is None else Checkpoint(state, card)
    except SafetensorError as error:
        raise UserError(
            "--model",
            str(path),
            "not a .safetensors file (pickles can run code and are refused)",
            "save the state dict with safetensors.torch.save_file, or give a file of torch.save its name in "
            f"{', '.join(TORCH_FILES)}",
        ) from error


def check_whole(path: Path, option: str = "--model") -> None:
    """Refuse a file of weights that is cut off, only stands for one, or holds compiled code."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(64)
    size = path.stat().st_size
    if head.startswith(_LFS):
        problem = "is a pointer of git-lfs, not the weights themselves"
        raise UserError(option, str(path), problem, "run git lfs pull in its folder, or download the file again")
    if path.suffix == ".safetensors" and _needed(path) > size > 0:
        problem = f"not a .safetensors file that is whole: {size:,} of {_needed(path):,} bytes are there"
        raise UserError(option, str(path), problem, "copy or download it again")
    if head.startswith(b"PK") and _is_compiled(path):
        fix = "save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW), and name the network by --arch"
        raise UserError(option, str(path), "is a TorchScript archive: compiled code, which cannot be trained", fix)


def _is_compiled(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # zipfile raises errors of many kinds, and whoever reads the damaged file says it better
        return False


def check_real(state: Mapping[str, Tensor], own: Mapping[str, Tensor], option: str, file: str) -> None:
    """Refuse complex numbers for a network of real ones, of which the half would be lost."""
    lost = next((key for key, one in state.items() if one.is_complex() and not own[key].is_complex()), None)
    if lost is not None:
        raise UserError(option, file, f"{lost} holds complex numbers, the network real ones", "pass the right --arch")


def check_finite(state: Mapping[str, Tensor], option: str, file: str) -> None:
    """Refuse weights that are NaN or +∞; −∞ is no fault where layers keep masks among their weights."""
    for key, one in state.items():
        if (one.is_floating_point() or one.is_complex()) and one.numel():
            bad = int((one.isnan() | (one.abs().isinf() if one.is_complex() else one.isposinf())).sum())
            if bad:
                problem = f"{key} holds NaN or infinity at {bad:,} of {one.numel():,} places"
                fix = "use a file that was saved before its training diverged, or train it again at a lower rate"
                raise UserError(option, file, problem, fix)


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _ends_as_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # as the bytes of a damaged end may say
        return False


def _needed(path: Path) -> int:
    """Bytes that a .safetensors file says it has; 0 if it is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _LONGEST_HEADER:
            return 0
        text = file.read(length)
    if len(text) < length:
        return 8 + length if text.startswith(b"{") else 0
    try:
        entries: dict[str, Any] = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return 0


def _aside(state: dict[str, Tensor], taken: str = "", others: tuple[str, ...] = ()) -> Checkpoint:
    """The weights, without what training scripts keep beside the network under the same roof.

    The weights of a loss (`criterion.`), counters of weight averaging, metrics, and the running average of all weights
    (EMA) if those that it averages are there too.
    """
    kept = {key: value for key, value in state.items() if _root(key) not in _BESIDE}
    adapters = [key for key in state if ".lora_A." in key or ".lora_B." in key]
    if adapters:
        fix = "merge it first: model.merge_and_unload().save_pretrained(DIR)"
        raise UserError("--model", adapters[0], "is a weight of a PEFT adapter, not of a whole model", fix)
    if not kept:
        return Checkpoint(state, None, taken, others)
    return Checkpoint(kept, None, taken, others, {key: value for key, value in state.items() if key not in kept})


def _root(key: str) -> str:
    return key.partition(".")[0]


def _plain(found: Checkpoint, path: Path) -> Checkpoint:
    """Refuse weights that are no plain tensors of numbers, which a network cannot be filled with."""
    for key, value in found.state.items():
        kinds = {"quantised": value.is_quantized, "on no device": value.is_meta, "nested": value.is_nested}
        kind = next((name for name, so in kinds.items() if so), "")
        if not kind and value.layout != torch.strided:
            kind = "sparse"
        if kind:
            raise UserError("--model", str(path), f"{key} is {kind}, not a plain tensor", "save it as a plain tensor")
    return found


def _others(found: Any) -> tuple[str, tuple[str, ...]]:
    """Under which key `_unpacked` finds the weights, and the other keys of weights beside it."""
    if not isinstance(found, Mapping):
        return "", ()
    held: Mapping[Any, Any] = found
    taken = next((key for key in _INSIDE if isinstance(held.get(key), Mapping | nn.Module)), None)
    if taken is None:
        return "", ()
    others = tuple(str(key) for key, value in held.items() if key != taken and _is_state(value))
    deeper, more = _others(held[taken])
    return f"{taken}.{deeper}" if deeper else taken, (*others, *(f"{taken}.{one}" for one in more))


def _is_state(value: Any, depth: int = 0) -> bool:
    """Whether a value is or holds weights; the state of an optimiser is none."""
    if isinstance(value, nn.Module):
        return True
    if depth > 3 or not isinstance(value, Mapping) or "param_groups" in value:
        return False
    values: list[Any] = list(value.values())  # pyright: ignore
    if values and all(isinstance(one, Tensor) for one in values):
        return True
    return any(_is_state(one, depth + 1) for one in values)


def _unpickled(path: Path, unsafe: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what then ends in an error with a sentence of its own
            return torch.load(path, map_location="cpu", weights_only=not unsafe)
    except Exception as error:  # a pickle may raise anything
        if "weights_only" not in str(error):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else type(error).__name__
            cut = path.stat().st_size == 0 or (_begins_as_zip(path) and not _ends_as_zip(path))
            fix = "it is empty or cut off: copy or download it again" if cut else _SAVE
            raise UserError("--model", str(path), f"cannot be read as a file of torch.save ({reason})", fix) from error
        held = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            "--model",
            str(path),
            f"it holds more than weights{f' ({held[1]})' if held else ''}, which may run code",
            f"{_SAVE}, or pass --unsafe-load if you trust whoever made the file",
        ) from error


def _unpacked(found: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """The state dict in what a file held, however deep training scripts put it."""
    if isinstance(found, nn.Module):
        return dict(found.state_dict())
    if isinstance(found, Mapping):
        held: Mapping[Any, Any] = found
        for key in _INSIDE:
            if isinstance(held.get(key), Mapping | nn.Module):
                if depth == _DEEPEST:
                    raise UserError("--model", str(path), "holds dictionaries within each other without an end", _SAVE)
                return _unpacked(held[key], path, depth + 1)
        state = {str(key): value for key, value in held.items() if isinstance(value, Tensor)}
        if state:
            return state
        what = f"a dictionary of {', '.join(map(str, list(held)[:5])) or 'nothing'}"
    else:
        what = f"a {type(found).__name__}"
    raise UserError("--model", str(path), f"holds no weights, but {what}", _SAVE)
