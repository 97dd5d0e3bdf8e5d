"""Read the data of a command: texts by the tokenizer of its model, classes in the order of that model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from unmem import models
from unmem.cli.console import warn
from unmem.cli.faults import step
from unmem.cli.options import DataOptions, RunOptions
from unmem.data import Splits, holds_tokenizer, load, numbered_as, pick_device
from unmem.data.reading import Reading
from unmem.models.transformers import PREFIX
from unmem.requests import read_ids


def read_data(options: DataOptions, run: RunOptions, model: str | None) -> Splits:
    """Read the data, and print what the user has to know about them.

    Args:
        options: Where the data are and how to read them.
        run: The seed of the sample and of flipped labels, and the device.
        model: Path of the model that the data are for, see `model_named`.
    """
    with step(f"read the data {options.data}"):
        data = load(
            options.data,
            limit=options.limit,
            flip=options.flip,
            seed=run.seed,
            device=pick_device(run.device),
            **reading_of(options, model),
        )
    for note in data.notes:
        warn(note)
    data = numbered(data, options.classes, model)
    if len(data.flipped):
        warn(
            f"{len(data.flipped)} of {len(data.train):,} training labels were flipped on purpose "
            f"({options.flip:.1%}, seed {run.seed})"
        )
    return data


def model_named(settings: Mapping[str, Any]) -> str | None:
    """Path of the model that the data are for: that of --model, or the folder of --arch transformers/DIR."""
    model, arch = settings.get("model"), settings.get("arch") or ""
    return model or (arch.removeprefix(PREFIX) if arch.startswith(PREFIX) else None)


def reading_of(options: DataOptions, model: str | None) -> dict[str, Any]:
    """Fields of `Reading`; texts are read by the model's own tokenizer, unless another one is named."""
    known = {field.name for field in fields(Reading)}
    reading = {key: value for key, value in asdict(options).items() if key in known}
    ids = () if options.unseen is None else read_ids(options.unseen, field="--unseen").names
    reading["unseen"] = tuple(name.strip() for name in ids)
    if options.text is not None and options.tokenizer is None and model is not None:
        reading["tokenizer"] = _tokenizer_with(Path(model))
    return reading


def _tokenizer_with(model: Path) -> Path | None:
    """The folder of a model's tokenizer: the model itself, the folder of save_pretrained around it, or the folder that
    unmem wrote next to a file of the same name."""
    around = models.folder_of(model)
    places = [model, *([] if around is None else [around]), model.with_suffix("")]
    return next((place for place in places if holds_tokenizer(place)), None)


def numbered(data: Splits, classes: str, model: str | None) -> Splits:
    """The data with their classes in the order of the model's outputs, as far as that is known."""
    if classes:
        names = [name.strip() for name in classes.split(",")]
        return numbered_as(data, names, field="--classes", whose="it names")
    names = () if model is None else models.class_names(Path(model)) or _on_card(Path(model), data)
    if not names or not data.classes:
        return data
    ordered = numbered_as(data, names, field="--data", whose="the model has")
    if ordered.classes[: len(data.classes)] != data.classes:
        warn(f"the classes are numbered as the model does: {', '.join(names[:10])}{', …' * (len(names) > 10)}")
    return ordered


def _on_card(model: Path, data: Splits) -> tuple[str, ...]:
    """The class names on the card of a file that unmem wrote, if these data have no other classes."""
    card = models.card_of(model) if model.is_file() else None
    names = () if card is None else card.classes
    known = {name.casefold() for name in names}
    return names if len(known) == len(names) and known >= {name.casefold() for name in data.classes} else ()
