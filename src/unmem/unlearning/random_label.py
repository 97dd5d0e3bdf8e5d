"""Random label: train on all data, with random wrong labels for the forget set.

    minimise  CE on R ∪ S,  y_i for i in S drawn anew at each visit, uniformly from the classes other than its own

Source: Golatkar et al. 2020 (arXiv 1911.04933); Graves et al. 2021 (arXiv 2010.10981).

Deviations from the code of arXiv 2310.12508 and 2406.01257: that code draws from all classes, so one label in C stays
right; here the true class is excluded. With two classes the drawn label is therefore always the other one, and repeated
visits teach it as a fixed wrong label. The learning rate falls to 0 instead of staying constant, and the default is 5
epochs instead of 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.training import Batch, Objective, Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class RandomLabel(GradientUnlearner):
    """Train on all data, with random wrong labels for the forget set.

    The default is 5 epochs at the original's peak rate, the papers' lower end (5 to 10 epochs at 0.1). Labels are
    redrawn at each visit, as the source's code does each epoch; with fixed wrong labels the model would memorize them
    instead of becoming unsure.

    Attributes:
        epochs: Passes over the training set.
    """

    name: ClassVar[str] = "random-label"
    epochs: int = 5

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        objective = wrong_labels(problem, seed=seed)
        return self.run(
            problem,
            seed=seed,
            start=start,
            objective=objective,
            examples=problem.data.train,
            observers=observers,
        )

    def effort(self, problem: Problem) -> float:
        return len(problem.data.train) / len(problem.retain)


def wrong_labels(problem: Problem, *, seed: int) -> Objective:
    """Return the cross-entropy on batches of R ∪ S, with random wrong labels for the examples of S."""
    train = problem.data.train
    forgotten = torch.zeros(len(train), dtype=torch.bool, device=train.device)
    forgotten[torch.as_tensor(train.positions(problem.forget.ids), device=train.device)] = True
    random = torch.Generator().manual_seed(seed)

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits: Tensor = model(batch.inputs)
        shift = torch.randint(1, train.n_classes, batch.labels.shape, generator=random).to(train.device)
        other = (batch.labels + shift) % train.n_classes
        labels = torch.where(forgotten[batch.index], other, batch.labels)
        return F.cross_entropy(logits, labels, label_smoothing=problem.recipe.label_smoothing), logits

    return objective
