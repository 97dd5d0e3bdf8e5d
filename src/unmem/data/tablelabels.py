"""The labels of a table: which column they are in, which rows have none, and what classes they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unmem.data.cells import among, as_numbers, is_text, matching, plain, quoted, rows_of, shown, trimmed
from unmem.data.columns import MISSING_TEXTS, missing_cells
from unmem.data.reading import Reading, known_column
from unmem.data.unlabelled import SHOWN
from unmem.errors import Phrase, UserError

LABEL_NAMES = ("label", "target", "class", "y", "labels")
Table = Any  # pyarrow's own; it ships no types
Column = Any


def label_column(train: Table, how: Reading) -> str:
    if how.label is not None:
        return known_column("label", how.label, train.column_names)
    found = usual_label(train.column_names)
    if found is None:
        raise UserError(
            "label",
            None,
            f"no column is called {', '.join(LABEL_NAMES)}",
            f"name the one with the classes by --label: {', '.join(train.column_names)}",
        )
    return found


def usual_label(columns: list[str]) -> str | None:
    """The column taken for the classes where none is named."""
    return next((name for name in LABEL_NAMES if name in columns), None)


def labelled_parts(
    name: str, tables: Mapping[str, Table], label: str, how: Reading
) -> tuple[dict[str, Table], tuple[str, ...]]:
    """The parts whose rows have labels, and notes on the others. Those of the training set are checked later."""
    kept: dict[str, Table] = {"train": tables["train"]}
    notes: list[str] = []
    negative = any(str(one).strip() == "-1" for one in _distinct(plain(tables["train"][label])))
    for part, rows in tables.items():
        if part == "train":
            continue
        extra = [repr(one) for one in rows.column_names if one not in tables["train"].column_names]
        if extra:
            notes.append(f"columns of the {part} table alone are not used: {', '.join(extra)}")
        if label not in rows.column_names:
            notes.append(f"the {part} table of {name} has no column {label!r} and was left out")
        elif len(_without_label(rows[label], how, negative=negative)):
            notes.append(f"the {part} table of {name} has rows without a label and was left out")
        else:
            kept[part] = rows
    return kept, tuple(notes)


def _distinct(column: Column) -> list[object]:
    """The values of a column, each once where Arrow can tell."""
    simple = is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return (column.unique() if simple else column).to_pylist()


def _without_label(column: Column, how: Reading, *, negative: bool) -> NDArray[np.int64]:
    """The rows without a label: null, NaN, an empty text, and −1 unless it is a class of the training set."""
    column = plain(column)
    if is_text(column.type):
        missing = missing_cells(column, how)
        return np.flatnonzero(missing if negative else missing | among(trimmed(column), ["-1"]))
    if pa.types.is_integer(column.type) and column.null_count == 0:
        return np.empty(0, np.int64) if negative else np.flatnonzero(column.to_numpy() == -1)
    values = column.to_pylist()
    return np.array(
        [k for k, one in enumerate(values) if one is None or one != one or (one == -1 and not negative)], dtype=np.int64
    )


def label_values(name: str, column: Column, how: Reading, *, written: bool) -> NDArray[Any]:
    """Names, or whole numbers: those of a file are whole numbers if all of them are written as such."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return np.zeros((len(column), 2))  # one-hot or multi-label: refused by its shape
    missing = _without_label(column, how, negative=True)
    if len(missing):
        rows = f"rows {', '.join(map(str, missing[:SHOWN]))}{', …' if len(missing) > SHOWN else ''}, counted from 0"
        raise UserError(
            "data",
            Phrase(f"column {name!r}"),
            f"has {len(missing):,} missing values ({rows})",
            "label these examples, or leave them out",
        )
    if not is_text(kind):
        return np.array(column.to_pylist(), dtype=np.str_) if name in how.categorical else column.to_numpy()
    texts = column.combine_chunks()
    if not written or name in how.categorical:
        return np.array(texts.to_pylist(), dtype=np.str_)
    return _numbers_or_names(name, texts)


def _numbers_or_names(name: str, texts: Column) -> NDArray[Any]:
    bare = trimmed(texts)
    # No more digits than a whole number of 64 bits has; leading zeros make a name of it.
    if matching(bare, r"^-?(0|[1-9]\d{0,17})$").all():
        return bare.cast(pa.int64()).to_numpy()
    number = matching(bare, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    if number.all() and matching(bare, r"[.eE]").any():
        return as_numbers(bare, number)
    rest = rows_of(bare, ~number)
    if number.any() and len(rest) and among(rest, MISSING_TEXTS).all():
        fix = f"pass --missing {quoted(rest[0].as_py())} if that is no label, or --categories {quoted(name)} if it is"
        raise UserError("data", Phrase(f"column {name!r}"), f"holds numbers, and {shown(rest)}", fix)
    return np.array(texts.to_pylist(), dtype=np.str_)
