"""Where the targets of a request come from: a cross-fit, a trace of the original's training, or a short teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmem.cli.console import stage, warn
from unmem.cli.options import SAME_DATA
from unmem.cli.request import read_crossfit
from unmem.cli.session import Original, Session
from unmem.data import Ids, Splits
from unmem.errors import UserError, nearest
from unmem.memorization import CrossFit
from unmem.store import TRACE
from unmem.targets import FromCrossFit, ShortTeacher, Source, Targets, Trace
from unmem.unlearning import Problem

CHOICES = ("auto", "teacher", "trace", "crossfit")


@dataclass(frozen=True, eq=False)
class Prepared:
    """What was made before the request and may serve as targets. Each is None if it is not there.

    trace_file: Where the trace was read from; None if it was recorded in this run.
    """

    crossfit: CrossFit | None = None
    trace: Trace | None = None
    trace_file: Path | None = None

    @classmethod
    def read(
        cls, crossfit: Path | None, trace: Path | None, model: Path | None, data: Splits, ids: Ids | None
    ) -> Prepared:
        """Read the files that the options name, and the trace beside the model if they name none."""
        made = None if crossfit is None else read_crossfit(crossfit, data, ids)
        if trace is not None:
            return cls(made, read_trace(trace, data, ids), trace)
        beside = None if model is None else (model if model.is_dir() else model.parent) / TRACE
        found = None if beside is None or not beside.is_file() else _usable(beside, data, ids)
        return cls(made, found, None if found is None else beside)

    def check(self, choice: str, *, trained_here: bool) -> Source | None:
        """Refuse, before any work, a source that this run will not have. None: a trace that is still to be recorded."""
        recorded = trained_here and self.trace is None
        if recorded and (choice == "trace" or (choice == "auto" and self.crossfit is None)):
            return None
        return self.source(choice)

    def source(self, choice: str) -> Source:
        """The source that `--targets` names. "auto" takes what is there: a cross-fit, a trace, or else a teacher."""
        if choice not in CHOICES:
            raise UserError("--targets", choice, "no such source", nearest(choice, list(CHOICES)))
        if choice == "crossfit" and self.crossfit is None:
            raise UserError("--targets", choice, "there is no cross-fit", "name one with --crossfit")
        if choice == "trace" and self.trace is None:
            fix = "name one with --trace, or train the original here"
            raise UserError("--targets", choice, "there is no trace of the original's training", fix)
        if self.crossfit is not None and choice in ("auto", "crossfit"):
            return FromCrossFit(self.crossfit)
        if self.trace is not None and choice in ("auto", "trace"):
            return self.trace
        return ShortTeacher()

    def delete(self, ids: Ids, crossfit: Path | None) -> None:
        """Delete the forgotten examples from the files that were read."""
        if self.crossfit is not None and crossfit is not None:
            self.crossfit.without(ids).save(crossfit)
            warn(f"the predictions of the forgotten examples were deleted from {crossfit}")
        if self.trace is not None and self.trace_file is not None:
            self.trace.without(ids).save(self.trace_file)
            warn(f"the predictions of the forgotten examples were deleted from {self.trace_file}")


def read_trace(path: Path, data: Splits, ids: Ids | None) -> Trace:
    """A trace, checked to be of the examples at hand and to hold those asked for."""
    found = Trace.load(path)
    if found.describe().get("data") != data.train.fingerprint:
        problem = "it was recorded from other examples than these"
        raise UserError("--trace", str(path), problem, f"{SAME_DATA} as when it was recorded")
    found.check(data.train.ids[:0] if ids is None else ids)
    return found


def _usable(path: Path, data: Splits, ids: Ids | None) -> Trace | None:
    """The trace beside the model, unless it is of other examples: nobody named it, so that is only said."""
    try:
        return read_trace(path, data, ids)
    except UserError as error:
        warn(f"the trace beside the model is not used: {error}")
        return None


def make(source: Source, problem: Problem, session: Session) -> Targets:
    """The targets, with a progress bar, and a warning for each of their notes."""
    kind = source.describe()["source"]
    with stage(f"Targets for {len(problem.forget):,} examples ({_WORDS.get(kind, kind)})") as bar:
        made = source(problem, seed=session.seed, observers=session.logged("targets", bar))
    for note in made.notes:
        warn(note)
    return made


_WORDS = {"teacher": "a short teacher", "trace": "the trace of the original", "crossfit": "the cross-fit"}


def described(targets: Targets, original: Original) -> dict[str, Any]:
    """The section `targets` of `result.json`."""
    cost = targets.seconds / original.seconds if original.seconds else targets.cost
    return {
        "source": targets.source,
        "cost": cost,
        "seconds": targets.seconds,
        "settings": targets.settings,
        "notes": list(targets.notes),
    }
