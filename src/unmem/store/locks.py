"""Locks on folders and files: two commands never change one folder at the same time.

A lock is on the folder or file itself, so that it leaves nothing behind, and ends with the process that holds it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_held: set[tuple[int, int]] = set()  # device and inode of the folders that this process has locked


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold a folder for a moment: other processes that lock it wait. May be nested.

    Raises:
        OSError: The folder cannot be opened.
    """
    handle, key = _opened(folder)
    if key in _held or not _lock(handle, wait=True):  # without locks, as on some network disks, nobody waits
        os.close(handle)
        yield
        return
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        os.close(handle)


def hold(place: Path) -> int | None:
    """Lock a folder or a file for as long as this process lives, or until the handle is closed.

    Returns:
        The handle; None where there are no such locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    handle, _ = _opened(place)
    try:
        if _lock(handle, wait=False):
            return handle
    except BlockingIOError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _opened(folder: Path) -> tuple[int, tuple[int, int]]:
    if sys.platform == "win32":  # where folders cannot be opened
        return os.open(os.devnull, os.O_RDONLY), (0, 0)
    handle = os.open(folder, os.O_RDONLY)
    found = os.fstat(handle)
    return handle, (found.st_dev, found.st_ino)


def _lock(handle: int, *, wait: bool) -> bool:
    """Whether the lock was had; False where there are none."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
