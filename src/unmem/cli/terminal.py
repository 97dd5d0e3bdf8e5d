"""The only place that prints: every text is taken as plain text, and a style is an argument of its own.

Ids, paths, names of columns and messages of libraries may hold markup of rich, escape sequences of terminals and
control characters. None of it is obeyed: `visible` shows it as it is written in Python. A test walks the syntax trees
of the commands, so that nothing is printed around this file.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from unmem.plaintext import visible

_MORE = "\n  "  # begins a further line of a message; a line break of any other kind came from a value


class Renderable(Protocol):
    """A table: it makes its cells with `plain`."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult: ...


class _Rich(Console):
    """A console that raises on a broken pipe, since exit code 1 is for faults."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Terminal:
    """Standard output. rich: for bars alone, whose titles are made by `visible`."""

    def __init__(self) -> None:
        self.rich = _Rich(highlight=False, markup=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        return self.rich.is_terminal

    def print(self, text: str | Renderable = "", *, style: str = "", soft_wrap: bool = False) -> None:
        """A line of text, or a table.

        Args:
            text: What to print; markup and control characters in it have no effect.
            style: Of the whole text, such as "bold red".
            soft_wrap: Leave lines that are too long to the terminal, so that paths in them stay whole.
        """
        shown = plain(text, style) if isinstance(text, str) else text
        self.rich.print(shown, soft_wrap=soft_wrap)

    def item(self, topic: str, text: str, *, style: str, after: str = "") -> None:
        """A line that begins with a coloured topic, such as "note". after: what stands dimmed behind the text."""
        line = Text.assemble("  ", plain(topic, style), "  ", plain(text))
        if after:
            line = Text.assemble(line, "  ", plain(after, "dim"))
        self.rich.print(line, soft_wrap=True)


console = Terminal()


def plain(text: object, style: str = "") -> Text:
    """A text for a cell of a table or for a line."""
    return Text(visible(text), style=style)


def message(text: object) -> str:
    """An error as it may be printed; its further lines, which are indented, stay lines."""
    return _MORE.join(map(visible, str(text).split(_MORE)))


def complain(text: object) -> None:
    """Print an error, or several lines, to standard error."""
    print(message(text), file=sys.stderr)


def complain_at_length(text: str) -> None:
    """Print each line of a longer text to standard error."""
    for line in text.splitlines():
        print(visible(line), file=sys.stderr)


def ask(question: str) -> str:
    """A line that the user types; empty at the end of the input."""
    try:
        return input(visible(question)).strip()
    except EOFError:
        return ""


def is_attended() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def close_output() -> None:
    """Nobody reads standard output any more; without this, Python would fail at its end when it writes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextmanager
def guarded() -> Generator[None]:
    """During the block, warnings and log messages of libraries are printed as plain text too.

    They may quote names of files and columns. Text that the encoding of the terminal lacks is escaped as well.
    """
    for stream in (sys.stdout, sys.stderr):
        change: Any = getattr(stream, "reconfigure", None)
        if change is not None:
            change(errors="backslashreplace")
    last, show = logging.lastResort, warnings.showwarning
    before = None if last is None else last.formatter
    if last is not None:
        last.setFormatter(_Formatter())
    warnings.showwarning = _show
    try:
        yield
    finally:
        warnings.showwarning = show
        if last is not None:
            last.setFormatter(before)


def _show(text: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    complain(f"{category.__name__}: {text}")
