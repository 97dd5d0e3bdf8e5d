"""Retrain from scratch on the retain set: the oracle that every other method is measured against.

u = train(recipe, R)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from unmem.training import Observer, train
from unmem.unlearning.problem import Problem


@dataclass(frozen=True)
class Retrain:
    """The problem's recipe once more, without the forget set. Exact, and as dear as the original training."""

    name: ClassVar[str] = "retrain"

    def __call__(
        self, model: nn.Module, problem: Problem, *, seed: int, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        return train(problem.recipe, problem.retain, seed=seed, observers=observers)
