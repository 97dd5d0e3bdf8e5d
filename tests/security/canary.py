"""Code that must not run: whoever imports or calls it leaves a file."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unmem.cli.app import main


class Waited(BaseException):
    """Nothing that reads files takes it for an error of a file."""


class Canary:
    """A folder with evil code in it. file: what that code leaves behind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "canary"

    def source(self, body: str = "") -> str:
        """A module that leaves the file when it is imported, and again in each of its functions."""
        return (
            f"def leave():\n    open({str(self.file)!r}, 'w').close()\nleave()\n"
            "def make(*given, **named):\n    leave()\n"
            f"    import torch\n    return torch.nn.Linear(64, 10)\nmade = transform = prep = make\n{body}"
        )

    def module(self, name: str, body: str = "") -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(self.source(body))
        return path

    @property
    def sang(self) -> bool:
        return self.file.exists()


def run(*arguments: str | Path) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fails what waits longer, such as for a pipe that nobody writes to."""

    def stop(*_: object) -> None:
        raise Waited(f"for {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 10, exit=True, file=sys.__stderr__)  # where no signal reaches it
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
