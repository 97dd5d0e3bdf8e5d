from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import unmem as um
from tests.helpers import without_original
from unmem.errors import NothingToDoError


def test_retain_is_what_is_not_forgotten(problem: um.Problem, digits: um.Splits) -> None:
    assert set(problem.forget.ids) | set(problem.retain.ids) == set(digits.train.ids)
    assert not set(problem.forget.ids) & set(problem.retain.ids)
    assert (len(problem.forget), len(problem.retain)) == (40, 160)


def test_wrong_requests_are_refused_before_any_work(model: nn.Module, digits: um.Splits) -> None:
    def ask(ids: object) -> um.Problem:
        return um.Problem(model, digits, ids, recipe=um.Recipe())

    with pytest.raises(NothingToDoError) as empty:
        ask([])
    assert empty.value.exit_code == 3
    for ids, words in (
        (digits.train.ids, "whole training set"),
        ([digits.test.ids[0]], "of the test set, which the model was never trained on"),
        ([digits.holdout.ids[0]], "of the holdout set"),
        (["nobody"], "'nobody': not an id of these 200 examples"),
        ([-1], "'-1'"),
        ([digits.train.ids[0]] * 2, "more than once"),
        ([0.5], "float is not an id"),
    ):
        with pytest.raises(um.UserError, match=words):
            ask(ids)


def test_a_problem_says_how_its_original_was_trained(model: nn.Module, digits: um.Splits) -> None:
    with pytest.raises(TypeError, match="recipe"):
        um.Problem(model, digits, digits.train.ids[:3])  # pyright: ignore[reportCallIssue]


def test_a_problem_without_the_original_can_be_evaluated_and_not_unlearned(
    problem: um.Problem, model: nn.Module
) -> None:
    alone = without_original(problem)
    assert alone.flags() == problem.flags()
    assert alone.part(problem.forget.ids[:3], without=problem.forget.ids[:0]).original is None
    found = um.evaluate({"given": model}, alone)
    assert found.do_nothing is None
    assert found.methods["given"] == um.evaluate({"given": model}, problem).methods["given"]
    with pytest.raises(um.UserError, match="this problem has no original model"):
        um.FineTune(epochs=1)(alone, seed=0)


def test_a_model_with_too_few_outputs_is_refused(digits: um.Splits) -> None:
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 9))
    with pytest.raises(um.UserError, match=r"outputs of shape \(9,\): labels go up to 9, which needs 10"):
        um.Problem(small, digits, digits.train.ids[:3], recipe=um.Recipe())


def test_what_a_user_should_know_is_flagged(model: nn.Module, digits: um.Splits) -> None:
    def flags(ids: object, of: nn.Module = model) -> str:
        return " | ".join(um.Problem(of, digits, ids, recipe=um.Recipe()).flags())

    train = digits.train
    assert flags(train.ids[:30]) == ""
    assert "fewer than 20" in flags(train.ids[:19])
    assert "75% of the training data" in flags(train.ids[:150])
    assert "no example of class 3" in flags(train.ids[(train.labels == 3).numpy()])
    named = replace(digits, classes=tuple("abcdefghij"))
    assert "no example of class d " in " | ".join(
        um.Problem(model, named, train.ids[(train.labels == 3).numpy()], recipe=um.Recipe()).flags()
    )
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    frozen[1].weight.requires_grad_(False)
    assert "frozen" in flags(train.ids[:30], frozen)


def test_a_model_that_answers_differently_each_time_is_flagged(digits: um.Splits) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(nn.functional.dropout(x.flatten(1), 0.5))  # in evaluation mode too

    ids = digits.train.ids[:30]
    assert "differently each time" in " | ".join(um.Problem(Noisy(), digits, ids, recipe=um.Recipe()).flags())
    quiet = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    assert um.Problem(quiet.train(), digits, ids, recipe=um.Recipe()).flags() == []
