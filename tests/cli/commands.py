"""The command line as tests run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unmem.cli.app import main


def run(*arguments: str | Path) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def result(folder: Path) -> dict[str, Any]:
    """The result.json of a run folder."""
    return json.loads((folder / "result.json").read_text())
