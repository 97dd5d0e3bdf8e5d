"""Where a training starts from instead of random weights: a model trained on other data, such as a pretrained body."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor, nn

from unmem.errors import UserError
from unmem.models import checkpoints, transformers
from unmem.models.folders import folder_of

_OF_A_FOLDER = ("config.json", "*.safetensors", "*.bin")


def start_from(base: str, model: nn.Module, input_shape: tuple[int, ...], n_classes: int) -> list[str]:
    """Fill the model with the weights of the base; the keys that the base has not, which stay as they were drawn.

    base: a model file, or a folder of save_pretrained, also of a model without a head. A last layer for another number
    of classes stays as drawn too. Raises `UserError` if the base is not of this network.
    """
    own = model.state_dict()
    theirs = _weights(Path(base), own, input_shape)
    common = {key: value for key, value in theirs.items() if key in own}
    other = {key for key, value in common.items() if value.shape != own[key].shape}
    wrong = sorted(key for key in other if not _is_head(common[key], own[key], n_classes))
    if not common.keys() - other:
        raise UserError("base", base, "no weights match this network", "pass the --arch it belongs to")
    if wrong:
        shapes = f"{tuple(common[wrong[0]].shape)}, the network needs {tuple(own[wrong[0]].shape)}"
        raise UserError("base", base, f"{wrong[0]} has shape {shapes}", "pass the --arch it belongs to")
    taken = {key: value for key, value in common.items() if key not in other}
    checkpoints.check_real(taken, own, "base", base)
    model.load_state_dict(taken, strict=False)
    checkpoints.check_finite({key: own[key] for key in taken}, "base", base)
    filled = {own[key].data_ptr() for key in taken}  # layers may share a weight that the base has once
    return [key for key in own if own[key].data_ptr() not in filled]


def digest(base: str) -> str:
    """SHA-256 of all that a base is read from: results of another one are others."""
    path = Path(base)
    folder = folder_of(path)
    files = [path] if folder is None else sorted({one for kind in _OF_A_FOLDER for one in folder.glob(kind)})
    whole = hashlib.sha256()
    for file in files:
        with _found(file, base).open("rb") as content:
            whole.update(f"{file.name} {hashlib.file_digest(content, 'sha256').hexdigest()} ".encode())
    return whole.hexdigest()


def _found(path: Path, base: str) -> Path:
    if not path.is_file():
        what = "no such file" if not path.exists() else "a folder without a config.json of transformers"
        raise UserError("base", base, what, "name a model file, or a folder that save_pretrained wrote")
    return path


def _weights(path: Path, own: dict[str, Tensor], input_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """By key of the network, what the base has."""
    folder = folder_of(path)
    try:
        if folder is not None:
            return transformers.weights_in(folder, input_shape)
        found = checkpoints.read(_found(path, str(path)))
    except UserError as error:
        fix = "name a file with a state dict, or a folder that save_pretrained wrote"
        raise UserError("base", str(path), error.problem, fix) from error
    found = found.of_network(own)
    prefix = max(found.prefixes(), key=lambda one: len(own.keys() & found.without(one).keys()))
    return found.without(prefix)


def _is_head(theirs: Tensor, own: Tensor, n_classes: int) -> bool:
    """Whether the two differ in the number of classes alone."""
    return own.ndim == theirs.ndim > 0 and own.shape[0] == n_classes and own.shape[1:] == theirs.shape[1:]
