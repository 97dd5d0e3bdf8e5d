"""SSD, selective synaptic dampening: shrink the weights that matter much more to the forget set than to all data.

    where I_S > a · I_D:   θ ← min(b · I_D / I_S, 1) · θ

with I the diagonal of the empirical Fisher matrix, the mean over examples of the squared gradient of the loss.
Source: Foster et al. 2024 (arXiv 2308.07707).

Deviations from the source's code: it squares the gradient of each batch's mean loss, so its importance depends on the
batch size; here gradients are squared per example. Afterwards the running statistics of batch norm are recomputed on
the retain set, whereas the source keeps them. The loss has no label smoothing, because I measures a likelihood.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples
from unmem.errors import UserError, one_of
from unmem.training import Observer, evaluating
from unmem.unlearning.problem import Problem
from unmem.unlearning.unlearner import BatchNorm, Setting

# Per-example gradients held at once, in numbers: 256 MB of float32.
_GRADIENT_NUMBERS = 2**26


@dataclass(frozen=True, kw_only=True)
class SSD:
    """Shrink the weights that matter much more to the forget set than to all data, without training.

    The defaults are the source's. The cost is one pass over the data with per-example gradients.

    Attributes:
        a: A weight is dampened if it matters more than `a` times as much to the forget set as to all data.
        b: How strongly it is dampened; lower = more.
        batchnorm: As in `GradientUnlearner`.
    """

    name: ClassVar[str] = "ssd"
    a: float = 10.0
    b: float = 1.0
    batchnorm: BatchNorm = "recompute"

    def __post_init__(self) -> None:
        one_of("batchnorm", self.batchnorm, get_args(BatchNorm))
        for field, value in (("a", self.a), ("b", self.b)):
            if not 0 < value < math.inf:
                raise UserError(field, value, "must be a positive number", "give the source's 10 for a and 1 for b")

    def __call__(
        self, problem: Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[Observer] = ()
    ) -> nn.Module:
        new = copy.deepcopy(problem.model if start is None else start).eval()
        forget, everything = (fisher_diagonal(new, examples) for examples in (problem.forget, problem.data.train))
        with torch.no_grad():
            for name, parameter in new.named_parameters():
                if name in forget:
                    chosen = forget[name] > self.a * everything[name]
                    factor = (self.b * everything[name] / forget[name]).clamp(max=1)
                    parameter.copy_(torch.where(chosen, factor * parameter, parameter))
        if self.batchnorm == "recompute":
            recompute_batchnorm(new, problem.retain, recipe=problem.recipe)
        return new

    def cost(self, problem: Problem) -> float:
        # A gradient for each example is about three times the work of a batch's.
        return 3 * (1 + len(problem.forget) / len(problem.data.train)) / max(1, problem.recipe.epochs)

    def tuned(self, problem: Problem, setting: Setting) -> Self:
        return replace(self, a=self.a / setting.strength)


def fisher_diagonal(model: nn.Module, examples: Examples) -> dict[str, Tensor]:
    """Return, per trainable parameter, the mean squared gradient of the examples' losses, in evaluation mode."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    gradients = example_gradients(model)
    numbers = sum(p.numel() for p in parameters.values())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    index = torch.arange(len(examples), device=examples.device)
    with evaluating(model):
        chunks = index.split(max(1, min(128, _GRADIENT_NUMBERS // numbers)))
        for _, inputs, labels in examples.batches(chunks):
            for name, gradient in gradients(parameters, inputs, labels).items():
                total[name] += gradient.square().sum(0)
    return {name: value / len(examples) for name, value in total.items()}


def example_gradients(model: nn.Module) -> Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]:
    """Return a function (parameters, inputs [B, ...], labels [B]) -> per parameter, each example's gradient, [B, ...].

    It computes all at once, or one after another if the forward pass depends on the values of its inputs, as with
    padding masks.
    """

    def loss(parameters: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        logits: Any = functional_call(model, parameters, (one[None],))
        return F.cross_entropy(logits, label[None])

    def gradients(parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        try:
            return vmap(grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            each = [grad(loss)(parameters, one, label) for one, label in zip(inputs, labels, strict=True)]
            return {name: torch.stack([found[name] for found in each]) for name in parameters}

    return gradients
