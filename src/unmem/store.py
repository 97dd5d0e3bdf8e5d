"""Files that are whole or not there: atomic writes, and the run folder that a command fills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from unmem.errors import UserError
from unmem.plainfiles import open_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRACE = "trace.npz"
CROSSFIT = "crossfit.npz"
PRIVATE = "private"  # the folder, inside of a run folder, of predictions for the forgotten examples
# Everything that unmem itself puts in a run folder, with the retrained models. `--force` replaces these and touches
# nothing else.
RUN_FILES = (
    "result.json",
    "config.yaml",
    "scores.parquet",
    CROSSFIT,
    TRACE,
    "original.safetensors",
    "unlearned.safetensors",
    "unlearned",  # a folder: the model as the transformers library keeps it
    "flipped.txt",
    "report.html",
    PRIVATE,
)
_RETRAINED = re.compile(r"retrained-([1-9]\d*)\.safetensors")
RESULT = "result.json"
_STAGING = ".unfinished-"
_NEW = 60.0  # seconds in which a staging folder may not be held yet by the run that made it
MEMBERS = "members"  # the folder, inside of a run folder, that a stopped run goes on from; --force leaves it
LOGS = "logs"  # the same for the files of --log: one folder a run, written as the run goes


def retrained_name(k: int) -> str:
    """The file of the k-th retrained model, counted from 1."""
    return f"retrained-{k}.safetensors"


def retrained_in(folder: Path) -> list[Path]:
    """The files of retrained models in a run folder, by their number."""
    found = [(match, path) for path in folder.glob("retrained-*") if (match := _RETRAINED.fullmatch(path.name))]
    return [path for _, path in sorted(found, key=lambda pair: int(pair[0][1]))]


def _in_run(folder: Path) -> list[Path]:
    """What a run folder holds that unmem put there."""
    return [*(folder / name for name in RUN_FILES if (folder / name).exists()), *retrained_in(folder)]


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """A temporary path beside `path`; it takes that name, synced to disk, only if the block succeeds."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# What reading an `.npz` raises that is another file, cut short, or with bits that have changed.
_UNREADABLE = (
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
    import numpy as np

    try:
        with open_plain(path) as raw, np.load(raw, allow_pickle=False) as file:
            names = [*names, *(name for name in optional if name in file.files)]
            return {name: file[name] for name in names}, dict(json.loads(str(file["facts"])))
    except FileNotFoundError as error:
        raise UserError(option, str(path), "no such file", fix) from error
    except _UNREADABLE as error:
        raise UserError(option, str(path), f"not {kind}", fix) from error


class RunFolder:
    """The folder of one command's results: checked before any work, filled in one go at the end.

    `with RunFolder(out) as folder:` refuses a folder that holds another run, or that cannot be written. Files are
    written to a staging folder inside it; leaving the block well moves them in place, `result.json` last, so a folder
    with a `result.json` is a whole run. Leaving it by an error removes the staging folder, and nothing else changed.
    """

    def __init__(self, path: str | Path, *, force: bool = False) -> None:
        self.path = Path(path)
        self._force = force

    def check(self) -> None:
        """Refuse a folder that holds another run."""
        present = [path.name for path in _in_run(self.path)]
        if present and not self._force:
            raise UserError(
                "--out",
                str(self.path),
                f"already holds a run ({', '.join(present)})",
                "choose another folder, or pass --force to replace it",
            )

    def __enter__(self) -> RunFolder:
        self._made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self.path)
            self._staging = Path(tempfile.mkdtemp(dir=self.path, prefix=_STAGING))
            self._held = _hold(self._staging)
        except OSError as error:
            raise UserError(
                "--out", str(self.path), f"cannot be written ({error.strerror})", "choose a folder you may write to"
            ) from error
        return self

    def file(self, name: str, write: Callable[[Path], object]) -> None:
        """Add a file, or a folder: `write` is called with the path to fill."""
        if name not in RUN_FILES and not _RETRAINED.fullmatch(name):
            raise ValueError(f"{name} is not in RUN_FILES, so --force would not replace it")
        write(self._staging / name)

    def text(self, name: str, text: str) -> None:
        self.file(name, lambda path: path.write_text(text, encoding="utf-8"))

    def json(self, name: str, value: Any) -> None:
        self.text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._staging)
            if self._held is not None:
                os.close(self._held)
        if kind is not None:
            for folder in self._made:  # only those made here, innermost first, and only while empty
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _publish(self) -> None:
        written = sorted(self._staging.iterdir(), key=lambda path: path.name == RESULT)
        for path in self._staging.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        # From here on the old run is no longer whole, so its result goes first and the new one comes last.
        for path in (*(self.path / name for name in RUN_FILES), *retrained_in(self.path)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path in written:
            path.replace(self.path / path.name)


def _hold(folder: Path) -> int | None:
    """Lock a folder for as long as this process lives; None if another one has it, or where there are no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_abandoned(folder: Path) -> None:
    """Staging folders of runs that were killed: nobody holds them, and they are no longer new."""
    for staging in folder.glob(f"{_STAGING}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - staging.stat().st_mtime > _NEW and (handle := _hold(staging)) is not None:
                shutil.rmtree(staging)
                os.close(handle)


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or the first of `name-2`, `name-3`, … that does not exist yet."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
