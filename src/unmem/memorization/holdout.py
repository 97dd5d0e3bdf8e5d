"""Holdout retraining: what a finished model gives up when it is trained on other examples (Carlini et al. 2019).

    score(i) = ½ KL(p_i ‖ q_i) + ½ KL(q_i ‖ p_i)

with p_i and q_i the predictions on training example i before and after fine-tuning a copy on examples it never saw.
Needs a finished model only. The paper's code (arXiv 2410.16516) fine-tunes on the whole test set; here the holdout is
apart from the test set, which is refused. Larger = more memorized.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unmem.data import Examples, Splits, stratified_sample
from unmem.errors import Phrase, UserError
from unmem.memorization.scores import Scores
from unmem.recipe import Recipe
from unmem.training import Observer, Step, fit, predict, steps_per_epoch

PIECE = 65_536


def holdout_retraining(
    model: nn.Module,
    data: Splits,
    *,
    recipe: Recipe | None = None,
    on: Examples | None = None,
    lr: float = 0.1,
    epochs: int = 20,
    patience: int = 4,
    share: float = 0.1,
    seed: int = 0,
) -> Scores:
    """The score of every training example of `data`; `model` is left as it was.

    on: the unseen examples, `data.holdout` by default; never the test set. share: use at most this share of the number
        of training examples from them, a stratified sample, so that the cost is at most `epochs · share` epochs of
        training. lr, epochs, patience: SGD at a constant rate; ends early after `patience` epochs without a lower loss.
        The paper's code has 30 epochs on all of it; here that is several trainings of a short recipe, for little gain.
    recipe: where batch size, momentum and weight decay come from.
    """
    unseen = data.holdout if on is None else on
    _check_unseen(unseen, data)
    sample = stratified_sample(unseen, min(len(unseen), max(1, round(share * len(data.train)))), seed=seed)
    tuned = replace(recipe or Recipe(), optimizer="sgd", lr=lr, epochs=epochs, schedule="constant")
    stopping = EarlyStop(patience)
    changed = fit(copy.deepcopy(model), sample, tuned, seed=seed, observers=[stopping])
    # In pieces, since the logits of all classes may need more memory than the examples.
    pieces = np.array_split(np.arange(len(data.train)), -(-len(data.train) // PIECE))
    values = torch.cat([_change(model, changed, data.train.at(piece)) for piece in pieces])
    settings: dict[str, Any] = {
        "lr": lr,
        "epochs": stopping.epochs,
        "patience": patience,
        "holdout": len(sample),
        "seed": seed,
        "data": data.train.fingerprint,
    }
    return Scores("holdout", data.train.ids, values.cpu().numpy(), settings=settings)


def _change(model: nn.Module, changed: nn.Module, examples: Examples) -> torch.Tensor:
    return symmetric_kl(predict(model, examples), predict(changed, examples))


def symmetric_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """½ KL(p‖q) + ½ KL(q‖p), [N] float64 in nats, between the softmax of two sets of logits [N, C]."""
    logp, logq = first.double().log_softmax(1), second.double().log_softmax(1)
    return 0.5 * ((logp.exp() - logq.exp()) * (logp - logq)).sum(1)


@dataclass
class EarlyStop(Observer):
    """Ends a run after `patience` epochs without a lower training loss. epochs: how many were run."""

    patience: int
    epochs: int = 0

    def __post_init__(self) -> None:
        self._best, self._since, self._loss = float("inf"), 0, 0.0
        self._steps = 1

    def on_start(self, examples: Examples, recipe: Recipe) -> None:
        self.__post_init__()  # a new run starts from nothing
        self._steps = steps_per_epoch(recipe, examples)

    def on_step(self, step: Step) -> None:
        self._loss = self._loss + step.loss / self._steps  # stays on the device

    def on_epoch(self, epoch: int, model: nn.Module) -> bool:
        loss, self._loss = float(self._loss), 0.0
        self.epochs = epoch + 1
        self._since = 0 if loss < self._best else self._since + 1
        self._best = min(self._best, loss)
        return self._since >= self.patience


def _check_unseen(unseen: Examples, data: Splits) -> None:
    if len(unseen) == 0:
        raise UserError("holdout", None, "there are no unseen examples", "give some, apart from the test set")
    for part, examples, why in (
        ("test set", data.test, "a score must not learn from what accuracies are reported on"),
        ("training set", data.train, "these are not unseen"),
    ):
        shared = int(np.isin(unseen.ids, examples.ids).sum())
        if shared:
            raise UserError(
                "holdout", Phrase(f"{shared} ids"), f"of the {part}: {why}", "give examples that are in neither"
            )
