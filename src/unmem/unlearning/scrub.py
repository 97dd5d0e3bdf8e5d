"""SCRUB: move away from the original on the forget set and stay close to it on the retain set.

    max epochs (the first m):  maximise  KL(teacher ‖ student) on S, then the min pass
    min pass (every epoch):    minimise  γ · CE(R) + β · KL(teacher ‖ student) on R

with both distributions at temperature T and the divergence times T². The teacher is the model to start from.
Source: Kurmanji et al. 2023 (arXiv 2302.09880).

Deviations from the source's code: `max_epochs` counts the epochs with a max pass. The source's `msteps` does not
always: its scrub.py counts epochs from 0 and tests `epoch <= msteps`, so it makes msteps + 1 max passes (its notebooks
count from 1 and make msteps). With the 5 epochs and msteps = 4 of arXiv 2410.16516, counted from 0, every epoch has
one; here the last has none. The learning rate falls to 0 instead of staying constant in a run this short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from unmem.errors import UserError, not_negative, whole_number
from unmem.training import Batch, Objective, Observer, Pass, cross_entropy
from unmem.unlearning.batches import answers
from unmem.unlearning.losses import divergence
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class SCRUB(GradientUnlearner):
    """Move away from the original on the forget set and stay close to it on the retain set, in turn.

    The defaults are those of arXiv 2410.16516 (5 epochs, 4 of them with a max pass, a twentieth of the original's peak
    rate) and of the source's code (gamma 0.99, beta 0.001, temperature 4).

    Attributes:
        epochs: Number of min passes, over the retain set.
        max_epochs: Number of epochs, from the first, that begin with a max pass over the forget set. None is all but
            the last.
        gamma: Weight of the cross-entropy on the retain set.
        beta: Weight of the divergence on the retain set.
        temperature: Temperature of both distributions.
    """

    name: ClassVar[str] = "scrub"
    lr_share: ClassVar[float] = 0.05
    epochs: int | None = 5
    max_epochs: int | None = None
    gamma: float = 0.99
    beta: float = 0.001
    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_epochs is not None:
            self._check_max_epochs(self.max_epochs)
        not_negative("gamma", self.gamma, "give one such as 0.99")
        not_negative("beta", self.beta, "give one such as 0.001")
        if not self.temperature > 0:
            raise UserError("temperature", self.temperature, "must be positive", "give one such as 4")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        model = problem.model if start is None else start
        last = self.epochs_for(problem)
        first = max(1, last - 1) if self.max_epochs is None else self.max_epochs
        recipe = problem.recipe
        away = Pass(problem.forget, self._max_step(answers(model, problem.forget, recipe)))
        close = Pass(problem.retain, self._min_step(answers(model, problem.retain, recipe), recipe.label_smoothing))
        epochs = [[away, close] if epoch < first else [close] for epoch in range(last)]
        return self.run_epochs(problem, epochs, seed=seed, start=start, observers=observers)

    def effort(self, problem: Problem) -> float:
        return 1 + len(problem.forget) / len(problem.retain)

    def _check_max_epochs(self, value: int) -> None:
        whole_number("max_epochs", value)
        if value < 0 or (self.epochs is not None and value > self.epochs):
            raise UserError("max_epochs", value, f"the number of epochs is {self.epochs}", "give no more than that")

    def _max_step(self, teacher: Callable[[Batch], Tensor]) -> Objective:
        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits: Tensor = model(batch.inputs)
            return -divergence(teacher(batch), logits, self.temperature), logits

        return objective

    def _min_step(self, teacher: Callable[[Batch], Tensor], smoothing: float) -> Objective:
        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            loss, logits = cross_entropy(model, batch, smoothing)
            close = divergence(teacher(batch), logits, self.temperature)
            return self.gamma * loss + self.beta * close, logits

        return objective
