"""Tables in CSV and parquet files: a label column, perhaps an id column, and features or a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unmem.data.examples import Examples, Ids
from unmem.data.labels import class_indices
from unmem.data.reading import Reading, known_column
from unmem.data.scaling import Scaling
from unmem.data.splits import Splits
from unmem.data.text import token_ids
from unmem.errors import Phrase, UserError

LABEL_NAMES = ("label", "target", "class", "y", "labels")
ID_NAME = "id"
Table = Any  # pyarrow's own; it ships no types
Column = Any
Kind = Any
MOST_CATEGORIES = 100
SUFFIXES = (".csv", ".tsv", ".parquet")
USES = ("label", "id", "drop", "test", "text", "tokenizer", "max_length")


def table(path: Path, how: Reading) -> Splits:
    """A CSV or parquet file. Ids come from the id column, else they are row numbers.

    Numbers are standardised by the training part, text and truth values one-hot; or a text becomes token ids.
    """
    how.only("a table", *USES)
    tables = {"train": read_table(path, how)}
    if how.test is not None:
        tables["test"] = read_table(Path(how.test), how, field="test")
    return splits_of(path.name, tables, how)


def splits_of(name: str, tables: Mapping[str, Table], how: Reading, classes: tuple[str, ...] = ()) -> Splits:
    """The features or texts of tables by part. classes: names of the classes, if labels are indices into them."""
    rows = Rows.of(name, tables, how, classes)
    if how.text is not None:
        texts = rows.table[known_column("text", how.text, rows.table.column_names)]
        _no_missing(how.text, texts)
        if not _is_text(texts.type):
            raise UserError("text", how.text, f"is a column of type {texts.type}", "name a column of texts")
        return rows.splits.filled(token_ids(texts.to_pylist(), how), scaling=None)
    feature_names = [name for name in rows.table.column_names if name not in (rows.label, rows.id, *how.dropped)]
    if not feature_names:
        raise UserError("data", name, "has no feature columns", "leave some that are neither label, id nor dropped")
    features = [_feature(one, rows.table[one]) for one in feature_names]
    numeric = np.concatenate([np.full(values.shape[1], is_number) for values, is_number in features])
    matrix = np.concatenate([values for values, _ in features], axis=1)
    return _standardised(rows.splits, matrix, numeric)


@dataclass(frozen=True, eq=False)
class Rows:
    """The tables of all parts, one below the other.

    table: as read, in the order of the ids where there is an id column, so that it depends on no order of the file.
    splits: examples whose inputs are row numbers in `table`. order: where each row was before.
    """

    table: Table
    splits: Splits
    order: NDArray[np.int64]
    label: str
    id: str | None

    @classmethod
    def of(cls, name: str, tables: Mapping[str, Table], how: Reading, classes: tuple[str, ...] = ()) -> Rows:
        train = tables["train"]
        label = _label_column(train, how)
        key = _id_column(train, how)
        for column in how.dropped:
            known_column("drop", column, train.column_names)
        ids = _ids(tables, key)
        orders = {part: np.argsort(ids[part]) if key else np.arange(len(ids[part])) for part in tables}
        whole = _joined(train, tables, (*how.dropped, *([key] if key else [])))
        starts = dict(zip(tables, np.cumsum([0, *(len(one) for one in tables.values())]), strict=False))
        order = np.concatenate([starts[part] + orders[part] for part in tables])
        whole = whole.take(order)
        labels, names = class_indices(_label_values(label, whole[label]), source=f"column {label!r}")
        columns = {column: _array(whole[column]) for column in whole.column_names}
        count = len(classes) or len(names) or int(labels.max(initial=0)) + 1
        parts: dict[str, Examples] = {}
        for part, start in starts.items():
            rows = np.arange(start, start + len(tables[part]))
            own = {column: values[rows] for column, values in columns.items()}
            chosen = ids[part][orders[part]]
            parts[part] = Examples.of(rows, labels[rows], ids=chosen, n_classes=count, columns=own)
        return cls(whole, Splits.of_parts(name, parts, classes=classes or names), order, label, key)


def read_table(path: Path, how: Reading, *, field: str = "data") -> Table:
    if not path.is_file():
        raise UserError(field, str(path), "no such file", "check the path")
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            found: Table = parquet.read_table(path)
        else:
            found = _read_csv(path, how)
        _ = found.column_names  # fails where they are no UTF-8
        return found
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            field, str(path), f"cannot be read as {path.suffix[1:]} ({reason})", "save it again, text in UTF-8"
        ) from error


def _read_csv(path: Path, how: Reading) -> Table:
    from pyarrow import csv

    form = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
    # Ids are kept as they are written ("007"). An empty cell is a missing value, also of text.
    written = {name: pa.string() for name in (how.id or ID_NAME, how.text) if name}
    convert = csv.ConvertOptions(column_types=written, strings_can_be_null=True)
    return csv.read_csv(path, parse_options=form, convert_options=convert)


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


def _id_column(train: Table, how: Reading) -> str | None:
    if how.id is not None:
        return known_column("id", how.id, train.column_names)
    return ID_NAME if ID_NAME in train.column_names else None


def _ids(tables: Mapping[str, Table], key: str | None) -> dict[str, Ids]:
    """By part; those of unseen parts get a prefix where they are row numbers or those of another part."""
    ids: dict[str, Ids] = {}
    for part, rows in tables.items():
        if key is not None and key in rows.column_names:
            own = _id_values(key, rows[key])
        else:
            own = np.arange(len(rows)).astype(np.str_)
        taken: Ids = np.concatenate([*ids.values(), np.empty(0, dtype="<U1")])
        prefix = "" if key is not None or not ids else f"{part}-"
        while len(np.intersect1d(np.char.add(prefix, own), taken)):
            prefix += f"{part}-"
        ids[part] = np.char.add(prefix, own)
    return ids


def _id_values(name: str, column: Column) -> Ids:
    _no_missing(name, column)
    column = _plain(column)
    if not (_is_text(column.type) or pa.types.is_integer(column.type)):
        raise UserError("id", name, f"is a column of type {column.type}", "ids are text or whole numbers")
    return np.array(column.cast(pa.string()).to_pylist(), dtype=np.str_)


def _joined(train: Table, tables: Mapping[str, Table], optional: Sequence[str]) -> Table:
    columns = {name: [_plain(train[name])] for name in train.column_names}
    for part, rows in tables.items():
        if part == "train":
            continue
        for name, pieces in columns.items():
            if name in rows.column_names:
                pieces.append(_plain(rows[name]))
            elif name in optional:
                pieces.append(pa.chunked_array([pa.nulls(len(rows), pieces[0].type)]))
            else:
                raise UserError(
                    part, name, "is a column of the training set alone", "add it, or leave it out by --drop"
                )
    return pa.table({name: _one_type(name, pieces) for name, pieces in columns.items()})


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
    return column.cast(pa.string()) if _is_text(column.type) else column


def _is_text(kind: Kind) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _label_values(name: str, column: Column) -> NDArray[Any]:
    _no_missing(name, column)
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return np.zeros((len(column), 2))  # one-hot or multi-label: refused by its shape
    return np.array(column.to_pylist(), dtype=np.str_) if _is_text(kind) else column.to_numpy()


def _array(column: Column) -> NDArray[Any]:
    """Numbers and truth values as such, all else as objects, None where missing."""
    simple = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if simple and column.null_count == 0:
        return column.to_numpy()
    values: NDArray[Any] = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _no_missing(name: str, column: Column) -> None:
    count = column.null_count
    if pa.types.is_floating(column.type):
        count += int(np.isnan(column.drop_null().to_numpy()).sum())
    if count:
        raise UserError("data", Phrase(f"column {name!r}"), f"has {count:,} missing values", "fill or drop them")


def _feature(name: str, column: Column) -> tuple[NDArray[np.float64], bool]:
    """[N, k] numbers, and whether they are a quantity (k = 1) and not categories."""
    _no_missing(name, column)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = column.cast(pa.float64(), safe=False).to_numpy()
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise UserError("data", Phrase(f"column {name!r}"), f"has {bad:,} infinite values", "fill or drop them")
        return values[:, None], True
    if not (pa.types.is_boolean(kind) or _is_text(kind)):
        raise UserError(
            "data", Phrase(f"column {name!r}"), f"is of type {kind}", f"turn it into numbers, or --drop {name}"
        )
    values = column.to_numpy() if pa.types.is_boolean(kind) else np.array(column.to_pylist(), dtype=np.str_)
    categories, codes = np.unique(values, return_inverse=True)
    if len(categories) > MOST_CATEGORIES:
        raise UserError(
            "data",
            Phrase(f"column {name!r}"),
            f"has {len(categories):,} different texts, too many for categories",
            f"pass --drop {name}, or name it by --text or --id",
        )
    return np.eye(len(categories))[codes], False


def _standardised(splits: Splits, matrix: NDArray[np.float64], numeric: NDArray[np.bool_]) -> Splits:
    """Quantities with mean 0 and deviation 1 over the training part; those that are constant there become 0."""
    rows = splits.train.inputs[:].numpy()
    chosen = matrix[rows][:, numeric]
    mean, sd = chosen.mean(axis=0), chosen.std(axis=0)
    constant = chosen.min(axis=0) == chosen.max(axis=0)
    matrix = matrix.copy()
    matrix[:, numeric] = np.where(constant, 0.0, (matrix[:, numeric] - mean) / np.where(constant, 1.0, sd))
    return splits.filled(torch.from_numpy(matrix.astype(np.float32)), scaling=Scaling())
