from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unmem as um
from unmem.batchnorm import recompute_batchnorm
from unmem.data import Examples
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
def test_neggrad_plus_takes_the_step_of_its_formula(linear: um.Problem, alpha: float | None) -> None:
    model = copy.deepcopy(linear.model)
    weight = 15 / 20 if alpha is None else alpha
    retain = F.cross_entropy(model(linear.retain.inputs), linear.retain.labels)
    forget = F.cross_entropy(model(linear.forget.inputs), linear.forget.labels)
    (weight * retain - (1 - weight) * forget).backward()
    stepped = um.NegGradPlus(epochs=1, lr=0.1, alpha=alpha)(linear, seed=0)
    for new, old in zip(stepped.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, old.detach() - 0.1 * old.grad)


def test_neggrad_plus_with_all_weight_on_the_retain_set_is_fine_tuning(linear: um.Problem) -> None:
    plus = um.NegGradPlus(epochs=3, lr=0.1, alpha=1.0)(linear, seed=0)
    tuned = um.FineTune(epochs=3, lr=0.1)(linear, seed=0)
    for first, second in zip(plus.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_neggrad_plus_pushes_the_forget_set_away(problem: um.Problem) -> None:
    def loss(model: nn.Module) -> float:
        return float(F.cross_entropy(um.predict(model, problem.forget), problem.forget.labels))

    assert loss(um.NegGradPlus()(problem, seed=0)) > 2 * loss(problem.model)


@pytest.mark.parametrize("alpha", [0.0, 1.5, -1.0])
def test_neggrad_plus_refuses_weights_that_make_no_sense(alpha: float) -> None:
    with pytest.raises(um.UserError, match="alpha"):
        um.NegGradPlus(alpha=alpha)


def test_batch_norm_statistics_are_those_of_the_retain_set() -> None:
    random = np.random.default_rng(0)
    examples = Examples.of(random.normal(3, 2, size=(1000, 4)), np.zeros(1000, dtype=int))
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=0.1), nn.Dropout(0.9)).eval()
    recompute_batchnorm(model, examples, batch_size=100)
    inputs = examples.inputs
    torch.testing.assert_close(model[0].running_mean, inputs.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model[0].running_var, inputs.var(0), rtol=0.03, atol=0.03)
    assert model[0].momentum == 0.1
    assert not model[0].training


def test_batch_norm_is_recomputed_by_default_and_kept_on_request() -> None:
    data = um.load("digits", limit=120)
    recipe = um.Recipe(model="small_cnn", epochs=2, batch_size=40)
    problem = um.Problem(um.train(recipe, data.train), data, data.train.ids[:20], recipe=recipe)
    kept = um.FineTune(epochs=1, batchnorm="keep")(problem, seed=0).state_dict()
    anew = um.FineTune(epochs=1)(problem, seed=0).state_dict()
    differ = {key for key in kept if not torch.equal(kept[key], anew[key])}
    assert differ
    assert all("running" in key or "num_batches" in key for key in differ)
