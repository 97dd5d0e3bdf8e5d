"""Tuning by the forecast: within its budget, without the test set, and with a model that can be made again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import point_splits, same_state, state_of
from tests.unlearning.tiny import tiny_model
from unmem.errors import DivergedError
from unmem.memorization import crossfit
from unmem.targets import FromCrossFit, Targets
from unmem.unlearning import (
    RUM,
    SCRUB,
    SSD,
    FineTune,
    Influence,
    Matching,
    NegGrad,
    NegGradPlus,
    Nothing,
    RandomLabel,
    Retrain,
    Setting,
    Tuned,
    Unlearner,
    tune,
)

# PyTorch compiles its forward-mode rules by a function of its own that it calls deprecated.

DATA = point_splits(40)
RECIPE = um.Recipe(model="mlp", epochs=12, lr=0.2, batch_size=16, weight_decay=1e-3)
CROSSFIT = crossfit(replace(RECIPE, epochs=3), DATA.train, folds=2)
FORECAST, SCORES = FromCrossFit(CROSSFIT).targets, CROSSFIT.scores()


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    model = um.fit(tiny_model(), DATA.train, RECIPE, seed=0)
    return um.Problem(model, DATA, DATA.train.ids[:10], recipe=RECIPE)


METHODS: list[Unlearner] = [
    FineTune(epochs=4),
    NegGradPlus(epochs=4),
    NegGrad(epochs=4),
    RandomLabel(epochs=4),
    SCRUB(epochs=4, max_epochs=3),
    Matching(targets=FORECAST, epochs=4),
    SSD(),
    Influence(samples=8, iterations=4),
    RUM(SCORES, [Nothing(), FineTune(epochs=2), NegGradPlus(epochs=2)]),
    RUM(SCORES, [RUM(SCORES, [SSD()]), Influence(samples=8, iterations=4)]),
]


def title(unlearner: Unlearner) -> str:
    return unlearner.name


def closeness(model: nn.Module, problem: um.Problem, forecast: Targets) -> float:
    """The product of the docstring, example by example."""

    def known(of: nn.Module, examples: um.Examples) -> tuple[list[bool], list[float]]:
        probs = um.predict(of, examples).softmax(1).numpy()
        labels = examples.labels.numpy()
        rows = range(len(labels))
        return [bool(probs[i].argmax() == labels[i]) for i in rows], [float(probs[i][labels[i]]) for i in rows]

    right, sure = known(model, problem.forget)
    names = list(forecast.ids)
    goals = [np.exp(forecast.log_probs[names.index(name)]) for name in problem.forget.ids]
    labels = problem.forget.labels.numpy()
    goal_right = [bool(q.argmax() == y) for q, y in zip(goals, labels, strict=True)]
    goal_sure = [float(q[y]) for q, y in zip(goals, labels, strict=True)]
    gaps = [np.mean(right) - np.mean(goal_right), np.mean(sure) - np.mean(goal_sure)]
    for examples in (problem.retain, problem.holdout):
        gaps.append(np.mean(known(model, examples)[0]) - np.mean(known(problem.model, examples)[0]))
    return float(np.prod([1 - abs(gap) for gap in gaps]))


@pytest.mark.parametrize("budget", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("unlearner", METHODS, ids=title)
def test_the_search_stays_in_its_budget_and_its_model_is_that_of_the_best_trial(
    unlearner: Unlearner, budget: float, problem: um.Problem
) -> None:
    before = state_of(problem.model)
    if unlearner.tuned(problem, Setting(epochs=1)).cost(problem) > budget:
        with pytest.raises(um.UserError, match=r"budget .*: one short trial costs \d\.\d\d trainings; allow more"):
            tune(unlearner, problem.model, problem, FORECAST, seed=1, budget=budget)
        return
    tuned = tune(unlearner, problem.model, problem, FORECAST, seed=1, budget=budget)
    assert same_state(state_of(problem.model), before)
    assert tuned.cost == pytest.approx(sum(trial.cost for trial in tuned.trials))
    assert tuned.cost <= budget + 1e-6
    assert 1 <= len(tuned.trials) <= 40
    assert len({trial.setting for trial in tuned.trials}) == len(tuned.trials)
    for trial in tuned.trials:
        assert trial.cost == pytest.approx(unlearner.tuned(problem, trial.setting).cost(problem))
    # Every trial is worth what its model is worth, and the best of them is what is handed back.
    best = max(tuned.trials, key=lambda trial: trial.closeness)
    assert closeness(tuned.model, problem, FORECAST) == pytest.approx(best.closeness, abs=1e-6)
    assert tuned.unlearner == unlearner.tuned(problem, best.setting)
    again = tuned.unlearner(problem.model, problem, seed=1)
    assert same_state(state_of(again), state_of(tuned.model))


@pytest.mark.parametrize("unlearner", METHODS[:2], ids=title)
def test_the_test_set_plays_no_part(unlearner: Unlearner, problem: um.Problem) -> None:
    garbage = replace(
        DATA.test,
        inputs=torch.full_like(DATA.test.inputs, float("nan")),
        labels=torch.zeros_like(DATA.test.labels),
    )
    elsewhere = um.Problem(problem.model, replace(DATA, test=garbage), problem.forget.ids, recipe=RECIPE)
    first, second = (tune(unlearner, one.model, one, FORECAST, seed=0, budget=2.0) for one in (problem, elsewhere))
    assert first.trials == second.trials
    assert same_state(state_of(first.model), state_of(second.model))


def test_the_order_of_the_forecast_and_what_else_it_holds_play_no_part(problem: um.Problem) -> None:
    shuffled = FORECAST.take(FORECAST.ids[np.random.default_rng(0).permutation(len(FORECAST))])
    only = FORECAST.take(problem.forget.ids)
    tuned = [tune(FineTune(epochs=3), problem.model, problem, one, seed=0) for one in (FORECAST, shuffled, only)]
    assert tuned[0].trials == tuned[1].trials == tuned[2].trials


def test_a_forecast_that_misses_a_forget_example_is_refused(problem: um.Problem) -> None:
    with pytest.raises(um.UserError, match="no target for 2 of the ids"):
        tune(Nothing(), problem.model, problem, FORECAST.without(problem.forget.ids[3:5]), seed=0)


def test_a_budget_too_small_is_refused_before_anything_is_trained(problem: um.Problem) -> None:
    for unlearner in (Retrain(), FineTune()):
        with pytest.raises(um.UserError, match=r"budget 0\.05: one short trial costs \d\.\d\d trainings"):
            tune(unlearner, problem.model, problem, FORECAST, seed=0, budget=0.05, observers=[Forbidden()])


class Forbidden(um.Observer):
    def on_start(self, examples: um.Examples, recipe: um.Recipe) -> None:
        raise AssertionError("nothing should be trained")


@dataclass(frozen=True)
class Dial:
    """An unlearner with one knob: it knows the forget set the worse the stronger it is; 10 is far too much.

    The logits of the original are divided by `strength`, so that its confidence falls and its accuracy stays.
    """

    name: ClassVar[str] = "dial"
    strength: float = 1.0
    price: float = 0.01
    breaks: float = float("inf")

    def __call__(
        self, model: nn.Module, problem: um.Problem, *, seed: int, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        if self.strength >= self.breaks:
            raise DivergedError("strength", self.strength, "it broke", "use less")
        new = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in list(new.parameters())[-2:]:
                parameter /= self.strength
        return new

    def cost(self, problem: um.Problem) -> float:
        return self.price

    def tuned(self, problem: um.Problem, setting: Setting) -> Self:
        return replace(self, strength=self.strength * setting.strength)


def strengths(tuned: Tuned) -> list[float]:
    return [trial.setting.strength for trial in tuned.trials]


def forecast_of(problem: um.Problem, strength: float) -> Targets:
    """What the dial at this strength says: the forecast that it is to meet."""
    log_probs = um.predict(Dial(strength)(problem.model, problem, seed=0), DATA.train).log_softmax(1).numpy()
    return replace(FORECAST, log_probs=log_probs)


@pytest.mark.parametrize("goal", [0.2, 0.9, 3.0, 30.0])
def test_the_strength_is_moved_towards_the_forecast_until_it_lies_between_two_trials_and_then_between_those(
    goal: float, problem: um.Problem
) -> None:
    tuned = tune(Dial(), problem.model, problem, forecast_of(problem, goal), seed=0, budget=0.2)
    found = strengths(tuned)
    low, high, expected = 0.0, float("inf"), 1.0
    # The usual setting is the first of the shorter runs too, and the dial knows no rate: neither is paid for twice.
    for strength in found:
        assert strength == pytest.approx(expected)
        low, high = (strength, high) if strength < goal else (low, strength)
        expected = (low * high) ** 0.5 if low and high < float("inf") else strength * 4 if low else strength / 4
    assert tuned.trials[0].setting == Setting()
    assert isinstance(tuned.unlearner, Dial)
    assert tuned.unlearner.strength == pytest.approx(goal, rel=0.02)
    assert [trial.too_well > 0 for trial in tuned.trials] == [strength < goal for strength in found]
    best = max(tuned.trials, key=lambda trial: trial.closeness)
    assert best.closeness > 0.99


def test_a_run_that_diverges_counts_its_cost_and_is_worth_nothing(problem: um.Problem) -> None:
    tuned = tune(Dial(breaks=10.0), problem.model, problem, forecast_of(problem, 8.0), seed=0, budget=0.15)
    broken = [trial for trial in tuned.trials if trial.setting.strength >= 10]
    assert broken
    assert all((trial.closeness, trial.cost) == (0.0, 0.01) and trial.too_well < 0 for trial in broken)
    assert isinstance(tuned.unlearner, Dial)
    assert tuned.unlearner.strength == pytest.approx(8.0, rel=0.05)


@pytest.mark.parametrize("price", [0.2, 0.14, 0.05])
def test_the_usual_setting_is_tried_only_if_it_leaves_a_quarter_of_the_budget(
    price: float, problem: um.Problem
) -> None:
    tuned = tune(Dial(price=price), problem.model, problem, FORECAST, seed=0, budget=0.2)
    assert (Setting() in [trial.setting for trial in tuned.trials]) == (price <= 0.15)
    assert tuned.cost <= 0.2 + 1e-9


def test_it_comes_nearer_to_the_forecast_than_the_usual_setting(problem: um.Problem) -> None:
    usual = NegGradPlus(epochs=4)
    tuned = tune(usual, problem.model, problem, FORECAST, seed=0, budget=3.0)
    assert closeness(tuned.model, problem, FORECAST) >= closeness(
        usual(problem.model, problem, seed=0), problem, FORECAST
    )
    assert tuned.trials[0].setting == Setting()
    assert tuned.seconds > 0


def test_when_every_trial_diverges_nothing_is_returned_as_a_result(problem: um.Problem) -> None:
    with pytest.raises(DivergedError, match="diverged in every trial") as caught:
        tune(Dial(breaks=0.0), problem.model, problem, FORECAST, seed=0, budget=0.3)
    assert caught.value.last_good is not None


def test_what_has_no_knob_is_tried_once_and_the_strength_stays_within_reason(problem: um.Problem) -> None:
    assert len(tune(Nothing(), problem.model, problem, FORECAST, seed=0, budget=0.3).trials) == 1
    far = tune(Dial(), problem.model, problem, forecast_of(problem, 1e6), seed=0, budget=10.0)
    assert max(strengths(far)) == 4.0**5
