"""Fine-tune on the retain set and let the rest fade.

    minimise CE(R)

Source: the standard baseline, e.g. Golatkar et al. 2020 and arXiv 2410.16516, which uses 10 epochs.

Deviations from the code of arXiv 2406.01257 and 2410.16516: the learning rate falls to 0 by a cosine, where that code
keeps it constant, and its peak is ten times as high (the original's own peak instead of a tenth of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from unmem.training import Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class FineTune(GradientUnlearner):
    """Train on the retain set only.

    The default is 10 epochs at the original's own peak rate, the upper end of the papers' range (0.01 to 0.1, for an
    original trained at 0.1). A low rate changes little and forgets almost nothing.

    Attributes:
        epochs: Passes over the retain set.
    """

    name: ClassVar[str] = "fine-tune"
    epochs: int = 10

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        return self.run(problem, seed=seed, start=start, observers=observers)
