"""Logits, accuracy and confidence of a model on examples. Logits that give no probabilities are refused."""

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


def answers(model: nn.Module, examples: Examples) -> Tensor:
    """Logits [N, C] in float32. −∞ may be among them: a network may rule a class out.

    Raises:
        NotFiniteError: The largest logit of an example is NaN or infinite, so that there are no probabilities.
    """
    logits = predict(model, examples)
    _refuse(~logits.amax(1).isfinite())
    return logits


def answered(model: nn.Module, examples: Examples, keep: Keep) -> tuple[Tensor, ...]:
    """What `keep` makes of these logits, as in `predicted`, which does not hold all of them. Raises as `answers`."""

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
def named(model: str) -> Generator[None]:
    """An error about the answers of a model says which one it is."""
    try:
        yield
    except NotFiniteError as error:
        raise error.of(model) from error


def label_confidence(model: nn.Module, examples: Examples) -> NDArray[np.float64]:
    """Probability of the true label, [N], in float64; the softmax is taken in float64 too."""
    return answered(model, examples, lambda logits, labels: [label_probability(logits, labels)])[0].cpu().numpy()


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Share of examples whose largest logit is at the label; NaN of no examples."""
    return float(correct(model, examples).mean()) if len(examples) else math.nan


def correct(model: nn.Module, examples: Examples) -> NDArray[np.bool_]:
    """Which examples are classified as their label: [N] booleans."""
    found = answered(model, examples, lambda logits, labels: [hits(logits, labels)])[0]
    return found.cpu().numpy().astype(bool)
