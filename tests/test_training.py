from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unmem as um
from tests import helpers
from unmem import models, training
from unmem.data import Examples
from unmem.errors import DivergedError, UserError
from unmem.training import Step, autocast, fit, precision_for, predict


@pytest.fixture
def points() -> Examples:
    random = np.random.default_rng(0)
    return Examples.of(random.normal(size=(50, 6)), random.integers(0, 3, 50), n_classes=3)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


class Log(um.Observer):
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.epochs: list[int] = []

    def on_step(self, step: Step) -> None:
        self.steps.append(step)

    def on_epoch(self, epoch: int, model: nn.Module) -> bool:
        self.epochs.append(epoch)
        return epoch == 2


def test_the_seed_decides_the_model_and_leaves_the_random_state(points: Examples) -> None:
    recipe = um.Recipe(model="mlp", epochs=2, batch_size=16)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (state(um.train(recipe, points, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, again)
    assert not same(first, other)
    assert same(first, state(um.train(replace(recipe, seed=1), points)))


def test_every_example_is_visited_once_an_epoch_in_even_batches(points: Examples) -> None:
    log = Log()
    um.train(um.Recipe(model="mlp", epochs=2, batch_size=16), points, observers=[log])
    for epoch in (0, 1):
        batches = [step.batch for step in log.steps if step.epoch == epoch]
        assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(50))
        assert sorted(len(batch.index) for batch in batches) == [12, 12, 13, 13]
    assert not torch.equal(log.steps[0].batch.index, log.steps[4].batch.index)
    batch = log.steps[0].batch
    assert torch.equal(batch.labels, points.labels[batch.index])
    assert torch.equal(batch.inputs, points.inputs[batch.index])


def test_an_observer_can_end_a_run(points: Examples) -> None:
    log = Log()
    um.train(um.Recipe(model="mlp", epochs=9, batch_size=50), points, observers=[log])
    assert log.epochs == [0, 1, 2]


def test_one_step_is_sgd_with_weight_decay_by_hand(points: Examples) -> None:
    recipe = um.Recipe(epochs=1, batch_size=50, lr=0.5, weight_decay=0.1, momentum=0.9)
    model = nn.Linear(6, 3)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    p = (points.inputs @ weight.T + bias).softmax(1)
    error = (p - F.one_hot(points.labels, 3)) / 50
    fit(model, points, recipe, seed=0)
    torch.testing.assert_close(model.weight.detach(), weight - 0.5 * (error.T @ points.inputs + 0.1 * weight))
    torch.testing.assert_close(model.bias.detach(), bias - 0.5 * (error.sum(0) + 0.1 * bias))


def test_schedules() -> None:
    recipe = um.Recipe(lr=0.4)
    assert [recipe.lr_at(t) for t in (0, 0.5)] == pytest.approx([0.4, 0.2])
    assert recipe.lr_at(0.25) == pytest.approx(0.4 * (1 + math.cos(math.pi / 4)) / 2)
    assert [replace(recipe, schedule="linear").lr_at(t) for t in (0, 0.25)] == pytest.approx([0.4, 0.3])
    assert replace(recipe, schedule="constant").lr_at(0.9) == 0.4


def test_the_rate_reaches_the_optimiser(points: Examples) -> None:
    """With a linear schedule over two steps the second step has half the rate: seen in what it moves."""
    recipe = um.Recipe(epochs=2, batch_size=50, lr=0.1, schedule="linear", momentum=0, weight_decay=0)
    model, moved = nn.Linear(6, 3), list[float]()

    class Moves(um.Observer):
        def on_step(self, step: Step) -> None:
            gradient = model.weight.grad
            assert gradient is not None
            moved.append(float((weights[-1] - model.weight.detach()).norm() / gradient.norm()))
            weights.append(model.weight.detach().clone())

    weights = [model.weight.detach().clone()]
    fit(model, points, recipe, seed=0, observers=[Moves()])
    assert moved == pytest.approx([0.1, 0.05], rel=1e-4)


def test_frozen_parameters_stay(points: Examples) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    model[0].weight.requires_grad_(False)
    before = state(model)
    fit(model, points, um.Recipe(epochs=2, batch_size=10), seed=0)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[2].weight, before["2.weight"])


def test_a_loss_that_is_no_number_stops_with_the_rate(points: Examples) -> None:
    with pytest.raises(DivergedError, match=r"lr 1000000000\.0: .* epoch 1"):
        um.train(um.Recipe(model="mlp", epochs=3, lr=1e9, batch_size=10), points)


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode(points: Examples) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    model[2].eval()
    before = state(model)
    logits = predict(model, points)
    torch.testing.assert_close(predict(model, points, batch_size=7), logits)
    assert [module.training for module in model] == [True, True, False, True]
    assert same(before, state(model))
    assert logits.shape == (50, 3)


def test_bf16_trains_too_and_keeps_full_weights(points: Examples) -> None:
    model = um.train(um.Recipe(model="mlp", epochs=30, batch_size=10, precision="bf16"), points)
    assert next(model.parameters()).dtype == torch.float32
    assert float((predict(model, points).argmax(1) == points.labels).float().mean()) > 0.9


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"lr": math.nan}, {"epochs": -1}, {"batch_size": 1}, {"momentum": -0.1}])
def test_a_recipe_refuses_what_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(um.UserError, match=next(iter(wrong))):
        um.Recipe(**wrong)


CPU = torch.device("cpu")


def test_auto_is_bf16_only_where_the_processor_computes_it_and_only_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (False, True):
        monkeypatch.setattr(training, "cpu_has_bf16", lambda has=has: has)
        assert precision_for(um.Recipe(), CPU, images=True) == ("bf16" if has else "fp32")
        assert precision_for(um.Recipe(), CPU, images=False) == "fp32"
        assert precision_for(um.Recipe(precision="bf16"), CPU, images=False) == "bf16"
        assert precision_for(um.Recipe(precision="fp32"), CPU, images=True) == "fp32"
        with autocast(um.Recipe(), torch.zeros(1, 1, 4, 4)):
            made = nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 4, 4))
        assert made.dtype == (torch.bfloat16 if has else torch.float32)


def test_the_processor_is_asked_what_it_has() -> None:
    """The kernel's list of the processor's abilities is the oracle, where there is one."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = file.read().split()
    except OSError:
        pytest.skip("no list of abilities here")
    assert training.cpu_has_bf16() == ("avx512_bf16" in flags or "amx_bf16" in flags)


def test_a_run_that_diverges_later_gives_back_the_epoch_before(points: Examples) -> None:
    """The state that comes with the error is that of the model after its last good epoch, whatever came later."""
    kept: list[dict[str, torch.Tensor]] = []

    class Wreck(um.Observer):
        def on_epoch(self, epoch: int, model: nn.Module) -> None:
            kept.append(state(model))

    def objective(model: nn.Module, batch: training.Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(batch.inputs)
        return F.cross_entropy(logits, batch.labels) * (math.nan if len(kept) == 2 else 1.0), logits

    model = nn.Linear(6, 3)
    with pytest.raises(DivergedError, match="epoch 3") as caught:
        fit(model, points, um.Recipe(epochs=5, batch_size=10), seed=0, objective=objective, observers=[Wreck()])
    assert caught.value.last_good is not None
    assert same(caught.value.last_good, kept[1])
    assert not same(caught.value.last_good, kept[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch deprecates
def test_compiled_training_ends_where_plain_training_does(points: Examples) -> None:
    recipe = um.Recipe(model="mlp", epochs=3, batch_size=10, lr=0.05)
    plain, compiled = (um.train(replace(recipe, compile=how), points) for how in ("off", "on"))
    assert type(compiled) is type(plain)
    for ours, theirs in zip(state(compiled).values(), state(plain).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_adamw_takes_the_steps_of_pytorchs_own() -> None:
    data = helpers.points(32, classes=3, features=4)
    recipe = um.Recipe(model="mlp", epochs=2, lr=1e-3, batch_size=32, optimizer="adamw", schedule="constant")
    found = um.train(recipe, data, seed=3)
    model = models.build("mlp", data.input_shape, 3, seed=3)
    steps = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=recipe.weight_decay)
    x, y = data.batch(torch.arange(32))
    for _ in range(2):
        steps.zero_grad()
        F.cross_entropy(model(x), y).backward()
        steps.step()
    for ours, theirs in zip(found.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="below 1 for adamw"):
        um.Recipe(optimizer="adamw", momentum=1.0)
