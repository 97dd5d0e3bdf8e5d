"""What a score, a method or a training costs, in trainings of the original and in seconds."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from unmem.data import Examples
from unmem.recipe import Recipe
from unmem.training import steps_per_epoch, train
from unmem.unlearning import Problem, Tuned, Unlearner

# Trainings of the original that a score costs besides its own; the others cost next to nothing.
_TRAININGS = {"feldman": 100 * 0.7, "ensemble": 20 * 0.5, "crossfit": 1.0, "holdout": 0.2, "curvature": 0.1}
TIMED_STEPS = 8


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
    few = examples.at(np.arange(min(len(examples), TIMED_STEPS * recipe.batch_size)))
    train(replace(recipe, epochs=1), few.at(np.arange(min(len(few), 2 * recipe.batch_size))))  # loads what is lazy
    began = time.perf_counter()
    train(replace(recipe, epochs=1), few)
    each = (time.perf_counter() - began) / steps_per_epoch(recipe, few)
    return each * recipe.epochs * steps_per_epoch(recipe, examples)


def duration(seconds: float) -> str:
    """The seconds in a unit that suits them."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
