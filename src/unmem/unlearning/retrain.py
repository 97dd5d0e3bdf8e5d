"""Retrain from scratch on the retain set: the oracle that every other method is measured against.

u = train(recipe, R)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn

from unmem.training import Observer, train
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Setting


@dataclass(frozen=True)
class Retrain:
    """The problem's recipe once more, without the forget set. Exact, and as dear as the original training."""

    name: ClassVar[str] = "retrain"

    def __call__(
        self, model: nn.Module, problem: Problem, *, seed: int, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        return train(problem.recipe, problem.retain, seed=seed, observers=observers)

    def cost(self, problem: Problem) -> float:
        return 1.0

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        return self
