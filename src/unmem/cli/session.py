"""`Session`: one command at work, with its data and the place of its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmem.cli import checks
from unmem.cli.console import Stage, warn
from unmem.cli.earlier import Earlier, leave_out
from unmem.cli.faults import step
from unmem.cli.opening import model_named, read_data
from unmem.cli.options import DataOptions, OutputOptions, RunOptions
from unmem.data import Ids, Splits
from unmem.executors import check_executor
from unmem.store import LOGS, RunFolder, free_folder
from unmem.tracking import LogTo
from unmem.training import Observer


@dataclass(frozen=True, eq=False)
class Session:
    """One command at work.

    Attributes:
        command: Its name.
        settings: Its options, as `config.yaml` and `result.json` have them.
        data: The data, without what the model forgot before.
        run: The seed, and where the work runs.
        log: The loggers of --log.
        before: What the model forgot before.
        work: Folder for finished models, from which a stopped run continues; None if nothing is kept.
        began: When the command began, in seconds.
        checked: Networks and bases that were found to fit the data.
    """

    command: str
    settings: dict[str, Any]
    data: Splits
    run: RunOptions = field(default_factory=RunOptions)
    log: LogTo = field(default_factory=lambda: LogTo(()))
    before: Earlier = field(default_factory=Earlier)
    work: Path | None = None
    began: float = field(default_factory=time.perf_counter)
    checked: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    @classmethod
    def open(
        cls,
        command: str,
        settings: dict[str, Any],
        data: DataOptions,
        run: RunOptions,
        *,
        log: LogTo | None = None,
        keep: Callable[[Splits], Ids | None] | None = None,
        work: Path | None = None,
        replaces: Path | None = None,
    ) -> Session:
        """Read and check the data. keep, replaces: see `earlier.leave_out`; the others: see the attributes."""
        began = time.perf_counter()
        model = model_named(settings)
        check_executor(run.executor, field="--executor")
        found = read_data(data, run, model)
        found, before = leave_out(found, None if model is None else Path(model), keep, replaces)
        with step("check the data"):
            checks.apply(checks.OF_DATA_FIRST, checks.Subject(found), warn)
        return cls(command, settings, found, run, log or LogTo(()), before, work, began)

    def logged(self, stage: str, bar: Stage) -> list[Observer]:
        """Observers of the training that comes next: its bar and, with --log, the loggers, under this name."""
        return [bar, self.log.at(stage)] if self.log else [bar]


@contextmanager
def writing(
    command: str,
    settings: dict[str, Any],
    output: OutputOptions,
    data: DataOptions,
    run: RunOptions,
    *,
    keep: Callable[[Splits], Ids | None] | None = None,
    members: Path | None = None,
    keep_deleted_out: bool = False,
) -> Generator[tuple[Session, RunFolder]]:
    """Open a session and the run folder that its results go to, which is published at the end of the block.

    Args:
        command, settings, data, run, keep: As in `Session.open`.
        output: The run folder and the loggers.
        members: Folder for finished members, if it is not in the run folder.
        keep_deleted_out: Whether to leave out what was deleted from the files of the run that this one replaces.
    """
    with (
        RunFolder(output.out, force=output.force, members=members) as folder,
        LogTo(
            output.log, free_folder(output.out / LOGS, command), settings=settings, on_warning=warn, field="--log"
        ) as log,
    ):
        replaces = folder.path if keep_deleted_out else None
        session = Session.open(command, settings, data, run, log=log, keep=keep, work=folder.work, replaces=replaces)
        yield session, folder
