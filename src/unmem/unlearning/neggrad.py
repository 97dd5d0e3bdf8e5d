"""NegGrad: gradient ascent on the forget set alone.

    minimise  −CE(S)

Source: the standard baseline, e.g. Golatkar et al. 2020 (arXiv 1911.04933). Nothing keeps the model near its start, so
only small steps are safe: prefer NegGrad+.

Deviations from the code of arXiv 2304.04934 and 2406.01257: the peak rate is ten times as high (a hundredth of the
original's instead of a thousandth), and it falls to 0 instead of staying constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from unmem.training import Batch, Observer, cross_entropy
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class NegGrad(GradientUnlearner):
    """Ascend on the loss of the forget set.

    The default is 5 epochs at a hundredth of the original's peak rate. The loss has no minimum, so only the rate limits
    how far the model moves.

    Attributes:
        epochs: Passes over the forget set.
    """

    name: ClassVar[str] = "neggrad"
    lr_share: ClassVar[float] = 0.01
    epochs: int = 5

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            loss, logits = cross_entropy(model, batch, problem.recipe.label_smoothing)
            return -loss, logits

        return self.run(
            problem, seed=seed, start=start, objective=objective, examples=problem.forget, observers=observers
        )

    def effort(self, problem: Problem) -> float:
        return len(problem.forget) / len(problem.retain)
