"""Retrain from scratch on the retain set: the reference for every other method.

u = train(recipe, R)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn

from unmem import models
from unmem.data import Examples
from unmem.executors import Failed, Where, run_all
from unmem.recipe import Recipe
from unmem.training import Observer, train
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Setting


@dataclass(frozen=True)
class Retrain:
    """Train a new model without the forget set. Exact, and as expensive as the original training.

    It starts from new weights, or from the recipe's base, and ignores `start`.
    """

    name: ClassVar[str] = "retrain"

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        return train(problem.recipe, problem.retain, seed=seed, observers=observers)

    def cost(self, problem: Problem) -> float:
        return 1.0

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        return self


def retrain_all(
    problem: Problem,
    seeds: Sequence[int],
    *,
    executor: Where = None,
    workers: int | None = None,
    on_model: Callable[[int, int], None] | None = None,
) -> tuple[list[nn.Module], list[float]]:
    """Retrain one model per seed.

    Args:
        problem: The request.
        seeds: Seed of each model.
        executor: Where the trainings run, see `unmem.executors.run_all`.
        workers: Number of parallel workers.
        on_model: Called with (done, total) after each model.

    Returns:
        The models, and the seconds that each took.

    Raises:
        Exception: The error of a training that failed twice.
    """
    models.source_of(problem.recipe.model)  # what workers send is of the user's own classes: they must be known here
    found: dict[int, tuple[nn.Module, float]] = {}
    shared = problem.recipe, problem.retain, str(problem.retain.device)
    for k, result in run_all(_retrained, shared, seeds, where=executor, workers=workers):
        if isinstance(result, Failed):
            raise result.error
        found[k] = result[0].to(problem.retain.device), result[1]
        if on_model is not None:
            on_model(len(found), len(seeds))
    return [found[k][0] for k in range(len(seeds))], [found[k][1] for k in range(len(seeds))]


def _retrained(shared: tuple[Recipe, Examples, str], seed: int) -> tuple[nn.Module, float]:
    recipe, retain, device = shared
    began = time.perf_counter()
    model = train(recipe, retain.to(device), seed=seed)
    return model.to("cpu"), time.perf_counter() - began
