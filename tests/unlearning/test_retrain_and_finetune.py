"""Retraining is training on the retain set, fine-tuning goes on from the model, and both leave it as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unmem as um
from unmem.unlearning import Unlearner, settings_of

UNLEARNERS: list[Unlearner] = [
    um.Nothing(),
    um.Retrain(),
    um.FineTune(epochs=2),
    um.NegGradPlus(epochs=2),
]
by_name = pytest.mark.parametrize("unlearner", UNLEARNERS, ids=lambda unlearner: unlearner.name)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


@by_name
def test_the_original_is_left_as_it_is_and_the_seed_decides(unlearner: Unlearner, problem: um.Problem) -> None:
    assert isinstance(unlearner, Unlearner)
    before = state(problem.model)
    first, again = (unlearner(problem, seed=4) for _ in range(2))
    assert same(before, state(problem.model))
    assert not any(p.requires_grad is False or p.grad is not None for p in problem.model.parameters())
    assert first is not problem.model
    assert same(state(first), state(again))
    assert not first.training


@by_name
def test_settings_can_be_written_down(unlearner: Unlearner) -> None:
    assert settings_of(unlearner)["name"] == unlearner.name


def test_nothing_changes_nothing_and_the_others_something(problem: um.Problem) -> None:
    for unlearner in UNLEARNERS:
        changed = not same(state(problem.model), state(unlearner(problem, seed=0)))
        assert changed == (unlearner.name != "nothing")


def test_retraining_is_training_on_the_retain_set(problem: um.Problem) -> None:
    retrained = um.Retrain()(problem, seed=9)
    assert same(state(retrained), state(um.train(problem.recipe, problem.retain, seed=9)))


def test_fine_tuning_starts_at_the_model_and_ends_near_the_retain_set(problem: um.Problem) -> None:
    tuned = um.FineTune(epochs=1, lr=1e-12)(problem, seed=0)
    for key, value in state(tuned).items():
        torch.testing.assert_close(value, problem.model.state_dict()[key])


def test_default_rates_are_shares_of_the_original_s(problem: um.Problem) -> None:
    assert um.FineTune().recipe(problem).lr == problem.recipe.lr
    assert um.NegGradPlus().recipe(problem).lr == problem.recipe.lr / 2
    tuned = um.NegGradPlus(lr=0.3, epochs=7, schedule="linear").recipe(problem)
    assert (tuned.lr, tuned.epochs, tuned.schedule) == (0.3, 7, "linear")
    assert tuned.batch_size == problem.recipe.batch_size
