"""Deleting what members say of examples that were forgotten, and finding it again where a run has moved it to.

A member file holds a row for each training example. The rows of forgotten examples are emptied (NaN, and −1 for the
predicted class); whoever deleted them may have kept them in another file, which the member then names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unmem.data import Examples, Ids, find_ids
from unmem.ensembles import files
from unmem.errors import UserError
from unmem.plainfiles import read_npz
from unmem.store import locked, path_from, pending

Arrays = Mapping[str, NDArray[Any]]


def rows_of(folder: Path, examples: Examples, ids: Ids) -> dict[str, NDArray[Any]]:
    """What the members in a folder say of some training examples, for a file of its own.

    Args:
        folder: Holds the members. Those of other examples are left out.
        examples: Training examples, in the order that the members know.
        ids: Of the examples.

    Returns:
        "ids" [S], and for each member and kind of row an array of the name `FILE/KIND`. Empty if there is nothing.
    """
    positions = examples.positions(ids)
    found: dict[str, NDArray[Any]] = {}
    for one in _members(folder, examples):
        arrays = restored(one.path, one.arrays, examples)
        found |= {f"{one.path.name}/{kind}": arrays[kind][positions] for kind in files.ROWS if kind in arrays}
    return {"ids": ids, **found} if found else {}


def erase(folder: Path, examples: Examples, ids: Ids, moved_to: Path) -> int:
    """Empty the rows of some training examples in all members in a folder that are of these examples.

    Args:
        folder, examples, ids: As in `rows_of`.
        moved_to: The file that holds, or will hold, what `rows_of` gave.

    Returns:
        The number of members that were changed.
    """
    positions, changed = examples.positions(ids), 0
    with locked(folder):
        for one in _members(folder, examples):
            arrays = dict(one.arrays)
            if all(_is_empty(arrays[kind][positions]).all() for kind in files.ROWS if kind in arrays):
                continue
            for kind, nothing in files.ROWS.items():
                if kind in arrays:
                    arrays[kind] = arrays[kind].copy()
                    arrays[kind][positions] = nothing
            places = dict.fromkeys([*_moved(arrays), path_from(folder, moved_to)])
            files.write(one.path, one.about, arrays | {files.MOVED: np.array(json.dumps(list(places)))})
            changed += 1
    return changed


def restored(path: Path, arrays: Arrays, examples: Examples) -> dict[str, NDArray[Any]]:
    """The arrays of a member, with the rows that were deleted as far as the files that they were moved to are there."""
    found = dict(arrays)
    for name in _moved(found):
        place = pending(path.parent / name)
        rows = _read(place) if place is not None else {}
        if f"{path.name}/train_phi" not in rows:
            continue
        where, missing = find_ids(rows["ids"], examples.ids)
        for kind in files.ROWS:
            if kind in found and f"{path.name}/{kind}" in rows:
                found[kind] = found[kind].copy()
                found[kind][where[~missing]] = rows[f"{path.name}/{kind}"][~missing]
    return found


def is_of_others(path: Path, examples: Examples) -> bool:
    """Whether a member file is of other examples than these, so that `erase` does not change it."""
    try:
        return json.loads(str(read_npz(path, ["about"])["about"])).get("data") != examples.fingerprint
    except (OSError, ValueError, AttributeError):
        return True


def check_whole(path: Path, arrays: Arrays) -> None:
    """Refuse a member that lacks rows.

    Raises:
        UserError: Predictions of forgotten examples were deleted from it, and they are not where they were moved to.
    """
    gone = int(np.isnan(arrays["train_phi"]).sum()) if files.MOVED in arrays else 0
    if gone:
        raise UserError(
            "--members",
            str(path.parent),
            f"their predictions of {gone:,} forgotten examples were deleted",
            "leave these examples out of the data, and train members without them",
        )


def _members(folder: Path, examples: Examples) -> list[files.Member]:
    found = [one for one in files.members_in(folder) if one.problem is None]
    return [one for one in found if one.about.get("data") == examples.fingerprint]


def _moved(arrays: Arrays) -> list[str]:
    try:
        return [str(name) for name in json.loads(str(arrays[files.MOVED]))] if files.MOVED in arrays else []
    except (ValueError, TypeError):
        return []


def _is_empty(rows: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isnan(rows) if rows.dtype.kind == "f" else rows < 0


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_npz(path)
    except (OSError, ValueError):
        return {}
