"""The last resort: a fault of unmem's own ends in one sentence, and its traceback goes to a file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from unmem import __version__
from unmem.cli.terminal import complain, complain_at_length
from unmem.errors import UserError
from unmem.plaintext import visible

FAULT = 1  # exit code
_STEP = "while unmem was at this step: "
_LIBRARIES = ("torch", "numpy", "scipy", "pyarrow", "transformers", "datasets")


@contextmanager
def step(name: str) -> Generator[None]:
    """Note the name of the step in errors of the block; messages show the innermost one."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_STEP}{name}")
        raise


def step_of(error: BaseException) -> str | None:
    """The innermost step in which an error arose."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note.removeprefix(_STEP) for note in notes if note.startswith(_STEP)), None)


def report_fault(error: Exception, arguments: Sequence[str]) -> int:
    """Print what happened in one sentence, write the traceback to a file, and return the exit code."""
    import traceback

    at = step_of(error)
    what = " ".join((traceback.format_exception_only(error)[0]).split())[:300]
    where = _written(error, arguments)
    complain(
        f"unmem: a fault of unmem itself{'' if at is None else f' at the step: {at}'} ({what}); the traceback is in "
        f"{where}, and the command was: unmem {shlex.join(arguments)}"
    )
    return FAULT


def report_refusal(error: OSError) -> int:
    """Print which file or folder the system refuses, and why; return the exit code of wrong input."""
    at = step_of(error)
    name = error.filename
    place = os.fsdecode(name) if isinstance(name, str | bytes) else "a file" if name is None else str(name)
    complain(
        f"unmem: {place[:400]!r}: cannot be read or written{'' if at is None else f' at the step: {at}'} "
        f"({error.strerror}); check the path, its permissions and the room on its disk"
    )
    return UserError.exit_code


def report_shortage(error: BaseException) -> int:
    """Print that there was too little memory, and for which step; return the exit code of wrong input."""
    at = step_of(error)
    what = " ".join(str(error).split())[:200] or type(error).__name__
    complain(
        f"unmem: out of memory{'' if at is None else f' at the step: {at}'} ({what}); use a smaller --batch-size, "
        "--limit or --workers, a smaller network, or a machine with more memory"
    )
    return UserError.exit_code


def _written(error: Exception, arguments: Sequence[str]) -> str:
    """The path of a file that holds the traceback and what it takes to see the fault again."""
    import platform
    import tempfile
    import traceback

    lines = [f"unmem {shlex.join(arguments)}", f"unmem {__version__}, Python {platform.python_version()}"]
    lines += [f"{name} {_version(name)}" for name in _LIBRARIES]
    text = "\n".join(map(visible, "\n".join([*lines, "", *traceback.format_exception(error)]).splitlines()))
    try:
        handle, path = tempfile.mkstemp(prefix="unmem-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        complain_at_length(text)
        return "the lines above"
    return path


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"
