"""Influence: its matrices against dense ones, its solver and its step against closed forms."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unmem as um
from tests.helpers import points, same_state, state_of
from tests.unlearning.tiny import everything, tiny_problem
from unmem.errors import DivergedError
from unmem.unlearning import Influence
from unmem.unlearning.influence import (
    Matrix,
    Vector,
    conjugate_gradients,
    cross_entropies,
    fisher_product,
    gauss_newton_product,
    removal_step,
)

# PyTorch compiles its forward-mode rules by a function of its own that it calls deprecated.

WEIGHT_DECAY = 0.03
FORGOTTEN = 7


class DoubleLinear(nn.Linear):
    """A linear model that computes in float64, so that closed forms hold to the last digits."""

    def __init__(self, features: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(features, outputs, bias=bias, dtype=torch.float64)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name in PyTorch)
        return super().forward(input.double())


def tanh_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(DoubleLinear(4, 3), nn.Tanh(), DoubleLinear(3, 3)).eval()


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def flat(vector: Vector) -> Tensor:
    return torch.cat([value.flatten() for value in vector.values()])


def shaped(values: Tensor, model: nn.Module) -> Vector:
    sizes = [p.numel() for p in model.parameters()]
    pieces = values.split(sizes)
    return {name: piece.view_as(p) for (name, p), piece in zip(named(model).items(), pieces, strict=True)}


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in found])


def dense(matrix: Matrix, model: nn.Module, examples: um.Examples) -> Tensor:
    """The matrix of the mean cross-entropy, from the gradients of one example after another."""
    inputs, labels = everything(examples)
    total = torch.zeros(())
    for x, y in zip(inputs, labels, strict=True):
        logits = model(x[None])[0]
        if matrix == "fisher":
            g = gradient(F.cross_entropy(logits[None], y[None]), model)
            total = total + g[:, None] * g[None, :]
        else:
            jacobian = torch.stack([gradient(z, model) for z in logits])
            p = logits.detach().softmax(0)
            total = total + jacobian.T @ (p.diag() - p[:, None] * p[None, :]) @ jacobian
    return total / len(examples)


def squares(logits: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance to the one-hot label."""
    return 0.5 * (logits - F.one_hot(labels, logits.shape[1])).square().sum(1)


def ridge(examples: um.Examples, *, bias: bool) -> DoubleLinear:
    """The minimum of mean squares + w/2 ‖θ‖², the bias decaying as the weights do."""
    inputs, labels = everything(examples)
    x = inputs.double()
    if bias:
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    y = F.one_hot(labels, examples.n_classes).double()
    normal = x.T @ x / len(x) + WEIGHT_DECAY * torch.eye(x.shape[1], dtype=x.dtype)
    theta = torch.linalg.solve(normal, x.T @ y / len(x)).T
    model = DoubleLinear(4, examples.n_classes, bias=bias)
    with torch.no_grad():
        model.weight.copy_(theta[:, :4])
        if bias:
            model.bias.copy_(theta[:, 4])
    return model


def logistic(examples: um.Examples) -> DoubleLinear:
    """The minimum of the mean cross-entropy + w/2 ‖θ‖²."""
    model = DoubleLinear(4, examples.n_classes)
    x, y = everything(examples)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        decay = torch.stack([p.square().sum() for p in model.parameters()]).sum()
        loss = F.cross_entropy(model(x), y) + WEIGHT_DECAY / 2 * decay
        loss.backward()
        return loss

    optimizer.step(objective)  # pyright: ignore[reportArgumentType]
    optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def problem() -> um.Problem:
    """Logistic regression at its optimum, in float64."""
    recipe = um.Recipe(epochs=4, lr=0.2, batch_size=64, weight_decay=WEIGHT_DECAY)
    data = tiny_problem().data
    return um.Problem(logistic(data.train), data, data.train.ids[:FORGOTTEN], recipe=recipe)


@pytest.mark.parametrize("matrix", ["fisher", "gauss-newton"])
def test_products_are_those_of_the_dense_matrix_also_over_several_batches(matrix: Matrix) -> None:
    examples, model = points(150), tanh_network()  # 150: more than one batch of evaluation
    product = fisher_product if matrix == "fisher" else gauss_newton_product
    expected = dense(matrix, model, examples)
    for seed in range(3):
        vector = torch.randn(len(expected), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = product(model, examples, cross_entropies, shaped(vector, model))
        assert list(found) == list(named(model))
        torch.testing.assert_close(flat(found), expected @ vector, rtol=1e-10, atol=1e-12)


def test_conjugate_gradients_solve_a_positive_definite_system_in_as_many_steps_as_it_has_rows() -> None:
    random = torch.Generator().manual_seed(0)
    root = torch.randn(10, 10, generator=random, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(10)

    def apply(vector: Vector) -> Vector:
        a, b = (matrix @ flat(vector)).split([6, 4])
        return {"a": a.view(2, 3), "b": b}

    truth = {"a": torch.randn(2, 3, generator=random).double(), "b": torch.randn(4, generator=random).double()}
    found = conjugate_gradients(apply, apply(truth), iterations=10)
    torch.testing.assert_close(flat(found), flat(truth), rtol=1e-6, atol=1e-6)
    too_few = conjugate_gradients(apply, apply(truth), iterations=3)
    assert float((flat(too_few) - flat(truth)).norm()) > 1e-3
    nothing = {name: torch.zeros_like(value) for name, value in truth.items()}
    assert torch.equal(flat(conjugate_gradients(apply, nothing, iterations=5)), torch.zeros(10, dtype=torch.float64))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("n", [30, 300])
def test_with_squared_loss_the_step_leads_exactly_to_ridge_regression_without_the_forget_set(
    n: int, bias: bool
) -> None:
    train = points(n)
    forget, retain = train.take(train.ids[: n // 2]), train.drop(train.ids[: n // 2])
    model = ridge(train, bias=bias)
    step = removal_step(
        model,
        forget,
        retain,
        share=len(forget) / len(retain),
        product=gauss_newton_product,
        loss=squares,
        decay=WEIGHT_DECAY,
        damping=WEIGHT_DECAY,
        iterations=20,
    )
    retrained = named(ridge(retain, bias=bias))
    for name, before in named(model).items():
        torch.testing.assert_close((before + step[name]).detach(), retrained[name].detach(), rtol=1e-5, atol=1e-7)
        assert not torch.allclose(before, retrained[name], rtol=1e-2)


@pytest.mark.parametrize("matrix", ["fisher", "gauss-newton"])
@pytest.mark.parametrize("damping", [None, 0.2])
def test_the_whole_method_is_the_newton_step_of_its_formula(
    matrix: Matrix, damping: float | None, problem: um.Problem
) -> None:
    original = problem.model
    x, y = everything(problem.forget)
    theta = torch.cat([p.detach().flatten() for p in original.parameters()])
    right = gradient(F.cross_entropy(original(x), y), original) + WEIGHT_DECAY * theta
    strength = WEIGHT_DECAY if damping is None else damping
    curvature = dense(matrix, original, problem.retain) + strength * torch.eye(len(theta))
    step = FORGOTTEN / len(problem.retain) * torch.linalg.solve(curvature, right)
    method = Influence(matrix=matrix, damping=damping, trust=None, iterations=60, scale=0.7)
    found = torch.cat([p.detach().flatten() for p in method(problem, seed=0).parameters()])
    torch.testing.assert_close(found, theta + 0.7 * step, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 9, 17])
def test_for_one_example_it_is_nearly_retraining(k: int, problem: um.Problem) -> None:
    one = um.Problem(problem.model, problem.data, problem.data.train.ids[k : k + 1], recipe=problem.recipe)
    retrained = list(logistic(one.retain).parameters())

    def distance(model: nn.Module) -> float:
        pairs = zip(model.parameters(), retrained, strict=True)
        return float(torch.stack([(a - b).detach().square().sum() for a, b in pairs]).sum().sqrt())

    assert distance(Influence(trust=None)(one, seed=0)) < 0.35 * distance(problem.model)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_step_is_halved_until_the_loss_on_the_samples_rises_by_no_more_than_the_trust(
    k: int, problem: um.Problem
) -> None:
    def shift(method: Influence) -> Tensor:
        new = method(problem, seed=0)
        return torch.cat(
            [(a - b).detach().flatten() for a, b in zip(new.parameters(), problem.model.parameters(), strict=True)]
        )

    x, y = everything(problem.retain)
    far = 200.0
    full = shift(Influence(trust=None, scale=far))
    torch.testing.assert_close(full, far * shift(Influence(trust=None)))

    def rise(length: float) -> float:
        moved = copy.deepcopy(problem.model)
        for parameter, part in zip(moved.parameters(), shaped(length * full, moved).values(), strict=True):
            parameter.data += part
        with torch.no_grad():
            return float(F.cross_entropy(moved(x), y) - F.cross_entropy(problem.model(x), y))

    rises = [rise(0.5**halvings) for halvings in range(k + 1)]
    assert rises == sorted(rises, reverse=True)
    assert rises[-1] > 0
    just_enough, too_little = (shift(Influence(trust=factor * rises[k], scale=far)) for factor in (1.001, 0.999))
    torch.testing.assert_close(just_enough, 0.5**k * full)
    torch.testing.assert_close(too_little, 0.5 ** (k + 1) * full)


def test_a_step_that_is_trusted_is_taken_in_full(problem: um.Problem) -> None:
    bold, careful = (Influence(trust=trust)(problem, seed=0) for trust in (None, 10.0))
    assert same_state(state_of(bold), state_of(careful))


def test_samples_are_fewer_where_asked_and_drawn_by_the_seed(problem: um.Problem) -> None:
    def state(seed: int, samples: int) -> dict[str, Tensor]:
        return state_of(Influence(samples=samples)(problem, seed=seed))

    assert not same_state(state(0, 6), state(1, 6))
    assert not same_state(state(0, 6), state(0, 1000))
    assert same_state(state(0, 1000), state(1, 1000))  # all of them: nothing is left to chance


def test_a_step_that_is_not_finite_is_refused_and_the_original_left(problem: um.Problem) -> None:
    broken = copy.deepcopy(problem.model)
    with torch.no_grad():
        next(broken.parameters())[0, 0] = float("nan")
    with pytest.raises(DivergedError, match="the step is not finite"):
        Influence()(problem, seed=0, start=broken)


@pytest.mark.parametrize("field", ["samples", "iterations", "damping", "matrix", "batchnorm"])
def test_settings_that_make_no_sense_are_refused(field: str) -> None:
    for value in ("hessian",) if field in ("matrix", "batchnorm") else (0, -1):
        with pytest.raises(um.UserError, match=field):
            Influence(**{field: value})  # pyright: ignore[reportArgumentType]
