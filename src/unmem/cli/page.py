"""The page of a run: where it cannot be made, the run is kept without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmem.cli.console import warn
from unmem.cli.terminal import console

if TYPE_CHECKING:
    from unmem.report import Report
    from unmem.store import RunFolder

PAGE = "report.html"


def write_page(folder: RunFolder, report: Report) -> None:
    """Add the page to a run folder; say so if it cannot be made."""
    from unmem.report import PageError

    try:
        html = report.html()
    except PageError as error:
        warn(str(error).removesuffix("."))
        return
    folder.text(PAGE, html)


def print_page(folder: RunFolder) -> None:
    """Print the path of the page of a finished run, if there is one."""
    if (folder.path / PAGE).is_file():
        console.print(f"  Report: {folder.path / PAGE}", soft_wrap=True)
