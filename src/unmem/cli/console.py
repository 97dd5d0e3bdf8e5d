"""What a command prints while it works: one line a stage, with a bar while it lasts."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unmem.data import Examples
from unmem.recipe import Recipe
from unmem.training import Observer, Step, steps_per_epoch

console = Console(highlight=False)


class Stage(Observer):
    """A piece of work that takes a while; as an observer of `fit` it moves its own bar. `seconds` once it is done."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None)
        self._total = 0
        self._began = time.perf_counter()
        self.seconds = 0.0
        self.note = ""

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self._total += recipe.epochs * steps_per_epoch(recipe, examples)  # work of several runs adds up
        self._progress.update(self._task, total=self._total)

    def on_step(self, step: Step) -> None:
        self._progress.advance(self._task)

    def on_member(self, done: int, total: int) -> None:
        """Members of an ensemble move the bar instead of the steps of their trainings."""
        self._progress.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._began


@contextmanager
def stage(title: str) -> Generator[Stage]:
    """Show `title` with a bar during the block, then as a finished line with its seconds."""
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        current = Stage(progress, title)
        yield current
        current.stop()
    note = f"  {current.note}" if current.note else ""
    console.print(f"  [green]done[/]  {title}{note}  [dim]{current.seconds:.1f} s[/]", soft_wrap=True)


def warn(text: str) -> None:
    console.print(f"  [yellow]note[/]  {text}", soft_wrap=True)
