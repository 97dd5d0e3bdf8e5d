"""A request of `unmem forget` at work: what it needs, and the run of its method."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from unmem.cli import methods, sources
from unmem.cli.choosing import Asked, chosen, with_copies
from unmem.cli.console import console, stage, warn
from unmem.cli.methods import Planned
from unmem.cli.plan import print_choice
from unmem.cli.session import Session
from unmem.cli.sources import Prepared
from unmem.cli.work import Work
from unmem.evaluation import Shortfall
from unmem.memorization import Opposed, Scores
from unmem.targets import Source, Targets, TraceRecorder
from unmem.unlearning import Choice, Problem, Tuned, Unlearner, tune


@dataclass(frozen=True, eq=False)
class Made:
    """The unlearned model, the unlearner that made it, the seconds that it took, and the search before it."""

    model: nn.Module
    unlearner: Unlearner
    seconds: float
    tuned: Tuned | None


@dataclass(frozen=True, eq=False)
class Forgetting:
    """All that a request needs, read or made, and checked.

    planned: the method; for auto, the one that was chosen. source: where the targets come from. doubts: warnings.
    """

    asked: Asked
    work: Work
    problem: Problem
    planned: Planned
    scores: dict[str, Scores]
    prepared: Prepared
    choice: Choice | None
    source: Source | None
    targets: Targets | None
    doubts: tuple[Shortfall | Opposed, ...]

    @classmethod
    def prepare(cls, session: Session, asked: Asked) -> Forgetting:
        request, planned = asked.request, asked.planned
        ids = asked.ids(session)
        prepared = asked.prepared(session, ids)
        recorder = TraceRecorder(session.data.holdout)
        work = Work.start(
            session, asked.model, scores=asked.scores_to_make, recorders={"trace": recorder}, prepared=prepared.crossfit
        )
        if recorder.recorded and prepared.trace is None:
            prepared = replace(prepared, trace=recorder.trace)
        scores = {name: asked.score(name, work) for name in asked.scores}
        if ids is None:
            ids = asked.wanted.most_memorized(scores)
        original = work.original
        problem = with_copies(Problem(original.model, session.data, ids, recipe=original.recipe), request.copies)
        for flag in problem.flags():
            warn(flag)
        choice = source = targets = None
        if planned.name == methods.AUTO:
            choice = chosen(planned, prepared, request, problem)
            planned = methods.taken(choice)
            print_choice(choice, original, session.data.train)
        elif request.method == methods.AUTO:
            console.item("auto", f"{planned.name}: --steps or --score is given", style="cyan")
        if planned.needs_targets or request.tune:
            source = sources.source_for(request.targets, prepared, problem)
            targets = sources.make(source, problem, session)
        folds = prepared.crossfit
        doubts = work.doubts([*scores.values(), *([folds.scores()] if folds and "crossfit" not in scores else [])])
        return cls(asked, work, problem, planned, scores, prepared, choice, source, targets, doubts)

    def unlearn(self) -> Made:
        """Run the method, after the search of --tune."""
        session, request, problem = self.work.session, self.asked.request, self.problem
        unlearner = self.planned.make(self.scores.get(self.asked.divided_by or ""), self.targets)
        title = f"Forget {len(problem.forget):,} examples by {self.planned.name}"
        goal = self.targets if request.tune else None
        with stage(title if goal is None else f"{title}, tuned") as bar:
            observers = session.logged("forget", bar)
            if goal is None:
                model, found = unlearner(problem, seed=session.run.seed, observers=observers), None
            else:
                found = tune(
                    unlearner, problem, goal, seed=session.run.seed, budget=request.budget, observers=observers
                )
                model, unlearner = found.model, found.unlearner
        if found is not None:
            _print_tuned(found)
        return Made(model, unlearner, bar.seconds, found)


def _print_tuned(tuned: Tuned) -> None:
    """Print in one line what the search found."""
    usual, best = tuned.trials[0], max(tuned.trials, key=lambda trial: trial.closeness if trial.step is None else -1.0)
    found = "the usual setting is kept" if tuned.kept else "another setting is nearer"
    console.item(
        "tune",
        f"{found}: closeness to the forecast {usual.closeness:.3f} as usual, {best.closeness:.3f} at "
        f"best; {len(tuned.trials)} trials, {tuned.cost:.2f} trainings",
        style="cyan",
    )
