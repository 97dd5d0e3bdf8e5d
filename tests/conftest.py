"""One small data set and one watched training for all tests; tests must leave them as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unmem as um
from unmem.memorization import LearningEvents


@pytest.fixture(scope="session")
def digits() -> um.Splits:
    return um.load("digits", limit=200, flip=0.1)


@pytest.fixture(scope="session")
def recipe() -> um.Recipe:
    return um.Recipe(model="mlp", epochs=20, batch_size=32)


@pytest.fixture(scope="session")
def watched(digits: um.Splits, recipe: um.Recipe) -> tuple[nn.Module, LearningEvents]:
    events = LearningEvents()
    return um.train(recipe, digits.train, observers=[events]), events


@pytest.fixture(scope="session")
def model(watched: tuple[nn.Module, LearningEvents]) -> nn.Module:
    return watched[0]


@pytest.fixture(scope="session")
def problem(model: nn.Module, digits: um.Splits, recipe: um.Recipe) -> um.Problem:
    return um.Problem(model, digits, digits.train.ids[:40], recipe=recipe)


@pytest.fixture
def random_state() -> torch.Tensor:
    """The global random state before the test, to compare with `torch.get_rng_state()` after it."""
    return torch.get_rng_state()
