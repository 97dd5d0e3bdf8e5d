"""What every unlearner is, and what those that take gradient steps share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import nn

from unmem.data import Examples
from unmem.errors import one_of
from unmem.recipe import Recipe, Schedule
from unmem.training import Objective, Observer, cross_entropy, evaluating, fit
from unmem.unlearning.problem import Problem


@runtime_checkable
class Unlearner(Protocol):
    """(model, problem) -> a new model that should behave as if never trained on `problem.forget`.

    `model` is where to start from and is left as it is; it is `problem.model` unless steps are chained, as in RUM.
    """

    name: ClassVar[str]

    def __call__(
        self, model: nn.Module, problem: Problem, *, seed: int, observers: Sequence[Observer] = ()
    ) -> nn.Module: ...


def settings_of(unlearner: Unlearner) -> dict[str, Any]:
    """The name and fields of an unlearner as plain values, for results and files."""
    describe = getattr(unlearner, "settings", None)
    fields: dict[str, Any] = describe() if describe else asdict(unlearner)  # pyright: ignore[reportArgumentType]
    return {"name": unlearner.name, **fields}


BatchNorm = Literal["recompute", "keep"]


@dataclass(frozen=True, kw_only=True)
class GradientUnlearner:
    """Unlearning by some epochs of SGD. Batch size, momentum, weight decay and precision are the original's.

    epochs: passes over the retain set. schedule: how the learning rate falls to 0.
    lr: peak learning rate; None takes `lr_share` of the original's, so that it suits the model at hand.
    batchnorm: "recompute" takes the running statistics anew from the retain set at the end, since those of the
        original carry the forget set; "keep" leaves them as training left them.
    """

    lr_share: ClassVar[float] = 1.0
    epochs: int
    lr: float | None = None
    schedule: Schedule = "cosine"
    batchnorm: BatchNorm = "recompute"

    def __post_init__(self) -> None:
        one_of("batchnorm", self.batchnorm, get_args(BatchNorm))
        Recipe(epochs=self.epochs, lr=1.0 if self.lr is None else self.lr, schedule=self.schedule)  # refuses bad values

    def recipe(self, problem: Problem) -> Recipe:
        lr = self.lr_share * problem.recipe.lr if self.lr is None else self.lr
        return replace(problem.recipe, epochs=self.epochs, lr=lr, schedule=self.schedule)

    def run(
        self,
        model: nn.Module,
        problem: Problem,
        *,
        seed: int,
        objective: Objective = cross_entropy,
        observers: Sequence[Observer] = (),
    ) -> nn.Module:
        """Epochs over the retain set on a copy of `model`, minimising `objective`."""
        new = fit(
            copy.deepcopy(model),
            problem.retain,
            self.recipe(problem),
            seed=seed,
            objective=objective,
            observers=observers,
        )
        if self.batchnorm == "recompute":
            recompute_batchnorm(new, problem.retain)
        return new


@torch.no_grad()
def recompute_batchnorm(model: nn.Module, examples: Examples, *, batch_size: int = 1024) -> None:
    """Replace the running statistics of batch norm by averages over `examples`; all else stays in evaluation mode."""
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats  # pyright: ignore
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    with evaluating(model):
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches below
        # Of equal size, so that each counts the same, and mixed: in data sorted by class each chunk would have a mean
        # of its own, and the average of their variances would miss the spread between them.
        chunks = -(-len(examples) // batch_size)
        mixed = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).to(examples.device)
        for index in mixed.tensor_split(chunks):
            model(examples.batch(index)[0])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
