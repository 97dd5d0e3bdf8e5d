"""A problem so small that one batch holds everything: no random order, so a test can write every step out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import unmem as um
from tests.helpers import point_splits

RECIPE = um.Recipe(epochs=4, lr=0.2, batch_size=64, weight_decay=0.01)
FORGOTTEN = 8


def tiny_model(*, seed: int = 0, outputs: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).eval()


def tiny_problem(model: nn.Module | None = None, *, classes: int = 3, recipe: um.Recipe = RECIPE) -> um.Problem:
    """24 points, a third of them to forget."""
    data = point_splits(24, classes=classes)
    usual = um.Recipe(epochs=60, lr=0.5, batch_size=64)
    model = model or um.fit(tiny_model(outputs=classes), data.train, usual, seed=0)
    return um.Problem(model, data, data.train.ids[:FORGOTTEN], recipe=recipe)


def by_hand(
    problem: um.Problem,
    losses: Sequence[Callable[[nn.Module], Tensor]],
    *,
    lr: float,
    after_step: Callable[[nn.Module], None] | None = None,
    as_matching: bool = False,
) -> nn.Module:
    """Step k minimises losses[k](model), on a copy of the model, by plain SGD at the cosine rate of k / len(losses).

    as_matching: by AdamW, at a rate that is constant for half of the steps and then falls to 0.
    """
    model = copy.deepcopy(problem.model)
    optimizer = adamw(problem, model) if as_matching else sgd(problem, model)
    for k, loss in enumerate(losses):
        done = k / len(losses)
        factor = min(1, 2 - 2 * done) if as_matching else um.Recipe(lr=1).lr_at(done)
        optimizer.param_groups[0]["lr"] = lr * factor
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        if after_step is not None:
            after_step(model)
    return model


def sgd(problem: um.Problem, model: nn.Module) -> torch.optim.Optimizer:
    recipe = problem.recipe
    return torch.optim.SGD(model.parameters(), momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def adamw(problem: um.Problem, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), betas=(0.7, 0.999), weight_decay=problem.recipe.weight_decay)


def everything(examples: um.Examples) -> tuple[Tensor, Tensor]:
    return examples.batch(torch.arange(len(examples)))


def assert_same_weights(found: nn.Module, expected: nn.Module, *, atol: float = 1e-6) -> None:
    for (name, ours), theirs in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def moved(problem: um.Problem, model: nn.Module) -> bool:
    pairs = zip(problem.model.parameters(), model.parameters(), strict=True)
    return any(not torch.equal(before, after) for before, after in pairs)
