"""Quick checks before a long run: whether a network accepts the inputs, returns logits and can be trained.

They report a mistake in a network within a second and as a readable error instead of a late traceback.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unmem import models
from unmem.data import Examples
from unmem.errors import Phrase, UserError, out_of_memory
from unmem.recipe import Recipe
from unmem.training import autocast, predict, single_values

N_CHECKED = 32  # examples to check: enough to distinguish probabilities from logits
_TOLERANCE = 1e-2  # rounding error of the logits of an example, relative to the standard deviation of all logits
_FACTOR = 100.0  # for the last layer, to distinguish a sigmoid from small logits
_SUM_TOLERANCE = 1e-3  # largest deviation of a sum of probabilities from 1
_FAULTS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, KeyError, AttributeError)


def rehearse(recipe: Recipe, examples: Examples) -> None:
    """Build the network of a recipe and compute training steps with two examples and with one; discard the network.

    Raises:
        UserError: The network cannot be trained on these examples.
    """
    shape, classes = examples.input_shape, examples.n_classes
    model = models.build(recipe.model, shape, classes, seed=0).to(examples.device)
    check_outputs(model, examples, value=recipe.model)
    few = examples.at(sample_positions(examples, 2))
    for count in (2, 1):
        batch = few.at(np.arange(min(count, len(few))))
        _try(partial(_step, model, batch, recipe), batch, recipe.model, "in training mode")
    models.check_state(model, recipe.model)


def check_outputs(model: nn.Module, examples: Examples, *, field: str = "model", value: str | None = None) -> None:
    """Check that a model accepts the inputs and returns logits that do not depend on the rest of the batch.

    Raises:
        UserError: The model fails a check. Its field and value are those given.
    """
    some = examples.at(sample_positions(examples, N_CHECKED))
    logits = _try(lambda: predict(model, some), some, value, "", field)
    if logits.ndim != 2 or logits.shape[1] < examples.n_classes:
        named = Phrase(f"with outputs of shape {tuple(logits.shape[1:])}") if value is None else value
        problem = f"labels go up to {examples.n_classes - 1}, which needs {examples.n_classes} outputs"
        if value is not None:
            problem = f"gives outputs of shape {tuple(logits.shape[1:])}, but {problem}"
        raise UserError(field, named, problem, "use a network with an output for each class")
    _check_logits(model, some, logits, field, value)
    _check_independence(model, some, logits, field, value)


def _check_logits(model: nn.Module, some: Examples, logits: Tensor, field: str, value: str | None) -> None:
    """Reject probabilities, which every loss, score and attack would treat as logits."""
    if not logits.amax(1).isfinite().all():
        fix = "check its weights, and whether the inputs have the scaling that it was trained with"
        raise UserError(field, value, "gives NaN or infinity for some of the training examples", fix)
    if not _within_one(logits):
        return
    if float((logits.sum(1) - 1).abs().max()) < _SUM_TOLERANCE:
        problem, layer = "gives probabilities that sum to 1, not logits", "softmax"
    elif _bounded(model, some):
        problem, layer = "gives numbers between 0 and 1 only, not logits", "sigmoid"
    else:
        return
    fix = f"return what goes into the {layer}: take it out of the network, whose weights stay as they are"
    raise UserError(field, value, problem, fix)


def _within_one(logits: Tensor) -> bool:
    return float(logits.min()) >= 0 and float(logits.max()) <= 1 + _SUM_TOLERANCE


@torch.no_grad()
def _bounded(model: nn.Module, some: Examples) -> bool:
    """Return whether the outputs stay in [0, 1] after multiplying the weights of the last layer by `_FACTOR`.

    Logits would leave the interval, even if they are between 0 and 1 by chance.
    """
    large = copy.deepcopy(model)
    layers = [own for layer in large.modules() if (own := list(layer.parameters(recurse=False)))]
    for parameter in layers[-1] if layers else ():
        parameter.mul_(_FACTOR)
    found = predict(large, some)
    return _within_one(found) and bool((found > 0).any())  # a head of zeros, or with a final ReLU, may return zeros


def _check_independence(model: nn.Module, some: Examples, logits: Tensor, field: str, value: str | None) -> None:
    """Reject a model whose output for an example depends on the other examples of the batch."""
    if len(some) < 4:
        return
    half = len(some) // 2
    halves = torch.cat([predict(model, some.at(part)) for part in (np.arange(half), np.arange(half, len(some)))])
    allowed = _TOLERANCE * (float(logits.std()) + 1e-6)
    if _differ(halves, logits, allowed) and not _differ(predict(model, some), logits, allowed):
        layers = _without_statistics(model)
        which = f" ({layers[0]!r} keeps no running statistics)" if layers else ""
        problem = f"answers the same example otherwise when others share its batch{which}"
        fix = "use batch norm with track_running_stats, or group norm"
        raise UserError(field, value, problem, fix)


def _differ(first: Tensor, second: Tensor, allowed: float) -> bool:
    return float((first - second).abs().max()) > allowed


def _without_statistics(model: nn.Module) -> list[str]:
    """Return names of batch-norm layers that use batch statistics even in evaluation mode."""
    kinds = (nn.modules.batchnorm._BatchNorm,)  # pyright: ignore[reportPrivateUsage]
    named: Iterable[tuple[str, nn.Module]] = model.named_modules()
    return [name for name, layer in named if isinstance(layer, kinds) and layer.running_mean is None]


def _step(model: nn.Module, examples: Examples, recipe: Recipe) -> Tensor:
    """Compute the gradients of a batch in training mode, as in `fit`, without changing the weights."""
    model.train()
    everything = torch.arange(len(examples), device=examples.device)
    _, inputs, labels = next(iter(replace(examples, marks=None).batches([everything])))
    try:
        with single_values(model), torch.random.fork_rng(devices=[]), autocast(recipe, inputs):
            logits = models.logits_of(model(inputs))
            F.cross_entropy(logits, labels).backward()
        return logits
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()


def _try(work: Callable[[], Tensor], examples: Examples, value: str | None, when: str, field: str = "model") -> Tensor:
    """Run `work`, and convert errors of PyTorch to a `UserError` about the network."""
    try:
        return work()
    except UserError as error:
        if error.value is None and value is not None:
            raise UserError(field, value, error.problem, error.fix) from error
        raise
    except _FAULTS as error:
        if out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        problem = f"it cannot take inputs of shape {examples.input_shape}{' ' * bool(when)}{when} ({reason})"
        raise UserError(field, value, problem, _fix(error)) from error


def _fix(error: Exception) -> str:
    message = str(error)
    if isinstance(error, TypeError) and "forward()" in message and "argument" in message:
        return "give it a forward that takes the inputs alone"
    if any(word in message for word in ("size", "shape", "height", "width", "Height", "dimension", "channels")):
        return "use a network for inputs of this shape, or pass the --size, --grey or --rgb that it takes"
    return "use the model that was trained on these data, or call it by hand to see why"


def sample_positions(examples: Examples, count: int) -> NDArray[np.int64]:
    """Return the positions of the first examples and of the one with the largest token id, a test of the vocabulary."""
    found = set(range(min(count, len(examples))))
    if examples.scaling is None and not examples.inputs.dtype.is_floating_point:
        found.add(int(examples.inputs[:].flatten(1).amax(1).argmax()))
    return np.array(sorted(found))
