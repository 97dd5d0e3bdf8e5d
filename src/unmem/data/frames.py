"""Data frames of pandas and polars, and pyarrow tables, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from unmem.data.reading import Reading
from unmem.data.splits import Splits
from unmem.data.tablelabels import usual_label
from unmem.data.tables import USES, splits_of
from unmem.errors import Phrase, UserError


def is_frame(found: Any) -> bool:
    """Whether something is a data frame of pandas or polars, or a pyarrow table."""
    package = type(found).__module__.partition(".")[0]
    named = type(found).__name__ in ("DataFrame", "LazyFrame")
    return isinstance(found, pa.Table) or (package in ("pandas", "polars") and named)


def is_series(found: Any) -> bool:
    """Whether something is a column of pandas or polars."""
    return type(found).__module__.partition(".")[0] in ("pandas", "polars") and type(found).__name__ == "Series"


def from_frames(name: str, frames: Mapping[str, Any], how: Reading) -> Splits:
    """Data frames by part. An index of pandas other than 0, 1, … is one that rows are identified by."""
    how.only("a data frame", *[one for one in USES if one != "test"])
    frames, classes = _numbered(frames, how)
    return splits_of(name, {part: as_table(frame) for part, frame in frames.items()}, how, classes)


def _numbered(frames: Mapping[str, Any], how: Reading) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """With the codes of a label column that pandas has as a category, and its categories: their order is the user's."""
    label = how.label or usual_label([str(name) for name in getattr(frames["train"], "columns", [])])
    columns: list[Any] = [frame.get(label) for frame in _pandas(frames)]
    categories: list[Any] = [column.cat.categories for column in columns if hasattr(column, "cat")]
    if label is None or len(categories) < len(frames):
        return frames, ()
    if not all(one.equals(categories[0]) for one in categories):
        return frames, ()
    found = {part: frame.assign(**{label: frame[label].cat.codes}) for part, frame in frames.items()}
    return found, tuple(map(str, categories[0]))


def _pandas(frames: Mapping[str, Any]) -> list[Any]:
    return [frame for frame in frames.values() if type(frame).__module__.partition(".")[0] == "pandas"]


def with_labels(frame: Any, labels: Any) -> tuple[Any, str]:
    """A pyarrow table with the labels as its last column, and the name of that column."""
    index: Any = getattr(frame, "index", None)
    other: Any = getattr(labels, "index", None)
    if is_series(labels) and hasattr(index, "equals") and hasattr(other, "equals") and not index.equals(other):
        raise UserError("labels", None, "have another index than the inputs", "call reset_index(drop=True) on both")
    table = as_table(frame)
    name = "label"
    while name in table.column_names:
        name += "_"
    values = (
        labels.to_arrow() if hasattr(labels, "to_arrow") else pa.array(getattr(labels, "to_numpy", lambda: labels)())
    )
    if len(values) != len(table):
        raise UserError(
            "examples", Phrase(f"{len(table)} inputs, {len(values)} labels"), "each input needs one label", "add it"
        )
    return table.append_column(name, values), name


def as_table(frame: Any) -> Any:
    """The pyarrow table of a data frame.

    Raises:
        UserError: It cannot be had, or two columns have one name.
    """
    if isinstance(frame, pa.Table):
        table = frame
    elif hasattr(frame, "to_arrow"):
        table = frame.to_arrow()
    elif hasattr(frame, "collect"):
        table = frame.collect().to_arrow()
    else:
        table = _of_pandas(frame)
    names = table.column_names
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise UserError("data", Phrase(f"column {twice[0]!r}"), "is there more than once", "rename or remove one")
    return table


def _of_pandas(frame: Any) -> Any:
    """With the index as a column, unless it only counts the rows from 0."""
    index = frame.index
    counts = getattr(index, "start", None) == 0 and getattr(index, "step", None) == 1
    try:
        return pa.Table.from_pandas(_as_texts(frame), preserve_index=not counts)
    except Exception as error:  # of many kinds, by what the cells hold
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError("data", None, f"the data frame cannot be read ({reason})", "convert the column") from error


def _as_texts(frame: Any) -> Any:
    """Columns of objects of several types as texts, as a CSV would have them."""
    changed: dict[Any, Any] = {}
    for name, column in frame.items():
        if str(column.dtype) != "object":
            continue
        kinds = {type(value) for value in column if value is not None and value == value}
        if len(kinds) > 1 and kinds <= {str, int, float, bool}:
            changed[name] = column.map(str, na_action="ignore")
    return frame.assign(**{str(name): column for name, column in changed.items()}) if changed else frame


def reading_labels(how: Reading, name: str) -> Reading:
    """With the labels in the column of this name."""
    if how.label is not None:
        raise UserError("label", how.label, "labels are given apart", "leave it out")
    return replace(how, label=name)
