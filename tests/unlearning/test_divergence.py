"""A run that diverges says so, and hands back the last state that was good."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.unlearning.tiny import RECIPE, tiny_model, tiny_problem
from unmem.errors import DivergedError
from unmem.unlearning import FineTune, L1Sparse, NegGrad, NegGradPlus, Nothing, RandomLabel, SalUn

HUGE = 1e30
Gradient = FineTune | L1Sparse | NegGrad | NegGradPlus | RandomLabel | SalUn
BY_RATE: list[Gradient] = [
    FineTune(epochs=3, lr=HUGE),
    L1Sparse(epochs=3, lr=HUGE),
    NegGrad(epochs=3, lr=HUGE),
    NegGradPlus(epochs=3, lr=HUGE),
    RandomLabel(epochs=3, lr=HUGE),
    SalUn(epochs=3, lr=HUGE),
]


def overflow() -> nn.Module:
    """A network whose logits, and the loss with them, are soon infinite when its weights grow."""
    return nn.Sequential(tiny_model(), Exp())


class Exp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Epochs(um.Observer):
    """The state of the model after each epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        self.states.append(state_of(model))


def finite(state: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in state.values())


BATCHES = pytest.mark.parametrize(("batch_size", "failing"), [(64, 2), (4, 1)])


@BATCHES
@pytest.mark.parametrize("unlearner", BY_RATE, ids=lambda one: one.name)
def test_a_huge_rate_is_named_and_the_last_good_state_is_that_before_the_failing_epoch(
    unlearner: Gradient, batch_size: int, failing: int
) -> None:
    # With one batch an epoch the first loss is that of the original, so the second epoch is the first to fail.
    problem = tiny_problem(overflow(), recipe=replace(RECIPE, batch_size=batch_size))
    original = state_of(problem.model)
    epochs = Epochs()
    message = rf"lr 1e\+30: the training loss was not a finite number in epoch {failing}; use a lower rate"
    with pytest.raises(DivergedError, match=message) as caught:
        unlearner(problem, seed=0, observers=[epochs])
    last_good = caught.value.last_good
    assert last_good is not None
    assert finite(last_good)
    assert len(epochs.states) == failing - 1
    assert same_state(last_good, epochs.states[-1] if epochs.states else original)
    assert same_state(state_of(problem.model), original)
    assert caught.value.step is None
    copy.deepcopy(problem.model).load_state_dict(last_good)  # it is of the same network


def test_statistics_and_counters_are_those_before_the_failing_epoch_too() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).eval()
    problem = tiny_problem(network, recipe=replace(RECIPE, batch_size=4))
    with pytest.raises(DivergedError, match="epoch 1") as caught:
        FineTune(epochs=2, lr=HUGE)(problem, seed=0)
    assert caught.value.last_good is not None
    assert same_state(dict(caught.value.last_good), state_of(problem.model))


@pytest.fixture(scope="module")
def scores() -> um.Scores:
    ids = tiny_problem().data.train.ids
    return um.Scores("random", ids, np.random.default_rng(0).random(len(ids)))


def test_inside_rum_the_step_at_fault_is_named_and_its_start_is_the_last_good_state(scores: um.Scores) -> None:
    problem = tiny_problem(overflow(), recipe=replace(RECIPE, batch_size=4))
    original = state_of(problem.model)
    tame, wild = FineTune(epochs=1, lr=1e-3), NegGradPlus(epochs=1, lr=HUGE)
    with pytest.raises(DivergedError, match=r"epoch 1 of step 2 \(neggrad\+\); use a lower rate") as caught:
        um.RUM(scores, [tame, wild, tame])(problem, seed=0)
    assert caught.value.step == "step 2 (neggrad+)"
    assert caught.value.last_good is not None
    assert same_state(state_of(problem.model), original)
    after_the_first = um.RUM(scores, [tame, Nothing(), Nothing()])(problem, seed=0)
    assert same_state(dict(caught.value.last_good), state_of(after_the_first))
    assert not same_state(dict(caught.value.last_good), original)


def test_the_step_that_is_counted_is_the_one_in_the_order_of_the_run(scores: um.Scores) -> None:
    problem = tiny_problem(overflow(), recipe=replace(RECIPE, batch_size=4))
    # The first of the two parts is empty and passed over; its step still counts.
    rum = um.RUM(scores, [Nothing(), FineTune(epochs=1, lr=HUGE)], thresholds=[-1.0])
    with pytest.raises(DivergedError, match=r"of step 2 \(fine-tune\)"):
        rum(problem, seed=0)


def test_an_error_of_an_inner_rum_names_both_steps(scores: um.Scores) -> None:
    problem = tiny_problem(overflow(), recipe=replace(RECIPE, batch_size=4))
    inner = um.RUM(scores, [Nothing(), FineTune(epochs=1, lr=HUGE)])
    with pytest.raises(DivergedError) as caught:
        um.RUM(scores, [Nothing(), Nothing(), inner])(problem, seed=0)
    assert str(caught.value).endswith("in epoch 1 of step 3 (rum), step 2 (fine-tune); use a lower rate.")
    assert caught.value.step == "step 3 (rum), step 2 (fine-tune)"


class Steep(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 100 * super().forward(x)


def test_weights_that_the_last_step_made_infinite_are_no_result() -> None:
    # The loss before the step is fine, and no other step would see the weights.
    network = Steep(4, 3)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    problem = tiny_problem(network.eval(), recipe=replace(RECIPE, batch_size=64))
    with pytest.raises(DivergedError, match="the weights were not finite numbers after epoch 1") as caught:
        FineTune(epochs=1, lr=3e38)(problem, seed=0)
    assert caught.value.last_good is not None
    assert finite(dict(caught.value.last_good))


def test_a_rate_beyond_what_a_weight_can_hold_is_refused() -> None:
    with pytest.raises(um.UserError, match=r"lr 1e\+39"):
        FineTune(epochs=1, lr=1e39)
