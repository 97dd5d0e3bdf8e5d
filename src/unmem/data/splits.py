"""`Splits`: the train, holdout and test examples of one data set, and seeded ways to make them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from unmem.data.examples import Examples, Ids, Positions
from unmem.errors import UserError, whole_number


def _no_ids() -> Ids:
    return np.empty(0, dtype="<U1")


@dataclass(frozen=True, eq=False)
class Splits:
    """One data set in three parts that share no example.

    train: what models are trained on, and what can be forgotten.
    holdout: never trained on; stands for "unseen" wherever a method or an attack needs unseen examples.
    test: never trained on and never tuned on; only for the accuracies that are reported.
    flipped: ids of training examples whose labels were planted wrong on purpose (`flip_labels`).
    """

    name: str
    train: Examples
    holdout: Examples
    test: Examples
    flipped: Ids = field(default_factory=_no_ids)

    def to(self, device: torch.device | str) -> Splits:
        return replace(self, train=self.train.to(device), holdout=self.holdout.to(device), test=self.test.to(device))


def stratified_split(examples: Examples, shares: tuple[float, ...], *, seed: int) -> list[Examples]:
    """Disjoint parts of the given shares (summing to 1), each with the class proportions of the whole."""
    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise UserError("shares", shares, "they must be positive and sum to 1", "give shares such as (0.7, 0.15, 0.15)")
    rank = _stratified_rank(examples, seed)
    edges = np.round(np.cumsum((0.0, *shares)) * len(examples)).astype(np.int64)
    return [examples.at(np.sort(rank[a:b])) for a, b in pairwise(edges)]


def stratified_sample(examples: Examples, n: int, *, seed: int) -> Examples:
    """A seeded sample of `n` examples with the class proportions of the whole."""
    whole_number("limit", n)
    if not 1 <= n <= len(examples):
        raise UserError("limit", n, f"there are {len(examples):,} examples to choose from", "choose 1 to that many")
    return examples.at(np.sort(_stratified_rank(examples, seed)[:n]))


def flip_labels(splits: Splits, share: float, *, seed: int) -> Splits:
    """Plant mislabelled examples: a random `share` of the training labels, each moved to a random other class."""
    if not 0 <= share <= 0.5:
        raise UserError("flip", share, "the share of labels to flip lies between 0 and 0.5", "give one such as 0.05")
    train, random = splits.train, np.random.default_rng(seed)
    count = round(share * len(train))
    whole_number("seed", seed)
    if train.n_classes < 2:
        raise UserError("flip", share, "there is only one class", "use data with two classes or more")
    chosen: Positions = np.sort(random.choice(len(train), size=count, replace=False))
    labels = train.labels.cpu().numpy().copy()
    labels[chosen] = (labels[chosen] + random.integers(1, train.n_classes, size=count)) % train.n_classes
    return replace(
        splits, train=train.relabel(torch.from_numpy(labels)), flipped=np.union1d(splits.flipped, train.ids[chosen])
    )


def _stratified_rank(examples: Examples, seed: int) -> Positions:
    """All positions in an order whose every prefix has the class proportions of the whole.

    Each class is shuffled and spread evenly over [0, 1); sorting by that place interleaves the classes. Depends on
    the ids and not on the order of the rows, so a sample is the same however the examples arrive.
    """
    random = np.random.default_rng(seed)
    by_id = np.argsort(examples.ids, kind="stable")
    labels = examples.labels.cpu().numpy()[by_id]
    place: NDArray[np.float64] = np.empty(len(examples))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (random.permutation(len(members)) + random.random()) / len(members)
    return by_id[np.argsort(place, kind="stable")]
