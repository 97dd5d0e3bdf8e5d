"""What the columns of tables are, and their rows as examples that still lack their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unmem.data.cells import is_text, plain
from unmem.data.examples import Examples
from unmem.data.faults import Faults
from unmem.data.identifiers import Identity, counters, ids_by_part
from unmem.data.labels import class_indices
from unmem.data.parting import Parting
from unmem.data.reading import Reading, known_column
from unmem.data.splits import Splits
from unmem.data.tablelabels import label_column, label_values, labelled_parts
from unmem.data.unlabelled import check_classes
from unmem.errors import Phrase, UserError

Table = Any  # pyarrow's own; it ships no types
Column = Any

MANY_TEXTS = 65_536  # different texts of a column, from which on they are not kept as objects


@dataclass(frozen=True, eq=False)
class Layout:
    """What the columns of the tables are.

    whole: The tables of all parts, one below the other, in the order of the files. starts: Where each part starts.
    label, identity: Columns. features: Names of the others. labels, classes: Of the rows. parting: How rows that are
    one set are split.
    """

    name: str
    tables: Mapping[str, Table]
    whole: Table
    starts: dict[str, int]
    label: str
    identity: Identity
    features: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    parting: Parting

    @classmethod
    def of(
        cls,
        name: str,
        tables: Mapping[str, Table],
        how: Reading,
        faults: Faults,
        classes: tuple[str, ...],
        *,
        written: bool = False,
        inputs_apart: bool = False,
    ) -> Layout:
        """inputs_apart: The columns are no features; inputs come from elsewhere."""
        train = tables["train"]
        label = faults.result(lambda: label_column(train, how))
        tabular = how.text is None and not inputs_apart
        identity = faults.result(lambda: Identity.of(train, label, how, strict=tabular))
        identity = identity or Identity(None, tuple(Identity.indices_in(train, label, how)))
        for option, names in (("drop", how.dropped), ("categories", how.categorical)):
            for one in names:
                with faults.noted():
                    known_column(option, one, train.column_names)
        if label is None:
            raise faults.error
        tables, notes = labelled_parts(name, tables, label, how)
        for part in [part for part, rows in tables.items() if len(rows) == 0]:
            faults.found.append(UserError("data", Phrase(f"{part} table of {name}"), "has no rows", "give some"))
        optional = (*how.dropped, *identity.indices, *([identity.key] if identity.key else []))
        whole = _joined(train, tables, optional, faults)
        labels, names = np.zeros(len(whole), dtype=np.int64), ()
        with faults.noted():
            values = label_values(label, whole[label], how, written=written)
            labels, names = class_indices(values, source=f"column {label!r}")
        starts = dict(zip(tables, np.cumsum([0, *(len(one) for one in tables.values())]).tolist(), strict=False))
        used = (label, identity.key, *identity.indices, *how.dropped)
        features = tuple(one for one in whole.column_names if one not in used)
        counted = [repr(one) for one in counters(train, features if tabular else [])]
        if counted:
            notes = (*notes, f"used as features, though they count the rows: {', '.join(counted)} (--drop, or --id)")
        told = (*identity.notes, *notes)
        return cls(name, tables, whole, starts, label, identity, features, labels, classes or names, told, how.parting)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of all parts, one below the other.

    table: as read, in the order of the ids where there is an id column, so that it depends on no order of the file.
    splits: examples whose inputs are row numbers in `table`. order: where each row was before.
    """

    table: Table
    splits: Splits
    order: NDArray[np.int64]

    @classmethod
    def of_tables(cls, name: str, tables: Mapping[str, Table], how: Reading, classes: tuple[str, ...] = ()) -> Rows:
        faults = Faults(name)
        return cls.of(Layout.of(name, tables, how, faults, classes, inputs_apart=True), faults)

    @classmethod
    def of(cls, layout: Layout, faults: Faults) -> Rows:
        """Raises what was found to be wrong with the tables before."""
        tables, starts, key = layout.tables, layout.starts, layout.identity.key
        ids = {part: np.empty(len(rows), dtype="<U1") for part, rows in tables.items()}
        with faults.noted():
            ids = ids_by_part(tables, key)
        faults.check()
        orders = {part: np.argsort(ids[part]) if key else np.arange(len(ids[part])) for part in tables}
        order = np.concatenate([starts[part] + orders[part] for part in tables])
        whole, labels = (layout.whole.take(order) if key else layout.whole), layout.labels[order]
        columns = {column: _array(whole[column]) for column in whole.column_names}
        count = len(layout.classes) or int(labels.max(initial=0)) + 1
        parts: dict[str, Examples] = {}
        for part, start in starts.items():
            part_rows = slice(start, start + len(tables[part]))
            own = {column: values[part_rows] for column, values in columns.items()}
            chosen = ids[part][orders[part]]
            rows = np.arange(part_rows.start, part_rows.stop)
            parts[part] = Examples.of(rows, labels[part_rows], ids=chosen, n_classes=count, columns=own)
        if len(parts) > 1:
            check_classes(parts, layout.classes)
        splits = Splits.of_parts(layout.name, parts, classes=layout.classes, parting=layout.parting)
        return cls(whole, replace(splits, notes=layout.notes, order=ids["train"]), order)


def _joined(train: Table, tables: Mapping[str, Table], optional: Sequence[str], faults: Faults) -> Table:
    columns: dict[str, Column] = {}
    for name in train.column_names:
        with faults.noted():
            columns[name] = _one_type(name, [_piece(name, part, tables, optional) for part in tables])
    return pa.table(columns)


def _piece(name: str, part: str, tables: Mapping[str, Table], optional: Sequence[str]) -> Column:
    rows = tables[part]
    if name in rows.column_names:
        return plain(rows[name])
    if name in optional:
        return pa.chunked_array([pa.nulls(len(rows), plain(tables["train"][name]).type)])
    raise UserError(part, name, "is a column of the training set alone", "add it, or leave it out by --drop")


def _one_type(name: str, pieces: Sequence[Column]) -> Column:
    kinds = {one.type for one in pieces if not pa.types.is_null(one.type)}
    if len(kinds) > 1 and all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        pieces = [one.cast(pa.float64(), safe=False) for one in pieces]
    elif len(kinds) > 1:
        types = " and ".join(str(kind) for kind in sorted(kinds, key=str))
        raise UserError("data", name, f"is a column of {types} in different parts", "use one type in all of them")
    elif kinds:
        pieces = [one.cast(next(iter(kinds))) for one in pieces]
    return pa.chunked_array([chunk for one in pieces for chunk in one.chunks], type=pieces[0].type)


def _array(column: Column) -> NDArray[Any]:
    """Numbers and truth values as such, all else as objects, None where missing."""
    simple = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if simple and column.null_count == 0:
        return column.to_numpy()
    if is_text(column.type):  # equal texts are one object, which spares memory
        coded = column.combine_chunks().dictionary_encode()
        if len(coded.dictionary) > MANY_TEXTS:  # as objects, they would take some 70 bytes each
            return np.array(column.to_pylist(), dtype=np.dtypes.StringDType(na_object=None))
        texts = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
        return texts[np.asarray(coded.indices.fill_null(-1).to_numpy(zero_copy_only=False))]
    values: NDArray[Any] = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
