"""Deleting the forgotten examples from what was made before the request, and saying where they still are.

Rows of a cross-fit, a trace or members are moved to the private part of the run folder: first they are kept there,
then they are deleted from the files that were read, and only then the run is published. So a request that says that it
deleted them has done so, and one that is stopped in between finds the rows again.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unmem import models
from unmem.cli.console import warn
from unmem.cli.request_options import RequestOptions
from unmem.cli.sources import Prepared
from unmem.cli.terminal import console
from unmem.ensembles import erased
from unmem.ensembles.files import PREFIX, weights_of
from unmem.memorization import CrossFit
from unmem.models import Forgotten
from unmem.plainfiles import read_npz
from unmem.store import (
    CROSSFIT,
    MEMBERS,
    PRIVATE,
    TRACE,
    RunFolder,
    locked,
    path_from,
    pending,
    retrained_in,
    save_arrays,
)
from unmem.targets import Trace
from unmem.unlearning import Problem

Rows = TypeVar("Rows", CrossFit, Trace)
_MEMBERS = "members.npz"
MODELS = "models that were trained on them"
TABLES = "scores, lists and pages of the runs before"
ANNEX = "the annex"  # which is written last
_PREDICTIONS = "their predictions"


@dataclass(frozen=True, eq=False)
class Erasure:
    """What one request deletes.

    Attributes:
        problem: The request.
        crossfit, trace: Files that were read, or None.
        runs: Folders of the runs that the request read from.
        members: Folders of members, those that were read and those in the runs.
    """

    problem: Problem
    crossfit: Path | None
    trace: Path | None
    runs: tuple[Path, ...]
    members: tuple[Path, ...]

    @classmethod
    def of(cls, prepared: Prepared, options: RequestOptions, problem: Problem, runs: Sequence[Path]) -> Erasure:
        folders = [folder / MEMBERS for folder in runs]
        found = [one for one in ([options.members] if options.members else []) + folders if one.is_dir()]
        members = tuple({one.resolve(): one for one in found}.values())
        return cls(problem, options.crossfit, prepared.trace_file, tuple(runs), members)

    def keep_rows(self, folder: RunFolder, prepared: Prepared) -> None:
        """Put the predictions of the forgotten examples in the private part of a run folder, for audits and reruns."""
        ids, train = self.problem.forget.ids, self.problem.data.train
        tables = {CROSSFIT: prepared.crossfit, TRACE: prepared.trace}
        known = {name: one.only(ids) for name, one in tables.items() if one is not None}
        rows: dict[str, Any] = {}
        for place in self.members:
            rows |= erased.rows_of(place, train, ids)
        if not any(len(one) for one in known.values()) and not rows:
            return

        def write(place: Path) -> None:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, one in known.items():
                replace(one, moved=(), forgotten=None).save(place / name)
            if rows:
                save_arrays(place / _MEMBERS, rows, {})

        folder.file(PRIVATE, write)
        folder.keep(PRIVATE, write)

    def erase(self, out: Path) -> None:
        """Delete the rows from the files that were read; `out` has kept them."""
        for name, file, load in ((CROSSFIT, self.crossfit, CrossFit.load), (TRACE, self.trace, Trace.load)):
            if file is not None:
                self._erase_rows(file, out / PRIVATE / name, load)
        for folder in self.members:
            try:
                count = erased.erase(folder, self.problem.data.train, self.problem.forget.ids, out / PRIVATE / _MEMBERS)
            except OSError as error:
                warn(f"{folder} still holds predictions of the forgotten examples: {error.strerror}")
                continue
            if count:
                _warn_of_moved(f"{count:,} members in {folder}", out / PRIVATE / _MEMBERS, folder)

    def leaves(self, file: Path) -> bool:
        """Whether a cross-fit or a trace that this request does not change holds rows of the forgotten examples."""
        changed = {one.resolve() for one in (self.crossfit, self.trace) if one is not None}
        if not file.is_file() or file.resolve() in changed:
            return False
        try:
            return bool(np.isin(read_npz(file, ["ids"])["ids"], self.problem.forget.ids).any())
        except (OSError, ValueError):
            return True  # nobody knows what is in it

    def _erase_rows(self, file: Path, kept: Path, load: Any) -> None:
        real = file.resolve()
        try:
            with locked(real.parent):
                found = load(real)
                gone = found.only(self.problem.forget.ids)
                if not len(gone):
                    return
                self._without(found, kept, real.parent).save(real)
        except OSError as error:
            warn(f"{file} still holds predictions of the forgotten examples: {error.strerror}")
            return
        _warn_of_moved(str(file), kept, file)

    def _without(self, found: Rows, kept: Path, folder: Path) -> Rows:
        """All other rows, and where these are kept, as seen from the folder of the file."""
        moved = tuple(dict.fromkeys((*found.moved, path_from(folder, kept))))
        return replace(found.without(self.problem.forget.ids), moved=moved, forgotten=self.forgotten(found.forgotten))

    def forgotten(self, before: Forgotten | None) -> Forgotten:
        """What a file says is gone from it, after this request."""
        problem = self.problem
        data, kept = problem.data.train.fingerprint, problem.retain.fingerprint
        return Forgotten.after(before, problem.forget.ids.tolist(), data=data, kept=kept)


def _warn_of_moved(what: str, kept: Path, file: Path) -> None:
    warn(
        f"the predictions of the forgotten examples were moved from {what} to {kept}, where audits that are given "
        f"{file} find them; delete that file once it is not needed"
    )


@dataclass(frozen=True)
class Carrier:
    """Files in which the forgotten examples still are.

    Attributes:
        what: They, in words.
        files: Their paths.
        command: What removes them.
    """

    what: str
    files: tuple[str, ...]
    command: str

    def to_dict(self) -> dict[str, Any]:
        return {"what": self.what, "files": list(self.files), "command": self.command}


def carriers(erasure: Erasure, out: Path, *, named: Mapping[str, Path | None], data: str) -> list[Carrier]:
    """Where the forgotten examples still are, among the files that this request writes, read or found next to those.

    Args:
        erasure: What the request deletes.
        out: Its run folder, which is not published yet.
        named: By what they are, further files that the request named; None where it named none.
        data: The data as the user named them.
    """
    problem = erasure.problem
    found: dict[str, list[Path]] = {MODELS: [out / "original.safetensors"], _PREDICTIONS: []}
    if any(pending(out / PRIVATE / name) is not None for name in (CROSSFIT, TRACE, _MEMBERS)):
        found[_PREDICTIONS].append(out / PRIVATE)
    for run in (run for run in erasure.runs if run.resolve() != out.resolve()):
        models_there = [run / "original.safetensors", *(one for one in retrained_in(run) if _knows(one, problem))]
        found[MODELS] += [one for one in models_there if one.exists()]
        tables = [run / name for name in ("scores.parquet", "flipped.txt", "report.html", PRIVATE)]
        found.setdefault(TABLES, []).extend(one for one in tables if one.exists())
        found[_PREDICTIONS] += [run / name for name in (CROSSFIT, TRACE) if erasure.leaves(run / name)]
    members = [one for folder in erasure.members for one in sorted(folder.glob(f"{PREFIX}*.npz"))]
    found[_PREDICTIONS] += [one for one in members if erased.is_of_others(one, problem.data.train)]
    found["weights of members that were trained on them"] = [w for one in members if (w := weights_of(one)).exists()]
    for what, path in named.items():
        found.setdefault(what, []).extend([path] if path is not None and (path.exists() or what == ANNEX) else [])
    listed = [_carrier(what, paths) for what, paths in found.items() if paths]
    if Path(data).exists():
        listed.append(Carrier("the data", (data,), f"delete their rows or files from {data}"))
    return listed


def print_carriers(found: list[Carrier]) -> None:
    """The last lines of the command."""
    line = "  The forgotten examples are still in these files. Remove each one when you no longer need it:"
    console.print(line, soft_wrap=True)
    for one in found:
        console.print(f"    {one.what}: {one.command}", soft_wrap=True)


def _carrier(what: str, paths: list[Path]) -> Carrier:
    paths = list({os.path.realpath(path): path for path in paths}.values())
    recursive = "-r " if any(path.is_dir() or path.name == PRIVATE for path in paths) else ""
    return Carrier(what, tuple(map(str, paths)), f"rm {recursive}{shlex.join(map(str, paths))}")


def _knows(path: Path, problem: Problem) -> bool:
    """Whether a retrained model may have seen the forgotten examples: all that were not trained on this retain set."""
    card = models.card_of(path)
    made = None if card is None else card.made
    return made is None or made.get("data") != problem.retain.fingerprint
