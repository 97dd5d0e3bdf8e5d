"""From what the columns of a table are to numbers that a model can take; missing values by stated rules.

A quantity becomes one column. If training rows lack it, they get the median of those that have it, and a column beside
it is 1 where the value was missing, else 0. Categories become one column for each, 1 where it holds; if training rows
lack the value, "missing" is one more, the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data.columns import Categories, Quantity
from unmem.errors import Phrase, UserError

Rows = NDArray[np.int64]
Matrix = NDArray[np.float32]
Column = Quantity | Categories


@dataclass(frozen=True, eq=False)
class Numbers:
    """pieces: [N, k_j] each; side by side, they are the k columns. is_quantity: [k] which of these hold quantities, and
    neither categories nor indicators."""

    pieces: tuple[NDArray[Any], ...]
    is_quantity: NDArray[np.bool_]
    notes: tuple[str, ...]

    def side_by_side(self, change: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None) -> Matrix:
        """All columns, [N, k]. change: made of each quantity, [N], in float64; None leaves them as they are."""
        found = np.empty((len(self.pieces[0]), len(self.is_quantity)), np.float32)
        columns = (piece[:, k] for piece in self.pieces for k in range(piece.shape[1]))
        for place, (values, quantity) in enumerate(zip(columns, self.is_quantity, strict=True)):
            found[:, place] = change(values) if quantity and change is not None else values
        return found


def refuse_missing(name: str, column: Column) -> None:
    """Raise `UserError` for a column with missing values."""
    count = int(column.missing.sum())
    if count:
        where = Phrase(f"column {name!r}")
        raise UserError("data", where, f"has {count:,} missing values", "fill or drop them, or pass --impute median")


def filled(columns: Mapping[str, Column], train: Rows) -> Numbers:
    """The columns side by side. train: The training rows, which alone decide what a missing value becomes."""
    pieces: list[NDArray[Any]] = []
    is_quantity: list[bool] = []
    empty: list[str] = []
    for name, column in columns.items():
        if column.missing[train].all():
            empty.append(repr(name))
            continue
        made = _quantity(column, train) if isinstance(column, Quantity) else _one_hot(column, train)
        pieces.append(made)
        is_quantity += [isinstance(column, Quantity) and k == 0 for k in range(made.shape[1])]
    if not pieces:
        raise UserError("data", None, "no column has a value in the training rows", "fill in some")
    notes = [*(note for column in columns.values() for note in column.notes), *_notes(columns, empty)]
    return Numbers(tuple(pieces), np.array(is_quantity), tuple(notes))


def _quantity(column: Quantity, train: Rows) -> NDArray[np.float64]:
    missing = column.missing
    if not missing.any():
        return column.values[:, None]
    values = np.where(missing, np.median(column.values[train][~missing[train]]), column.values)
    return np.stack([values, missing.astype(np.float64)], axis=1) if missing[train].any() else values[:, None]


def _one_hot(column: Categories, train: Rows) -> NDArray[np.uint8]:
    """The last column is for missing values. What is not known, or missing in unseen rows alone, is 0 everywhere."""
    count = len(column.names)
    codes = np.select([column.missing, column.codes < 0], [count, count + 1], column.codes)
    made = np.eye(count + 2, dtype=np.uint8)[codes]
    return made[:, : count + 1] if column.missing[train].any() else made[:, :count]


def _notes(columns: Mapping[str, Column], empty: list[str]) -> list[str]:
    notes: list[str] = []
    if empty:
        notes.append(f"left out, since no training row has a value there: {', '.join(empty)}")
    some = {name: one for name, one in columns.items() if one.missing.any() and repr(name) not in empty}
    numbers = [_counted(name, one) for name, one in some.items() if isinstance(one, Quantity)]
    others = [_counted(name, one) for name, one in some.items() if isinstance(one, Categories)]
    if numbers:
        rule = "became the median of the training rows, with a column beside it that tells which"
        notes.append(f"missing values {rule}: {', '.join(numbers)} (--impute refuse)")
    if others:
        notes.append(f"missing values became a category of their own: {', '.join(others)} (--impute refuse)")
    return notes


def _counted(name: str, column: Column) -> str:
    texts = [repr(one) for one in column.missing_texts] if isinstance(column, Quantity) else []
    written = f", written {' or '.join(texts[:3])}" if texts else ""
    return f"{name!r} ({int(column.missing.sum()):,}{written})"
