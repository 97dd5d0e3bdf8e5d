"""Tables in CSV and parquet files: a label column, perhaps an id column, and features or a text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unmem.data.columns import MISSING_TEXTS, Categories, Quantity, feature, missing_cells
from unmem.data.csvfiles import columns_of, no_repeats, read_csv
from unmem.data.examples import Examples
from unmem.data.faults import Faults
from unmem.data.identifiers import Identity, counters, ids_by_part
from unmem.data.labels import class_indices
from unmem.data.missing import Numbers, filled, refuse_missing
from unmem.data.parts import by_part, part_of
from unmem.data.prepared import prepared
from unmem.data.preprocess import of_parts
from unmem.data.reading import Reading, known_column
from unmem.data.scaling import Scaling
from unmem.data.splits import Splits
from unmem.data.text import token_ids
from unmem.data.texts import among, as_numbers, is_text, matching, quoted, rows_of, shown, trimmed
from unmem.data.unlabelled import SHOWN, check_classes
from unmem.errors import Phrase, UserError

LABEL_NAMES = ("label", "target", "class", "y", "labels")
Table = Any  # pyarrow's own; it ships no types
Column = Any
SUFFIXES = (".csv", ".tsv", ".parquet")
USES = (
    *("label", "id", "drop", "test", "text", "tokenizer", "max_length"),
    *("categories", "missing", "impute", "decimal", "prepared", "preprocess"),
)


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, by its name, or of a folder of tables."""
    return (_kind(path) in SUFFIXES and not path.is_dir()) or bool(_files_in(path))


def table(path: Path, how: Reading) -> Splits:
    """A CSV or parquet file, or a folder of such files. Ids come from the id column, else they are row numbers.

    Numbers are standardised by the training part, text and truth values one-hot; or a text becomes token ids.
    """
    how.only("a table", *USES)
    read = _read_parts(path)
    if how.test is not None:
        if len(read) > 1:
            raise UserError("test", str(how.test), f"{path.name} has unseen examples of its own", "leave it out")
        read["test"] = _read(Path(how.test), field="test")
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
        return rows.splits.filled(token_ids(_texts(rows.table, how), how), scaling=None)
    if how.preprocess is not None:
        return _preprocessed(layout, Rows.of(layout, faults), how, written=written)
    columns = _features(layout, how, faults)
    rows = Rows.of(layout, faults)
    return _encoded(rows, {one: column.take(rows.order) for one, column in columns.items()}, layout, how)


@dataclass(frozen=True, eq=False)
class Layout:
    """What the columns of the tables are.

    whole: The tables of all parts, one below the other, in the order of the files. starts: Where each part starts.
    label, identity: Columns. features: Names of the others. labels, classes: Of the rows.
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

    @classmethod
    def of(
        cls,
        name: str,
        tables: Mapping[str, Table],
        how: Reading,
        faults: Faults,
        classes: tuple[str, ...],
        *,
        written: bool,
    ) -> Layout:
        train = tables["train"]
        label = faults.result(lambda: _label_column(train, how))
        identity = faults.result(lambda: Identity.of(train, label, how))
        identity = identity or Identity(None, tuple(Identity.indices_in(train, label, how)))
        for option, names in (("drop", how.dropped), ("categories", how.categorical)):
            for one in names:
                with faults.noted():
                    known_column(option, one, train.column_names)
        if label is None:
            raise faults.error
        tables, notes = _labelled(name, tables, label, how)
        for part in [part for part, rows in tables.items() if len(rows) == 0]:
            faults.found.append(UserError("data", Phrase(f"{part} table of {name}"), "has no rows", "give some"))
        optional = (*how.dropped, *identity.indices, *([identity.key] if identity.key else []))
        whole = _joined(train, tables, optional, faults)
        labels, names = np.zeros(len(whole), dtype=np.int64), ()
        with faults.noted():
            values = _label_values(label, whole[label], how, written=written)
            labels, names = class_indices(values, source=f"column {label!r}")
        starts = dict(zip(tables, np.cumsum([0, *(len(one) for one in tables.values())]).tolist(), strict=False))
        used = (label, identity.key, *identity.indices, *how.dropped)
        features = tuple(one for one in whole.column_names if one not in used)
        counted = [repr(one) for one in counters(train, [] if how.text else features)]
        if counted:
            notes = (*notes, f"used as features, though they count the rows: {', '.join(counted)} (--drop, or --id)")
        told = (*identity.notes, *notes)
        return cls(name, tables, whole, starts, label, identity, features, labels, classes or names, told)


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
        return cls.of(Layout.of(name, tables, how, faults, classes, written=False), faults)

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
        whole, labels = layout.whole.take(order), layout.labels[order]
        columns = {column: _array(whole[column]) for column in whole.column_names}
        count = len(layout.classes) or int(labels.max(initial=0)) + 1
        parts: dict[str, Examples] = {}
        for part, start in starts.items():
            rows = np.arange(start, start + len(tables[part]))
            own = {column: values[rows] for column, values in columns.items()}
            chosen = ids[part][orders[part]]
            parts[part] = Examples.of(rows, labels[rows], ids=chosen, n_classes=count, columns=own)
        if len(parts) > 1:
            check_classes(parts, layout.classes)
        splits = Splits.of_parts(layout.name, parts, classes=layout.classes)
        return cls(whole, replace(splits, notes=layout.notes, order=ids["train"]), order)


@dataclass(frozen=True, eq=False)
class _File:
    """A table as read. written: All cells are texts."""

    table: Table
    written: bool = False
    notes: tuple[str, ...] = ()

    def as_text(self) -> Table:
        if self.written:
            return self.table
        try:
            columns = [column.cast(pa.string()).fill_null("") for column in self.table.columns]
        except pa.ArrowException as error:
            raise UserError("test", None, f"cannot be read as text ({error})", "save both tables as CSV") from error
        return pa.table(dict(zip(self.table.column_names, columns, strict=True)))


def table_columns(path: Path) -> list[str]:
    """The names of the columns, read as cheaply as can be."""
    first = (_files_in(path) or [path])[0]
    if _kind(first) == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_schema(first).names)
    return columns_of(first)


def _kind(path: Path) -> str:
    """The suffix in lower case, without that of the compression."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _files_in(folder: Path) -> list[Path]:
    """The tables in a folder of nothing but files, in the order of the numbers in their names.

    These are parquet files, or any tables if one of them is called train; others just happen to lie there.
    """
    if not folder.is_dir():
        return []
    there = [one for one in folder.iterdir() if not one.name.startswith((".", "_"))]
    if any(one.is_dir() for one in there):  # classes of images, perhaps with a table beside them
        return []
    found = [one for one in there if _kind(one) in SUFFIXES]
    if not any(part_of(_word(one)) == "train" for one in found):
        found = [one for one in found if _kind(one) == ".parquet"]
    return sorted(
        found, key=lambda one: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", one.name)]
    )


def _word(path: Path) -> str:
    """What a file is called before the number of a piece: "train" of train-00000-of-00002.parquet."""
    return re.split(r"[-.]", path.name)[0]


def _read_parts(path: Path) -> dict[str, _File]:
    """By part. A folder holds the pieces of one table, or, by their names, those of several parts."""
    pieces = _files_in(path)
    if not pieces:
        return {"train": _read(path)}
    words = {one: _word(one) for one in pieces}
    if not any(part_of(word) for word in words.values()):
        return {"train": _joined_files(pieces, path)}
    named = by_part(sorted(set(words.values())), source=str(path))
    others = [one.name for one, word in words.items() if word not in named.values()]
    if others or "train" not in named:
        what = f"{others[0]} is of no part" if others else "there is no training set"
        raise UserError("data", str(path), what, "name the files train-…, test-… and val-…, or name one of them")
    return {part: _joined_files([one for one in pieces if words[one] == word], path) for part, word in named.items()}


def _joined_files(pieces: list[Path], folder: Path) -> _File:
    read = [_read(one) for one in pieces]
    for one, path in zip(read, pieces, strict=True):
        if set(one.table.column_names) != set(read[0].table.column_names) or one.written != read[0].written:
            what = f"{path.name} has other columns than {pieces[0].name}"
            raise UserError("data", str(folder), what, "name one of the files, or call them train… and test…")
    try:
        whole = pa.concat_tables([one.table for one in read], promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            "data", str(folder), f"its files do not fit together ({str(error).splitlines()[0]})", "name one of them"
        ) from error
    notes = [note for one in read for note in one.notes]
    if len(pieces) > 1:
        notes.append(f"{folder.name}: {len(pieces)} files are read as one table, in the order of their names")
    return _File(whole, written=read[0].written, notes=tuple(notes))


def _read(path: Path, *, field: str = "data") -> _File:
    if not path.is_file():
        raise UserError(field, str(path), "no such file", "check the path")
    if _kind(path) != ".parquet":
        found, notes = read_csv(path, field=field)
        return _File(found, written=True, notes=notes)
    from pyarrow import parquet

    try:
        no_repeats(parquet.read_schema(path).names, path, field)
        found = parquet.read_table(path)
        found.validate(full=True)  # texts that are no UTF-8, among others
        return _File(found)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(field, str(path), f"cannot be read as parquet ({reason})", "save it again") from error


def _label_column(train: Table, how: Reading) -> str:
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


def _labelled(
    name: str, tables: Mapping[str, Table], label: str, how: Reading
) -> tuple[dict[str, Table], tuple[str, ...]]:
    """The parts whose rows have labels, and notes on the others. Those of the training set are checked later."""
    kept: dict[str, Table] = {"train": tables["train"]}
    notes: list[str] = []
    negative = any(str(one).strip() == "-1" for one in _plain(tables["train"][label]).to_pylist())
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


def _without_label(column: Column, how: Reading, *, negative: bool) -> NDArray[np.int64]:
    """The rows without a label: null, NaN, an empty text, and −1 unless it is a class of the training set."""
    column = _plain(column)
    if is_text(column.type):
        missing = missing_cells(column, how)
        return np.flatnonzero(missing if negative else missing | among(trimmed(column), ["-1"]))
    values = column.to_pylist()
    return np.array(
        [k for k, one in enumerate(values) if one is None or one != one or (one == -1 and not negative)], dtype=np.int64
    )


def _label_values(name: str, column: Column, how: Reading, *, written: bool) -> NDArray[Any]:
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
    plain = trimmed(texts)
    # No more digits than a whole number of 64 bits has; leading zeros make a name of it.
    if matching(plain, r"^-?(0|[1-9]\d{0,17})$").all():
        return plain.cast(pa.int64()).to_numpy()
    number = matching(plain, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    if number.all() and matching(plain, r"[.eE]").any():
        return as_numbers(plain, number)
    rest = rows_of(plain, ~number)
    if number.any() and len(rest) and among(rest, MISSING_TEXTS).all():
        fix = f"pass --missing {quoted(rest[0].as_py())} if that is no label, or --categories {quoted(name)} if it is"
        raise UserError("data", Phrase(f"column {name!r}"), f"holds numbers, and {shown(rest)}", fix)
    return np.array(texts.to_pylist(), dtype=np.str_)


def _joined(train: Table, tables: Mapping[str, Table], optional: Sequence[str], faults: Faults) -> Table:
    columns: dict[str, Column] = {}
    for name in train.column_names:
        with faults.noted():
            columns[name] = _one_type(name, [_piece(name, part, tables, optional) for part in tables])
    return pa.table(columns)


def _piece(name: str, part: str, tables: Mapping[str, Table], optional: Sequence[str]) -> Column:
    rows = tables[part]
    if name in rows.column_names:
        return _plain(rows[name])
    if name in optional:
        return pa.chunked_array([pa.nulls(len(rows), _plain(tables["train"][name]).type)])
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


def _plain(column: Column) -> Column:
    """Categories as what they stand for, and one type for texts."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if is_text(column.type) else column


def _array(column: Column) -> NDArray[Any]:
    """Numbers and truth values as such, all else as objects, None where missing."""
    simple = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if simple and column.null_count == 0:
        return column.to_numpy()
    values: NDArray[Any] = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


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
    matrix = found.matrix if keep else _standardised(found, train)
    inputs = torch.from_numpy(matrix.astype(np.float32))
    notes = [*splits.notes, *found.notes, *([_told(way, how)] if quantities else [])]
    return replace(splits.filled(inputs, scaling=Scaling()), notes=tuple(notes))


def _told(way: str | None, how: Reading) -> str:
    if how.prepared:
        return "numbers reach the model as they are (--prepared)"
    if how.prepared is None and way is not None:
        why = f"numbers look prepared ({way} in every column) and reach the model as they are"
        return f"{why} (--no-prepared standardises them)"
    return "numbers are standardised by the training rows (--prepared if the model takes them as they are)"


def _standardised(found: Numbers, train: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantities with mean 0 and deviation 1 over the training rows; those that are constant there become 0."""
    matrix, quantity = found.matrix.copy(), found.is_quantity
    chosen = matrix[train][:, quantity]
    mean, sd = chosen.mean(axis=0), chosen.std(axis=0)
    constant = chosen.min(axis=0) == chosen.max(axis=0)
    matrix[:, quantity] = np.where(constant, 0.0, (matrix[:, quantity] - mean) / np.where(constant, 1.0, sd))
    return matrix
