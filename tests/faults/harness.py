"""Every file operation of a function fails or is the last one, in turn; then the caller looks at what is there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
COUNT, FAIL, FULL, KILL, INTERRUPT = range(5)
# name -> mode, and the error of the call that fails; a full disk stays full, but what takes no room goes on
FAULTS = {
    "killed": (KILL, 0),
    "interrupted": (INTERRUPT, 0),
    "failed once": (FAIL, errno.EIO),
    "full": (FULL, errno.ENOSPC),
}


@dataclass(frozen=True)
class Ended:
    """How a run with a fault ended. folder: where it ran."""

    fault: str
    at: int
    operation: str
    code: int
    said: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.fault} at operation {self.at} ({self.operation}): code {self.code}\n{self.said}"


class Harness:
    """A server of forked children, with the shim preloaded."""

    def __init__(self, place: Path, *modules: str) -> None:
        if sys.platform != "linux" or shutil.which("cc") is None:
            pytest.skip("needs Linux and a C compiler")
        shim = place / "shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", shim, HERE / "shim.c", "-ldl"], check=True)
        self._process = subprocess.Popen(
            [sys.executable, HERE / "server.py", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def run(
        self, folder: Path, function: str, *arguments: Any, mode: int = COUNT, at: int = -1, number: int = 0
    ) -> Any:
        """The answer of the server: exit code, output, and the operations of a run without a fault."""
        request = {"folder": str(folder), "function": function, "arguments": arguments}
        request |= {"mode": mode, "at": at, "errno": number}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def each(
        self, start: Callable[[Path], None], place: Path, faults: list[str], function: str, *arguments: Any
    ) -> Iterator[Ended]:
        """Each fault at each operation, each time in a fresh folder that `start` fills."""
        fresh = place / "whole"
        start(fresh)
        whole = self.run(fresh, function, *arguments)
        assert whole["code"] == 0, whole["said"]
        for fault in faults:
            mode, number = FAULTS[fault]
            for at, operation in enumerate(whole["operations"]):
                folder = place / "struck"
                shutil.rmtree(folder, ignore_errors=True)
                start(folder)
                found = self.run(folder, function, *arguments, mode=mode, at=at, number=number)
                yield Ended(fault, at, operation.replace(str(fresh), ""), found["code"], found["said"], folder)
