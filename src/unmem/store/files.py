"""Single files that are whole or not there."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmem.errors import UserError
from unmem.plainfiles import NotArraysError, read_npz
from unmem.store.locks import hold

if TYPE_CHECKING:
    from numpy.typing import NDArray


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """A temporary path beside `path`; it takes that name, synced to disk, only if the block succeeds.

    A file that it replaces gives it its mode. Where `path` is a link, what it leads to is replaced. What killed writers
    of the same file left is removed.
    """
    path = path.resolve() if path.is_symlink() else path
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        _remove_if_free(left)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    held = hold(temporary)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if held is not None:
            os.close(held)


def _remove_if_free(file: Path) -> None:
    """Remove a temporary file, unless its writer is still at work."""
    with contextlib.suppress(OSError):  # BlockingIOError: somebody holds it
        held = hold(file)
        if held is not None:
            file.unlink()
            os.close(held)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write arrays and plain values to one `.npz` file, atomically."""
    import numpy as np  # here, so that `unmem --help` does not load it

    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = {**arrays, "facts": json.dumps(facts)}
        np.savez(file, **named)


def load_arrays(
    path: str | Path, names: Sequence[str], *, option: str, kind: str, fix: str, optional: Sequence[str] = ()
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the arrays and the plain values that `save_arrays` wrote.

    Args:
        path: The `.npz` file.
        names: The arrays that it must hold.
        optional: Arrays that it may hold.
        option: The option that named the file, for the error.
        kind: What the file should be, with its article, such as "a cross-fit".
        fix: How to make such a file.

    Raises:
        UserError: The file is missing, damaged, or something else.
    """
    try:
        found = read_npz(path, [*names, "facts"], optional)
        facts = _facts_in(str(found.pop("facts")))
    except FileNotFoundError as error:
        raise UserError(option, str(path), "no such file", fix) from error
    except NotArraysError as error:
        raise UserError(option, str(path), f"not {kind}", fix) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(option, str(path), f"not {kind}: its description cannot be read", fix) from error
    for name in dict.fromkeys((*names, *found)):
        problem = f"has no array {name!r}" if name not in found else _fault_of(name, found[name])
        if problem is not None:
            raise UserError(option, str(path), f"not {kind}: {problem}", fix)
    return found, facts


def _facts_in(text: str) -> dict[str, Any]:
    """The plain values beside arrays. Raises `ValueError` or the like if they are not what `save_arrays` was given."""
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError("not a mapping")
    seconds, settings, moved = facts.get("seconds", 0.0), facts.get("settings"), facts.get("moved", [])
    right = (
        isinstance(seconds, int | float) and not isinstance(seconds, bool),
        isinstance(settings, dict | None),
        isinstance(moved, list) and all(isinstance(one, str) for one in moved),  # pyright: ignore[reportUnknownVariableType]
    )
    if not all(right):
        raise ValueError("values of other types")
    return facts


def _fault_of(name: str, array: NDArray[Any]) -> str | None:
    """What is wrong with an array by its name: ids are texts, each there once; all others are numbers, none NaN."""
    import numpy as np

    if name == "ids" or name.endswith("_ids"):
        if array.dtype.kind != "U" or array.ndim != 1:
            return f"{name!r} is not a list of texts"
        return f"an id is in {name!r} more than once" if len(np.unique(array)) < len(array) else None
    if array.dtype.kind not in "fiub":
        return f"{name!r} holds no numbers"
    return f"{name!r} holds NaN" if array.dtype.kind == "f" and bool(np.isnan(array).any()) else None


def path_from(folder: Path, file: Path) -> str:
    """The path of a file from a folder, links followed; the whole path where they are on different drives."""
    try:
        return os.path.relpath(os.path.realpath(file), os.path.realpath(folder))
    except ValueError:
        return str(file.resolve())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, as far as the system lets one."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
