"""The plan of a request: its steps with their costs, and the alternatives, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unmem.cli import methods
from unmem.cli.choosing import chosen, default_score
from unmem.cli.console import console
from unmem.cli.costs import TIMED_STEPS, duration, score_cost, training_seconds, trainings
from unmem.cli.fitting import Fitted
from unmem.cli.forgetting import Asked
from unmem.cli.methods import Planned
from unmem.cli.original import read_model, recipe_of, untrained_network
from unmem.cli.session import Session
from unmem.cli.sources import source_for
from unmem.memorization import Scores
from unmem.tables import Column, Row, Table
from unmem.targets import Source
from unmem.unlearning import RUM, Choice, FineTune, Nothing, Option, Problem, SalUn, Unlearner
from unmem.unlearning.tune import budget_for


def print_plan(session: Session, asked: Asked) -> None:
    """Print the steps of the request and its alternatives, with their costs."""
    ids = asked.ids(session)
    if ids is None:
        ids = session.data.train.ids[: asked.wanted.count]  # stand in for the most memorized ones
    prepared, model = asked.prepared(session, ids), asked.model
    if model.model is None:
        recipe = recipe_of(session, model)
        prepared = prepared.with_trace_to_come(session.data.train) if recipe.epochs else prepared
    else:
        recipe = read_model(session, model.model, model, unsafe=model.unsafe_load).recipe
    problem = Problem(untrained_network(session, recipe), session.data, ids, recipe=recipe)
    choice = chosen(methods.plan(methods.AUTO, [], []), prepared, asked.request, problem)
    planned = asked.planned
    if planned.name == methods.AUTO:
        planned = methods.taken(choice)
        console.item("auto", choice.words, style="cyan")
    uses_targets = planned.needs_targets or asked.request.tune
    targets = source_for(asked.request.targets, prepared, problem) if uses_targets else None
    estimate = Estimate.make(asked, planned, problem, targets)
    console.print(Fitted.of(plan_table(estimate)))
    console.print()
    other = alternatives(choice, problem, score=default_score(trained_here=asked.trained_here))
    console.print(Fitted.of(alternatives_table(other, estimate.training_seconds)))
    for line in estimate.notes():
        console.print(f"  {line}", soft_wrap=True)


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
    def make(cls, asked: Asked, planned: Planned, problem: Problem, targets: Source | None) -> Estimate:
        """planned: the method; for auto, the one that it chose. targets: their source, if they are needed."""
        request, train_set = asked.request, problem.data.train
        whole = f"{len(train_set):,}"
        lines = [Line("train the original", whole, 1.0)] if asked.trained_here else []
        lines += [Line(f"score by {name}", whole, score_cost(name)) for name in asked.scores_to_make]
        if targets is not None and targets.cost(problem) > 0:
            lines.append(Line(f"targets by {targets.name}", f"{len(problem.retain):,}", targets.cost(problem)))
        # Any order divides a request into RUM parts of the same sizes.
        unlearner = planned.make(Scores("plan", train_set.ids, np.arange(len(train_set), dtype=np.float64)), None)
        if request.tune:
            most = budget_for(unlearner, problem) if request.budget is None else request.budget
            lines.append(Line(f"tune {planned.name}, at most", f"{len(problem.forget):,}", most))
        else:
            lines += _steps(unlearner, problem)
        if request.reference == "retrain":
            count = request.reference_seeds
            lines.append(Line(f"retrain for comparison, {count} times", f"{len(problem.retain):,}", float(count)))
        return cls(tuple(lines), training_seconds(problem.recipe, train_set))

    @property
    def cost(self) -> float:
        return sum(line.cost for line in self.lines)

    def notes(self) -> list[str]:
        return [
            f"One training takes about {duration(self.training_seconds)} here (timed on {TIMED_STEPS} steps), "
            f"all of this about {duration(self.cost * self.training_seconds)}.",
            "Nothing was run and nothing was written.",
        ]


def alternatives(choice: Choice, problem: Problem, *, score: str) -> list[Option]:
    """The options of auto, and RUM, with their costs."""
    if len(problem.forget) < 3:  # too few to divide into RUM parts
        return list(choice.options)
    names = problem.data.train.ids
    rum = RUM(Scores(score, names, np.arange(len(names), dtype=np.float64)), [Nothing(), FineTune(), SalUn()])
    cost = trainings(rum, problem) + score_cost(score)
    return [*choice.options, Option(RUM.name, None, cost, cost)]


def _steps(unlearner: Unlearner, problem: Problem) -> list[Line]:
    forget, retain = len(problem.forget), len(problem.retain)
    if not isinstance(unlearner, RUM):
        return [Line(f"forget by {unlearner.name}", f"{forget:,} of {forget + retain:,}", unlearner.cost(problem))]
    if unlearner.thresholds is not None:  # they divide the request once the score is known
        most = sum(step.cost(problem) for step in unlearner.steps)
        return [Line("forget by rum, RUM parts by thresholds", f"{forget:,}", most)]
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
        Column("cost_all_told", "total cost", "number", unit="trainings"),
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
