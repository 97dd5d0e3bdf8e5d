"""A request of `unmem forget` at work: what it asks for, what it needs, and the run of its method."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from unmem.cli import methods, sources
from unmem.cli.choosing import check_steps, chosen, method_of, print_choice, with_copies
from unmem.cli.console import console, stage, warn
from unmem.cli.forget_options import RequestOptions
from unmem.cli.methods import Planned
from unmem.cli.options import ModelOptions
from unmem.cli.original import split_in_doubt
from unmem.cli.request import Request
from unmem.cli.session import Session
from unmem.cli.sources import Prepared
from unmem.cli.work import ScoreSource, Work
from unmem.data import Ids
from unmem.evaluation import Shortfall
from unmem.memorization import Opposed, Scores
from unmem.targets import Source, Targets, TraceRecorder
from unmem.unlearning import Choice, Problem, Tuned, Unlearner, tune


@dataclass(frozen=True, eq=False)
class Asked:
    """What the options ask for, checked as far as that needs no data.

    Attributes:
        request: The options of the request.
        model: The options of the original.
        planned: The method.
        wanted: The examples to forget.
        steps: The steps of RUM.
        divided_by: Name of the score that divides the request among the steps of RUM.
        source: Where scores come from.
    """

    request: RequestOptions
    model: ModelOptions
    planned: Planned
    wanted: Request
    steps: list[str]
    divided_by: str | None
    source: ScoreSource

    @classmethod
    def read(cls, request: RequestOptions, model: ModelOptions) -> Asked:
        trained_here = model.model is None
        method, steps, score = method_of(request, trained_here=trained_here)
        planned = methods.plan(method, steps, request.set)
        wanted, source = Request.read(request), ScoreSource(request.scores, trained_here=trained_here)
        for name, option in ((wanted.score, "--top"), (score, "--score")):
            if name is not None:
                source.check(name, option=option)
        return cls(request, model, planned, wanted, steps, score, source)

    @property
    def trained_here(self) -> bool:
        return self.model.model is None

    @property
    def scores(self) -> list[str]:
        """Names of the scores that the request and RUM use."""
        return list(dict.fromkeys(name for name in (self.wanted.score, self.divided_by) if name is not None))

    @property
    def scores_to_make(self) -> list[str]:
        return self.scores if self.request.scores is None else []

    def ids(self, session: Session) -> Ids | None:
        """The ids of the request; None for the most memorized examples, whose scores are not there yet."""
        with split_in_doubt(session, self.model.model):
            ids = self.wanted.ids(session.data, session.before)
        if ids is not None:
            check_steps(len(ids), self.planned, self.request)
        return ids

    def prepared(self, session: Session, ids: Ids | None) -> Prepared:
        """The files that were made before the request, with the source that --targets names among them."""
        found = Prepared.read(self.request, self.model.model, session.data, ids)
        found.check(self.request.targets, trained_here=self.trained_here)
        return found


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

    Attributes:
        asked: What the options ask for.
        work: The original and its scores.
        problem: The request.
        planned: The method; for auto, the one that it chose.
        scores: The scores that the request and RUM use, by name.
        prepared: What was made before the request, and the trace of a training here.
        choice: The choice of auto.
        source: Where the targets come from.
        targets: The targets, if the method or --tune needs them.
        doubts: What was warned about.
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
            session,
            asked.model,
            scores=asked.scores_to_make,
            recorders={"trace": recorder},
            prepared=prepared.crossfit,
        )
        if recorder.recorded and prepared.trace is None:
            prepared = replace(prepared, trace=recorder.trace)
        scores = {name: asked.source.get(name, work) for name in asked.scores}
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
            print_choice(choice, original, session)
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
        tuned = request.tune and self.targets is not None
        with stage(f"{title}, tuned" if tuned else title) as bar:
            observers = session.logged("forget", bar)
            if not request.tune or self.targets is None:
                model, found = unlearner(problem, seed=session.run.seed, observers=observers), None
            else:
                found = tune(
                    unlearner, problem, self.targets, seed=session.run.seed, budget=request.budget, observers=observers
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
