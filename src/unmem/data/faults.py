"""All faults of one table in one message."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from unmem.errors import UserError
from unmem.plaintext import visible

T = TypeVar("T")


@dataclass
class Faults:
    """Collects the errors of steps that do not depend on each other, so that the user hears of all of them at once.

    name: The table, as the message names it.
    """

    name: str
    found: list[UserError] = field(default_factory=list[UserError])

    @contextmanager
    def noted(self) -> Generator[None]:
        """Keep an error of the block instead of raising it."""
        try:
            yield
        except UserError as error:
            self.found.append(error)

    def result(self, step: Callable[[], T]) -> T | None:
        """What a step gives; None if it fails, and its error is kept."""
        with self.noted():
            return step()
        return None

    def check(self) -> None:
        """Raise what was found, if anything."""
        if self.found:
            raise self.error

    @property
    def error(self) -> UserError:
        """A single error as it is, several as one."""
        if len(self.found) == 1:
            return self.found[0]
        listed = "".join(f"\n  {visible(error)}" for error in self.found).removesuffix(".")
        return UserError("data", self.name, f"has {len(self.found)} faults", f"correct all of them:{listed}")
