"""Classifiers of the transformers library, over token ids or images, and the folders that they are kept in.

Named `transformers/DIR`, with DIR a folder that save_pretrained wrote, or a model file of unmem, which holds the same
description of the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from unmem.data.text import positions
from unmem.errors import UserError, out_of_memory
from unmem.extras import imported
from unmem.models.card import card_of
from unmem.models.checkpoints import check_whole
from unmem.models.logits import Logits, logits_of
from unmem.plainfiles import read_json

PREFIX = "transformers/"
_KINDS = ("ForSequenceClassification", "ForImageClassification")


class Classifier(Logits):
    """Token ids [B, L] int64, or images [B, C, H, W], to logits. Padding (`pad_token_id`) is not attended to."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.config: Any = inner.config
        self.pad: int | None = getattr(inner.config, "pad_token_id", None)
        self.most = positions(json.loads(self.config.to_json_string(use_diff=False)))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return logits_of(self.inner(pixel_values=x))
        if self.most is not None and x.shape[1] > self.most:
            problem = f"the texts have {x.shape[1]} tokens, but the model has {self.most} positions"
            raise UserError("max_length", None, problem, f"pass --max-length {self.most}")
        mask = torch.ones_like(x) if self.pad is None else (x != self.pad).to(x.dtype)
        return logits_of(self.inner(input_ids=x, attention_mask=mask))

    def settings(self) -> dict[str, Any]:
        """The config as plain values, from which `from_settings` builds the same network."""
        return json.loads(self.config.to_json_string(use_diff=True))


def transformer(name: str, input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """The network that `transformers/DIR` describes, freshly drawn, with an output for each class."""
    return from_settings(settings_at(name), input_shape, n_classes)


def from_settings(settings: Mapping[str, Any], input_shape: tuple[int, ...], n_classes: int) -> Classifier:
    given = {key: value for key, value in settings.items() if key not in ("transformers_version", "dtype")}
    kind: Any = given.pop("model_type", None)
    _check_no_code("--arch", str(kind), kind, settings)
    with _quiet("--arch", str(kind)) as library:
        config = library.AutoConfig.for_model(kind, **given)
        if config.num_labels != n_classes:
            config.num_labels = n_classes
        return Classifier(
            _auto(library, config, input_shape).from_config(config, dtype=torch.float32, trust_remote_code=False)
        )


def settings_at(name: str) -> dict[str, Any]:
    """The config behind `transformers/DIR`. Raises `UserError` if there is none."""
    place = Path(name.removeprefix(PREFIX))
    card = card_of(place) if place.is_file() else None
    if card is not None and card.config is not None:
        return dict(card.config)
    try:
        found = read_json(place / "config.json")
        if isinstance(found, dict):
            return found  # pyright: ignore[reportUnknownVariableType]
        raise ValueError("not a mapping")
    except (OSError, ValueError) as error:
        raise UserError(
            "--arch",
            name,
            f"{place} has no config.json that can be read",
            "name a folder that save_pretrained wrote",
        ) from error


def source_of(name: str) -> str:
    """SHA-256 of the config: results of another one are others."""
    return hashlib.sha256(json.dumps(settings_at(name), sort_keys=True).encode()).hexdigest()


def class_names(path: Path) -> tuple[str, ...]:
    """Names of a classifier's outputs in their order, by `id2label` of its config; none where nobody named them."""
    try:
        found: dict[str, Any] = read_json(path / "config.json").get("id2label") or {}
        names = [str(found[key]) for key in sorted(found, key=int)]
    except (OSError, ValueError, AttributeError):
        return ()
    return () if all(name == f"LABEL_{k}" for k, name in enumerate(names)) else tuple(names)


def is_folder(path: Path) -> bool:
    """Whether it has a config.json of this library; other programs have files of that name too."""
    try:
        found: object = read_json(path / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "model_type" in found


def read_folder(path: Path, input_shape: tuple[int, ...]) -> Classifier:
    """The classifier in a folder that save_pretrained wrote, its weights in float32; nothing is downloaded or run."""
    inner, missing, unexpected = _read(path, input_shape)
    if missing:
        raise UserError(
            "--model",
            str(path),
            f"its weights are not those of a {type(inner).__name__}: {len(missing)} missing ({missing[0]}, …)"
            + (f" and {len(unexpected)} unexpected ({unexpected[0]}, …)" if unexpected else ""),
            "train it as a classifier first",
        )
    return Classifier(inner.eval())


def weights_in(path: Path, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The weights that a folder has of a classifier, by its keys; of a model without a head, those of the body."""
    inner, missing, _ = _read(path, input_shape)
    return {key: value for key, value in inner.state_dict().items() if key not in missing}


def _read(path: Path, input_shape: tuple[int, ...]) -> tuple[nn.Module, list[str], list[str]]:
    """The classifier in a folder, its keys that are not there, and those there that it has not."""
    settings = settings_at(f"{PREFIX}{path}")
    _check_no_code("--model", str(path), settings.get("model_type"), settings)
    if (path / "adapter_config.json").is_file():
        raise adapter(path)
    for file in sorted(one for kind in ("*.safetensors", "*.bin") for one in path.glob(kind)):
        check_whole(file)
    with _quiet("--model", str(path)) as library, torch.random.fork_rng(devices=[]):  # it draws what is missing
        config = library.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        inner, loading = _auto(library, config, input_shape).from_pretrained(
            path,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=False,
        )
    return inner, sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])


def adapter(path: Path) -> UserError:
    fix = "merge it into its base first: model.merge_and_unload().save_pretrained(DIR), and name DIR"
    return UserError("--model", str(path), "holds a PEFT adapter, not a whole model", fix)


def _check_no_code(field: str, value: str, kind: object, settings: Mapping[str, Any]) -> None:
    """Refuse a config whose network needs code from beside it (auto_map) or from the hub (kernels).

    Where the library has the network itself, its own code is taken and auto_map is left out of account.
    """
    with _quiet(field, value) as library:
        known = kind in library.CONFIG_MAPPING
    if not known and "auto_map" in settings:
        problem = f"its network {str(kind)[:80]!r} needs the code in its folder, which was not run"
        raise UserError(field, value, problem, "pass --arch FILE.py:FUNCTION and a file with its weights as --model")
    kernel = next((one for key, one in _pairs(settings) if key.endswith("_implementation") and "/" in str(one)), None)
    if kernel is not None:
        problem = f"it asks for code from the hub ({str(kernel)[:80]!r}), which was not run"
        raise UserError(field, value, problem, "remove that entry from its config.json")


def _pairs(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values at any depth."""
    for key, value in settings.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _pairs(value)  # pyright: ignore[reportUnknownArgumentType]


def save_pretrained(model: Classifier, path: Path) -> None:
    with _quiet("--model", str(path)):
        inner: Any = model.inner
        inner.save_pretrained(path)


def _auto(library: Any, config: Any, input_shape: tuple[int, ...]) -> Any:
    """The auto class for what the config says it is, else for the kind of the data."""
    said = " ".join(config.architectures or ())
    images = len(input_shape) == 3 if not any(kind in said for kind in _KINDS) else _KINDS[1] in said
    return library.AutoModelForImageClassification if images else library.AutoModelForSequenceClassification


# What transformers raises for a folder that it cannot take.
_REFUSALS = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, UnpicklingError)


def _led_to(error: BaseException | None) -> Generator[BaseException]:
    """The error, and those that it came from: before version 5 transformers raised others over them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _quiet(field: str, value: str) -> Generator[Any]:
    """The library, without its bars and its notes on weights; its errors in the user's words."""
    library = imported("transformers", field=field, value=value)
    talk = library.utils.logging
    level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        yield library
    except _REFUSALS as error:
        if isinstance(error, UserError) or out_of_memory(error):
            raise
        if any(isinstance(one, UnpicklingError) for one in _led_to(error)):
            problem = "its weights are a pickle that holds more than weights, which was not run"
            raise UserError(field, value, problem, "save it again with save_pretrained, as .safetensors") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(field, value, f"transformers cannot take it ({reason})", "check the folder") from error
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()
