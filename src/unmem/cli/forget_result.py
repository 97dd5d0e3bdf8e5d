"""The result of a request: what it measures, saves, says and deletes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from unmem.cli import sources
from unmem.cli.comparing import Retrained, Unlearned, compare, groups_of, retrain
from unmem.cli.console import alarm, console, sentences, warn
from unmem.cli.erasing import ANNEX, MODELS, TABLES, Carrier, Erasure, carriers, print_carriers
from unmem.cli.faults import step
from unmem.cli.fitting import IN_TERMINAL, Fitted
from unmem.cli.forgetting import Forgetting, Made
from unmem.cli.options import folders_of
from unmem.cli.page import print_page, write_page
from unmem.cli.plan import score_cost, score_work, trainings
from unmem.cli.saving import facts, finish, save_original, save_scores, save_unlearned
from unmem.cli.session import Session
from unmem.data import Ids
from unmem.evaluation import SMALLEST_CELL, TOO_FEW, Evaluation, Needed, accuracy, label_confidence
from unmem.report import Report
from unmem.store import PRIVATE, RESULT, TRACE, RunFolder
from unmem.targets import FromCrossFit
from unmem.unlearning import settings_of

UTILITY_FELL = 4  # exit code


@dataclass(frozen=True, eq=False)
class Result:
    """The unlearned model, what was measured of it, and what the request deletes from files that were made before.

    guard: whether unlearning cost more accuracy on unseen examples than --max-drop allows.
    """

    run: Forgetting
    made: Made
    evaluation: Evaluation
    retrained: Sequence[nn.Module]
    guard: dict[str, Any]
    erasure: Erasure

    @classmethod
    def measure(cls, run: Forgetting, made: Made, folder: RunFolder) -> Result:
        """Compare the model, with retrained ones if they are asked for, which are saved in the run folder."""
        request, session, original = run.asked.request, run.work.session, run.work.original
        guard = _guard(session, original.model, made.model, request.max_drop)
        with step("compare the models"):
            retrained = Retrained()
            if request.reference == "retrain":
                count, near = request.reference_seeds, [original.source]
                retrained = retrain(session, run.problem, count, folder=folder, near=near)
            unlearned = Unlearned(made.model, made.seconds, _needed(run, made))
            evaluation = compare(original, run.problem, {request.method: unlearned}, retrained, _groups(run))
        return cls(run, made, evaluation, retrained.models, guard, _erasure(run))

    @property
    def exit_code(self) -> int:
        return UTILITY_FELL if self.guard["fell"] else 0

    def save(self, folder: RunFolder) -> list[Carrier]:
        """Write all files of the run; gives the files in which the forgotten examples still are."""
        run, session = self.run, self.run.work.session
        forget = run.problem.forget.ids
        save_original(session, folder, run.work.original)
        save_unlearned(session, folder, run.work.original, self.made.model, run.problem, self._card_lines())
        if run.prepared.trace is not None and run.prepared.trace_file is None:
            rest = run.prepared.trace.without(forget)
            rest = replace(rest, moved=(f"{PRIVATE}/{TRACE}",), forgotten=self.erasure.forgotten(None))
            folder.file(TRACE, rest.save)
        self.erasure.keep_rows(folder, run.prepared)
        if run.scores:
            save_scores(session, folder, list(run.scores.values()), forget)
        with step("write the report"):
            write_page(folder, self._page())
        left = _carriers(run, self.erasure, folder.path)
        more = {"guard": self.guard, "still_carrying": [one.to_dict() for one in left]}
        finish(session, folder, self._described() | more, forget)
        return left

    def print(self, folder: RunFolder, left: list[Carrier]) -> None:
        """Print the numbers, the warnings, and the files in which the forgotten examples still are."""
        request = self.run.asked.request
        names = {request.method: f"{self.run.planned.name} (auto)"} if request.method == "auto" else {}
        console.print(Fitted.of(self.evaluation.table(names).only(IN_TERMINAL)))
        if self.evaluation.reference is None:
            console.print("  ToW and ToW-MIA need retrained models: --reference retrain trains them.", style="dim")
        for shortfall in self.evaluation.shortfalls:
            alarm(shortfall.text)
        print_page(folder)
        if self.guard["fell"]:
            warn(self.guard["reason"])
        if len(self.run.problem.forget) < SMALLEST_CELL:
            warn(f"{TOO_FEW}: what is measured on it is not shown (--annex FILE.csv has a row for each)")
        print_carriers(left)

    def annex(self) -> dict[str, Any]:
        """Columns with a row for each forget example: the confidence of the models in its label, and its scores."""
        forget = self.run.problem.forget
        models = {"": [self.made.model], "-original": [self.run.work.original.model], "-retrained": self.retrained}
        confidence = {
            f"confidence{name}": np.mean([label_confidence(one, forget) for one in group], axis=0).round(6)
            for name, group in models.items()
            if group
        }
        scores = {name: one.of(forget.ids) for name, one in self.run.scores.items()}
        return {"id": forget.ids.tolist(), "label": forget.labels.tolist(), **confidence, **scores}

    def _card_lines(self) -> dict[str, str]:
        """Lines of the model card: no ids, and nothing about a single example."""
        run, tow = self.run, self.evaluation.methods[self.run.asked.request.method].tow
        lines = {
            "method": run.planned.name,
            "forgotten training examples": f"{len(run.problem.forget):,} of {len(run.problem.data.train):,}",
            "seed": str(run.work.session.run.seed),
        }
        return lines if tow is None else lines | {"closeness to retraining (ToW, 1 = the same)": f"{tow:.3f}"}

    def _described(self) -> dict[str, Any]:
        """The sections of `result.json`; auto says which method it chose."""
        run, original, tuned = self.run, self.run.work.original, self.made.tuned
        result = run.work.described(list(run.scores.values()), run.doubts) | {
            "unlearner": settings_of(self.made.unlearner),
            "forget": {"n": len(run.problem.forget), "flags": run.problem.flags()},
        }
        if run.targets is not None:
            result["targets"] = sources.described(run.targets, original)
        if run.choice is not None:
            result["auto"] = run.choice.to_dict()
        if tuned is not None:
            trials = [asdict(trial) for trial in tuned.trials]
            result["tuning"] = {"budget": run.asked.request.budget, "cost": tuned.cost, "trials": trials}
        outcomes, method = self.evaluation.to_dict(), run.asked.request.method
        if method == "auto":
            outcomes["methods"][method]["took"] = run.planned.name
        return result | outcomes

    def _page(self) -> Report:
        run, session, original = self.run, self.run.work.session, self.run.work.original
        data, choice = session.data, run.choice
        fell = [self.guard["reason"]] if self.guard["fell"] else []
        return Report(
            title=f"Forgetting {len(run.problem.forget):,} of {len(data.train):,} examples of {data.name}",
            lead=sentences(run.problem.flags()),
            warnings=sentences([*fell, *original.warnings, *(one.text for one in run.doubts)]),
            evaluation=self.evaluation,
            scores=list(run.scores.values()),
            flipped=data.flipped,
            labels={} if choice is None else {run.asked.request.method: f"took {choice.taken.words}"},
            facts=facts(session, original.recipe, original.source),
        )


def _groups(run: Forgetting) -> dict[str, Ids]:
    """The memorization groups of the request, by the score of RUM, else by that of --top; none without a score."""
    name = run.asked.divided_by or run.asked.wanted.score
    return groups_of(None if name is None else run.scores[name], run.problem.forget.ids)


def _needed(run: Forgetting, made: Made) -> Needed:
    """What the method and the request needed besides the run that made the model."""
    seconds = counted = before = 0.0
    if run.targets is not None and run.source is not None:
        counted, before = run.source.cost(run.problem), run.source.spent
        seconds += run.targets.seconds if counted else 0.0
    folds = None if run.prepared.crossfit is None else FromCrossFit(run.prepared.crossfit)
    works = {score_work(name): name for name in run.scores}  # what two scores share counts once
    for work, name in works.items():
        if folds is not None and work == folds.name:
            before += 0.0 if run.source is not None and run.source.name == folds.name else folds.spent
        elif name in run.work.scorer.seconds:
            seconds += run.work.scorer.seconds[name]
            counted += score_cost(name)
        else:
            before += score_cost(name)
    spent = trainings(made.unlearner if made.tuned is None else made.tuned, run.problem)
    return Needed(seconds, counted, before, spent)


def _guard(session: Session, before: nn.Module, after: nn.Module, max_drop: float) -> dict[str, Any]:
    """Whether unlearning cost more accuracy on unseen examples than the user allows."""
    if len(session.data.holdout) == 0:
        return {"holdout_before": None, "holdout_after": None, "max_drop": max_drop, "fell": False}
    had, has = (accuracy(model, session.data.holdout) for model in (before, after))
    found = {"holdout_before": had, "holdout_after": has, "max_drop": max_drop, "fell": had - has > max_drop}
    reason = f"accuracy on the holdout fell from {had:.1%} to {has:.1%}, more than --max-drop {max_drop}"
    return found | ({"reason": f"{reason}: the exit code is {UTILITY_FELL}"} if found["fell"] else {})


def _erasure(run: Forgetting) -> Erasure:
    """What the request deletes from the files that were made before."""
    source, request = run.work.original.source, run.asked.request
    files = [run.prepared.trace_file, request.crossfit, request.scores]
    folders = [*(folders_of(source) if source else ()), *(one.parent for one in files if one is not None)]
    runs = [folder for folder in dict.fromkeys(folders) if (folder / RESULT).is_file()]
    return Erasure.of(run.prepared, request, run.problem, runs)


def _carriers(run: Forgetting, erasure: Erasure, out: Path) -> list[Carrier]:
    """Where the forgotten examples still are once the run in `out` is published."""
    request = run.asked.request
    named = {
        MODELS: run.work.original.source,
        TABLES: request.scores,
        "the list of their ids": request.forget or (Path(request.issues) if request.issues else None),
        ANNEX: request.annex,
    }
    return carriers(erasure, out, named=named, data=str(run.work.session.settings["data"] or ""))
