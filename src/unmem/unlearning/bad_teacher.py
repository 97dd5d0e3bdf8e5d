"""Bad Teacher: imitate the original on the retain set and an untrained network on the forget set.

    minimise  mean over R' ∪ S of KL(t_i ‖ student),  t_i by the original on R', by a random network on S

Source: Chundawat et al. 2023 (arXiv 2205.08096), with R' a random share of the retain set.

Deviations from the source's code: the original's optimizer for 5 epochs, with a learning rate that falls to 0, instead
of one epoch of Adam at a constant 1e-4; the divergence is the mean over examples, whereas the source also divides by
the number of classes (which has no effect with Adam, but would with SGD).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import stratified_sample
from unmem.errors import UserError
from unmem.training import Batch, Observer
from unmem.unlearning.batches import answers
from unmem.unlearning.losses import divergence
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import GradientUnlearner


@dataclass(frozen=True, kw_only=True)
class BadTeacher(GradientUnlearner):
    """Imitate the original on the retain set and an untrained network on the forget set.

    The defaults are the source's 30% of the retain set, and 5 epochs over it and the forget set at a tenth of the
    original's peak rate, because the targets of the forget set are far from the model's predictions.

    Attributes:
        epochs: Passes over the sampled retain set and the forget set.
        retain_share: Share of the retain set that is imitated, in (0, 1].
    """

    name: ClassVar[str] = "bad-teacher"
    lr_share: ClassVar[float] = 0.1
    epochs: int = 5
    retain_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.retain_share <= 1:
            raise UserError("retain_share", self.retain_share, "lies in (0, 1]", "give one such as 0.3")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        model = problem.model if start is None else start
        kept = stratified_sample(problem.retain, max(1, round(self.retain_share * len(problem.retain))), seed=seed)
        train = problem.data.train
        examples = train.at(np.sort(train.positions(np.concatenate([kept.ids, problem.forget.ids]))))
        good, bad = (answers(teacher, examples, problem.recipe) for teacher in (model, ignorant(model, seed=seed)))
        forgotten = torch.zeros(len(examples), 1, dtype=torch.bool, device=examples.device)
        forgotten[torch.as_tensor(examples.positions(problem.forget.ids), device=examples.device)] = True

        def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
            logits: Tensor = model(batch.inputs)
            return divergence(torch.where(forgotten[batch.index], bad(batch), good(batch)), logits), logits

        return self.run(problem, seed=seed, start=start, objective=objective, examples=examples, observers=observers)

    def effort(self, problem: Problem) -> float:
        return self.retain_share + len(problem.forget) / len(problem.retain)


def ignorant(model: nn.Module, *, seed: int) -> nn.Module:
    """Return a copy with new random weights. Layers without an initialisation have their weights shuffled."""
    new = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer in new.modules():
            fresh: Any = getattr(layer, "reset_parameters", None)
            if callable(fresh):
                fresh()
            else:
                for parameter in layer.parameters(recurse=False):
                    order = torch.randperm(parameter.numel(), device=parameter.device)
                    parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return new
