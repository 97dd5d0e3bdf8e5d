"""Holdout retraining: what a finished model gives up when it is trained on other examples (Carlini et al. 2019).

    score(i) = ½ KL(p_i ‖ q_i) + ½ KL(q_i ‖ p_i)

with p_i and q_i the predictions on training example i before and after fine-tuning a copy on examples it never saw.
Needs a finished model only. Larger = more memorized.

Deviations from the paper's code (arXiv 2410.16516), which fine-tunes on the whole test set with SGD at 0.1 for up to 30
epochs, whatever the model was trained with:

- The holdout is apart from the test set, which is refused, and a sample of it, a tenth of the training set, is used
  for up to 20 epochs. That and the predictions take as long as 3 epochs of training.
- Optimizer and learning rate are those of the recipe: a rate that suits SGD destroys a network that AdamW trained, and
  the score then ranks the examples in an arbitrary order, often in reverse, since the surest predictions have the most
  to lose.
- A copy is discarded, and fine-tuning starts again at a quarter of the rate, if it no longer resembles the model or did
  not learn. It no longer resembles the model when Cohen's kappa between their predicted classes on a sample of training
  examples is below ½. kappa = (a − e) / (1 − e), with a the share of equal predictions and e the share expected by
  chance; it does not depend on how sure the predictions are. It did not learn when no epoch had a lower loss than the
  first, or when the loss became infinite. This protects models whose recipe is not known.

`optimizer="sgd", lr=0.1, epochs=30, share=1, least_agreement=None` gives the setting of the paper's code.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unmem.data import Examples, Splits, stratified_sample
from unmem.errors import DivergedError, Phrase, UserError
from unmem.memorization.scores import Scores
from unmem.predictions import symmetric_kl
from unmem.recipe import Optimizer, Recipe
from unmem.training import LOGITS, Observer, Step, fit, predict, steps_per_epoch

PIECE = 65_536
LOWER = 0.25  # factor on the rate after a copy was discarded
DESTROYED = 0.1  # agreement up to which nothing is left of the model
WATCHED = 200  # training examples on which the agreement is measured: a standard error of 0.05 or less at kappa ½


def holdout_retraining(
    model: nn.Module,
    data: Splits,
    *,
    recipe: Recipe | None = None,
    on: Examples | None = None,
    optimizer: Optimizer | None = None,
    lr: float | None = None,
    epochs: int = 20,
    patience: int = 4,
    share: float = 0.1,
    least_agreement: float | None = 0.5,
    seed: int = 0,
) -> Scores:
    """Score every training example of `data`; `model` is left as it was.

    Args:
        model: The finished model.
        data: Its data; the training examples are scored.
        recipe: How the model was trained: batch size, momentum, weight decay, and defaults for optimizer and rate.
        on: Unseen examples to fine-tune on, `data.holdout` by default; never the test set.
        optimizer: Optimizer of the fine-tuning; that of the recipe by default.
        lr: Learning rate, constant; the peak rate of the recipe by default.
        epochs: Most epochs.
        patience: Fine-tuning ends after this many epochs without a lower loss.
        share: Use at most this share of the number of training examples from `on`, a stratified sample.
        least_agreement: Cohen's kappa between the predictions of copy and model below which the copy is discarded and
            fine-tuning starts again at a quarter of the rate; None keeps the first copy, whatever became of it.
        seed: Seed of the sample and of the order of examples.

    Returns:
        The scores, at least 0, in nats. Their settings have the learning rate and the epochs of the copy that was used,
        its agreement with the model, and the number of copies that were discarded.

    Raises:
        UserError: The unseen examples are none, or of the training or test set; or every copy had to be discarded.
    """
    unseen = data.holdout if on is None else on
    _check_unseen(unseen, data)
    sample = stratified_sample(unseen, min(len(unseen), max(1, round(share * len(data.train)))), seed=seed)
    base = recipe or Recipe()
    tuned = replace(
        base,
        optimizer=optimizer or base.optimizer,
        lr=base.lr if lr is None else lr,
        epochs=epochs,
        schedule="constant",
    )
    tried = _fine_tuned(model, sample, data.train, tuned, patience, least_agreement, seed)
    # In pieces, since the logits of all classes may need more memory than the examples.
    most = max(1, min(PIECE, LOGITS // data.train.n_classes))
    pieces = np.array_split(np.arange(len(data.train)), -(-len(data.train) // most))
    values = torch.cat([_change(model, tried.model, data.train.at(piece)) for piece in pieces])
    settings: dict[str, Any] = {
        "optimizer": tuned.optimizer,
        "lr": tried.lr,
        "lr_asked": tuned.lr,
        "epochs": tried.epochs,
        "patience": patience,
        "holdout": len(sample),
        "agreement": tried.agreement,
        "discarded": tried.discarded,
        "seed": seed,
        "data": data.train.fingerprint,
    }
    return Scores("holdout", data.train.ids, values.cpu().numpy(), settings=settings)


@dataclass(frozen=True, eq=False)
class _Tried:
    """A copy that was fine-tuned at the rate `lr` for some epochs, after others were discarded."""

    model: nn.Module
    lr: float
    epochs: int
    agreement: float
    discarded: int


def _fine_tuned(
    model: nn.Module,
    sample: Examples,
    train: Examples,
    recipe: Recipe,
    patience: int,
    least: float | None,
    seed: int,
) -> _Tried:
    """A copy of the model, fine-tuned on `sample` at the highest of the rates tried that leaves it like the model."""
    watched = Agreement(model, stratified_sample(train, min(len(train), WATCHED), seed=seed), least)
    # Discarded copies cost epochs too: half as many more in all, and a few where a run has few.
    left, discarded, lr = recipe.epochs + max(5, recipe.epochs // 2), 0, recipe.lr
    while True:
        run = replace(recipe, lr=lr, epochs=min(recipe.epochs, left))
        stopping = EarlyStop(patience)
        try:
            changed = fit(copy.deepcopy(model), sample, run, seed=seed, observers=[stopping, watched])
        except DivergedError:
            if least is None:
                raise
            left, changed = left - 1, None
        left -= stopping.epochs
        learned = stopping.improved or least is None or left < 1
        if changed is not None and learned and not watched.measure(changed):
            return _Tried(changed, lr, stopping.epochs, watched.value, discarded)
        if left < 1:
            if changed is not None and watched.value > DESTROYED:  # far from the model, and yet better than chance
                return _Tried(changed, lr, stopping.epochs, watched.value, discarded)
            raise UserError(
                "score",
                "holdout",
                f"fine-tuning on unseen examples destroys the model, even at a learning rate of {lr:.2g}",
                "give the --optimizer and --lr that the model was trained with, or choose another score",
            )
        discarded, lr = discarded + 1, lr * LOWER


def _change(model: nn.Module, changed: nn.Module, examples: Examples) -> torch.Tensor:
    return symmetric_kl(*(predict(one, examples).double().log_softmax(1) for one in (model, changed)))


def cohen_kappa(first: Tensor, second: Tensor) -> float:
    """Agreement of two lists of classes, [N] integers each, beyond chance: 1 = equal, 0 = as by chance.

    >>> round(cohen_kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0])), 3)
    0.5
    """
    classes = int(torch.maximum(first.max(), second.max())) + 1
    shares = [torch.bincount(one, minlength=classes).double() / len(one) for one in (first, second)]
    equal, chance = float((first == second).double().mean()), float((shares[0] * shares[1]).sum())
    return (equal - chance) / (1 - chance) if chance < 1 else 1.0


class Agreement(Observer):
    """Ends a run once the copy no longer predicts what the model does; looks after each of the first four epochs, where
    a rate that is too high does its damage, and after every fourth.

    value: Cohen's kappa between their predicted classes when it was last measured. lost: whether it is below `least`.
    """

    def __init__(self, model: nn.Module, examples: Examples, least: float | None) -> None:
        self._examples, self._least = examples, least
        self._before = predict(model, examples).argmax(1)
        self.value, self.lost = 1.0, False

    def on_epoch(self, epoch: int, model: nn.Module) -> bool:
        return (epoch < 4 or epoch % 4 == 3) and self.measure(model)

    def measure(self, model: nn.Module) -> bool:
        """Whether the copy as it is now no longer predicts what the model does."""
        self.value = cohen_kappa(self._before, predict(model, self._examples).argmax(1))
        self.lost = self._least is not None and self.value < self._least
        return self.lost


@dataclass
class EarlyStop(Observer):
    """Ends a run after `patience` epochs without a lower training loss.

    epochs: how many were run. improved: whether one of them had a lower loss than the first, or there was only one.
    """

    patience: int
    epochs: int = 0
    improved: bool = True

    def __post_init__(self) -> None:
        self._first, self._best, self._since, self._loss = float("inf"), float("inf"), 0, 0.0
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
        self._first = loss if epoch == 0 else self._first
        self._best = min(self._best, loss)
        self.improved = epoch == 0 or self._best < self._first
        return self._since >= self.patience


def _check_unseen(unseen: Examples, data: Splits) -> None:
    if len(unseen) == 0:
        raise UserError(
            "holdout",
            None,
            "there are no unseen examples",
            "give some, apart from the test set, or take another score, such as curvature",
        )
    for part, examples, why in (
        ("test set", data.test, "a score must not learn from what accuracies are reported on"),
        ("training set", data.train, "these are not unseen"),
    ):
        shared = int(np.isin(unseen.ids, examples.ids).sum())
        if shared:
            raise UserError(
                "holdout", Phrase(f"{shared} ids"), f"of the {part}: {why}", "give examples that are in neither"
            )
