"""Tables in CSV and parquet files: a label column, perhaps an id column, and features or a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unmem.data.cells import is_text
from unmem.data.columns import Categories, Quantity, feature, missing_cells
from unmem.data.faults import Faults
from unmem.data.layout import Layout, Rows
from unmem.data.missing import filled, refuse_missing
from unmem.data.prepared import prepared
from unmem.data.preprocess import of_parts
from unmem.data.reading import Reading, known_column
from unmem.data.scaling import Scaling
from unmem.data.splits import Splits
from unmem.data.tablefiles import read_file, read_parts
from unmem.data.text import token_ids
from unmem.errors import Phrase, UserError

Table = Any  # pyarrow's own; it ships no types
USES = (
    *("label", "id", "drop", "test", "text", "tokenizer", "max_length"),
    *("categories", "missing", "impute", "decimal", "prepared", "preprocess"),
)


def table(path: Path, how: Reading) -> Splits:
    """A CSV or parquet file, or a folder of such files. Ids come from the id column, else they are row numbers.

    Numbers are standardised by the training part, text and truth values one-hot; or a text becomes token ids.
    """
    how.only("a table", *USES)
    read = read_parts(path)
    if how.test is not None:
        if len(read) > 1:
            raise UserError("test", str(how.test), f"{path.name} has unseen examples of its own", "leave it out")
        read["test"] = read_file(Path(how.test), field="test")
    notes = tuple(note for one in read.values() for note in one.notes)
    written = any(one.written for one in read.values())
    tables = {part: one.as_text() if written else one.table for part, one in read.items()}
    splits = splits_of(path.name, tables, how, written=written)
    return replace(splits, notes=(*notes, *splits.notes))


def splits_of(
    name: str, tables: Mapping[str, Table], how: Reading, classes: tuple[str, ...] = (), *, written: bool = False
) -> Splits:
    """The features or texts of tables by part.

    Args:
        name: Of the data set.
        tables: By part, pyarrow tables.
        how: Which columns are what.
        classes: Names of the classes, if labels are indices into them.
        written: All cells are texts, as a file has them.
    """
    faults = Faults(name)
    how = _declared(how, tables["train"])
    layout = Layout.of(name, tables, how, faults, classes, written=written)
    if how.text is not None:
        rows = Rows.of(layout, faults)
        tokens, notes = token_ids(_texts(rows.table, how), how)
        splits = rows.splits.filled(tokens, scaling=None)
        return replace(splits, notes=(*splits.notes, *notes))
    if how.preprocess is not None:
        return _preprocessed(layout, Rows.of(layout, faults), how, written=written)
    columns = _features(layout, how, faults)
    rows = Rows.of(layout, faults)
    # One after the other, so that no column is there twice for longer than it takes.
    return _encoded(rows, {one: columns.pop(one).take(rows.order) for one in list(columns)}, layout, how)


def _declared(how: Reading, train: Table) -> Reading:
    """With the columns that the table itself says are categories, as those of data frames may."""
    typed = [name for name in train.column_names if pa.types.is_dictionary(train[name].type)]
    return replace(how, categories=(*how.categorical, *typed))


def _features(layout: Layout, how: Reading, faults: Faults) -> dict[str, Quantity | Categories]:
    found: dict[str, Quantity | Categories] = {}
    for name in layout.features:
        with faults.noted():
            one = feature(name, layout.whole[name], how)
            found[name] = one.known_in(len(layout.tables["train"]), name) if isinstance(one, Categories) else one
            if how.impute == "refuse":
                refuse_missing(name, found[name])
    if not layout.features:
        fix = "leave some that are neither label, id nor dropped"
        faults.found.append(UserError("data", layout.name, "has no feature columns", fix))
    return found


def _texts(table: Table, how: Reading) -> list[str]:
    name = known_column("text", str(how.text), table.column_names)
    column = table[name]
    if not is_text(column.type):
        raise UserError("text", name, f"is a column of type {column.type}", "name a column of texts")
    missing = int(missing_cells(column, how).sum())
    if missing:
        where = Phrase(f"column {name!r}")
        raise UserError("data", where, f"has {missing:,} missing values", "fill or drop them")
    return column.to_pylist()


def _preprocessed(layout: Layout, rows: Rows, how: Reading, *, written: bool) -> Splits:
    """Inputs as the user's own code makes them of the columns."""
    found = of_parts(list(layout.tables.values()), list(layout.features), how, written=written)[rows.order]
    inputs = torch.from_numpy(found if found.dtype == np.uint8 else found.astype(np.float32))
    note = f"inputs are what {how.preprocess} makes of the columns, and reach the model as they are"
    return replace(rows.splits.filled(inputs, scaling=Scaling()), notes=(*rows.splits.notes, note))


def _encoded(rows: Rows, columns: Mapping[str, Quantity | Categories], layout: Layout, how: Reading) -> Splits:
    """Numbers as a model takes them: quantities standardised, unless they are prepared already."""
    splits = rows.splits
    train = splits.train.inputs[:].numpy()
    found = filled(columns, train)
    quantities = [column for column in columns.values() if isinstance(column, Quantity)]
    way = prepared(quantities, len(layout.tables["train"]))
    keep = way is not None if how.prepared is None else how.prepared
    inputs = torch.from_numpy(found.side_by_side(None if keep else lambda values: _standardised(values, train)))
    notes = [*splits.notes, *found.notes, *([_told(way, how)] if quantities else [])]
    return replace(splits.filled(inputs, scaling=Scaling()), notes=tuple(notes))


def _told(way: str | None, how: Reading) -> str:
    if how.prepared:
        return "numbers reach the model as they are (--prepared)"
    if how.prepared is None and way is not None:
        why = f"numbers look prepared ({way} in every column) and reach the model as they are"
        return f"{why} (--no-prepared standardises them)"
    return "numbers are standardised by the training rows (--prepared if the model takes them as they are)"


def _standardised(values: NDArray[np.float64], train: NDArray[np.int64]) -> NDArray[np.float64]:
    """A quantity with mean 0 and deviation 1 over the training rows; one that is constant there becomes 0."""
    chosen = values[train]
    if chosen.min() == chosen.max():
        return np.zeros_like(values)
    return (values - chosen.mean()) / chosen.std()
