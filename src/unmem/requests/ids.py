"""Ids from a file, checked against the data before any compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unmem.data import Ids, Splits, as_ids
from unmem.errors import UserError
from unmem.requests.tables import missing, read_table
from unmem.unlearning.problem import check_request


def read_ids(source: str | Path, *, field: str = "--forget") -> list[str]:
    """The ids in a file, in its order, repeated ones too; "-" reads standard input.

    Text has one id a line, and lines that start with # do not count. CSV and parquet have a column `id`, or one column
    only. JSON is a list of ids, an object with `ids`, or a list of objects with `id`. The suffix decides which of them
    it is, else what the file starts with. Raises `UserError` for a file that cannot be read, or without ids in it.
    """
    table = read_table(source, field=field)
    values = table.column("id", "ids")
    if values is None:
        values = table.only()
    if values is None:
        raise missing(table, "id", field=field, source=source)
    if all(isinstance(value, str) for value in values):
        return list(values)
    return as_ids(values, field=field).tolist()


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
    trained = data.train.ids.tolist()
    known = {*trained, *data.holdout.ids.tolist(), *data.test.ids.tolist()}
    unknown = [name for name in counts if name not in known]
    if unknown:
        raise UserError(
            field,
            unknown[0],
            f"not an id of these {len(trained):,} training examples ({len(unknown):,} such)",
            f"use ids of the data set, such as {trained[0]!r}",
        )
    ids = as_ids(list(counts))
    check_request(ids, data)
    return ids
