"""Choose the reader of a data set that is given as a Python object."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from unmem.data.arrays import from_pairs, is_array, is_pair
from unmem.data.datasets import of_items
from unmem.data.examples import Examples
from unmem.data.frames import from_frames, is_frame
from unmem.data.hub import of_datasets
from unmem.data.parts import by_part
from unmem.data.reading import Reading
from unmem.data.splits import Splits
from unmem.errors import UserError


def from_object(found: Any, how: Reading, *, name: str = "data", module: str = "") -> Splits:
    """Splits of a map-style data set, of (train, test), or of a mapping with train and perhaps test and holdout.

    Each is a PyTorch or Hugging Face data set, a data frame of pandas or polars, a pair (X, y) of arrays, or
    `Examples`. Items of a PyTorch data set are (input, label), (input,
    label, id) or a mapping with such keys, and should be the same each time they are read: transforms that draw random
    numbers belong into the training, not into the data.

    module: where the function that gave it is, as `module_at` takes it.
    """
    if isinstance(found, Splits):
        return found
    parts = {"train": found} if is_pair(found) else _parts(found)
    if any(is_array(part) for part in parts.values()):
        raise UserError("data", None, "arrays of inputs have no labels", "give (X, y), or ((X, y), (X_test, y_test))")
    if all(is_frame(part) for part in parts.values()):
        return from_frames(name, parts, how)
    if all(is_pair(part) for part in parts.values()):
        return from_pairs(name, parts, how)
    if all(isinstance(part, Examples) for part in parts.values()):
        return Splits.of_parts(name, parts, parting=how.parting)
    if all(_is_hugging_face(part) for part in parts.values()):
        return of_datasets(name, parts, how)
    how.only("a PyTorch data set", "size", "grey", "rgb", "scaling", "stream")
    return of_items(name, parts, how, module)


def _parts(found: Any) -> dict[str, Any]:
    if isinstance(found, Mapping):
        named: Mapping[Any, Any] = found
        parts = {part: named[one] for part, one in by_part(map(str, named), source="the mapping").items()}
        if "train" not in parts:
            raise UserError("data", None, "the mapping has no train", "give train, and perhaps test and holdout")
        return parts
    if isinstance(found, tuple) and len(found) == 2:  # pyright: ignore[reportUnknownArgumentType]
        return {"train": found[0], "test": found[1]}
    return {"train": found}


def _is_hugging_face(found: Any) -> bool:
    datasets: Any = sys.modules.get("datasets")
    return datasets is not None and isinstance(found, datasets.Dataset)
