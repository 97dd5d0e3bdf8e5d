"""Rows of tables from runs that differ by their seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unmem.bench.statistics import estimate
from unmem.tables import Row
from unmem.tables.table import Kind, Value


def row_of(
    name: str,
    runs: Mapping[str, Sequence[float | None]],
    kind: Kind = "method",
    *,
    intervals: Iterable[str] | None = None,
    further: Mapping[str, Value] | None = None,
    explained: str = "",
) -> Row:
    """Return a row of means with their 95% t-intervals.

    Args:
        name: Name of the row.
        runs: By key of the column, the value of each run.
        kind: Kind of the row.
        intervals: Columns that show the interval; None is all.
        further: Values that are not means.
        explained: One plain line about the row.
    """
    found = {key: estimate(values) for key, values in runs.items()}
    means = {key: None if one is None else one.mean for key, one in found.items()}
    shown = set(runs if intervals is None else intervals)
    ends = {key: (one.low, one.high) for key, one in found.items() if one is not None and one.n > 1 and key in shown}
    return Row(name, {**means, **(further or {})}, kind, intervals=ends, explained=explained)


def over_originals(n: int) -> str:
    """Return the note that says what the means are over."""
    return f"Means over {n} originals with 95% t-intervals." if n > 1 else "One original."
