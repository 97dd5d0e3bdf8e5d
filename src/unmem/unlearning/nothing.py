"""Do nothing: the control that every method must beat, and RUM's step for examples that need no unlearning."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn

from unmem.training import Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import Setting


@dataclass(frozen=True)
class Nothing:
    """Return an unchanged copy of the model."""

    name: ClassVar[str] = "nothing"

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        return copy.deepcopy(problem.model if start is None else start)

    def cost(self, problem: Problem) -> float:
        return 0.0

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        return self
