"""An audit at work: read its files, judge the model, and print and save the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from unmem.cli import checks
from unmem.cli.annex import write_annex
from unmem.cli.comparing import groups_of, retrain
from unmem.cli.console import alarm, console, sentences, stage, warn
from unmem.cli.fitting import IN_TERMINAL, Fitted
from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, RunOptions, folders_of, settings
from unmem.cli.original import Original, check_model, read_model, split_in_doubt
from unmem.cli.page import print_page, write_page
from unmem.cli.request import Request
from unmem.cli.request_options import NONE, RETRAIN, AuditOptions
from unmem.cli.saving import facts, finish
from unmem.cli.session import Session, writing
from unmem.cli.sources import Prepared, make
from unmem.data import Ids
from unmem.errors import UserError
from unmem.evaluation import Audit, label_confidence
from unmem.evaluation import audit as examine
from unmem.memorization import load_scores
from unmem.rehearsal import check_outputs
from unmem.report import Report
from unmem.requests import Copies, find_copies
from unmem.store import RunFolder, retrained_in
from unmem.targets import Targets
from unmem.unlearning import Problem, model_flags


def run_audit(
    output: OutputOptions, options: AuditOptions, data: DataOptions, run: RunOptions, recipe: RecipeOptions
) -> None:
    """Audit the model of the options, and write and print what was found."""
    wanted = Request.read(options)
    kept = settings(data, run, recipe, options)
    with writing("audit", kept, output, data, run, keep=wanted.ids) as (session, folder):
        asked = _Asked.read(session, options, wanted, recipe)
        retrained = asked.reference(folder)
        with stage("Look for copies of the forget examples among the retained") as bar:
            copies = find_copies(asked.problem.forget, asked.problem.retain, unseen=asked.problem.holdout)
            bar.end_with("none" if len(copies) == 0 else f"{len(copies.retain_ids):,} retained copies found")
        with stage(f"Judge the model on {len(asked.problem.forget):,} examples"):
            found = examine(
                {"unlearned": asked.model},
                asked.problem,
                reference=retrained,
                members=asked.prepared.members,
                crossfit=asked.prepared.crossfit,
                targets=asked.targets(),
                parts=asked.groups,
                runs={"unlearned": [asked.read_model(path).model for path in options.runs]},
                relearning=options.relearning,
                seed=run.seed,
            )
        shown = found.aggregates(len(asked.problem.forget))
        result: dict[str, Any] = {
            "forget": {"n": len(asked.problem.forget), "flags": asked.flags},
            "copies": copies.counts,
        }
        write_page(folder, _page(asked, shown))
        finish(session, folder, result | shown.to_dict())
    _print(shown)
    if options.reference == NONE:
        _point_to_retrained(options)
    for one in (*shown.evaluation.shortfalls, *shown.shortfalls):
        alarm(one.text)
    print_page(folder)
    if options.annex is not None:
        _write_annex(options.annex, asked, found, copies)


@dataclass(frozen=True, eq=False)
class _Asked:
    """The files of the request, read and checked. groups: the memorization groups of --scores."""

    session: Session
    options: AuditOptions
    recipe: RecipeOptions
    model: nn.Module
    problem: Problem
    flags: list[str]
    prepared: Prepared
    groups: dict[str, Ids]

    @classmethod
    def read(cls, session: Session, options: AuditOptions, wanted: Request, recipe: RecipeOptions) -> _Asked:
        with split_in_doubt(session, options.original or options.model):
            ids = wanted.ids(session.data)
        if ids is None:
            raise ValueError("the most memorized examples were asked for without their scores")
        unlearned = read_model(session, options.model, recipe, unsafe=options.unsafe_load)
        original = None
        if options.original is not None:
            original = read_model(session, options.original, recipe, unsafe=options.unsafe_load)
        which = checks.OF_MODEL_FIRST if original else checks.OF_UNLEARNED_FIRST
        check_model(session, original or unlearned, which)
        if len(session.data.holdout) == 0:
            fix = "name unseen examples with --test or --unseen"
            raise UserError("--split", "none", "an audit compares with unseen examples, and there are none", fix)
        problem = Problem(None if original is None else original.model, session.data, ids, recipe=unlearned.recipe)
        flags = problem.flags()
        if original is None:
            check_outputs(unlearned.model, session.data.train)
            flags += model_flags(unlearned.model, session.data.train)
        for flag in flags:
            warn(flag)
        prepared = Prepared.read(options, None, session.data, ids)
        if options.targets != "auto":
            prepared.check(options.targets, trained_here=False)
        groups = groups_of(None if options.scores is None else load_scores(options.scores, options.score), ids)
        return cls(session, options, recipe, unlearned.model, problem, flags, prepared, groups)

    def targets(self) -> Targets | None:
        """The targets of the forecast, unless members or a cross-fit give it; None without the original."""
        if self.problem.original is None:
            return None
        chosen, there = self.options.targets, self.prepared.sources
        if chosen == "auto" and (not there or there[0] is not self.prepared.trace):
            return None
        return make(there[0] if chosen == "auto" else self.prepared.source(chosen), self.problem, self.session)

    def reference(self, folder: RunFolder) -> list[nn.Module]:
        """The retrained models: made here and kept in the run folder, read from a folder, or none."""
        chosen = self.options.reference
        if chosen == NONE:
            return []
        if chosen == RETRAIN:
            near, count = [self.options.model, self.options.original], self.options.reference_seeds
            return [*retrain(self.session, self.problem, count, folder=folder, near=near).models]
        place = Path(chosen)
        files = retrained_in(place) or sorted(place.glob("*.safetensors"))
        if not files:
            raise UserError(
                "--reference",
                chosen,
                "neither retrain, nor none, nor a folder with .safetensors files",
                "pass retrain to train models without the forget set here",
            )
        return [self.read_model(path).model for path in files]

    def read_model(self, file: Path) -> Original:
        return read_model(self.session, file, self.recipe, unsafe=self.options.unsafe_load)


def _page(asked: _Asked, found: Audit) -> Report:
    data, n = asked.session.data, len(asked.problem.forget)
    return Report(
        title=f"What one model still shows of {n:,} of {len(data.train):,} examples of {data.name}",
        lead=sentences([*asked.flags, *found.notes]),
        warnings=sentences([one.text for one in found.shortfalls]),
        audit=found,
        evaluation=found.evaluation,
        facts=facts(asked.session, asked.problem.recipe, asked.options.model),
    )


def _print(found: Audit) -> None:
    console.print(Fitted.of(found.evaluation.table().only(IN_TERMINAL)))
    console.print(Fitted.of(found.table()))
    for verdict in found.verdicts.values():
        console.print(f"  {verdict.text[0].upper()}{verdict.text[1:]}.", style="bold", soft_wrap=True)
        console.print(f"  By: {verdict.basis}.", soft_wrap=True)
    for note in found.notes:
        warn(note)
    for one in found.missing:
        console.print(f"  {one.text}", style="dim", soft_wrap=True)


def _point_to_retrained(options: AuditOptions) -> None:
    """Point to retrained models in the folder of the model: comparing with them costs nothing."""
    folder = next((one for one in folders_of(options.model) if retrained_in(one)), None)
    if folder is not None:
        warn(f"{folder} holds retrained models: --reference retrain compares with those of this request")


def _write_annex(path: Path, asked: _Asked, found: Audit, copies: Copies) -> None:
    """A row for each forget example; about single persons, so apart from the run folder."""
    forget = asked.problem.forget
    of: dict[str, list[str]] = {}
    for copy in copies.pairs:
        of.setdefault(copy.forget_id, []).append(copy.retain_id)
    columns: dict[str, Any] = {
        "id": forget.ids.tolist(),
        "label": forget.labels.tolist(),
        "confidence": label_confidence(asked.model, forget).round(6),
        "copies": [" ".join(of.get(name, [])) for name in forget.ids.tolist()],
    }
    if "unlearned" in found.t:
        columns["t"] = found.t["unlearned"].round(4)
    write_annex(path, columns)
