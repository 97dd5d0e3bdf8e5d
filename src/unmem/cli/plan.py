"""What a request would do and how long it would take, before anything runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from unmem import models
from unmem.cli.methods import Planned
from unmem.cli.session import Session
from unmem.data import Ids
from unmem.memorization import Scores
from unmem.recipe import Recipe
from unmem.tables import Column, Row, Table
from unmem.targets import Source
from unmem.training import steps_per_epoch, train
from unmem.unlearning import RUM, Choice, FineTune, Nothing, Option, Problem, SalUn, Tuned, Unlearner
from unmem.unlearning.tune import budget_for

# Members of the scores that need trainings of their own.
_TRAININGS = {"feldman": 100 * 0.7, "ensemble": 20 * 0.5, "crossfit": 1.0, "holdout": 0.2, "curvature": 0.1}
_TIMED_STEPS = 8


@dataclass(frozen=True)
class Line:
    """One thing to do: its cost in trainings of the original."""

    what: str
    examples: str
    cost: float


@dataclass(frozen=True)
class Estimate:
    """All lines, and the seconds that one training would take here: timed on a few steps."""

    lines: tuple[Line, ...]
    training_seconds: float

    @classmethod
    def make(
        cls,
        session: Session,
        planned: Planned,
        problem: Problem,
        *,
        trained_here: bool,
        scores: list[str],
        targets: Source | None,
        tune: bool,
        budget: float | None,
        retrained: int,
    ) -> Estimate:
        """scores: those to be made. targets: what makes them, if they are needed. tune, budget: as given."""
        train_set, ids = session.data.train, problem.forget.ids
        lines = [Line("train the original", f"{len(train_set):,}", 1.0)] if trained_here else []
        lines += [Line(f"score by {name}", f"{len(train_set):,}", score_cost(name)) for name in scores]
        if targets is not None and targets.cost(problem) > 0:
            lines.append(Line(f"targets by {targets.name}", f"{len(problem.retain):,}", targets.cost(problem)))
        # Any order cuts a request in parts of the same sizes.
        unlearner = planned.make(Scores("plan", train_set.ids, np.arange(len(train_set), dtype=np.float64)), None)
        if tune:
            most = budget_for(unlearner, problem) if budget is None else budget
            lines.append(Line(f"tune {planned.name}, at most", f"{len(ids):,}", most))
        else:
            lines += _steps(unlearner, problem)
        lines += [Line(f"retrain for comparison, {retrained} times", f"{len(problem.retain):,}", float(retrained))] * (
            retrained > 0
        )
        return cls(tuple(lines), training_seconds(problem.recipe, session))

    @property
    def cost(self) -> float:
        return sum(line.cost for line in self.lines)

    def notes(self) -> list[str]:
        return [
            f"One training takes about {duration(self.training_seconds)} here (timed on {_TIMED_STEPS} steps), "
            f"all of this about {duration(self.cost * self.training_seconds)}.",
            "Nothing was run and nothing was written.",
        ]


def untrained_problem(session: Session, ids: Ids, recipe: Recipe) -> Problem:
    """The request as it will be, with a network that was not trained: enough to count costs."""
    train_set = session.data.train
    model = models.build(recipe.model, train_set.input_shape, train_set.n_classes, seed=0).to(train_set.device)
    return Problem(model, session.data, ids, recipe=recipe)


def trainings(work: Unlearner | Tuned, problem: Problem) -> float:
    """What a run or a search costs in trainings of the original; both count in trainings on the retain set."""
    kept = len(problem.retain)
    cost = work.cost if isinstance(work, Tuned) else work.cost(problem)
    return cost * kept / (kept + len(problem.forget))


def alternatives(choice: Choice, problem: Problem, *, score: str) -> list[Option]:
    """What auto chooses from, and RUM, with their costs."""
    if len(problem.forget) < 3:  # too few to cut in parts
        return list(choice.options)
    names = problem.data.train.ids
    rum = RUM(Scores(score, names, np.arange(len(names), dtype=np.float64)), [Nothing(), FineTune(), SalUn()])
    cost = trainings(rum, problem) + score_cost(score)
    return [*choice.options, Option(RUM.name, None, cost, cost)]


def _steps(unlearner: Unlearner, problem: Problem) -> list[Line]:
    forget, retain = len(problem.forget), len(problem.retain)
    if not isinstance(unlearner, RUM):
        return [Line(f"forget by {unlearner.name}", f"{forget:,} of {forget + retain:,}", unlearner.cost(problem))]
    if unlearner.thresholds is not None:  # which examples they part is known once the score is
        most = sum(step.cost(problem) for step in unlearner.steps)
        return [Line("forget by rum, parts by thresholds", f"{forget:,}", most)]
    names = _part_names(len(unlearner.steps), low_first=unlearner.order == "low-to-high")
    return [
        Line(
            f"forget by {step.name}: {names[k]} part",
            f"{len(part.forget):,} of {forget + retain:,}",
            step.cost(part),
        )
        for k, step, part in unlearner.plan(problem)
    ]


def _part_names(count: int, *, low_first: bool) -> list[str]:
    if count == 1:
        return ["only"]
    names = ["least memorized", *[f"{k + 2}." for k in range(count - 2)], "most memorized"]
    return names if low_first else names[::-1]


def score_cost(name: str) -> float:
    """About what a score costs beyond the training of the original, in trainings."""
    return sum(_TRAININGS.get(part.split("-")[0], 0.0) for part in name.split("+"))


def score_work(name: str) -> str:
    """Scores that come from the same trainings have the same work; learning events need none of their own."""
    families = {part.split("-")[0] for part in name.split("+")}
    return "+".join(sorted(families & _TRAININGS.keys()))


def training_seconds(recipe: Recipe, session: Session) -> float:
    """What a training would take: a few steps, timed, times all of its steps."""
    examples = session.data.train
    few = examples.at(np.arange(min(len(examples), _TIMED_STEPS * recipe.batch_size)))
    train(replace(recipe, epochs=1), few.at(np.arange(min(len(few), 2 * recipe.batch_size))))  # loads what is lazy
    began = time.perf_counter()
    train(replace(recipe, epochs=1), few)
    each = (time.perf_counter() - began) / steps_per_epoch(recipe, few)
    return each * recipe.epochs * steps_per_epoch(recipe, examples)


def plan_table(estimate: Estimate) -> Table:
    columns = (
        Column("examples", "examples"),
        Column("cost", "cost", "number", unit="trainings"),
        Column("about", "about"),
    )

    def about(cost: float) -> dict[str, float | str]:
        return {"cost": cost, "about": duration(cost * estimate.training_seconds)}

    rows = [Row(line.what, {"examples": line.examples} | about(line.cost)) for line in estimate.lines]
    return Table(columns, [*rows, Row("together", about(estimate.cost), "total")], names="step")


def alternatives_table(options: list[Option], seconds: float) -> Table:
    """The alternatives side by side. seconds: of one training."""
    columns = (
        Column("cost", "cost", "number", unit="trainings"),
        Column("cost_all_told", "cost, all told", "number", unit="trainings"),
        Column("about", "about"),
    )
    rows = [
        Row(
            option.words,
            {"cost": option.cost, "cost_all_told": option.cost_all_told, "about": duration(option.cost * seconds)},
        )
        for option in options
    ]
    return Table(columns, rows, names="alternatives")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
