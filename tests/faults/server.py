"""Runs Python functions in forked children, each with one fault in its file operations; see `harness.py`.

Reads a request in JSON from each line of standard input and answers on standard output. PyTorch is imported once.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

COUNT, FAIL, FULL, KILL, INTERRUPT = range(5)
MODULES = "modules: "


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run a function in a child; gives its exit code, what it printed and, of a run without a fault, its operations."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as operations:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            run_in_child(request, operations.fileno())
        _, status = os.waitpid(child, 0)
        said.seek(0)
        operations.seek(0)
        code = os.waitstatus_to_exitcode(status)
        found, _, modules = operations.read().partition(MODULES)
        load(json.loads(modules or "[]"))
        return {"code": code, "said": said.read(), "operations": found.split("\n")[:-1] if modules else []}


def load(modules: list[str]) -> None:
    """Import what a child had to import by itself, so that the next one finds it."""
    for name in modules:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def run_in_child(request: dict[str, Any], operations: int) -> None:
    code = 99
    try:
        os.chdir(request["folder"])
        module, name = request["function"].split(":")
        function: Callable[..., object] = getattr(importlib.import_module(module), name)
        shim = ctypes.CDLL(None)
        log = operations if request["mode"] == COUNT else -1
        shim.fault_arm(request["folder"].encode(), request["at"], request["mode"], request["errno"], log)
        function(*request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        if request["mode"] == COUNT:
            os.write(operations, f"\n{MODULES}{json.dumps(sorted(sys.modules))}".encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    answers, requests = os.fdopen(os.dup(1), "w"), sys.stdin
    for line in requests:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


main()
