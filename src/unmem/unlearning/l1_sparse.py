"""L1-sparse: fine-tune on the retain set with an L1 penalty that decreases to 0.

    minimise  CE(R) + γ_t · ‖θ‖₁,   γ_t falling linearly from γ to 0 over the run

Source: Jia et al. 2023 (arXiv 2304.04934): sparser models forget more easily.

Deviations from the source's code: the penalty falls from step to step instead of from epoch to epoch; the learning rate
falls to 0 instead of staying constant, and its peak is ten times as high (the original's own instead of a tenth of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from unmem.errors import not_negative
from unmem.training import Batch, Observer, cross_entropy, steps_per_epoch
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class L1Sparse(GradientUnlearner):
    """Train on the retain set with an L1 penalty that decreases to 0.

    The default is 10 epochs at the original's peak rate, as for fine-tuning.

    Attributes:
        epochs: Passes over the retain set.
        gamma: Weight of the penalty at the first step, on all trainable parameters. None is the original's weight decay
            (5e-4 in the papers, for both).
    """

    name: ClassVar[str] = "l1-sparse"
    epochs: int = 10
    gamma: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma is not None:
            not_negative("gamma", self.gamma, "give one such as 5e-4")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        gamma = problem.recipe.weight_decay if self.gamma is None else self.gamma
        last = max(1, self.epochs_for(problem) * steps_per_epoch(problem.recipe, problem.retain) - 1)
        step = count()

        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            loss, logits = cross_entropy(model, batch, problem.recipe.label_smoothing)
            norm = torch.stack([p.abs().sum() for p in model.parameters() if p.requires_grad]).sum()
            return loss + gamma * (1 - next(step) / last) * norm, logits

        return self.run(problem, seed=seed, start=start, objective=objective, observers=observers)

    def stronger(self, problem: Problem, factor: float) -> Self:
        gamma = problem.recipe.weight_decay if self.gamma is None else self.gamma
        return replace(self, gamma=factor * gamma)
