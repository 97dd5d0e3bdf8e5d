"""Labels as sources have them: class indices, or names that become class indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.errors import Phrase, UserError


def class_indices(labels: NDArray[Any], *, source: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """[N] class indices and the names of the classes: names in order (see `in_order`); whole numbers stay as they are.

    source: what holds the labels, such as "column 'y'".
    """
    if labels.ndim != 1 or (labels.dtype == object and any(isinstance(one, list | np.ndarray) for one in labels)):
        raise UserError(
            "labels",
            Phrase(f"in {source}"),
            "are one-hot or multi-label, one class per example is needed",
            "turn them into names or whole numbers, such as labels.argmax(1)",
        )
    if labels.dtype.kind in "bUO":
        found, where = np.unique(labels.astype(np.str_), return_inverse=True)
        order = in_order(found.tolist())
        names, indices = found[order], np.argsort(order)[where]
        classes = tuple(names.tolist())
        _few(len(classes), len(labels), source)
        return indices.astype(np.int64), classes
    if labels.dtype.kind not in "iu":
        raise UserError(
            "labels",
            Phrase(f"in {source}"),
            f"are of type {labels.dtype}: regression targets are no classes",
            "write classes as names or whole numbers",
        )
    indices = labels.astype(np.int64)
    if len(indices):
        _few(int(indices.max()) + 1, len(indices), source)
    return indices, ()


def in_order(names: Sequence[str]) -> list[int]:
    """Positions of class names in their sorted order; texts that are all numbers sort by value.

    >>> in_order(["10", "2", "1"])
    [2, 1, 0]
    """
    try:
        values = [float(name) for name in names]
    except ValueError:
        values = []
    by_value = len(values) == len(names) and all(map(math.isfinite, values))
    keys = [(value, name) for value, name in zip(values, names, strict=True)] if by_value else list(names)
    return sorted(range(len(names)), key=keys.__getitem__)  # pyright: ignore[reportArgumentType]


def _few(classes: int, count: int, source: str) -> None:
    if classes > count:
        raise UserError(
            "labels",
            Phrase(f"in {source}"),
            f"there would be {classes:,} classes for {count:,} examples",
            "name the column of the classes, or number them 0, 1, …",
        )
