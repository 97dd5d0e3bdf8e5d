"""The forget batches of NegGrad+, and what observers see of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice

import torch

import unmem as um
from tests.helpers import points
from unmem.training import Step
from unmem.unlearning.neggrad_plus import cycle


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
