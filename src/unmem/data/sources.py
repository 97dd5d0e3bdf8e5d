"""`load`: read a data set by name, path or object into `Splits`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmem.data.builtin import digits, fashion_mnist
from unmem.data.devices import available_memory
from unmem.data.examples import Examples
from unmem.data.folders import image_folder
from unmem.data.functions import from_function
from unmem.data.hub import NAMED, from_hub, is_saved, named, saved
from unmem.data.npz import npz
from unmem.data.objects import from_object
from unmem.data.reading import Reading
from unmem.data.scaling import FROM_DATA, Scaling, scaling_from
from unmem.data.splits import Splits, flip_labels, stratified_sample
from unmem.data.streaming import Stream
from unmem.data.tablefiles import SUFFIXES, is_table
from unmem.data.tables import table
from unmem.errors import UserError, nearest, not_negative, whole_number

KNOWN = ("digits", "fashion-mnist", *NAMED)
SHARE_OF_MEMORY = 0.25  # of what is free; data sets that would take more are streamed


def load(
    source: Any, *, limit: int | None = None, flip: float = 0.0, seed: int = 0, device: str = "cpu", **reading: Any
) -> Splits:
    """Read a data set.

    Args:
        source: A name ("digits", "fashion-mnist", "cifar10", "cifar100", "svhn", "tiny-imagenet", or "hf:NAME" from the
            Hugging Face hub); a path (an .npz, .csv, .tsv or .parquet file, a folder of parquet files, a folder of
            images, or a folder made by `save_to_disk`); a function ("module:function" or "file.py:function"); or an
            object, such as a PyTorch or Hugging Face data set.
        limit: Keep a stratified sample of this many training examples, drawn with `seed`.
        flip: Flip this share of the training labels on purpose, drawn with `seed`; the ids are in `flipped`.
        seed: Seed of the sample and of the flipped labels.
        device: Device of the examples.
        **reading: How to read the source: fields of `Reading`, such as label="column" or size="32x32".

    Returns:
        Training, holdout and test examples.

    Raises:
        UserError: The source cannot be read, or its contents are wrong.
    """
    whole_number("seed", seed)
    not_negative("seed", seed, "give one such as 0")
    how = Reading(**reading)
    splits = _read(source, how)
    if limit is not None:
        splits = replace(splits, train=stratified_sample(splits.train, limit, seed=seed))
    if flip:
        splits = flip_labels(splits, flip, seed=seed)
    return _scaled(_placed(splits, how, device).to(device), how)


def _read(source: Any, how: Reading) -> Splits:
    if not isinstance(source, str | Path):
        return from_object(source, how)
    name, path = str(source), Path(source)
    if name in NAMED:
        return named(name, how)
    if name in ("digits", "fashion-mnist"):
        how.only(name, *(("folder", "scaling") if name == "fashion-mnist" else ()))
        return digits(how.parting) if name == "digits" else fashion_mnist(how.folder, how.parting)
    if name.startswith("hf:"):
        return from_hub(name, how)
    if path.suffix.lower() == ".npz":
        how.only("an .npz file", "scaling")
        return npz(path, how.parting)
    if is_table(path) and not is_saved(path):
        return table(path, how)
    if path.is_dir():
        return saved(path, how) if is_saved(path) else image_folder(path, how)
    if runs_code(name):
        return from_function(name, how)
    if "/" in name:
        raise UserError("data", name, "no such file or folder", "check the path")
    raise UserError(
        "data",
        name,
        f"neither a data set nor the path of an .npz, {', '.join(SUFFIXES)} file or a folder",
        nearest(name, list(KNOWN)),
    )


def runs_code(source: str) -> bool:
    """Whether `load` imports and calls a function of the user's own for this name or path."""
    path = Path(source)
    if ":" not in source or source.startswith("hf:") or path.suffix.lower() == ".npz":
        return False
    return not (is_table(path) or path.is_dir())


def _placed(splits: Splits, how: Reading, device: str) -> Splits:
    """Streams read into memory, unless they should stay streams."""
    needed = sum(part.inputs.nbytes for part in splits.parts.values() if isinstance(part.inputs, Stream))
    if how.stream == "always" or not needed:
        return splits
    if how.stream == "never" or needed <= SHARE_OF_MEMORY * available_memory(device):
        return splits.each(Examples.in_memory)
    note = (
        f"{needed / 2**30:,.1f} GB of inputs are read when they are needed, since they would take more than a quarter "
        "of the free memory; --stream never reads them at once"
    )
    return replace(splits, notes=(*splits.notes, note))


def _scaled(splits: Splits, how: Reading) -> Splits:
    if how.scaling is None:
        return splits
    train = splits.train
    if train.scaling is None:
        raise UserError("scaling", how.scaling, "token ids have no scale", "leave it out")
    channels = train.input_shape[0] if len(train.input_shape) == 3 else 1
    if how.scaling == FROM_DATA:
        scaling = _own_scaling(train)
    else:
        scaling = scaling_from(how.scaling, channels, full=255 if train.inputs.dtype == torch.uint8 else 1)
    return splits.each(lambda part: replace(part, scaling=scaling))


def _own_scaling(train: Examples) -> Scaling:
    """By mean and deviation of the training inputs: by channel for images, over all numbers for others."""
    images = len(train.input_shape) == 3
    # Sums of bytes are exact as whole numbers, so that a stream and a tensor give the same.
    kind = torch.float64 if train.inputs.dtype.is_floating_point else torch.int64
    total = squares = torch.zeros((), dtype=kind, device=train.device)
    chunks = torch.arange(len(train), device=train.device).split(256)
    for _, inputs, _ in replace(train, scaling=None).batches(chunks):
        x = inputs.to(kind)
        by_channel = x.transpose(0, 1).flatten(1) if images else x.flatten()[None]
        total, squares = total + by_channel.sum(1), squares + by_channel.square().sum(1)
    count = len(train) * train.inputs[:1].numel() / total.numel()
    mean = total.double() / count
    sd = (squares.double() / count - mean.square()).clamp(min=0).sqrt()
    if float(sd.min()) == 0:
        raise UserError("scaling", FROM_DATA, "a channel of the training images is constant", "use unit")
    return Scaling.of(mean.tolist(), sd.tolist(), full=1)
