"""Examples by what their columns say: COLUMN=VALUE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data import Examples, Ids
from unmem.errors import NothingToDoError, UserError, nearest

_EXACT = 2**53  # whole numbers below it are told apart in float64


@dataclass(frozen=True)
class Condition:
    """A column must hold this value, compared as text to the letter.

    Columns of a CSV hold what is written in the file, so that 007, 07 and 7 are three values. Numbers of other sources
    are written in the shortest way: 7, 0.5; whole ones in a column of fractions also without the point.
    """

    column: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}={self.value}"

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """For which of the values, [N]. None and NaN are no value."""
        plain = values if values.dtype.kind == "f" else values.tolist()  # single precision has its own shortest text
        return np.fromiter((self.value in _spellings(one) for one in plain), dtype=np.bool_, count=len(values))


def _spellings(value: Any) -> tuple[str, ...]:
    if value is None or value != value:
        return ()
    if isinstance(value, bool):
        return str(value), str(value).lower()
    if isinstance(value, float | np.floating) and value.is_integer() and abs(value) < _EXACT:
        return str(value), str(int(value))
    return (str(value),)


def parse_condition(text: str, *, field: str = "--where") -> Condition:
    """ "site=oslo" -> the condition. Spaces around the sign are part of the value only if they are on one side."""
    column, equals, value = text.partition("=")
    if not equals or not column.strip():
        raise UserError(field, text, "is not COLUMN=VALUE", "write for example --where site=oslo")
    spaced = column.endswith(" ") and value.startswith(" ")
    return Condition(column.strip(), value.strip() if spaced else value)


def ids_where(
    examples: Examples, conditions: Iterable[Condition], *, classes: Sequence[str] = (), field: str = "--where"
) -> Ids:
    """Ids of the examples for which all conditions hold, on their columns, or on `id` and `label`.

    Args:
        examples: What to choose from.
        conditions: All of them must hold.
        classes: Names of the classes, by which `label` may be asked for; without them it is a number.
        field: What an error is about.

    Raises:
        UserError: A column is not there.
        NothingToDoError: No example is left.
    """
    labels = examples.labels.cpu().numpy()
    named = np.array(classes)[labels] if classes else labels
    columns: dict[str, NDArray[Any]] = {"id": examples.ids, "label": named, **examples.columns}
    chosen = np.ones(len(examples), dtype=np.bool_)
    for condition in conditions:
        if condition.column not in columns:
            # A header may be written with spaces after its commas.
            columns |= {name.strip(): values for name, values in columns.items() if name.strip() not in columns}
        if condition.column not in columns:
            fix = nearest(condition.column, list(columns))
            raise UserError(field, str(condition), f"the data have no column {condition.column!r}", fix)
        values = columns[condition.column]
        holds = condition.holds(values)
        if condition.column == "label" and condition.value not in classes and not holds.any():
            holds = condition.holds(labels)  # by its number
        if not holds.any():
            fix = f"ask for a value that is there, such as {str(values[0])!r}"
            raise NothingToDoError(field, str(condition), "matches no training example", fix)
        chosen &= holds
    if not chosen.any():
        raise NothingToDoError(field, None, "no training example meets all conditions", "leave one out")
    return examples.ids[chosen]
