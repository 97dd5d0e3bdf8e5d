"""Why a model fails on its own training data: another scaling, order of the channels, of the axes or of the labels.

A model and its data arrive apart, and what stood between them, a few lines of a training script, is what gets lost.
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

MOST = 2000  # training examples to look at: enough to tell any of these apart
LEAST = 1e-3  # share by which the loss must fall for another way to be the better one
SHOWN = 5  # classes of another order that are listed
FEW = 500  # training examples that show whether another scaling is clearly better
ALIKE = 2  # standard errors; at 3, a test set of 200 rows that a model knows 9 points worse would pass for seen


@dataclass(frozen=True)
class Mismatch:
    """What differs, and the accuracy that the model has without it.

    scaling: the name of the one it wants, None for the one it is given. change: what else to do to the images. order:
    for each class of the data, the output of the model that means it; None for the given order.
    """

    accuracy: float
    scaling: str | None = None
    change: str | None = None
    order: tuple[int, ...] | None = None

    def words(self, classes: Sequence[str] = ()) -> str:
        """What differs, in a clause. classes: names of the classes of the data, if they have names."""
        causes = [] if self.scaling is None else [f"--scaling {self.scaling}"]
        causes += [] if self.change is None else [self.change]
        if self.order is not None:
            named = [f"{k} ({name})" for k, name in enumerate(classes)] or [str(k) for k in range(len(self.order))]
            moved = [f"its class {there} is your class {named[k]}" for k, there in enumerate(self.order) if k != there]
            listed = f"{', '.join(moved[:SHOWN])}{', …' if len(moved) > SHOWN else ''}"
            causes.append(f"its outputs in another order ({listed})")
        return f"with {' and '.join(causes)} it gets {self.accuracy:.1%} right"

    def fix(self, classes: Sequence[str] = ()) -> str:
        """What to do about it; classes as in `words`."""
        steps = [] if self.scaling is None else [f"pass --scaling {self.scaling}"]
        steps += [] if self.change is None else ["give the images as it was trained on them"]
        if self.order is not None:
            meant = dict(zip(self.order, classes or map(str, range(len(self.order))), strict=False))
            steps.append(f"pass --classes {','.join(meant[k] for k in sorted(meant))}")
        return " and ".join(steps)


def chance(examples: Examples) -> tuple[float, float]:
    """The share of the largest class, and the most that a model gets right by it: three standard errors more."""
    share = torch.bincount(examples.labels).max().item() / len(examples)
    return share, share + 3 * (share * (1 - share) / len(examples)) ** 0.5


def find_mismatch(model: nn.Module, examples: Examples) -> Mismatch | None:
    """The one change with which the model gets most of a sample right; None if it stays at chance with each.

    Tried are the named scalings, for colour images the reversed order of channels, for square ones swapped axes, and
    with each the order of outputs that fits best. Less than half is reported of none, since the best of so many ways is
    above chance even for a network that was never trained; an order only if it explains more of what is above chance
    than leaving it does.
    """
    sample = stratified_sample(examples, min(MOST, len(examples)), seed=0)
    _, most = chance(sample)
    plain, ordered, least = Mismatch(0.0), Mismatch(0.0), float("inf")
    for scaling, change, seen in _ways(sample):
        logits = predict(model, seen)
        right = accuracy_of(logits, seen.labels)
        loss = float(F.cross_entropy(logits, seen.labels))  # tells apart scalings that are nearly the same
        clearer = right == plain.accuracy and loss < (1 - LEAST) * least  # or what changes nothing would be named
        if right > plain.accuracy or clearer:
            plain, least = Mismatch(right, scaling, change), loss
        order, right = _best_order(logits.argmax(1), seen.labels, examples.n_classes)
        if right > ordered.accuracy:
            ordered = Mismatch(right, scaling, change, tuple(order.tolist()))
    enough = max(most, 0.5)
    if ordered.accuracy > enough and ordered.accuracy - plain.accuracy > max(0.0, plain.accuracy - most):
        return ordered
    return plain if plain.accuracy > enough else None


def find_order(model: nn.Module, examples: Examples) -> Mismatch | None:
    """The order of outputs with which a model makes at most half as many errors as with the given one, if there is one.

    For a model that is above chance: of five classes two may have changed places. The order that fits best must gain
    three standard errors, so that a weak model is not taken for one with other labels.
    """
    sample = stratified_sample(examples, min(MOST, len(examples)), seed=0)
    logits = predict(model, sample)
    plain = accuracy_of(logits, sample.labels)
    order, right = _best_order(logits.argmax(1), sample.labels, examples.n_classes)
    gain, error = right - plain, (max(plain * (1 - plain), 1e-9) / len(sample)) ** 0.5
    if gain <= 3 * error or 1 - right > (1 - plain) / 2:
        return None
    return Mismatch(right, order=tuple(order.tolist()))


def find_scaling(model: nn.Module, examples: Examples) -> Mismatch | None:
    """The named scaling with which a model gets clearly more right than with the given one, if there is one.

    For a model that is above chance: inputs at half their contrast cost a network some of its accuracy, not all of it.
    On a sample; the gain must be three standard errors of the difference.
    """
    sample = stratified_sample(examples, min(FEW, len(examples)), seed=0)
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


def seen_alike(model: nn.Module, train: Examples, *unseen: Examples) -> bool:
    """Whether a model is as sure of unseen examples as of its training set: it does not overfit, or it has seen them.

    Neither the mean log-odds of the label nor the share of labels that are likelier than not is higher on the training
    set by `ALIKE` standard errors, of at most `MOST` examples of each set. A few log-odds far out can hide what the
    share shows.
    """
    known, unknown = _surety(model, [train]), _surety(model, unseen)
    likely = [(phi > 0).double() for phi in (known, unknown)]
    return not (_higher(known, unknown) or _higher(*likely))


def _higher(first: Tensor, second: Tensor) -> bool:
    error = sum(float(values.var(unbiased=False)) / len(values) for values in (first, second)) ** 0.5
    return float(first.mean() - second.mean()) >= ALIKE * max(error, 1e-12)


def _surety(model: nn.Module, sets: Sequence[Examples]) -> Tensor:
    """[N] log-odds of the label, of at most `MOST` examples of each set."""
    some = [one if len(one) <= MOST else stratified_sample(one, MOST, seed=0) for one in sets]
    return torch.cat([label_log_odds(predict(model, one).double(), one.labels) for one in some])


def _ways(sample: Examples) -> Iterator[tuple[str | None, str | None, Examples]]:
    """The sample in every way that the model may have been trained on it: scaling, change to the images, examples."""
    stored = sample.inputs[torch.arange(len(sample), device=sample.device)]
    for name, scaling in _scalings(stored, sample.scaling):
        for change, inputs in _changes(stored):
            yield name, change, replace(sample, inputs=inputs, scaling=scaling)


def _scalings(stored: Tensor, given: Scaling | None) -> Iterator[tuple[str | None, Scaling | None]]:
    """The given scaling, and where the images are stored as bytes or as shares of 1, the named ones."""
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
    """For each class the output that stands for it, each output once, and the accuracy then (Kuhn's assignment)."""
    from scipy.optimize import linear_sum_assignment

    outputs = max(n_classes, int(predictions.max()) + 1)
    counts = torch.bincount(labels * outputs + predictions, minlength=n_classes * outputs)
    table = counts.view(n_classes, outputs).cpu().numpy()
    rows, order = linear_sum_assignment(table, maximize=True)
    return order, float(table[rows, order].sum()) / len(labels)
