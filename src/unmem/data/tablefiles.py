"""Files of tables: CSV and parquet, and folders of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from unmem.data.csvfiles import columns_of, no_repeats, read_csv
from unmem.data.parts import by_part, part_of
from unmem.errors import UserError
from unmem.plainfiles import open_plain

Table = Any  # pyarrow's own; it ships no types
SUFFIXES = (".csv", ".tsv", ".parquet")


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, by its name, or of a folder of tables."""
    return (_kind(path) in SUFFIXES and not path.is_dir()) or bool(_files_in(path))


@dataclass(frozen=True, eq=False)
class TableFile:
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

        open_plain(first).close()  # Arrow would wait for a pipe
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


def read_parts(path: Path) -> dict[str, TableFile]:
    """By part. A folder holds the pieces of one table, or, by their names, those of several parts."""
    pieces = _files_in(path)
    if not pieces:
        return {"train": read_file(path)}
    words = {one: _word(one) for one in pieces}
    if not any(part_of(word) for word in words.values()):
        return {"train": _joined_files(pieces, path)}
    named = by_part(sorted(set(words.values())), source=str(path))
    others = [one.name for one, word in words.items() if word not in named.values()]
    if others or "train" not in named:
        what = f"{others[0]} is of no part" if others else "there is no training set"
        raise UserError("data", str(path), what, "name the files train-…, test-… and val-…, or name one of them")
    return {part: _joined_files([one for one in pieces if words[one] == word], path) for part, word in named.items()}


def _joined_files(pieces: list[Path], folder: Path) -> TableFile:
    read = [read_file(one) for one in pieces]
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
    return TableFile(whole, written=read[0].written, notes=tuple(notes))


def read_file(path: Path, *, field: str = "data") -> TableFile:
    if not path.is_file():
        raise UserError(field, str(path), "no such file", "check the path")
    if _kind(path) != ".parquet":
        found, notes = read_csv(path, field=field)
        return TableFile(found, written=True, notes=notes)
    from pyarrow import parquet

    try:
        no_repeats(parquet.read_schema(path).names, path, field)
        found = parquet.read_table(path)
        found.validate(full=True)  # texts that are no UTF-8, among others
        return TableFile(found)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(field, str(path), f"cannot be read as parquet ({reason})", "save it again") from error
