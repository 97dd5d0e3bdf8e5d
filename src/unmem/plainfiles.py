"""Files that others made: only regular ones are opened, and paths written inside them stay below their folder."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotPlainError(OSError):
    """A pipe, a socket, a device or a folder stands where a file should be."""


def open_plain(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, to read its bytes; never waits for a pipe or a device.

    Raises:
        NotPlainError: There is something else.
        OSError: It cannot be opened.
    """
    _check(os.stat(path).st_mode)  # before it is opened, since opening alone may do something to a device
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller closes it)
    try:
        _check(os.fstat(file.fileno()).st_mode)
    except NotPlainError:
        file.close()
        raise
    return file


def read_json(path: str | Path) -> Any:
    """What a JSON file holds. Raises `OSError` or `ValueError` if it cannot be read."""
    with open_plain(path) as file:
        return json.loads(file.read().decode("utf-8"))


class NotArraysError(ValueError):
    """A file is not an `.npz` archive of arrays that can be read."""


def read_npz(
    path: str | Path, names: Iterable[str] | None = None, optional: Iterable[str] = ()
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an `.npz` file; nothing is unpickled.

    Args:
        path: A regular file.
        names: The arrays to read. Default: all.
        optional: Further arrays to read if they are there.

    Raises:
        FileNotFoundError: There is no such file.
        NotArraysError: It is damaged or something else, an array is missing, or it would not fit into memory.
    """
    try:
        with open_plain(path) as raw:
            return _arrays_in(raw, names, optional)
    except (FileNotFoundError, NotArraysError):
        raise
    except MemoryError as error:
        raise NotArraysError("an array in it does not fit into memory") from error
    except Exception as error:  # damaged archives raise errors of many kinds, those of decompressors among them
        raise NotArraysError(str(error) or type(error).__name__) from error


def _arrays_in(raw: BinaryIO, names: Iterable[str] | None, optional: Iterable[str]) -> dict[str, NDArray[Any]]:
    import numpy as np  # here, so that `unmem --help` does not load it

    if raw.read(6) == b"\x93NUMPY":
        raise NotArraysError("it holds one array without a name")
    raw.seek(0)
    with zipfile.ZipFile(raw) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    wanted = list(entries) if names is None else list(names)
    missing = next((name for name in wanted if name not in entries), None)
    if missing is not None:
        raise NotArraysError(f"it has no array {missing!r}")
    wanted += [name for name in optional if name in entries and name not in wanted]
    needed, free = sum(entries[name] for name in wanted), _free_memory()
    if free is not None and needed > free:
        raise NotArraysError(f"its arrays take {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free")
    raw.seek(0)
    with np.load(raw, allow_pickle=False) as file:
        found = {name: file[name] for name in wanted}
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def _free_memory() -> int | None:
    """Bytes that the system can give to processes; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def below(root: str | Path, name: str) -> Path | None:
    """The place that a path written in a file names, as seen from the folder `root`; None if it may lead outside.

    Links that stand in the folder are followed when the place is opened: whoever named the folder chose them.
    """
    if "\0" in name or ".." in Path(name).parts:
        return None
    folder = os.path.abspath(root)
    place = os.path.normpath(os.path.join(folder, name))
    for one in (folder, os.path.realpath(folder)):
        if place.startswith(os.path.join(one, "")):
            return Path(place)
    return None


def _check(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")
    raise NotPlainError(f"it is {kind}, not a file")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
