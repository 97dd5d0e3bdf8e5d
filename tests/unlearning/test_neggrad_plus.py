"""NegGrad+: its step, its forget batches, and what observers see of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unmem as um
from tests.helpers import points
from unmem.data import Examples
from unmem.training import Step
from unmem.unlearning.neggrad_plus import cycle


@pytest.fixture
def linear() -> um.Problem:
    """A linear model on few points: retain and forget set are one batch each."""
    random = np.random.default_rng(0)
    train = Examples.of(random.normal(size=(20, 4)), random.integers(0, 3, 20), n_classes=3)
    other = Examples.of(np.zeros((3, 4)), [0, 1, 2], ids=["u", "v", "w"])
    data = um.Splits("points", train, other, other)
    recipe = um.Recipe(batch_size=32, momentum=0, weight_decay=0)
    torch.manual_seed(0)
    return um.Problem(nn.Linear(4, 3), data, train.ids[:5], recipe=recipe)


@pytest.mark.parametrize("alpha", [None, 0.6, 1.0])
def test_a_step_is_that_of_the_formula(linear: um.Problem, alpha: float | None) -> None:
    model = copy.deepcopy(linear.model)
    weight = 15 / 20 if alpha is None else alpha
    retain = F.cross_entropy(model(linear.retain.inputs), linear.retain.labels)
    forget = F.cross_entropy(model(linear.forget.inputs), linear.forget.labels)
    (weight * retain - (1 - weight) * forget).backward()
    stepped = um.NegGradPlus(epochs=1, lr=0.1, alpha=alpha)(linear, seed=0)
    for new, old in zip(stepped.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, old.detach() - 0.1 * old.grad)


def test_all_weight_on_the_retain_set_is_fine_tuning(linear: um.Problem) -> None:
    plus = um.NegGradPlus(epochs=3, lr=0.1, alpha=1.0)(linear, seed=0)
    tuned = um.FineTune(epochs=3, lr=0.1)(linear, seed=0)
    for first, second in zip(plus.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_it_pushes_the_forget_set_away(problem: um.Problem) -> None:
    def loss(model: nn.Module) -> float:
        return float(F.cross_entropy(um.predict(model, problem.forget), problem.forget.labels))

    assert loss(um.NegGradPlus()(problem, seed=0)) > 2 * loss(problem.model)


@pytest.mark.parametrize("alpha", [0.0, 1.5, -1.0])
def test_weights_that_make_no_sense_are_refused(alpha: float) -> None:
    with pytest.raises(um.UserError, match="alpha"):
        um.NegGradPlus(alpha=alpha)


def rounds(seed: int, n: int = 10, size: int = 4, count: int = 3) -> list[list[int]]:
    """The positions visited in each of `count` rounds."""
    steps = -(-n // size)
    index = [batch.index.tolist() for batch in islice(cycle(points(n), size, um.Recipe(), seed=seed), count * steps)]
    return [list(chain(*index[k * steps : (k + 1) * steps])) for k in range(count)]


def test_every_forget_example_comes_once_a_round_in_a_new_order() -> None:
    first, second, third = rounds(seed=0)
    assert sorted(first) == sorted(second) == sorted(third) == list(range(10))
    assert len({tuple(r) for r in (first, second, third)}) == 3


def test_forget_batches_are_drawn_from_the_seed() -> None:
    assert rounds(seed=3) == rounds(seed=3)
    assert rounds(seed=3) != rounds(seed=4)


def test_forget_batches_are_even_and_hold_what_their_positions_say() -> None:
    examples = points(10)
    for batch in islice(cycle(examples, 4, um.Recipe(), seed=0), 6):
        assert len(batch.index) in (3, 4)
        assert torch.equal(batch.inputs, examples.inputs[batch.index])
        assert torch.equal(batch.labels, examples.labels[batch.index])


class FirstStep(um.Observer):
    def on_step(self, step: Step) -> None:
        if not hasattr(self, "step"):
            self.step = step


def test_observers_see_the_logits_of_the_retain_batch(problem: um.Problem) -> None:
    seen = FirstStep()
    recipe = replace(problem.recipe, precision="fp32")  # on every processor
    problem = um.Problem(problem.model, problem.data, problem.forget.ids, recipe=recipe)
    um.NegGradPlus(epochs=1, lr=1e-3)(problem, seed=0, observers=[seen])
    with torch.no_grad():
        expected = problem.model(problem.retain.batch(seen.step.batch.index)[0])
    torch.testing.assert_close(seen.step.logits, expected)
