"""Files that others made: only regular ones are opened, and paths written inside them stay below their folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

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
