"""Membership inference: does the model still treat the forget set like data it was trained on?"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from unmem.data import Examples, stratified_sample
from unmem.ensembles import label_probability
from unmem.errors import NotFiniteError
from unmem.interrupts import interruptible
from unmem.training import Keep, predict, predicted

MOST = 10_000  # examples on either side of the attack: it has one feature, and its time grows with their square


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


def confidence_of(logits: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Softmax probability of each row's own label: logits [N, C] and labels [N] give [N] float64."""
    return label_probability(logits, labels).cpu().numpy()


def called_unseen(
    model: nn.Module, forget: Examples, retain: Examples, unseen: Examples, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Which forget examples the attack calls non-members of the training set: [len(forget)] booleans.

    The attack of the papers (arXiv 2406.01257, after Fan et al. 2024): a support-vector classifier with an RBF kernel
    (C = 3, gamma = 1) on the confidence of the true label, trained on the model itself with equally many retain
    examples (members) and unseen ones (non-members), `MOST` of each at most. Both sides are stratified, seeded samples
    that depend on ids and not on the order of the rows. `unseen` must be apart from the examples that utility is
    reported on.
    """
    import sklearn.svm

    n = min(len(retain), len(unseen), MOST)
    members, outsiders = (stratified_sample(examples, n, seed=seed) for examples in (retain, unseen))
    both = [_sorted_confidence(model, examples) for examples in (members, outsiders)]
    support_vectors: Any = sklearn.svm.SVC  # annotated there as if gamma were only text
    attack = support_vectors(C=3.0, kernel="rbf", gamma=1.0)
    interruptible(lambda: attack.fit(np.concatenate(both)[:, None], np.repeat([True, False], n)))
    member: NDArray[np.bool_] = attack.predict(label_confidence(model, forget)[:, None])
    return ~member


def _sorted_confidence(model: nn.Module, examples: Examples) -> NDArray[np.float64]:
    by_id = examples.at(np.argsort(examples.ids, kind="stable"))
    return label_confidence(model, by_id)


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Share of examples whose largest logit is at the label; NaN of no examples."""
    return float(correct(model, examples).mean()) if len(examples) else math.nan


def correct(model: nn.Module, examples: Examples) -> NDArray[np.bool_]:
    """Which examples are classified as their label: [N] booleans."""
    hits = answered(model, examples, lambda logits, labels: [logits.argmax(1) == labels])[0]
    return hits.cpu().numpy().astype(bool)
