"""`Problem`: a model, its data, and the training examples that it must forget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from unmem.data import Examples, Ids, Splits, as_ids
from unmem.errors import NothingToDoError, Phrase, UnseenExampleError, UserError
from unmem.recipe import Recipe
from unmem.rehearsal import check_answers, few_positions
from unmem.training import predict


class Problem:
    """What an unlearner is given. Everything is checked here, before any compute.

    model: the original, trained on all of `data.train`; maps a batch of inputs to logits [B, C]. Never changed.
    forget: the forget set S, as examples; `retain`: the retain set R = D \\ S.
    recipe: how the original was trained; retraining repeats it, and unlearners take their batch size, momentum and
        weight decay from it.
    """

    def __init__(
        self, model: nn.Module, data: Splits, forget: Iterable[object], *, recipe: Recipe | None = None
    ) -> None:
        ids = as_ids(forget, field="forget")
        check_request(ids, data)
        self.model = model
        self.data = data
        self.recipe = recipe or Recipe()
        self.forget: Examples = data.train.take(ids, field="forget")
        self.retain: Examples = data.train.drop(ids, field="forget")
        check_answers(model, data.train)

    def __repr__(self) -> str:
        whole = len(self.forget) + len(self.retain)
        return f"Problem({self.data.name!r}, forget {len(self.forget):,} of {whole:,} examples)"

    @property
    def holdout(self) -> Examples:
        return self.data.holdout

    @property
    def test(self) -> Examples:
        return self.data.test

    def part(self, forget: Ids, *, without: Ids) -> Problem:
        """The smaller problem of forgetting some of S, in data that no longer hold the examples `without`."""
        data = replace(self.data, train=self.data.train.drop(without))
        return Problem(self.model, data, forget, recipe=self.recipe)

    def flags(self) -> list[str]:
        """What the user should know before going on; none of it stops the work."""
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
        if any(not p.requires_grad for p in self.model.parameters()):
            found.append("some parameters are frozen: they stay as they are, and may still carry the forget set")
        few = self.data.train.at(few_positions(self.data.train, 2))
        if not torch.allclose(*(predict(self.model, few) for _ in range(2)), rtol=1e-3, atol=1e-3, equal_nan=True):
            found.append("the model answers the same inputs differently each time: all that is measured is uncertain")
        return found


def check_request(ids: Ids, data: Splits) -> None:
    """Refuse a request that is empty, unknown, of unseen examples, or of everything; needs no model."""
    if len(ids) == 0:
        raise NothingToDoError("forget", None, "the forget set is empty", "name at least one training example")
    for part, examples in (("holdout", data.holdout), ("test", data.test)):
        unseen = ids[np.isin(ids, examples.ids)]
        if len(unseen):
            raise UnseenExampleError(
                "forget",
                str(unseen[0]),
                f"an id of the {part} set, which the model was never trained on ({len(unseen)} such)",
                "only training examples can be forgotten",
            )
    data.train.positions(ids, field="forget")
    if len(ids) == len(data.train):
        raise UserError(
            "forget",
            Phrase(f"{len(ids):,} ids"),
            "the forget set is the whole training set, nothing would be left to learn from",
            "delete the model instead",
        )
