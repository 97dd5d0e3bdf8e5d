"""The one training loop. Everything that is trained, fine-tuned or unlearned here goes through `fit`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmem import models
from unmem.data import Examples
from unmem.errors import DivergedError, UserError
from unmem.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """index: [B] positions in the examples of this run; inputs: [B, ...] as the model takes them; labels: [B] int64."""

    index: Tensor
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Step:
    """One optimiser step as observers see it: `logits` [B, C] and `loss` are those of the forward pass before it."""

    epoch: int
    batch: Batch
    logits: Tensor
    loss: Tensor


class Observer:
    """Watches a run of `fit`; does nothing by default. Must not touch the model or draw random numbers."""

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        """Before the first step of a run."""

    def on_step(self, step: Step) -> None:
        """After every optimiser step."""

    def on_epoch(self, epoch: int, model: nn.Module) -> bool | None:
        """After every epoch; True ends the run here."""


# What a step minimises: (model, batch) -> (loss, logits of the batch).
Objective = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]


def cross_entropy(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    logits = model(batch.inputs)
    return F.cross_entropy(logits, batch.labels), logits


@dataclass(frozen=True)
class Pass:
    """One pass over `examples`, minimising `objective`."""

    examples: Examples
    objective: Objective = cross_entropy


def train(
    recipe: Recipe, examples: Examples, *, seed: int | None = None, observers: Sequence[Observer] = ()
) -> nn.Module:
    """A new model trained from scratch on `examples`, on their device. `seed` stands in for the recipe's."""
    seed = recipe.seed if seed is None else seed
    model = models.build(recipe.model, examples.input_shape, examples.n_classes, seed=seed)
    return fit(model.to(examples.device), examples, recipe, seed=seed, observers=observers)


def fit(
    model: nn.Module,
    examples: Examples,
    recipe: Recipe,
    *,
    seed: int,
    objective: Objective = cross_entropy,
    observers: Sequence[Observer] = (),
    project: Callable[[], None] | None = None,
) -> nn.Module:
    """Train `model` in place by `recipe` and return it, in evaluation mode; the rest is as in `fit_epochs`."""
    epochs = [[Pass(examples, objective)]] * recipe.epochs
    return fit_epochs(model, epochs, recipe, seed=seed, observers=observers, project=project)


def fit_epochs(
    model: nn.Module,
    epochs: Sequence[Sequence[Pass]],
    recipe: Recipe,
    *,
    seed: int,
    observers: Sequence[Observer] = (),
    project: Callable[[], None] | None = None,
) -> nn.Module:
    """Train `model` in place, each epoch by its own passes, under one optimiser and one learning-rate schedule.

    project: called after each optimiser step, to put the parameters back where they may be (as SalUn's mask does).
    Only parameters that require gradients change. Raises `DivergedError` after an epoch whose loss or weights are not
    finite, with the state that the model had after the epoch before.
    """
    if epochs and epochs[0][-1].examples.inputs.ndim == 4:  # images: convolutions run faster with the channels last
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in its annotations)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UserError("model", None, "every parameter is frozen", "leave some with requires_grad")
    optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    total = sum(steps_per_epoch(recipe, one.examples) for passes in epochs for one in passes)
    done = 0
    for observer in observers:
        if epochs:
            observer.on_start(epochs[0][-1].examples, recipe)
    device = parameters[0].device
    with _seeded(seed, device) as order:
        for epoch, passes in enumerate(epochs):
            last_good = copy.deepcopy(model.state_dict())
            model.train()
            losses = torch.zeros((), device=device)
            for objective, batch in _steps(passes, recipe, order):
                optimizer.param_groups[0]["lr"] = recipe.lr_at(done / total)
                with autocast(recipe, device):
                    loss, logits = objective(model, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if project is not None:
                    project()
                losses += loss.detach()
                done += 1
                for observer in observers:
                    observer.on_step(Step(epoch, batch, logits.detach(), loss.detach()))
            _check_finite(losses, parameters, epoch, recipe, last_good)
            stops = [observer.on_epoch(epoch, model) for observer in observers]
            if any(stops):
                break
    optimizer.zero_grad()  # a finished model should not carry the gradients of its last step
    return model.eval()


def _steps(passes: Sequence[Pass], recipe: Recipe, order: torch.Generator) -> Iterator[tuple[Objective, Batch]]:
    for one in passes:
        for batch in batches(one.examples, recipe, order):
            yield one.objective, batch


def steps_per_epoch(recipe: Recipe, examples: Examples) -> int:
    return math.ceil(len(examples) / recipe.batch_size)


def batches(examples: Examples, recipe: Recipe, order: torch.Generator) -> Iterator[Batch]:
    """One epoch: every example once, in a random order.

    The batches are of equal size but for one example: a small last batch would skew batch-norm statistics.
    """
    permutation = torch.randperm(len(examples), generator=order).to(examples.device)
    for found in examples.batches(permutation.tensor_split(steps_per_epoch(recipe, examples))):
        yield Batch(*found)


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples, *, batch_size: int | None = None) -> Tensor:
    """Logits [N, C] in float32, in the order of `examples`, on their device; the model's mode is left as it was."""
    size = batch_size or evaluation_batch(examples)
    with evaluating(model):
        everything = torch.arange(len(examples), device=examples.device)
        return torch.cat([model(inputs).float() for _, inputs, _ in examples.batches(everything.split(size))])


def evaluation_batch(examples: Examples) -> int:
    """Examples in a batch where nothing depends on it: on a CPU what stays in its caches, on a GPU what fills it."""
    return 128 if examples.device.type == "cpu" else 2048


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode inside the block, then each module's own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The precision of the recipe. `auto`: bf16 only where a GPU has it; a CPU's gain depends on the model."""
    auto = recipe.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=auto or recipe.precision == "bf16")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Generator[torch.Generator]:
    """The order of examples from its own CPU generator (the same on every device); dropout from the global one."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def _check_finite(
    losses: Tensor, parameters: Sequence[Tensor], epoch: int, recipe: Recipe, last_good: dict[str, Tensor]
) -> None:
    """The weights too: what the last step did to them, no loss has seen."""
    if bool(torch.isfinite(losses)):
        if all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
            return
        problem = f"the weights were not finite numbers after epoch {epoch + 1}"
    else:
        problem = f"the training loss was not a finite number in epoch {epoch + 1}"
    error = DivergedError("lr", recipe.lr, problem, "use a lower rate")
    error.last_good = last_good
    raise error
