"""What a model file says of itself.

It comes from whoever made the file, so that nothing in it may choose code to run: a card names networks of unmem,
torchvision, timm and transformers; a function of the user's own is named by the user (see `files`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from unmem.errors import UserError
from unmem.models.forgotten import Forgotten

KEY = "unmem"  # in the metadata of a .safetensors file
CARD = "unmem.json"  # in a folder of save_pretrained that unmem wrote


@dataclass(frozen=True)
class Card:
    """What a model file says of itself. `data` is the fingerprint of the training examples, if known.

    prefix: what the keys in the file have before those of the network, such as "module.". config: of a model of the
    transformers library, all that is needed to build it. made: of a retrained model, what determined it.
    classes: names of the classes in the order of the outputs, where the data have names. forgotten: what the model
    forgot; `data` is then still that of the examples that it was trained on.
    """

    arch: str
    input_shape: tuple[int, ...]
    n_classes: int
    data: str | None = None
    prefix: str = ""
    config: Mapping[str, Any] | None = None
    made: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()
    forgotten: Forgotten | None = None

    def metadata(self) -> dict[str, str]:
        return {KEY: json.dumps(asdict(self))}


def card_in(metadata: Mapping[str, str] | None, path: Path) -> Card | None:
    """The card in the metadata of a file, None if it has none. Raises `UserError` if it cannot be read."""
    if metadata is None or KEY not in metadata:
        return None
    try:
        fields: dict[str, Any] = json.loads(metadata[KEY])
        _check_types(fields)
        optional = {name: fields[name] for name in ("data", "prefix", "config", "made") if name in fields}
        card = Card(fields["arch"], tuple(fields["input_shape"]), fields["n_classes"], **optional)
        forgotten = Forgotten.read(fields.get("forgotten"))
        return replace(card, classes=tuple(map(str, fields.get("classes", ()))), forgotten=forgotten)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(
            "--model", str(path), "its description of the network cannot be read", "save the model again with unmem"
        ) from error


def _check_types(fields: Mapping[str, Any]) -> None:
    """Raises `TypeError` where what was read is not what a card has."""
    sizes = (*fields["input_shape"], fields["n_classes"])
    right = (
        isinstance(fields["arch"], str),
        isinstance(fields.get("prefix", ""), str),
        isinstance(fields.get("data"), str | None),
        isinstance(fields.get("classes", []), list) and all(isinstance(one, str) for one in fields.get("classes", [])),
        _is_number((fields.get("made") or {}).get("seconds", 0.0)),
        all(isinstance(fields.get(name), Mapping | None) for name in ("config", "made")),
        all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in sizes),
    )
    if not all(right):
        raise TypeError


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def card_of(path: Path) -> Card | None:
    """The card of a .safetensors file, without reading its weights; None if it has none or is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return card_in(file.metadata(), path)
    except (SafetensorError, OSError):
        return None
