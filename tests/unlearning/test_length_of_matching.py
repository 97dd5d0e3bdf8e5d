"""How long matching runs: a tenth of the examples that the original's training went through."""

from __future__ import annotations

from dataclasses import replace

import pytest

import unmem as um
from tests.unlearning.tiny import RECIPE, tiny_model, tiny_problem
from unmem.targets import Targets
from unmem.training import Step
from unmem.unlearning import Matching


class Seen(um.Observer):
    def __init__(self) -> None:
        self.steps: list[Step] = []

    def on_step(self, step: Step) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("epochs", [10, 25, 60])
@pytest.mark.parametrize("batch", [6, 12])
def test_it_goes_through_a_tenth_of_the_training(epochs: int, batch: int) -> None:
    problem = tiny_problem(tiny_model(), recipe=replace(RECIPE, epochs=epochs, batch_size=batch))
    targets = Targets("made up", problem.forget.ids, problem.forget.labels.float().numpy())
    method, seen = Matching(targets=targets), Seen()
    method(problem, seed=0, observers=[seen])
    assert len(seen.steps) == method.steps(problem)
    retained = sum(len(step.batch.index) for step in seen.steps)
    whole = epochs * len(problem.retain)
    assert (retained + len(seen.steps) * method.forget_batch(problem)) / whole == pytest.approx(0.1, abs=8 / whole)
    assert method.cost(problem) == pytest.approx(0.1, abs=2 / whole)


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        (replace(RECIPE, lr=0.1), 0.002),
        (replace(RECIPE, lr=1e-3, optimizer="adamw"), 1e-3),
    ],
    ids=["sgd", "adamw"],
)
def test_its_rate_is_a_share_of_the_original_rate(recipe: um.Recipe, rate: float) -> None:
    problem = tiny_problem(tiny_model(), recipe=recipe)
    assert Matching().recipe(problem).lr == pytest.approx(rate)
    assert Matching(lr=0.5).recipe(problem).lr == 0.5


def test_given_epochs_are_whole_passes_over_the_retain_set() -> None:
    problem = tiny_problem(tiny_model(), recipe=replace(RECIPE, epochs=10))
    assert [len(one) for one in Matching(epochs=3).passes(problem)] == [len(problem.retain)] * 3


@pytest.mark.parametrize(("done", "factor"), [(0, 1), (0.25, 1), (0.5, 1), (0.75, 0.5), (1, 0)])
def test_a_cooldown_is_constant_and_then_falls_to_zero(done: float, factor: float) -> None:
    assert um.Recipe(lr=0.3, schedule="cooldown").lr_at(done) == pytest.approx(0.3 * factor)
