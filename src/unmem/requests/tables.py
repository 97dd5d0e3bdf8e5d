"""Small tables as users have them: text, CSV, JSON, parquet, .npy or standard input, all read to columns of values."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmem.errors import UserError, nearest

STDIN = "-"
UNNAMED = ""
# By these the first line of a CSV with one column is known to be its header.
_HEADERS = ("id", "ids", "is_label_issue", "label_quality", "label_score")
_LINE_ENDS = re.compile("\r\n|\n|\r")  # not those of str.splitlines, which may be within an id
_FIX = "give text with one a line, CSV, JSON or parquet"


class _FormatError(ValueError):
    """The bytes are not what they should be; says how."""


ANNEX = ("id", "label", "confidence")  # the columns with which every annex begins


@dataclass(frozen=True)
class Table:
    """Columns by name, all equally long, values as they are written. A file that names no column has one, called "".

    lines: whether it is text with one value a line, where a line that starts with # may be a comment.
    """

    columns: dict[str, list[Any]]
    lines: bool = False

    def __len__(self) -> int:
        return max((len(values) for values in self.columns.values()), default=0)

    @property
    def is_annex(self) -> bool:
        """Whether an audit wrote it, so that its texts are those of `spreadsheet_text`."""
        return tuple(self.columns)[: len(ANNEX)] == ANNEX

    def column(self, *names: str) -> list[Any] | None:
        """The first of these columns that is there, however it is capitalized."""
        found = {name.strip().lower(): values for name, values in reversed(self.columns.items())}
        return next((found[name] for name in names if name in found), None)

    def only(self) -> list[Any] | None:
        """The values of a table with one column, whatever its name; pandas' own index does not count."""
        named = [values for name, values in self.columns.items() if not name.startswith("__index_level_")]
        return named[0] if len(named) == 1 else None


def read_table(source: str | Path, *, field: str) -> Table:
    """The table in a file, or of standard input where `source` is "-". By suffix, else by what the bytes start with.

    Raises `UserError` if there is no such file, or if it is damaged or of no known format.
    """
    raw = _bytes(source, field)
    suffix = "" if str(source) == STDIN else Path(source).suffix.lower()
    reader = _READERS.get(suffix) or _by_content(raw)
    try:
        return reader(raw)
    except _FormatError as error:
        raise UserError(field, str(source), str(error), _FIX) from error
    except (RecursionError, MemoryError, OverflowError) as error:
        raise UserError(field, str(source), "too deep or too large to read", _FIX) from error


def missing(table: Table, name: str, *, field: str, source: str | Path) -> UserError:
    """The error of a table that lacks a column, with those it has."""
    names = list(table.columns)
    listed = ", ".join(repr(one)[:40] for one in names[:10]) + (", …" if len(names) > 10 else "")
    close = nearest(name, names) if len(names) < 10 else ""
    fix = close if close.startswith("did you") else f"name the column {name}"
    return UserError(field, str(source), f"has no column {name} (it has {listed or 'none'})", fix)


def _bytes(source: str | Path, field: str) -> bytes:
    if str(source) == STDIN:
        if sys.stdin is None or sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison] (None if closed)
            raise UserError(
                field, STDIN, "nothing is piped in", "write for example: cat ids.txt | unmem forget --forget -"
            )
        return sys.stdin.buffer.read()
    path = Path(source)
    try:
        if not path.is_file():
            what = "a folder, not a file" if path.is_dir() else "no such file"
            raise UserError(field, str(source), what, "check the path")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(field, str(source), f"cannot be read ({reason})", "name a file that you may read") from error


def _by_content(raw: bytes) -> Callable[[bytes], Table]:
    if raw.startswith(b"PAR1"):
        return _parquet
    if raw.startswith(b"\x93NUMPY"):
        return _npy
    return _json if raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{") else _text


def _decoded(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _FormatError("cannot be read as text (it is not UTF-8)") from error
    if "\0" in text:
        raise _FormatError("cannot be read as text (it holds NUL bytes)")
    return text


def _text(raw: bytes) -> Table:
    """One value a line, with its spaces; blank lines do not count."""
    lines = _LINE_ENDS.split(_decoded(raw))
    return Table({UNNAMED: [line for line in lines if line.strip()]}, lines=True)


def _csv(raw: bytes) -> Table:
    text = _decoded(raw)
    first = next((line for line in _LINE_ENDS.split(text) if line.strip()), "")
    separator = max(",;\t", key=first.count)
    spaced = _is_spaced(text, separator)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=spaced, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if rows and len(row) != len(rows[0]):
                raise _FormatError(f"line {reader.line_num} has {len(row)} cells, the first has {len(rows[0])}")
            rows.append(row)
    except csv.Error as error:
        raise _FormatError(f"cannot be read as CSV (line {reader.line_num}: {error})") from error
    if not rows:
        return Table({UNNAMED: []})
    header = [cell.strip() for cell in rows[0]]
    if len(header) == 1 and header[0].lower() not in _HEADERS:
        return Table({UNNAMED: [row[0] for row in rows]})
    _distinct(header)
    return Table({name: [row[k] for row in rows[1:]] for k, name in enumerate(header)})


def _is_spaced(text: str, separator: str) -> bool:
    """Whether cells are quoted after a space, which then does not count; within a quoted cell it is nothing of that."""
    if f'{separator} "' not in text:
        return False
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error:
        return True
    return any(cell.startswith(" ") and cell.lstrip(" ").startswith('"') for row in rows for cell in row)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a name that is there twice would leave out what is under the first."""
    _distinct([name for name, _ in pairs], "name")
    return dict(pairs)


def _json(raw: bytes) -> Table:
    text = _decoded(raw)
    try:
        value: Any = json.loads(text, object_pairs_hook=_once)
    except _FormatError:
        raise
    except ValueError as error:
        why = str(error).partition(";")[0]  # beyond, Python tells programmers what to do
        raise _FormatError(f"cannot be read as JSON ({why})") from error
    if isinstance(value, dict):
        return _json_columns(value)
    if not isinstance(value, list):
        raise _FormatError("holds neither a list nor an object")
    items: list[Any] = value
    records: list[dict[str, Any]] = [item for item in items if isinstance(item, dict)]
    if not records:
        return Table({UNNAMED: items})
    if len(records) < len(items):
        raise _FormatError("mixes objects with plain values")
    for k, record in enumerate(records):
        if record.keys() != records[0].keys():
            raise _FormatError(f"object {k + 1} has other fields than the first")
    return Table({name: [record[name] for record in records] for name in records[0]})


def _json_columns(value: dict[str, Any]) -> Table:
    """An object with a list for each column, or with an object for each as pandas writes them."""
    columns = {name: list(part.values()) if isinstance(part, dict) else part for name, part in value.items()}
    lists = {name: part for name, part in columns.items() if isinstance(part, list)}
    if not lists:
        raise _FormatError("holds no list")
    if len({len(part) for part in lists.values()}) > 1:
        raise _FormatError("has lists of different lengths")
    return Table(lists)


def _parquet(raw: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: Any = pq.read_table(pa.BufferReader(raw))
        names: list[str] = found.column_names
        values = [found.column(k).to_pylist() for k in range(len(names))]
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _FormatError("cannot be read as parquet") from error
    _distinct(names)
    return Table(dict(zip(names, values, strict=True)))


def _npy(raw: bytes) -> Table:
    try:
        array: Any = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError, SyntaxError) as error:
        raise _FormatError("cannot be read as .npy") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "biuU":
        raise _FormatError("holds no list of whole numbers, text or truth values")
    return Table({UNNAMED: array.tolist()})


def _distinct(names: list[str], what: str = "column") -> None:
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise _FormatError(f"has the {what} {name!r} more than once")


_READERS: dict[str, Callable[[bytes], Table]] = {
    ".txt": _text,
    ".csv": _csv,
    ".tsv": _csv,
    ".json": _json,
    ".parquet": _parquet,
    ".npy": _npy,
}
