"""Which column of a table identifies its rows, and which columns only count them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from unmem.data.cells import among, is_text, matching, quoted, trimmed
from unmem.data.examples import Ids
from unmem.data.reading import Reading, known_column
from unmem.errors import Phrase, UserError

ID_NAME = "id"
FEW = 10  # rows among which a feature may look like a count by chance
NONE = "none"  # what --id takes for "number the rows"
# Names of indices, in lower case and without anything but letters and digits.
_INDEX_NAMES = (
    *("id", "idx", "index", "rowid", "rowindex", "rownames", "rowname", "rownumber", "rownr", "level0"),
    *("uuid", "guid"),
)
# What pandas, R and spreadsheets call a column of row numbers that has no name.
_UNNAMED = re.compile(r"\s*|unnamed: \d+|__index_level_\d+__|\.\.\.\d+", re.IGNORECASE)
_ENDS_IN_ID = re.compile(r".*([_\s.-](id|ID|Id)|[a-z](Id|ID))")


@dataclass(frozen=True)
class Identity:
    """key: The column of the ids; None: rows are numbered. indices: Columns that count rows, and are no features."""

    key: str | None
    indices: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, train: Any, label: str | None, how: Reading, *, strict: bool = True) -> Identity:
        """By `how.id`; else a column `id`, or an index that is unique and complete.

        Args:
            train: The training table.
            label: The column of the labels.
            how: Names columns.
            strict: Refuse an index that repeats or has holes; else, as for images and texts, number the rows.

        Raises:
            UserError: There is such an index.
        """
        indices = cls.indices_in(train, label, how)
        if how.id is not None and (how.id != NONE or NONE in train.column_names):
            return cls._chosen(known_column("id", how.id, train.column_names), indices)
        if how.id == NONE:
            return cls._chosen(None, indices)
        if ID_NAME in indices:
            return cls._chosen(ID_NAME, indices)
        if not indices:
            names = [name for name in train.column_names if name != label and name not in how.dropped]
            return cls._by_ending(train, [name for name in names if _ENDS_IN_ID.fullmatch(name)])
        key = indices[0]
        fault = _not_unique(train[key])
        if fault and not strict:
            note = f"column {key!r} looks like an index, but {fault}: rows are numbered (--id names the ids)"
            return cls(None, tuple(indices), (note,))
        if fault:
            raise UserError(
                "id",
                key,
                f"looks like an index, but {fault}",
                f"pass --id COLUMN for the column of the ids, --id none to number the rows, or --drop {quoted(key)}",
            )
        chosen = cls._chosen(key, indices)
        note = f"column {key!r} is an index: it is taken as the id, and is no feature (--id none numbers the rows)"
        return cls(key, chosen.indices, (note, *chosen.notes))

    @staticmethod
    def indices_in(train: Any, label: str | None, how: Reading) -> list[str]:
        """The columns that count rows, by their names; the likeliest id comes first."""
        names = [name for name in train.column_names if name != label and name not in how.dropped]
        return sorted((name for name in names if _is_index(name, train)), key=_rank)

    @classmethod
    def _chosen(cls, key: str | None, indices: list[str]) -> Identity:
        others = tuple(name for name in indices if name != key)
        note = f"columns that look like an index are no features: {', '.join(map(repr, others))} (else rename them)"
        return cls(key, others, (note,) if others else ())

    @classmethod
    def _by_ending(cls, train: Any, candidates: list[str]) -> Identity:
        """A column such as `PassengerId`, where one identifies the rows; the others are features like any."""
        unique = [name for name in candidates if not _not_unique(train[name])]
        key = unique[0] if unique else None
        notes = [f"column {key!r} is taken as the id, and is no feature (--id none numbers the rows)"] if key else []
        others = [name for name in candidates if name != key]
        if others:
            names = ", ".join(map(repr, others))
            notes.append(f"used as features, though their names end in id: {names} (--drop leaves them out)")
        return cls(key, (), tuple(notes))


def counters(table: Any, names: Iterable[str]) -> list[str]:
    """Columns whose values are whole numbers without a gap or a repetition, as those of row numbers are."""
    return [name for name in names if len(table) > FEW and _counts(table[name])]


def _counts(column: Any) -> bool:
    if not (is_text(column.type) or pa.types.is_integer(column.type)) or column.null_count:
        return False
    texts = trimmed(column)
    if not matching(texts, r"^\d{1,15}$").all():
        return False
    numbers = np.unique(np.asarray(texts.cast(pa.int64()).to_numpy()))
    return len(numbers) == len(texts) and int(numbers[-1] - numbers[0]) == len(numbers) - 1


def _is_index(name: str, train: Any) -> bool:
    plain = "".join(c for c in name.lower() if c.isalnum())
    return plain in _INDEX_NAMES or bool(_UNNAMED.fullmatch(name)) or name in _pandas_index(train)


def _pandas_index(train: Any) -> list[str]:
    """Columns that were the index of a data frame."""
    about: Any = train.schema.pandas_metadata or {}
    return [name for name in about.get("index_columns", []) if isinstance(name, str)]


def _rank(name: str) -> int:
    return 0 if name == ID_NAME else 1 if name.lower() == ID_NAME else 2


def _not_unique(column: Any) -> str | None:
    """Why a column cannot identify rows; None if it can."""
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        return f"it is of type {column.type}"
    texts = trimmed(column)
    empty = int(among(texts, [""]).sum())
    if empty:
        return f"{empty:,} of its cells are empty"
    repeated = len(texts) - len(texts.unique())
    return f"{repeated:,} of its values are repetitions" if repeated else None


def ids_by_part(tables: Mapping[str, Any], key: str | None) -> dict[str, Ids]:
    """The ids; those of unseen parts get a prefix where they are row numbers or those of another part."""
    ids: dict[str, Ids] = {}
    for part, rows in tables.items():
        if key is not None and key in rows.column_names:
            own = _id_values(key, rows[key])
        else:
            own = np.arange(len(rows)).astype(f"<U{len(str(len(rows)))}")  # else 84 bytes each
        taken: Ids = np.concatenate([*ids.values(), np.empty(0, dtype="<U1")])
        prefix = "" if key is not None or not ids else f"{part}-"
        while len(taken) and len(np.intersect1d(np.char.add(prefix, own), taken)):
            prefix += f"{part}-"
        ids[part] = np.char.add(prefix, own) if prefix else own
    return ids


def _id_values(name: str, column: Any) -> Ids:
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        raise UserError("id", name, f"is a column of type {column.type}", "ids are text or whole numbers")
    texts = trimmed(column)  # files of ids have no spaces around them either
    empty = int(among(texts, [""]).sum())
    if empty:
        where = Phrase(f"column {name!r}")
        raise UserError("data", where, f"has {empty:,} missing values", "ids must be complete, or pass --id none")
    ids = np.array(texts.to_pylist(), dtype=np.str_)
    names, counts = np.unique(ids, return_counts=True)
    if len(names) < len(ids):
        fix = "give each row its own, or pass --id none to number the rows"
        raise UserError("ids", str(names[counts > 1][0]), "the id is there more than once", fix)
    return ids
