"""The folder of one command's results."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

from unmem.errors import UserError, disk_fault
from unmem.interrupts import uninterrupted
from unmem.store.files import sync_folder
from unmem.store.locks import hold, locked
from unmem.store.publishing import RUN, files_below, has_links, publish, publish_plainly, settle

TRACE = "trace.npz"
CROSSFIT = "crossfit.npz"
TABLES = "tables"  # the folder of the tables of a benchmark
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
    "plan.yaml",
    TABLES,
    PRIVATE,
)
_RETRAINED = re.compile(r"retrained-([1-9]\d*)\.safetensors")
RESULT = "result.json"
_FOLDERS = ("unlearned", TABLES, PRIVATE)  # of those names, the ones that are folders
_STAGING = ".unfinished-"
_KEPT = ".unfinished"  # the folder, inside of a run folder, of models that a run finished before it was stopped
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


_published: list[Path] = []  # by this process, the last one at the end


def published() -> Path | None:
    """The run folder that this process published last, if any: what to say of an interrupt after that."""
    return _published[-1] if _published else None


def pending(path: Path) -> Path | None:
    """A file in a folder of a run: where it is, or where it waits while that run is not published; None if nowhere."""
    waiting = path.parent.parent / _KEPT / path.parent.name / path.name
    return next((place for place in (path, waiting) if place.is_file()), None)


class RunFolder:
    """The folder of one command's results: checked before any work, filled in one go at the end.

    `with RunFolder(out) as folder:` refuses a folder that holds another run, that another command is writing to, or
    that cannot be written. Files are written to a staging folder inside it. Leaving the block well puts them in place
    in one step: at any time the folder holds the old run, the new one, or none. Leaving it by an error removes the
    staging folder and changes nothing else.

    Attributes:
        path: The folder.
        work: A folder inside it for models that are finished while the command goes on. A run that is published removes
            it; one that is stopped leaves it to the same command.
        members: Where the command keeps finished members, if it makes some.
    """

    def __init__(self, path: str | Path, *, force: bool = False, members: Path | None = None) -> None:
        self.path = Path(path)
        self.work = self.path / _KEPT
        self.members = members or self.path / MEMBERS
        self._force = force
        self._done = False

    def check(self) -> None:
        """Refuse a folder that holds another run."""
        if (self.path / RUN).is_symlink():
            with contextlib.suppress(OSError), locked(self.path):
                settle(self.path, _FOLDERS)
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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path):
                settle(self.path, _FOLDERS)
                self.check()
                self._remove_abandoned()
                self._staging = Path(tempfile.mkdtemp(dir=self.path, prefix=_STAGING))
                self._held = hold(self._staging)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def file(self, name: str, write: Callable[[Path], object]) -> None:
        """Add a file, or a folder: `write` is called with the path to fill.

        Raises:
            UserError: The disk does not take it.
        """
        if name not in RUN_FILES and not _RETRAINED.fullmatch(name):
            raise ValueError(f"{name} is not in RUN_FILES, so --force would not replace it")
        with self._heeding_the_disk():
            write(self._staging / name)

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Keep something outside of the staging folder, for a rerun, until the run is published. As in `file`."""
        with self._heeding_the_disk():
            self.work.mkdir(parents=True, exist_ok=True)
            write(self.work / name)

    def ready(self) -> None:
        """Have on disk all that was added, so that little can go wrong once the files of others are changed.

        Raises:
            UserError: The disk does not take it.
        """
        if not self._staging.is_dir():
            raise self._gone()
        try:
            _sync(self._staging)
        except OSError as error:
            raise self._full(error.strerror or str(error)) from error

    def text(self, name: str, text: str) -> None:
        self.file(name, lambda path: path.write_text(text, encoding="utf-8"))

    def json(self, name: str, value: Any) -> None:
        self.text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    @property
    def kept(self) -> str:
        """What a stopped run leaves for the same command to go on from, in words; empty if that is nothing."""
        members = len(list(self.members.glob("member-*.npz")))
        models = len(list(self.work.glob("*.safetensors")))
        parts = [f"{n:,} finished {word}{'s' * (n != 1)}" for n, word in ((members, "member"), (models, "model")) if n]
        if not parts:
            return ""
        where = " and ".join(str(place) for n, place in ((members, self.members), (models, self.work)) if n)
        are = "is" if members + models == 1 else "are"
        return f"{' and '.join(parts)} {are} kept in {where}, and the same command goes on from there"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            self._leave()
        if kind is KeyboardInterrupt and error is not None and not error.args and self.kept:
            raise KeyboardInterrupt(self.kept) from None

    def _leave(self) -> None:
        """Remove the staging folder, unless it became the run, and the folders made here, as far as they are empty."""
        if not self._done:
            shutil.rmtree(self._staging, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _publish(self) -> None:
        self.ready()
        try:
            with uninterrupted(drop=False), locked(self.path):
                old = files_below(self.path, [path.name for path in _in_run(self.path)])
                if has_links(self.path):
                    publish(self._staging, self.path, old, _FOLDERS)
                else:
                    publish_plainly(self._staging, self.path, old, RESULT)
                self._done = True
                _published.append(self.path)
                shutil.rmtree(self.work, ignore_errors=True)
        except OSError as error:
            fault = disk_fault(error)
            raise self._unwritable(error) if fault is None else self._full(fault) from error

    def _remove_abandoned(self) -> None:
        """Staging folders of runs that were killed: nobody holds them. Raises `UserError` if somebody does."""
        for staging in self.path.glob(f"{_STAGING}*"):
            try:
                handle = hold(staging)
            except BlockingIOError as error:
                fix = "wait until it has ended, or choose another folder"
                raise UserError("--out", str(self.path), "another command is writing to it", fix) from error
            if handle is not None:
                shutil.rmtree(staging)
                os.close(handle)

    @contextlib.contextmanager
    def _heeding_the_disk(self) -> Generator[None]:
        """A disk that takes no more is told in the user's words; other errors are as they are."""
        try:
            yield
        except Exception as error:
            fault = disk_fault(error)
            if not self._staging.is_dir():
                raise self._gone() from error
            if fault is None:
                raise
            raise self._full(fault) from error

    def _gone(self) -> UserError:
        problem = "it was removed while the command was running"
        return UserError("--out", str(self.path), problem, f"run the command again{self._what_is_kept}")

    @property
    def _what_is_kept(self) -> str:
        """`kept` as the end of a sentence."""
        return f"; {self.kept}" if self.kept else ""

    def _unwritable(self, error: OSError) -> UserError:
        problem = f"cannot be written ({error.strerror})"
        return UserError("--out", str(self.path), problem, "choose a folder you may write to")

    def _full(self, fault: str) -> UserError:
        fix = f"make room there, or choose another folder{self._what_is_kept}"
        return UserError("--out", str(self.path), f"the results cannot be written ({fault})", fix)


def _sync(folder: Path) -> None:
    """Have all files of a folder on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or the first of `name-2`, `name-3`, … that does not exist yet."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path
