"""Label issues as cleanlab writes them: examples whose label is likely wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from unmem.counted import counted
from unmem.data import Splits
from unmem.errors import NothingToDoError, UserError
from unmem.requests.ids import as_called
from unmem.requests.tables import Table, missing, read_table

FLAG, ID = "is_label_issue", "id"
INDEX = ("", "unnamed: 0", "__index_level_0__", "index")  # what pandas calls an index without a name
QUALITY = ("label_quality", "label_score")  # of CleanLearning and of Datalab; 0 is the worst
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
T = TypeVar("T")


@dataclass(frozen=True)
class Issues:
    """What a file says about labels; which examples it means is known once they are there (`names`).

    flags: for each row whether its label is an issue, None where the file lists only issues. ids: of each row, None
    where the rows are those of the data in their own order. index: of each row, as pandas wrote it, where there are no
    ids: positions or ids. indices: positions in that order, instead of rows. quality: of each row, smaller = worse.
    worst: how many of the issues to take, None for all.
    """

    source: str
    flags: list[bool] | None = None
    ids: list[str] | None = None
    index: list[str] | None = None
    indices: list[int] | None = None
    quality: list[float] | None = None
    worst: int | None = None
    field: str = field(default="--issues", kw_only=True)

    def names(self, data: Splits) -> list[str]:
        """Ids of the examples with an issue, the worst first where the file says how bad they are.

        Positions and rows count in the user's own order, `Splits.order`; the data must have one.
        """
        names = self._of_indices(data) if self.indices is not None else self._of_rows(data)
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

    def _of_rows(self, data: Splits) -> list[str]:
        rows = len(next(part for part in (self.flags, self.ids, self.quality) if part is not None))
        ids = self._called(data) or (self._indexed(data) if self.index else self._in_order(data, rows))
        chosen = [k for k in range(rows) if self.flags is None or self.flags[k]]
        if self.quality is not None:
            chosen.sort(key=self.quality.__getitem__)
        return [ids[k] for k in chosen]

    def _called(self, data: Splits) -> list[str] | None:
        known = {name for part in data.parts.values() for name in part.ids.tolist()}.union(order_of(data))
        return None if self.ids is None else as_called(self.ids, known, field=self.field)

    def _in_order(self, data: Splits, rows: int) -> list[str]:
        """Ids of the rows of the data in their own order, made sure to be as many as the file has."""
        order = self._order(data)
        if rows != len(order):
            raise UserError(
                self.field,
                self.source,
                f"has {rows:,} rows, but {_whose(data)} has {len(order):,} examples",
                "add a column id, or a row for each",
            )
        return order

    def _indexed(self, data: Splits) -> list[str]:
        """Ids by the index of each row: ids of these data, or positions in their order, but never open which."""
        index, order = self.index or [], order_of(data)
        known = {name for part in data.parts.values() for name in part.ids.tolist()}.union(order)
        whole = all(one.isascii() and one.isdecimal() and int(one) < len(order) for one in index)
        by_position = [order[int(one)] for one in index] if whole else None
        by_id = index if known.issuperset(index) else None
        if by_id is not None and by_position is not None and by_id != by_position:
            raise UserError(
                self.field,
                self.source,
                "has an index whose numbers may be ids or positions of these data",
                "call the column id if they are ids; else leave it out, with the rows in the order of the data",
            )
        found = by_position if by_id is None else by_id
        if found is None:
            unknown = next(one for one in index if one not in known)
            raise UserError(
                self.field,
                self.source,
                f"has an index with {unknown!r}, which is neither an id nor a position of these data",
                "give a column id",
            )
        return found

    def _of_indices(self, data: Splits) -> list[str]:
        ids = self._order(data)
        wrong = [k for k in self.indices or [] if not 0 <= k < len(ids)]
        if wrong:
            raise UserError(
                self.field,
                self.source,
                f"lists position {wrong[0]}, but {_whose(data)} has the positions 0 to {len(ids) - 1:,}",
                "list positions of these data, or give a table with the columns id and is_label_issue",
            )
        return [ids[k] for k in self.indices or []]

    def _order(self, data: Splits) -> list[str]:
        """Ids in the order of the data, which must have one."""
        order = order_of(data)
        if not order:
            raise UserError(
                self.field,
                self.source,
                f"counts rows, but {data.name} has no order in which to count",
                f"add a column id, with ids such as {str(data.train.ids[0])!r}",
            )
        return order


def order_of(data: Splits) -> list[str]:
    """Ids of the user's examples in the user's own order; none where there is no such order."""
    return (data.train.ids if data.order is None else data.order).tolist()


def _whose(data: Splits) -> str:
    """What positions count in."""
    return data.name if data.split_here else f"the training set of {data.name}"


def read_issues(text: str, *, field: str = "--issues") -> Issues:
    """The issues in FILE, or in FILE:N the N worst of them.

    A table (CSV, parquet, JSON) with a column `is_label_issue`, an `id` unless its rows are those of the data in their
    order, and for N a `label_quality`; or a list (JSON, .npy, or the only column) of such truth values or of
    positions, as `find_label_issues` returns them.
    """
    source, worst = (None if _is_file(text) else counted(text, field)) or (text, None)
    table = read_table(source, field=field)
    found = _listed(table, source, worst, field) or _tabled(table, source, worst, field)
    if worst is not None and found.quality is None:
        raise missing(table, QUALITY[0], field=field, source=source)
    return found


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
    if values and all(isinstance(value, bool) or str(value).strip().lower() in ("true", "false") for value in values):
        return Issues(source, flags=_converted(values, _truth, FLAG, source, field), worst=worst, field=field)
    return Issues(source, indices=_converted(values, _position, "position", source, field), worst=worst, field=field)


def _tabled(table: Table, source: str, worst: int | None, field: str) -> Issues:
    flags, ids, quality = table.column(FLAG), table.column(ID), table.column(*QUALITY)
    index = table.column(*INDEX) if ids is None else None
    if flags is None and (ids is None or quality is None):
        raise missing(table, FLAG, field=field, source=source)
    return Issues(
        source,
        flags=None if flags is None else _converted(flags, _truth, FLAG, source, field),
        ids=None if ids is None else _converted(ids, _name, ID, source, field),
        index=None if index is None else _converted(index, _index, "index", source, field),
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


def _index(value: Any) -> str:
    return _name(value).strip()


def _quality(value: Any) -> float:
    number = float(value)
    if number != number:
        raise ValueError
    return number
