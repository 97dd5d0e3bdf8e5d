"""Where a benchmark runs and keeps its results, and the jobs that it consists of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from unmem.bench.claims import Claim
from unmem.bench.plan import Setup
from unmem.data import Splits
from unmem.ensembles import Ensemble, leave_out_masks, train_members
from unmem.errors import UserError
from unmem.executors import Failed, Where, run_all
from unmem.tables import Table

Shared = TypeVar("Shared")
Task = TypeVar("Task")
KEEP = 0.7  # share of the training set that each member of the reference is trained on


@dataclass(frozen=True)
class Work:
    """How a benchmark is run.

    Attributes:
        folder: Folder for results that a stopped run continues from.
        executor: Where trainings run, see `unmem.executors.run_all`.
        workers: Number of parallel workers, or None.
        device: Device of the data and the models.
        on_progress: Called with what is done, how many are done, and how many there are.
        on_warning: Called with each warning, a sentence.
    """

    folder: Path
    executor: Where = None
    workers: int | None = None
    device: str = "cpu"
    on_progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None
    on_warning: Callable[[str], None] = lambda _text: None

    def run(
        self, what: str, job: Callable[[Shared, Task], dict[str, Any]], shared: Shared, tasks: Sequence[Task]
    ) -> list[dict[str, Any]]:
        """Run a job for every task, in any order, and return the results in the order of the tasks.

        Raises:
            UserError: A job failed twice. The results of the others are kept.
        """
        found: dict[int, dict[str, Any]] = {}
        for k, result in run_all(
            job, shared, tasks, where=self.executor, workers=self.workers, on_warning=self.on_warning
        ):
            if isinstance(result, Failed):
                raise UserError("preset", what, f"a run failed twice ({result})", "run the command again to continue")
            found[k] = result
            self.on_progress(what, len(found), len(tasks))
        return [found[k] for k in range(len(tasks))]

    def members(self, setup: Setup, data: Splits, count: int, *, name: str) -> Ensemble:
        """Train or read the reference: members on random balanced subsets of the training set."""
        return train_members(
            setup.recipe,
            data.train,
            leave_out_masks(len(data.train), count, keep=KEEP, seed=0),
            seed=1000,
            unseen=data.holdout,
            folder=self.folder / "members",
            executor=self.executor,
            workers=self.workers,
            on_member=lambda done, total: self.on_progress(f"{name}: members", done, total),
            on_warning=self.on_warning,
        )


@dataclass(frozen=True)
class Result:
    """What a preset found.

    Attributes:
        tables: Tables by name.
        claims: The claims that were tested.
        data: Everything behind the tables, as plain values.
    """

    tables: Mapping[str, Table]
    claims: Sequence[Claim] = ()
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of some work and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began
