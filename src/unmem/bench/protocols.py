"""Three protocols by which the settings of an unlearner are chosen. Their results never share a table.

default  the settings of the method, as a user gets them.
tuned    settings chosen towards the out-of-sample forecast, without retraining, with the same budget for every method.
oracle   settings chosen by ToW against the retrained models, as most papers do, with the same number of trials for
         every method. Nobody who unlearns has retrained models to choose by, so this is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from torch import nn

from unmem.errors import DivergedError
from unmem.targets import Targets
from unmem.unlearning import Problem, Setting, Unlearner, settings_of, tune

Protocol = Literal["default", "tuned", "oracle"]
# Factors on strength and learning rate that the oracle tries, the nearest to the default first.
GRID = (
    *((1.0, 1.0), (2.0, 1.0), (0.5, 1.0), (1.0, 0.5), (1.0, 2.0), (4.0, 1.0), (0.25, 1.0), (2.0, 2.0), (0.5, 0.5)),
    *((2.0, 0.5), (0.5, 2.0), (8.0, 1.0), (0.125, 1.0), (4.0, 0.5), (0.25, 2.0), (4.0, 2.0), (0.25, 0.5)),
)


@dataclass(frozen=True, eq=False)
class Found:
    """The model that a protocol led to.

    Attributes:
        model: The unlearned model; the original if every run diverged, because that is what a user is left with.
        settings: The settings that were chosen, as plain values.
        trials: Number of runs of the method.
        diverged: Whether every run diverged.
    """

    model: nn.Module
    settings: dict[str, Any]
    trials: int
    diverged: bool = False


def by_default(unlearner: Unlearner, problem: Problem, *, seed: int) -> Found:
    """Run the unlearner as it is."""
    made = _run(unlearner, problem, seed)
    return Found(problem.model if made is None else made, settings_of(unlearner), 1, made is None)


def tuned(unlearner: Unlearner, problem: Problem, targets: Targets, *, seed: int, budget: float) -> Found:
    """Tune the unlearner towards the forecast.

    Args:
        unlearner: The unlearner.
        problem: The request.
        targets: The forecast.
        seed: Seed of every trial.
        budget: Maximum cost in trainings of the original. A method of which one run costs more runs once.
    """
    try:
        found = tune(unlearner, problem, targets, seed=seed, budget=max(budget, unlearner.cost(problem)))
    except DivergedError:
        return Found(problem.model, settings_of(unlearner), 1, diverged=True)
    return Found(found.model, settings_of(found.unlearner), len(found.trials))


def by_oracle(
    unlearner: Unlearner, problem: Problem, tow: Callable[[nn.Module], float], *, seed: int, trials: int
) -> Found:
    """Run the unlearner with several settings and keep the model with the highest ToW against the retrained models.

    Args:
        unlearner: The unlearner.
        problem: The request.
        tow: ToW of a model.
        seed: Seed of every trial.
        trials: Number of settings. Settings that change no field of this unlearner count too, so every method has the
            same number.
    """
    best: tuple[float, nn.Module, Unlearner] | None = None
    tried: list[dict[str, Any]] = []
    for strength, rate in islice(GRID, trials):
        variant = unlearner.tuned(problem, Setting(strength, rate))
        if settings_of(variant) in tried:
            continue
        tried.append(settings_of(variant))
        made = _run(variant, problem, seed)
        reached = -1.0 if made is None else tow(made)
        if made is not None and (best is None or reached > best[0]):
            best = reached, made, variant
    if best is None:
        return Found(problem.model, settings_of(unlearner), len(tried), diverged=True)
    return Found(best[1], settings_of(best[2]), len(tried))


def _run(unlearner: Unlearner, problem: Problem, seed: int) -> nn.Module | None:
    """The unlearned model; None if its training diverged."""
    try:
        return unlearner(problem, seed=seed)
    except DivergedError:
        return None
