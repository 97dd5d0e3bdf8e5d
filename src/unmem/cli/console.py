"""What a command prints while it works: one line a stage, with a bar while it lasts."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from unmem.cli.faults import step
from unmem.cli.terminal import console, message, plain
from unmem.data import Examples
from unmem.plaintext import visible
from unmem.recipe import Recipe
from unmem.training import Observer, Step, steps_per_epoch

__all__ = ["Listing", "Stage", "alarm", "console", "duration", "gathered", "sentences", "stage", "warn"]

_GATHERED: list[list[str]] = []  # the list that notes go to instead of the terminal, if any
TAKEN_UP = 0.05  # seconds: a member that is there sooner after the last one was read from its file
EVERY = 30  # seconds between lines where there is no terminal to show a bar


class Stage(Observer):
    """A piece of work that takes a while; as an observer of `fit` it moves its own bar. `seconds` once it is done."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title = progress, visible(title)
        self._task = progress.add_task(self._title, total=None)
        self._total = self._shown = 0  # steps: of all runs, and of the passes that have begun
        self._began = time.perf_counter()
        self.seconds = 0.0
        self.note = ""
        self._began_members = self._last_member = self._last_line = self._began
        self._taken_up = 0

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self._recipe = recipe
        self._total += recipe.epochs * steps_per_epoch(recipe, examples)  # work of several runs adds up
        self._progress.update(self._task, total=self._total)

    def on_pass(self, examples: Examples) -> None:
        self._shown += steps_per_epoch(self._recipe, examples)
        if self._shown > self._total:  # an epoch has more passes than one
            self._total = self._shown
            self._progress.update(self._task, total=self._total)

    def on_step(self, step: Step) -> None:
        self._progress.advance(self._task)

    def on_member(self, done: int, total: int) -> None:
        """Members of an ensemble move the bar instead of the steps of their trainings."""
        now = time.perf_counter()
        if now - self._last_member < TAKEN_UP:  # read, not trained: they say nothing about the rate
            self._began_members, self._taken_up = now, done
        self._last_member = now
        self._progress.update(self._task, completed=done, total=total)
        if done > self._taken_up:
            rate = (done - self._taken_up) / (now - self._began_members)
            speed = f"{60 * rate:,.1f} a minute" if rate < 1 else f"{rate:,.1f} a second"
            self._progress.update(self._task, description=f"{self._title}, {speed}")
            if not console.is_terminal and now - self._last_line > EVERY and done < total:
                left = duration((total - done) / rate)
                console.print(f"  {self._title}: {done:,} of {total:,}, {speed}, {left} left", soft_wrap=True)
                self._last_line = now

    def end_with(self, note: str) -> None:
        """Print a note after the title once the stage is done."""
        self.note = note

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._began


@contextmanager
def stage(title: str) -> Generator[Stage]:
    """Show `title` with a bar during the block, then as a finished line with its seconds."""
    words = TextColumn("  {task.description}", markup=False)
    columns = (words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.rich, transient=True, disable=not console.is_terminal) as progress:
        current = Stage(progress, title)
        with step(title):
            yield current
        current.stop()
    note = f"  {current.note}" if current.note else ""
    console.item("done", f"{title}{note}", style="green", after=f"{current.seconds:.1f} s")


def duration(seconds: float) -> str:
    """The seconds in a unit that suits them."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sentences(texts: list[str]) -> list[str]:
    """Notes as a page has them."""
    return [f"{text[0].upper()}{text[1:]}." for text in texts]


@contextmanager
def gathered() -> Generator[list[str]]:
    """Notes and warnings of the block go to this list, and are not printed."""
    notes: list[str] = []
    _GATHERED.insert(0, notes)
    try:
        yield notes
    finally:
        del _GATHERED[0]


@dataclass(frozen=True)
class Listing:
    """Topics and sentences in two columns; long sentences go on in the next line, and lines of a text are rows."""

    rows: Sequence[tuple[str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column()
        for topic, text in self.rows:
            first, *more = message(text).split("\n")
            table.add_row(plain(f"    {topic}"), plain(first))
            for line in more:
                table.add_row("", plain(line.strip()))
        yield table


def warn(text: str) -> None:
    """Print a note."""
    _note("note", text, "yellow")


def alarm(text: str) -> None:
    """A warning that no reader of the results should miss: what follows may not mean what it says."""
    _note("warning", text, "bold red")


def _note(topic: str, text: str, style: str) -> None:
    if _GATHERED:
        _GATHERED[0].append(text)
    else:
        console.item(topic, text, style=style)
