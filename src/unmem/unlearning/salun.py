"""SalUn: random labels for the forget set, learned only by the weights on which its loss depends most.

    mask = the share of weights with the largest |∇θ CE(S)|;  random label, moving only weights in the mask

Source: Fan et al. 2024 (arXiv 2310.12508).

Deviations: weights outside the mask keep their values exactly, as in newer versions of the source's code; older ones
mask gradients only, so that momentum and weight decay still move them. The code of arXiv 2406.01257 ranks |∇CE(S)| in
ascending order and keeps the first ranks, so its mask holds the weights with the *smallest* gradients: at a share of
0.5, the complement of this mask. It also takes an ascent step after each batch while it sums the gradient; here the
model stays fixed. The source trains on S and R in turn on CIFAR-10; here batches mix both. Labels, schedule and epochs
differ as in random_label.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.data import Examples
from unmem.errors import UserError
from unmem.training import Observer, evaluating, evaluation_batch
from unmem.unlearning.problem import Problem
from unmem.unlearning.random_label import wrong_labels
from unmem.unlearning.unlearner import GradientUnlearner, Projection


@dataclass(frozen=True, kw_only=True)
class SalUn(GradientUnlearner):
    """Train on random wrong labels for the forget set, changing only the weights that matter most to it.

    The defaults are half of the weights, as in the source, and 5 epochs at the original's peak rate, as for random
    label.

    Attributes:
        epochs: Passes over the training set.
        share: Share of all trainable weights that may change, in (0, 1].
    """

    name: ClassVar[str] = "salun"
    epochs: int = 5
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise UserError("share", self.share, "the share of weights lies in (0, 1]", "give one such as 0.5")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        model = problem.model if start is None else start
        return self.run(
            problem,
            seed=seed,
            start=start,
            objective=wrong_labels(problem, seed=seed),
            examples=problem.data.train,
            project=keep_outside(
                saliency_mask(model, problem.forget, self.share, smoothing=problem.recipe.label_smoothing), model
            ),
            observers=observers,
        )

    def effort(self, problem: Problem) -> float:
        return len(problem.data.train) / len(problem.retain)


def saliency_mask(model: nn.Module, forget: Examples, share: float, *, smoothing: float = 0.0) -> dict[str, Tensor]:
    """Return, per trainable parameter, booleans of its shape: the `share` of all weights with the largest |∇CE(S)|."""
    gradient = mean_gradient(model, forget, smoothing=smoothing)
    size = torch.cat([g.abs().flatten() for g in gradient.values()])
    chosen = torch.zeros_like(size, dtype=torch.bool)
    chosen[size.topk(max(1, round(share * len(size)))).indices] = True
    pieces = chosen.split([g.numel() for g in gradient.values()])
    return {name: piece.view_as(g) for (name, g), piece in zip(gradient.items(), pieces, strict=True)}


def mean_gradient(model: nn.Module, examples: Examples, *, smoothing: float = 0.0) -> dict[str, Tensor]:
    """Return, per trainable parameter, the gradient of the mean cross-entropy over the examples, in evaluation mode.

    `smoothing` is the label smoothing with which the original was trained.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    everything = torch.arange(len(examples), device=examples.device)
    with evaluating(model):
        for _, inputs, labels in examples.batches(everything.split(evaluation_batch(examples))):
            total_loss = F.cross_entropy(model(inputs), labels, reduction="sum", label_smoothing=smoothing)
            loss = total_loss / len(examples)
            gradients: Any = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient
    return total


def keep_outside(mask: dict[str, Tensor], original: nn.Module) -> Projection:
    """Return a projection that resets the weights outside the mask to their values in `original` after each step."""
    values = {name: p.detach().clone() for name, p in original.named_parameters() if name in mask}

    @torch.no_grad()
    def project(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name in mask:
                parameter.copy_(torch.where(mask[name], parameter, values[name]))

    return project
