"""`Problem`: a model, its data, and the training examples that it must forget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from unmem.data import Examples, Ids, Splits, as_ids
from unmem.errors import UserError
from unmem.recipe import Recipe
from unmem.rehearsal import check_outputs, sample_positions
from unmem.requests import check_request
from unmem.training import predict


class Problem:
    """What an unlearner is given: a model, its data, and the training examples to forget.

    All arguments are checked before any compute.

    Args:
        model: The original, trained on all of `data.train`; maps a batch of inputs to logits [B, C]. It is never
            changed. None if it is not available: models can then be evaluated and audited, but not unlearned.
        data: The data set that the original was trained on.
        forget: Ids of the training examples to forget.
        recipe: How the original was trained. Retraining repeats it with the same network, and unlearners use its batch
            size, momentum and weight decay. Pass the recipe that `unmem.train` was given. A run folder has it in
            `result.json`: `Recipe(**result["original"]["recipe"])`. For a model trained elsewhere, state its network,
            epochs, optimizer, learning rate and batch size.

    Attributes:
        original: The original, or None.
        forget: The forget set S, as examples.
        retain: The retain set R = D \\ S, as examples.

    Raises:
        UserError: The request is empty, or names examples that are unknown or unseen, or all examples; or the model
            does not fit the data.
    """

    def __init__(self, model: nn.Module | None, data: Splits, forget: Iterable[object], *, recipe: Recipe) -> None:
        ids = as_ids(forget, field="forget")
        check_request(ids, data)
        self.original = model
        self.data = data
        self.recipe = recipe
        self.forget: Examples = data.train.take(ids, field="forget")
        self.retain: Examples = data.train.drop(ids, field="forget")
        if model is not None:
            check_outputs(model, data.train)

    def __repr__(self) -> str:
        whole = len(self.forget) + len(self.retain)
        return f"Problem({self.data.name!r}, forget {len(self.forget):,} of {whole:,} examples)"

    @property
    def model(self) -> nn.Module:
        """The original. Raises `UserError` if this problem has none."""
        if self.original is None:
            raise UserError("model", None, "this problem has no original model", "give Problem the original model")
        return self.original

    @property
    def holdout(self) -> Examples:
        return self.data.holdout

    @property
    def test(self) -> Examples:
        return self.data.test

    def part(self, forget: Ids, *, without: Ids) -> Problem:
        """Return the smaller problem of forgetting some of S, in data that no longer contain the examples `without`."""
        data = replace(self.data, train=self.data.train.drop(without))
        return Problem(self.original, data, forget, recipe=self.recipe)

    def flags(self) -> list[str]:
        """Return warnings about the request, one sentence each."""
        n, whole = len(self.forget), len(self.data.train)
        found: list[str] = []
        if n < 20:
            found.append(
                f"the forget set has {n} example{'s' * (n != 1)}: with fewer than 20, accuracies say little about it"
            )
        if n > whole / 2:
            found.append(f"the forget set is {n / whole:.0%} of the training data: retraining is cheaper and exact")
        kept = torch.bincount(self.retain.labels, minlength=self.retain.n_classes)
        had = torch.bincount(self.data.train.labels, minlength=self.retain.n_classes)
        gone = torch.nonzero((kept == 0) & (had > 0)).flatten().tolist()
        if gone:
            found.append(f"no example of class {', '.join(map(self.data.title, gone))} is left in the retain set")
        return found if self.original is None else [*found, *model_flags(self.original, self.data.train)]


def model_flags(model: nn.Module, examples: Examples) -> list[str]:
    """Return warnings about a model that was trained on these examples."""
    found: list[str] = []
    if any(not p.requires_grad for p in model.parameters()):
        found.append("some parameters are frozen: they stay as they are, and may still carry the forget set")
    few = examples.at(sample_positions(examples, 2))
    if not torch.allclose(*(predict(model, few) for _ in range(2)), rtol=1e-3, atol=1e-3, equal_nan=True):
        found.append("the model answers the same inputs differently each time: all that is measured is uncertain")
    return found
