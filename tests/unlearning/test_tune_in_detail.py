"""Tuning in detail: the closeness by hand, what is spent, how long the short runs are, and where it ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.unlearning.tiny import RECIPE, everything, tiny_problem
from unmem.errors import UserError
from unmem.targets import Targets
from unmem.training import Step
from unmem.unlearning import (
    SSD,
    Influence,
    L1Sparse,
    Matching,
    RandomLabel,
    Trial,
    Tuned,
    Unlearner,
    tune,
)

# PyTorch's own forward-mode derivatives still use what PyTorch has deprecated.
PROBLEM = tiny_problem(recipe=replace(RECIPE, epochs=40))
TRAIN = PROBLEM.data.train


def forecast(confidence: float) -> Targets:
    """Gives the label of every example this probability, and the rest to the other classes alike."""
    y = TRAIN.labels.numpy()
    probs = np.full((len(y), TRAIN.n_classes), (1 - confidence) / (TRAIN.n_classes - 1), dtype=np.float32)
    probs[np.arange(len(y)), y] = confidence
    log_probs = np.log(probs)
    phi = np.full(len(y), math.log(confidence / (1 - confidence)), dtype=np.float32)
    return Targets("made up", TRAIN.ids, phi, log_probs)


LOW, HIGH = forecast(0.2), forecast(0.99)
SCORES = um.Scores("random", TRAIN.ids, np.random.default_rng(0).random(len(TRAIN)))
UNLEARNERS: dict[str, Unlearner] = {
    "fine-tune": um.FineTune(epochs=3),
    "neggrad+": um.NegGradPlus(epochs=4),
    "l1-sparse": L1Sparse(epochs=3),
    "random-label": RandomLabel(epochs=2),
    "matching": Matching(targets=LOW, epochs=4),
    "ssd": SSD(a=1.5),
    "influence": Influence(iterations=2),
    "rum": um.RUM(SCORES, [um.FineTune(epochs=1), um.Nothing(), um.NegGradPlus(epochs=2)]),
    "rum of rum": um.RUM(SCORES, [SSD(), um.RUM(SCORES, [um.FineTune(epochs=1)] * 2)]),
}
by_name = pytest.mark.parametrize("name", UNLEARNERS)


def tuned(name: str, crossfit: Targets = LOW, *, budget: float = 0.6, seed: int = 3) -> Tuned:
    return tune(UNLEARNERS[name], PROBLEM.model, PROBLEM, crossfit, seed=seed, budget=budget)


def accuracy(model: nn.Module, examples: um.Examples) -> float:
    x, y = everything(examples)
    return float((model(x).argmax(1) == y).double().mean())


def confidence(model: nn.Module, examples: um.Examples) -> float:
    x, y = everything(examples)
    return float(model(x).softmax(1)[torch.arange(len(y)), y].mean().detach())


def best_of(found: Tuned) -> Trial:
    return max(found.trials, key=lambda trial: trial.closeness)


@by_name
def test_the_model_is_that_of_the_returned_unlearner_and_of_the_best_trial(name: str) -> None:
    before = state_of(PROBLEM.model)
    found = tuned(name)
    assert same_state(state_of(PROBLEM.model), before)
    again = found.unlearner(PROBLEM.model, PROBLEM, seed=3)
    assert same_state(state_of(again), state_of(found.model))
    best = best_of(found)
    one_more = UNLEARNERS[name].tuned(PROBLEM, best.setting)(PROBLEM.model, PROBLEM, seed=3)
    assert same_state(state_of(one_more), state_of(found.model))
    assert len({trial.setting for trial in found.trials}) == len(found.trials)
    assert found.seconds > 0


@pytest.mark.parametrize("name", ["fine-tune", "neggrad+", "ssd", "rum"])
@pytest.mark.parametrize("crossfit", [LOW, HIGH], ids=["low", "high"])
def test_closeness_is_what_it_says(name: str, crossfit: Targets) -> None:
    found = tuned(name, crossfit)
    own, hits = (0.99, 1.0) if crossfit is HIGH else (0.2, 0.0)
    more_accurate = accuracy(found.model, PROBLEM.forget) - hits
    surer = confidence(found.model, PROBLEM.forget) - own
    others = [accuracy(found.model, part) - accuracy(PROBLEM.model, part) for part in (PROBLEM.retain, PROBLEM.holdout)]
    best = best_of(found)
    closeness = math.prod(1 - abs(gap) for gap in (more_accurate, surer, *others))
    assert best.closeness == pytest.approx(closeness, abs=1e-5)
    assert best.too_well == pytest.approx((more_accurate + surer) / 2, abs=1e-5)


def test_what_is_counted_is_what_is_trained() -> None:
    class Epochs(um.Observer):
        seen = 0

        def on_step(self, step: Step) -> None:
            self.seen += 1  # a batch holds the whole retain set

    epochs = Epochs()
    found = tune(um.FineTune(epochs=3), PROBLEM.model, PROBLEM, LOW, seed=0, budget=0.5, observers=[epochs])
    assert epochs.seen / PROBLEM.recipe.epochs == pytest.approx(found.cost)
    assert epochs.seen <= 20
    assert len(found.trials) > 2


def test_at_the_end_the_best_is_tried_at_a_lower_rate() -> None:
    found = tuned("neggrad+", budget=1.0)
    *before, last = found.trials
    best = max(before, key=lambda trial: trial.closeness)
    assert last.setting.rate == 0.3
    assert last.setting.strength == best.setting.strength
    assert all(trial.setting.rate == 1 for trial in before)
    short = next(trial.setting.epochs for trial in found.trials if trial.setting.epochs is not None)
    assert last.setting.epochs == short


def test_retraining_is_no_short_trial() -> None:
    with pytest.raises(UserError, match=r"one short trial costs 1\.00 trainings"):
        tune(um.Retrain(), PROBLEM.model, PROBLEM, LOW, seed=0)


def test_what_costs_nothing_ends_too() -> None:
    found = tune(um.Nothing(), PROBLEM.model, PROBLEM, LOW, seed=0, budget=0.1)
    assert found.cost == 0
    assert same_state(state_of(found.model), state_of(PROBLEM.model))


def test_a_run_that_diverges_is_worth_nothing_and_the_search_goes_on() -> None:
    """The rate is far too high at first, but within reach of the search: each trial divides it by 4."""
    wild, problem = um.FineTune(epochs=12, lr=1e6, schedule="constant"), PROBLEM
    found = tune(wild, problem.model, problem, HIGH, seed=0, budget=5.0)
    assert found.trials[0].closeness == 0
    assert found.trials[0].too_well == -1
    good = [trial for trial in found.trials if trial.closeness > 0]
    assert good
    assert best_of(found) in good
    again = found.unlearner(problem.model, problem, seed=0)
    assert same_state(state_of(again), state_of(found.model))


@pytest.mark.parametrize(
    ("unlearner", "budget", "epochs"),
    [
        (um.FineTune(epochs=12), 0.62, 4),  # 0.32 are left, and a third of them pays for 4 of 40 epochs
        (um.FineTune(epochs=12), 0.9, 8),
        (um.FineTune(epochs=2), 3.0, 2),  # no longer than usual, whatever could be paid
        (um.FineTune(epochs=12), 0.026, 1),
        (SSD(), 1.0, 1),
    ],
)
def test_short_runs_take_a_third_of_what_is_left_and_never_more_than_usual(
    unlearner: Unlearner, budget: float, epochs: int
) -> None:
    found = tune(unlearner, PROBLEM.model, PROBLEM, LOW, seed=0, budget=budget)
    assert {trial.setting.epochs for trial in found.trials} - {None} == {epochs}
