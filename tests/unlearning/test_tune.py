"""Tuning by the forecast: within its budget, without the test set, and with a model that can be made again."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
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
    Trial,
    Tuned,
    Unlearner,
    tune,
)
from unmem.unlearning.tune import moves

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
    gaps = [np.mean(right) - np.mean(goal_right), wasserstein_distance(sure, goal_sure)]
    for examples in (problem.retain, problem.holdout):
        gaps.append(max(0.0, np.mean(known(problem.model, examples)[0]) - np.mean(known(model, examples)[0])))
    return float(np.prod([1 - abs(gap) for gap in gaps]))


@pytest.mark.parametrize("runs", [1, 2, 5])
@pytest.mark.parametrize("unlearner", METHODS, ids=title)
def test_the_search_stays_in_its_budget_and_its_model_can_be_made_again(
    unlearner: Unlearner, runs: int, problem: um.Problem
) -> None:
    before, budget = state_of(problem.model), runs * unlearner.cost(problem)
    tuned = tune(unlearner, problem, FORECAST, seed=1, budget=budget)
    assert same_state(state_of(problem.model), before)
    # A part's retain set may be larger than the whole request's, so that its steps are counted a little higher.
    assert tuned.cost <= budget * 1.2 + 1e-6
    first = tuned.trials[0]
    assert (first.setting, first.step) == (Setting(), None)
    assert first.cost == pytest.approx(unlearner.cost(problem))
    usual = unlearner(problem, seed=1)
    assert closeness(usual, problem, FORECAST) == pytest.approx(first.closeness, abs=1e-6)
    # What is handed back is as close as a trial of the whole request was, and never farther than the usual setting.
    whole = [trial.closeness for trial in tuned.trials if trial.step is None]
    found = closeness(tuned.model, problem, FORECAST)
    assert min(abs(found - one) for one in whole) < 1e-6
    assert found >= first.closeness - 1e-6
    again = tuned.unlearner(problem, seed=1)
    assert same_state(state_of(again), state_of(tuned.model))


@pytest.mark.parametrize("unlearner", METHODS[:2], ids=title)
def test_the_test_set_plays_no_part(unlearner: Unlearner, problem: um.Problem) -> None:
    garbage = replace(
        DATA.test,
        inputs=torch.full_like(DATA.test.inputs, float("nan")),
        labels=torch.zeros_like(DATA.test.labels),
    )
    elsewhere = um.Problem(problem.model, replace(DATA, test=garbage), problem.forget.ids, recipe=RECIPE)
    first, second = (tune(unlearner, one, FORECAST, seed=0, budget=4.0) for one in (problem, elsewhere))
    assert first.trials == second.trials
    assert same_state(state_of(first.model), state_of(second.model))


def test_the_order_of_the_forecast_and_what_else_it_holds_play_no_part(problem: um.Problem) -> None:
    shuffled = FORECAST.take(FORECAST.ids[np.random.default_rng(0).permutation(len(FORECAST))])
    only = FORECAST.take(problem.forget.ids)
    tuned = [tune(FineTune(epochs=1), problem, one, seed=0) for one in (FORECAST, shuffled, only)]
    assert tuned[0].trials == tuned[1].trials == tuned[2].trials


def test_a_forecast_that_misses_a_forget_example_is_refused(problem: um.Problem) -> None:
    with pytest.raises(um.UserError, match="no target for 2 of the ids"):
        tune(Nothing(), problem, FORECAST.without(problem.forget.ids[3:5]), seed=0)


def test_a_source_makes_the_forecast_first(problem: um.Problem) -> None:
    source = FromCrossFit(CROSSFIT)
    first, second = (tune(NegGradPlus(epochs=2), problem, one, seed=0) for one in (source, FORECAST))
    assert first.trials == second.trials


def test_a_budget_too_small_is_refused_before_anything_is_trained(problem: um.Problem) -> None:
    for unlearner in (Retrain(), FineTune(epochs=2)):
        with pytest.raises(um.UserError, match=r"budget 0\.05: one run costs \d\.\d\d trainings"):
            tune(unlearner, problem, FORECAST, seed=0, budget=0.05, observers=[Forbidden()])


def test_without_a_budget_it_is_five_runs(dialled: um.Problem) -> None:
    """The forecast is of other examples: it cannot be met."""
    turned = forecast_of(dialled, 0.01)
    away = replace(turned, log_probs=np.roll(turned.log_probs, 1, axis=1))
    tuned = tune(Dial(price=0.7), dialled, away, seed=0)
    assert len(tuned.trials) == 5
    assert tuned.cost == pytest.approx(3.5)


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
        self, problem: um.Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        if self.strength >= self.breaks:
            raise DivergedError("strength", self.strength, "it broke", "use less")
        new = copy.deepcopy(problem.model if start is None else start)
        with torch.no_grad():
            for parameter in list(new.parameters())[-2:]:
                parameter /= self.strength
        return new

    def cost(self, problem: um.Problem) -> float:
        return self.price

    def tuned(self, problem: um.Problem, setting: Setting) -> Self:
        return replace(self, strength=self.strength * setting.strength)


@dataclass(frozen=True)
class Local(Dial):
    """A dial for the examples of its own request only: it lowers their logits by way of the nearest input."""

    def __call__(
        self, problem: um.Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        return Dimmed(problem.model if start is None else start, problem.forget.inputs[:], self.strength)


class Dimmed(nn.Module):
    """Divides the logits of these inputs by a factor."""

    def __init__(self, model: nn.Module, inputs: torch.Tensor, factor: float) -> None:
        super().__init__()
        self.model, self.factor = copy.deepcopy(model), factor
        self.register_buffer("inputs", inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theirs = (x[:, None] == self.inputs[None]).flatten(2).all(2).any(1)
        logits: torch.Tensor = self.model(x)
        return torch.where(theirs[:, None], logits / self.factor, logits)


@pytest.fixture(scope="module")
def dialled(problem: um.Problem) -> um.Problem:
    """A request of 30 of 40 examples: chance alone moves the forecast of ten too far for fine steps."""
    return um.Problem(problem.model, DATA, DATA.train.ids[:30], recipe=RECIPE)


def strengths(tuned: Tuned, step: int | None = None) -> list[float]:
    return [trial.setting.strength for trial in tuned.trials if trial.setting and trial.step == step]


def forecast_of(problem: um.Problem, strength: float) -> Targets:
    """What the dial at this strength says: the forecast that it is to meet."""
    log_probs = um.predict(Dial(strength)(problem, seed=0), DATA.train).log_softmax(1).numpy()
    return replace(FORECAST, log_probs=log_probs)


@pytest.mark.parametrize(
    ("goal", "path"),
    [
        (1.0, [1]),  # met at once
        (0.25, [1, 1 / 4]),
        (16.0, [1, 4, 16]),
        (2.0, [1, 4, 2]),  # the step is halved where the next one leads no nearer
        (0.5, [1, 1 / 4, 1 / 2]),
    ],
)
def test_the_strength_goes_where_the_forecast_is(goal: float, path: list[float], dialled: um.Problem) -> None:
    tuned = tune(Dial(), dialled, forecast_of(dialled, goal), seed=0, budget=0.2)
    assert strengths(tuned) == pytest.approx(path)
    best = max(tuned.trials, key=lambda trial: trial.closeness)
    assert best.setting is not None
    assert best.setting.strength == pytest.approx(goal)
    assert best.closeness == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("too_well", "damage", "tried"),
    [
        (0.2, 0.0, [(4, 1), (1, 3)]),  # still known: stronger, then faster
        (0.2, 0.1, [(4, 1), (1, 3)]),
        (0.1, 0.2, [(1 / 4, 1), (1, 1 / 3)]),  # it breaks more than it has left to forget
        (-0.1, 0.0, [(1 / 4, 1), (1, 1 / 3)]),  # forgotten too well
    ],
)
def test_the_direction_of_the_next_trials(too_well: float, damage: float, tried: list[tuple[float, float]]) -> None:
    found = list(moves(Trial(Setting(), 0.5, too_well, damage, 0.1), 1.0))
    assert [(one.strength, one.rate) for one in found] == [pytest.approx(pair) for pair in tried]
    finer = list(moves(Trial(Setting(), 0.5, too_well, damage, 0.1), 0.5))
    assert [(one.strength, one.rate) for one in finer] == [pytest.approx((a**0.5, b**0.5)) for a, b in tried]


def test_strength_and_rate_stay_within_reason() -> None:
    far = Trial(Setting(strength=4.0**5, rate=3.0), 0.5, 1.0, 0.0, 0.1)
    assert [(one.strength, one.rate) for one in moves(far, 1.0)] == [(4.0**5, 9.0)]


@pytest.mark.parametrize(("goal", "kept"), [(1.5, True), (8.0, False)])
def test_the_usual_setting_is_left_only_for_more_than_the_error_of_the_forecast(
    goal: float, kept: bool, dialled: um.Problem
) -> None:
    """A retrained model's accuracy strays by √Σ q (1 − q) / n by chance alone."""
    meant = forecast_of(dialled, goal)
    q = meant.take(dialled.forget.ids).confidence(dialled.forget.labels.numpy())
    error = float(np.sqrt((q * (1 - q)).sum())) / len(q)
    other = replace(meant, log_probs=meant.log_probs - 1e-12)
    tuned = tune(Dial(), dialled, other, seed=0, budget=0.3)
    usual, best = tuned.trials[0].closeness, max(trial.closeness for trial in tuned.trials)
    assert (best - usual <= error) == kept
    assert (tuned.unlearner == Dial()) == kept


def test_each_step_of_rum_is_tuned_on_the_forecast_of_its_own_part(dialled: um.Problem) -> None:
    """The least memorized part should stay as it is, the most memorized one be known far less."""
    low, high = SCORES.parts(2, among=dialled.forget.ids)
    weak, strong = forecast_of(dialled, 1.0), forecast_of(dialled, 64.0)
    mixed = np.where(np.isin(FORECAST.ids, high)[:, None], strong.log_probs, weak.log_probs)
    rum = RUM(SCORES, [Local(), Local()])
    tuned = tune(rum, dialled, replace(FORECAST, log_probs=mixed), seed=0, budget=1.0)
    assert isinstance(tuned.unlearner, RUM)
    first, second = tuned.unlearner.steps
    assert isinstance(first, Local)
    assert isinstance(second, Local)
    assert first.strength == 1.0
    assert second.strength == 4.0
    assert strengths(tuned, step=1) == [1.0]
    assert strengths(tuned, step=2) == [1, 4]
    assert tuned.trials[0].setting == Setting()
    assert (tuned.trials[-1].setting, tuned.trials[-1].cost) == (None, 0.0)
    assert tuned.trials[-1].closeness > tuned.trials[0].closeness
    assert len(low) == len(high)


def test_a_run_that_diverges_counts_its_cost_and_is_worth_nothing(dialled: um.Problem) -> None:
    tuned = tune(Dial(breaks=15.0), dialled, forecast_of(dialled, 64.0), seed=0, budget=0.15)
    broken = [trial for trial in tuned.trials if trial.setting and trial.setting.strength >= 15]
    assert broken
    assert all((trial.closeness, trial.cost) == (0.0, 0.01) and trial.too_well < 0 for trial in broken)
    assert isinstance(tuned.unlearner, Dial)
    assert 8 <= tuned.unlearner.strength < 15


def test_where_the_usual_setting_breaks_the_model_the_search_goes_to_weaker_ones(problem: um.Problem) -> None:
    wild = FineTune(epochs=12, lr=300.0, schedule="constant")
    tuned = tune(wild, problem, FORECAST, seed=0, budget=5.0)
    assert isinstance(tuned.unlearner, FineTune)
    assert tuned.unlearner.lr is not None
    assert tuned.unlearner.lr < 300
    assert closeness(tuned.model, problem, FORECAST) > tuned.trials[0].closeness + 0.1


def test_it_comes_nearer_to_the_forecast_than_the_usual_setting(dialled: um.Problem) -> None:
    usual = RandomLabel(epochs=4)
    tuned = tune(usual, dialled, FORECAST, seed=0)
    before = closeness(usual(dialled, seed=0), dialled, FORECAST)
    assert closeness(tuned.model, dialled, FORECAST) > before
    assert tuned.unlearner != usual
    assert tuned.seconds > 0


def test_when_every_trial_diverges_nothing_is_returned_as_a_result(problem: um.Problem) -> None:
    with pytest.raises(DivergedError, match="diverged in every trial") as caught:
        tune(Dial(breaks=0.0), problem, FORECAST, seed=0, budget=0.3)
    assert caught.value.last_good is not None


def test_what_has_no_knob_is_tried_once(problem: um.Problem) -> None:
    for unlearner in (Nothing(), Retrain()):
        assert len(tune(unlearner, problem, FORECAST, seed=0, budget=9.0).trials) == 1


def test_what_is_counted_is_what_is_trained(problem: um.Problem) -> None:
    steps = Steps()
    tuned = tune(FineTune(epochs=3), problem, FORECAST, seed=0, observers=[steps])
    each = math.ceil(len(problem.retain) / RECIPE.batch_size)
    assert steps.seen / each / RECIPE.epochs == pytest.approx(tuned.cost)
    assert len(tuned.trials) > 1


class Steps(um.Observer):
    seen = 0

    def on_step(self, step: object) -> None:
        self.seen += 1
