"""What holds for every unlearner: the original is left alone, the seed decides, and any network will do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unmem as um
from tests.helpers import point_splits, same_state, state_of
from unmem.batchnorm import recompute_batchnorm
from unmem.targets import Targets
from unmem.unlearning import (
    RUM,
    SCRUB,
    SSD,
    BadTeacher,
    FineTune,
    GradientUnlearner,
    Influence,
    L1Sparse,
    Matching,
    NegGrad,
    NegGradPlus,
    Nothing,
    RandomLabel,
    Retrain,
    SalUn,
    Setting,
    Unlearner,
    settings_of,
)

# PyTorch compiles its forward-mode rules by a function of its own that it calls deprecated.

RECIPE = um.Recipe(model="mlp", epochs=4, lr=0.05, batch_size=8, weight_decay=0.01)
DATA = point_splits(24)
FORGOTTEN = 6


def out_of_fold() -> Targets:
    random = np.random.default_rng(0)
    log_probs = np.log(random.dirichlet(np.ones(3), len(DATA.train))).astype(np.float32)
    phi = random.normal(size=len(DATA.train)).astype(np.float32)
    return Targets("made up", DATA.train.ids, phi, log_probs)


def random_scores() -> um.Scores:
    return um.Scores("random", DATA.train.ids, np.random.default_rng(0).random(len(DATA.train)))


Gradient = FineTune | L1Sparse | NegGrad | NegGradPlus | SCRUB | RandomLabel | SalUn | BadTeacher | Matching
GRADIENT: list[Gradient] = [
    FineTune(epochs=2),
    L1Sparse(epochs=2),
    NegGrad(epochs=2),
    NegGradPlus(epochs=2),
    SCRUB(epochs=2, max_epochs=1),
    RandomLabel(epochs=2),
    SalUn(epochs=2),
    BadTeacher(epochs=2),
    Matching(targets=out_of_fold(), epochs=2, forget_share=0.5),
]
ONE_STEP: list[Unlearner] = [SSD(a=1.1), Influence(samples=10)]
# Start from the model that they are given, and change it.
CHANGING: list[Unlearner] = [
    *GRADIENT,
    *ONE_STEP,
    RUM(random_scores(), [NegGradPlus(epochs=1), SSD(a=1.1), FineTune(epochs=1)]),
]
ALL: list[Unlearner] = [*CHANGING, Nothing(), Retrain()]


def name_of(unlearner: Unlearner) -> str:
    return unlearner.name


gradient = pytest.mark.parametrize("unlearner", GRADIENT, ids=name_of)
changing = pytest.mark.parametrize("unlearner", CHANGING, ids=name_of)
every = pytest.mark.parametrize("unlearner", ALL, ids=name_of)


class Unusual(nn.Module):
    """A parameter and a buffer of its own, a norm over features and a weight that one layer shares with another."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("shift", torch.full((4,), 0.1))
        self.norm = nn.LayerNorm(4)
        self.first = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.again.weight = self.first.weight
        self.last = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x * self.scale + self.shift)
        return torch.tanh(self.again(torch.tanh(self.first(x)))) @ self.last


def with_batchnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))


def trained(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return um.fit(build(), DATA.train, replace(RECIPE, epochs=30), seed=0)


def request(model: nn.Module) -> um.Problem:
    return um.Problem(model, DATA, DATA.train.ids[:FORGOTTEN], recipe=RECIPE)


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    return request(trained(with_batchnorm))


@every
def test_the_original_is_the_same_bit_for_bit_afterwards(unlearner: Unlearner, problem: um.Problem) -> None:
    model = copy.deepcopy(problem.model)
    # An original in an odd state: partly in training mode and partly frozen.
    model.train()
    model.get_submodule("2").eval()
    model.get_submodule("0").requires_grad_(False)
    before = state_of(model)
    modes = [module.training for module in model.modules()]
    frozen = [p.requires_grad for p in model.parameters()]
    new = unlearner(request(model), seed=0)
    assert new is not model
    assert same_state(before, state_of(model))
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == frozen
    assert all(p.grad is None for p in model.parameters())
    memory = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert memory.isdisjoint(tensor.data_ptr() for tensor in new.state_dict().values())


@every
def test_the_result_is_finite_and_in_evaluation_mode_without_gradients(
    unlearner: Unlearner, problem: um.Problem
) -> None:
    new = unlearner(problem, seed=0)
    assert not any(module.training for module in new.modules())
    assert all(bool(torch.isfinite(value).all()) for value in new.state_dict().values())
    assert all(p.grad is None and p.requires_grad for p in new.parameters())
    assert settings_of(unlearner)["name"] == unlearner.name


@every
def test_the_seed_alone_decides_the_result(unlearner: Unlearner, problem: um.Problem) -> None:
    def result(seed: int, outside: int) -> dict[str, Tensor]:
        torch.manual_seed(outside)
        np.random.seed(outside)  # noqa: NPY002 (the global state is what must not matter)
        return state_of(unlearner(problem, seed=seed))

    first = result(0, 1)
    assert same_state(first, result(0, 2))
    assert same_state(first, result(3, 1)) == isinstance(unlearner, Nothing | SSD)


@every
def test_the_global_random_state_is_left_as_it_was(
    unlearner: Unlearner, problem: um.Problem, random_state: Tensor
) -> None:
    unlearner(problem, seed=0)
    assert torch.equal(torch.get_rng_state(), random_state)


@every
def test_another_model_to_start_from_gives_what_a_problem_with_that_model_gives(
    unlearner: Unlearner, problem: um.Problem
) -> None:
    other = copy.deepcopy(problem.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    before = state_of(other)
    started = unlearner(problem, seed=0, start=other)
    assert same_state(before, state_of(other))
    assert same_state(state_of(started), state_of(unlearner(request(other), seed=0)))
    assert same_state(state_of(started), state_of(unlearner(problem, seed=0))) == isinstance(unlearner, Retrain)


@changing
def test_frozen_parameters_stay_and_the_others_move(unlearner: Unlearner, problem: um.Problem) -> None:
    model = copy.deepcopy(problem.model)
    model.get_submodule("0").requires_grad_(False)
    new = unlearner(request(model), seed=0)
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), new.parameters(), strict=True)]
    assert moved[:2] == [False, False]
    assert any(moved[2:])


@changing
def test_a_network_of_an_unusual_structure_is_unlearned_too(unlearner: Unlearner) -> None:
    model = trained(Unusual)
    new = unlearner(request(model), seed=0)
    assert isinstance(new, Unusual)
    assert new.again.weight is new.first.weight
    assert um.predict(new, DATA.test).shape == (len(DATA.test), 3)
    assert torch.equal(new.shift, model.get_buffer("shift"))
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), new.parameters(), strict=True))


@pytest.mark.parametrize("unlearner", [*GRADIENT, *ONE_STEP], ids=name_of)
def test_batch_norm_statistics_are_those_of_the_retain_set_unless_kept(
    unlearner: Gradient | SSD | Influence, problem: um.Problem
) -> None:
    anew = unlearner(problem, seed=0)
    kept = replace(unlearner, batchnorm="keep")(problem, seed=0)
    for a, b in zip(anew.parameters(), kept.parameters(), strict=True):
        assert torch.equal(a, b)
    statistics, left = (copy.deepcopy(model.get_submodule("1").state_dict()) for model in (anew, kept))
    assert not torch.equal(statistics["running_mean"], left["running_mean"])
    if not isinstance(unlearner, GradientUnlearner):  # nothing was trained, so they are still those of the original
        original = problem.model.get_submodule("1").state_dict()
        assert all(torch.equal(left[name], original[name]) for name in ("running_mean", "running_var"))
    with torch.no_grad():
        before = anew.get_submodule("0")(problem.retain.inputs)
    torch.testing.assert_close(statistics["running_mean"], before.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(statistics["running_var"], before.var(0), rtol=1e-4, atol=1e-5)
    recompute_batchnorm(kept, problem.retain)
    assert same_state(state_of(kept), state_of(anew))


@every
def test_the_holdout_and_the_test_set_play_no_part(unlearner: Unlearner, problem: um.Problem) -> None:
    other = point_splits(24)
    nonsense = replace(
        other,
        train=DATA.train,
        holdout=replace(other.holdout, inputs=other.holdout.inputs + 100),
        test=replace(other.test, labels=other.test.labels * 0),
    )
    elsewhere = um.Problem(problem.model, nonsense, problem.forget.ids, recipe=RECIPE)
    first, second = (unlearner(one, seed=0) for one in (problem, elsewhere))
    assert same_state(state_of(first), state_of(second))


class Watch(um.Observer):
    def __init__(self) -> None:
        self.steps = self.epochs = 0

    def on_step(self, step: object) -> None:
        self.steps += 1

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        self.epochs += 1


@gradient
def test_observers_see_every_step_and_change_nothing(unlearner: Gradient, problem: um.Problem) -> None:
    watch = Watch()
    seen = unlearner(problem, seed=0, observers=[watch])
    assert same_state(state_of(seen), state_of(unlearner(problem, seed=0)))
    assert watch.epochs == 2
    assert watch.steps >= 2


@gradient
def test_the_cost_of_a_gradient_method_is_proportional_to_its_epochs(unlearner: Gradient, problem: um.Problem) -> None:
    def cost(epochs: int) -> float:
        return replace(unlearner, epochs=epochs).cost(problem)

    assert cost(1) > 0
    for epochs in (2, 3, 10):
        assert cost(epochs) == pytest.approx(epochs * cost(1))
    assert unlearner.cost(problem) == pytest.approx(cost(2))
    # Of a training twice as long it is half.
    longer = um.Problem(problem.model, DATA, problem.forget.ids, recipe=replace(RECIPE, epochs=8))
    assert unlearner.cost(longer) == pytest.approx(unlearner.cost(problem) / 2)


@gradient
def test_the_cost_is_the_number_of_examples_that_are_trained_on(unlearner: Gradient, problem: um.Problem) -> None:
    forget, retain, batch = FORGOTTEN, len(problem.retain), RECIPE.batch_size
    visited = {
        "fine-tune": retain,
        "l1-sparse": retain,
        "neggrad": forget,
        "neggrad+": retain + retain / batch * forget,  # the forget set is smaller than a batch: all of it in each
        "scrub": retain + forget,
        "random-label": retain + forget,
        "salun": retain + forget,
        "bad-teacher": 0.3 * retain + forget,
        "matching": retain * batch / (batch - 4),  # 4 of each batch are of the forget set
    }[unlearner.name]
    assert unlearner.cost(problem) == pytest.approx(2 * visited / (RECIPE.epochs * retain))


@every
def test_the_cost_is_counted_without_training_and_never_negative(unlearner: Unlearner, problem: um.Problem) -> None:
    assert 0 <= unlearner.cost(problem) < 10
    assert (unlearner.cost(problem) == 0) == isinstance(unlearner, Nothing)
    assert unlearner.tuned(problem, Setting()).cost(problem) == pytest.approx(unlearner.cost(problem))
    # A recipe that never trained is no reason to divide by zero.
    untrained = um.Problem(problem.model, DATA, problem.forget.ids, recipe=replace(RECIPE, epochs=0))
    assert unlearner.cost(untrained) >= 0


@gradient
def test_a_stronger_or_faster_setting_is_another_run_and_the_usual_one_the_same(
    unlearner: Gradient, problem: um.Problem
) -> None:
    def result(setting: Setting) -> dict[str, Tensor]:
        return state_of(unlearner.tuned(problem, setting)(problem, seed=0))

    usual = state_of(unlearner(problem, seed=0))
    assert same_state(result(Setting()), usual)
    assert not same_state(result(Setting(rate=0.5)), usual)
    assert not same_state(result(Setting(strength=2.0)), usual)
