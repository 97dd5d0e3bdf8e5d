"""Differences in preprocessing that make a model fail on its own training data.

These are another scaling, another order of the channels, swapped axes, or another order of the classes. They occur when
a model and its data are loaded separately, without the training script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unmem.data import Examples, Scaling, stratified_sample
from unmem.data.scaling import named_scalings
from unmem.predictions import accuracy_of, hits, label_log_odds
from unmem.training import predict

MAX_EXAMPLES = 2000  # training examples to evaluate: enough to distinguish these differences
MIN_LOSS_DECREASE = 1e-3  # relative decrease of the loss that makes a variant better at equal accuracy
MAX_LISTED = 5  # reordered classes in a message
SCALING_EXAMPLES = 500  # training examples for comparing scalings
Z_OVERFIT = 2  # standard errors; with 3, a gap of 9 percentage points on a test set of 200 rows would not count


@dataclass(frozen=True)
class Mismatch:
    """A difference in preprocessing, and the accuracy of the model without it.

    Attributes:
        scaling: Name of the scaling that the model needs; None for the given one.
        change: Further change of the images, or None.
        order: For each class of the data, the output of the model for this class; None for the given order.
    """

    accuracy: float
    scaling: str | None = None
    change: str | None = None
    order: tuple[int, ...] | None = None

    def words(self, classes: Sequence[str] = ()) -> str:
        """Describe the difference in a clause. `classes` are the names of the classes of the data, if any."""
        causes = [] if self.scaling is None else [f"--scaling {self.scaling}"]
        causes += [] if self.change is None else [self.change]
        if self.order is not None:
            named = [f"{k} ({name})" for k, name in enumerate(classes)] or [str(k) for k in range(len(self.order))]
            moved = [f"its class {there} is your class {named[k]}" for k, there in enumerate(self.order) if k != there]
            listed = f"{', '.join(moved[:MAX_LISTED])}{', …' if len(moved) > MAX_LISTED else ''}"
            causes.append(f"its outputs in another order ({listed})")
        return f"with {' and '.join(causes)} it gets {self.accuracy:.1%} right"

    def fix(self, classes: Sequence[str] = ()) -> str:
        """Describe how to correct the difference; `classes` as in `words`."""
        steps = [] if self.scaling is None else [f"pass --scaling {self.scaling}"]
        steps += [] if self.change is None else ["give the images as it was trained on them"]
        if self.order is not None:
            meant = dict(zip(self.order, classes or map(str, range(len(self.order))), strict=False))
            steps.append(f"pass --classes {','.join(meant[k] for k in sorted(meant))}")
        return " and ".join(steps)


def chance(examples: Examples) -> tuple[float, float]:
    """Return the share of the largest class, and this share plus three standard errors as the limit of chance."""
    share = torch.bincount(examples.labels).max().item() / len(examples)
    return share, share + 3 * (share * (1 - share) / len(examples)) ** 0.5


def find_mismatch(model: nn.Module, examples: Examples) -> Mismatch | None:
    """Find the variant of the inputs and classes with the highest accuracy on a sample.

    The variants are the named scalings, reversed channels for colour images, swapped axes for square images, and for
    each of these the best order of outputs. An order is returned only if it increases the accuracy by more than the
    accuracy with the given order exceeds chance.

    Returns:
        The variant, or None if no accuracy exceeds chance and one half. Lower accuracies do not count, because the best
        of many variants is above chance even for an untrained network.
    """
    sample = stratified_sample(examples, min(MAX_EXAMPLES, len(examples)), seed=0)
    _, most = chance(sample)
    plain, ordered, least = Mismatch(0.0), Mismatch(0.0), float("inf")
    for scaling, change, variant in _variants(sample):
        logits = predict(model, variant)
        right = accuracy_of(logits, variant.labels)
        loss = float(F.cross_entropy(logits, variant.labels))  # distinguishes similar scalings
        # Without a minimum decrease a variant that changes nothing could be chosen.
        clearer = right == plain.accuracy and loss < (1 - MIN_LOSS_DECREASE) * least
        if right > plain.accuracy or clearer:
            plain, least = Mismatch(right, scaling, change), loss
        order, right = _best_order(logits.argmax(1), variant.labels, examples.n_classes)
        if right > ordered.accuracy:
            ordered = Mismatch(right, scaling, change, tuple(order.tolist()))
    enough = max(most, 0.5)
    if ordered.accuracy > enough and ordered.accuracy - plain.accuracy > max(0.0, plain.accuracy - most):
        return ordered
    return plain if plain.accuracy > enough else None


def find_order(model: nn.Module, examples: Examples) -> Mismatch | None:
    """Find an order of outputs that at least halves the number of errors; None if there is none.

    This is for a model above chance, for example if two of five classes are exchanged. The accuracy must increase by
    more than three standard errors, because the best order of a weak model is better by chance.
    """
    sample = stratified_sample(examples, min(MAX_EXAMPLES, len(examples)), seed=0)
    logits = predict(model, sample)
    plain = accuracy_of(logits, sample.labels)
    order, right = _best_order(logits.argmax(1), sample.labels, examples.n_classes)
    gain, error = right - plain, (max(plain * (1 - plain), 1e-9) / len(sample)) ** 0.5
    if gain <= 3 * error or 1 - right > (1 - plain) / 2:
        return None
    return Mismatch(right, order=tuple(order.tolist()))


def find_scaling(model: nn.Module, examples: Examples) -> Mismatch | None:
    """Find a named scaling with a clearly higher accuracy than the given one; None if there is none.

    This is for a model above chance: a wrong scaling, such as half the contrast, may reduce the accuracy only in part.
    On a sample, the accuracy must increase by more than three standard errors of the difference.
    """
    sample = stratified_sample(examples, min(SCALING_EXAMPLES, len(examples)), seed=0)
    stored = sample.inputs[torch.arange(len(sample), device=sample.device)]
    right: dict[str | None, Tensor] = {}
    loss: dict[str | None, float] = {}
    for name, scaling in _scalings(stored, sample.scaling):
        logits = predict(model, replace(sample, inputs=stored, scaling=scaling))
        right[name] = hits(logits, sample.labels).double()
        loss[name] = float(F.cross_entropy(logits, sample.labels))
    best = max(right, key=lambda name: (float(right[name].mean()), -loss[name]))
    gain = right[best] - right[None]
    if float(gain.mean()) <= 3 * float(gain.var(unbiased=False) / len(sample)) ** 0.5:
        return None
    return Mismatch(float(right[best].mean()), best)


def equally_confident(model: nn.Module, train: Examples, *unseen: Examples) -> bool:
    """Return whether a model is as confident on unseen examples as on its training set.

    If so, it does not overfit, or it was trained on them. The criterion: on the training set, neither the mean log-odds
    of the label nor the share of labels with a probability above ½ is higher by `Z_OVERFIT` standard errors, from at
    most `MAX_EXAMPLES` examples of each set. The share is robust to extreme log-odds.
    """
    known, unknown = _sampled_log_odds(model, [train]), _sampled_log_odds(model, unseen)
    likely = [(phi > 0).double() for phi in (known, unknown)]
    return not (_higher(known, unknown) or _higher(*likely))


def _higher(first: Tensor, second: Tensor) -> bool:
    error = sum(float(values.var(unbiased=False)) / len(values) for values in (first, second)) ** 0.5
    return float(first.mean() - second.mean()) >= Z_OVERFIT * max(error, 1e-12)


def _sampled_log_odds(model: nn.Module, sets: Sequence[Examples]) -> Tensor:
    """Return log-odds of the label, [N], of at most `MAX_EXAMPLES` examples of each set."""
    some = [one if len(one) <= MAX_EXAMPLES else stratified_sample(one, MAX_EXAMPLES, seed=0) for one in sets]
    return torch.cat([label_log_odds(predict(model, one).double(), one.labels) for one in some])


def _variants(sample: Examples) -> Iterator[tuple[str | None, str | None, Examples]]:
    """Yield each variant of the sample: scaling, change of the images, examples."""
    stored = sample.inputs[torch.arange(len(sample), device=sample.device)]
    for name, scaling in _scalings(stored, sample.scaling):
        for change, inputs in _changes(stored):
            yield name, change, replace(sample, inputs=inputs, scaling=scaling)


def _scalings(stored: Tensor, given: Scaling | None) -> Iterator[tuple[str | None, Scaling | None]]:
    """Yield the given scaling and, for images stored as bytes or in [0, 1], the named scalings."""
    yield None, given
    if stored.ndim != 4 or given is None:
        return
    shares = stored.is_floating_point() and float(stored.min()) >= 0 and float(stored.max()) <= 1
    if stored.dtype == torch.uint8 or shares:
        for name, scaling in named_scalings(stored.shape[1], full=1 if shares else 255).items():
            if scaling != given:
                yield name, scaling


def _changes(stored: Tensor) -> Iterator[tuple[str | None, Tensor]]:
    yield None, stored
    if stored.ndim == 4 and stored.shape[1] == 3:
        yield "the channels in reverse order (BGR)", stored.flip(1)
    if stored.ndim == 4 and stored.shape[2] == stored.shape[3]:
        yield "height and width swapped", stored.transpose(2, 3)


def _best_order(predictions: Tensor, labels: Tensor, n_classes: int) -> tuple[NDArray[np.int64], float]:
    """Return the best one-to-one assignment of outputs to classes (Kuhn 1955), and its accuracy."""
    from scipy.optimize import linear_sum_assignment

    outputs = max(n_classes, int(predictions.max()) + 1)
    counts = torch.bincount(labels * outputs + predictions, minlength=n_classes * outputs)
    table = counts.view(n_classes, outputs).cpu().numpy()
    rows, order = linear_sum_assignment(table, maximize=True)
    return order, float(table[rows, order].sum()) / len(labels)
