"""`Splits`: the train, holdout and test examples of one data set, and seeded ways to make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmem.data.examples import Examples, Ids, Positions, as_ids
from unmem.data.parting import USUAL_PARTING, Parting
from unmem.data.scaling import Scaling
from unmem.data.streaming import Stream
from unmem.errors import Phrase, UserError, whole_number

# A data set keeps one split whatever the seed of a run is: a model trained under one seed must never meet its own
# training examples in the holdout or test set of a run under another.
SPLIT_SEED = 0
LEAST = 6  # of 6 examples, 70/15/15 leaves one to each unseen part; of 5, none to the holdout


def _no_ids() -> Ids:
    return np.empty(0, dtype="<U1")


@dataclass(frozen=True, eq=False)
class Splits:
    """One data set in three splits that share no example.

    Attributes:
        name: Name of the data set.
        train: The examples that models are trained on, and that can be forgotten.
        holdout: Never trained on; used wherever a method or an attack needs unseen examples.
        test: Never trained or tuned on; only used for the reported accuracies.
        flipped: Ids of training examples whose labels were flipped on purpose (`flip_labels`).
        classes: Names of the classes in the order of the labels, if the source has them.
        notes: Notes for the user about how the source was read.
        order: Ids of the user's examples in the user's own order, in which positions count: of the whole source if it
            was split here, else of the training set. Empty if the source has no order, such as a folder; None is that
            of `train`.
        split_here: Whether the holdout and the test set were drawn from the only set in the source.
    """

    name: str
    train: Examples
    holdout: Examples
    test: Examples
    flipped: Ids = field(default_factory=_no_ids)
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    order: Ids | None = None
    split_here: bool = False

    def __repr__(self) -> str:
        return f"Splits({self.name!r}, {self.sizes}, {self.train.n_classes} classes)"

    def without(self, ids: Iterable[object]) -> Splits:
        """Return the same data without these training examples. Positions still count in the user's own order."""
        gone = as_ids(ids)
        if len(gone) == 0:
            return self
        order = self.train.ids if self.order is None else self.order
        flipped = self.flipped[~np.isin(self.flipped, gone)]
        return replace(self, train=self.train.drop(gone), flipped=flipped, order=order)

    def title(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.classes[label] if label < len(self.classes) else str(label)

    @property
    def sizes(self) -> str:
        """The number of examples of each split, in words."""
        return f"{len(self.train):,} training, {len(self.holdout):,} holdout, {len(self.test):,} test examples"

    @classmethod
    def of(
        cls,
        name: str,
        train: Examples,
        *,
        test: Examples | None = None,
        holdout: Examples | None = None,
        classes: tuple[str, ...] = (),
        parting: Parting = USUAL_PARTING,
    ) -> Splits:
        """Build splits from the examples that there are.

        Training examples alone are split by `parting`, usually 70/15/15. Unseen examples in one set, test or holdout,
        are halved into the holdout and the test set, so that the training set stays exactly the user's.
        """
        _check_parts(train, test, holdout)
        order, unseen = train.ids, holdout if test is None else test
        if parting.asked and unseen is not None:
            field = "unseen" if parting.unseen else "split"
            raise UserError(field, None, f"{name} has unseen examples of its own", "leave it out")
        drawn = unseen is None and not parting.unseen and parting.shares is not None
        if parting.unseen:
            unseen = train.take(parting.unseen, field="unseen")
            train = train.drop(parting.unseen, field="unseen")
        if unseen is None:
            train, holdout, test = _alone(train, parting)
        elif holdout is None or test is None:
            _at_least(2, unseen, "cannot be cut into a holdout and a test set", "unseen examples")
            holdout, test = stratified_split(unseen, (0.5, 0.5), seed=SPLIT_SEED)
        return cls(name, train, holdout, test, classes=classes, order=order, split_here=drawn)

    @classmethod
    def of_parts(
        cls,
        name: str,
        parts: Mapping[str, Examples],
        *,
        classes: tuple[str, ...] = (),
        parting: Parting = USUAL_PARTING,
    ) -> Splits:
        """Build splits from examples by name: train, and perhaps test and holdout."""
        test, holdout = parts.get("test"), parts.get("holdout")
        return cls.of(name, parts["train"], test=test, holdout=holdout, classes=classes, parting=parting)

    def filled(
        self, inputs: Tensor | Stream, *, scaling: Scaling | None, marks: NDArray[np.uint8] | None = None
    ) -> Splits:
        """For splits whose inputs are row numbers so far: the rows of `inputs`, and of `marks`, with these numbers."""
        parts: dict[str, Examples] = {}
        for name, part in self.parts.items():
            rows = part.inputs[:].numpy()
            chosen = inputs[torch.from_numpy(rows)] if isinstance(inputs, Tensor) else inputs.at(rows)
            parts[name] = replace(part, inputs=chosen, scaling=scaling, marks=None if marks is None else marks[rows])
        return replace(self, **parts)

    @property
    def parts(self) -> dict[str, Examples]:
        return {"train": self.train, "holdout": self.holdout, "test": self.test}

    def to(self, device: torch.device | str) -> Splits:
        return self.each(lambda part: part.to(device))

    def each(self, change: Callable[[Examples], Examples]) -> Splits:
        """The same splits, with `change` made of each part."""
        return replace(self, **{name: change(part) for name, part in self.parts.items()})


def numbered_as(splits: Splits, names: Sequence[str], *, field: str, whose: str) -> Splits:
    """The same examples with their classes numbered in the order of these names, which may be more than theirs.

    Args:
        splits: Their classes have names, or are numbers; these are taken to count in the order of `names`, unless the
            names are the numbers themselves.
        names: Of the classes, in the order of a model's outputs. Capitals make no difference.
        field: What an error is about.
        whose: Whose names they are, as the subject of a sentence.

    Raises:
        UserError: A class is not among the names, or two are the same.
    """
    place = {name.casefold(): k for k, name in enumerate(names)}
    if len(place) < len(names):
        raise UserError(field, ", ".join(names), "a name is there twice", "give each class a name of its own")
    n = len(names)
    numbers = tuple(map(str, range(n)))
    if not splits.classes and set(names) == set(numbers):
        splits = replace(splits, classes=numbers[: splits.train.n_classes])
    if not splits.classes:
        if n < splits.train.n_classes:
            count = splits.train.n_classes
            raise UserError(field, ", ".join(names), f"{whose} {n} classes, the data have {count}", "name all classes")
        return replace(splits.each(lambda part: replace(part, n_classes=n)), classes=tuple(names))
    strange = [name for name in splits.classes if name.casefold() not in place]
    if strange:
        raise UserError(
            field,
            strange[0],
            f"a class of the data that is not among those of the model ({', '.join(names[:10])}{', …' * (n > 10)})",
            "call the classes of the data as the model does, or give --classes in the order of its outputs",
        )
    new = torch.tensor([place[name.casefold()] for name in splits.classes])
    moved = splits.each(lambda part: replace(part.relabel(new.to(part.labels)[part.labels]), n_classes=n))
    return replace(moved, classes=tuple(names))


def _alone(train: Examples, parting: Parting) -> tuple[Examples, Examples, Examples]:
    """A single set in three parts."""
    if parting.shares is None:
        none = train.at(np.arange(0))
        return train, none, none
    _at_least(LEAST, train, "cannot be split 70/15/15", "examples, or unseen ones in a set of their own")
    first, second, third = stratified_split(train, parting.shares, seed=SPLIT_SEED)
    return first, second, third


def _check_parts(train: Examples, test: Examples | None, holdout: Examples | None) -> None:
    if len(torch.unique(train.labels)) < 2:
        raise UserError("labels", int(train.labels[0]), "is the only class", "use data with two classes or more")
    seen = [("train", train)]
    for name, part in (("test", test), ("holdout", holdout)):
        if part is None:
            continue
        if part.input_shape != train.input_shape:
            raise UserError(
                "inputs",
                Phrase(f"of shape {part.input_shape} in {name}"),
                f"those of the training set are {train.input_shape}",
                "make the shapes equal",
            )
        for other, known in seen:
            both: Ids = np.intersect1d(part.ids, known.ids)
            if len(both):
                raise UserError("ids", str(both[0]), f"is in {other} and in {name}", "give each example its own id")
        seen.append((name, part))


def _at_least(least: int, examples: Examples, problem: str, what: str) -> None:
    """Refuse to split so few examples that a part would have none."""
    if len(examples) < least:
        count = f"{len(examples)} example" + "s" * (len(examples) != 1)
        raise UserError("data", Phrase(count), problem, f"give at least {least} {what}")


def stratified_split(examples: Examples, shares: tuple[float, ...], *, seed: int) -> list[Examples]:
    """Split examples with the class proportions of the whole.

    Args:
        examples: The examples.
        shares: Share of each part; they sum to 1.
        seed: Seed of the split.

    Returns:
        Disjoint parts, in the order of the shares.
    """
    if abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
        raise UserError("shares", shares, "they must be positive and sum to 1", "give shares such as (0.7, 0.15, 0.15)")
    rank = _stratified_rank(examples, seed)
    edges = np.round(np.cumsum((0.0, *shares)) * len(examples)).astype(np.int64)
    return [examples.at(np.sort(rank[a:b])) for a, b in pairwise(edges)]


def stratified_sample(examples: Examples, n: int, *, seed: int) -> Examples:
    """Return a seeded sample of `n` examples with the class proportions of the whole."""
    whole_number("limit", n)
    if not 1 <= n <= len(examples):
        raise UserError("limit", n, f"there are {len(examples):,} examples to choose from", "choose 1 to that many")
    return examples.at(np.sort(_stratified_rank(examples, seed)[:n]))


def flip_labels(splits: Splits, share: float, *, seed: int) -> Splits:
    """Plant mislabelled examples.

    Args:
        splits: The data.
        share: Share of the training labels that are moved to a random other class.
        seed: Seed of the choice.

    Returns:
        The data with these labels; their ids are `flipped`.
    """
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
