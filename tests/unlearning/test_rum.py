from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import unmem as um


@dataclass(frozen=True)
class Recording:
    """An unlearner that changes nothing and writes down what it was given."""

    name: ClassVar[str] = "recording"
    seen: list[tuple[set[str], set[str], int]] = field(default_factory=list)

    def __call__(
        self, problem: um.Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        self.seen.append((set(problem.forget.ids), set(problem.retain.ids), seed))
        return copy.deepcopy(problem.model if start is None else start)


@pytest.fixture
def scores(digits: um.Splits) -> um.Scores:
    values = np.random.default_rng(0).random(len(digits.train))
    return um.Scores("random", digits.train.ids, values)


def parts_by_hand(scores: um.Scores, problem: um.Problem) -> list[set[str]]:
    ordered = sorted(problem.forget.ids, key=lambda name: scores.of([name])[0])
    return [set(ordered[:14]), set(ordered[14:27]), set(ordered[27:])]


@pytest.mark.parametrize("order", ["low-to-high", "high-to-low"])
@pytest.mark.parametrize("pending", ["retain", "exclude"])
def test_each_step_gets_its_part_and_the_right_retain_set(
    problem: um.Problem, scores: um.Scores, order: str, pending: str
) -> None:
    seen = Recording()
    um.RUM(scores, [seen] * 3, order=order, pending=pending)(problem, seed=1)
    parts = parts_by_hand(scores, problem)
    if order == "high-to-low":
        parts = parts[::-1]
    everything, kept = set(problem.data.train.ids), set(problem.retain.ids)
    for k, (forget, retain, _) in enumerate(seen.seen):
        assert forget == parts[k]
        expected = everything - set().union(*parts[: k + 1]) if pending == "retain" else kept
        assert retain == expected
    assert len({seed for _, _, seed in seen.seen}) == 3


def test_rum_of_nothing_is_the_original_and_one_step_is_that_step(problem: um.Problem, scores: um.Scores) -> None:
    def state(model: nn.Module) -> list[torch.Tensor]:
        return list(model.state_dict().values())

    nothing = um.RUM(scores, [um.Nothing()] * 3)(problem, seed=0)
    assert all(map(torch.equal, state(nothing), state(problem.model)))
    step = um.NegGradPlus(epochs=1)
    alone = step(problem, seed=7)
    assert all(map(torch.equal, state(um.RUM(scores, [step])(problem, seed=7)), state(alone)))


def test_rum_nests_and_leaves_the_original(problem: um.Problem, scores: um.Scores) -> None:
    before = copy.deepcopy(problem.model.state_dict())
    inner = um.RUM(scores, [um.Nothing(), um.FineTune(epochs=1)])
    um.RUM(scores, [inner, um.NegGradPlus(epochs=1)])(problem, seed=0)
    assert all(torch.equal(value, before[key]) for key, value in problem.model.state_dict().items())


def test_the_uniform_form_has_one_step_for_every_part(scores: um.Scores) -> None:
    rum = um.RUM.uniform(scores, um.FineTune(epochs=3), parts=4)
    assert [step["epochs"] for step in rum.settings()["steps"]] == [3, 3, 3, 3]
    with pytest.raises(um.UserError, match="at least one step"):
        um.RUM(scores, [])


def test_scores_that_miss_a_forget_example_are_refused(problem: um.Problem, scores: um.Scores) -> None:
    short = um.Scores("short", scores.ids[5:], scores.values[5:])
    with pytest.raises(um.UserError, match="no value for 5"):
        um.RUM(short, [um.Nothing()])(problem, seed=0)
