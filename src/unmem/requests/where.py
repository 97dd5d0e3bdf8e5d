"""Examples by what their columns say: COLUMN=VALUE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data import Examples, Ids
from unmem.errors import NothingToDoError, UserError, nearest


@dataclass(frozen=True)
class Condition:
    """A column must hold this value, compared as text, and as a number where the column holds numbers."""

    column: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}={self.value}"

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """For which of the values, [N]."""
        same = np.asarray(values.astype(np.str_) == self.value)
        if values.dtype.kind == "b":
            return same | np.asarray(np.char.lower(values.astype(np.str_)) == self.value.lower())
        if values.dtype.kind not in "iuf":
            return same
        number = _number(self.value)
        if number is None:
            return same
        # A column in single precision holds the value that is nearest to the text in single precision.
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):
                return same | (values == np.float64(self.value).astype(values.dtype))
        return same | (values == number)


def parse_condition(text: str, *, field: str = "--where") -> Condition:
    """ "site=oslo" -> the condition."""
    column, equals, value = text.partition("=")
    if not equals or not column.strip():
        raise UserError(field, text, "is not COLUMN=VALUE", "write for example --where site=oslo")
    return Condition(column.strip(), value.strip())


def ids_where(examples: Examples, conditions: Iterable[Condition], *, field: str = "--where") -> Ids:
    """Ids of the examples for which all conditions hold, on their columns, or on `id` and `label`.

    Raises `UserError` for a column that is not there, `NothingToDoError` if no example is left.
    """
    columns: dict[str, NDArray[Any]] = {"id": examples.ids, "label": examples.labels.cpu().numpy(), **examples.columns}
    chosen = np.ones(len(examples), dtype=np.bool_)
    for condition in conditions:
        if condition.column not in columns:
            fix = nearest(condition.column, list(columns))
            raise UserError(field, str(condition), f"the data have no column {condition.column!r}", fix)
        values = columns[condition.column]
        holds = condition.holds(values)
        if not holds.any():
            fix = f"ask for a value that is there, such as {str(values[0])!r}"
            raise NothingToDoError(field, str(condition), "holds for no training example", fix)
        chosen &= holds
    if not chosen.any():
        raise NothingToDoError(field, None, "no training example meets all conditions", "leave one out")
    return examples.ids[chosen]


def _number(text: str) -> float | None:
    """The number that the text is, whole where it can be; None if it is none."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
