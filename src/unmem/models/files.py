"""Model files: a state and what is needed to build the module it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unmem.errors import UserError
from unmem.models import checkpoints, transformers
from unmem.models.card import CARD, KEY, Card, card_in, card_of
from unmem.models.checkpoints import Checkpoint, check_finite, check_real
from unmem.models.layouts import LAYOUTS
from unmem.models.names import MODELS, build, runs_code
from unmem.models.recognise import recognise
from unmem.store import atomic_path

_SHOWN = 200  # characters of a name that a file holds


def save(model: nn.Module, card: Card, path: Path) -> None:
    """Write the state (contiguous, on the CPU, under the keys that the card says) and the card as .safetensors."""
    if isinstance(model, transformers.Classifier):
        card = replace(card, config=model.settings())
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        # Weights that layers share are written for each: a file of this kind holds no references.
        state[card.prefix + name] = value.clone() if memory in seen else value
        seen.add(memory)
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata=card.metadata())


def load(
    path: str | Path,
    *,
    arch: str | None,
    input_shape: tuple[int, ...],
    n_classes: int,
    unsafe: bool = False,
    on_warning: Callable[[str], None] | None = None,
) -> tuple[nn.Module, Card]:
    """The model in a file, or in a folder of save_pretrained, for data of this shape and number of classes.

    arch: the network the state belongs to; needed if the file has no card and its keys are not recognised, and if it is
    one of your own code, since a file never chooses what code is run. unsafe: also read pickles, which may run code.
    on_warning: called with a sentence that says which network was recognised. Raises `UserError` if the file is missing
    or a pickle, if keys or shapes do not match, or if the model has fewer outputs than the data have classes.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path, input_shape, n_classes)
    found = checkpoints.read(path, unsafe=unsafe)
    if arch is not None and found.aside:
        found = found.of_network(build(arch, input_shape, n_classes, seed=0).state_dict())
    if on_warning is not None and found.note is not None:
        on_warning(f"{path.name}: {found.note}")
    name = arch or _name(path, found, input_shape, on_warning)
    outputs = found.card.n_classes if found.card else _outputs(found, name, input_shape, n_classes)
    _check_outputs(path, outputs, n_classes)
    most = max((size for one in found.state.values() for size in one.shape), default=0)
    if found.card is not None and outputs > most:  # or a network would be built that no memory holds
        problem = f"its description says that it has {outputs:,} outputs, and none of its weights is of that size"
        raise UserError("--model", str(path), problem, "save the model again with unmem")
    model = build(name, input_shape, outputs, seed=0)
    prefix, note = _load_state(model, found, path, name)
    if on_warning is not None and note is not None:
        on_warning(f"{path.name}: {note}")
    said = found.card or Card(name, input_shape, outputs)
    return model, Card(name, input_shape, outputs, said.data, prefix, forgotten=said.forgotten)


def _converted(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """What weights of another type than the network's become; numbers that only count are no weights."""
    pairs = {(one.dtype, own[key].dtype) for key, one in state.items() if own[key].is_floating_point()}
    were, are = ({pair[k] for pair in pairs if pair[0] != pair[1]} for k in (0, 1))
    if not were:
        return None
    before, now = (" and ".join(sorted(map(str, kinds))).replace("torch.", "") for kinds in (were, are))
    return f"its weights are {before}, and are used and saved as {now}"


def arch_at(path: Path) -> str | None:
    """The network that a model file or folder says it is, without reading its weights; None if it does not say."""
    if transformers.is_folder(path):
        return f"{transformers.PREFIX}{path}"
    card = card_of(path) if path.is_file() else None
    return None if card is None else _arch(card, path)


def said_by(path: Path) -> Card | None:
    """The card of a model file, or of a folder that unmem wrote, without reading weights; None if there is none."""
    if not path.is_dir():
        return card_of(path) if path.is_file() else None
    file = path / CARD
    if not file.is_file():
        return None
    try:
        return card_in({KEY: file.read_text(encoding="utf-8")}, file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("--model", str(file), "cannot be read", "copy the folder again as unmem wrote it") from error


def class_names(path: Path) -> tuple[str, ...]:
    """Names of a model's outputs in their order, where its folder has them."""
    folder = path if path.is_dir() else path.parent
    return transformers.class_names(folder) if transformers.is_folder(folder) else ()


def _from_folder(path: Path, input_shape: tuple[int, ...], n_classes: int) -> tuple[nn.Module, Card]:
    if (path / "adapter_config.json").is_file():
        raise transformers.adapter(path)
    if not transformers.is_folder(path):
        raise UserError(
            "--model",
            str(path),
            "a folder without a config.json of transformers",
            "name a file, or what save_pretrained wrote",
        )
    model = transformers.read_folder(path, input_shape)
    check_finite(model.state_dict(), "--model", str(path))
    outputs = int(model.config.num_labels)
    _check_outputs(path, outputs, n_classes)
    card = Card(f"{transformers.PREFIX}{path}", input_shape, outputs)
    said = said_by(path)
    return model, card if said is None else replace(card, data=said.data, forgotten=said.forgotten)


def _name(path: Path, found: Checkpoint, input_shape: tuple[int, ...], on_warning: Callable[[str], None] | None) -> str:
    """The network, by what the file says of itself, by what lies beside it, or by its keys."""
    if found.card is not None:
        return _arch(found.card, path)
    if transformers.is_folder(path.parent):
        return f"{transformers.PREFIX}{path.parent}"
    name = recognise(found, input_shape)
    if name is None:
        raise UserError(
            "--arch",
            None,
            f"{path} does not say which network it is, and its keys are not known",
            f"pass one of {', '.join(MODELS)}, torchvision/NAME, timm/NAME, transformers/DIR or FILE.py:FUNCTION",
        )
    if on_warning is not None:
        on_warning(f"{path.name} has the keys and shapes of {name}, and is loaded as such (override with --arch)")
    return name


def _arch(card: Card, path: Path) -> str:
    """What the card says; a file that was taken away from its folder of transformers describes itself.

    Raises:
        UserError: It names a function of somebody's own, which only the user may name.
    """
    if runs_code(card.arch):
        raise UserError(
            "--arch",
            None,
            f"{path} says that its network is made by {card.arch[:_SHOWN]!r}, which was not imported or run, since a "
            "file must not choose what code is run",
            "pass --arch FILE.py:FUNCTION with the code of that network, if you trust it (arch= in Python)",
        )
    if card.config is None or transformers.is_folder(Path(card.arch.removeprefix(transformers.PREFIX))):
        return card.arch
    return f"{transformers.PREFIX}{path}"


def _check_outputs(path: Path, outputs: int, n_classes: int) -> None:
    if n_classes > outputs:
        raise UserError(
            "--model",
            str(path),
            f"the model has {outputs} outputs, but labels go up to {n_classes - 1}, which needs {n_classes}",
            "use the model that was trained on these labels, or correct the labels",
        )


def _load_state(model: nn.Module, found: Checkpoint, path: Path, name: str) -> tuple[str, str | None]:
    """Fill the model, and give the prefix that its keys have in the file, and a note on their type."""
    own = model.state_dict()
    prefix = min(found.prefixes(), key=lambda one: len(own.keys() ^ found.without(one).keys()))
    state = found.without(prefix)
    present = {own[key].data_ptr() for key in own if key in state}
    # A weight that layers share may be in the file but once.
    missing = sorted(key for key in own if key not in state and own[key].data_ptr() not in present)
    unexpected = sorted(state.keys() - own.keys())
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
                _fix(value.shape, own[key].shape),
            )
    check_real(state, own, "--model", str(path))
    model.load_state_dict(state, strict=False)
    check_finite(own, "--model", str(path))  # once they have the type of the network, in which large ones overflow
    return prefix, _converted(state, own)


def _fix(has: Sequence[int], needs: Sequence[int]) -> str:
    """What to do about a weight of another shape: three times as many inputs are those of the other kind of image."""
    fix = "check that the model and the data belong together"
    if len(has) != len(needs) or len(has) < 2 or (*has[:1], *has[2:]) != (*needs[:1], *needs[2:]):
        return fix
    if has[1] == 3 * needs[1]:
        return f"pass --rgb if the images are grey and the model takes colour; else {fix}"
    if needs[1] == 3 * has[1]:
        return f"pass --grey if the model takes grey images; else {fix}"
    return f"{fix}, and images have the size that it was trained on (--size)" if len(has) == 2 else fix


def _outputs(found: Checkpoint, name: str, input_shape: tuple[int, ...], n_classes: int) -> int:
    """How many outputs the state has: the size of what changes with the number of classes; else that number."""
    ours = name in MODELS or name in LAYOUTS  # these need no weights to show their shapes
    with torch.device("meta") if ours else nullcontext():
        one, more = (build(name, input_shape, n, seed=0).state_dict() for n in (n_classes, n_classes + 1))
    keys = {key for prefix in found.prefixes() for key in found.without(prefix)}
    for key, value in one.items():
        for axis, (size, next_size) in enumerate(zip(value.shape, more[key].shape, strict=True)):
            if (size, next_size) == (n_classes, n_classes + 1) and key in keys:
                return _size(found, key, axis, n_classes)
    return n_classes


def _size(found: Checkpoint, key: str, axis: int, default: int) -> int:
    value = next(state[key] for state in map(found.without, found.prefixes()) if key in state)
    return value.shape[axis] if value.ndim > axis else default
