"""Pairs of inputs and labels: `(X, y)` of arrays, tensors, lists or data frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unmem.data.examples import Examples
from unmem.data.frames import from_frames, is_frame, is_series, reading_labels, with_labels
from unmem.data.labels import class_indices
from unmem.data.npz import array_examples, unseen_ids
from unmem.data.reading import Reading
from unmem.data.splits import Splits
from unmem.data.unlabelled import check_classes, check_train, unlabelled
from unmem.errors import Phrase, UserError


def is_pair(found: Any) -> bool:
    """Whether something is (inputs, labels), and not a training and a test set."""
    if not isinstance(found, tuple) or len(found) != 2:  # pyright: ignore[reportUnknownArgumentType]
        return False
    inputs, labels = found  # pyright: ignore[reportUnknownVariableType]
    if isinstance(inputs, np.ndarray | Tensor) or is_frame(inputs) or hasattr(inputs, "toarray"):
        return isinstance(labels, np.ndarray | Tensor) or is_series(labels) or _is_flat(labels)
    return isinstance(inputs, list) and (_is_flat(labels) or isinstance(labels, np.ndarray | Tensor))


def is_array(found: Any) -> bool:
    """Whether something is an array or tensor without labels."""
    return isinstance(found, np.ndarray | Tensor)


def from_pairs(name: str, pairs: Mapping[str, tuple[Any, Any]], how: Reading) -> Splits:
    """Pairs by part: data frames as tables; arrays reach the model as they are, bytes from −1 to 1."""
    if any(is_frame(inputs) for inputs, _ in pairs.values()):
        tables = {part: with_labels(*pair) for part, pair in pairs.items()}
        column = tables["train"][1]
        renamed = {
            part: table.rename_columns([*table.column_names[:-1], column]) for part, (table, _) in tables.items()
        }
        return from_frames(name, renamed, reading_labels(how, column))
    how.only("arrays", "scaling")
    inputs = {part: _array(pair[0], part) for part, pair in pairs.items()}
    labels = {part: _labels(pair[1]) for part, pair in pairs.items()}
    check_train(unlabelled(labels["train"]))
    bare = [part for part in pairs if unlabelled(labels[part])]
    kept = [part for part in pairs if part not in bare]
    indices, classes = class_indices(np.concatenate([labels[part] for part in kept]), source="y")
    ends = np.cumsum([len(labels[part]) for part in kept])
    parts: dict[str, Examples] = {}
    for part, end in zip(kept, ends, strict=True):
        n = len(labels[part])
        ids = None if part == "train" else unseen_ids(n, taken=parts["train"].ids, prefix=f"{part}-")
        count = len(classes) or int(indices.max(initial=0)) + 1
        parts[part] = array_examples(inputs[part], indices[end - n : end], ids=ids, n_classes=count, field=f"x_{part}")
    check_classes(parts, classes)
    notes = tuple(f"{part} of {name} has examples without a label and was left out" for part in bare)
    return replace(Splits.of_parts(name, parts, classes=classes, parting=how.parting), notes=notes)


def _is_flat(found: Any) -> bool:
    """Whether something is a list of names or numbers."""
    scalars = (str, int, float, np.generic, type(None))
    return isinstance(found, list) and all(isinstance(one, scalars) for one in found)  # pyright: ignore


def _array(inputs: Any, part: str) -> NDArray[Any]:
    inputs = inputs.toarray() if hasattr(inputs, "toarray") else inputs
    inputs = inputs.detach().cpu().numpy() if isinstance(inputs, Tensor) else inputs
    try:
        found = np.asarray(inputs)
    except ValueError as error:
        raise UserError("inputs", None, "they differ in shape", "bring all examples to one shape") from error
    if found.ndim < 2:
        what = Phrase(f"of shape {found.shape} in {part}")
        raise UserError("inputs", what, "have one dimension", "give one row of numbers for each example, [N, k]")
    return found


def _labels(labels: Any) -> NDArray[Any]:
    labels = labels.detach().cpu() if isinstance(labels, Tensor) else labels
    found = np.asarray(labels)
    if found.dtype.kind not in "biufU":
        found = found.astype(object)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
