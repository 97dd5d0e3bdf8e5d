"""Ids from a file, checked against the data before any compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmem.data import Ids, Splits, as_ids
from unmem.errors import UserError
from unmem.plaintext import plain_text
from unmem.requests.check import check_request
from unmem.requests.tables import missing, read_table


@dataclass(frozen=True)
class Listed:
    """Ids as a file lists them, in its order, repeated ones too.

    Attributes:
        names: The ids as they are written, and of a text the lines that may be comments.
        lines: Whether the file is text with one id a line, so that a line that starts with # may be a comment.
        field: What an error is about.
    """

    names: list[str]
    lines: bool = False
    field: str = "--forget"

    def ids(self, data: Splits) -> list[str]:
        """The ids without comments: lines that start with # and are no id of these data.

        Where ids of the data start so, a comment is a line with a space or another # behind it: "#9" may be a wrong id.
        """
        known = _known(data)
        names = as_called(self.names, known, field=self.field)
        marked = any(name.startswith("#") for name in known)
        comments = ("# ", "#\t", "##") if marked else ("#",)
        return [
            name for name in names if name in known or not self.lines or not (name == "#" or name.startswith(comments))
        ]


def read_ids(source: str | Path, *, field: str = "--forget") -> Listed:
    """The ids in a file; "-" reads standard input.

    Text has one id a line. CSV and parquet have a column `id`, or one column only. JSON is a list of ids, an object
    with `ids`, or a list of objects with `id`. The suffix decides which of them it is, else what the file starts with.
    The annex of an audit can be read too.

    Raises:
        UserError: The file cannot be read, or has no ids in it.
    """
    table = read_table(source, field=field)
    values = table.column("id", "ids")
    if values is None:
        values = table.only()
    if values is None:
        raise missing(table, "id", field=field, source=source)
    names = list(values) if all(isinstance(value, str) for value in values) else as_ids(values, field=field).tolist()
    return Listed([plain_text(name) for name in names] if table.is_annex else names, table.lines, field)


def as_called(names: Sequence[str], known: set[str], *, field: str) -> list[str]:
    """Each name as the data write it: to the letter, else without the quote that an annex puts before a formula, else
    but for spaces around it.

    Raises:
        UserError: Several ids differ from a name in these spaces alone.
    """
    if known.issuperset(names):
        return list(names)
    alike: dict[str, list[str]] = {}
    for one in known:
        alike.setdefault(one.strip(), []).append(one)
    found: list[str] = []
    for name in names:
        name = name if name in known or plain_text(name) not in known else plain_text(name)
        meant = [name] if name in known else alike.get(name.strip(), [name.strip()])
        if len(meant) > 1:
            listed = ", ".join(map(repr, sorted(meant)))
            raise UserError(field, name, f"may be any of {listed}", "write the spaces around it as the data do")
        found += meant
    return found


def _meant(name: str, known: set[str]) -> str | None:
    """What to write for a path that begins or ends otherwise than the id; None if it is like no id, or like several."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    shorter = ["/".join(parts[k:]) for k in range(len(parts))]
    found = next(([one] for one in shorter if one in known), None)
    if found is None and shorter:
        found = [one for one in known if one.endswith(f"/{shorter[0]}")]
    return f"write {found[0]!r}, as it is called in these data" if found is not None and len(found) == 1 else None


def _known(data: Splits) -> set[str]:
    return {name for part in data.parts.values() for name in part.ids.tolist()}


def checked_ids(names: Sequence[str], data: Splits, *, field: str = "--forget", dedupe: bool = False) -> Ids:
    """The ids of a request, made sure to be of the training set, each there once, neither none of it nor all.

    dedupe: take an id that is there several times once, instead of refusing it. Compares text with text, so that one
    very long line of a wrong file costs nothing.
    """
    counts = Counter(names)
    if len(counts) < len(names) and not dedupe:
        twice = [name for name, count in counts.items() if count > 1]
        raise UserError(
            field,
            twice[0],
            f"the id is there more than once ({len(twice):,} such)",
            "give each id once, or pass --dedupe",
        )
    trained, known = data.train.ids.tolist(), _known(data)
    unknown = [name for name in counts if name not in known]
    if unknown:
        raise UserError(
            field,
            unknown[0],
            f"not an id of these {len(trained):,} training examples ({len(unknown):,} such)",
            _meant(unknown[0], known) or f"use ids of the data set, such as {trained[0]!r}",
        )
    ids = as_ids(list(counts))
    check_request(ids, data)
    return ids
