"""Single files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmem.errors import UserError
from unmem.plainfiles import open_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a disk answers that takes no more: full, over the quota, over the largest file, read-only, or broken.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """A temporary path beside `path`; it takes that name, synced to disk, only if the block succeeds.

    A file that it replaces gives it its mode. Where `path` is a link, what it leads to is replaced.
    """
    path = path.resolve() if path.is_symlink() else path
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
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


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# What reading an `.npz` raises that is another file, cut short, or with bits that have changed.
UNREADABLE = (
    *(KeyError, TypeError, AttributeError, ValueError, EOFError, OSError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


def save_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write arrays and plain values to one `.npz` file, atomically."""
    import numpy as np  # here, so that `unmem --help` does not load it

    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = {**arrays, "facts": json.dumps(facts)}
        np.savez(file, **named)


def load_arrays(
    path: str | Path, names: Sequence[str], *, option: str, kind: str, fix: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the arrays and the plain values that `save_arrays` wrote.

    Args:
        path: The `.npz` file.
        names: The arrays that it must hold.
        option: The option that named the file, for the error.
        kind: What the file should be, with its article, such as "a cross-fit".
        fix: How to make such a file.

    Raises:
        UserError: The file is missing, damaged, or something else.
    """
    import numpy as np

    try:
        with open_plain(path) as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in names}, dict(json.loads(str(file["facts"])))
    except FileNotFoundError as error:
        raise UserError(option, str(path), "no such file", fix) from error
    except UNREADABLE as error:
        raise UserError(option, str(path), f"not {kind}", fix) from error


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, as far as the system lets one."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def disk_fault(error: BaseException) -> str | None:
    """What the disk answered, in the system's words, if that is why something could not be written.

    Libraries that write files by themselves, such as safetensors, have errors of their own with the number in the text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _DISK else None
    return next((os.strerror(number) for number in _DISK if f"os error {number}" in str(error)), None)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
