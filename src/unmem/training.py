"""The one training loop. Everything that is trained, fine-tuned or unlearned here goes through `fit`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unmem import models
from unmem.augmentation import augmented, draw_views
from unmem.data import Examples
from unmem.errors import DivergedError, UserError
from unmem.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """A batch of the training loop.

    Attributes:
        index: [B] int64, positions in the examples of this pass.
        inputs: [B, ...] as the model takes them.
        labels: [B] int64.
    """

    index: Tensor
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Step:
    """One optimizer step, as observers see it.

    Attributes:
        epoch: Number of the epoch, from 0.
        batch: The batch.
        logits: [B, C], from the forward pass before the step.
        loss: Scalar loss of that forward pass.
        lr: Learning rate of the step.
    """

    epoch: int
    batch: Batch
    logits: Tensor
    loss: Tensor
    lr: float


class Observer:
    """Base class for objects that watch a run of `fit`. Every method does nothing by default.

    An observer must not change the model or draw random numbers from PyTorch's global generator.
    """

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        """Called before the first step, with the examples of the last pass of the first epoch, and the recipe."""

    def on_pass(self, examples: Examples) -> None:
        """Called before each pass. Until the next call, `batch.index` counts positions in `examples`.

        An epoch of a training has one pass. An unlearner may have several in an epoch, over different examples.
        """

    def on_step(self, step: Step) -> None:
        """Called after each optimizer step."""

    def on_epoch(self, epoch: int, model: nn.Module) -> bool | None:
        """Called after each epoch, counted from 0. Return True to end the run."""


class Recorder(Observer):
    """An observer whose records can be restored, so that a run stopped after the training can continue.

    Attributes:
        keeps: Names of the attributes that hold the records: tensors and numbers, which `on_start` sets.
    """

    keeps: ClassVar[tuple[str, ...]] = ()

    def recorded_state(self) -> dict[str, NDArray[Any]]:
        """Return all records as arrays, by attribute name."""
        values = {name: getattr(self, name) for name in self.keeps}
        return {name: np.asarray(v.cpu().numpy() if isinstance(v, Tensor) else v) for name, v in values.items()}

    def take_up(self, examples: Examples, recipe: Recipe, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore records, as if this object had watched the training of `examples` by `recipe`.

        Args:
            examples: The examples that were trained on.
            recipe: The recipe of that training.
            state: The `recorded_state` of the recorder that watched it.

        Raises:
            KeyError, RuntimeError: The state belongs to something else.
        """
        self.on_start(examples, recipe)
        for name in self.keeps:
            now = getattr(self, name)
            if isinstance(now, Tensor):
                now.copy_(torch.from_numpy(state[name]))
            else:
                setattr(self, name, type(now)(state[name]))


# What to keep of logits [n, C] and labels [n].
Keep = Callable[[Tensor, Tensor], Sequence[Tensor]]

LOGITS = 2**22  # logits held at once where only numbers per example are kept of them: 16 MB

# What a step minimises: (model, batch) -> (loss, logits of the batch).
Objective = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]


def cross_entropy(model: nn.Module, batch: Batch, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of a batch, with label smoothing, and the logits [B, C]."""
    logits = model(batch.inputs)
    return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing), logits


@dataclass(frozen=True)
class Pass:
    """One pass over some examples.

    Attributes:
        examples: The examples; each is visited once.
        objective: The loss to minimise. None is cross-entropy with the recipe's label smoothing.
    """

    examples: Examples
    objective: Objective | None = None


def train(
    recipe: Recipe, examples: Examples, *, seed: int | None = None, observers: Sequence[Observer] = ()
) -> nn.Module:
    """Train a new model.

    Args:
        recipe: How to train it.
        examples: The training set. The model is trained on its device.
        seed: Seed of the weights, the order of examples and the augmentation. None uses that of the recipe.
        observers: Objects that watch the training.

    Returns:
        The model, in evaluation mode.

    Raises:
        DivergedError: The loss or a weight became NaN or infinite.
    """
    seed = recipe.seed if seed is None else seed
    model = models.build(recipe.model, examples.input_shape, examples.n_classes, seed=seed, base=recipe.base)
    return fit(model.to(examples.device), examples, recipe, seed=seed, observers=observers)


def fit(
    model: nn.Module,
    examples: Examples,
    recipe: Recipe,
    *,
    seed: int,
    objective: Objective | None = None,
    observers: Sequence[Observer] = (),
    project: Callable[[], None] | None = None,
) -> nn.Module:
    """Train an existing model in place, for the epochs of a recipe.

    Args:
        model: The model, which is changed.
        examples: The examples to train on.
        recipe: How to train.
        seed: Seed of the order of examples, the augmentation and dropout.
        objective: The loss to minimise. None is cross-entropy with the recipe's label smoothing.
        observers: Objects that watch the training.
        project: Called after each optimizer step, for example to move parameters back into an allowed set.

    Returns:
        The same model, in evaluation mode.

    Raises:
        DivergedError: The loss or a weight became NaN or infinite.
        UserError: Every parameter is frozen.
    """
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
    """Train a model in place with the passes given for each epoch, under one optimizer and one learning-rate schedule.

    Only parameters that require gradients change. Frozen batch-norm layers keep their running statistics (see
    `is_frozen_batchnorm`).

    Args:
        model: The model, which is changed.
        epochs: The passes of each epoch.
        recipe: How to train.
        seed: Seed of the order of examples, the augmentation and dropout.
        observers: Objects that watch the training.
        project: Called after each optimizer step, for example to apply SalUn's mask.

    Returns:
        The same model, in evaluation mode.

    Raises:
        DivergedError: The loss or a weight is not finite after an epoch. The error has the state before that epoch.
        UserError: Every parameter is frozen.
    """
    if epochs and epochs[0][-1].examples.inputs.ndim == 4:  # images: convolutions run faster with the channels last
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in its annotations)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UserError("model", None, "every parameter is frozen", "leave some with requires_grad")
    optimizer = _optimizer(parameters, recipe)
    run = _compiled(model, recipe)
    total = sum(steps_per_epoch(recipe, one.examples) for passes in epochs for one in passes)
    done = 0
    for observer in observers:
        if epochs:
            observer.on_start(epochs[0][-1].examples, recipe)
    device = parameters[0].device
    last_good = _LastGood(model)
    with _seeded(seed, device) as order, single_values(model):
        for epoch, passes in enumerate(epochs):
            last_good.keep()
            _training_mode(model)
            losses = torch.zeros((), device=device)
            for objective, batch in _steps(passes, recipe, order, observers):
                optimizer.param_groups[0]["lr"] = lr = recipe.lr_at(done / total)
                with autocast(recipe, batch.inputs):
                    loss, logits = objective(run, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if project is not None:
                    project()
                losses += loss.detach()
                done += 1
                for observer in observers:
                    observer.on_step(Step(epoch, batch, logits.detach(), loss.detach(), lr))
            _check_finite(losses, parameters, epoch, recipe, last_good.state)
            stops = [observer.on_epoch(epoch, model) for observer in observers]
            if any(stops):
                break
    optimizer.zero_grad()  # a finished model should not carry the gradients of its last step
    return model.eval()


def _steps(
    passes: Sequence[Pass], recipe: Recipe, order: torch.Generator, observers: Sequence[Observer]
) -> Iterator[tuple[Objective, Batch]]:
    usual: Objective = partial(cross_entropy, smoothing=recipe.label_smoothing)
    for one in passes:
        for observer in observers:
            observer.on_pass(one.examples)
        for batch in _epoch(one.examples, recipe, order):
            yield one.objective or usual, batch


def _epoch(examples: Examples, recipe: Recipe, order: torch.Generator) -> Iterator[Batch]:
    """The batches of one epoch, augmented as the recipe says."""
    if recipe.augment == "none":
        yield from batches(examples, recipe, order)
        return
    draws = _draws(len(examples), examples, recipe, order)
    for batch in batches(examples, recipe, order):
        yield _view(batch, draws[batch.index], examples)


def views(found: Iterable[Batch], examples: Examples, recipe: Recipe, random: torch.Generator) -> Iterator[Batch]:
    """Augment batches that come from outside the loop, as the loop augments its own.

    Args:
        found: Batches of `examples`.
        examples: The examples.
        recipe: Its `augment` is used.
        random: Generator on the CPU, from which each batch draws.

    Returns:
        The augmented batches.
    """
    for batch in found:
        if recipe.augment == "none":
            yield batch
        else:
            yield _view(batch, _draws(len(batch.index), examples, recipe, random), examples)


def _draws(n: int, examples: Examples, recipe: Recipe, random: torch.Generator) -> Tensor:
    if len(examples.input_shape) != 3:
        raise UserError("augment", recipe.augment, f"the inputs are no images: {examples.input_shape}", "use none")
    return draw_views(n, recipe.augment, examples.input_shape, random).to(examples.device)


def _view(batch: Batch, draws: Tensor, examples: Examples) -> Batch:
    shift = 0.0 if examples.scaling is None else examples.scaling.shift  # what a stored 0 becomes
    black = torch.as_tensor(shift, dtype=torch.float32, device=examples.device)
    return replace(batch, inputs=augmented(batch.inputs, draws, black))


def steps_per_epoch(recipe: Recipe, examples: Examples) -> int:
    return math.ceil(len(examples) / recipe.batch_size)


def batches(examples: Examples, recipe: Recipe, order: torch.Generator) -> Iterator[Batch]:
    """Yield the batches of one epoch: every example once, in random order.

    The sizes of the batches differ by at most one, because a small last batch would skew batch-norm statistics.
    """
    permutation = torch.randperm(len(examples), generator=order).to(examples.device)
    for found in examples.batches(permutation.tensor_split(steps_per_epoch(recipe, examples))):
        yield Batch(*found)


@torch.inference_mode()
def predict(model: nn.Module, examples: Examples, *, batch_size: int | None = None) -> Tensor:
    """Compute the logits of a model.

    Args:
        model: The model. It is evaluated in evaluation mode and then returned to its own mode.
        examples: N examples.
        batch_size: Examples per forward pass. None chooses a size that suits the device.

    Returns:
        [N, C] float32 logits, in the order of `examples`, on their device.
    """
    rows = _Rows(len(examples))
    with evaluating(model):
        for inputs, _ in _in_order(examples, batch_size or evaluation_batch(examples)):
            rows.add([model(inputs).float()])
    return rows.whole[0] if rows.whole else torch.zeros(0, examples.n_classes, device=examples.device)


@torch.inference_mode()
def predicted(model: nn.Module, examples: Examples, keep: Keep) -> tuple[Tensor, ...]:
    """Reduce the logits of `predict`, without holding the logits of all examples at once.

    Args:
        model: The model. It is evaluated in evaluation mode and then returned to its own mode.
        examples: N examples.
        keep: Called with the logits [n, C] and labels [n] of n examples at a time, in their order. Returns tensors
            [n, …].

    Returns:
        The concatenated tensors, [N, …] each.
    """
    size = evaluation_batch(examples)
    most = max(size, LOGITS // max(1, examples.n_classes))
    rows = _Rows(len(examples))
    waiting: list[Tensor] = []
    with evaluating(model):
        for inputs, done in _in_order(examples, size):
            waiting.append(model(inputs).float())
            start = rows.filled
            if done - start + size > most or done == len(examples):
                rows.add(keep(torch.cat(waiting), examples.labels[start:done]))
                waiting = []
    if rows.whole:
        return tuple(rows.whole)
    return tuple(keep(torch.zeros(0, examples.n_classes, device=examples.device), examples.labels))


def _in_order(examples: Examples, size: int) -> Iterator[tuple[Tensor, int]]:
    """Inputs of a batch at a time, and how many examples have come with it."""
    everything = torch.arange(len(examples), device=examples.device)
    done = 0
    for _, inputs, _ in examples.batches(everything.split(size) if len(examples) else ()):
        done += len(inputs)
        yield inputs, done


class _Rows:
    """Tensors [N, …] that are filled a few rows at a time.

    Their memory is allocated once. Small tensors kept between large temporary ones would fragment the heap.
    """

    def __init__(self, n: int) -> None:
        self._n, self.filled = n, 0
        self.whole: list[Tensor] = []

    def add(self, rows: Sequence[Tensor]) -> None:
        if not self.whole:
            self.whole = [one.new_empty((self._n, *one.shape[1:])) for one in rows]
        end = self.filled + len(rows[0])
        for whole, part in zip(self.whole, rows, strict=True):
            whole[self.filled : end] = part
        self.filled = end


def evaluation_batch(examples: Examples) -> int:
    """Return a batch size for evaluation: on a CPU one that fits the caches, on a GPU one that keeps it busy."""
    return 128 if examples.device.type == "cpu" else 2048


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluate inside the block; afterwards each module returns to its own mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def is_frozen_batchnorm(layer: nn.Module) -> bool:
    """Whether `layer` is a batch-norm layer whose weight and bias are all frozen (`requires_grad` is False).

    Such a layer stays in evaluation mode: it normalises by its running statistics and leaves them as they are. Only
    `requires_grad` counts, not the mode that a layer was left in, because every finished model is in evaluation mode. A
    layer without weight and bias cannot be frozen.
    """
    own = list(layer.parameters(recurse=False))
    return is_batchnorm(layer) and bool(own) and not any(parameter.requires_grad for parameter in own)


def is_batchnorm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]


@contextmanager
def single_values(model: nn.Module) -> Generator[None]:
    """Inside the block, a batch-norm layer that is given one value per channel uses its running statistics.

    The variance of a single value does not exist, so PyTorch refuses it: a batch of one example, where a layer sees no
    pixels beside each other. The layer leaves its running statistics as they are in such a step.
    """
    paused: list[nn.Module] = []

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if layer.training and getattr(layer, "running_mean", None) is not None and x.numel() == x.shape[1]:
            layer.training = False
            paused.append(layer)

    def after(layer: nn.Module, *_: object) -> None:
        if paused and paused[-1] is layer:
            paused.pop().training = True

    handles = [
        handle
        for layer in model.modules()
        if is_batchnorm(layer)
        for handle in (layer.register_forward_pre_hook(before), layer.register_forward_hook(after, always_call=True))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _training_mode(model: nn.Module) -> None:
    model.train()
    for layer in model.modules():
        if is_frozen_batchnorm(layer):
            layer.eval()


def autocast(recipe: Recipe, inputs: Tensor) -> torch.autocast:
    """Return the autocast context for a recipe and inputs like these."""
    bf16 = precision_for(recipe, inputs.device, images=inputs.ndim == 4) == "bf16"
    return torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=bf16)


def precision_for(recipe: Recipe, device: torch.device, *, images: bool) -> Literal["fp32", "bf16"]:
    """Return the precision that `auto` stands for. Hardware that emulates bf16 trains six times slower with it."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if images and device.type == "cpu" and cpu_has_bf16() else "fp32"


@cache
def cpu_has_bf16() -> bool:
    """Whether the CPU has bf16 instructions, as far as PyTorch reports it."""
    ask: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return any(bool(ask().get(name)) for name in ("avx512_bf16", "amx_bf16"))


def _optimizer(parameters: Sequence[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    # Fused: one call for all parameters, twice to three times as fast as one for each (docs/scale.md).
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        return torch.optim.AdamW(parameters, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def _compiled(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The same parameters behind compiled kernels, if the recipe asks for them. Batches come in two sizes."""
    return torch.compile(model, dynamic=False) if recipe.compile == "on" else model  # pyright: ignore


class _LastGood:
    """A copy of the model's state before an epoch, in the same memory for every epoch."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.state: dict[str, Any] = copy.deepcopy(model.state_dict())

    @torch.no_grad()
    def keep(self) -> None:
        now: dict[str, Any] = self._model.state_dict()
        tensors = [key for key, value in now.items() if isinstance(value, Tensor)]
        torch._foreach_copy_([self.state[key] for key in tensors], [now[key] for key in tensors])  # pyright: ignore
        self.state |= {key: copy.deepcopy(now[key]) for key in now.keys() - set(tensors)}  # extra state of layers


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
