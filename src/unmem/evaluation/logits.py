"""Logits, accuracy and confidence of a model on examples. Logits that do not define probabilities raise an error."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from unmem.data import Examples
from unmem.errors import NotFiniteError
from unmem.predictions import hits, label_probability
from unmem.training import Keep, predict, predicted


def model_logits(model: nn.Module, examples: Examples) -> Tensor:
    """Return logits [N, C] in float32. Some may be −∞, which means that the network rules out a class.

    Raises:
        NotFiniteError: The largest logit of an example is NaN or infinite, so its probabilities are undefined.
    """
    logits = predict(model, examples)
    _refuse(~logits.amax(1).isfinite())
    return logits


def reduced_logits(model: nn.Module, examples: Examples, keep: Keep) -> tuple[Tensor, ...]:
    """Apply `keep` to the logits batch by batch, as `predicted` does. Raise the same error as `model_logits`."""

    def kept(logits: Tensor, labels: Tensor) -> list[Tensor]:
        return [*keep(logits, labels), ~logits.amax(1).isfinite()]

    *found, bad = predicted(model, examples, kept)
    _refuse(bad)
    return tuple(found)


def _refuse(bad: Tensor) -> None:
    count = int(bad.sum())
    if count:
        problem = f"gives NaN or infinity for {count:,} of {len(bad):,} examples"
        fix = "check its weights and its inputs: weights that grew without bound come from too high a learning rate"
        raise NotFiniteError("model", None, problem, fix)


@contextmanager
def add_model_name(model: str) -> Generator[None]:
    """Add the name of the model to errors about its logits."""
    try:
        yield
    except NotFiniteError as error:
        raise error.of(model) from error


def label_confidence(model: nn.Module, examples: Examples) -> NDArray[np.float64]:
    """Return the probability of the true label, [N] float64. The softmax is computed in float64, too."""
    return reduced_logits(model, examples, lambda logits, labels: [label_probability(logits, labels)])[0].cpu().numpy()


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Return the accuracy in [0, 1]; NaN without examples."""
    return float(correct(model, examples).mean()) if len(examples) else math.nan


def correct(model: nn.Module, examples: Examples) -> NDArray[np.bool_]:
    """Return which examples are classified correctly, [N] bool."""
    found = reduced_logits(model, examples, lambda logits, labels: [hits(logits, labels)])[0]
    return found.cpu().numpy().astype(bool)
