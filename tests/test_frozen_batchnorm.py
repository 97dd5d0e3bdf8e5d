"""Batch-norm layers whose weight and bias are frozen keep their statistics, in training and in unlearning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unmem as um
from tests.helpers import point_splits
from unmem.batchnorm import recompute_batchnorm
from unmem.evaluation.relearning import relearn
from unmem.training import is_frozen_batchnorm
from unmem.unlearning import SSD, Influence, Unlearner

RECIPE = um.Recipe(epochs=2, batch_size=16, lr=0.1)


def network(*, affine: bool = True) -> nn.Sequential:
    """A frozen block and a block that learns; the first layer shifts its outputs far from the stored statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8),
        nn.BatchNorm1d(8, affine=affine),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.Linear(8, 3),
    )
    nn.init.constant_(model[0].bias, 3.0)  # pyright: ignore[reportArgumentType]
    for layer in model[:2]:
        layer.requires_grad_(False)
    return model.eval()


def statistics(model: nn.Module, layer: str) -> list[Tensor]:
    return [value.clone() for name, value in model.state_dict().items() if name.startswith(layer) and "running" in name]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def problem() -> um.Problem:
    data = point_splits(60)
    return um.Problem(network(), data, data.train.ids[:12], recipe=RECIPE)


def test_training_normalises_by_the_stored_statistics_of_frozen_layers_and_leaves_them() -> None:
    data = point_splits(48).train
    recipe = um.Recipe(epochs=1, batch_size=48, lr=0.1, momentum=0, weight_decay=0)
    model, before = network(), network()
    um.fit(model, data, recipe, seed=0)
    assert same(statistics(model, "1."), statistics(before, "1."))
    assert not same(statistics(model, "4."), statistics(before, "4."))
    # The step is that of a network in which the frozen layer is in evaluation mode.
    before.train()[1].eval()
    F.cross_entropy(before(data.inputs), data.labels).backward()
    for new, old in zip(model.parameters(), before.parameters(), strict=True):
        stepped = old if old.grad is None else old - 0.1 * old.grad
        torch.testing.assert_close(new, stepped.detach(), rtol=1e-4, atol=1e-6)


def test_frozen_means_that_weight_and_bias_are() -> None:
    model = network()
    assert [is_frozen_batchnorm(layer) for layer in model] == [False, True, False, False, False, False]
    model[1].bias.requires_grad_(True)  # pyright: ignore[reportAttributeAccessIssue]
    assert not is_frozen_batchnorm(model[1])
    assert not is_frozen_batchnorm(network(affine=False)[1])


def methods() -> Iterator[Unlearner]:
    for batchnorm in ("recompute", "keep"):
        yield um.FineTune(epochs=1, batchnorm=batchnorm)
        yield um.NegGradPlus(epochs=1, batchnorm=batchnorm)
        yield um.SalUn(epochs=1, batchnorm=batchnorm)
        yield um.SCRUB(epochs=1, batchnorm=batchnorm)
        yield SSD(a=1.0, batchnorm=batchnorm)
        yield Influence(batchnorm=batchnorm)


@pytest.mark.parametrize("method", list(methods()), ids=lambda method: f"{method.name} {method.batchnorm}")
def test_no_unlearner_moves_the_statistics_of_frozen_layers(method: Unlearner, problem: um.Problem) -> None:
    found = method(problem, seed=0)
    assert same(statistics(found, "1."), statistics(problem.model, "1."))
    trains = not isinstance(method, SSD | Influence)
    moved = not same(statistics(found, "4."), statistics(problem.model, "4."))
    assert moved == (trains or method.batchnorm == "recompute")  # pyright: ignore[reportAttributeAccessIssue]


def test_recomputing_replaces_those_of_the_other_layers_only() -> None:
    data, model, before = point_splits(60).train, network(), network()
    recompute_batchnorm(model, data, batch_size=60)
    assert same(statistics(model, "1."), statistics(before, "1."))
    seen: list[Tensor] = []
    model[4].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    um.predict(model, data)
    torch.testing.assert_close(statistics(model, "4.")[0], seen[0].mean(0), rtol=1e-4, atol=1e-5)


def test_relearning_leaves_them_too(problem: um.Problem) -> None:
    before = statistics(problem.model, "1.")
    relearn(problem.model, problem)
    assert same(statistics(problem.model, "1."), before)
