"""Where the targets of a request come from: members, a cross-fit, a trace of the original's training, or a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unmem.cli.console import stage, warn
from unmem.cli.options import SAME_DATA
from unmem.cli.original import Original
from unmem.cli.request_options import AuditOptions, RequestOptions
from unmem.cli.session import Session
from unmem.data import Examples, Ids, Splits
from unmem.ensembles import Ensemble, read_members
from unmem.errors import UserError
from unmem.memorization import CrossFit
from unmem.store import TRACE, pending
from unmem.targets import FromCrossFit, FromMembers, ShortTeacher, Source, Targets, Trace
from unmem.unlearning import Problem, best_source

Rows = TypeVar("Rows", CrossFit, Trace)
Options = RequestOptions | AuditOptions


@dataclass(frozen=True, eq=False)
class Prepared:
    """What was made before the request and may serve as targets. Each is None if it is not there.

    trace_file: Where the trace was read from; None if it was recorded in this run.
    """

    crossfit: CrossFit | None = None
    trace: Trace | None = None
    trace_file: Path | None = None
    members: Ensemble | None = None

    @classmethod
    def read(cls, options: Options, model: Path | None, data: Splits, ids: Ids | None) -> Prepared:
        """Read the files that the options name, and the trace in the folder of the model if they name none."""
        made = None if options.crossfit is None else read_crossfit(options.crossfit, data, ids)
        members = None
        if options.members is not None:
            members = read_members(options.members, data.train, unseen=data.holdout)
        if options.trace is not None:
            return cls(made, read_trace(options.trace, data, ids), options.trace, members)
        found_here = None if model is None else (model if model.is_dir() else model.parent) / TRACE
        found = None if found_here is None or not found_here.is_file() else _usable(found_here, data, ids)
        return cls(made, found, None if found is None else found_here, members)

    @property
    def sources(self) -> list[Source]:
        found: list[Source] = [] if self.members is None else [FromMembers(self.members)]
        if self.crossfit is not None:
            found.append(FromCrossFit(self.crossfit))
        return found if self.trace is None else [*found, self.trace]

    def check(self, choice: str, *, trained_here: bool) -> None:
        """Refuse, before any work, a source that this run will not have."""
        if choice not in ("auto", ShortTeacher.name) and not (choice == Trace.name and trained_here):
            self.source(choice)

    def source(self, choice: str) -> Source:
        """The source that `--targets` names.

        Raises:
            UserError: It is not there.
        """
        found = {source.name: source for source in [*self.sources, ShortTeacher()]}
        if choice not in found:
            problem, fix = _MISSING[choice]
            raise UserError("--targets", choice, problem, fix)
        return found[choice]

    def with_trace_to_come(self, examples: Examples) -> Prepared:
        """The same for a plan: the training of the original will record a trace, if there is none."""
        if self.trace is not None:
            return self
        shape = len(examples), examples.n_classes
        none = np.empty((0, examples.n_classes), np.float16)
        return replace(self, trace=Trace(examples.ids, np.zeros(shape, np.float16), examples.ids[:0], none))


def read_crossfit(path: Path, data: Splits, ids: Ids | None) -> CrossFit:
    """A cross-fit of `unmem prepare`, checked to hold the examples of the request."""
    found = _read(CrossFit, path, data, ids, "--crossfit", "made")
    found.take(data.train.ids[:0] if ids is None else ids)
    return found


def read_trace(path: Path, data: Splits, ids: Ids | None) -> Trace:
    """A trace, checked to hold the examples of the request."""
    found = _read(Trace, path, data, ids, "--trace", "recorded")
    found.check(data.train.ids[:0] if ids is None else ids)
    return found


def _read(kind: type[Rows], path: Path, data: Splits, ids: Ids | None, field: str, made: str) -> Rows:
    """The rows in a file, with those of forgotten examples, as far as the files that they were moved to still exist.

    Says if examples were forgotten that the request does not name: the original of a request still knows what other
    requests made a copy of it forget.
    """
    found = kind.load(path)
    moved: list[Rows] = [kind.load(file) for name in found.moved if (file := pending(path.parent / name)) is not None]
    for one in moved:
        found = found.with_rows_of(one)
    if (found.settings or {}).get("data") != data.train.fingerprint:
        problem = f"it was {made} from other examples than these"
        raise UserError(field, str(path), problem, f"{SAME_DATA} as when it was {made}")
    others = {name for one in moved for name in one.ids.tolist()} - set([] if ids is None else ids.tolist())
    if others:
        warn(
            f"{len(others):,} other examples were forgotten by way of {path} before, and the model that this run "
            "starts from still knows them: start from the unlearned model of that run (--model), or they come back"
        )
    return found


def _usable(path: Path, data: Splits, ids: Ids | None) -> Trace | None:
    """The trace in the folder of the model; a note if it is of other examples, since nobody named it."""
    try:
        return read_trace(path, data, ids)
    except UserError as error:
        warn(f"the trace in the folder of the model is not used: {error}")
        return None


def source_for(choice: str, prepared: Prepared, problem: Problem) -> Source:
    """The source that `--targets` names; "auto" is the best one for this request."""
    return best_source(problem, prepared.sources)[0] if choice == "auto" else prepared.source(choice)


def make(source: Source, problem: Problem, session: Session) -> Targets:
    """The targets, with a progress bar, and a warning for each of their notes."""
    kind = source.describe()["source"]
    with stage(f"Targets for {len(problem.forget):,} examples ({_WORDS.get(kind, kind)})") as bar:
        made = source(problem, seed=session.run.seed, observers=session.logged("targets", bar))
    for note in made.notes:
        warn(note)
    return made


_WORDS = {
    "teacher": "a short teacher",
    "trace": "the trace of the original",
    "crossfit": "the cross-fit",
    "ensemble": "the members",
}
_MISSING = {
    "crossfit": ("there is no cross-fit", "name one with --crossfit"),
    "trace": ("there is no trace of the original's training", "name one with --trace, or train the original here"),
    "ensemble": ("there are no members", "name their folder with --members"),
}


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
