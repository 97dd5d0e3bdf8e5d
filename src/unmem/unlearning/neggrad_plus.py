"""NegGrad+: descend on the retain set and ascend on the forget set at once.

    minimise  α · CE(R) − (1 − α) · CE(S)

Source: Kurmanji et al. 2023 (arXiv 2302.09880); settings from arXiv 2410.16516.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.data import Examples
from unmem.errors import UserError
from unmem.training import Batch, Observer
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class NegGradPlus(GradientUnlearner):
    """alpha: weight of the retain set, in (0, 1]; the lower, the harder the push away from the forget set. None is
        |R| / |D|: every example, retained or forgotten, then weighs the same. (The papers' 0.97 to 0.99 are close to
        that for their sets, but would hardly move a model that must forget a larger share of its data.)

    Defaults: 5 epochs, as in the papers; half of the original's peak rate, since ascent at the full rate overshoots.
    """

    name: ClassVar[str] = "neggrad+"
    lr_share: ClassVar[float] = 0.5
    epochs: int = 5
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise UserError("alpha", self.alpha, "the weight of the retain set lies in (0, 1]", "give one such as 0.97")

    def __call__(
        self, model: nn.Module, problem: Problem, *, seed: int, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        alpha = self.alpha
        if alpha is None:
            alpha = len(problem.retain) / (len(problem.retain) + len(problem.forget))
        forget_batches = cycle(problem.forget, problem.recipe.batch_size, seed=seed)

        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            forget = next(forget_batches)
            # One pass over both, so that batch norm normalises them alike and its statistics see them once.
            logits: Tensor = model(torch.cat([batch.inputs, forget.inputs]))
            retained, forgotten = logits.split([len(batch.labels), len(forget.labels)])
            retain_loss = F.cross_entropy(retained, batch.labels)
            forget_loss = F.cross_entropy(forgotten, forget.labels)
            return alpha * retain_loss - (1 - alpha) * forget_loss, retained

        return self.run(model, problem, seed=seed, objective=objective, observers=observers)


def cycle(examples: Examples, batch_size: int, *, seed: int) -> Iterator[Batch]:
    """Batches without end: every example once a round, in a new random order each round."""
    order = torch.Generator().manual_seed(seed)
    chunks = -(-len(examples) // batch_size)
    for _ in count():
        permutation = torch.randperm(len(examples), generator=order).to(examples.device)
        for index in permutation.tensor_split(chunks):
            yield Batch(index, *examples.batch(index))
