"""`unmem audit`: what an unlearned model still shows of the examples that it should have forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from unmem.cli.annex import check_annex
from unmem.cli.early import check_early
from unmem.cli.options import (
    DataOptions,
    Flag,
    OutputOptions,
    RecipeOptions,
    SelectOptions,
    check_reference,
    folders_of,
    settings,
)

if TYPE_CHECKING:
    from torch import nn

    from unmem.cli.request import Request
    from unmem.cli.session import Session
    from unmem.cli.sources import Prepared
    from unmem.data import Ids
    from unmem.evaluation import Audit
    from unmem.report import Report
    from unmem.requests import Copies
    from unmem.store import RunFolder
    from unmem.targets import Targets
    from unmem.unlearning import Problem

_AUDIT = Group("Audit", sort_key=0)
RETRAIN, NONE = "retrain", "none"


@Parameter(name="*", group=_AUDIT)
@dataclass(frozen=True, kw_only=True)
class AuditOptions(SelectOptions):
    """The model to audit and what to compare it with. Only the model and the ids are required."""

    model: Path
    """The unlearned model, made by unmem or any other tool: a .safetensors file, a state dict saved by torch.save, or a
    folder written by save_pretrained."""
    original: Path | None = None
    "The model before unlearning, in any of these formats: shows what doing nothing would score."
    unsafe_load: Flag = False
    "Also load pickled model files, which can execute arbitrary code: only for files you trust."
    reference: str = NONE
    """Models trained without the forget set, for ToW and the distance to retraining: retrain trains them in this run;
    or a folder with their .safetensors files."""
    reference_seeds: int = 2
    "With --reference retrain: the number of models to retrain."
    runs: Annotated[tuple[Path, ...], Parameter(negative=(), consume_multiple=True)] = ()
    "Models made by the same method with other seeds, for KLoM; it needs twice as many retrained models."
    members: Path | None = None
    """Folder with the ensemble members of unmem score --method feldman (or ensemble) --work, used as shadow models for
    the test of single examples, LiRA and RMIA. Do not use members whose scores selected these ids."""
    crossfit: Path | None = None
    "A crossfit.npz from unmem prepare, for the forecast of the forget accuracy."
    trace: Path | None = None
    "A trace.npz recorded while the original was trained, for the same forecast."
    targets: Literal["auto", "ensemble", "crossfit", "trace", "teacher"] = "auto"
    """Source of the forecast. auto: the first of members, cross-fit and trace that is given. teacher: train one, at a
    cost of 0.2 trainings."""
    scores: Path | None = None
    "A scores.parquet, to show all results by memorization group."
    score: str = "confidence"
    "The score in that file to use."
    relearning: Annotated[bool, Parameter(negative="--no-relearning")] = True
    """Train briefly on the retain set and measure whether the forget set is relearned. Costs about 0.1 trainings per
    model."""
    annex: Path | None = None
    "Also write a .csv file with one row per forget example. It contains personal data."


def audit(
    *,
    output: OutputOptions,
    options: AuditOptions,
    data: DataOptions = DataOptions(),
    recipe: RecipeOptions = RecipeOptions(),
) -> None:
    """Measure what an unlearned model still knows about its forget set, and what this run could have detected.

    Writes result.json and report.html to the run folder, with aggregates only: no ids, inputs or labels.
    """
    check_early(output, options, data, recipe)
    check_annex(options.annex, force=output.force)
    if options.reference == RETRAIN:
        check_reference(options.reference_seeds)
    from unmem.cli.console import alarm, stage
    from unmem.cli.page import tell_page, write_page
    from unmem.cli.request import Request
    from unmem.cli.session import Session, log_of
    from unmem.evaluation import audit as examine
    from unmem.store import RunFolder

    wanted = Request.read(options)
    with RunFolder(output.out, force=output.force) as folder, log_of(output, "audit") as log:
        session = Session.open("audit", settings(data, recipe, options), data, log=log, keep=wanted.ids, folder=folder)
        asked = _Asked.read(session, options, wanted, recipe)
        retrained = asked.reference(session, recipe, folder)
        with stage("Look for copies of the forget examples among the retained") as bar:
            copies = _copies(asked.problem)
            bar.note = _said(copies)
        with stage(f"Judge the model on {len(asked.problem.forget):,} examples"):
            found = examine(
                {"unlearned": asked.model},
                asked.problem,
                reference=retrained,
                members=asked.prepared.members,
                crossfit=asked.prepared.crossfit,
                targets=asked.targets(session),
                parts=asked.parts,
                runs={"unlearned": asked.models(session, recipe, options.runs)},
                relearning=options.relearning,
                seed=session.seed,
            )
        shown = found.aggregates(len(asked.problem.forget))
        result: dict[str, Any] = {
            "forget": {"n": len(asked.problem.forget), "flags": asked.flags},
            "copies": copies.counts,
        }
        write_page(folder, _page(session, asked, shown))
        session.finish(folder, result | shown.to_dict())
    _print(shown)
    if options.reference == NONE:
        _tell_retrained(options)
    for one in (*shown.evaluation.shortfalls, *shown.shortfalls):
        alarm(one.text)
    tell_page(folder)
    if options.annex is not None:
        _write_annex(options.annex, asked, found, copies)


@dataclass(frozen=True, eq=False)
class _Asked:
    """The files of the request, read and checked."""

    options: AuditOptions
    model: nn.Module
    problem: Problem
    flags: list[str]
    prepared: Prepared
    parts: dict[str, Ids]

    @classmethod
    def read(cls, session: Session, options: AuditOptions, wanted: Request, recipe: RecipeOptions) -> _Asked:
        from unmem.cli import checks
        from unmem.cli.console import warn
        from unmem.cli.sources import Prepared
        from unmem.errors import UserError
        from unmem.memorization import load_scores
        from unmem.rehearsal import check_outputs
        from unmem.unlearning import Problem, model_flags

        with session.split_in_doubt(options.original or options.model):
            ids = wanted.ids(session.data)
        if ids is None:
            raise ValueError("the most memorized examples were asked for without their scores")
        read = partial(session.read_model, options=recipe, seed=session.seed, unsafe=options.unsafe_load)
        unlearned = read(options.model)
        original = None if options.original is None else read(options.original)
        session.heed_model(original or unlearned, checks.OF_MODEL_FIRST if original else checks.OF_UNLEARNED_FIRST)
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
        parts: dict[str, Ids] = {}
        if options.scores is not None and len(ids) >= 3:
            cut = load_scores(options.scores, options.score).parts(3, among=ids)
            parts.update(zip(("low", "medium", "high"), cut, strict=True))
        return cls(options, unlearned.model, problem, flags, prepared, parts)

    def targets(self, session: Session) -> Targets | None:
        """What the forecast is made from, if it is not the members or the cross-fit; there is none without original."""
        from unmem.cli.sources import make

        if self.problem.original is None:
            return None
        chosen, there = self.options.targets, self.prepared.sources
        if chosen == "auto" and (not there or there[0] is not self.prepared.trace):
            return None
        return make(there[0] if chosen == "auto" else self.prepared.source(chosen), self.problem, session)

    def reference(self, session: Session, recipe: RecipeOptions, folder: RunFolder) -> list[nn.Module]:
        """The retrained models: made here and kept in the run folder, read from a folder, or none."""
        from unmem.errors import UserError
        from unmem.store import retrained_in

        chosen = self.options.reference
        if chosen == NONE:
            return []
        if chosen == RETRAIN:
            files = [self.options.model, *([self.options.original] if self.options.original else [])]
            folders = [folder.path, *(one for file in files for one in folders_of(file))]
            made = session.retrain(self.problem, self.options.reference_seeds, seed=session.seed, folders=folders)
            session.save_retrained(folder, self.problem, made, seed=session.seed)
            return made[0]
        place = Path(chosen)
        files = retrained_in(place) or sorted(place.glob("*.safetensors"))
        if not files:
            raise UserError(
                "--reference",
                chosen,
                "neither retrain, nor none, nor a folder with .safetensors files",
                "pass retrain to train models without the forget set here",
            )
        return self.models(session, recipe, files)

    def models(self, session: Session, recipe: RecipeOptions, files: Sequence[Path]) -> list[nn.Module]:
        unsafe = self.options.unsafe_load
        return [session.read_model(path, recipe, seed=session.seed, unsafe=unsafe).model for path in files]


def _copies(problem: Problem) -> Copies:
    from unmem.requests import find_copies

    return find_copies(problem.forget, problem.retain, unseen=problem.holdout)


def _said(copies: Copies) -> str:
    return "none" if len(copies) == 0 else f"{len(copies.retain_ids):,} retained copies found"


def _page(session: Session, asked: _Asked, found: Audit) -> Report:
    from unmem.cli.console import sentences
    from unmem.report import Report

    n, whole = len(asked.problem.forget), len(session.data.train)
    return Report(
        title=f"What one model still shows of {n:,} of {whole:,} examples of {session.data.name}",
        lead=sentences([*asked.flags, *found.notes]),
        warnings=sentences([one.text for one in found.shortfalls]),
        audit=found,
        evaluation=found.evaluation,
        facts=session.facts(asked.problem.recipe, asked.options.model),
    )


def _print(found: Audit) -> None:
    from unmem.cli.console import console, warn
    from unmem.cli.fitting import IN_TERMINAL, Fitted

    console.print(Fitted.of(found.evaluation.table().only(IN_TERMINAL)))
    console.print(Fitted.of(found.table()))
    for verdict in found.verdicts.values():
        console.print(f"  {verdict.text[0].upper()}{verdict.text[1:]}.", style="bold", soft_wrap=True)
        console.print(f"  By: {verdict.basis}.", soft_wrap=True)
    for note in found.notes:
        warn(note)
    for one in found.missing:
        cost = "" if one.cost is None else f", about {one.cost:.3g} trainings"
        console.print(f"  Not seen: {one.what}; that needs {one.needs}{cost}.", style="dim", soft_wrap=True)


def _tell_retrained(options: AuditOptions) -> None:
    """Where retrained models lie beside the model, they can be compared with for nothing."""
    from unmem.cli.console import warn
    from unmem.store import retrained_in

    folder = next((one for one in folders_of(options.model) if retrained_in(one)), None)
    if folder is not None:
        warn(f"{folder} holds retrained models: --reference retrain compares with those of this request")


def _write_annex(path: Path, asked: _Asked, found: Audit, copies: Copies) -> None:
    """A row for each forget example; about single persons, so apart from the run folder."""
    from unmem.cli.annex import write_annex
    from unmem.evaluation import label_confidence

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
