"""Requests one after another: each starts where the last one ended, on data that no longer hold what was forgotten."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import pytest
from torch import nn

import unmem as um
from tests.helpers import same_state, state_of
from tests.unlearning.tiny import tiny_problem
from unmem.errors import NothingToDoError
from unmem.unlearning import RUM, FineTune, NegGradPlus, Nothing, Setting, unlearn_sequence

TINY = tiny_problem()
DATA, RECIPE = TINY.data, replace(TINY.recipe, batch_size=8)
IDS = [str(name) for name in DATA.train.ids]
REQUESTS = [IDS[:4], IDS[10:13], IDS[5:9]]
SCORES = um.Scores("random", DATA.train.ids, np.random.default_rng(0).random(len(IDS)))


@dataclass(frozen=True)
class Recording:
    """Changes nothing and writes down what it was given and what it made."""

    name: ClassVar[str] = "recording"
    starts: list[nn.Module] = field(default_factory=list[nn.Module])
    made: list[nn.Module] = field(default_factory=list[nn.Module])
    problems: list[um.Problem] = field(default_factory=list[um.Problem])
    seeds: list[int] = field(default_factory=list[int])
    watchers: list[Sequence[um.Observer]] = field(default_factory=list[Sequence[um.Observer]])

    def __call__(
        self, problem: um.Problem, *, seed: int, start: nn.Module | None = None, observers: Sequence[um.Observer] = ()
    ) -> nn.Module:
        model = problem.model if start is None else start
        self.starts.append(model)
        self.problems.append(problem)
        self.seeds.append(seed)
        self.watchers.append(observers)
        self.made.append(copy.deepcopy(model))
        return self.made[-1]

    def cost(self, problem: um.Problem) -> float:
        return 0.0

    def tuned(self, problem: um.Problem, setting: Setting) -> Self:
        return self


def names(examples: um.Examples) -> list[str]:
    return [str(name) for name in examples.ids]


def test_each_request_starts_from_the_model_that_the_last_one_left() -> None:
    step = Recording()
    watch = um.Observer()
    done = list(unlearn_sequence(REQUESTS, TINY.model, DATA, step, recipe=RECIPE, seed=7, observers=[watch]))
    assert len(done) == 3
    assert step.starts[0] is TINY.model
    assert step.starts[1:] == step.made[:-1]
    assert [one.model for one in done] == step.made
    assert [one.problem for one in done] == step.problems
    assert all(one.problem.model is start for one, start in zip(done, step.starts, strict=True))
    assert len(set(step.seeds)) == 3
    assert all(list(one) == [watch] for one in step.watchers)
    assert all(one.problem.recipe == RECIPE and one.seconds >= 0 and one.scores is None for one in done)


def test_later_requests_are_of_data_without_what_was_forgotten_before() -> None:
    gone: set[str] = set()
    done = unlearn_sequence(REQUESTS, TINY.model, DATA, Nothing(), recipe=RECIPE, seed=0)
    for one, request in zip(done, REQUESTS, strict=True):
        left = [name for name in IDS if name not in gone]
        assert names(one.problem.data.train) == left
        assert names(one.problem.forget) == request
        assert names(one.problem.retain) == [name for name in left if name not in request]
        assert one.problem.holdout is DATA.holdout
        assert one.problem.test is DATA.test
        gone |= set(request)
    assert names(DATA.train) == IDS


def test_the_results_are_those_of_chaining_the_requests_by_hand() -> None:
    before = state_of(TINY.model)
    step = NegGradPlus(epochs=2, lr=0.05)
    done = list(unlearn_sequence(REQUESTS, TINY.model, DATA, step, recipe=RECIPE, seed=3))
    assert same_state(state_of(TINY.model), before)
    model, train = TINY.model, DATA.train
    for k, request in enumerate(REQUESTS):
        problem = um.Problem(model, replace(DATA, train=train), request, recipe=RECIPE)
        model = step(problem, seed=3 + k)
        assert same_state(state_of(done[k].model), state_of(model))
        train = train.drop(request)
    assert not same_state(state_of(done[0].model), state_of(done[1].model))


def test_one_request_is_the_unlearner_itself() -> None:
    step = FineTune(epochs=1)
    problem = um.Problem(TINY.model, DATA, REQUESTS[0], recipe=RECIPE)
    (done,) = unlearn_sequence(REQUESTS[:1], TINY.model, DATA, step, recipe=RECIPE, seed=5)
    assert same_state(state_of(done.model), state_of(step(problem, seed=5)))
    assert list(unlearn_sequence([], TINY.model, DATA, step, recipe=RECIPE, seed=5)) == []


def test_a_request_that_cannot_be_served_is_refused_before_the_first_one_is() -> None:
    step = Recording()
    for requests, words in (
        ([IDS[:3], IDS[5:7], [IDS[9], IDS[2]]], f"forget '{IDS[2]}': not an id of these 19 examples"),
        ([IDS[:3], [IDS[4], IDS[4]]], "more than once"),
        ([IDS[:3], ["nobody"]], "'nobody'"),
        ([IDS[:3], [DATA.holdout.ids[0]]], "of the holdout set"),
        ([IDS[:20], IDS[20:]], "the whole training set"),
    ):
        with pytest.raises(um.UserError, match=words):
            unlearn_sequence(requests, TINY.model, DATA, step, recipe=RECIPE, seed=0)
    with pytest.raises(NothingToDoError, match="empty"):
        unlearn_sequence([IDS[:3], []], TINY.model, DATA, step, recipe=RECIPE, seed=0)
    assert step.starts == []


def test_an_unlearner_made_from_scores_needs_some() -> None:
    with pytest.raises(um.UserError, match="scores: this unlearner is made from scores; give scores, or a way to"):
        unlearn_sequence(REQUESTS, TINY.model, DATA, lambda _: Nothing(), recipe=RECIPE, seed=0)


def test_scores_are_carried_over_as_they_were() -> None:
    given: list[um.Scores] = []

    def make(scores: um.Scores) -> RUM:
        given.append(scores)
        return RUM(scores, [Nothing(), FineTune(epochs=1)])

    done = list(unlearn_sequence(REQUESTS, TINY.model, DATA, make, recipe=RECIPE, seed=0, scores=SCORES))
    assert all(one is SCORES for one in given)
    assert all(one.scores is SCORES for one in done)
    fixed = RUM(SCORES, [Nothing(), FineTune(epochs=1)])
    same = list(unlearn_sequence(REQUESTS, TINY.model, DATA, fixed, recipe=RECIPE, seed=0))
    for a, b in zip(done, same, strict=True):
        assert same_state(state_of(a.model), state_of(b.model))


def test_rescoring_sees_the_model_at_hand_and_the_data_that_are_left_before_each_request() -> None:
    seen: list[tuple[nn.Module, list[str]]] = []
    made: list[um.Scores] = []
    given: list[um.Scores] = []
    step = Recording()

    def rescore(model: nn.Module, data: um.Splits) -> um.Scores:
        assert len(seen) == len(step.starts)  # before the request is unlearned
        seen.append((model, names(data.train)))
        made.append(um.Scores("fresh", data.train.ids, np.arange(len(data.train), dtype=np.float64)))
        return made[-1]

    def make(scores: um.Scores) -> Recording:
        given.append(scores)
        return step

    done = list(
        unlearn_sequence(REQUESTS, TINY.model, DATA, make, recipe=RECIPE, seed=0, scores=SCORES, rescore=rescore)
    )
    assert [model for model, _ in seen] == step.starts
    assert [left for _, left in seen] == [names(one.problem.data.train) for one in done]
    assert given == made == [one.scores for one in done]


def test_requests_are_served_one_at_a_time_as_they_are_asked_for() -> None:
    step = Recording()
    done = unlearn_sequence(iter(REQUESTS), TINY.model, DATA, step, recipe=RECIPE, seed=0)
    for k in range(3):
        assert len(step.starts) == k
        next(done)
    assert len(step.starts) == 3


def test_whole_numbers_will_do_as_ids() -> None:
    requests = [[int(name) for name in request] for request in REQUESTS]
    done = unlearn_sequence(requests, TINY.model, DATA, Nothing(), recipe=RECIPE, seed=0)
    assert [names(one.problem.forget) for one in done] == REQUESTS
