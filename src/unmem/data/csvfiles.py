"""CSV files as users have them: encoding and separator are found, and every cell is kept as it is written."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from unmem.errors import Phrase, UserError
from unmem.plainfiles import open_plain

SEPARATORS = (",", ";", "\t", "|")
_SAID = re.compile(r"\A\s*sep=.\r?\n")  # a first line with which Excel tells itself the separator
_SAMPLE = 1 << 16  # characters that tell the separator
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
_LARGEST_BLOCK = 1 << 30


def read_csv(path: Path, *, field: str = "data") -> tuple[Any, tuple[str, ...]]:
    """A pyarrow table of texts, one column per column of the file, and notes on how it was read.

    Raises:
        UserError: The file cannot be read, its rows differ in length, or two columns have one name.
    """
    text, encoding = _decoded(path, field)
    separator = _separator(text, path)
    names = _header(text, separator)
    if not any(names):
        raise UserError(field, str(path), "cannot be read as csv (it is empty)", "save it again, with a header")
    raw = text.encode()
    del text  # a large file is not held twice
    table = _parsed(raw, separator, names, path, field)
    notes = [] if encoding == "utf-8-sig" else [f"{path.name} is not in UTF-8 and was read as {encoding}"]
    empty = [k for k, name in enumerate(names) if not name.strip() and _is_empty(table.column(k))]
    if empty:
        table = table.select([k for k in range(len(names)) if k not in empty])
        notes.append(f"{len(empty)} columns of {path.name} without a name and without values were left out")
    no_repeats(table.column_names, path, field)
    bare = [name.strip() for name in table.column_names]
    return table.rename_columns(bare) if len(set(bare)) == len(bare) else table, tuple(notes)


def columns_of(path: Path) -> list[str]:
    """The names in the first line of a file."""
    text, _ = _decoded(path, "data")
    return [name.strip() for name in _header(text, _separator(text, path))]


def no_repeats(names: list[str], path: Path, field: str) -> None:
    """Refuse a table in which two columns have one name."""
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        where = Phrase(f"column {', '.join(twice)} of {path}")
        raise UserError(field, where, "is there more than once", "rename or remove one")


def _decoded(path: Path, field: str) -> tuple[str, str]:
    """The text of a file, and the encoding in which it was written."""
    try:
        with open_plain(path) as file:
            raw = file.read()
        raw = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, field, str(error)) from error
    utf_16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf_16 else _ENCODINGS:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return _SAID.sub("", text, count=1), encoding
    raise _unreadable(path, field, "it is no text")


def _separator(text: str, path: Path) -> str:
    """The separator by which the first rows all have as many cells as the header, and the most of them."""
    order = ("\t", *SEPARATORS) if ".tsv" in path.name.lower() else SEPARATORS
    widths: dict[str, int] = {}
    for one in order:
        found = [len(row) for row in _first_rows(text, one) if row]
        widths[one] = found[0] if found and len(set(found)) == 1 else 0
    best = max(widths, key=widths.__getitem__)
    # Rows of different lengths are a fault, which the parser names; the header tells the separator then.
    return best if widths[best] > 1 else max(order, key=(text.splitlines() or [""])[0].count)


def _first_rows(text: str, separator: str) -> list[list[str]]:
    """Up to 100 rows of the start of a text; the last one is left out where the start was cut."""
    whole = len(text) <= _SAMPLE
    try:
        rows = list(islice(csv.reader(io.StringIO(text[:_SAMPLE], newline=""), delimiter=separator), 101))
    except csv.Error:
        return []
    return rows[:100] if whole or len(rows) > 100 else rows[:-1]


def _header(text: str, separator: str) -> list[str]:
    size = _SAMPLE
    while True:  # a StringIO takes four bytes a character: of a large file, the start usually tells
        rows = csv.reader(io.StringIO(text[:size], newline=""), delimiter=separator)
        found: list[list[str]] = []
        with contextlib.suppress(csv.Error):
            found.extend(islice((row for row in rows if row), 2))
        if size >= len(text) or len(found) == 2:
            return found[0] if found else []
        size *= 8


def _parsed(raw: bytes, separator: str, names: list[str], path: Path, field: str) -> Any:
    # A row must lie within one block.
    read = arrow_csv.ReadOptions(block_size=min(max(len(raw) + 1, 1 << 20), _LARGEST_BLOCK))
    form = arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    as_text = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
    )
    try:
        table = arrow_csv.read_csv(pa.BufferReader(raw), read_options=read, parse_options=form, convert_options=as_text)
    except (pa.ArrowException, ValueError) as error:
        raise _unreadable(path, field, str(error).splitlines()[0]) from error
    if table.column_names != names:
        raise _unreadable(path, field, "its header cannot be understood")
    return table


def _is_empty(column: Any) -> bool:
    return not any(cell.strip() for cell in column.unique().to_pylist())


def _unreadable(path: Path, field: str, reason: str) -> UserError:
    return UserError(field, str(path), f"cannot be read as csv ({reason})", "save it again, as text in UTF-8")
