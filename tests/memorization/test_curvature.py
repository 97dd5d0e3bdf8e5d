from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unmem as um
from tests.helpers import points, same_state, shuffled, state_of
from unmem.data import Examples, Scaling
from unmem.memorization import CurvatureTrace, curvature
from unmem.memorization.curvature import Directions, input_curvature, input_gradient

CLASSES = 3


@pytest.fixture(scope="module")
def data() -> Examples:
    return points(30, classes=CLASSES)


@pytest.fixture(scope="module")
def smooth() -> nn.Module:
    """A bent loss surface, so that second derivatives are far from 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, CLASSES))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
    return model.eval()


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """∇ₓ of one example's loss in float64, apart from the code under test."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(x[None]), y[None]), x)[0]


def hessian(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    found: Any = torch.autograd.functional.hessian(lambda v: F.cross_entropy(model(v[None]), y[None]), x)
    return found


def precise(model: nn.Module, data: Examples) -> tuple[nn.Module, Tensor]:
    return copy.deepcopy(model).double(), data.inputs.double()


def test_sign_is_the_change_of_the_gradient_over_one_signed_step(smooth: nn.Module, data: Examples) -> None:
    values = curvature(smooth, data, h=0.3).values
    model, x = precise(smooth, data)
    for i in range(len(data)):
        before = gradient(model, x[i], data.labels[i])
        z = before.sign() / before.sign().norm()
        after = gradient(model, x[i] + 0.3 * z, data.labels[i])
        assert values[i] == pytest.approx(float((after - before).norm()), rel=1e-3, abs=1e-5)


def test_sign_is_a_hessian_vector_product_to_first_order(smooth: nn.Module, data: Examples) -> None:
    scores = curvature(smooth, data)
    assert scores.settings["h"] == 0.01
    assert scores.settings["directions"] == "sign"
    model, x = precise(smooth, data)
    for i in range(len(data)):
        z = gradient(model, x[i], data.labels[i]).sign()
        product = hessian(model, x[i], data.labels[i]) @ z / z.norm()
        assert scores.values[i] == pytest.approx(0.01 * float(product.norm()), rel=0.05, abs=2e-5)
    assert scores.values.max() > 1e-3


def test_rademacher_estimates_the_squared_norm_of_the_hessian(smooth: nn.Module, data: Examples) -> None:
    few = data.at(np.arange(5))
    model, x = precise(smooth, few)
    exact = np.array([float(hessian(model, x[i], few.labels[i]).square().sum()) for i in range(5)])
    values = curvature(smooth, few, directions="rademacher", repeats=2000, h=0.003).values
    np.testing.assert_allclose(values, exact, rtol=0.1, atol=0.02 * exact.max())
    assert exact.max() > 3 * exact.min()


def test_rademacher_averages_its_directions() -> None:
    """To first order the value is the mean of ‖Hv‖² over the very directions that the seed gives."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, CLASSES)).eval()
    flat = points(6, features=2)
    values = curvature(model, flat, directions="rademacher", repeats=4, seed=3, batch_size=6).values
    random = torch.Generator().manual_seed(3)
    signs = [torch.randint(0, 2, (6, 2), generator=random) * 2.0 - 1 for _ in range(4)]
    exact, x = precise(model, flat)
    for i in range(6):
        h = hessian(exact, x[i], flat.labels[i])
        expected = np.mean([float((h @ s[i].double()).square().sum()) for s in signs])
        assert values[i] == pytest.approx(expected, rel=0.02, abs=1e-5)


def test_defaults_are_those_of_the_sources(smooth: nn.Module, data: Examples) -> None:
    one = curvature(smooth, data, directions="rademacher")
    assert one.settings["h"] == 0.001
    assert one.settings["repeats"] == 10
    same = curvature(smooth, data, directions="rademacher", h=0.001, repeats=10, seed=0)
    assert (one.values == same.values).all()
    assert (curvature(smooth, data, directions="rademacher", seed=1).values != one.values).any()


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_the_batch_size_does_not_matter(batch_size: int, smooth: nn.Module, data: Examples) -> None:
    np.testing.assert_allclose(
        curvature(smooth, data, batch_size=batch_size).values, curvature(smooth, data).values, rtol=1e-3, atol=1e-6
    )


def test_the_order_of_the_rows_does_not_matter(smooth: nn.Module, data: Examples) -> None:
    mixed = shuffled(data)
    assert list(mixed.ids) != list(data.ids)
    np.testing.assert_allclose(
        curvature(smooth, mixed).of(data.ids), curvature(smooth, data).values, rtol=1e-3, atol=1e-6
    )


def test_steps_are_in_the_units_that_the_model_sees(smooth: nn.Module, data: Examples) -> None:
    """Stored at half size and scaled back, an example has the same curvature."""
    stored = Examples.of(data.inputs / 2 - 1, data.labels, ids=data.ids, scaling=Scaling(2.0, 2.0))
    np.testing.assert_allclose(curvature(smooth, stored).values, curvature(smooth, data).values, rtol=1e-2, atol=1e-5)


def test_a_linear_loss_surface_has_no_curvature_and_a_dead_input_none() -> None:
    dead = nn.Sequential(nn.Linear(4, CLASSES))
    with torch.no_grad():
        for parameter in dead.parameters():
            parameter.zero_()
    for directions in ("sign", "rademacher"):
        values = curvature(dead, points(6), directions=directions).values  # pyright: ignore
        assert (values == 0).all()


@pytest.mark.parametrize("directions", ["sign", "rademacher"])
def test_the_model_is_left_as_it_was(directions: Directions, data: Examples) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, CLASSES))
    model.train()
    model[2].eval()
    for parameter in list(model.parameters())[:2]:
        parameter.grad = torch.full_like(parameter, 3.0)
    before, state = state_of(model), torch.get_rng_state()
    first = curvature(model, data, directions=directions).values
    assert (curvature(model, data, directions=directions).values == first).all()
    assert same_state(before, state_of(model))
    assert [module.training for module in model] == [True, True, False, True]
    assert model.training
    grads = [p.grad for p in model.parameters()]
    assert all(bool((g == 3).all()) for g in grads[:2] if g is not None)
    assert grads[0] is not None
    assert grads[2:] == [None] * 4
    assert torch.equal(state, torch.get_rng_state())
    assert data.inputs.grad is None
    assert not data.inputs.requires_grad


def test_batch_norm_uses_its_running_statistics(data: Examples) -> None:
    """So examples do not see each other, and one by one gives what all together give."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES)).train()
    np.testing.assert_allclose(
        curvature(model, data, batch_size=1).values, curvature(model, data).values, rtol=1e-3, atol=1e-6
    )


def test_each_gradient_is_the_examples_own(smooth: nn.Module, data: Examples) -> None:
    model, x = precise(smooth, data)
    found = input_gradient(model, x, data.labels)
    for i in range(len(data)):
        torch.testing.assert_close(found[i], gradient(model, x[i], data.labels[i]))


@pytest.mark.parametrize("wrong", [{"h": 0.0}, {"h": -1.0}, {"directions": "rademacher", "repeats": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any], smooth: nn.Module, data: Examples) -> None:
    with pytest.raises(um.UserError, match="must be positive"):
        curvature(smooth, data, **wrong)


def test_a_refusal_shows_the_value_that_is_wrong(smooth: nn.Module, data: Examples) -> None:
    with pytest.raises(um.UserError, match="repeats -3"):
        curvature(smooth, data, directions="rademacher", repeats=-3)


def test_unknown_directions_are_refused(smooth: nn.Module, data: Examples) -> None:
    with pytest.raises(um.UserError, match="sign"):
        curvature(smooth, data, directions="sing")  # pyright: ignore


# While training


class Snapshots(um.Observer):
    def __init__(self) -> None:
        self.models: list[nn.Module] = []

    def on_epoch(self, epoch: int, model: nn.Module) -> None:
        self.models.append(copy.deepcopy(model))


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (5, [4]), (9, [4])])
@pytest.mark.parametrize("directions", ["sign", "rademacher"])
def test_a_trace_is_the_mean_over_its_epochs(
    every: int, epochs: list[int], directions: Directions, data: Examples
) -> None:
    recipe = um.Recipe(model="mlp", epochs=5, batch_size=16)
    snapshots, trace = Snapshots(), CurvatureTrace(every=every, directions=directions)
    um.train(recipe, data, observers=[snapshots, trace])
    h, repeats = (0.01, 1) if directions == "sign" else (0.001, 10)
    passes = [
        input_curvature(snapshots.models[e], data, directions=directions, h=h, repeats=repeats, seed=e) for e in epochs
    ]
    scores = trace.scores()
    assert scores.name == "curvature"
    assert list(scores.ids) == list(data.ids)
    assert scores.settings["passes"] == len(epochs)
    np.testing.assert_allclose(scores.values, torch.stack(passes).double().mean(0).numpy(), rtol=1e-5)
    if directions == "sign":
        alone = [curvature(snapshots.models[e], data).values for e in epochs]
        np.testing.assert_allclose(scores.values, np.mean(alone, axis=0), rtol=1e-5)
    assert trace.seconds > 0


def test_watching_changes_no_training(data: Examples) -> None:
    recipe = um.Recipe(model="mlp", epochs=3, batch_size=16)
    alone = um.train(recipe, data)
    watched = um.train(recipe, data, observers=[CurvatureTrace(), CurvatureTrace(directions="rademacher")])
    assert same_state(state_of(alone), state_of(watched))


def test_a_trace_starts_afresh_with_each_training(data: Examples) -> None:
    recipe, trace = um.Recipe(model="mlp", epochs=2, batch_size=16), CurvatureTrace()
    um.train(recipe, data, observers=[trace])
    first = trace.scores().values
    um.train(recipe, data, observers=[trace])
    assert (trace.scores().values == first).all()


def test_a_trace_that_watched_nothing_says_so() -> None:
    with pytest.raises(um.UserError, match="no epoch was watched"):
        CurvatureTrace().scores()
    with pytest.raises(um.UserError, match="every"):
        CurvatureTrace(every=0)


def test_planted_wrong_labels_are_sharp() -> None:
    digits = um.load("digits", limit=200, flip=0.1)
    trace = CurvatureTrace(every=5)
    um.train(um.Recipe(model="mlp", epochs=15, batch_size=32), digits.train, observers=[trace])
    assert trace.scores().auroc(digits.flipped) > 0.8
