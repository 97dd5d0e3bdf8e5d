"""Label issues as cleanlab writes them: examples whose label is likely wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from unmem.data import Examples
from unmem.errors import NothingToDoError, UserError
from unmem.requests.tables import Table, missing, read_table

FLAG, ID = "is_label_issue", "id"
QUALITY = ("label_quality", "label_score")  # of CleanLearning and of Datalab; 0 is the worst
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
T = TypeVar("T")


@dataclass(frozen=True)
class Issues:
    """What a file says about labels; which examples it means is known once they are there (`names`).

    flags: for each row whether its label is an issue, None where the file lists only issues. ids: of each row, None
    where the rows are in the order of the training set. indices: positions in the training set, instead of rows.
    quality: of each row, smaller = worse. worst: how many of the issues to take, None for all.
    """

    source: str
    flags: list[bool] | None = None
    ids: list[str] | None = None
    indices: list[int] | None = None
    quality: list[float] | None = None
    worst: int | None = None
    field: str = field(default="--issues", kw_only=True)

    def names(self, train: Examples) -> list[str]:
        """Ids of the examples with an issue, the worst first where the file says how bad they are."""
        names = self._of_indices(train) if self.indices is not None else self._of_rows(train)
        if not names:
            raise NothingToDoError(self.field, self.source, "flags no example", "name a file that flags at least one")
        if self.worst is None:
            return names
        if self.worst > len(names):
            raise UserError(
                self.field,
                f"{self.source}:{self.worst}",
                f"only {len(names):,} examples are flagged",
                "ask for at most that many",
            )
        return names[: self.worst]

    def _of_rows(self, train: Examples) -> list[str]:
        rows = len(next(part for part in (self.flags, self.ids, self.quality) if part is not None))
        if self.ids is None and rows != len(train):
            raise UserError(
                self.field,
                self.source,
                f"has {rows:,} rows, but there are {len(train):,} training examples",
                "add a column id, or a row for each",
            )
        ids = train.ids.tolist() if self.ids is None else self.ids
        chosen = [k for k in range(rows) if self.flags is None or self.flags[k]]
        if self.quality is not None:
            chosen.sort(key=self.quality.__getitem__)
        return [ids[k] for k in chosen]

    def _of_indices(self, train: Examples) -> list[str]:
        if set(train.ids.tolist()) != {str(k) for k in range(len(train))}:
            raise UserError(
                self.field,
                self.source,
                "lists positions, but the ids of these data are not the positions 0, 1, …, so it is open what it means",
                "give a table with the columns id and is_label_issue",
            )
        return [str(k) for k in self.indices or []]


def read_issues(text: str, *, field: str = "--issues") -> Issues:
    """The issues in FILE, or in FILE:N the N worst of them.

    A table (CSV, parquet, JSON) with a column `is_label_issue`, an `id` unless its rows are all training examples in
    their order, and for N a `label_quality`; or a list (JSON, .npy, or the only column) of such truth values or of
    positions, as `find_label_issues` returns them.
    """
    source, worst = _parse(text, field)
    table = read_table(source, field=field)
    found = _listed(table, source, worst, field) or _tabled(table, source, worst, field)
    if worst is not None and found.quality is None:
        raise missing(table, QUALITY[0], field=field, source=source)
    return found


def _parse(text: str, field: str) -> tuple[str, int | None]:
    name, colon, count = text.rpartition(":")
    if not colon or not name or not (count.isascii() and count.isdecimal()) or _is_file(text):
        return text, None
    if len(count) > 18:
        raise UserError(field, text, "asks for too many examples", "ask for fewer")
    if int(count) == 0:
        raise NothingToDoError(field, text, "asks for no example", "ask for at least one")
    return name, int(count)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _listed(table: Table, source: str, worst: int | None, field: str) -> Issues | None:
    """A list without names: truth values for all examples, or positions."""
    values = table.only()
    if values is None or list(table.columns) != [""]:
        return None
    if values and all(isinstance(value, bool) or str(value).lower() in ("true", "false") for value in values):
        return Issues(source, flags=_converted(values, _truth, FLAG, source, field), worst=worst, field=field)
    return Issues(source, indices=_converted(values, _position, "position", source, field), worst=worst, field=field)


def _tabled(table: Table, source: str, worst: int | None, field: str) -> Issues:
    flags, ids, quality = table.column(FLAG), table.column(ID), table.column(*QUALITY)
    if flags is None and (ids is None or quality is None):
        raise missing(table, FLAG, field=field, source=source)
    return Issues(
        source,
        flags=None if flags is None else _converted(flags, _truth, FLAG, source, field),
        ids=None if ids is None else _converted(ids, _name, ID, source, field),
        quality=None if quality is None else _converted(quality, _quality, QUALITY[0], source, field),
        worst=worst,
        field=field,
    )


def _converted(values: list[Any], kind: Callable[[Any], T], name: str, source: str, field: str) -> list[T]:
    found: list[T] = []
    for k, value in enumerate(values):
        try:
            found.append(kind(value))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            shown = repr(value)[:60]
            raise UserError(
                field, source, f"entry {k + 1} is {shown}, which is no {name}", "correct it, or leave it out"
            ) from error
    return found


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _TRUTH[str(value).strip().lower()]


def _position(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise TypeError
    return str(value)


def _quality(value: Any) -> float:
    number = float(value)
    if number != number:
        raise ValueError
    return number
