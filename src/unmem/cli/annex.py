"""The annex: a table with a row for each forget example, kept out of the run folder since it is about persons."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmem.errors import UserError
from unmem.store import atomic_path


def check_annex(path: Path | None, *, force: bool) -> None:
    """Refuse, before any work, a place where the annex cannot go."""
    if path is None:
        return
    if path.suffix != ".csv":
        raise UserError("--annex", str(path), "is not a .csv file", "name one that ends in .csv")
    if path.exists() and not force:
        raise UserError("--annex", str(path), "exists already", "choose another name, or pass --force to replace it")
    if not path.parent.is_dir():
        raise UserError("--annex", str(path), "its folder does not exist", "make the folder first")


def write_annex(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write the columns, which are of one length and begin with id, label and confidence, and say what they are.

    Texts are written such that a spreadsheet runs none of them, and `read_ids` gives the ids back.
    """
    from unmem.cli.console import warn
    from unmem.plaintext import spreadsheet_text

    cells = [[spreadsheet_text(one) if isinstance(one, str) else one for one in column] for column in columns.values()]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        writer.writerows(zip(*cells, strict=True))
    n = len(next(iter(columns.values())))
    warn(f"{path} holds personal data: an id, a label and what the model says, for each of {n:,} examples")
