"""Whether the numbers of a table are already as a model takes them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from unmem.data.columns import Quantity

EDGE = 0.05  # how near to its bounds a column must come that was brought between them


def prepared(columns: Iterable[Quantity], n_rows: int) -> str | None:
    """How all quantities were prepared, in words; None if some were not.

    Standardised: in every column, the mean is 0 and the deviation 1, up to 3/√n (at least 0.1 and at most 0.3), since
    the user may have taken them over more rows than these. Brought between bounds: every column lies between 0 and 1,
    or between −1 and 1, and comes within 0.05 of both. Columns of one or two values, such as truth values, do not
    count unless there are no others. Looks at the first `n_rows`: those of the training table.
    """
    values_of = [column.values[:n_rows] for column in columns]
    distinct = [_distinct(_known(values)) for values in values_of]
    many = [values for values, count in zip(values_of, distinct, strict=True) if count > 2]
    chosen = many or [values for values, count in zip(values_of, distinct, strict=True) if count == 2]
    if not chosen:
        return None
    if many and all(_is_standardised(_known(values)) for values in many):
        return "mean 0 and deviation 1"
    for low in (0, -1):
        if all(_is_between(_known(values), low, 1) for values in chosen):
            return f"between {low} and 1"
    return None


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def _distinct(values: NDArray[np.float64]) -> int:
    """How many different values there are; 3 stands for all numbers from 3 on."""
    if len(values) == 0:
        return 0
    least, most = values.min(), values.max()
    return 1 if least == most else 2 if bool(((values == least) | (values == most)).all()) else 3


def _is_standardised(values: NDArray[np.float64]) -> bool:
    close = min(max(3 / math.sqrt(len(values)), 0.1), 0.3)
    with np.errstate(over="ignore"):
        return bool(abs(values.mean()) <= close and abs(values.std() - 1) <= close)


def _is_between(values: NDArray[np.float64], low: float, high: float) -> bool:
    least, most = values.min(), values.max()
    return bool(low <= least <= low + EDGE and high - EDGE <= most <= high)
