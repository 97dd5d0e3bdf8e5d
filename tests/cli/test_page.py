"""The page docs/cli.md: it names all commands, exit codes and files that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unmem.cli import app, faults, forget_result, store
from unmem.errors import NothingToDoError, UserError
from unmem.store.runs import LOGS, MEMBERS, RUN_FILES, RunFolder, retrained_name

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def rows(heading: str) -> set[str]:
    """The first cells of the table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return {line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")}


def test_it_names_every_command() -> None:
    assert rows("Commands") - {"command"} == {f"`unmem {name}`" for name in app.build(overview=True) if name[0] != "-"}


def test_it_names_every_exit_code() -> None:
    errors = (UserError.exit_code, NothingToDoError.exit_code)
    codes = {0, faults.FAULT, store.DAMAGED, *errors, forget_result.UTILITY_FELL, app.INTERRUPTED, app.NO_READER}
    assert rows("Exit codes") - {"code"} == {str(code) for code in codes}
    assert {int(code) for code in re.findall(r"\b(\d+) [a-z]", str(app.main.__doc__))} == codes


@pytest.mark.parametrize("name", [*RUN_FILES, retrained_name(1)])
def test_it_names_every_file_of_a_run_folder(name: str) -> None:
    assert any(f"`{name}`" in cell or f"`{name}/`" in cell for cell in rows("The run folder"))


@pytest.mark.parametrize("name", [MEMBERS, LOGS, RunFolder("run").work.name])
def test_it_names_the_folders_apart_from_the_run(name: str) -> None:
    assert f"- `{name}/` " in PAGE
