"""The plan of a request: its steps with their costs, and the alternatives, before anything runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from unmem.cli import methods
from unmem.cli.choosing import Asked, chosen, default_score
from unmem.cli.console import console, duration
from unmem.cli.fitting import Fitted
from unmem.cli.methods import Planned
from unmem.cli.original import Original, read_model, recipe_of, untrained_network
from unmem.cli.session import Session
from unmem.cli.sources import source_for
from unmem.data import Examples
from unmem.memorization import Scores
from unmem.recipe import Recipe
from unmem.tables import Column, Row, Table
from unmem.targets import Source
from unmem.training import steps_per_epoch, train
from unmem.unlearning import RUM, Choice, FineTune, Nothing, Option, Problem, SalUn, Tuned, Unlearner
from unmem.unlearning.tune import budget_for

# Trainings of the original that a score costs besides its own; the others cost next to nothing.
_TRAININGS = {"feldman": 100 * 0.7, "ensemble": 20 * 0.5, "crossfit": 1.0, "holdout": 0.2, "curvature": 0.1}
_TIMED_STEPS = 8


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
    seconds = estimate.training_seconds
    timed = f"One training takes about {duration(seconds)} here (timed on {_TIMED_STEPS} steps)"
    console.print(f"  {timed}, all of this about {duration(estimate.cost * seconds)}.", soft_wrap=True)
    console.print("  Nothing was run and nothing was written.")


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
        Line(f"forget by {step.name}: {names[k]} part", f"{len(part.forget):,} of {forget + retain:,}", step.cost(part))
        for k, step, part in unlearner.plan(problem)
    ]


def _part_names(count: int, *, low_first: bool) -> list[str]:
    if count == 1:
        return ["only"]
    names = ["least memorized", *[f"{k + 2}." for k in range(count - 2)], "most memorized"]
    return names if low_first else names[::-1]


def plan_table(estimate: Estimate) -> Table:
    columns = (Column("examples", "examples"), *_COST)
    seconds = estimate.training_seconds
    rows = [Row(line.what, {"examples": line.examples} | _cost(line.cost, seconds)) for line in estimate.lines]
    return Table(columns, [*rows, Row("together", _cost(estimate.cost, seconds), "total")], names="step")


def alternatives_table(options: list[Option], seconds: float) -> Table:
    """The alternatives side by side. seconds: of one training."""
    columns = (_COST[0], Column("cost_all_told", "total cost", "number", unit="trainings"), _COST[1])
    rows = [Row(one.words, {"cost_all_told": one.cost_all_told} | _cost(one.cost, seconds)) for one in options]
    return Table(columns, rows, names="alternatives")


_COST = (Column("cost", "cost", "number", unit="trainings"), Column("about", "about"))


def _cost(cost: float, seconds: float) -> dict[str, float | str]:
    return {"cost": cost, "about": duration(cost * seconds)}


def trainings(work: Unlearner | Tuned, problem: Problem) -> float:
    """The cost of a run or a search in trainings of the original; both count in trainings on the retain set."""
    kept = len(problem.retain)
    cost = work.cost if isinstance(work, Tuned) else work.cost(problem)
    return cost * kept / (kept + len(problem.forget))


def score_cost(name: str) -> float:
    """Estimate the cost of a score besides the training of the original, in trainings."""
    return sum(_TRAININGS.get(part.split("-")[0], 0.0) for part in name.split("+"))


def score_work(name: str) -> str:
    """Scores that come from the same trainings have the same work; learning events need none of their own."""
    families = {part.split("-")[0] for part in name.split("+")}
    return "+".join(sorted(families & _TRAININGS.keys()))


def training_seconds(recipe: Recipe, examples: Examples) -> float:
    """Estimate the seconds of a training from a few timed steps."""
    few = examples.at(np.arange(min(len(examples), _TIMED_STEPS * recipe.batch_size)))
    train(replace(recipe, epochs=1), few.at(np.arange(min(len(few), 2 * recipe.batch_size))))  # loads what is lazy
    began = time.perf_counter()
    train(replace(recipe, epochs=1), few)
    each = (time.perf_counter() - began) / steps_per_epoch(recipe, few)
    return each * recipe.epochs * steps_per_epoch(recipe, examples)


def print_choice(choice: Choice, original: Original, examples: Examples) -> None:
    """Print in one line what auto chose, why, and what it costs."""
    taken = choice.taken
    seconds = original.seconds or training_seconds(original.recipe, examples)
    about = f"about {taken.cost:.2f} trainings ({duration(taken.cost * seconds)})"
    cost = f"total cost: {about}"
    if taken.cost_all_told > taken.cost:
        cost = f"cost: {about}, total cost: {taken.cost_all_told:.2f}"
    console.item("auto", f"{choice.words}; {cost}", style="cyan")
